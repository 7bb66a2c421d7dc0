"""A particle of platinum whose columns move over its surface.

Positions are (x, height, z) in the frame of `insitu.simulate.lattice` [A]. A column moves as a
whole, onto free sites of the crystal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from insitu import InputError
from insitu.simulate.lattice import (
    CUBE,
    FRAME,
    NEIGHBOUR,
    OCTAHEDRON,
    PT,
    Array,
    columns_of,
    inside_facets,
    lattice,
    neighbours,
)

# in the frame of the lattice
CORNER = FRAME @ [0, 0, 1]  # normal of the {100} facet that the edge leaves behind
LEFT = FRAME @ [-1, -1, 1] / np.sqrt(3)  # normal of the facet left of the edge
LEFT_AXIS = FRAME @ (-np.array([1, 1, 2]) / np.sqrt(6))  # along that facet, downwards
NEAREST = 2.6  # that an atom which migrates comes to another [A]; in the bulk 2.77


@dataclass
class Particle:
    """Platinum sites as (x, height, z), which are occupied, and the columns they belong to."""

    sites: Array
    column: NDArray[np.int64]
    occupied: dict[int, Array]  # of each column: its atoms

    @property
    def atoms(self) -> Array:
        """All of its atoms, column by column."""
        return np.concatenate(list(self.occupied.values()))

    @property
    def labels(self) -> NDArray[np.int64]:
        """The column of each atom."""
        return np.repeat(list(self.occupied), [len(a) for a in self.occupied.values()])

    def centre(self, column: int) -> Array:
        """Position of a column, x and height."""
        return np.asarray(self.sites[self.column == column, :2].mean(0))

    def moved(self, moves: dict[int, int], slides: dict[int, Array] | None = None) -> Particle:
        """Move the atoms of columns to other columns, and slide some of them off their sites."""
        occupied = dict(self.occupied)
        for source, target in moves.items():
            atoms = self.occupied[source].copy()
            there = self.sites[self.column == target]
            nearest = there[np.abs(there[:, 2] - atoms[0, 2]).argmin()]
            atoms[:, 2] += nearest[2] - atoms[0, 2]
            atoms[:, :2] = nearest[:2] + (slides or {}).get(source, 0.0)
            occupied[source] = atoms
        return Particle(self.sites, self.column, occupied)


def particle(diameter: float, *, sharp: bool, sunk: float, rng: np.random.Generator) -> Particle:
    """Cut a particle; a `sharp` one has no {100} facet between its upper and left {111} facets."""
    facets = dict.fromkeys(OCTAHEDRON, diameter / 2)
    facets |= dict.fromkeys(CUBE, 1.15 * diameter / 2)
    origin = PT * np.array([0.25, 0.25, 0.0])
    if sharp:
        facets[0, 0, 1] = diameter
    else:
        facets = {n: d * (1 + 0.1 * rng.standard_normal()) for n, d in facets.items()}
        origin = PT * rng.random(3)
    sites = lattice(1.1 * diameter, origin)
    inside = inside_facets(sites, facets) & (sites[:, 1] > -(1 - sunk) * diameter / 2)
    column = columns_of(sites[:, :2])
    return Particle(
        sites, column, {int(c): sites[inside & (column == c)] for c in np.unique(column[inside])}
    )


def edge_columns(body: Particle, layers: int) -> list[int]:
    """Columns of the last `layers` {100} layers at the edge, the outermost first."""
    height = {c: float((atoms @ CORNER).mean()) for c, atoms in body.occupied.items()}
    top = max(height.values())
    chosen = [c for c, h in height.items() if h > top - (layers - 0.5) * PT / 2]
    return sorted(chosen, key=lambda c: (-round(height[c] / PT * 2), body.centre(c)[0]))


def facet_columns(body: Particle, gone: list[int], layer: int) -> list[int]:
    """Free columns of the first or second layer on the left facet, from the edge downwards."""
    rest = np.concatenate([a for c, a in body.occupied.items() if c not in gone])
    facet = (rest @ LEFT).max()
    plane = facet + layer * PT / np.sqrt(3)
    start = (rest[rest @ LEFT > facet - 0.1] @ LEFT_AXIS).min() + layer * NEIGHBOUR * 0.4
    floor = rest[:, 1].min() + 4.0  # not at the support
    on_plane = np.unique(body.column[np.abs(body.sites @ LEFT - plane) < 0.1]).tolist()
    along = {c: float(body.centre(c) @ LEFT_AXIS[:2]) for c in on_plane}
    free = [c for c, a in along.items() if a > start and body.centre(c)[1] > floor]
    return sorted(free, key=lambda c: along[c])


def migrating(
    body: Particle,
    edge: list[int],
    first: list[int],
    second: list[int],
    time: float,
    rng: np.random.Generator,
) -> Particle:
    """The particle at one moment of the event; `time` runs from 0 to 1.

    Up to 0.3 the columns of the edge leave it, up to 0.75 they are a double layer, two thirds of
    them below and one above, that slides along the facet, then they settle as one layer. A layer
    that slides rises from the facet until no atom comes nearer to another than `NEAREST`.

    Raises
    ------
    InputError
        If it would have to rise by 2 A or more.
    """
    gone = edge[: min(len(edge), int(np.ceil(len(edge) * time / 0.3)))]
    settled = time > 0.75 and rng.random() < (time - 0.75) / 0.15
    lower = -(-2 * len(edge) // 3)
    slots = first[: len(edge)] if settled else first[:lower] + second[: len(edge) - lower]
    order = rng.permutation(len(gone)) if time < 0.75 else range(len(gone))
    moves = {column: slots[i] for column, i in zip(gone, order, strict=True)}
    if settled:
        return body.moved(moves)
    slides: dict[int, Array] = {}
    for layer in (first, second):
        by = rng.uniform(-1.2, 1.2) * LEFT_AXIS[:2]
        these = [c for c, target in moves.items() if target in layer]
        if not these:
            continue
        others = [c for c in body.occupied if c not in moves or c in slides]
        for height in np.arange(0, 2, 0.02):
            slides |= dict.fromkeys(these, by + height * LEFT[:2])
            made = body.moved(moves, slides).occupied
            below = cKDTree(np.concatenate([made[c] for c in others]))
            apart, _ = below.query(np.concatenate([made[c] for c in these]))
            if apart.min() >= NEAREST:
                break
        else:
            raise InputError("no layer fits onto this facet; take another seed or diameter")
    return body.moved(moves, slides)


def hop(body: Particle, *, taken: list[int], number: int) -> tuple[int, int]:
    """Choose a column at the surface and a free site near it: the `number`th best exposed one."""
    atoms = body.atoms
    centres = {c: a[:, :2].mean(0) for c, a in body.occupied.items()}
    floor = atoms[:, 1].min() + 4
    exposed = {
        c: float(neighbours(a, atoms).mean())
        for c, a in body.occupied.items()
        if c not in taken and centres[c][1] > floor
    }
    choices: list[tuple[int, int]] = []
    for column in sorted(exposed, key=lambda c: (round(exposed[c], 6), c)):
        rest = np.concatenate([a for c, a in body.occupied.items() if c != column])
        free = np.unique(body.column[neighbours(body.sites, rest) >= 3])
        others = np.array([centre for c, centre in centres.items() if c != column])
        near = []
        for target in free[free != column].tolist():
            place = body.centre(target)
            apart = np.linalg.norm(place - others, axis=1).min()
            distance = float(np.linalg.norm(place - centres[column]))
            if apart > 2.0 and distance < 2 * NEIGHBOUR and place[1] > floor:
                near.append((round(distance, 6), target))
        if near:
            choices.append((column, min(near)[1]))
        if len(choices) == 3:
            break
    if not choices:
        raise InputError("hops: the particle has no column that could hop")
    return choices[number % len(choices)]
