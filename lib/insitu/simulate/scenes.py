"""What happens in the in situ movie, atom by atom.

`turn` follows the sequence that P. A. Crozier et al. describe [1]_: a particle whose edge is
formed by two {111} facets; within a few frames the atoms of that edge migrate onto the left
facet, first as a short double layer that never rests, then as a new layer, which leaves a short
{100} facet; meanwhile the particle turns as a rigid body. `pair` is two small particles that
change their surfaces between two moments 0.2 s apart.

A scene is a list of exposures; an exposure is what the camera sees while one frame, or one of
many equal frames, is recorded: one specimen, or several that share its time.

.. [1] P. A. Crozier et al., The Impact of Artificial Intelligence on In Situ Electron Microscopy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from insitu import InputError
from insitu.simulate import specimens
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
from insitu.simulate.specimens import Recipe, assemble, standing

SUPPORT = Recipe(thickness=40.0, trilayers=4, field=66.0)
CORNER = np.array([0, 0, 1.0])  # normal of the {100} facet that the edge leaves behind
LEFT = np.array([-1, -1, 1]) / np.sqrt(3)  # normal of the facet left of the edge
LEFT_AXIS = -np.array([1, 1, 2]) / np.sqrt(6)  # along that facet, downwards


@dataclass(frozen=True)
class Event:
    """Something that happens: what, when, and to which columns of platinum."""

    kind: str  # hop, migration, turn, change
    start: float  # [frames]
    end: float
    columns: tuple[int, ...] = ()


@dataclass
class Exposure:
    """Specimens that share the time of an exposure equally, and the particle's angle in each."""

    specimens: list[Atoms] = field(default_factory=list)
    angles: list[float] = field(default_factory=list)  # anticlockwise [degrees]


@dataclass(frozen=True)
class Scene:
    """Exposures, which of them each frame consists of, and the list of events."""

    exposures: list[Exposure]
    weights: NDArray[np.float32]  # (frames, exposures), each row sums to 1
    events: list[Event]


@dataclass
class Particle:
    """Platinum sites as (x, height, z), which are occupied, and the columns they belong to."""

    sites: Array
    column: NDArray[np.int64]
    occupied: dict[int, Array]  # of each column: its atoms

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
    height = {c: float((atoms @ FRAME @ CORNER).mean()) for c, atoms in body.occupied.items()}
    top = max(height.values())
    chosen = [c for c, h in height.items() if h > top - (layers - 0.5) * PT / 2]
    return sorted(chosen, key=lambda c: (-round(height[c] / PT * 2), body.centre(c)[0]))


def facet_columns(body: Particle, gone: list[int], layer: int) -> list[int]:
    """Free columns of the first or second layer on the left facet, from the edge downwards."""
    rest = np.concatenate([a for c, a in body.occupied.items() if c not in gone])
    distance = body.sites @ FRAME @ LEFT
    plane = (rest @ FRAME @ LEFT).max() + layer * PT / np.sqrt(3)
    on_plane = np.unique(body.column[np.abs(distance - plane) < 0.1])
    along = {
        int(c): float(np.mean(body.sites[body.column == c] @ FRAME @ LEFT_AXIS)) for c in on_plane
    }
    facet = rest[np.abs(rest @ FRAME @ LEFT - (plane - layer * PT / np.sqrt(3))) < 0.1] @ FRAME
    start = (facet @ LEFT_AXIS).min() + layer * NEIGHBOUR * 0.4
    floor = rest[:, 1].min() + 4.0  # not at the support
    free = [c for c, a in along.items() if a > start and body.centre(c)[1] > floor]
    return sorted(free, key=lambda c: along[c])


