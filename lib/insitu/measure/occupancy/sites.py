"""Where columns of ceria are: maxima of what a network says of pixels, and the crystal behind them.

The network was taught ceria along [110] and along [100], and nothing else: all its columns lie on
one of two known lattices of which only turn and place are unknown. They are found as one finds a
known pattern in a map, by its Fourier coefficients at the reciprocal lattice, and then refined on
the columns. What all columns say together tells the species of each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional

from insitu.measure.occupancy.network import PIXEL
from insitu.simulate.lattice import CEO2

Array = NDArray[np.float64]

RADIUS = 2  # pixels around the middle of a column that are pooled
APART = 4  # pixels between two columns, at least
HEIGHT = 0.2  # of the smoothed probability in a column, at least
REACH = 0.75  # of the reciprocal lattice [1/A]
CHANCE = 15  # columns that are taken for off the lattice: few agree by chance
NEAR = 0.8  # farthest that a column is from its site [A]
STRAIN = 0.06  # largest change of a lattice vector that is still ceria
GRID = 24  # places in a cell that are tried, along each of its sides


class Zone(NamedTuple):
    """A cell of columns, seen along one direction: sides along y and x [A], places in it."""

    sides: tuple[float, float]
    cations: Array  # (n, 2) in shares of the sides
    anions: Array
    turns: float  # after which it is itself again [degrees]
    centres: Array  # (n, 2) of symmetry, beside the cations: an image looks much alike from there


_QUARTERS = np.array([[0.25, 0.0], [0.75, 0.0], [0.25, 0.5], [0.75, 0.5]])
_CENTRES = np.array([[0.25, 0.25], [0.25, -0.25], [0.5, 0.0], [0.25, 0.0]])
_HALVES = np.array([[0.5, 0.5], [0.5, 0.0], [0.0, 0.5]])
ZONES = {
    "110": Zone(
        (CEO2, CEO2 / 2**0.5), np.array([[0.0, 0.0], [0.5, 0.5]]), _QUARTERS, 180.0, _CENTRES
    ),
    "100": Zone((CEO2 / 2, CEO2 / 2), np.zeros((1, 2)), np.full((1, 2), 0.5), 90.0, _HALVES),
}


class Crystal(NamedTuple):
    """Ceria in an image: which zone, and where its sites are."""

    zone: str
    vectors: Array  # (2, 2) rows: the cell's sides, y and x [A]
    places: Array  # (n, 2) all sites of the image, y and x [A]
    cation: NDArray[np.bool_]  # (n,)

    def some(self, chosen: NDArray[Any]) -> Crystal:
        """The same crystal with some of its sites only."""
        return self._replace(places=self.places[chosen], cation=self.cation[chosen])


class Columns(NamedTuple):
    """Columns that are seen by themselves."""

    places: Array  # (n, 2) y and x [A]
    cation: NDArray[np.bool_]  # (n,)


def crystals_in(classes: Tensor, columns: Columns) -> list[Crystal]:
    """Ways in which ceria may lie in an image, up to three of each zone; none without columns.

    Parameters
    ----------
    classes : (3, y, x) tensor
        Logits of CLASSES, in pixels of 0.2 A.
    columns : Columns
        That are seen in them; see `columns_of`.
    """
    if len(columns.places) < 8:
        return []
    maps = classes.softmax(0)[1:].double().numpy()
    crystals = []
    for name, zone in ZONES.items():
        for origin, vectors in _placed(maps, zone):
            sites, kind = sites_in(zone, origin, vectors, maps.shape[1:])
            for reach in (NEAR, NEAR, 0.6 * NEAR):
                better = refined(origin, vectors, sites, kind, *columns, reach)
                if better is None:
                    break
                origin, vectors = better
                sites, kind = sites_in(zone, origin, vectors, maps.shape[1:])
            strain = np.linalg.norm(vectors, axis=1) / zone.sides - 1
            if len(sites) and np.abs(strain).max() < STRAIN:
                crystals.append(Crystal(name, vectors, sites, kind))
    return crystals


def agreement_of(crystal: Crystal, columns: Columns) -> float:
    """Share of the columns seen, and of CHANCE more, that lie on sites of their species."""
    if not len(columns.places) or not len(crystal.places):
        return 0.0
    distance, nearest = cKDTree(crystal.places).query(columns.places)
    agree = (distance < 0.5 * NEAR) & (crystal.cation[nearest] == columns.cation)
    return float(agree.sum() / (len(columns.places) + CHANCE))


def _placed(maps: Array, zone: Zone) -> list[tuple[Array, Array]]:
    """Origins and vectors with which a zone fits maps (2, y, x) of cations and anions best."""
    part = maps - maps.mean((1, 2), keepdims=True)
    part = part * np.outer(*(np.hanning(n + 2)[1:-1] for n in part.shape[1:]))
    most = [int(REACH * side) for side in zone.sides]
    index = np.array([(h, k) for h in range(most[0] + 1) for k in range(-most[1], most[1] + 1)])
    index = index[(index[:, 0] > 0) | (index[:, 1] > 0)]
    index = index[np.linalg.norm(index / zone.sides, axis=1) <= REACH]
    factors = np.stack(
        [np.exp(2j * np.pi * index @ some.T).mean(1) for some in (zone.cations, zone.anions)]
    )
    side = 4 * max(part.shape[1:])  # so that the spectrum is smooth from one sample to the next
    middle = [n // 2 for n in part.shape[1:]]
    padded = np.pad(part, [(0, 0)] + [(0, side - n) for n in part.shape[1:]])
    spectrum = fft.fft2(np.roll(padded, [-middle[0], -middle[1]], (1, 2)))
    step = 0.5 * 1.9 / (PIXEL * max(part.shape[1:]))
    turns = np.arange(0, np.deg2rad(zone.turns), step)
    g = np.stack([(index / zone.sides) @ turned(turn) for turn in turns])
    at = np.moveaxis(g, 2, 0) * PIXEL * side
    own = [ndimage.map_coordinates(m, at, order=1, mode="grid-wrap") for m in spectrum]
    terms = np.zeros((len(turns), GRID, GRID), complex)
    terms[:, index[:, 0], index[:, 1] % GRID] = (np.stack(own) * factors[:, None]).sum(0)
    fit = fft.ifft2(terms).real
    height = fit.max((1, 2))
    best = int(height.argmax())
    apart = np.abs((turns - turns[best] + np.pi / 4) % turns[-1] - np.pi / 4)
    other = int(np.where(apart > 6 * step, height, -np.inf).argmax())
    again = fit[best].copy()
    near = np.arange(-GRID // 8, GRID // 8 + 1)
    row, column = divmod(int(fit[best].argmax()), GRID)
    again[np.ix_((row + near) % GRID, (column + near) % GRID)] = -np.inf
    placed = []
    for k, surface in ((best, fit[best]), (best, again), (other, fit[other])):
        vectors = np.diag(zone.sides) @ turned(turns[k])
        share = np.array(divmod(int(surface.argmax()), GRID)) / GRID
        origin = share @ vectors + np.array(middle) * PIXEL
        placed.append((origin, vectors))
    return placed


def turned(angle: float) -> Array:
    """The matrix that turns rows (y, x) by an angle [rad]."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def sites_in(
    zone: Zone, origin: Array, vectors: Array, shape: tuple[int, ...]
) -> tuple[Array, NDArray[np.bool_]]:
    """All sites of a lattice in an image, y and x [A], and which are cations'."""
    size = np.array(shape) * PIXEL
    corners = np.array([[0, 0], [0, size[1]], [size[0], 0], size]) - origin
    cells = corners @ np.linalg.inv(vectors)
    low, high = np.floor(cells.min(0)) - 1, np.ceil(cells.max(0)) + 1
    grid = np.stack(np.meshgrid(*map(np.arange, low, high + 1), indexing="ij"), -1).reshape(-1, 2)
    both = [(grid[:, None] + some).reshape(-1, 2) for some in (zone.cations, zone.anions)]
    sites = np.concatenate(both) @ vectors + origin
    cation = np.arange(len(sites)) < len(both[0])
    inside = ((sites > -PIXEL / 2) & (sites < size - PIXEL / 2)).all(1)
    return sites[inside], cation[inside]


