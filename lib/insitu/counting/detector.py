"""What a counting detector is: from the expected number of electrons to a count, and back.

`insitu.counting.poisson.Poisson` and `insitu.counting.categorical.Categorical` are two. The
expected count of each pixel in one frame, in electrons, is called its mean or its intensity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = NDArray[np.float64]


class Detector(Protocol):
    """A counting detector. Tensors of any shape are taken; float32 on their device is given."""

    @property
    def max_mean(self) -> float:
        """Largest mean that can be asked for [e-/px]."""

    def sample(self, intensity: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw counts of the shape of `intensity` [e-/px]."""

    def log_prob(self, counts: Tensor, intensity: Tensor) -> Tensor:
        """Log-likelihood log P(counts | intensity) of each pixel [nat]."""

    def table(self, means: ArrayLike, largest: int) -> Array:
        """P(k | m) for k = 0 ... `largest`, shape (means, largest + 1)."""


class Moments(NamedTuple):
    """Central moments of a count, each of the shape of the means."""

    mean: Array  # [e-]
    variance: Array  # [e-^2]
    third: Array  # [e-^3]


def moments(detector: Detector, means: ArrayLike) -> Moments:
    """Mean, variance and third central moment of a count, from the detector's own table.

    Parameters
    ----------
    detector : Detector
        Any.
    means : array
        Expected counts [e-/px].

    Examples
    --------
    >>> from insitu.counting.poisson import Poisson
    >>> moments(Poisson(), [0.5, 2.0]).variance.round(6)
    array([0.5, 2. ])
    """
    m = np.atleast_1d(np.asarray(means, np.float64))
    top = float(m.max(initial=0.0))
    k = np.arange(int(top + 12 * np.sqrt(top + 1)) + 2, dtype=np.float64)
    p = detector.table(m.ravel(), len(k) - 1)
    k = k[: p.shape[1]]
    first = p @ k
    away = k - first[:, None]
    found = first, (p * away**2).sum(1), (p * away**3).sum(1)
    return Moments(*(value.reshape(m.shape) for value in found))
