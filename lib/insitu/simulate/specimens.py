"""Specimens: a platinum particle on ceria, atom by atom.

The frame is that of the images. x runs along the columns of an image and the [11-2] direction of
both crystals; y runs down its rows, so that the surface normal [111] is -y; z is the beam, along
[1-10]. Lengths are in angstrom. Platinum stands on ceria cube on cube.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from insitu import InputError
from insitu.checks import one_of, within
from insitu.simulate.lattice import (
    CEO2,
    CUBE,
    NEIGHBOUR,
    OCTAHEDRON,
    PT,
    Array,
    columns_of,
    inside_facets,
    lattice,
    neighbours,
    oriented,
)

GAP = 2.0  # between the last plane of ceria and the first of platinum [A]
NEAREST = 1.5  # no two atoms may be nearer [A]
MARGIN = 1.5  # of vacuum below the ceria and above the particle [A]
PERIOD = CEO2 * np.sqrt(1.5)  # of ceria along x [A]
REPEAT = CEO2 / np.sqrt(2)  # of ceria along the beam [A]
DEFECTS = {
    "D0": "none",
    "D1": "a corner column is missing",
    "D2": "a corner column and its neighbour are missing, a row",
    "Dh": "half of a corner column is missing",
    "Ds": "one atom is left of a corner column",
    "Da": "three adatoms sit on the facets",
    "Dl": "a partial layer lies on the upper facet",
}


@dataclass(frozen=True)
class Recipe:
    """Everything that `build` needs to make one specimen, the same each time."""

    diameter: float = 26.0  # between opposite {111} facets of the free particle [A]
    truncation: float = 1.15  # distance of the {100} facets over that of {111}; 1.73 has none
    sunk: float = 0.4  # part of the lower half that the support cuts off; 0 is a free shape
    defect: str = "D0"  # one of DEFECTS
    thickness: float = 40.0  # of the ceria along the beam [A]
    trilayers: int = 4  # of ceria
    tilt: tuple[float, float] = (0.0, 0.0)  # about x and about y [degrees]
    oxygen_vacancies: int = 0  # atoms missing from one column of ceria
    cerium_vacancies: int = 0
    roughness: float = 0.0  # standard deviation of the facets' distances, relative
    field: float = 51.0  # wanted width of the cell [A]; it becomes whole periods of ceria
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "diameter": (8, 100),
            "truncation": (0.8, 1.74),
            "sunk": (0, 0.95),
            "roughness": (0, 0.3),
            "thickness": (REPEAT, 500),
            "trilayers": (1, 40),
            "oxygen_vacancies": (0, 100),
            "cerium_vacancies": (0, 100),
            "field": (15, 500),
        }
        for name, (low, high) in limits.items():
            within(name, getattr(self, name), low, high)
        one_of("defect", self.defect, DEFECTS)
        for angle in self.tilt:
            within("tilt", angle, -10, 10, "degrees")


def build(recipe: Recipe) -> Atoms:
    """Make a specimen.

    Returns
    -------
    Atoms
        In a cell with the beam along z, periodic in x. The array `column` numbers the atomic
        columns, `surface` is true in surface columns of the particle. `info` holds the recipe
        and the vacancies.

    Raises
    ------
    InputError
        If the particle does not fit into the cell.

    Notes
    -----
    A tilt shears the specimen, x + z tan(tilt), which keeps the cell periodic; against a
    rotation it leaves out a shortening of 1 - cos(tilt), 0.24 % at 4 degrees.

    Examples
    --------
    >>> specimen = build(Recipe(diameter=14, thickness=16, trilayers=2, field=30))
    >>> specimen.get_chemical_formula(), specimen.cell.lengths().round(1).tolist()
    ('Ce80O160Pt126', [33.1, 33.1, 19.3])
    """
    rng = np.random.default_rng(recipe.seed)
    shape = dict.fromkeys(OCTAHEDRON, recipe.diameter / 2)
    shape |= dict.fromkeys(CUBE, recipe.truncation * recipe.diameter / 2)
    shape = {n: d * (1 + recipe.roughness * rng.standard_normal()) for n, d in shape.items()}
    sites = lattice(recipe.diameter, PT * rng.random(3))
    inside = inside_facets(sites, shape) & (sites[:, 1] > -(1 - recipe.sunk) * recipe.diameter / 2)
    if inside.sum() < 10:
        raise InputError(f"diameter: {recipe.diameter:g} A leaves {inside.sum()} atoms of platinum")
    inside = with_defect(sites, inside, recipe.defect, rng)
    slab, missing = ceria(recipe, rng)
    specimen = assemble(standing(sites[inside]), slab, width=periods(recipe.field) * PERIOD)
    specimen.info |= {"recipe": asdict(recipe), "vacancies": missing}
    about_x, about_y = np.tan(np.deg2rad(recipe.tilt))
    depth = specimen.positions[:, 2] - specimen.cell[2, 2] / 2
    specimen.positions[:, 0] += about_y * depth
    specimen.positions[:, 1] += about_x * depth
    specimen.positions[:, 0] = (specimen.positions[:, 0] + 1e-6) % specimen.cell[0, 0]
    specimen.positions[:, 1] %= specimen.cell[1, 1]  # the wave is periodic in y too
    return specimen


def assemble(platinum: Array, slab: Atoms, *, width: float) -> Atoms:
    """Put platinum on a slab, in a square cell.

    Parameters
    ----------
    platinum : (n, 3) array
        x from the middle of the cell, height above the ceria's last plane, and z [A].
    slab : Atoms
        With heights of 0 and below as y.
    width : float
        Of the cell [A].

    Raises
    ------
    InputError
        If it does not fit, or two atoms would be nearer than `NEAREST`.
    """
    across = 2 * np.abs(platinum[:, 0]).max()
    up = platinum[:, 1].max() - slab.positions[:, 1].min()
    if max(across, up) > width - 2 * MARGIN:
        raise InputError(
            f"diameter: a specimen {across:.0f} A wide and {up:.0f} A high does not fit into a "
            f"cell of {width:.0f} A; make the particle smaller or the field larger"
        )
    specimen = slab + Atoms(f"Pt{len(platinum)}", platinum + np.array([width / 2, 0, 0]))
    floor = specimen.positions[:, 1].min()
    specimen.positions[:, 1] = width - MARGIN - (specimen.positions[:, 1] - floor)
    specimen.positions[:, 2] -= specimen.positions[:, 2].min() - 2.0
    specimen.set_cell([width, width, specimen.positions[:, 2].max() + 2.0])
    specimen.pbc = (True, False, False)
    number_columns(specimen)
    nearest = nearest_distance(specimen)
    if nearest < NEAREST:
        raise InputError(
            f"the specimen: two atoms are {nearest:.2f} A apart, less than {NEAREST} A"
        )
    return specimen


def standing(platinum: Array) -> Array:
    """Move a particle so that it stands `GAP` above height 0, with its middle at x = z = 0."""
    return platinum - [_middle(platinum[:, 0]), platinum[:, 1].min() - GAP, _middle(platinum[:, 2])]


def _middle(values: Array) -> float:
    return (values.min() + values.max()) / 2


def periods(field: float) -> int:
    """How many periods of ceria span a field [A]."""
    return max(2, int(np.ceil(field / PERIOD - 1e-6)))


def ceria(recipe: Recipe, rng: np.random.Generator) -> tuple[Atoms, list[dict[str, Any]]]:
    """Make a slab whose last oxygen plane is at height 0, and list its vacancies.

    Vacancies are taken from one column of each element, at random places along it.
    """
    cut = oriented("CeO2", CEO2)
    layers = -(-recipe.trilayers // 3) + 2
    slab = cut.repeat((periods(recipe.field), layers, max(1, round(recipe.thickness / REPEAT))))
    planes = np.unique(slab.positions[slab.symbols == "Ce", 1].round(3))[1 : recipe.trilayers + 1]
    slab = slab[(np.abs(slab.positions[:, 1, None] - planes) < 1.0).any(1)]
    slab.positions[:, 1] -= slab.positions[:, 1].max()
    slab.positions[:, 0] = (slab.positions[:, 0] + 1e-6) % slab.cell[0, 0]
    slab.positions[:, 2] -= _middle(slab.positions[:, 2])
    missing: list[dict[str, Any]] = []
    gone: list[int] = []
    number_columns(slab)
    for symbol, name in (("O", "oxygen_vacancies"), ("Ce", "cerium_vacancies")):
        count = getattr(recipe, name)
        if not count:
            continue
        column = rng.choice(np.unique(slab.arrays["column"][slab.symbols == symbol]))
        members = np.flatnonzero(slab.arrays["column"] == column)
        if count > len(members):
            raise InputError(f"{name}: got {count}, a column has {len(members)} atoms")
        gone += list(rng.choice(members, count, replace=False))
        x, height = slab.positions[members[0], :2].tolist()
        missing.append(
            {"symbol": symbol, "x": x, "height": height, "atoms": len(members), "missing": count}
        )
    del slab[gone]
    return slab, missing


def with_defect(
    sites: Array, inside: NDArray[np.bool_], defect: str, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Change which sites are occupied, by one of `DEFECTS`."""
    inside = inside.copy()
    if defect == "D0":
        return inside
    if defect in ("Da", "Dl"):
        hollow = np.flatnonzero(~inside & (neighbours(sites, sites[inside]) >= 3))
        hollow = hollow[sites[hollow, 1] > sites[inside, 1].min() + NEIGHBOUR]  # not at the support
        if defect == "Dl":
            top = sites[inside, 1].max()
            upper = hollow[sites[hollow, 1] > top + 1]
            edge = np.median(sites[upper, 0]) if len(upper) else 0.0
            chosen = upper[sites[upper, 0] <= edge + 0.1]
        else:
            chosen = rng.choice(hollow, min(3, len(hollow)), replace=False)
        inside[chosen] = True
        return inside
    column = columns_of(sites[:, :2])
    bare = neighbours(sites, sites[inside])
    candidates = np.unique(column[inside & (sites[:, 1] > sites[inside, 1].min() + 3.0)])
    exposed = np.array([bare[inside & (column == c)].mean() for c in candidates])
    corner = rng.choice(candidates[exposed <= np.sort(exposed)[min(2, len(exposed) - 1)]])
    members = np.flatnonzero(inside & (column == corner))
    members = members[np.argsort(sites[members, 2])]
    middle = len(members) // 2
    part = {"Dh": members[:middle], "Ds": np.delete(members, middle)}
    inside[part.get(defect, members)] = False
    if defect == "D2":
        centres = np.array([sites[column == c, :2].mean(0) for c in candidates])
        distance = np.linalg.norm(centres - sites[members[0], :2], axis=1)
        beside = candidates[(distance > 0.1) & (distance < NEIGHBOUR + 0.1)]
        if len(beside):
            inside[inside & (column == rng.choice(beside))] = False
    return inside


