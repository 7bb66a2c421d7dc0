"""What volumes of two metals tell: how much there is, how far they have mixed, how fast they do."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, optimize

from insitu import InputError
from insitu.tomography.phantoms import diffuse

Array = NDArray[np.float32]


def volume(intensity: Array) -> float:
    """Volume of the particle: voxels above half of the dimmer metal, which is 1."""
    return float((intensity > 0.5).sum())


def inside(intensity: Array, *, margin: int = 1) -> NDArray[np.bool_]:
    """Voxels of the particle, `margin` of them off its surface."""
    solid = ndimage.binary_fill_holes(intensity > 0.5)
    return ndimage.binary_erosion(solid, iterations=margin) if margin else solid


def gold_share(intensity: Array, *, contrast: float) -> Array:
    """Share of the brighter metal, from 0 to 1 where the particle is: (I - 1) / (contrast - 1)."""
    return ((intensity - 1) / np.float32(contrast - 1)).astype(np.float32)


def alloying_index(
    volumes: Array, region: NDArray[np.bool_], *, contrast: float
) -> NDArray[np.float64]:
    """One minus the segregation of each volume (t, z, y, x) in a region: 0 apart, 1 mixed; (t,).

    Danckwerts' intensity of segregation {cite}`danckwerts1952` is the variance of the share over
    its mean times one minus its mean.
    """
    shares = [gold_share(v, contrast=contrast)[region] for v in volumes]
    mean, variance = (np.array([of(s) for s in shares], float) for of in (np.mean, np.var))
    if mean.min() <= 0 or mean.max() >= 1:
        raise InputError(f"contrast: {contrast:g} makes shares of gold impossible; give another")
    return 1 - variance / (mean * (1 - mean))


def fitted_diffusivity(
    volumes: Array, times: ArrayLike, *, contrast: float, region: NDArray[np.bool_]
) -> tuple[float, float]:
    """Diffusivity with which the first volume, let diffuse, becomes the later ones.

    What is at the surface, where voxels are partly vacuum, is taken from next to it, and is not
    compared.

    Parameters
    ----------
    volumes : array
        (t, z, y, x).
    times : array_like
        (t,), rising.
    contrast : float
        Intensity of the brighter metal, that of the other is 1.
    region : array of bool
        (z, y, x), the particle; nothing leaves it.

    Returns
    -------
    diffusivity : float
        [pixels^2 per unit of time].
    misfit : float
        Root mean squared difference that is left, of shares.
    """
    times = np.asarray(times, dtype=float)
    inner = ndimage.binary_erosion(region)  # voxels at the surface are partly vacuum
    nearest = ndimage.distance_transform_edt(~inner, return_distances=False, return_indices=True)
    shares = [
        np.where(region, gold_share(v, contrast=contrast)[tuple(nearest)], 0) for v in volumes
    ]

    def misfit(logarithm: float) -> float:
        share, total = shares[0], 0.0
        for before, now, seen in zip(times[:-1], times[1:], shares[1:], strict=True):
            share = diffuse(share, region, float(np.exp(logarithm)) * (now - before))
            total += float(((share - seen)[inner] ** 2).mean())
        return total / (len(times) - 1)

    size = float(region.sum()) ** (2 / 3) / (times[-1] - times[0])
    best = optimize.minimize_scalar(
        misfit,
        bounds=(np.log(size * 1e-4), np.log(size * 0.3)),
        method="bounded",
        options={"xatol": 0.005},
    )
    return float(np.exp(best.x)), float(best.fun) ** 0.5
