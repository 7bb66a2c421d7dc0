import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from insitu.denoise.local_wiener import local_wiener, mirrored


def lattice(rows=150, columns=131):
    y, x = np.mgrid[:rows, :columns] * 0.186
    wave = np.cos(2 * np.pi * x / 2.77) * np.cos(2 * np.pi * y / 2.26)
    clean = 4.0 * (1 + 0.5 * wave * (y > 8))
    counts = np.random.default_rng(0).poisson(clean)
    return torch.tensor(clean).float(), torch.tensor(counts).float()[None, None]


@pytest.mark.parametrize("side", [32, 64])
def test_a_lattice_is_averaged_over(side):
    clean, counts = lattice()
    error = float(((local_wiener(counts, side)[0, 0] - clean) ** 2).mean())
    blurs = [gaussian_filter(counts[0, 0].numpy(), s) for s in (1.0, 1.5, 2.0, 3.0)]
    best = min(((b - clean.numpy()) ** 2).mean() for b in blurs)
    assert error < 0.5 * best


def test_twice_the_counts_twice_the_answer():
    _, counts = lattice()
    once = local_wiener(counts, 32)
    assert torch.allclose(local_wiener(3 * counts, 32), 3 * once, rtol=1e-4, atol=1e-4)
    assert torch.equal(local_wiener(0 * counts, 32), 0 * once)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (17, 130), (64, 64), (65, 63)])
def test_any_size(shape):
    counts = torch.poisson(torch.full((2, 1, *shape), 3.0))
    answer = local_wiener(counts, 64)
    assert answer.shape == counts.shape
    assert torch.isfinite(answer).all()


def test_without_noise_nothing_is_lost():
    clean, _ = lattice(128, 128)
    answer = local_wiener(clean[None, None] + 0 * clean, 64)[0, 0]
    assert (answer - clean).square().mean() < 1e-3 * clean.var()


def test_many_images_are_filtered_as_one_is():
    counts = torch.poisson(torch.full((40, 1, 70, 90), 2.0))
    together = local_wiener(counts, 64, apart=0.5)
    for n in (0, 17, 39):
        alone = local_wiener(counts[n : n + 1], 64, apart=0.5)
        assert torch.allclose(together[n], alone[0], atol=1e-5)


def test_vacuum_keeps_its_mean_and_loses_its_noise():
    counts = torch.poisson(torch.full((1, 1, 256, 256), 4.0))
    answer = local_wiener(counts, 64)
    assert float(answer.mean()) == pytest.approx(float(counts.mean()), rel=0.003)
    assert answer.var() < 0.12 * counts.var()


@pytest.mark.parametrize("more", [(0, 3), (5, 0), (40, 41)])
def test_mirrored_as_numpy_does(more):
    image = torch.arange(35.0).reshape(1, 1, 5, 7)
    expected = np.pad(image[0, 0].numpy(), (more, (2, 1)), mode="reflect")
    np.testing.assert_array_equal(mirrored(image, more, (2, 1))[0, 0].numpy(), expected)
