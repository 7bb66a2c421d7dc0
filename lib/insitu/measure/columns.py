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

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from insitu import InputError, checks
from insitu.counting.detector import Detector
from insitu.counting.poisson import Poisson
from insitu.measure import joint
from insitu.measure.scoring import Flag, Information, Scoring

Array = NDArray[np.float64]
Whole = NDArray[np.int64]
FREEDOMS = ("width", "slope")
CELL = 1.5  # A around a column that are its own, at most
WIDTHS = 3.5  # widths that a Gaussian reaches into other cells
APART = 0.7  # A; nearer two starts are no two columns
MANY = 4  # frames with the same starts, of which the mean is fitted first
BATCH = 2_000_000  # elements of the largest tensor, about


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
    flag: NDArray[np.uint8]  # (t, n) sum of `scoring.Flag`, 0 for a good fit

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
    free: Collection[str] = ("width",),
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
        What is fitted besides position, intensity and level of the background: "width", and
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
           [4.8, 6.8]])
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
        task, middle = Scoring(cells, information, -1.0 if dark else 1.0, reach, steps), None
        if len(group) >= MANY:
            mean = movie[torch.as_tensor(group, device=movie.device)].mean(0, keepdim=True)
            middle = task.middle(mean.flatten(1)[:, cells.pixels], widths[np.ix_(group[:1], seen)])

        def run(
            part: Whole, task: Scoring = task, seen: Whole = seen, middle: Tensor | None = middle
        ) -> tuple[Array, Array, NDArray[np.uint8]]:
            some = movie[torch.as_tensor(part, device=movie.device)].flatten(1)
            return task.run(some[:, task.cells.pixels], widths[np.ix_(part, seen)], middle)

        parts = np.split(group, range(many, len(group), many))
        with _workers(movie.device, len(parts)) as each:
            for part, (found, error, wrong) in zip(parts, each(run, parts), strict=True):
                numbers[0][np.ix_(part, seen)], numbers[1][np.ix_(part, seen)] = found, error
                flag[np.ix_(part, seen)] = wrong | (edge * Flag.BORDER)
    value, error = numbers
    value[..., joint.WIDTH] = np.exp(value[..., joint.WIDTH])
    error[..., joint.WIDTH] *= value[..., joint.WIDTH]
    return Fit(
        value[..., : joint.INTENSITY],
        error[..., : joint.INTENSITY],
        value[..., joint.INTENSITY],
        error[..., joint.INTENSITY],
        value[..., joint.WIDTH],
        error[..., joint.WIDTH],
        value[..., joint.BACKGROUND],
        error[..., joint.BACKGROUND],
        flag,
    )


@contextmanager
def _workers(device: torch.device, tasks: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """A map over tasks by threads; on small tensors torch's own share the cores less well."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or min(threads, tasks) == 1:
        yield map
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool.map
    finally:
        torch.set_num_threads(threads)


def _movie(frames: ArrayLike | Tensor, detector: Detector | None) -> Tensor:
    values = frames if isinstance(frames, Tensor) else torch.as_tensor(np.asarray(frames))
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or not min(values.shape):
        raise InputError(f"frames: expected an image or a movie, got the shape {values.shape}")
    values = values.float()  # positions to 1e-7 of the field: far below any error of counts
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