def refined(
    origin: Array,
    vectors: Array,
    sites: Array,
    kind: NDArray[np.bool_],
    places: Array,
    cation: NDArray[np.bool_],
    reach: float,
) -> tuple[Array, Array] | None:
    """Least squares of origin and vectors on columns near their sites; None if they are few."""
    if not len(sites):
        return None
    distance, nearest = cKDTree(sites).query(places)
    some = (distance < reach) & (kind[nearest] == cation)
    if some.sum() < 6:
        return None
    cells = (sites[nearest[some]] - origin) @ np.linalg.inv(vectors)
    design = np.concatenate([np.ones((len(cells), 1)), cells], 1)
    solved, _, rank, _ = np.linalg.lstsq(design, places[some], rcond=1e-3)
    return (solved[0], solved[1:]) if rank == 3 else None


def elsewhere(crystal: Crystal, shape: tuple[int, ...]) -> list[Crystal]:
    """The same lattice with its cations at each other centre of symmetry, in an image (y, x)."""
    zone = ZONES[crystal.zone]
    places = [
        sites_in(zone, _first(crystal) + share @ crystal.vectors, crystal.vectors, shape)
        for share in zone.centres
    ]
    return [Crystal(crystal.zone, crystal.vectors, *some) for some in places]


def everywhere(crystal: Crystal, corner: Array, classes: Tensor) -> Crystal:
    """A crystal found in a part with this corner [A] of an image, in all of it.

    Its vectors are refined on all columns that logits of CLASSES (3, y, x) show.
    """
    zone, shape = ZONES[crystal.zone], classes.shape[1:]
    origin, vectors = _first(crystal) + corner, crystal.vectors
    sites, kind = sites_in(zone, origin, vectors, shape)
    better = refined(origin, vectors, sites, kind, *columns_of(classes), NEAR)
    if better is not None:
        origin, vectors = better
    return Crystal(crystal.zone, vectors, *sites_in(zone, origin, vectors, shape))


