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
from insitu.simulate.lattice import Array
from insitu.simulate.particles import (
    Particle,
    edge_columns,
    facet_columns,
    hop,
    migrating,
    particle,
)
from insitu.simulate.specimens import Recipe, assemble, standing

SUPPORT = Recipe(thickness=40.0, trilayers=4, field=66.0)


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
    base = standing(before.atoms)
    offset = base[0] - before.atoms[0]
    foot = base[base[:, 1] < base[:, 1].min() + 0.1]  # it turns about the end that stays down
    pivot = np.array([foot[:, 0].min() if turn >= 0 else foot[:, 0].max(), foot[0, 1]])

    def placed(body: Particle, angle: float) -> Atoms:
        atoms = body.atoms + offset
        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        atoms[:, :2] = (atoms[:, :2] - pivot) @ np.array([[cos, sin], [-sin, cos]]) + pivot
        return _labelled(atoms, body.labels, slab)

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


def _labelled(platinum: Array, labels: NDArray[np.int64], slab: Atoms) -> Atoms:
    """Platinum on the support, each atom with the label of its column, and -1 for the support."""
    made = assemble(platinum, slab, width=specimens.periods(SUPPORT.field) * specimens.PERIOD)
    made.set_array("label", np.concatenate([np.full(len(slab), -1), labels]))
    return made


def pair_of_particles(frames: int, *, change: int, samples: int, seed: int) -> Scene:
    """Make the scene `pair`: two small particles, their surfaces changed after frame `change`."""
    if not 3 <= change < frames - 1:
        raise InputError(f"event: frame {change} does not lie within {frames} frames")
    rng = np.random.default_rng(seed)
    slab, _ = specimens.ceria(SUPPORT, rng)
    bodies = [particle(d, sharp=False, sunk=s, rng=rng) for d, s in ((21.0, 0.35), (16.0, 0.2))]
    places = (-10.5, 12.5)

    def placed(state: list[Particle]) -> Atoms:
        atoms, labels = [], []
        for number, (body, place) in enumerate(zip(state, places, strict=True)):
            whole = bodies[number].atoms
            atoms.append(body.atoms + (standing(whole)[0] - whole[0]) + [place, 0, 0])
            labels.append(body.labels + 100_000 * number)
        return _labelled(np.concatenate(atoms), np.concatenate(labels), slab)

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