def turning_particle(
    frames: int,
    *,
    diameter: float,
    turn: float,
    start: int,
    duration: int,
    hops: list[tuple[float, float]],
    samples: int,
    seed: int,
) -> Scene:
    """Make the scene `turn`.

    Parameters
    ----------
    frames : int
        Of the movie.
    diameter : float
        Of the particle [A].
    turn : float
        Angle by which it turns, anticlockwise [degrees].
    start, duration : int
        First frame of the event and its frames; in the first the particle still rests, in the
        last it rests again.
    hops : list of (float, float)
        Start and duration [frames] of moves of one surface column to a neighbouring site.
    samples : int
        Specimens in each exposure of the event.
    seed : int
        Of what moves at random.
    """
    if not 3 <= duration <= frames or not 0 <= start <= frames - duration:
        raise InputError(
            f"event: {duration} frames from frame {start} do not lie within {frames} frames"
        )
    rng = np.random.default_rng(seed)
    before = particle(diameter, sharp=True, sunk=0.25, rng=rng)
    for layers in (3, 2, 1):  # as many as find room in one new layer, six at most
        edge = edge_columns(before, layers)
        first, second = (facet_columns(before, edge, layer) for layer in (1, 2))
        if len(edge) <= min(6, len(first)) and len(second) > len(edge) // 3:
            break
    else:
        raise InputError(f"diameter: a particle of {diameter:g} A is too small for this scene")
    after = before.moved(dict(zip(edge, first, strict=False)))
    slab, _ = specimens.ceria(SUPPORT, rng)
    base = standing(np.concatenate(list(before.occupied.values())))
    offset = base[0] - next(iter(before.occupied.values()))[0]
    foot = base[base[:, 1] < base[:, 1].min() + 0.1]  # it turns about the end that stays down
    pivot = np.array([foot[:, 0].min() if turn >= 0 else foot[:, 0].max(), foot[0, 1]])

    def placed(body: Particle, angle: float) -> Atoms:
        label = np.concatenate([np.full(len(a), c) for c, a in body.occupied.items()])
        atoms = np.concatenate(list(body.occupied.values())) + offset
        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        atoms[:, :2] = (atoms[:, :2] - pivot) @ np.array([[cos, sin], [-sin, cos]]) + pivot
        made = assemble(atoms, slab, width=specimens.periods(SUPPORT.field) * specimens.PERIOD)
        made.set_array("label", np.concatenate([np.full(len(slab), -1), label]))
        return made

    exposures = [Exposure([placed(before, 0)], [0.0]), Exposure([placed(after, turn)], [turn])]
    weights = np.zeros((frames, 2 + duration - 2))
    weights[: start + 1, 0] = 1
    weights[start + duration - 1 :, 1] = 1
    for index in range(1, duration - 1):
        exposure = Exposure()
        for sample in range(samples):
            time = (index - 1 + (sample + 0.5) / samples) / (duration - 2)  # 0 to 1
            angle = turn * time * time * (3 - 2 * time)
            exposure.specimens.append(
                placed(migrating(before, edge, first, second, time, rng), angle)
            )
            exposure.angles.append(angle)
        weights[start + index, len(exposures)] = 1
        exposures.append(exposure)
    events = [
        Event("migration", start + 1, start + duration - 1, tuple(edge)),
        Event("turn", start + 1, start + duration - 1),
    ]
    for number, (begin, length) in enumerate(sorted(hops)):
        end = begin + length
        if not 0 <= begin < end <= frames or (begin < start + duration and end > start):
            raise InputError(
                f"hops: {begin:g}+{length:g} lies outside of the movie or in the event"
            )
        late = begin > start
        body, angle = (after, turn) if late else (before, 0.0)
        column, target = hop(body, taken=edge, number=number)
        exposures.append(Exposure([placed(body.moved({column: target}), angle)], [angle]))
        part = np.clip(
            np.minimum(end, np.arange(frames) + 1) - np.maximum(begin, np.arange(frames)), 0, 1
        )
        weights[:, int(late)] -= part
        if weights[:, int(late)].min() < -1e-6:
            raise InputError(f"hops: {begin:g}+{length:g} overlaps another one")
        weights = np.column_stack([weights, part])
        events.append(Event("hop", begin, end, (column,)))
    return Scene(exposures, weights.astype(np.float32), sorted(events, key=lambda e: e.start))


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
    them below and one above, that slides along the facet, then they settle as one layer.
    """
    gone = edge[: min(len(edge), int(np.ceil(len(edge) * time / 0.3)))]
    settled = time > 0.75 and rng.random() < (time - 0.75) / 0.15
    lower = -(-2 * len(edge) // 3)
    slots = first[: len(edge)] if settled else first[:lower] + second[: len(edge) - lower]
    order = list(rng.permutation(len(gone))) if time < 0.75 else list(range(len(gone)))
    moves = {column: slots[i] for column, i in zip(gone, order, strict=True)}
    axis = (FRAME @ LEFT_AXIS)[:2]
    slides: dict[int, Array] = {}
    if not settled:
        for layer in (first, second):
            by = rng.uniform(-1.2, 1.2) * axis
            slides |= {c: by for c, target in moves.items() if target in layer}
    return body.moved(moves, slides)


def hop(body: Particle, *, taken: list[int], number: int) -> tuple[int, int]:
    """Choose a column at the surface and a free site near it: the `number`th best exposed one."""
    atoms = np.concatenate(list(body.occupied.values()))
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
        near = {}
        for target in (int(t) for t in free if int(t) != column):
            apart = np.linalg.norm(body.centre(target) - others, axis=1).min()
            distance = float(np.linalg.norm(body.centre(target) - centres[column]))
            if apart > 2.0 and distance < 2 * NEIGHBOUR and body.centre(target)[1] > floor:
                near[target] = distance
        if near:
            choices.append((column, min(near, key=lambda t: (round(near[t], 6), t))))
        if len(choices) == 3:
            break
    if not choices:
        raise InputError("hops: the particle has no column that could hop")
    return choices[number % len(choices)]


def pair_of_particles(frames: int, *, change: int, samples: int, seed: int) -> Scene:
    """Make the scene `pair`: two small particles, their surfaces changed after frame `change`."""
    if not 3 <= change < frames - 1:
        raise InputError(f"event: frame {change} does not lie within {frames} frames")
    rng = np.random.default_rng(seed)
    slab, _ = specimens.ceria(SUPPORT, rng)
    bodies = [particle(d, sharp=False, sunk=s, rng=rng) for d, s in ((21.0, 0.35), (16.0, 0.2))]
    places = (-10.5, 12.5)

    def placed(state: list[Particle]) -> Atoms:
        atoms, label = [], []
        for number, (body, place) in enumerate(zip(state, places, strict=True)):
            start = standing(np.concatenate(list(bodies[number].occupied.values())))[0]
            offset = start - next(iter(bodies[number].occupied.values()))[0]
            atoms.append(np.concatenate(list(body.occupied.values())) + offset + [place, 0, 0])
            label += [np.full(len(a), c + 100_000 * number) for c, a in body.occupied.items()]
        width = specimens.periods(SUPPORT.field) * specimens.PERIOD
        made = assemble(np.concatenate(atoms), slab, width=width)
        made.set_array("label", np.concatenate([np.full(len(slab), -1), *label]))
        return made

    changed = list(bodies)
    moved: list[int] = []
    for number in range(len(bodies)):
        gone: list[int] = []
        for _ in range(3):
            column, target = hop(changed[number], taken=gone, number=0)
            changed[number] = changed[number].moved({column: target})
            gone.append(column)
        moved += [column + 100_000 * number for column in gone]
    between = [[bodies[0], changed[1]], [changed[0], bodies[1]]]
    exposures = [
        Exposure([placed(bodies)], [0.0]),
        Exposure([placed(changed)], [0.0]),
        Exposure([placed(between[i % 2]) for i in range(min(2, samples))], [0.0] * min(2, samples)),
    ]
    weights = np.zeros((frames, 3), dtype=np.float32)
    weights[: change - 2, 0] = weights[change + 1 :, 1] = weights[change - 2 : change + 1, 2] = 1
    return Scene(exposures, weights, [Event("change", change - 2, change + 1, tuple(moved))])
