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

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

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

if TYPE_CHECKING:
    from insitu.simulate.movies import Plan

SUPPORT = Recipe(thickness=40.0, trilayers=4, field=66.0)


class Exposure(NamedTuple):
    """Specimens that share the time of an exposure equally, and the particle's angle in each."""

    specimens: list[Atoms]
    angles: list[float]  # anticlockwise [degrees]


class Scene(NamedTuple):
    """Exposures, which of them each frame consists of, and the list of events."""

    exposures: list[Exposure]
    weights: NDArray[np.float32]  # (frames, exposures), each row sums to 1
    events: list[dict[str, Any]]  # see `event`


def event(kind: str, start: float, end: float, columns: Sequence[int] = ()) -> dict[str, Any]:
    """Something that happens: what, when [frames], and to which columns of platinum."""
    return {"kind": kind, "start": float(start), "end": float(end), "columns": list(columns)}


def turning_particle(plan: Plan) -> Scene:
    """Make the scene `turn`.

    In the first frame of the event the particle still rests, in the last it rests again. A hop
    is a move of one surface column to a neighbouring site and back.
    """
    frames, start, stop, turn = plan.frames, plan.event, plan.event + plan.duration, plan.turn
    if not 3 <= plan.duration <= frames or not 0 <= start <= frames - plan.duration:
        raise InputError(
            f"event: {plan.duration} frames from frame {start} do not lie within {frames} frames"
        )
    rng = np.random.default_rng(plan.seed)
    before = particle(plan.diameter, sharp=True, sunk=0.25, rng=rng)
    for layers in (3, 2, 1):  # as many as find room in one new layer, six at most
        edge = edge_columns(before, layers)
        first, second = (facet_columns(before, edge, layer) for layer in (1, 2))
        if len(edge) <= min(6, len(first)) and len(second) > len(edge) // 3:
            break
    else:
        raise InputError(f"diameter: a particle of {plan.diameter:g} A is too small for this scene")
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
    weights = np.zeros((frames, plan.duration))
    weights[: start + 1, 0] = 1
    weights[stop - 1 :, 1] = 1
    shares = (np.arange(plan.samples) + 0.5) / plan.samples
    for index in range(plan.duration - 2):
        times = (index + shares) / (plan.duration - 2)  # 0 to 1
        angles = (turn * times * times * (3 - 2 * times)).tolist()
        bodies = [migrating(before, edge, first, second, time, rng) for time in times]
        exposures.append(Exposure(list(map(placed, bodies, angles)), angles))
        weights[start + 1 + index, 2 + index] = 1
    events = [event("migration", start + 1, stop - 1, edge), event("turn", start + 1, stop - 1)]
    for number, (begin, length) in enumerate(sorted(plan.hops)):
        end = begin + length
        if not 0 <= begin < end <= frames or (begin < stop and end > start):
            raise InputError(
                f"hops: {begin:g}+{length:g} lies outside of the movie or in the event"
            )
        late = int(begin > start)
        body, angle = (after, turn) if late else (before, 0.0)
        column, target = hop(body, taken=edge, number=number)
        exposures.append(Exposure([placed(body.moved({column: target}), angle)], [angle]))
        t = np.arange(frames)
        part = np.clip(np.minimum(end, t + 1) - np.maximum(begin, t), 0, 1)
        weights[:, late] -= part
        if weights[:, late].min() < -1e-6:
            raise InputError(f"hops: {begin:g}+{length:g} overlaps another one")
        weights = np.column_stack([weights, part])
        events.append(event("hop", begin, end, [column]))
    return Scene(exposures, weights.astype(np.float32), sorted(events, key=lambda e: e["start"]))


def _labelled(platinum: Array, labels: NDArray[np.int64], slab: Atoms) -> Atoms:
    """Platinum on the support, each atom with the label of its column, and -1 for the support."""
    made = assemble(platinum, slab, width=specimens.periods(SUPPORT.field) * specimens.PERIOD)
    made.set_array("label", np.concatenate([np.full(len(slab), -1), labels]))
    return made


def pair_of_particles(plan: Plan) -> Scene:
    """Make the scene `pair`: two small particles, their surfaces changed by the event."""
    frames, change = plan.frames, plan.event
    if not 3 <= change < frames - 1:
        raise InputError(f"event: frame {change} does not lie within {frames} frames")
    rng = np.random.default_rng(plan.seed)
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

    changed: list[Particle] = []
    moved: list[int] = []
    for number, body in enumerate(bodies):
        gone: list[int] = []
        for _ in range(3):
            column, target = hop(body, taken=gone, number=0)
            body = body.moved({column: target})
            gone.append(column)
        changed.append(body)
        moved += [column + 100_000 * number for column in gone]
    between = [[bodies[0], changed[1]], [changed[0], bodies[1]]][: plan.samples]
    exposures = [
        Exposure([placed(bodies)], [0.0]),
        Exposure([placed(changed)], [0.0]),
        Exposure([placed(state) for state in between], [0.0] * len(between)),
    ]
    weights = np.zeros((frames, 3), dtype=np.float32)
    weights[: change - 2, 0] = weights[change + 1 :, 1] = weights[change - 2 : change + 1, 2] = 1
    return Scene(exposures, weights, [event("change", change - 2, change + 1, moved)])


SCENES = {"turn": turning_particle, "pair": pair_of_particles}
