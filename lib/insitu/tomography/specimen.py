"""A specimen that changes: what a generator draws of it, and what each tilt has of its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insitu.tomography.prior import Generator, Shape
from insitu.tomography.series import TiltSeries


class About(NamedTuple):
    """A series as tensors; what a tilt held back has of its own is its neighbours' mean."""

    angles: Tensor  # (tilts,) [degrees]
    shares: Tensor  # (tilts,) times from 0 to 1
    near: Tensor  # (tilts, tilts), rows of weights


def about(series: TiltSeries, held: NDArray[np.int64], device: torch.device) -> About:
    """Put a series of which some tilts are held back on a device."""
    count = len(series.angles)
    used = np.setdiff1d(np.arange(count), held)
    near = np.stack(
        [np.interp(series.share, series.share[used], row) for row in np.eye(len(used))], 1
    )
    full = np.zeros((count, count), np.float32)
    full[:, used] = near
    return About(
        torch.tensor(series.angles, dtype=torch.float32, device=device),
        torch.tensor(series.share, device=device),
        torch.tensor(full, device=device),
    )


class Specimen(nn.Module):
    """A generator, and what each tilt may have of its own: brightness, size and place.

    Parameters
    ----------
    series : TiltSeries
        Its times and its size.
    shape : Shape
        Of the generator.
    gains, sizes, shifts : bool
        Fit a brightness a tilt, and a size a tilt, both of which the specimen's volumes have, too;
        fit the place of the tilt axis on the detector a tilt.
    offset : float
        Of the tilt axis from the middle of the detector [pixels].
    """

    def __init__(
        self,
        series: TiltSeries,
        shape: Shape,
        *,
        gains: bool,
        shifts: bool,
        offset: float,
        sizes: bool = False,
    ) -> None:
        super().__init__()
        count, depth, size = series.projections.shape
        self.generator = Generator(size, depth, shape)
        self.offset = offset
        self.gains = nn.Parameter(torch.zeros(1, count)) if gains else None
        self.sizes = nn.Parameter(torch.zeros(1, count)) if sizes else None
        self.shifts = nn.Parameter(torch.zeros(1, count)) if shifts else None

    def slices(self, block: Tensor, tilt: Tensor, known: About) -> Tensor:
        """Slices (n, together, y, x) of blocks at tilts, without their gains and sizes."""
        drawn: Tensor = self.generator(block, known.shares[tilt], known.angles[tilt])
        return drawn

    def forward(self, block: Tensor, tilt: Tensor, known: About) -> tuple[Tensor, Tensor]:
        """Slices (n, together, y, x) of blocks at tilts, without and with gains and sizes."""
        drawn = u = self.slices(block, tilt, known)
        near = known.near[tilt]
        if self.gains is not None:
            u = u * torch.exp(5 * near @ self.gains[0])[:, None, None, None]
        if self.sizes is not None:
            smaller = torch.exp(-10 * near @ self.sizes[0])[:, None, None]
            square = torch.eye(2, 3, device=smaller.device) * smaller
            u = functional.grid_sample(
                u,
                functional.affine_grid(square, list(u.shape), align_corners=False),
                align_corners=False,
            )
        return drawn, u

    def places(self, near: Tensor) -> Tensor:
        """Place of the tilt axis at weighted tilts, (n, tilts) to (n,) [pixels]."""
        if self.shifts is None:
            return torch.full((len(near),), self.offset, device=near.device)
        return self.offset + near @ (self.shifts[0] - self.shifts.mean())
