"""The error of each pixel, told without a truth."""

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from insitu import InputError
from insitu.denoise import uncertainty


@pytest.fixture(scope="module")
def case() -> dict[str, Any]:
    """A specimen at rest; predictions whose error is larger on one side, and their beginnings."""
    rng = np.random.default_rng(0)
    truth = np.full((96, 96), 0.5, np.float32)
    size = np.where(np.arange(96) < 48, 0.03, 0.12)  # of the error
    noise = rng.standard_normal((2, 30, 96, 96))
    rough = ndimage.gaussian_filter(noise, (0, 0, 1.5, 1.5))
    rough /= rough.std()
    denoised = (truth + size * rough[0]).astype(np.float32)
    begun = (denoised + 0.5 * size * rough[1]).astype(np.float32)  # half as large
    return {"truth": truth, "size": size, "denoised": denoised, "begun": begun, "rng": rng}


@pytest.mark.parametrize("sub_poisson", [False, True])
def test_the_error_is_told_whatever_the_noise(case, sub_poisson):
    draw = case["rng"].binomial if sub_poisson else case["rng"].poisson
    movie = draw(*((2, case["truth"] / 2) if sub_poisson else (case["truth"],)), size=(30, 96, 96))
    found = uncertainty.scale(movie, case["denoised"], case["begun"], range(30), width=4.0)
    assert found.value == pytest.approx(4, rel=0.25)
    assert 0.05 < found.error < 1
    bars = uncertainty.deviation(case["denoised"], case["begun"], found, width=4.0)
    for side in (slice(8, 40), slice(56, 88)):
        true = np.sqrt(((case["denoised"] - case["truth"])[..., side] ** 2).mean())
        assert np.sqrt((bars[..., side] ** 2).mean()) == pytest.approx(true, rel=0.2)


def test_a_prediction_without_error_is_told_from_none(case):
    movie = np.random.default_rng(1).poisson(case["truth"], size=(30, 96, 96))
    still = np.broadcast_to(case["truth"], movie.shape)
    begun = still + (case["begun"] - case["denoised"])
    with pytest.raises(InputError, match="cannot be told from 0"):
        uncertainty.scale(movie, still, begun, range(30))


def test_bad_input_is_told(case):
    movie = np.ones((30, 96, 96))
    with pytest.raises(InputError, match="must agree"):
        uncertainty.scale(movie, case["denoised"], case["begun"][:5], range(30))
    with pytest.raises(InputError, match="0 frames have 5 on both sides"):
        uncertainty.scale(movie[:9], case["denoised"][:9], case["begun"][:9], range(9))


def test_values_that_are_no_counts_and_frames_with_gaps(case):
    rng = np.random.default_rng(3)
    movie = 20 * (case["truth"] + rng.normal(0, 0.5, (30, 96, 96)))
    frames = [*range(5, 14), *range(15, 25)]
    pictures = [20 * case[k][frames] for k in ("denoised", "begun")]
    found = uncertainty.scale(movie, *pictures, frames, width=4.0)
    assert found.value == pytest.approx(4, rel=0.3)


def test_a_drift_makes_the_error_look_smaller(case):
    ramp = 0.02 * (np.arange(30) - 15)[:, None, None]
    rng = np.random.default_rng(4)
    true = case["truth"] + ramp
    movies = [rng.normal(m, 0.5, (30, 96, 96)) for m in (case["truth"], true)]
    rest = uncertainty.scale(movies[0], case["denoised"], case["begun"], range(30), width=4.0)
    moved = (case["denoised"] + ramp, case["begun"] + ramp)
    drifting = uncertainty.scale(movies[1], *moved, range(30), width=4.0)
    assert drifting.value < 0.8 * rest.value
