"""A detector described by the probability of every count, fitted to a movie."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln
from torch import Tensor

from insitu.counting import noise
from insitu.counting.alias import AliasTable
from insitu.counting.pixels import by_blocks, checked_counts, checked_intensity
from insitu.counting.weighted_poisson import (
    extended,
    fit_weights,
    gauge,
    log_theta,
    probabilities,
)
from insitu.files import whole

_STEP = 1 / 64  # spacing of the means at which a Categorical is tabulated


class Categorical:
    """A detector described by the probability of every count, given the mean.

    P(k | m) = w_k theta^k / (k! Z), with theta and Z such that sum_k P = 1 and sum_k k P = m.

    All weights 1 give back the Poisson distribution; weights that fall with k make the counts
    sub-Poisson, as when electrons that arrive together are counted as one. The family is
    monotone in the mean: a larger m makes every count above a threshold more likely. Weights
    are defined up to a factor c b^k, and are kept with w_0 = w_1 = 1.

    Parameters
    ----------
    log_weights : sequence of float
        log w_k for k = 0, 1, ..., K. Beyond K they go on with the last second difference (or
        0, if that is positive), so that the detector can be used at means a little higher
        than those at which it was measured.
    max_mean : float
        Largest mean that can be asked for [e-/px].
    mean_range : (float, float), optional
        The means from which the weights were fitted [e-/px]; outside is extrapolation.
    extend : bool
        False if counts above K are impossible.

    Notes
    -----
    The probabilities are tabulated for means 1/64 apart and interpolated linearly in between.
    `sample` and `log_prob` use the same table, so that they agree exactly; the interpolated
    distribution has exactly the mean m.

    Examples
    --------
    >>> from insitu.counting.detector import moments
    >>> detector = Categorical([0.0, 0.0, -0.3, -0.9])  # rarer than Poisson's from two on
    >>> mean, variance, _ = moments(detector, 0.8)
    >>> bool(variance < mean)
    True
    """

    def __init__(
        self,
        log_weights: Sequence[float] | NDArray[np.float64],
        *,
        max_mean: float = 8.0,
        mean_range: tuple[float, float] | None = None,
        extend: bool = True,
    ) -> None:
        weights = np.asarray(log_weights, dtype=np.float64)
        if weights.ndim != 1 or len(weights) < 3 or not np.isfinite(weights).all():
            raise ValueError(
                f"log_weights: expected at least 3 finite numbers, one for each count from 0, "
                f"got {log_weights!r}"
            )
        if not 0 < max_mean <= 64:
            raise ValueError(f"max_mean: expected 0 to 64 e-/px, got {max_mean}")
        self.log_weights = gauge(weights)
        self.max_mean = float(max_mean)
        self.mean_range = mean_range and tuple(mean_range)
        self.extend = extend
        grid = np.arange(int(np.ceil(max_mean / _STEP)) + 2) * _STEP  # one more, to interpolate
        most = int(np.ceil(grid[-1] + 12 * np.sqrt(grid[-1] + 1)))
        p = self.table(grid, most)
        most = max(len(weights) - 1, int(np.flatnonzero((p > 1e-10).any(0))[-1]))
        p = p[:, : most + 1] / p[:, : most + 1].sum(1, keepdims=True)
        # one more column, of zeros: a count that the detector cannot give
        self._width = most + 2
        self._probability = torch.tensor(np.pad(p, ((0, 0), (0, 1))).ravel(), dtype=torch.float32)
        self._alias = AliasTable(p)

    def table(self, means: ArrayLike, largest: int) -> NDArray[np.float64]:
        """P(k | m) for k = 0 ... `largest`, shape (means, largest + 1), without interpolation."""
        m = np.atleast_1d(np.asarray(means, float))
        most = max(largest, len(self.log_weights) - 1, int(m.max() + 12 * np.sqrt(m.max() + 1)))
        log_w = extended(self.log_weights, most)
        if not self.extend:
            log_w[len(self.log_weights) :] = -np.inf
        return probabilities(log_w, log_theta(log_w, m))[:, : largest + 1]

    def sample(self, intensity: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw counts, float32, of the shape of `intensity` [e-/px].

        The mean is rounded up or down to the grid of the table at random, with the weights of
        the linear interpolation; then one look-up in an alias table gives the count.

        Raises
        ------
        ValueError
            If an intensity is negative, not finite or above `max_mean`.
        """
        mean = checked_intensity(intensity, top=self.max_mean)
        self._alias.to(mean.device)

        def draw(part: Tensor) -> Tensor:
            node = torch.rand(part.shape, generator=generator, device=part.device)
            node = node.add_(part, alpha=1 / _STEP).to(torch.int32)
            return self._alias.draw(node, generator).to(torch.float32)

        return by_blocks(draw, mean)

    def log_prob(self, counts: Tensor, intensity: Tensor) -> Tensor:
        """Log-likelihood log P(counts | intensity) of each pixel [nat].

        Differentiable in `intensity`; -inf for a count that the detector cannot give.

        Raises
        ------
        ValueError
            If a count is negative or no integer, or an intensity negative, not finite or
            above `max_mean`.
        """
        mean = checked_intensity(intensity, top=self.max_mean)
        k = checked_counts(counts, mean)
        table = self._probability = self._probability.to(mean.device)

        def evaluate(k: Tensor, m: Tensor) -> Tensor:
            node = (m.detach() * (1 / _STEP)).to(torch.int32)
            index = (node * self._width).add_(k.clamp(max=self._width - 1).to(torch.int32))
            low = table.index_select(0, index)
            high = table.index_select(0, index + self._width)
            return torch.log(torch.lerp(low, high, m * (1 / _STEP) - node))

        return by_blocks(evaluate, k, mean)

    @classmethod
    def sub_frames(cls, parts: int) -> Categorical:
        """Return a detector that reads each frame in `parts` parts, a pixel counting once in each.

        The counts are binomial: w_k = n! / ((n - k)! n^k) for k up to n, and 0 beyond.
        """
        if parts < 2:
            raise ValueError(f"parts: expected 2 or more, got {parts}")
        k = np.arange(parts + 1)
        weights = gammaln(parts + 1) - gammaln(parts - k + 1) - k * np.log(parts)
        return cls(weights, max_mean=min(64.0, 0.95 * parts), extend=False)

    @classmethod
    def fit(cls, frames: ArrayLike, *, mean: ArrayLike | None = None) -> Categorical:
        """Fit the weights to a movie alone.

        Parameters
        ----------
        frames : (t, y, x) array
            Counts.
        mean : (t, y, x) array, optional
            Expected count of each pixel, made without that pixel's own count; by default
            `noise.leave_one_out_mean(frames)`.

        Raises
        ------
        InputError
            If it is no movie of counts, or too few of them differ.

        Examples
        --------
        Counts of a detector that reads each frame in four parts and marks a pixel once in each,
        whose true weights are 1, 1, 3/4, 3/8, 3/32 and 0:

        >>> scene = torch.linspace(0.4, 1.2, 64).expand(60, 64, 64)
        >>> counts = Categorical.sub_frames(4).sample(scene, torch.Generator().manual_seed(0))
        >>> Categorical.fit(counts, mean=scene)
        Categorical(weights [1.000, 1.000, 0.741, 0.367, 0.101, 0.000], max_mean=8)
        """
        counts = noise.as_counts(frames)
        expected = noise.leave_one_out_mean(counts) if mean is None else np.asarray(mean)
        weights, span = fit_weights(noise.histogram_by_mean(counts, expected))
        return cls(weights, max_mean=min(64.0, max(8.0, 4 * span[1])), mean_range=span)

    def save(self, path: str | Path, **provenance: Any) -> None:
        """Write the weights, and what is told of their origin, as JSON."""
        record = {
            "log_weights": self.log_weights.tolist(),
            "max_mean": self.max_mean,
            "mean_range": self.mean_range,
            "extend": self.extend,
            "provenance": provenance,
        }
        with whole(path) as unfinished:
            unfinished.write_text(json.dumps(record, indent=1) + "\n", "utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Categorical:
        """Read a detector that `save` wrote."""
        try:
            record = json.loads(Path(path).read_text())
            del record["provenance"]
            return cls(**record)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no saved Categorical: {error}") from None

    def __repr__(self) -> str:
        weights = ", ".join(f"{w:.3f}" for w in np.exp(self.log_weights))
        return f"Categorical(weights [{weights}], max_mean={self.max_mean:g})"
