"""What a count tells of its mean under any detector, tabulated for fits of many pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from insitu import InputError
from insitu.counting.detector import Detector
from insitu.counting.poisson import Poisson

FLOOR = 1e-3  # e-/px; a model that falls below is taken as this
STEP = 1 / 64  # spacing of the tabulated means at and above 1/4 [e-/px]


class Information:
    """Log-likelihood of a mean, and Fisher information I(m) of one pixel [1/e-^2].

    For the family P(k | m) = w_k theta^k / (k! Z) the log-likelihood is k log theta - log Z, up to
    what does not depend on m; log theta = log P(1) / P(0) and log Z = -log P(0), each up to a
    constant. Its slope is (k - m) I(m), with I(m) = sum_k (dP / dm)^2 / P.

    Parameters
    ----------
    detector : Detector or None
        None: least squares, I(m) = 1.
    largest : float
        Means up to twice this are met [e-/px].

    Examples
    --------
    >>> from insitu.counting.categorical import Categorical
    >>> four = Information(Categorical.sub_frames(4), 2.0)  # binomial: variance m (1 - m / 4)
    >>> four.of(torch.tensor([0.5, 2.0]).double()).numpy().round(3), four.most
    (array([2.286, 1.   ]), 3.8)
    """

    def __init__(self, detector: Detector | None, largest: float) -> None:
        self.detector = detector
        self.most = np.inf if detector is None else float(detector.max_mean)
        self._exact = detector is None or isinstance(detector, Poisson)
        if self._exact or detector is None:
            return
        top = min(self.most, max(2 * largest, 1.0))
        fine = np.geomspace(FLOOR, 0.25, 200)
        grid = np.concatenate([fine[:-1], np.arange(0.25, top, STEP), [top]])
        if not grid[-1] > 0.25:
            raise InputError(f"detector: {detector!r} has no means to fit, up to {self.most:g}")
        most = int(grid[-1] + 12 * np.sqrt(grid[-1] + 1)) + 2
        nudge = 1e-4 * grid
        nudge[-1] = 0 if grid[-1] >= self.most else nudge[-1]
        low, high = (detector.table(grid + side, most) for side in (-1e-4 * grid, nudge))
        probability = detector.table(grid, most)
        slope = (high - low) / (nudge + 1e-4 * grid)[:, None]
        possible = probability > 1e-300
        information = np.divide(slope**2, probability, out=np.zeros_like(slope), where=possible)
        with np.errstate(divide="ignore"):
            log_p = np.log(probability[:, :2])
        self._grid = torch.from_numpy(grid)
        # linear between the nodes: m I(m), which is even, log theta - log m, and log Z
        self._tables = torch.from_numpy(
            np.stack(
                [
                    grid * information.sum(1),
                    log_p[:, 1] - log_p[:, 0] - np.log(grid),
                    -log_p[:, 0],
                ]
            )
        )

    def of(self, mean: Tensor) -> Tensor:
        """I(m) of means [e-/px] of any shape."""
        if self.detector is None:
            return torch.ones_like(mean)
        m = mean.clamp(min=FLOOR)
        if self._exact:
            return 1 / m
        (found,) = self._read(m, slice(0, 1))
        return found / m.clamp(max=float(self._grid[-1]))

    def log_likelihood(self, values: Tensor, mean: Tensor) -> Tensor:
        """Of the mean of each pixel, given its count or value [nat], up to a constant."""
        if self.detector is None:
            return -0.5 * (values - mean) ** 2
        m = mean.clamp(min=FLOOR)
        if self._exact:
            return values * torch.log(m) - m
        m = m.clamp(max=float(self._grid[-1]))
        log_theta, log_z = self._read(m, slice(1, 3))
        return values * (log_theta + torch.log(m)) - log_z

    def _read(self, m: Tensor, which: slice) -> list[Tensor]:
        """Linear interpolation of the tables."""
        self._grid, self._tables = self._grid.to(m), self._tables.to(m)
        right = torch.searchsorted(self._grid, m.contiguous()).clamp(1, len(self._grid) - 1)
        low, high = self._grid[right - 1], self._grid[right]
        share = ((m - low) / (high - low)).clamp(0, 1)
        return [torch.lerp(table[right - 1], table[right], share) for table in self._tables[which]]
