"""Reconstruction without a network: of a specimen at rest, in moving windows, of low rank.

Volumes are (z, y, x), projections (tilt, z, s). Slices do not know of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.tomography.projection import Projector
from insitu.tomography.series import TiltSeries

Array = NDArray[np.float32]
Method = Callable[[Projector, Array], Array]


def sirt(A: Projector, projections: Array, iterations: int = 50) -> Array:
    """Simultaneous iterations, u += C A^T R (p - A u), kept at 0 or above {cite}`gilbert1972`.

    R and C hold one over the sums of the rows and of the columns of A.

    Parameters
    ----------
    A : Projector
        At the angles of the projections.
    projections : array
        p (tilt, z, s).
    iterations : int
        More of them fit details, and noise.

    Returns
    -------
    array
        u (z, y, x).

    Examples
    --------
    >>> A = Projector(np.arange(-80, 80, 10), 16)
    >>> volume = np.zeros((1, 16, 16), np.float32)
    >>> volume[0, 5:9, 6:11] = 1.0
    >>> found = sirt(A, A(volume), 100)
    >>> bool(np.linalg.norm(found - volume) < 0.2 * np.linalg.norm(volume))
    True
    """
    rows, columns = (_inverse(sums) for sums in _sums(A))
    u = np.zeros((projections.shape[1], A.size, A.size), np.float32)
    for _ in range(iterations):
        u += columns * A.T(rows * (projections - A(u)))
        np.maximum(u, 0, out=u)
    return u


def total_variation(
    A: Projector, projections: Array, strength: float, iterations: int = 100
) -> Array:
    """Even patches: min |A u - p|^2 / 2 + strength TV(u) with u >= 0, by primal and dual steps.

    The steps are scaled by the sums of rows and columns {cite}`pock2011`. Parameters and result
    are those of `sirt`.
    """
    rows, columns = _sums(A)
    dual_step, step = _inverse(rows), 1 / (columns + 4)
    u = np.zeros((projections.shape[1], A.size, A.size), np.float32)
    ahead = u.copy()
    data: NDArray[Any] = np.zeros_like(projections)
    edges: NDArray[Any] = np.zeros((2, *u.shape), np.float32)
    for _ in range(iterations):
        data = (data + dual_step * (A(ahead) - projections)) / (1 + dual_step)
        edges[0, :, :-1] += 0.5 * np.diff(ahead, axis=1)
        edges[1, :, :, :-1] += 0.5 * np.diff(ahead, axis=2)
        edges /= np.maximum(1, np.sqrt((edges**2).sum(0)) / strength)
        divergence = -np.diff(edges[0], axis=1, prepend=0) - np.diff(edges[1], axis=2, prepend=0)
        before = u
        u = np.maximum(u - step * (A.T(data) + divergence), 0)
        ahead = 2 * u - before
    return u


def moving_window(
    series: TiltSeries,
    method: Method,
    *,
    reach: int,
    tilts: Sequence[int] | None = None,
    offset: float = 0.0,
) -> Array:
    """Reconstruct each moment from the `reach` tilts before it and after it.

    Parameters
    ----------
    series : TiltSeries
        Its tilts in the order of their times.
    method : callable
        (A, projections) to a volume, such as `sirt`, or a `partial` of it.
    reach : int
        Tilts on each side.
    tilts : sequence of int, optional
        Whose moments to reconstruct, all by default.
    offset : float
        Of the tilt axis from the middle of the detector [pixels].

    Returns
    -------
    array
        (t, z, y, x).
    """
    volumes = []
    for middle in range(len(series.angles)) if tilts is None else tilts:
        window = slice(max(0, middle - reach), middle + reach + 1)
        projections, angles = series.projections[window], series.angles[window]
        A = Projector(angles, projections.shape[2], shifts=np.full(len(angles), offset))
        volumes.append(method(A, projections))
    return np.stack(volumes)


def low_rank(series: TiltSeries, *, rank: int, iterations: int = 20, rounds: int = 3) -> Array:
    """Slices that are a sum of `rank` pictures, each with a course of its own in time.

    Pictures and courses take turns (partial separability {cite}`liang2007`): the pictures by
    conjugate gradients, stopped early; then the courses, which must be smooth, by least squares.
    They begin as cosines. Values below 0 are cut at the end.

    Parameters
    ----------
    series : TiltSeries
        What was recorded.
    rank : int
        Number of pictures.
    iterations : int
        Of the conjugate gradients.
    rounds : int
        How often the courses are fitted; 0 leaves them cosines.

    Returns
    -------
    array
        (t, z, y, x).
    """
    p, times = series.projections, series.times
    count, depth, size = p.shape
    share = (times - times[0]) / (times[-1] - times[0])
    courses = np.cos(np.pi * np.arange(rank)[:, None] * share).astype(np.float32)
    operators = [Projector(angle, size) for angle in series.angles]

    def forward(pictures: Array) -> Array:  # (rank, z, y, x) to (t, z, s)
        mixed = (np.tensordot(courses[:, t], pictures, 1) for t in range(count))
        return np.concatenate([A(u) for A, u in zip(operators, mixed, strict=True)])

    def back(residual: Array) -> Array:
        result = np.zeros((rank, depth, size, size), np.float32)
        for t, A in enumerate(operators):
            result += courses[:, t, None, None, None] * A.T(residual[t : t + 1])
        return result

    pictures = _conjugate_gradients(forward, back, p, iterations)
    for _ in range(rounds):
        flat = pictures.reshape(rank * depth, size, size)
        seen = np.concatenate([A(flat) for A in operators]).reshape(count, rank, -1)
        courses = _smooth_courses(seen.astype(np.float64), p.reshape(count, -1))
        pictures = _conjugate_gradients(forward, back, p, iterations)
    return np.maximum(np.tensordot(courses, pictures, (0, 0)), 0)


def _smooth_courses(seen: NDArray[np.float64], measured: Array, smooth: float = 1e-3) -> Array:
    """Solve for all courses (rank, t) together, of which each projection is a mixture."""
    count, rank, _ = seen.shape
    rough = np.diff(np.eye(count), 2, axis=0)
    rough = rough.T @ rough
    gram = np.einsum("tkn,tln->tkl", seen, seen)
    right = np.einsum("tkn,tn->kt", seen, measured)
    system = np.einsum("tkl,tu->ktlu", gram, np.eye(count))
    for k in range(rank):
        system[k, :, k] += smooth * count**3 * gram[:, k, k].mean() * rough
    flat = system.reshape(rank * count, -1)
    flat += 1e-6 * np.trace(flat) / len(flat) * np.eye(len(flat))
    courses = np.linalg.solve(flat, right.ravel()).reshape(rank, count)
    return np.linalg.qr(courses.T)[0].T.astype(np.float32) * np.float32(count**0.5)


def _conjugate_gradients(
    forward: Callable[[Array], Array],
    back: Callable[[Array], Array],
    projections: Array,
    iterations: int,
) -> Array:
    """Least squares by the normal equations, from 0."""
    residual = projections.astype(np.float32)
    gradient = back(residual)
    u, direction = np.zeros_like(gradient), gradient
    size = float((gradient**2).sum())
    for _ in range(iterations):
        if size == 0:
            break
        seen = forward(direction)
        step = np.float32(size / float((seen.astype(np.float64) ** 2).sum()))
        u += step * direction
        residual = residual - step * seen
        gradient = back(residual)
        now = float((gradient**2).sum())
        direction = gradient + np.float32(now / size) * direction
        size = now
    return u


def _sums(A: Projector) -> tuple[Array, Array]:
    """Sums of the rows of A, (n, 1, s), and of its columns, (1, y, x)."""
    rows = A(np.ones((1, A.size, A.size), np.float32))
    return rows, A.T(np.ones_like(rows))


def _inverse(sums: Array) -> Array:
    """One over each sum, 0 where nothing is summed."""
    return np.divide(1, sums, out=np.zeros_like(sums), where=sums > 1e-6)
