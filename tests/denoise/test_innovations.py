"""A part of each frame's innovation, added to its prediction."""

import numpy as np
import pytest

from insitu import InputError
from insitu.denoise.innovations import added


@pytest.mark.parametrize("pixel_size", [0.12, 0.24])
def test_the_noise_that_comes_with_it_is_as_told(pixel_size):
    rng = np.random.default_rng(0)
    flat = np.full((3, 256, 256), 0.5, np.float32)
    told = added(rng.poisson(flat), flat, pixel_size=pixel_size, gain=0.4)
    expected = 0.10 * 0.4**2 * 0.5 * (pixel_size / 0.24) ** 2
    assert told.var() == pytest.approx(expected, rel=0.08)
    assert told.mean() == pytest.approx(0.5, abs=1e-3)  # brightness stays


def test_details_of_a_column_pass_and_others_do_not():
    x = np.arange(240) * 0.24
    flat = np.ones((1, 240, 240), np.float32)
    for frequency, least, most in ((0.6, 0.45, 0.5), (0.05, 0, 0.05), (1.9, 0, 0.05)):
        wave = np.broadcast_to(np.sin(2 * np.pi * frequency * x), flat.shape)
        found = added(flat + wave, flat, pixel_size=0.24, gain=0.5) - flat
        share = (found * wave)[..., 20:-20].mean() / (wave**2)[..., 20:-20].mean()
        assert least <= share <= most, frequency


def test_nothing_is_added_for_a_gain_of_0():
    counts = np.random.default_rng(1).poisson(0.5, (2, 37, 53))
    denoised = np.full(counts.shape, 0.5, np.float32)
    assert np.array_equal(added(counts, denoised, pixel_size=0.24, gain=0.0), denoised)


@pytest.mark.parametrize(
    ("shape", "pixel_size", "gain", "words"),
    [
        ((2, 8, 9), 0.24, 0.5, "prediction"),
        ((2, 8, 8), 0.24, 1.5, "allowed is 0 to 1"),
        ((2, 8, 8), 0.24, float("nan"), "allowed is 0 to 1"),
        ((2, 8, 8), 0.5, 0.5, "pixels of 0.5"),
    ],
)
def test_bad_input_is_told(shape, pixel_size, gain, words):
    with pytest.raises(InputError, match=words):
        added(np.zeros((2, 8, 8)), np.zeros(shape, np.float32), pixel_size=pixel_size, gain=gain)
