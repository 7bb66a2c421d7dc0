"""What a prediction is compared by, chosen from the movie's own values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from insitu import InputError
from insitu.counting import noise
from insitu.counting.categorical import Categorical
from insitu.counting.poisson import Poisson

Measure = Callable[[Tensor, Tensor], Tensor]  # (counts, expected) to the loss of each pixel


class CountModel(Protocol):
    """A detector that knows how likely its counts are; `max_mean` is optional."""

    def log_prob(self, counts: Tensor, intensity: Tensor) -> Tensor:
        """Log-likelihood of each pixel [nat]."""


def squares(counts: Tensor, expected: Tensor) -> Tensor:
    """Squared error of each pixel, for data that are not counts."""
    return (counts - expected).square()


def surprise(detector: CountModel) -> Measure:
    """Minus the log-likelihood of each count [nat]; what the detector cannot give has 50."""
    most = float(getattr(detector, "max_mean", np.inf)) * (1 - 1e-6)

    def measure(counts: Tensor, expected: Tensor) -> Tensor:
        return -detector.log_prob(counts, expected.clamp(1e-6, most)).clamp(min=-50)

    return measure


def measure_for(movie: NDArray[Any]) -> Measure:
    """Choose the loss that fits a movie: its own detector's, Poisson's, or squares.

    Parameters
    ----------
    movie : (t, y, x) array
        A part of the movie is enough.

    Raises
    ------
    InputError
        If the values are neither counts nor anything else that can be learned from.
    """
    if not np.isfinite(movie).all():
        raise InputError("movie: it holds NaN or infinite values; replace or crop them")
    if movie.min() == movie.max():
        raise InputError(f"movie: every value is {movie.min():g}; there is nothing to learn")
    if movie.min() < 0 or (movie != np.rint(movie)).any():
        return squares  # no counts
    counts = noise.as_counts(movie)
    if counts.max() > 40:
        return surprise(Poisson())
    return surprise(Categorical.fit(counts))


def hidden_square(movie: NDArray[Any]) -> int:
    """Side of the square that has to be hidden: 1 where noise is white, 3 where it is not.

    Noise is white here if its correlation between neighbours (`noise.autocorrelation`) is below
    0.02, or not significant.
    """
    correlation = noise.autocorrelation(movie, reach=1)
    error = np.sqrt(1.5 / max(1, (len(movie) - 1) * movie[0].size))
    correlation[1, 1] = 0
    return 3 if np.abs(correlation).max() > max(0.02, 5 * error) else 1
