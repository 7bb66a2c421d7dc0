"""Slabs of ceria whose every column is known: vacancies, steps, wedges, platinum.

The frame is that of the images: x runs along their columns, y down their rows with the surface's
normal up, z along the beam. The zone [110] has columns of cerium and of oxygen with one atom each
in 3.83 A of depth, 1.35 A apart; in [100] cerium has one atom in 5.41 A and oxygen two, 1.91 A
apart. Lengths are in angstrom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from insitu import InputError
from insitu.checks import one_of, within
from insitu.simulate.lattice import (
    CEO2,
    CUBE,
    OCTAHEDRON,
    Array,
    columns_of,
    inside_facets,
    lattice,
)
from insitu.simulate.specimens import standing

# rows: x, the surface's normal and the beam, in the axes of the cube
FRAMES = {
    ("110", "111"): [[1, 1, -2], [1, 1, 1], [1, -1, 0]],
    ("110", "001"): [[1, 1, 0], [0, 0, 1], [1, -1, 0]],
    ("100", "001"): [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
    ("100", "011"): [[0, 1, -1], [0, 1, 1], [1, 0, 0]],
}
SURFACES = ("flat", "stepped", "saw-tooth")
THICKNESS = {"110": (3, 12), "100": (3, 6)}  # repeats: at most 12 atoms in a column
FIELD, HEIGHT, CELL = 38.0, 25.0, 40.0  # wanted width, height of the slab, side of the cell [A]
LAYER = 3.0  # depth of what counts as the surface [A]
SYMBOLS = ("Ce", "O")


@dataclass(frozen=True)
class Slab:
    """Everything that `build_slab` needs to make a slab, the same each time."""

    zone: str = "110"
    normal: str = "111"  # of the surface; with zone 100 it is 001 or 011
    thickness: int = 6  # repeats of the lattice along the beam
    wedge: int = 0  # repeats that are missing at the sides of the field
    surface: str = "flat"  # one of SURFACES
    cerium: float = 0.0  # share of vacant sites
    oxygen: float = 0.0
    emptied: float = 0.0  # share of columns that lack any number of atoms, all alike
    clusters: int = 0  # balls of 3 to 5 A in which every other atom is missing
    platinum: float = 0.0  # diameter of a particle on a flat (111) surface; 0 is none [A]
    relaxation: float = 0.0  # by which cerium leaves an oxygen vacancy, and oxygen nears it [A]
    tilt: tuple[float, float] = (0.0, 0.0)  # about x and about y [degrees]
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("zone", self.zone, THICKNESS)
        one_of("normal", self.normal, [n for z, n in FRAMES if z == self.zone])
        one_of("surface", self.surface, SURFACES)
        within("thickness", self.thickness, 1, 40)
        within("wedge", self.wedge, 0, self.thickness - 1)
        for name in ("cerium", "oxygen", "emptied"):
            within(name, getattr(self, name), 0, 1)
        within("platinum", self.platinum, 0, 20, "A")
        within("relaxation", self.relaxation, 0, 0.3, "A")
        if self.platinum and (self.zone, self.normal, self.surface) != ("110", "111", "flat"):
            raise InputError("platinum: it stands on flat (111) surfaces seen along [110] alone")
        for angle in self.tilt:
            within("tilt", angle, -10, 10, "degrees")


class Columns(NamedTuple):
    """Columns of ceria, the truth of a measurement; arrays (n,)."""

    y: Array  # [A] in the cell
    x: Array
    cation: NDArray[np.bool_]
    atoms: NDArray[np.int64]  # present
    possible: NDArray[np.int64]  # sites
    surface: NDArray[np.bool_]  # within 3 A of the vacuum


def random_slab(seed: int, index: int) -> Slab:
    """Slab number `index` of the series with this seed: the same whatever its length."""
    rng = np.random.default_rng([seed, index])
    zone = str(rng.choice(["110", "100"], p=[0.7, 0.3]))
    normal = str(rng.choice([n for z, n in FRAMES if z == zone]))
    thickness = int(rng.integers(THICKNESS[zone][0], THICKNESS[zone][1] + 1))
    surface = str(rng.choice(SURFACES))
    metal = (zone, normal, surface) == ("110", "111", "flat") and rng.random() < 0.5
    angle, way = rng.uniform(0, 7) if rng.random() < 0.7 else rng.uniform(0, 1), rng.uniform(0, 6.3)

    def sometimes(chance: float, low: float, high: float) -> float:
        drawn = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        return drawn if rng.random() < chance else 0.0

    return Slab(
        zone,
        normal,
        thickness,
        wedge=int(rng.integers(0, min(5, thickness - 2))) if rng.random() < 0.4 else 0,
        surface=surface,
        cerium=sometimes(0.7, 0.01, 0.15),
        oxygen=sometimes(0.85, 0.01, 0.25),
        emptied=sometimes(0.8, 0.03, 0.3),
        clusters=int(rng.integers(0, 4)),
        platinum=rng.uniform(9, 14) if metal else 0.0,
        relaxation=sometimes(0.5, 0.05, 0.15),
        tilt=(float(angle * np.cos(way)), float(angle * np.sin(way))),
        seed=int(rng.integers(2**31)),
    )


def build_slab(
    recipe: Slab, held: Mapping[int, int] | None = None, *, arrangement: int = 0
) -> tuple[Atoms, Columns]:
    """Make a slab with vacuum on either side.

    Parameters
    ----------
    recipe : Slab
        What to make.
    held : mapping, optional
        Numbers of columns, and how many atoms they are to have instead.
    arrangement : int
        Which of them: another number, other depths of the vacancies.

    Returns
    -------
    Atoms
        In a cell with the beam along z, periodic in x.
    Columns
        Those of cerium and oxygen, the empty ones too; where a column's atoms are in the mean.

    Notes
    -----
    A tilt shears the slab about its middle, x + z tan(tilt), as in `insitu.simulate.specimens`.

    Examples
    --------
    >>> atoms, columns = build_slab(Slab(thickness=4, oxygen=0.1))
    >>> bool((columns.atoms <= columns.possible).all()), int(columns.atoms.sum()) == len(atoms)
    (True, True)
    >>> int(columns.possible.max()), set(columns.atoms[columns.cation].tolist())
    (4, {4})
    >>> emptied, _ = build_slab(Slab(thickness=4, oxygen=0.1), {0: 0})
    >>> len(atoms) - len(emptied) == int(columns.atoms[0])
    True
    """
    rng = np.random.default_rng(recipe.seed)
    sites, cation, width, repeat = _sites(recipe, rng)
    edges = [_profile(recipe.surface, sites[:, 0] / width, rng) for _ in range(2)]
    top, bottom = HEIGHT / 2 - edges[0], -HEIGHT / 2 + edges[1]
    lost = np.round(recipe.wedge * np.abs(2 * sites[:, 0] / width - 1))
    deep = (recipe.thickness - lost) * repeat
    kept = (sites[:, 1] < top) & (sites[:, 1] > bottom) & (sites[:, 2] < deep - 1e-6)
    near = np.minimum(top - sites[:, 1], sites[:, 1] - bottom)[kept] < LAYER
    sites, cation = sites[kept], cation[kept]
    _, first, column = np.unique(columns_of(sites[:, :2]), return_index=True, return_inverse=True)
    possible = np.bincount(column)
    present = _occupied(recipe, rng, sites, cation, column, near)
    depths = np.random.default_rng([recipe.seed, arrangement])
    for number, count in (held or {}).items():
        members = np.flatnonzero(column == number)
        present[members] = False
        present[depths.choice(members, count, replace=False)] = True
    atoms = np.bincount(column[present], minlength=len(possible))
    places = _relaxed(sites, cation, present, recipe.relaxation)[present]
    symbols = np.where(cation[present], "Ce", "O").tolist()
    if recipe.platinum:
        metal = _particle(recipe.platinum, rng)
        metal[:, 0] += width / 2
        metal[:, 1] += sites[:, 1].max()
        metal[:, 2] += recipe.thickness * repeat / 2
        places, symbols = np.concatenate([places, metal]), symbols + ["Pt"] * len(metal)
    about_x, about_y = np.tan(np.deg2rad(recipe.tilt))
    middle = recipe.thickness * repeat / 2
    tops = np.bincount(column, sites[:, 2]) / possible - middle  # of the sites, from the middle
    depth = places[:, 2] - middle
    low, high = min(0.0, places[:, 2].min()) - 2.0, max(places[:, 2].max(), 2 * middle) + 2.0
    positions = np.stack(
        [
            (places[:, 0] + about_y * depth + 1e-6) % width,
            (CELL / 2 - places[:, 1] + about_x * depth) % CELL,
            places[:, 2] - low,
        ],
        1,
    )
    specimen = Atoms(symbols, positions, cell=[width, CELL, high - low], pbc=(True, False, False))
    x, y = sites[first, 0] + about_y * tops, CELL / 2 - sites[first, 1] + about_x * tops
    return specimen, Columns(y, (x + 1e-6) % width, cation[first], atoms, possible, near[first])


def _sites(recipe: Slab, rng: np.random.Generator) -> tuple[Array, NDArray[np.bool_], float, float]:
    """Sites (n, 3) of x, height, z of a block; which are cerium's; its width and repeat [A]."""
    rows = np.array(FRAMES[recipe.zone, recipe.normal], float)
    lengths = np.linalg.norm(rows, axis=1)
    periods = CEO2 * lengths / np.where(rows.sum(1) % 2 == 0, 2, 1)
    width = max(1, round(FIELD / periods[0])) * periods[0]
    size = np.array([width, HEIGHT + 2.0, recipe.thickness * periods[2]])
    reach = int(np.ceil(2 * np.linalg.norm(size) / CEO2)) + 2
    index = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), -1)
    index = index.reshape(-1, 3)
    half = CEO2 / 2
    places = np.concatenate([index[index.sum(1) % 2 == 0] * half, index * half + half / 2])
    cation = np.arange(len(places)) < (index.sum(1) % 2 == 0).sum()
    origin = np.array([0.0, -size[1] / 2, 0.0])
    away = places @ (rows / lengths[:, None]).T + [0, rng.uniform(0, periods[1]), 0]
    inside = ((away >= origin - 0.005) & (away < origin - 0.005 + size)).all(1)
    return away[inside], cation[inside], float(width), float(periods[2])


