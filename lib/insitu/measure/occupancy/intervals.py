"""Calibrated numbers of atoms: distributions of the right width, and intervals that hold 90 %.

Intervals are a number's mean and so many of its standard deviations on either side; how many is
found for bins of species, dose, thickness, defocus and occupancy, each of them by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insitu.measure.occupancy.network import MOST, log_occupancy

Array = NDArray[np.float64]

# edges of bins, in each of which intervals are calibrated: dose, thickness, defocus, occupancy
DOSE_BINS, THICKNESS_BINS, DEFOCUS_BINS, SHARE_BINS = (60, 200, 600), (5.5, 8.5), (-75, -25), (0.8,)
LEAST = 0.05  # standard deviation that is taken at least, of a number of atoms


@dataclass(frozen=True)
class Calibration:
    """What slabs that they never learned from said of the networks."""

    classes: float = 1.0  # temperature of the classes of pixels
    atoms: tuple[float, float] = (1.0, 1.0)  # of the atoms in anions, and in cations
    quantiles: Mapping[str, float] = field(default_factory=dict)  # of a bin [standard deviations]
    inside: float = 0.0  # logits of `inside` and `fits` below which it abstains
    fits: float = 0.0

    def probability(self, atoms: Tensor, cation: NDArray[np.bool_]) -> Array:
        """Probabilities (n, 13) of 0 to 12 atoms of the logits (n, 12) of columns."""
        heat = torch.tensor(self.atoms)[torch.from_numpy(cation).long()]
        return np.asarray(log_occupancy(atoms / heat[:, None]).exp().numpy(), np.float64)

    def interval(
        self, probability: Array, cation: NDArray[np.bool_], dose: float, told: Array
    ) -> tuple[Array, Array]:
        """Limits of the 90 % intervals of columns of an image with these dose and conditions."""
        mean, deviation = moments_of(probability)
        width = deviation * self.widths(bins_of(mean, cation, dose, told))
        return np.maximum(mean - width, 0), np.minimum(mean + width, MOST)

    def widths(self, bins: list[str]) -> Array:
        """Half the width of the intervals in bins [standard deviations]."""
        known = self.quantiles
        return np.array([known.get(name, known.get(name.split()[0], 1.645)) for name in bins])


def moments_of(probability: Array) -> tuple[Array, Array]:
    """Mean and standard deviation, at least 0.05, of distributions (n, 13)."""
    atoms = np.arange(MOST + 1)
    mean = probability @ atoms
    variance = (probability * (atoms - mean[:, None]) ** 2).sum(1)
    return np.asarray(mean), np.sqrt(variance + LEAST**2)


def bins_of(mean: Array, cation: NDArray[np.bool_], dose: float, told: Array) -> list[str]:
    """The bin of each column: species, then the image's dose, thickness and defocus, and share.

    All of it is known without the truth: the thickness and the defocus are the network's own.

    >>> bins_of(np.array([4.9, 2.0]), np.array([True, False]), 120.0, np.array([-60.0, 1.0, 5.0]))
    ['cation 1 0 1 1', 'anion 1 0 1 0']
    """
    image = [
        int(np.searchsorted(edges, value))
        for edges, value in (
            (DOSE_BINS, dose),
            (THICKNESS_BINS, told[2]),
            (DEFOCUS_BINS, told[0]),
        )
    ]
    names = np.where(cation, "cation", "anion")
    share = np.searchsorted(SHARE_BINS, mean / max(float(told[2]), 1.0))
    return [f"{n} {' '.join(map(str, image))} {s}" for n, s in zip(names, share, strict=True)]