def _first(crystal: Crystal) -> Array:
    """Where one of its cations is [A]."""
    return np.asarray(crystal.places[crystal.cation.argmax()])


def columns_of(classes: Tensor) -> Columns:
    """Columns in logits of CLASSES (3, y, x), in pixels of 0.2 A.

    Maxima of the smoothed probability of any column, then the centre of mass around each; the
    species by the mean logits around it.
    """
    column = 1 - classes.softmax(0)[0].numpy()
    smooth = ndimage.gaussian_filter(column, 1.0, mode="nearest")
    size = 2 * (APART // 2) + 1
    peak = (smooth == ndimage.maximum_filter(smooth, size, mode="nearest")) & (smooth > HEIGHT)
    places = np.argwhere(peak)
    if not len(places):
        return Columns(np.zeros((0, 2)), np.zeros(0, bool))
    disc = np.argwhere(np.hypot(*np.mgrid[-3:4, -3:4]) <= 3) - 3
    around = np.clip(places[:, None] + disc, 0, np.array(column.shape) - 1)
    weight = column[around[..., 0], around[..., 1]] ** 2
    middle = (around * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
    logits = _around(classes)
    y, x = np.rint(middle).astype(int).T
    return Columns(middle * PIXEL, logits[1, y, x] > logits[2, y, x])


def _around(maps: Tensor) -> NDArray[np.float32]:
    """Mean over discs of 2 pixels around every pixel of maps (k, y, x)."""
    disc = (np.hypot(*np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]) <= RADIUS).astype("f4")
    kernel = torch.from_numpy(disc / disc.sum())[None, None]
    padded = functional.pad(maps[:, None], (RADIUS,) * 4, mode="replicate")
    return np.asarray(functional.conv2d(padded, kernel)[:, 0].numpy())


def foreground_at(classes: Tensor, places: Array) -> Array:
    """Probability (n,) that a network gives to any column at places (n, 2) [A]."""
    smooth = _around(classes.softmax(0)[:1])[0]
    limits = np.array(smooth.shape) - 1
    y, x = np.clip(np.rint(places / PIXEL).astype(int), 0, limits).T
    return np.asarray(1 - smooth[y, x], np.float64)