def number_columns(specimen: Atoms) -> None:
    """Set the arrays `column` and `surface` from the positions along the beam.

    A column of platinum inside the particle has six others around it, within 2.9 A of it in
    projection; a surface column has fewer.
    """
    column = columns_of(specimen.positions[:, :2])
    surface = np.zeros(len(specimen), dtype=bool)
    metal = np.asarray(specimen.symbols == "Pt")
    if metal.any():
        ids, where = np.unique(column[metal], return_inverse=True)
        centres = np.array([specimen.positions[column == i, :2].mean(0) for i in ids])
        around = cKDTree(centres).query_ball_point(centres, NEIGHBOUR + 0.1, return_length=True)
        surface[metal] = (around - 1 < 6)[where]
    specimen.set_array("column", column)
    specimen.set_array("surface", surface)


def nearest_distance(specimen: Atoms) -> float:
    """Distance of the two nearest atoms, across the border in x too [A]."""
    width = specimen.cell[0, 0]
    edge = specimen.positions[:, 0] < 4
    images = specimen.positions[edge] + [width, 0, 0]
    tree = cKDTree(np.concatenate([specimen.positions, images]))
    return float(tree.query(specimen.positions, k=2)[0][:, 1].min())


def columns(specimen: Atoms) -> dict[str, NDArray[Any]]:
    """The atomic columns of a specimen: the truth that a measurement is held against.

    Returns
    -------
    dict
        `id`, `symbol`, `x` and `y` [A], `atoms` and `surface`, an entry for each column.
    """
    ids, first, where = np.unique(specimen.arrays["column"], return_index=True, return_inverse=True)
    count = np.bincount(where)
    return {
        "id": ids,
        "symbol": np.array(specimen.get_chemical_symbols())[first],
        "x": np.bincount(where, specimen.positions[:, 0]) / count,
        "y": np.bincount(where, specimen.positions[:, 1]) / count,
        "atoms": count,
        "surface": specimen.arrays["surface"][first],
    }
