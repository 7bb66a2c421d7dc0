"""Fisher scoring of all columns of frames, and what can go wrong with one."""

from __future__ import annotations

from enum import IntFlag

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insitu.measure import joint
from insitu.measure.information import Information

Array = NDArray[np.float64]


class Flag(IntFlag):
    """What is wrong with a column in a frame; several may be."""

    BORDER = 1  # its cell is cut by the edge of the frame
    LOST = 2  # the frame is blank, or the column outside: no numbers
    RAN_AWAY = 4  # it left its place, its width or the sign of its start; numbers of the last step
    UNSETTLED = 8  # the steps did not end
    SATURATED = 16  # a pixel expects more than the detector can give
    FAINT = 32  # its place is not known to within its own reach: less than two standard errors


class Scoring:
    """Fisher scoring of frames that share their starts; (t, n, ...) tensors throughout."""

    def __init__(
        self, cells: joint.Cells, information: Information, sign: float, reach: float, steps: int
    ) -> None:
        self.cells, self.information = cells, information
        self.sign, self.reach, self.steps = sign, reach, steps

    def run(self, values: Tensor, width: Array) -> tuple[Array, Array, NDArray[np.uint8]]:
        """Parameters (t, n, 7), their standard errors, and flags (t, n), of values (t, n, p)."""
        theta = self._first(values, torch.as_tensor(np.array(width)).to(values))
        begin = theta.clone()
        moving = torch.ones_like(theta[..., 0], dtype=torch.bool)
        away = torch.zeros_like(moving)
        damping = torch.full_like(theta[..., 0], 1e-3)
        last, share = torch.zeros_like(theta[..., self.cells.free]), torch.ones_like(damping)
        going = torch.arange(len(theta), device=values.device)
        data, (mean, slopes) = values, joint.design(theta, self.cells)
        for _ in range(self.steps):
            old, free = theta[going], ~away[going]
            weight = self.information.of(mean) * self.cells.inside
            sums = joint.normal_equations(slopes, (data - mean) * weight, weight, self.cells)
            step, _, size = joint.solve(sums[1], sums[0], free, damping[going], self.cells)
            share[going] = self._share(share[going], last[going], step, size)
            last[going] = step
            new = old.clone()
            new[..., self.cells.free] += self._clipped(step * share[going][..., None])
            left = self._left(new, begin[going]) & free
            new = torch.where((left | ~free)[..., None], old, new)
            ahead = joint.design(new, self.cells)
            # a column whose surroundings are worse off takes a shorter step next time
            moves = self._moves(step, size, new)
            worse = moves & (self._gain(data, mean, ahead[0]) < -1e-3)
            new = torch.where(worse[..., None], old, new)
            level = damping[going]
            damping[going] = torch.where(worse, level * 10 + 1e-2, (level * 0.2).clamp(min=1e-6))
            away[going] |= left
            moving[going] = moves & ~away[going]
            theta[going] = new
            on = (moving[going] | left).any(1)
            going = going[on]
            if not len(going):
                break
            if bool(on.all()) and not bool(worse.any()):
                mean, slopes = ahead
            else:
                data, (mean, slopes) = values[going], joint.design(theta[going], self.cells)
        return self._errors(theta, values, away, moving)

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

    def _first(self, values: Tensor, width: Tensor) -> Tensor:
        """Start: background of the cell's outer pixels, and the volume that stands out of it."""
        cells = self.cells
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

    def _errors(
        self, theta: Tensor, values: Tensor, away: Tensor, moving: Tensor
    ) -> tuple[Array, Array, NDArray[np.uint8]]:
        cells = self.cells
        mean, slopes = joint.design(theta, cells)
        weight = self.information.of(mean) * cells.inside
        gradient, blocks = joint.normal_equations(slopes, weight, weight, cells)
        every, none = torch.ones_like(away), torch.zeros_like(theta[..., 0])
        variance = joint.solve(blocks, gradient, every, none, cells, errors=True).variance
        if self.information.detector is None:
            rest = (((values - mean) * cells.inside) ** 2).sum((1, 2))
            number = cells.inside.sum() - gradient[0].numel()
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
