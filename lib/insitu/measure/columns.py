"""Where atomic columns are and how many electrons they hold, by maximum likelihood.

Gaussians on a local background, neighbours fitted together, with the standard errors of the joint
Fisher information [1]_. For a detector of the exponential family, P(k | m) = w_k theta^k / (k! Z),
as all detectors of `insitu.counting`, the score of a count k at the mean m is (k - m) I(m), and
I(m) = sum_k (dP(k | m) / dm)^2 / P(k | m) is the information of one pixel; Poisson's is 1 / m.
Fisher scoring solves J' I J step = J' I (k - m) [2]_, J being the slopes of the model.

.. [1] S. Van Aert et al., J. Struct. Biol. 138 (2002) 21.
.. [2] M. R. Osborne, Int. Stat. Rev. 60 (1992) 99.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntFlag
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from insitu import InputError, checks
from insitu.counting.detector import Detector
from insitu.counting.poisson import Poisson
from insitu.measure import joint
from insitu.measure.information import Information

Array = NDArray[np.float64]
FREEDOMS = ("width", "slope")
CELL = 1.5  # A around a column that are its own, at most
WIDTHS = 3.5  # widths that a Gaussian reaches into other cells
APART = 0.7  # A; nearer two starts are no two columns
BATCH = 4_000_000  # elements of the largest tensor, about


class Flag(IntFlag):
    """What is wrong with a column in a frame; several may be."""

    BORDER = 1  # its cell is cut by the edge of the frame
    LOST = 2  # the frame is blank, or the column outside: no numbers
    RAN_AWAY = 4  # it left its place, its width or the sign of its start; numbers of the last step
    UNSETTLED = 8  # the steps did not end
    SATURATED = 16  # a pixel expects more than the detector can give
    FAINT = 32  # its place is not known to within its own reach: less than two standard errors


class Fit(NamedTuple):
    """Columns (n) of frames (t), each with its standard error; NaN only where a flag says why."""

    position: Array  # (t, n, 2), y and x [A] from the middle of pixel (0, 0)
    position_error: Array
    intensity: Array  # (t, n) volume of the Gaussian, in the sum of pixels [e-]; negative if dark
    intensity_error: Array
    width: Array  # (t, n) standard deviation of the Gaussian [A]
    width_error: Array  # 0 where it was held
    background: Array  # (t, n) below the column's start [e-/px]
    background_error: Array
    flag: NDArray[np.uint8]  # (t, n) sum of `Flag`, 0 for a good fit

    @property
    def good(self) -> NDArray[np.bool_]:
        """Where nothing is wrong, (t, n)."""
        return np.asarray(self.flag == 0)


def fit_columns(
    frames: ArrayLike | Tensor,
    start: ArrayLike,
    pixel_size: float,
    detector: Detector | None = Poisson(),  # noqa: B008, it has no state
    *,
    free: Collection[str] = FREEDOMS,
    width: ArrayLike = 0.45,
    dark: bool = False,
    reach: float = 0.8,
    steps: int = 40,
) -> Fit:
    """Fit Gaussian columns to all frames by maximum likelihood, neighbours jointly.

    The expected value of a pixel, at its middle, is the background of the nearest column, which
    may be inclined, and the sum of all Gaussians. A blob that is integrated over pixels of edge p
    instead reads as one of the width sqrt(s^2 + p^2 / 12). A good fit is no evidence of a column:
    noise has blobs, too; `insitu.trust.likelihood.supported` asks that.

    Parameters
    ----------
    frames : (t, y, x) or (y, x) array or tensor
        Counts, or a denoised movie [e-/px]. A tensor is fitted on its device.
    start : (n, 2) or (t, n, 2) array
        y and x from where to start, within half of a width or so [A].
    pixel_size : float
        [A].
    detector : Detector or None
        Whose likelihood is maximised: Poisson's by default, which of a denoised movie is a
        quasi-likelihood. None: least squares; errors then follow from the residuals of the frame.
    free : collection of str
        What is fitted besides position, intensity and level of the background: "width" and
        "slope" of the background. Single frames with few electrons carry neither.
    width : float, (n,) or (t, n) array
        Widths to start from, or to keep [A].
    dark : bool
        Columns are darker than what is around them.
    reach : float
        A column that moves farther from its start ran away [A].
    steps : int
        At most.

    Returns
    -------
    Fit
        Arrays of the shape (t, n), t = 1 for one image.

    Raises
    ------
    InputError
        If a shape does not fit, a value is NaN in a frame that is not all NaN, a count is
        negative under a detector, or two starts are nearer than 0.7 A.

    Examples
    --------
    Two columns 2 A apart, of 900 electrons:

    >>> y, x = np.mgrid[:40, :48] * 0.24
    >>> places = [(4.8, 4.75), (4.8, 6.75)]
    >>> blobs = [np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * 0.45**2)) for a, b in places]
    >>> clean = 2 + 900 * 0.24**2 / (2 * np.pi * 0.45**2) * sum(blobs)
    >>> counts = np.random.default_rng(0).poisson(clean, (20, 40, 48))
    >>> fit = fit_columns(counts, [(4.7, 4.8), (4.9, 6.6)], 0.24)
    >>> fit.position.mean(0).round(1)
    array([[4.8, 4.7],
           [4.8, 6.7]])
    >>> bool(fit.good.all()), bool((fit.position_error < 0.06).all())
    (True, True)
    """
    movie = _movie(frames, detector)
    t, shape = len(movie), (movie.shape[1], movie.shape[2])
    checks.positive("pixel_size", pixel_size, "A")
    for name in free:
        checks.one_of("free", name, FREEDOMS)
    names = {"width": (joint.WIDTH,), "slope": (joint.SLOPE_Y, joint.SLOPE_X)}
    held = {q for name in names if name not in free for q in names[name]}
    fitted = [q for q in range(joint.PARAMETERS) if q not in held]
    starts = _starts(start, t)
    n = starts.shape[1]
    widths = np.broadcast_to(np.asarray(width, np.float64), (t, n))
    if not ((widths > 0.3 * pixel_size) & (widths < 3)).all():
        raise InputError(
            f"width: got {widths.min():g} to {widths.max():g} A, allowed is 0.3 pixels to 3 A"
        )
    numbers = np.full((2, t, n, joint.PARAMETERS), np.nan)
    flag = np.full((t, n), Flag.LOST, np.uint8)
    lost = movie.amax((1, 2)) == movie.amin((1, 2))
    lost |= movie.isnan().all(2).all(1)
    usable = np.flatnonzero(~lost.cpu().numpy())
    limit = (np.array(shape) - 1) * pixel_size
    order = _groups(starts, usable)
    information = Information(detector, float(movie[~lost].max()) if len(usable) else 1.0)
    for group in order:
        places = starts[group[0]]
        seen = np.flatnonzero(((places >= 0) & (places <= limit)).all(1))
        if not len(seen):
            continue
        cells = joint.make_cells(
            places[seen],
            shape,
            pixel_size,
            radius=CELL,
            reach=WIDTHS * float(widths[group].max()),
            free=fitted,
            like=movie,
        )
        edge = np.minimum(places[seen], limit - places[seen]).min(1) < 2 * widths[group[0], seen]
        many = max(1, BATCH // (cells.place.numel() + cells.place.shape[1] * cells.pixels.numel()))
        for part in np.split(group, range(many, len(group), many)):
            task = _Task(cells, information, -1.0 if dark else 1.0, reach, steps)
            values = movie[torch.as_tensor(part, device=movie.device)].flatten(1)[:, cells.pixels]
            found, error, wrong = task.run(values, widths[np.ix_(part, seen)])
            for which, result in enumerate((found, error)):
                numbers[(which, *np.ix_(part, seen))] = result
            flag[np.ix_(part, seen)] = wrong | (edge * Flag.BORDER)
    value, error = numbers
    value[..., joint.WIDTH] = np.exp(value[..., joint.WIDTH])
    error[..., joint.WIDTH] *= value[..., joint.WIDTH]
    y_x, *others = [joint.Y, joint.X], joint.INTENSITY, joint.WIDTH, joint.BACKGROUND
    columns = [part for q in (y_x, *others) for part in (value[..., q], error[..., q])]
    return Fit(*columns, flag)


class _Task:
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
        numbers = (q.cpu().numpy() for q in (theta.double(), error.double()))
        return *numbers, flag.to(torch.uint8).cpu().numpy()


def _movie(frames: ArrayLike | Tensor, detector: Detector | None) -> Tensor:
    values = frames if isinstance(frames, Tensor) else torch.as_tensor(np.asarray(frames))
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or not min(values.shape):
        raise InputError(f"frames: expected an image or a movie, got the shape {values.shape}")
    values = values.to(torch.float64) if values.device.type != "mps" else values.float()
    whole = values[~values.isnan().flatten(1).all(1)]
    if not torch.isfinite(whole).all():
        checks.finite("frames", whole.cpu().numpy())
    if detector is not None and whole.numel() and float(whole.min()) < 0:
        checks.not_negative("frames", whole.cpu().numpy())
    return values


def _starts(start: ArrayLike, t: int) -> Array:
    starts = np.asarray(start, np.float64)
    if starts.ndim not in (2, 3) or starts.shape[-1] != 2 or not starts.size:
        raise InputError(f"start: expected (columns, 2) places, got the shape {starts.shape}")
    if starts.ndim == 3 and len(starts) != t:
        raise InputError(f"start: places for {len(starts)} frames, but there are {t}")
    checks.finite("start", starts)
    for places in starts if starts.ndim == 3 else starts[None]:
        if cKDTree(places).query_pairs(APART):
            raise InputError(f"start: two places are nearer than {APART:g} A; join them")
    return np.broadcast_to(starts, (t, *starts.shape[-2:]))


def _groups(starts: Array, frames: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Frames that have the same starts."""
    if not len(frames):
        return []
    if starts.strides[0] == 0:
        return [frames]
    flat = starts[frames].reshape(len(frames), -1)
    _, which = np.unique(flat, axis=0, return_inverse=True)
    return [frames[which.ravel() == g] for g in range(which.max() + 1)]
