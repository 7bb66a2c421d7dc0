"""Reconstruction without a network: of a specimen at rest, in moving windows, of low rank.

Everything here works on a system matrix A (rays, pixels) of `projection.joseph`, projections p
(rays, z) and slices u (pixels, z): slices do not know of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from insitu.tomography.projection import joseph

Array = NDArray[np.float32]
Method = Callable[[sparse.csr_array, Array], Array]


def fbp(angles: ArrayLike, projections: Array) -> Array:
    """Filtered back-projection of (t, z, s) at (t,) degrees: (z, y, x).

    The ramp is that of the sampled line integral, not of its continuous transform
    {cite}`kak1988`; unequal steps of the angle are weighted by their width.
    """
    angles = np.asarray(angles, dtype=float)
    count, _, size = projections.shape
    n = 2 * size
    lag = np.fft.fftfreq(n, 1 / n)
    kernel = np.where(lag % 2 == 1, -1 / (np.pi * np.where(lag == 0, 1, lag)) ** 2, 0.0)
    kernel[0] = 0.25
    ramp = np.fft.rfft(kernel).real
    filtered = np.fft.irfft(np.fft.rfft(projections, n, axis=2) * ramp, n, axis=2)[..., :size]
    order = np.argsort(angles)
    step = np.gradient(np.deg2rad(angles[order])) if count > 1 else np.ones(1)
    weights = np.empty(count)
    weights[order] = step
    rays = (filtered * weights[:, None, None]).transpose(0, 2, 1).reshape(count * size, -1)
    return _slices(joseph(angles, size).T @ rays.astype(np.float32), size)


def sirt(
    matrix: sparse.csr_array,
    projections: Array,
    *,
    iterations: int = 50,
    start: Array | None = None,
) -> Array:
    """Simultaneous iterations, u += C A^T R (p - A u), kept at 0 or above {cite}`gilbert1972`.

    R and C hold one over the sums of the rows and of the columns of A.
    """
    rows, columns = _inverse(matrix.sum(1)), _inverse(matrix.sum(0))
    u = _empty(matrix, projections) if start is None else start.copy()
    back = matrix.T.tocsr()
    for _ in range(iterations):
        u += columns * (back @ (rows * (projections - matrix @ u)))
        np.maximum(u, 0, out=u)
    return u


def cgls(matrix: sparse.csr_array, projections: Array, *, iterations: int = 15) -> Array:
    """Conjugate gradients for the least squares of A u - p, stopped early {cite}`bjorck1996`."""
    back = matrix.T.tocsr()
    return _conjugate(lambda u: matrix @ u, lambda p: back @ p, projections, iterations)


def em(matrix: sparse.csr_array, projections: Array, *, iterations: int = 30) -> Array:
    """Expectation maximisation for Poisson noise, u *= A^T(p / A u) / A^T 1 {cite}`shepp1982`."""
    back, weight = matrix.T.tocsr(), _inverse(matrix.sum(0))
    u = np.ones_like(_empty(matrix, projections))
    measured = np.maximum(projections, 0)
    for _ in range(iterations):
        u *= weight * (back @ (measured / np.maximum(matrix @ u, 1e-6)))
    return u


def tv(
    matrix: sparse.csr_array,
    projections: Array,
    *,
    strength: float,
    iterations: int = 100,
    start: Array | None = None,
) -> Array:
    """Total variation, min |A u - p|^2 / 2 + strength TV(u) with u >= 0, by primal and dual steps.

    The steps are scaled by the sums of rows and columns {cite}`pock2011`.
    """
    size = round(matrix.shape[1] ** 0.5)
    back = matrix.T.tocsr()
    dual_step = _inverse(matrix.sum(1))
    step = 1 / (np.asarray(matrix.sum(0), np.float32).reshape(-1, 1) + 4)
    u = _empty(matrix, projections) if start is None else start.copy()
    ahead = u.copy()
    data, edges = np.zeros_like(projections), np.zeros((2, size, size, u.shape[1]), np.float32)
    for _ in range(iterations):
        data = (data + dual_step * (matrix @ ahead - projections)) / (1 + dual_step)
        image = ahead.reshape(size, size, -1)
        edges[0, :-1] += 0.5 * np.diff(image, axis=0)
        edges[1, :, :-1] += 0.5 * np.diff(image, axis=1)
        edges /= np.maximum(1, np.sqrt((edges**2).sum(0)) / strength)
        divergence = -np.diff(edges[0], axis=0, prepend=0) - np.diff(edges[1], axis=1, prepend=0)
        before = u
        u = np.maximum(u - step * (back @ data + divergence.reshape(u.shape)), 0)
        ahead = 2 * u - before
    return u


def moving_window(
    angles: ArrayLike,
    projections: Array,
    times: ArrayLike,
    *,
    reach: int,
    method: Method,
    moments: ArrayLike | None = None,
) -> Array:
    """Reconstruct every moment from the `reach` projections before it and after it.

    Parameters
    ----------
    angles, times : array_like
        (t,) of the projections, times rising.
    projections : array
        (t, z, s).
    reach : int
        Projections on each side.
    method : callable
        (matrix, projections) to slices, such as `partial(sirt, iterations=50)`.
    moments : array_like, optional
        Times to reconstruct, all by default.

    Returns
    -------
    array
        (moments, z, y, x).
    """
    angles, times = np.asarray(angles, float), np.asarray(times, float)
    size = projections.shape[2]
    matrices = [joseph(a, size) for a in angles]
    volumes = []
    for moment in times if moments is None else np.asarray(moments, float):
        middle = int(np.argmin(abs(times - moment)))
        chosen = range(max(0, middle - reach), min(len(times), middle + reach + 1))
        matrix = sparse.csr_array(sparse.vstack([matrices[k] for k in chosen]))
        volumes.append(_slices(method(matrix, rays(projections[list(chosen)])), size))
    return np.stack(volumes)


def low_rank(
    angles: ArrayLike,
    projections: Array,
    times: ArrayLike,
    *,
    rank: int,
    iterations: int = 20,
    rounds: int = 3,
    smooth: float = 1e-3,
) -> Array:
    """Slices that are a sum of `rank` pictures, each with a course of its own in time.

    Pictures and courses take turns (partial separability {cite}`liang2007`): the pictures by
    conjugate gradients, stopped early; then the courses, which must be smooth, by least squares.
    They begin as cosines. Values below 0 are cut at the end.

    Returns
    -------
    array
        (t, z, y, x).
    """
    angles, times = np.asarray(angles, float), np.asarray(times, float)
    count, depth, size = projections.shape
    share = (times - times[0]) / max(times[-1] - times[0], 1e-9)
    courses = np.cos(np.pi * np.arange(rank)[:, None] * share).astype(np.float32)
    matrices = [joseph(a, size) for a in angles]
    transposed = [m.T.tocsr() for m in matrices]
    measured = projections.transpose(0, 2, 1)  # (t, s, z)
    rough = np.diff(np.eye(count), 2, axis=0)
    rough = rough.T @ rough
    pictures = np.zeros((size * size, rank * depth), np.float32)
    for turn in range(rounds + 1):
        pictures = _conjugate(
            partial(_mix_and_project, matrices, courses),
            partial(_project_back, transposed, courses),
            measured,
            iterations,
        )
        if turn == rounds:
            break
        # each projection is a mixture of the projected pictures: solve for all courses together
        projected = np.stack([m @ pictures for m in matrices]).reshape(count, size, rank, depth)
        seen = projected.transpose(0, 2, 1, 3).reshape(count, rank, -1).astype(np.float64)
        target = measured.reshape(count, -1)
        gram = np.einsum("tkn,tln->tkl", seen, seen)
        right = np.einsum("tkn,tn->kt", seen, target)
        system = np.zeros((rank, count, rank, count))
        for k in range(rank):
            weight = smooth * count**3 * gram[:, k, k].mean()
            system[k, :, k] += weight * rough
            for other in range(rank):
                system[k, :, other] += np.diag(gram[:, k, other])
        flat = system.reshape(rank * count, -1)
        flat += 1e-6 * np.trace(flat) / len(flat) * np.eye(len(flat))
        courses = np.linalg.solve(flat, right.ravel()).reshape(rank, count)
        courses = np.linalg.qr(courses.T)[0].T.astype(np.float32) * np.float32(count**0.5)
    stack = pictures.reshape(-1, rank, depth)
    volumes = [_slices(np.tensordot(courses[:, t], stack, (0, 1)), size) for t in range(count)]
    return np.maximum(np.stack(volumes), 0)


def rays(projections: Array) -> Array:
    """(t, z, s) as (rays, z)."""
    return np.ascontiguousarray(projections.transpose(0, 2, 1)).reshape(-1, projections.shape[1])


def _mix_and_project(matrices: list[sparse.csr_array], courses: Array, pictures: Array) -> Array:
    rank = len(courses)
    stack = pictures.reshape(len(pictures), rank, -1)
    return np.stack(
        [m @ np.tensordot(courses[:, t], stack, (0, 1)) for t, m in enumerate(matrices)]
    )


def _project_back(transposed: list[sparse.csr_array], courses: Array, residual: Array) -> Array:
    pixels, depth = transposed[0].shape[0], residual.shape[2]
    result = np.zeros((pixels, len(courses), depth), np.float32)
    for t, back in enumerate(transposed):
        result += courses[:, t][None, :, None] * (back @ residual[t])[:, None]
    return result.reshape(pixels, -1)


def _conjugate(
    forward: Callable[[Array], Array],
    back: Callable[[Array], Array],
    projections: Array,
    iterations: int,
) -> Array:
    """Conjugate gradients on the normal equations, from 0."""
    residual = projections.astype(np.float32)
    gradient = back(residual)
    u, direction = np.zeros_like(gradient), gradient.copy()
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


def _empty(matrix: sparse.csr_array, projections: Array) -> Array:
    return np.zeros((matrix.shape[1], projections.shape[1]), np.float32)


def _inverse(sums: Array) -> Array:
    """One over each sum, 0 where nothing is summed; a column."""
    sums = np.asarray(sums, np.float32).reshape(-1, 1)
    return np.divide(1, sums, out=np.zeros_like(sums), where=sums > 1e-6)


def _slices(u: Array, size: int) -> Array:
    return np.ascontiguousarray(u.T).reshape(-1, size, size)
