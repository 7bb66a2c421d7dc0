"""Parallel-beam projection about the z axis, and its exact adjoint.

Slices are (y, x). At the tilt angle 0 the beam runs along y. With s = x cos a + y sin a, all
measured from the middle of the slice, the projection at the angle a is the line integral

    p(s) = integral u(s cos a - l sin a, s sin a + l cos a) dl,

in units of the slice's values times pixels. What lies outside of the largest disc within the
slice is not measured at every angle, and belongs to no reconstruction (`disc`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from torch import Tensor
from torch.nn import functional


def project(slices: Tensor, angles: Tensor, *, shifts: Tensor | None = None) -> Tensor:
    """Project stacks of slices, each stack at its own angle, by turning them and summing.

    Parameters
    ----------
    slices : Tensor
        (n, z, y, x), with y = x.
    angles : Tensor
        (n,) [degrees].
    shifts : Tensor, optional
        (n,) by how much the projection lies off the middle of the detector [pixels].

    Returns
    -------
    Tensor
        (n, z, s), as many detector pixels as the slices have columns. Differentiable by all
        three; linear in the slices, so that its gradient is the adjoint.
    """
    size = slices.shape[-1]
    radians = torch.deg2rad(angles.to(slices.dtype)).reshape(-1, 1, 1)
    across = _coordinates(size, slices)
    s = across.reshape(1, 1, -1)
    if shifts is not None:
        s = s - shifts.to(slices.dtype).reshape(-1, 1, 1)
    along = across.reshape(1, -1, 1)
    cosine, sine = torch.cos(radians), torch.sin(radians)
    grid = torch.stack((s * cosine - along * sine, s * sine + along * cosine), -1) * (2 / size)
    turned = functional.grid_sample(slices, grid, align_corners=False)
    return turned.sum(-2)


def back_project(projections: Tensor, angles: Tensor, *, shifts: Tensor | None = None) -> Tensor:
    """Smear projections back over slices: the adjoint of `project`.

    Parameters
    ----------
    projections : Tensor
        (n, z, s).
    angles, shifts : Tensor
        As in `project`.

    Returns
    -------
    Tensor
        (n, z, y, x), with y = x = s.
    """
    size = projections.shape[-1]
    slices = projections.new_zeros((*projections.shape, size), requires_grad=True)
    with torch.enable_grad():
        projected = project(slices, angles, shifts=shifts)
        (adjoint,) = torch.autograd.grad(projected, slices, projections)
    return adjoint


def disc(size: int) -> Tensor:
    """Return 1 inside the largest disc within a slice of `size` x `size` pixels, 0 outside."""
    across = torch.arange(size) - (size - 1) / 2
    return (torch.hypot(across[:, None], across[None]) <= size / 2).float()


def _coordinates(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, dtype=like.dtype, device=like.device) - (size - 1) / 2


def joseph(angles: ArrayLike, size: int, *, shifts: ArrayLike | None = None) -> sparse.csr_array:
    """Projection as a sparse matrix, after Joseph {cite}`joseph1982`.

    Along each ray, the slice is interpolated linearly where the ray crosses the rows, or the
    columns, whichever it crosses more steeply. It shares no code with `project`.

    Parameters
    ----------
    angles : array_like
        (n,) [degrees].
    size : int
        Rows and columns of the slice, and pixels of the detector.
    shifts : array_like, optional
        (n,) as in `project` [pixels].

    Returns
    -------
    csr_array
        (n * size, size * size) in float32; times a raveled slice it gives raveled projections.
    """
    angles = np.atleast_1d(np.asarray(angles, dtype=float))
    offsets = np.zeros(len(angles)) if shifts is None else np.asarray(shifts, dtype=float)
    middle = (size - 1) / 2
    line = np.arange(size) - middle
    entries: list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]] = []
    for number, (angle, offset) in enumerate(zip(np.deg2rad(angles), offsets, strict=True)):
        cosine, sine = np.cos(angle), np.sin(angle)
        steep = abs(cosine) >= abs(sine)  # crosses every row; otherwise every column
        s, across = np.meshgrid(line - offset, line, indexing="ij")
        place = (s - across * sine) / cosine if steep else (s - across * cosine) / sine
        place = place + middle
        low = np.floor(place).astype(np.int64)
        step = 1 / max(abs(cosine), abs(sine))
        ray = number * size + np.broadcast_to(np.arange(size)[:, None], s.shape)
        other = np.broadcast_to(np.arange(size)[None], s.shape)
        for index, weight in ((low, low + 1 - place), (low + 1, place - low)):
            inside = (index >= 0) & (index < size)
            pixel = other * size + index if steep else index * size + other
            entries.append((weight[inside] * step, ray[inside], pixel[inside]))
    weights, rays, pixels = (np.concatenate([e[k] for e in entries]) for k in range(3))
    shape = (len(angles) * size, size * size)
    return sparse.csr_array(
        sparse.coo_array((weights.astype(np.float32), (rays, pixels)), shape=shape)
    )
