"""What counts minus prediction tells: how far off a prediction usually is, and what it leaves out.

A network begins with an average of filtered images and corrects it; where it corrects much, it
errs much. How much, the movie tells: by frames that the network was not shown for this one.

A prediction gives a rare and brief change next to no weight, and on average it is right. Who looks
for such changes may want them shown all the same, with all the chance that looks like them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from insitu import InputError, checks
from insitu.denoise.binning import Frames

Array = NDArray[np.float32]
UNSEEN = 3, 4, 5  # frames to each side that are left out of all surroundings
GROUP = 6  # neighbouring frames, which are compared with some of the same frames
NARROW = 0.3  # standard deviation of a Gaussian as wide as a column [A]
PEAK = 0.75 / 4 ** (1 / 3)  # of exp(-a f^2) - exp(-4 a f^2) over all f


class Scale(NamedTuple):
    """How many times the squared correction the squared error is."""

    value: float
    error: float  # its standard error


def _local_square(denoised: Array, first_guess: Array, width: float = 2.0) -> Array:
    """Squared correction, averaged by a Gaussian of `width` pixels: (n, y, x)."""
    square = (denoised.astype(np.float32) - first_guess) ** 2
    return np.stack([ndimage.gaussian_filter(s, width, mode="nearest") for s in square])


def error_scale(
    movie: Frames, denoised: Array, first_guess: Array, frames: Sequence[int], *, width: float = 2.0
) -> Scale:
    """Regress the squared error on the squared correction.

    Let b and a be the means of the frames 3 to 5 before t and after it, which must not be among
    the surroundings that f was made from (`FAR` and `FIVE` leave them out). If noise is
    independent from frame to frame, then for a specimen at rest

        E (b - f) (a - f) = (m - f)^2,

    however the noise is distributed. Where the specimen moves, the product tells
    (m_b - f) (m_a - f): too little in a drift, too much for a brief change that f shows rightly,
    nothing of one that it misses. What is the same in all frames, as the gain of a pixel, counts
    as specimen; and as f was learned from all frames, a network that learns by heart makes its
    error look too small. Least squares through 0, weighted by one over the square of the local
    mean, as counts would have it.

    Parameters
    ----------
    movie : (t, y, x) array
        What was denoised.
    denoised, first_guess : (n, y, x) arrays
        f, and what the network begins with (`MovieDenoiser.first_guess`).
    frames : sequence of int
        Which n frames these are; the first 5 and the last 5 of the movie are not used.
    width : float
        Of the Gaussian that averages squared corrections [px].

    Raises
    ------
    InputError
        If the shapes do not agree, or there are too few frames to tell the scale from 0.
    """
    if denoised.shape != first_guess.shape or denoised.shape != (len(frames), *movie.shape[1:]):
        raise InputError(
            f"uncertainty: got {len(frames)} frames of {movie.shape[1:]} and pictures of "
            f"{denoised.shape} and {first_guess.shape}; they must agree"
        )
    near, far = min(UNSEEN), max(UNSEEN)
    used = [n for n, t in enumerate(frames) if far <= t < movie.shape[0] - far]
    floor = 0.1 * float(np.abs(denoised).mean())
    sums = np.zeros((len(used), 3))
    for row, n in enumerate(used):
        t, f = frames[n], denoised[n].astype(np.float64)
        sides = slice(t - far, t - near + 1), slice(t + near, t + far + 1)
        before, after = (np.asarray(movie[s]).mean(0, dtype=np.float64) for s in sides)
        square = _local_square(denoised[n : n + 1], first_guess[n : n + 1], width)[0]
        level = ndimage.gaussian_filter(f, 2 * width, mode="nearest")
        weighted = square / np.maximum(np.abs(level), floor) ** 2
        product = weighted * (before - f) * (after - f)
        sums[row] = product.sum(), (weighted * square).sum(), (product**2).sum()
    if len(used) < 2 * GROUP or not sums[:, 1].any():
        raise InputError(
            f"uncertainty: {len(used)} frames have {far} on both sides, {2 * GROUP} are needed, in "
            f"which the network corrected something"
        )
    products, squares, scatter = sums.sum(0)
    value = products / squares
    # what groups of frames differ by tells of motion; few groups tell it badly, but it is not less
    # than what counting gives, times 1.5 because neighbours are compared with the same frames
    apart = np.add.reduceat(sums[:, 0] - value * sums[:, 1], np.arange(0, len(used), GROUP))
    between = (apart**2).sum() * len(apart) / (len(apart) - 1)
    error = float(np.sqrt(max(between, 1.5**2 * scatter)) / squares)
    if value <= 2 * error:
        raise InputError(
            f"uncertainty: the scale is {value:.2g} +- {error:.2g}, which cannot be told from 0; "
            f"give more frames"
        )
    return Scale(float(value), error)


def deviation(denoised: Array, first_guess: Array, found: Scale, *, width: float = 2.0) -> Array:
    """Standard deviation of the error of each pixel, (n, y, x) [counts]."""
    return np.sqrt(np.float32(found.value) * _local_square(denoised, first_guess, width))


def with_innovation(
    counts: NDArray[Any], denoised: NDArray[np.float32], *, pixel_size: float, gain: float
) -> NDArray[np.float32]:
    """Add a part of the innovation, counts minus prediction, in details as wide as a column.

        x = f + gain / PEAK (G_1 - G_2) * (y - f),

    * being a convolution with the difference of two Gaussians of 0.3 and 0.6 A. Of a detail of
    0.5 1/A this adds `gain` of the innovation, at 0.24 and 0.9 1/A half as much, of the mean
    nothing. For Poisson's noise, and a prediction that rests on other frames, the variance rises
    by 0.10 gain^2 times the expected count in pixels of 0.24 A, and as the area of the pixels
    elsewhere. The result is no longer blind to the counts: what is left of them is no test of it.

    Parameters
    ----------
    counts, denoised : (t, y, x) arrays
        y, and its prediction f by a network that is blind to it.
    pixel_size : float
        At most 0.3 A.
    gain : float
        0 leaves the prediction as it is.

    Returns
    -------
    (t, y, x) array of float32
        Also below 0 where there is little signal: what is cut off there would make vacuum brighter.

    Raises
    ------
    InputError
        If the shapes differ, or gain or pixel size are out of range.
    """
    if counts.shape != denoised.shape:
        raise InputError(f"innovation: counts are {counts.shape}, prediction {denoised.shape}")
    checks.within("innovation", gain, 0, 1)
    if not 0 < pixel_size <= NARROW:
        raise InputError(f"innovation: got pixels of {pixel_size:g} A, allowed is up to {NARROW} A")
    result = np.empty(denoised.shape, np.float32)
    for number, (y, f) in enumerate(zip(counts, denoised, strict=True)):
        news = y.astype(np.float32) - f
        fine, coarse = (ndimage.gaussian_filter(news, k * NARROW / pixel_size) for k in (1, 2))
        result[number] = f + np.float32(gain / PEAK) * (fine - coarse)
    return result
