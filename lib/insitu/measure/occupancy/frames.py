"""Columns as they look in the frame of their crystal, and the network that counts their atoms so.

Where the crystal is known, every column can be looked at in the same position: a window around it,
turned into the cell's axes. What all columns have in common, the mean window of the cations and of
the anions, tells thickness and lens, near a column and over the image; what is different about a
column tells how many atoms it lacks. No turn, place or species is left to be learned.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from insitu.measure.occupancy.network import CONDITIONS, MOST, PIXEL

WINDOW, STEP = 13, 0.4  # samples along a side of a window, and their distance [A]
AROUND = 6.0  # standard deviation of what is near a column [A]
NOISE = 0.16  # area of a sample [A^2]


class Looks(NamedTuple):
    """Sites of images, padded to equal numbers."""

    windows: Tensor  # (n, sites, 169) counts over the image's mean, less one
    weight: Tensor  # (n, sites) 0 to 1: how much of a column; 0 where there is padding
    cation: Tensor  # (n, sites) bool
    places: Tensor  # (n, sites, 2) y and x [A]
    zone: Tensor  # (n,) 1 for [110], 0 for [100]
    dose: Tensor  # (n,) [e-/A^2]


class Told(NamedTuple):
    """What the network says of sites, and of the image."""

    atoms: Tensor  # (n, sites, 12) logits of one atom more
    conditions: Tensor  # (n, 3) in UNITS
    spread: Tensor  # (n, 3) logarithm of their standard deviations
    inside: Tensor  # (n,) logit of lens and tilt being like those that were taught
    fits: Tensor  # (n,) logit of the sites being where they are said to be


class ColumnCounter(nn.Module):
    """Counts atoms at the sites of a crystal: three layers for the image, three for each site.

    Parameters
    ----------
    image, column : int
        Channels of the layers of the image, and of a site.
    """

    def __init__(self, image: int = 384, column: int = 384) -> None:
        super().__init__()
        self.options = {"image": image, "column": column}
        size = WINDOW**2
        self.whole = nn.Sequential(
            nn.Linear(4 * size + 2, image),
            nn.ReLU(),
            nn.Linear(image, image),
            nn.ReLU(),
            nn.Linear(image, image),
        )
        self.told = nn.Linear(image, 2 * len(CONDITIONS) + 2)
        self.site = nn.Sequential(
            nn.Linear(3 * size + image + 3, column),
            nn.ReLU(),
            nn.Linear(column, column),
            nn.ReLU(),
            nn.Linear(column, column),
            nn.ReLU(),
        )
        self.last = nn.Linear(column, MOST)

    def forward(self, looks: Looks, asked: Tensor | None = None) -> Told:
        """Look at the sites of images; at all, or at those with the numbers asked (n, k)."""
        kinds = torch.stack([looks.cation, ~looks.cation], 1) * looks.weight[:, None]
        share = kinds / kinds.sum(2, keepdim=True).clamp(min=1)
        common = torch.einsum("nks,nsw->nkw", share, looks.windows)
        away = looks.windows[:, None] - common[:, :, None]
        varied = torch.einsum("nks,nksw->nkw", share, away.square()).add(1e-6).sqrt()
        flags = torch.stack([looks.zone, looks.dose.log10() - 2.5], 1)
        seen = torch.cat([5 * common.flatten(1), 2 * varied.flatten(1), flags], 1)
        image = functional.relu(self.whole(seen))
        windows, places, cation = looks.windows, looks.places, looks.cation
        if asked is not None:
            row = torch.arange(len(asked), device=asked.device)[:, None]
            windows, places, cation = windows[row, asked], places[row, asked], cation[row, asked]
        near = torch.exp(-0.5 * (torch.cdist(places, looks.places) / AROUND) ** 2)
        near = near[:, None] * kinds[:, :, None]
        near = near / near.sum(3, keepdim=True).clamp(min=0.5)
        around = torch.einsum("nkst,ntw->nskw", near, looks.windows).flatten(2)
        noise = (0.04 + 1 / (looks.dose * NOISE)).rsqrt()[:, None, None]
        wide = torch.cat([flags, image], 1)[:, None].expand(-1, windows.shape[1], -1)
        parts = [windows * noise, 5 * around, cation[..., None].to(windows), wide]
        atoms = self.last(self.site(torch.cat(parts, 2))).float()
        told = self.told(image).float()
        means, spreads = told[:, :-2].chunk(2, 1)
        return Told(atoms, means, spreads.clamp(-4, 2), told[:, -2], told[:, -1])


def windows_at(image: Tensor, places: Tensor, vectors: Tensor) -> Tensor:
    """Windows (n, sites, 169) of images (n, y, x) in pixels of 0.2 A, in the crystals' axes.

    Parameters
    ----------
    image : (n, y, x) tensor
        Counts over their mean, less one.
    places : (n, sites, 2) tensor
        Middles of the windows, y and x from the middle of pixel (0, 0) [A].
    vectors : (n, 2, 2) tensor
        Sides of the cells, rows, y and x [A].
    """
    smooth = functional.avg_pool2d(functional.pad(image[:, None], (1, 0, 1, 0), "replicate"), 2, 1)
    axes = vectors / vectors.norm(dim=2, keepdim=True)
    half = (WINDOW - 1) / 2
    ticks = (torch.arange(WINDOW) - half).to(image) * STEP
    grid = torch.stack(torch.meshgrid(ticks, ticks, indexing="ij"), -1).reshape(-1, 2)
    offsets = grid @ axes  # (n, 169, 2)
    at = (places[:, :, None] + offsets[:, None]) / PIXEL + 0.5  # of the smoothed pixels
    size = torch.tensor(smooth.shape[2:]).to(at)
    scaled = (2 * at + 1) / size - 1
    found = functional.grid_sample(
        smooth, scaled.flip(-1), mode="bilinear", padding_mode="border", align_corners=False
    )
    return found[:, 0]
