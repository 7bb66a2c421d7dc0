import sys

import numpy as np
import pytest

from insitu import InputError
from insitu.counting.categorical import Categorical
from insitu.denoise import classical


@pytest.fixture(scope="module")
def scene():
    y, x = np.mgrid[:90, :80] * 0.186
    clean = 4 * (1 + 0.5 * np.cos(2 * np.pi * x / 2.8) * np.cos(2 * np.pi * y / 2.3) * (y > 5))
    rng = np.random.default_rng(0)
    return clean, rng.poisson(clean, (2, *clean.shape)).astype(np.float32)


@pytest.mark.parametrize("name", classical.METHODS)
def test_every_method_takes_noise_out_and_keeps_the_mean(name, scene):
    clean, counts = scene
    method, strengths = classical.METHODS[name]
    best = classical.tune(method, strengths, counts, np.stack([clean] * 2))
    assert best in strengths
    answer = method(counts[0], best)
    assert answer.shape == clean.shape
    assert answer.dtype == np.float32
    assert answer.mean() == pytest.approx(counts[0].mean(), rel=0.02)
    assert ((answer - clean) ** 2).mean() < 0.6 * ((counts[0] - clean) ** 2).mean()


def test_tuning_finds_the_least_error(scene):
    clean, counts = scene
    errors = {s: ((classical.gaussian(counts[0], s) - clean) ** 2).mean() for s in (0.5, 1.5, 9.0)}
    assert classical.tune(classical.gaussian, errors, counts[:1], clean[None]) == min(
        errors, key=errors.get
    )


@pytest.mark.parametrize("detector", [None, Categorical.sub_frames(8)])
@pytest.mark.parametrize("mean", [0.05, 0.5, 3.0, 6.0])
def test_the_inverse_is_exact(detector, mean):
    even = classical.Anscombe(detector, largest=7.0)
    table = (detector or classical.Poisson()).table([mean], 60)[0]
    average = (table * even.forward(np.arange(61.0))).sum()
    assert even.inverse(np.array([average]))[0] == pytest.approx(mean, rel=0.02)


def test_even_noise():
    counts = np.random.default_rng(0).poisson(10.0, 100_000).astype(np.float32)
    assert classical.Anscombe().forward(counts).std() == pytest.approx(1.0, abs=0.03)
    assert classical.Anscombe().deviation == pytest.approx(1.0, abs=0.03)


def test_block_matching_is_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(InputError, match="pip install bm3d"):
        classical.block_matching(np.ones((16, 16), np.float32), 1.0)
