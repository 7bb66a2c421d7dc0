"""Error bars by region: where they are too short or too long, and factors that mend it.

An ensemble's error bars are right on average at best. A factor for each region, learned where the
truth is known, on other specimens than the one that is judged, mends that; it is split conformal
prediction {cite}`fontana2023`, group by group (Mondrian), and holds as far as specimens are alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from insitu.tomography.alloying import inside

Array = NDArray[np.float32]
REGIONS = ("inside", "surface shell", "core's edge", "core's edge, first tilt")
NORMAL = 0.6827  # share of normal errors within one standard deviation


def regions(volumes: Array, *, contrast: float) -> NDArray[np.int8]:
    """Region of each voxel at each time, told from what was found and not from the truth.

    The shell is what lies within two voxels of the surface. The core's edge is what lies below it
    and next to where half is gold; at the first tilt, before which nothing is known,
    it counts apart.

    Parameters
    ----------
    volumes : array
        (t, z, y, x); silver is 1.
    contrast : float
        Intensity of gold.

    Returns
    -------
    array of int8
        (t, z, y, x), number in `REGIONS`; -1 outside of the particle.
    """
    mean = volumes.mean(0)
    particle, deep = inside(mean, margin=0), inside(mean, margin=2)
    within = np.where(deep, 0, np.where(particle, 1, -1)).astype(np.int8)
    result = np.repeat(within[None], len(volumes), 0)
    for number, (volume, region) in enumerate(zip(volumes, result, strict=True)):
        core = (volume > 0.5 * (1 + contrast)) & deep
        near = ndimage.maximum_filter(core, 3) & ~ndimage.minimum_filter(core, 3) & deep
        region[near] = 2 if number else 3
    return result


def coverage(
    found: Array,
    bars: Array,
    truth: Array,
    region: NDArray[np.int8],
    *,
    factors: Sequence[float] = (1.0,) * len(REGIONS),
    deviations: float = 1.0,
) -> NDArray[np.float64]:
    """Share of the errors in each region that is within so many error bars times its factor.

    Parameters
    ----------
    found, bars, truth : array
        (t, z, y, x).
    region : array of int8
        Of `regions`.
    factors : sequence of float
        One a region.
    deviations : float
        How many error bars.

    Returns
    -------
    array
        (regions,); 0 for a region without voxels.
    """
    covered = np.zeros(len(factors))
    voxels = np.zeros(len(factors))
    for f, b, t, r in zip(found, bars, truth, region, strict=True):
        for number, factor in enumerate(factors):
            here = r == number
            covered[number] += (np.abs(f - t)[here] < deviations * factor * b[here]).sum()
            voxels[number] += here.sum()
    return covered / np.maximum(voxels, 1)


def learned_factors(
    found: Array, bars: Array, truth: Array, region: NDArray[np.int8]
) -> NDArray[np.float64]:
    """Factor of each region with which its error bars cover as many errors as normal ones do.

    Parameters
    ----------
    found, bars, truth, region : array
        As of `coverage`; every region has voxels.

    Returns
    -------
    array
        (regions,).
    """
    errors = np.abs(found - truth)
    ratios = (errors[here] / bars[here] for here in (region == n for n in range(len(REGIONS))))
    return np.array([np.quantile(ratio, NORMAL) for ratio in ratios])
