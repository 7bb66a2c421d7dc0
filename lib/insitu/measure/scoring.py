"""Fisher scoring of all columns of frames under any detector, and what can go wrong with one."""

from __future__ import annotations

from enum import IntFlag

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insitu import InputError
from insitu.counting.detector import Detector
from insitu.counting.poisson import Poisson
from insitu.measure import joint

Array = NDArray[np.float64]
WORSE = 0.5  # of log-likelihood lost around a column: its step was too long [nat]
FLOOR = 1e-3  # e-/px; a model that falls below is taken as this
STEP = 1 / 64  # spacing of the tabulated means at and above 1/4 [e-/px]


class Flag(IntFlag):
    """What is wrong with a column in a frame; several may be."""

    BORDER = 1  # its cell is cut by the edge of the frame
    LOST = 2  # the frame is blank, or the column outside: no numbers
    RAN_AWAY = 4  # it left its place, its width or the sign of its start; numbers of the last step
    UNSETTLED = 8  # the steps did not end
    SATURATED = 16  # a pixel expects more than the detector can give
    FAINT = 32  # its place is not known to within its own reach: less than two standard errors


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


class Scoring:
    """Fisher scoring of frames that share their starts; (t, n, ...) tensors throughout."""

    def __init__(
        self, cells: joint.Cells, information: Information, sign: float, reach: float, steps: int
    ) -> None:
        self.cells, self.information = cells, information
        self.sign, self.reach, self.steps = sign, reach, steps

    def run(
        self, values: Tensor, width: Array, middle: Tensor | None = None
    ) -> tuple[Array, Array, NDArray[np.uint8]]:
        """Parameters (t, n, 7), their standard errors, and flags (t, n), of values (t, n, p).

        `middle` (1, n, 7) is what fits their mean, near which to begin.
        """
        begin = self._first(values, width)
        if middle is None:
            return self._told(values, *self._scored(values, begin, begin))
        found = self._scored(values, self._approached(values, begin, middle), begin)
        anew = (found[2] | found[3]).any(1)  # not all came to an end from there
        if bool(anew.any()):
            for kept, new in zip(
                found, self._scored(values[anew], begin[anew], begin[anew]), strict=True
            ):
                kept[anew] = new
        return self._told(values, *found)

    def middle(self, values: Tensor, width: Array) -> Tensor:
        """Parameters (1, n, 7) of the mean of frames, values (1, n, p)."""
        begin = self._first(values, width)
        return self._scored(values, begin, begin)[0]

    def _scored(
        self, values: Tensor, theta: Tensor, begin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Likeliest parameters (t, n, 7), the variances of the free ones, who left, who moves."""
        theta = theta.clone()
        moving = torch.ones_like(theta[..., 0], dtype=torch.bool)
        away = self._left(theta, begin)
        damping = torch.full_like(theta[..., 0], 1e-3)
        last, share = torch.zeros_like(theta[..., self.cells.free]), torch.ones_like(damping)
        variance, close = torch.zeros_like(last), torch.zeros_like(moving[:, 0])
        going = torch.arange(len(theta), device=values.device)
        data, (mean, slopes) = values, joint.design(theta, self.cells)
        for number in range(self.steps + 1):
            old, free = theta[going], ~away[going]
            weight = self.information.of(mean) * self.cells.inside
            score = (data - mean) * weight
            gradient, blocks = joint.normal_equations(slopes, score, weight, self.cells)
            step, _, size = joint.solve(blocks, gradient, free, damping[going], self.cells)
            close[going] = ((step**2 * size).amax(2) < 1).all(1)
            moves = self._moves(step, size, old) & free
            done = ~moves.any(1) if number < self.steps else torch.ones_like(moves[:, 0])
            if bool(done.any()):  # its last step is smaller than what matters
                every, none = torch.ones_like(free[done]), torch.zeros_like(old[done][..., 0])
                found = joint.solve(
                    blocks[done], gradient[done], every, none, self.cells, errors=True
                )
                variance[going[done]] = found.variance
                moving[going[done]] = moves[done]
                kept = ~done
                going, old, free, step, size, moves = (
                    q[kept] for q in (going, old, free, step, size, moves)
                )
                data, mean = data[kept], mean[kept]
            if not len(going):
                break
            share[going] = self._share(share[going], last[going], step, size)
            last[going] = step
            new = old.clone()
            new[..., self.cells.free] += self._clipped(step * share[going][..., None])
            left = self._left(new, begin[going]) & free
            new = torch.where((left | ~free)[..., None], old, new)
            ahead = joint.design(new, self.cells)
            # a column whose surroundings are worse off takes a shorter step next time
            worse = moves & ~close[going][:, None]
            if bool(worse.any()):
                worse &= self._gain(data, mean, ahead[0]) < -WORSE
            level = damping[going]
            damping[going] = torch.where(worse, level * 10 + 1e-2, (level * 0.2).clamp(min=1e-6))
            away[going] |= left
            theta[going] = torch.where(worse[..., None], old, new)
            mean, slopes = ahead
            again = worse.any(1)
            if bool(again.any()):
                mean[again], slopes[again] = joint.design(theta[going[again]], self.cells)
        return theta, variance, away, moving

    def _approached(self, values: Tensor, begin: Tensor, middle: Tensor) -> Tensor:
        """Parameters after one step from those of the mean of the frames.

        All frames share the slopes and the information there, so that it costs little. A column
        that leaves by it, or whose surroundings are then told less well, keeps its start.
        """
        cells = self.cells
        mean, slopes = joint.design(middle, cells)
        weight = self.information.of(mean) * cells.inside
        score = (values - mean) * weight
        _, blocks = joint.normal_equations(slopes, weight, weight, cells)
        every, none = torch.ones_like(middle[..., 0], dtype=torch.bool), 0 * middle[..., 0]
        gradient = joint.gradient_of(slopes, score, cells)
        step = joint.solve(blocks, gradient, every, none, cells).step
        new = middle.expand_as(begin).clone()
        new[..., cells.free] += self._clipped(step)
        gain = self._gain(values, joint.expected(begin, cells), joint.expected(new, cells))
        wrong = self._left(new, begin) | ~torch.isfinite(new).all(2) | ~(gain > 0)
        return torch.where(wrong[..., None], begin, new)

    def _share(self, share: Tensor, last: Tensor, step: Tensor, size: Tensor) -> Tensor:
        """Share of its step that each column takes (t, n): Aitken's, so that steps do not swing.

        Of the last step, taken by `share`, is left what of this one points along it.
        """
        along, square = ((part * last * size).sum(2) for part in (step, last))
        drop = (1 - along / square.clamp(min=1e-30)) / share
        better = (1 / drop.clamp(min=1e-3)).clamp(0.4, 1.3)
        return torch.where((along.abs() < square) & (square > 0), better, share)

    def _gain(self, values: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Log-likelihood gained in the cells that each column reaches, (t, n)."""
        gain = self.information.log_likelihood(values, after)
        gain = ((gain - self.information.log_likelihood(values, before)) * self.cells.inside).sum(2)
        if self.information.detector is None:
            gain = gain / (self.cells.inside * (values - before) ** 2).mean((1, 2)).clamp(
                min=1e-30
            ).unsqueeze(1)
        gain = torch.cat([gain, torch.zeros_like(gain[:, :1])], 1)
        return gain[:, self.cells.near].sum(2)

    def _moves(self, step: Tensor, size: Tensor, theta: Tensor) -> Tensor:
        """Columns (t, n) whose step matters: more than 0.02 pm and 0.01 of an error."""
        least = theta.new_full((joint.PARAMETERS,), 2e-4)[self.cells.free].expand_as(step).clone()
        least[..., joint.INTENSITY] *= theta[..., joint.INTENSITY].abs()
        least[..., joint.WIDTH :] = torch.inf
        if joint.WIDTH in self.cells.free:
            least[..., joint.WIDTH] = 5e-4
        if self.information.detector is not None:
            part = torch.full_like(least[0, 0], 0.03)
            part[: joint.INTENSITY] = 0.01
            least = torch.maximum(least, part * size.clamp(min=1e-30).rsqrt())
        return (step.abs() > least).any(2)

    def _first(self, values: Tensor, widths: Array) -> Tensor:
        """Start: background of the cell's outer pixels, and the volume that stands out of it."""
        cells, width = self.cells, torch.as_tensor(np.array(widths)).to(values)
        away = torch.hypot(cells.y - cells.start[:, :1], cells.x - cells.start[:, 1:])
        outer = ((away > 0.8) & (cells.inside > 0)).to(values)
        outer = torch.where(outer.sum(1, keepdim=True) < 4, cells.inside, outer)
        level = (values * outer).sum(2) / outer.sum(1)
        excess = ((values - level[..., None]) * cells.inside).sum(2) * self.sign
        least = 0.05 * level.abs() * 2 * np.pi * width**2 / cells.area
        volume = self.sign * torch.maximum(excess, least + 1e-6)
        place = cells.start.expand(len(values), -1, -1)
        parts = [place[..., 0], place[..., 1], volume, torch.log(width), level]
        return torch.stack([*parts, *[torch.zeros_like(level)] * 2], 2)

    def _clipped(self, step: Tensor) -> Tensor:
        most = step.new_full((joint.PARAMETERS,), torch.inf)
        most[[joint.Y, joint.X, joint.WIDTH]] = 0.25
        return torch.clamp(step, -most[self.cells.free], most[self.cells.free])

    def _left(self, theta: Tensor, begin: Tensor) -> Tensor:
        """Which columns (t, n) are no longer where, or what, they were."""
        moved = torch.linalg.vector_norm((theta - begin)[..., : joint.INTENSITY], dim=2)
        grown = (theta - begin)[..., joint.WIDTH].abs()
        return (moved > self.reach) | (grown > np.log(2.5))

    def _told(
        self, values: Tensor, theta: Tensor, variance: Tensor, away: Tensor, moving: Tensor
    ) -> tuple[Array, Array, NDArray[np.uint8]]:
        """Parameters, standard errors and flags, as arrays."""
        cells, mean = self.cells, joint.expected(theta, self.cells)
        if self.information.detector is None:
            rest = (((values - mean) * cells.inside) ** 2).sum((1, 2))
            number = cells.inside.sum() - variance[0].numel()
            variance = variance * (rest / number.clamp(min=1))[:, None, None]
        error = torch.zeros_like(theta)
        error[..., cells.free] = torch.sqrt(variance.clamp(min=0))
        high = ((mean > self.information.most) & (cells.inside > 0)).any(2)
        wrong_way = theta[..., joint.INTENSITY] * self.sign <= 0
        faint = ~(2 * error[..., : joint.INTENSITY].amax(2) < self.reach)
        flag = (away | wrong_way) * int(Flag.RAN_AWAY)
        flag = flag + (moving & ~away) * int(Flag.UNSETTLED)
        flag = flag + high * int(Flag.SATURATED) + faint * int(Flag.FAINT)
        value, spread = (q.double().cpu().numpy() for q in (theta, error))
        return value, spread, flag.to(torch.uint8).cpu().numpy()
