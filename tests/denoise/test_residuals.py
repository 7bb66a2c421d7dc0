"""The error of each pixel, told without a truth; and a part of each frame's innovation."""

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from insitu import InputError
from insitu.denoise import residuals
from insitu.denoise.residuals import with_innovation


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
    first_guess = (denoised + 0.5 * size * rough[1]).astype(np.float32)  # half as large
    return {
        "truth": truth,
        "size": size,
        "denoised": denoised,
        "first_guess": first_guess,
        "rng": rng,
    }


@pytest.mark.parametrize("sub_poisson", [False, True])
def test_the_error_is_told_whatever_the_noise(case, sub_poisson):
    draw = case["rng"].binomial if sub_poisson else case["rng"].poisson
    movie = draw(*((2, case["truth"] / 2) if sub_poisson else (case["truth"],)), size=(30, 96, 96))
    found = residuals.error_scale(
        movie, case["denoised"], case["first_guess"], range(30), width=4.0
    )
    assert found.value == pytest.approx(4, rel=0.25)
    assert 0.05 < found.error < 1
    bars = residuals.deviation(case["denoised"], case["first_guess"], found, width=4.0)
    for side in (slice(8, 40), slice(56, 88)):
        true = np.sqrt(((case["denoised"] - case["truth"])[..., side] ** 2).mean())
        assert np.sqrt((bars[..., side] ** 2).mean()) == pytest.approx(true, rel=0.2)


def test_a_prediction_without_error_is_told_from_none(case):
    movie = np.random.default_rng(1).poisson(case["truth"], size=(30, 96, 96))
    still = np.broadcast_to(case["truth"], movie.shape)
    first_guess = still + (case["first_guess"] - case["denoised"])
    with pytest.raises(InputError, match="cannot be told from 0"):
        residuals.error_scale(movie, still, first_guess, range(30))


def test_bad_input_is_told(case):
    movie = np.ones((30, 96, 96))
    with pytest.raises(InputError, match="must agree"):
        residuals.error_scale(movie, case["denoised"], case["first_guess"][:5], range(30))
    with pytest.raises(InputError, match="0 frames have 5 on both sides"):
        residuals.error_scale(movie[:9], case["denoised"][:9], case["first_guess"][:9], range(9))


def test_values_that_are_no_counts_and_frames_with_gaps(case):
    rng = np.random.default_rng(3)
    movie = 20 * (case["truth"] + rng.normal(0, 0.5, (30, 96, 96)))
    frames = [*range(5, 14), *range(15, 25)]
    pictures = [20 * case[k][frames] for k in ("denoised", "first_guess")]
    found = residuals.error_scale(movie, *pictures, frames, width=4.0)
    assert found.value == pytest.approx(4, rel=0.3)


def test_a_drift_makes_the_error_look_smaller(case):
    ramp = 0.02 * (np.arange(30) - 15)[:, None, None]
    rng = np.random.default_rng(4)
    true = case["truth"] + ramp
    movies = [rng.normal(m, 0.5, (30, 96, 96)) for m in (case["truth"], true)]
    rest = residuals.error_scale(
        movies[0], case["denoised"], case["first_guess"], range(30), width=4.0
    )
    moved = (case["denoised"] + ramp, case["first_guess"] + ramp)
    drifting = residuals.error_scale(movies[1], *moved, range(30), width=4.0)
    assert drifting.value < 0.8 * rest.value


@pytest.mark.parametrize("pixel_size", [0.12, 0.24])
def test_the_noise_that_comes_with_it_is_as_told(pixel_size):
    rng = np.random.default_rng(0)
    flat = np.full((3, 256, 256), 0.5, np.float32)
    told = with_innovation(rng.poisson(flat), flat, pixel_size=pixel_size, gain=0.4)
    expected = 0.10 * 0.4**2 * 0.5 * (pixel_size / 0.24) ** 2
    assert told.var() == pytest.approx(expected, rel=0.08)
    assert told.mean() == pytest.approx(0.5, abs=1e-3)  # brightness stays


def test_details_of_a_column_pass_and_others_do_not():
    x = np.arange(240) * 0.24
    flat = np.ones((1, 240, 240), np.float32)
    for frequency, least, most in ((0.6, 0.45, 0.5), (0.05, 0, 0.05), (1.9, 0, 0.05)):
        wave = np.broadcast_to(np.sin(2 * np.pi * frequency * x), flat.shape)
        found = with_innovation(flat + wave, flat, pixel_size=0.24, gain=0.5) - flat
        share = (found * wave)[..., 20:-20].mean() / (wave**2)[..., 20:-20].mean()
        assert least <= share <= most, frequency


def test_nothing_is_added_for_a_gain_of_0():
    counts = np.random.default_rng(1).poisson(0.5, (2, 37, 53))
    denoised = np.full(counts.shape, 0.5, np.float32)
    assert np.array_equal(with_innovation(counts, denoised, pixel_size=0.24, gain=0.0), denoised)


@pytest.mark.parametrize(
    ("shape", "pixel_size", "gain", "words"),
    [
        ((2, 8, 9), 0.24, 0.5, "prediction"),
        ((2, 8, 8), 0.24, 1.5, "allowed is 0 to 1"),
        ((2, 8, 8), 0.24, float("nan"), "allowed is 0 to 1"),
        ((2, 8, 8), 0.5, 0.5, "pixels of 0.5"),
    ],
)
def test_an_innovation_that_cannot_be_added_is_told(shape, pixel_size, gain, words):
    with pytest.raises(InputError, match=words):
        with_innovation(
            np.zeros((2, 8, 8)), np.zeros(shape, np.float32), pixel_size=pixel_size, gain=gain
        )
