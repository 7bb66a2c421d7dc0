import numpy as np
import pytest

from insitu.counting.poisson import Poisson
from insitu.denoise import classical


@pytest.fixture(scope="module")
def scene():
    y, x = np.mgrid[:90, :80] * 0.186
    clean = 4 * (1 + 0.5 * np.cos(2 * np.pi * x / 2.8) * np.cos(2 * np.pi * y / 2.3) * (y > 5))
    rng = np.random.default_rng(0)
    return clean, rng.poisson(clean, (2, *clean.shape)).astype(np.float32)


@pytest.mark.parametrize("name", classical.CANDIDATES)
def test_every_filter_takes_noise_out_and_keeps_the_mean(name, scene):
    clean, counts = scene
    best = classical.tune(classical.CANDIDATES[name], counts, np.stack([clean] * 2), 0.186)
    assert best in classical.CANDIDATES[name]
    answer = best(counts[0], 0.186)
    assert answer.shape == clean.shape
    assert answer.dtype == np.float32
    assert answer.mean() == pytest.approx(counts[0].mean(), rel=0.02)
    assert ((answer - clean) ** 2).mean() < 0.6 * ((counts[0] - clean) ** 2).mean()
    np.testing.assert_array_equal(best(counts, 0.186)[0], answer)  # image by image


def test_tuning_finds_the_least_error(scene):
    clean, counts = scene
    blurs = [classical.Gaussian(s) for s in (0.5, 1.5, 9.0)]
    errors = [((blur(counts[0], 0.186) - clean) ** 2).mean() for blur in blurs]
    best = classical.tune(blurs, counts[:1], clean[None], 0.186)
    assert best == blurs[int(np.argmin(errors))]


def test_fine_pixels_are_binned_as_for_a_network():
    y, x = np.mgrid[:90, :120] * 0.062
    clean = 1 + 0.5 * np.cos(2 * np.pi * x / 2.8) * np.cos(2 * np.pi * y / 2.3)
    answer = classical.Gaussian(0.1)(clean, 0.062)  # next to no filter
    np.testing.assert_allclose(answer[6:-6, 6:-6], clean[6:-6, 6:-6], atol=0.02)


@pytest.mark.parametrize("mean", [0.05, 0.5, 3.0, 6.0])
def test_the_inverse_is_exact(mean):
    average = (Poisson().table([mean], 60)[0] * classical.anscombe(np.arange(61.0))).sum()
    found = classical.anscombe_inverse(np.array([average]), largest=7.0)
    assert found[0] == pytest.approx(mean, rel=0.02)


def test_even_noise():
    for mean in (4.0, 10.0, 40.0):
        counts = np.random.default_rng(0).poisson(mean, 100_000).astype(np.float32)
        assert classical.anscombe(counts).std() == pytest.approx(1.0, abs=0.03)
