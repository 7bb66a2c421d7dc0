"""Calibrated numbers of atoms: distributions of the right width, and intervals that hold 90 %.

Intervals are a number's mean and so many of its standard deviations on either side: a product of
one factor each for species, dose, thickness, defocus and occupancy, chosen so that in every bin of
each of them 90 % of the columns of other slabs were inside.
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
DIMENSIONS = ("species", "dose", "thickness", "defocus", "share")
LEAST = 0.05  # standard deviation that is taken at least, of a number of atoms


@dataclass(frozen=True)
class Calibration:
    """What slabs that they never learned from said of the networks."""

    classes: float = 1.0  # temperature of the classes of pixels
    atoms: tuple[float, float] = (1.0, 1.0)  # of the atoms in anions, and in cations
    factors: Mapping[str, float] = field(default_factory=dict)  # of the width, of every bin
    inside: float = 0.0  # logits of lens and tilt being like those taught below which it abstains
    fits: float = 0.0  # log-odds of the lattice, likewise
    evidence: tuple[float, ...] = (0.5, 0.5, 0.0, 0.0, 0.0)  # weights of what speaks for it

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

    def widths(self, bins: NDArray[np.int64]) -> Array:
        """Half the width of the intervals in bins (n, 5) [standard deviations]."""
        width = np.full(len(bins), 1.645)
        for dimension, column in zip(DIMENSIONS, bins.T, strict=True):
            width *= [self.factors.get(f"{dimension} {number}", 1.0) for number in column]
        return width


def moments_of(probability: Array) -> tuple[Array, Array]:
    """Mean and standard deviation, at least 0.05, of distributions (n, 13)."""
    atoms = np.arange(MOST + 1)
    mean = probability @ atoms
    variance = (probability * (atoms - mean[:, None]) ** 2).sum(1)
    return np.asarray(mean), np.sqrt(variance + LEAST**2)


def bins_of(mean: Array, cation: NDArray[np.bool_], dose: float, told: Array) -> NDArray[np.int64]:
    """Bins (n, 5) of columns in each of DIMENSIONS.

    All of it is known without the truth: the thickness and the defocus are the network's own.

    >>> bins_of(np.array([4.9, 2.0]), np.array([True, False]), 120.0, np.array([-60.0, 1.0, 5.0]))
    array([[1, 1, 0, 1, 1],
           [0, 1, 0, 1, 0]])
    """
    image = [
        int(np.searchsorted(edges, value))
        for edges, value in (
            (DOSE_BINS, dose),
            (THICKNESS_BINS, told[2]),
            (DEFOCUS_BINS, told[0]),
        )
    ]
    share = np.searchsorted(SHARE_BINS, mean / max(float(told[2]), 1.0))
    same = np.tile(image, (len(mean), 1))
    return np.column_stack([np.asarray(cation, np.int64), same, share])


def factors_of(score: Array, bins: NDArray[np.int64], *, coverage: float = 0.9) -> dict[str, float]:
    """Factors of the width with which the intervals cover in every bin of every dimension.

    Parameters
    ----------
    score : (n,) array
        Errors [standard deviations].
    bins : (n, 5) array
        As of `bins_of`.
    coverage : float
        Share that is to be inside.

    Notes
    -----
    In a bin of m columns the width is multiplied by the k-th smallest of the errors over it, with
    k = ceil((m + 1) coverage), as split-conformal prediction does within bins [1]_; one dimension
    after the other, until all hold (as raking fits a table to its margins). With one dimension
    that is Mondrian conformal prediction itself; with five, bins of the margins hold hundreds of
    columns where those of the product would hold the columns of one slab.

    .. [1] V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World (2005), ch. 4.
    """
    factors: dict[str, float] = {}
    left = score / 1.645
    for _ in range(30):
        for dimension, column in zip(DIMENSIONS, bins.T, strict=True):
            for number in np.unique(column):
                own = np.sort(left[column == number])
                rank = min(len(own), int(np.ceil((len(own) + 1) * coverage)))
                name, factor = f"{dimension} {number}", max(float(own[rank - 1]), 1e-3)
                factors[name] = factors.get(name, 1.0) * factor
                left[column == number] /= factor
    return factors
