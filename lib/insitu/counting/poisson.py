"""The ideal counting detector."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, xlogy
from torch import Tensor

from insitu.counting.alias import AliasTable
from insitu.counting.pixels import by_blocks, checked_counts, checked_intensity

_POISSON_STEP = 1 / 32
_POISSON_TABLE_END = 32.0  # above, torch.poisson is as fast as a table


class Poisson:
    """The ideal counting detector: every electron is counted, once.

    P(k | m) = m^k exp(-m) / k!, with mean m and variance m.

    Examples
    --------
    >>> expected = torch.full((1000, 1000), 0.46)  # electrons per pixel
    >>> counts = Poisson().sample(expected, torch.Generator().manual_seed(0))
    >>> round(float(counts.mean()), 2), round(float(counts.var()), 2)
    (0.46, 0.46)
    """

    max_mean = float("inf")

    def sample(self, intensity: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw counts.

        Parameters
        ----------
        intensity : Tensor
            Expected counts, finite and not negative [e-/px].
        generator : torch.Generator, optional
            Source of randomness, on the device of `intensity`.

        Returns
        -------
        Tensor
            Counts, float32, of the same shape.

        Raises
        ------
        ValueError
            If an intensity is negative or not finite.

        Notes
        -----
        On the CPU a Poisson variable of mean m is drawn as the sum of two: one whose mean is m
        rounded down to a grid, from an alias table [1]_, and one with the small remainder r,
        by inversion of its distribution (at most 3; P(4 or more) < 4e-8, which is below the
        spacing of float32 random numbers).

        References
        ----------
        .. [1] A. J. Walker, ACM Trans. Math. Softw. 3 (1977) 253.
        """
        mean = checked_intensity(intensity, top=float("inf"))
        top = float(mean.max()) if mean.numel() else 0.0
        if mean.device.type != "cpu" or top >= _POISSON_TABLE_END:
            return torch.poisson(mean, generator=generator)
        table = _poisson_table(1 << int(top).bit_length())  # the power of two above

        def draw(part: Tensor) -> Tensor:
            node = (part * (1 / _POISSON_STEP)).to(torch.int32)
            rest = part.sub(node, alpha=_POISSON_STEP)
            uniform = torch.rand(part.shape, generator=generator)
            p0 = torch.exp(-rest)
            p1 = p0 * rest
            counts = table.draw(node, generator).to(torch.float32)
            counts += uniform > p0
            counts += uniform > p0.add_(p1)
            counts += uniform > p0.add_(p1.mul_(rest), alpha=0.5)
            return counts

        return by_blocks(draw, mean)

    def log_prob(self, counts: Tensor, intensity: Tensor) -> Tensor:
        """Log-likelihood log P(counts | intensity) of each pixel [nat].

        Raises
        ------
        ValueError
            If a count is negative or no integer, or an intensity negative or not finite.
        """
        mean = checked_intensity(intensity, top=float("inf"))
        k = checked_counts(counts, mean)
        log_factorial = _log_factorial(max(64, int(k.max()) + 1) if k.numel() else 1)
        log_factorial = log_factorial.to(mean.device)

        def evaluate(k: Tensor, m: Tensor) -> Tensor:
            return torch.xlogy(k, m) - m - log_factorial.index_select(0, k.to(torch.int32))

        return by_blocks(evaluate, k, mean)

    def table(self, means: ArrayLike, largest: int) -> NDArray[np.float64]:
        """P(k | m) for k = 0 ... `largest`, shape (means, largest + 1)."""
        m, k = np.atleast_1d(np.asarray(means, float))[:, None], np.arange(largest + 1)
        return np.exp(xlogy(k, m) - m - gammaln(k + 1))

    def __repr__(self) -> str:
        return "Poisson()"


@lru_cache(maxsize=8)
def _log_factorial(size: int) -> Tensor:
    return torch.tensor(gammaln(np.arange(size) + 1.0), dtype=torch.float32)


@lru_cache(maxsize=8)
def _poisson_table(end: int) -> AliasTable:
    """Poisson distributions with means 0, 1/32, ... up to `end`."""
    means = np.arange(0, end + _POISSON_STEP, _POISSON_STEP)
    return AliasTable(Poisson().table(means, int(end + 12 * np.sqrt(end + 1))))
