"""The least error with which atoms can be counted: an oracle, the Cramer-Rao bound, and rivals.

The oracle is told all but the column: the other columns, thickness, tilt, lens and dose. It has
simulated what each number of atoms looks like, at several depths of the vacancies, and gives the
Bayes estimate; no estimate from these counts is better on average. The Cramer-Rao bound is that of
an estimate without a prior. Rivals draw a straight line from one sum of a column's pixels to its
number of atoms, which a slab under the same conditions, whose columns are known, has told them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.special import logsumexp

from insitu.measure.occupancy.network import PIXEL
from insitu.measure.occupancy.slabs import Specimen, specimen_of
from insitu.simulate.ceria import build_slab, random_slab
from insitu.simulate.imaging import Optics, image

Array = NDArray[np.float64]
APART = 8.0  # of two columns that do not see each other [A]
REACH = 3  # pixels around a column that the rivals look at


class Responses(NamedTuple):
    """What columns of a slab look like for every number of their atoms, vacuum = 1."""

    columns: NDArray[np.int64]  # (c,) numbers of the columns, 8 A apart or more
    truth: Array  # (y, x) the slab as it is
    images: list[NDArray[np.float32]]  # of each number of atoms from 0: (arrangements, y, x)
    windows: list[tuple[slice, slice]]  # of the pixels around each column
    pixel_size: float  # [A]


def targets(specimen: Specimen, rng: np.random.Generator) -> NDArray[np.int64]:
    """Columns at random, cations and anions in turn, 8 A from each other, 4 A from all edges."""
    columns = specimen.columns
    places = np.stack([columns.y, columns.x], 1)
    inner = ~columns.surface & (columns.x > 4) & (columns.x < specimen.wave.extent[1] - 4)
    kinds = [rng.permutation(np.flatnonzero(inner & (columns.cation == k))) for k in (True, False)]
    chosen: list[int] = []
    for number in [n for pair in zip_longest(*kinds) for n in pair if n is not None]:
        away = np.linalg.norm(places[chosen] - places[number], axis=1)
        if not len(away) or away.min() >= APART:
            chosen.append(int(number))
    return np.array(chosen)


def responses(
    truth: Specimen,
    optics: Optics,
    chosen: NDArray[np.int64],
    *,
    arrangements: int = 4,
    reach: float = 3.0,
    pixel_size: float = PIXEL,
) -> Responses:
    """Simulate the chosen columns with 0 to all atoms, each at several depths; all at once.

    They are so far apart that none is seen in the window of another.
    """
    possible = truth.columns.possible[chosen]

    def seen(held: Mapping[int, int], arrangement: int) -> Array:
        return clean_image(
            specimen_of(truth.recipe, held, arrangement=arrangement), optics, pixel_size
        )

    images = []
    for atoms in range(int(possible.max()) + 1):
        held = {int(c): int(min(atoms, n)) for c, n in zip(chosen, possible, strict=True)}
        alike = all(count in (0, n) for count, n in zip(held.values(), possible, strict=True))
        each = 1 if alike else arrangements
        images.append(np.stack([seen(held, 1 + k) for k in range(each)]).astype(np.float32))
    size = [int(length / pixel_size) for length in truth.wave.extent]
    windows: list[tuple[slice, slice]] = []
    for at in places_in(truth, size, pixel_size)[chosen]:
        rows, across = (
            slice(max(0, round(a - reach / pixel_size)), min(n, round(a + reach / pixel_size) + 1))
            for a, n in zip(at, size, strict=True)
        )
        windows.append((rows, across))
    whole = clean_image(truth, optics, pixel_size)
    return Responses(chosen, whole, images, windows, pixel_size)


def clean_image(specimen: Specimen, optics: Optics, pixel_size: float = PIXEL) -> Array:
    """The whole field of a slab, (y, x), vacuum = 1."""
    rows, columns = (int(length / pixel_size) for length in specimen.wave.extent)
    clean = image(
        specimen.wave, optics, pixel_size=pixel_size, shape=(rows, columns), focal_points=7
    )
    return np.asarray(clean[0].clamp(min=1e-3).double().numpy())


class Told(NamedTuple):
    """Estimates of those who know the model, (draws, columns), and the bound (columns,)."""

    oracle: Array
    least_squares: Array
    bound: Array  # standard deviation of an estimate without a prior


def told_all(
    seen: Responses,
    counts: NDArray[Any],
    dose: float,
    priors: Sequence[Array],
) -> Told:
    """Numbers of atoms by the oracle, and by least squares, from counts (draws, y, x).

    Parameters
    ----------
    seen : Responses
        Of the slab.
    counts : array
        Draws of its image, in the pixels of the responses.
    dose : float
        [e-/A^2].
    priors : sequence of (possible + 1,) arrays
        Of each column: probability of 0, 1, ... atoms.
    """
    unit = dose * seen.pixel_size**2
    oracle, squares, bounds = [], [], []
    for prior, window in zip(priors, seen.windows, strict=True):
        own = counts[:, window[0], window[1]].reshape(len(counts), -1)
        log_like, misfit, means = [], [], []
        for images in seen.images[: len(prior)]:
            mean = unit * images[:, window[0], window[1]].reshape(len(images), -1).astype(float)
            each = own @ np.log(mean).T - mean.sum(1)
            log_like.append(logsumexp(each, axis=1) - np.log(len(images)))
            misfit.append(((own[:, None] - mean) ** 2).sum(2).min(1))
            means.append(mean.mean(0))
        posterior = np.stack(log_like, 1) + np.log(np.maximum(prior, 1e-12))
        posterior = np.exp(posterior - logsumexp(posterior, axis=1, keepdims=True))
        oracle.append(posterior @ np.arange(len(prior)))
        squares.append(np.argmin(np.stack(misfit, 1), 1).astype(float))
        slope = means[-1] - means[-2]
        bounds.append(1 / np.sqrt((slope**2 / means[-1]).sum()))
    return Told(np.stack(oracle, 1), np.stack(squares, 1), np.array(bounds))


def places_in(specimen: Specimen, shape: Sequence[int], pixel_size: float = PIXEL) -> Array:
    """Where the columns are in an image (y, x) of the whole field, (n, 2) [px]."""
    own, extent = specimen.columns, specimen.wave.extent
    parts = [
        (place - (length - pixel_size) / 2) / pixel_size + (n - 1) / 2
        for place, length, n in zip((own.y, own.x), extent, shape, strict=True)
    ]
    return np.stack(parts, 1)


def by_lines(
    image: NDArray[Any],
    specimen: Specimen,
    chosen: NDArray[np.int64],
    taught: NDArray[Any],
    twin: Specimen,
) -> dict[str, Array]:
    """Numbers of atoms in the chosen columns by the sum of a disc, and by a template.

    Parameters
    ----------
    image : (y, x) array
        Counts of the whole field of the specimen, in pixels of 0.2 A.
    specimen : Specimen
        Tells where the columns are, and how many atoms they may have.
    chosen : (n,) array
        Numbers of columns that are not at the rim.
    taught : (y, x) array
        Counts of a slab under the same conditions, whose columns are known.
    twin : Specimen
        That slab.
    """
    grid = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1].reshape(2, 1, -1)

    def patches(counts: NDArray[Any], slab: Specimen, some: NDArray[np.int64]) -> Array:
        at = places_in(slab, counts.shape)[some]
        return np.asarray(map_coordinates(counts.astype(float), at.T[:, :, None] + grid, order=1))

    at = places_in(twin, taught.shape)
    inside = ((at > REACH + 1) & (at < np.array(taught.shape) - REACH - 2)).all(1)
    disc = (np.hypot(*grid[:, 0]) <= REACH).astype(float)
    found = {name: np.empty(len(chosen)) for name in ("intensity", "template")}
    for cation in (True, False):
        known = np.flatnonzero(inside & ~twin.columns.surface & (twin.columns.cation == cation))
        own, truth = patches(taught, twin, known), twin.columns.atoms[known]
        full = own[truth == truth.max()].mean(0)
        template = (full - full.mean()) / ((full - full.mean()) ** 2).sum()
        asked = specimen.columns.cation[chosen] == cation
        seen, most = patches(image, specimen, chosen[asked]), specimen.columns.possible[chosen]
        for name, weight in (("intensity", disc), ("template", template)):
            line = np.polyfit(own @ weight, truth, 1)
            found[name][asked] = np.clip(np.polyval(line, seen @ weight), 0, most[asked])
    return found


def priors_of(slabs: int = 200, *, seed: int = 0) -> dict[tuple[bool, int], Array]:
    """How often an inner column of a species with so many sites holds 0, 1, ... atoms."""
    tables: dict[tuple[bool, int], Array] = {}
    for number in range(slabs):
        _, columns = build_slab(random_slab(seed, number))
        inner = ~columns.surface
        for cation, n, atoms in zip(
            columns.cation[inner], columns.possible[inner], columns.atoms[inner], strict=True
        ):
            table = tables.setdefault((bool(cation), int(n)), np.full(n + 1, 0.5))
            table[atoms] += 1
    return {key: table / table.sum() for key, table in tables.items()}
