"""Where in a frame: vacuum, bulk, surface and support, found from the two movies themselves.

A mean over the frame hides the place that matters: of 256 x 256 pixels of a particle in vacuum a
twentieth belongs to its surface. Columns are looked for in the mean of the denoised frames and in
that of the raw ones, so that a column that a denoiser erased is judged as well.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from insitu.trust import columns

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
DISC = 1.3  # A around a column that are its own
HALO = 3.5  # A around a column beyond which is vacuum
WIDTH = 0.4  # of a column: standard deviation of a Gaussian [A]
FINE = 0.2  # A over which counts are smoothed before contrast is taken
BLOB = 0.75 / np.sqrt(2)  # of the filter of `find_columns` [A]
CLEAR = 4.5  # standard deviations of counting that make a column of the raw mean
WEAK = 2.5  # of the denoised mean, which has less noise
FAINT = 0.04  # of the mean: the least height of a column of the denoised mean
EDGE = 3.0  # A from the edge of the frame, where columns may be cut off
NEIGHBOURS = 4.2  # A; no farther are the neighbours that close a column in
OPEN = np.deg2rad(130)  # the least angle without any neighbour, at a surface
FILLED = 0.85  # of a line along the edge of the frame, in a support
ORDER = ("vacuum", "bulk", "surface", "support")


class Regions(NamedTuple):
    """Columns of atoms, and what each part of the frame is."""

    positions: Array  # (n, 2) of the columns, y and x [px]
    kind: NDArray[np.str_]  # (n,) bulk, surface or support
    vacant: Array  # (m, 2) places where the lattice of the denoised columns would go on [px]
    shown: int  # the first of the columns are those of the denoised mean
    masks: dict[str, Mask]  # of vacuum, bulk, surface and support, those that there are
    dark: bool  # whether columns are darker than what is around them, in the counts


def find_regions(raw: Array, denoised: Array, variance: Array, pixel_size: float) -> Regions:
    """Find the columns of two movies, and with them the regions.

    A *surface* column has no neighbour within an angle of 130 degrees, and vacuum there. The
    *support* is a strip along an edge of the frame that columns fill from side to side; its own
    surface belongs to it. *Vacuum* is farther than 3.5 A from every column.

    Parameters
    ----------
    raw, denoised : (y, x) arrays
        Means over the frames [e-/px].
    variance : (y, x) array
        Of the mean of the raw frames, by counting [e-^2].
    pixel_size : float
        [A].

    Examples
    --------
    A crystal of 6 x 6 columns in vacuum has 20 at its surface:

    >>> y, x = np.mgrid[:128, :128] * 0.25
    >>> image = 0.5 + sum(0.3 * np.exp(-((y - b) ** 2 + (x - a) ** 2) / 0.56)
    ...     for a in np.arange(8, 23, 2.8) for b in np.arange(8, 23, 2.8))
    >>> found = find_regions(image, image, image / 40, 0.25)
    >>> dict(zip(*map(np.ndarray.tolist, np.unique(found.kind, return_counts=True))))
    {'bulk': 16, 'surface': 20}
    """
    number, positions, dark = _columns(raw, denoised, variance, pixel_size)
    kind = np.full(len(positions), "bulk", "<U7")
    shape = raw.shape
    specimen = near(positions, shape, 2.0 / pixel_size)
    strip = _support(specimen, pixel_size)
    vacuum = ~near(positions, shape, HALO / pixel_size) & ~strip
    vacuum &= _inner(vacuum, pixel_size)
    at = np.rint(positions).astype(int).reshape(-1, 2)
    inside = strip[at[:, 0], at[:, 1]]
    kind[~inside & _open(positions, vacuum, pixel_size)] = "surface"
    kind[inside] = "support"
    discs = {k: near(positions[kind == k], shape, DISC / pixel_size) for k in np.unique(kind)}
    surface = discs.get("surface", np.zeros(shape, bool))
    masks = {"vacuum": vacuum} | {
        k: m if k == "surface" else m & ~surface for k, m in discs.items()
    }
    return Regions(
        positions,
        kind,
        _vacant(positions[:number], shape, pixel_size),
        number,
        {k: masks[k] for k in ORDER if k in masks and masks[k].any()},
        dark,
    )


def _columns(
    raw: Array, denoised: Array, variance: Array, pixel_size: float
) -> tuple[int, Array, bool]:
    """How many columns the denoised mean has; they, and those of the raw one alone; if dark."""
    level, sigma = float(np.median(denoised)), BLOB / pixel_size
    point = np.zeros((2 * int(5 * sigma) + 1,) * 2)
    point[point.shape[0] // 2, point.shape[1] // 2] = 1
    answer = 2 * sigma**2 * ndimage.gaussian_laplace(point, sigma)  # the filter of `find_columns`
    noise = float(np.sqrt(variance.mean() * (answer**2).sum()))
    band = ndimage.gaussian_filter(raw, sigma) - ndimage.gaussian_filter(raw, 3 * sigma)
    sign = -1 if float((band**3).mean()) < 0 else 1  # columns are dark, or bright
    shown, seen = (
        columns.find_columns(sign * picture, pixel_size, threshold=least).positions / pixel_size
        for picture, least in ((denoised, max(FAINT * level, WEAK * noise)), (raw, CLEAR * noise))
    )
    if len(shown) and len(seen):
        seen = seen[cKDTree(shown).query(seen)[0] > 1.1 / pixel_size]
    return len(shown), np.concatenate([shown, seen]).reshape(-1, 2), sign < 0


def near(positions: Array, shape: tuple[int, ...], radius: float) -> Mask:
    """Pixels within a radius [px] of the pixel of any of the positions in the frame (n, 2) [px]."""
    empty = np.ones(shape, bool)
    at = np.rint(positions).astype(int).reshape(-1, 2)
    at = at[((at >= 0) & (at < np.array(shape))).all(1)]
    empty[at[:, 0], at[:, 1]] = False
    if empty.all():
        return np.zeros(shape, bool)
    return np.asarray(ndimage.distance_transform_edt(empty) <= radius)


def _inner(mask: Mask, pixel_size: float) -> Mask:
    """A mask whose edge, where columns are cut off and not found, is that of the inside."""
    edge = max(1, round(EDGE / pixel_size))
    if min(mask.shape) <= 2 * edge:
        return mask
    return np.pad(mask[edge:-edge, edge:-edge], edge, "edge")


def _support(specimen: Mask, pixel_size: float) -> Mask:
    """Strips along the edges of the frame that the specimen fills, if they are not all of it."""
    strip = np.zeros_like(specimen)
    specimen = _inner(specimen, pixel_size)
    for axis in (0, 1):
        filled = specimen.mean(1 - axis) > FILLED
        lines = np.logical_and.accumulate(filled) | np.logical_and.accumulate(filled[::-1])[::-1]
        strip |= np.expand_dims(lines, 1 - axis)
    return strip if (specimen & ~strip).any() else np.zeros_like(strip)


def _open(positions: Array, vacuum: Mask, pixel_size: float) -> Mask:
    """Which columns have vacuum on one side, and no neighbour there."""
    answer = np.zeros(len(positions), bool)
    if not len(positions):
        return answer
    tree = cKDTree(positions)
    for number, around in enumerate(tree.query_ball_point(positions, NEIGHBOURS / pixel_size)):
        others = positions[[k for k in around if k != number]] - positions[number]
        angles = np.sort(np.arctan2(others[:, 0], others[:, 1]))
        gaps = np.diff(np.append(angles, angles[:1] + 2 * np.pi)) if len(angles) else np.array([])
        middles = (angles + gaps / 2)[gaps >= OPEN] if len(angles) else np.arange(8) * np.pi / 4
        for angle in middles:
            step = np.array([np.sin(angle), np.cos(angle)]) * (HALO + 1) / pixel_size
            y, x = np.rint(positions[number] + step).astype(int)
            inside = 0 <= y < vacuum.shape[0] and 0 <= x < vacuum.shape[1]
            answer[number] |= inside and bool(vacuum[y, x])
    return answer


def _vacant(positions: Array, shape: tuple[int, ...], pixel_size: float) -> Array:
    """Places beside the columns that their neighbours' lattice has, and no column [px]."""
    if len(positions) < 4:
        return np.zeros((0, 2))
    tree = cKDTree(positions)
    steps = [
        positions[[k for k in around if k != number]] - positions[number]
        for number, around in enumerate(tree.query_ball_point(positions, NEIGHBOURS / pixel_size))
    ]
    full = np.array([len(s) for s in steps])
    _, beside = tree.query(positions, k=min(7, len(positions)))
    best = beside[np.arange(len(beside)), full[beside].argmax(1)]  # the neighbour most closed in
    places = np.concatenate([p + steps[b] for p, b in zip(positions, best, strict=True)])
    places = places[((places > 2) & (places < np.array(shape) - 3)).all(1)]
    places = places[tree.query(places)[0] > 1.4 / pixel_size]
    chosen: list[Array] = []
    for place in places:
        if not chosen or np.hypot(*(np.array(chosen) - place).T).min() > 1.2 / pixel_size:
            chosen.append(place)
    return np.array(chosen).reshape(-1, 2)
