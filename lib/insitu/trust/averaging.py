"""A denoised movie against the mean of its own raw frames.

Where a specimen stands still, the mean of many raw frames is a second witness. It still has
counting noise, and a comparison has to allow for just that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu import InputError, checks
from insitu.counting.detector import Detector, moments

Array = NDArray[np.float64]


class Agreement(NamedTuple):
    """The difference of the two means, in standard deviations of counting."""

    z: Array  # (y, x)
    mean: float  # of z, 0 if the denoised movie is unbiased
    deviation: float  # of z, about 1 if the difference is counting noise
    frames: int


def agreement(
    raw: ArrayLike,
    denoised: ArrayLike,
    *,
    region: NDArray[np.bool_] | None = None,
    detector: Detector | None = None,
) -> Agreement:
    """Hold the mean of denoised frames against the mean of the raw ones.

    z = (mean of denoised - mean of raw) / sqrt(v / n), v being the variance of a count whose mean
    is that of the denoised frames (Poisson's by default), n the number of frames. The raw mean is
    also what the denoised frames were made of: the more they follow its noise, the further the
    standard deviation of z falls below 1.

    Parameters
    ----------
    raw, denoised : (t, y, x) arrays
        Of the same frames [e-/px].
    region : (y, x) array of bool, optional
        Where mean and deviation are taken.
    detector : Detector, optional
        With which the counts were recorded.

    Raises
    ------
    InputError
        If the movies are not of one shape, or hold NaN.

    Examples
    --------
    Forty frames of vacuum, and what is to be expected of them:

    >>> counts = np.random.default_rng(0).poisson(0.5, (40, 64, 64))
    >>> found = agreement(counts, np.full(counts.shape, 0.5))
    >>> abs(found.mean) < 0.05, 0.9 < found.deviation < 1.1
    (True, True)
    """
    y, f = movie_pair(raw, denoised)
    z = difference(y, f, variance_of(detector, f.mean(0)))
    chosen = z if region is None else z[region]
    return Agreement(z, float(chosen.mean()), float(chosen.std()), len(y))


def difference(y: Array, f: Array, variance: Array) -> Array:
    """Z (y, x) of the means of two movies (t, y, x), a count of which has that variance [e-^2]."""
    return np.asarray((f.mean(0) - y.mean(0)) / np.sqrt(variance / len(y)))


def over_frames(
    raw: ArrayLike,
    denoised: ArrayLike,
    numbers: Iterable[int],
    *,
    region: NDArray[np.bool_] | None = None,
) -> list[Agreement]:
    """Agreement of the first n frames, for each n: a bias that one frame hides shows in many."""
    y, f = movie_pair(raw, denoised)
    return [agreement(y[:n], f[:n], region=region) for n in numbers]


def movie_pair(raw: ArrayLike, denoised: ArrayLike) -> tuple[Array, Array]:
    """Both movies in double precision, if they are of one shape and hold numbers."""
    y, f = np.asarray(raw, np.float64), np.asarray(denoised, np.float64)
    if y.ndim != 3 or y.shape != f.shape:
        raise InputError(
            f"raw, denoised: expected two movies of one shape, got {y.shape} and {f.shape}"
        )
    checks.finite("raw", y)
    checks.finite("denoised", f)
    return y, f


def noise_of(detector: Detector | None, movie: Array) -> Array:
    """Variance of the counts of a denoised movie [e-^2], as if it were nowhere quite dark."""
    return variance_of(detector, np.maximum(movie, 0.02 * float(movie.mean())))


def variance_of(detector: Detector | None, mean: Array) -> Array:
    """Variance of a count of that mean [e-^2]; of Poisson's detector, if none is given."""
    if detector is None:
        return np.maximum(mean, 1e-6)
    grid = np.linspace(1e-3, max(float(mean.max()), 2e-3), 200)
    return np.interp(mean, grid, moments(detector, grid).variance)
