"""Parallel-beam projection about the z axis, and its exact adjoint.

Slices are (y, x). At the tilt angle 0 the beam runs along y. With s = x cos a + y sin a, all
measured from the middle of the slice, the projection at the angle a is the line integral

    p(s) = integral u(s cos a - l sin a, s sin a + l cos a) dl,

in units of the slice's values times pixels. What lies outside of the largest disc within the
slice is not measured at every angle, and belongs to no reconstruction (`disc`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

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
    across = _across(size).to(slices)
    s = across.reshape(1, 1, -1)
    if shifts is not None:
        s = s - shifts.to(slices.dtype).reshape(-1, 1, 1)
    along = across.reshape(1, -1, 1)
    cosine, sine = torch.cos(radians), torch.sin(radians)
    grid = torch.stack((s * cosine - along * sine, s * sine + along * cosine), -1) * (2 / size)
    turned = functional.grid_sample(slices, grid, align_corners=False)
    return turned.sum(-2)


def disc(size: int) -> Tensor:
    """Return 1 inside the largest disc within a slice of `size` x `size` pixels, 0 outside."""
    across = _across(size)
    return (torch.hypot(across[:, None], across[None]) <= size / 2).float()


def _across(size: int) -> Tensor:
    return torch.arange(size) - (size - 1) / 2


class Projector:
    """The projection of volumes as an operator A, with its exact adjoint A.T.

    Along each ray, a slice is interpolated linearly where the ray crosses the rows, or the
    columns, whichever it crosses more steeply {cite}`joseph1982`. It shares no code with `project`.

    Parameters
    ----------
    angles : array_like
        (n,) [degrees].
    size : int
        Rows and columns of a slice, and pixels of the detector.
    shifts : array_like, optional
        (n,) as in `project` [pixels].

    Examples
    --------
    >>> A = Projector([0.0, 45.0, -70.0], 16)
    >>> rng = np.random.default_rng(0)
    >>> volume, p = rng.random((5, 16, 16)), rng.random((3, 5, 16))
    >>> A(volume).shape, A.T(p).shape
    ((3, 5, 16), (5, 16, 16))
    >>> bool(np.isclose(np.vdot(A(volume), p), np.vdot(volume, A.T(p))))
    True
    """

    def __init__(self, angles: ArrayLike, size: int, *, shifts: ArrayLike | None = None) -> None:
        self.angles = np.atleast_1d(np.asarray(angles, dtype=float))
        self.size = size
        offsets = np.zeros(len(self.angles)) if shifts is None else np.asarray(shifts, dtype=float)
        self._forward = _joseph(self.angles, size, offsets)

    def __call__(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Project a volume (z, y, x) at every angle: (n, z, s)."""
        slices = volume.reshape(len(volume), -1).T  # (y x, z)
        seen = (self._forward @ slices).reshape(len(self.angles), self.size, -1)
        return seen.transpose(0, 2, 1)

    def T(self, projections: NDArray[Any]) -> NDArray[Any]:
        """Smear projections (n, z, s) back over a volume (z, y, x)."""
        _, depth, size = projections.shape
        rays = projections.transpose(0, 2, 1).reshape(-1, depth)  # (n s, z)
        return (self._back @ rays).T.reshape(depth, size, size)

    @cached_property
    def _back(self) -> sparse.csr_array:
        return self._forward.T.tocsr()


def _joseph(
    angles: NDArray[np.float64], size: int, offsets: NDArray[np.float64]
) -> sparse.csr_array:
    """(n * size, size * size) in float32; times raveled slices it gives raveled projections."""
    middle = (size - 1) / 2
    line = np.arange(size) - middle
    entries: list[tuple[NDArray[Any], ...]] = []
    for number, (angle, offset) in enumerate(zip(np.deg2rad(angles), offsets, strict=True)):
        cosine, sine = np.cos(angle), np.sin(angle)
        steep = abs(cosine) >= abs(sine)  # crosses every row; otherwise every column
        s, across = np.meshgrid(line - offset, line, indexing="ij")
        place = (s - across * sine) / cosine if steep else (s - across * cosine) / sine
        place += middle
        low = np.floor(place).astype(np.int64)
        step = 1 / max(abs(cosine), abs(sine))
        ray, other = np.indices(s.shape)
        for index, weight in ((low, low + 1 - place), (low + 1, place - low)):
            inside = (index >= 0) & (index < size)
            pixel = other * size + index if steep else index * size + other
            entries.append((weight[inside] * step, number * size + ray[inside], pixel[inside]))
    weights, rays, pixels = (np.concatenate([e[k] for e in entries]) for k in range(3))
    shape = (len(angles) * size, size * size)
    return sparse.csr_array((weights.astype(np.float32), (rays, pixels)), shape=shape)