def _profile(kind: str, share: Array, rng: np.random.Generator) -> Array:
    """By how much a surface lies lower, along a share of the field's width [A]."""
    if kind == "stepped":
        ends = np.sort(rng.random(2))
        return np.where((share > ends[0]) & (share < ends[1]), rng.uniform(2.5, 6.5), 0.0)
    if kind == "saw-tooth":
        teeth = rng.integers(1, 4)
        return rng.uniform(3, 7) * np.abs(2 * ((teeth * share + rng.random()) % 1) - 1)
    return np.zeros_like(share)


def _occupied(
    recipe: Slab,
    rng: np.random.Generator,
    sites: Array,
    cation: NDArray[np.bool_],
    column: NDArray[np.int64],
    near: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which sites hold an atom."""
    chance = np.where(cation, recipe.cerium, recipe.oxygen)
    present = rng.random(len(sites)) >= chance
    number = column.max() + 1
    surface = np.bincount(column, near) > 0
    emptied = rng.random(number) < np.where(surface, 2, 1) * recipe.emptied
    order = np.lexsort((rng.random(len(sites)), column))
    for members in np.split(order, np.cumsum(np.bincount(column))[:-1]):
        if emptied[column[members[0]]]:
            if surface[column[members[0]]]:  # a terrace that ends along the beam
                members = members[np.argsort(sites[members, 2])]
            present[members[: rng.integers(0, len(members) + 1)]] = False
    for centre in rng.choice(sites, recipe.clusters):
        ball = np.linalg.norm(sites - centre, axis=1) < rng.uniform(3, 5)
        present &= ~(ball & (rng.random(len(sites)) < 0.5))
    return present


def _relaxed(
    sites: Array, cation: NDArray[np.bool_], present: NDArray[np.bool_], shift: float
) -> Array:
    """Sites whose neighbours moved with the oxygen that is missing."""
    gone = ~present & ~cation
    if not shift or not gone.any():
        return sites
    moved = sites.copy()
    around = cKDTree(sites)
    for hole in sites[gone]:
        near = np.array(around.query_ball_point(hole, 2.8))
        away = sites[near] - hole
        length = np.linalg.norm(away, axis=1)
        way = away / np.maximum(length, 0.1)[:, None]
        moved[near] += (
            np.where(cation[near], shift, -shift)[:, None] * way * (length > 0.1)[:, None]
        )
    return moved


def _particle(diameter: float, rng: np.random.Generator) -> Array:
    """Sites of platinum on a surface at height 0, about x = z = 0."""
    sites = lattice(diameter, rng.random(3) * 2)
    facets = dict.fromkeys(OCTAHEDRON, diameter / 2) | dict.fromkeys(CUBE, 0.6 * diameter)
    inside = inside_facets(sites, facets) & (sites[:, 1] > -0.3 * diameter)
    return standing(sites[inside])
