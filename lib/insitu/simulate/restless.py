"""Scenes without end: particles that turn, hop, lose and gain columns, at random times.

What a movie denoiser learns from. Each scene is another particle on another support; it rests,
and now and then, within a few frames, its edge migrates, it turns, columns leave or come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from insitu import InputError
from insitu.simulate import specimens
from insitu.simulate.imaging import Optics, image
from insitu.simulate.lattice import Array, neighbours
from insitu.simulate.particles import (
    Particle,
    edge_columns,
    facet_columns,
    hop,
    migrating,
    particle,
)
from insitu.simulate.resampling import centred, sampled
from insitu.simulate.specimens import Recipe, assemble, standing
from insitu.simulate.waves import Wave

KINDS = ("migration", "gain", "loss", "hops", "none")
SAMPLES = 2  # specimens in a frame in which atoms move
RATE = 75.0  # [frames/s]
GRID = 300  # pixels of the image of a whole field


class RestlessScene(NamedTuple):
    """Specimens, those that each frame averages, and by how much the whole field is turned."""

    specimens: list[Atoms]
    weights: NDArray[np.float32]  # (frames, specimens), each row sums to 1
    turned: NDArray[np.float32]  # (frames,) the whole field, from x towards y [degrees]
    busy: NDArray[np.bool_]  # (frames,) something happens


class Film(NamedTuple):
    """A movie before counting."""

    clean: Tensor  # (t, y, x) float16, vacuum = 1
    pixel_size: float  # [A]
    dose: float  # [e-/A^2] a frame, at which it is to be counted
    busy: NDArray[np.bool_]  # (t,) something happens

    @property
    def vacuum(self) -> float:
        """Electrons that reach a pixel of vacuum in one frame."""
        return self.dose * self.pixel_size**2


def still_scene(rng: np.random.Generator, *, turns: bool, frames: int = 66) -> RestlessScene:
    """One specimen that rests, or that is turned once with its whole field."""
    turned, busy = np.zeros(frames, np.float32), np.zeros(frames, bool)
    if turns:
        start, duration = int(rng.integers(20, 36)), int(rng.integers(5, 11))
        time = np.clip((np.arange(frames) - start) / duration, 0, 1)
        turned = (rng.uniform(-12, 12) * time * time * (3 - 2 * time)).astype(np.float32)
        busy[start : start + duration] = True
    return RestlessScene([], np.ones((frames, 1), np.float32), turned, busy)


def random_optics(rng: np.random.Generator) -> Optics:
    """A lens as movies are taken with: columns often white, sometimes not."""
    white = rng.random() < 0.6
    return Optics(
        defocus=rng.normal(-80, 25) if white else rng.uniform(-150, 200),
        cs=rng.uniform(-15e4, -10e4),
        c5=rng.uniform(2e7, 7e7),
        astigmatism=rng.uniform(0, 10),
        astigmatism_angle=rng.uniform(0, 360),
        coma=rng.uniform(0, 150),
        coma_angle=rng.uniform(0, 360),
        trefoil=rng.uniform(0, 150),
        trefoil_angle=rng.uniform(0, 360),
        focal_spread=rng.uniform(25, 50),
        vibration=rng.uniform(0.1, 0.4),
    )


def film(
    waves: Sequence[Wave], scene: RestlessScene, rng: np.random.Generator, size: int = 192
) -> Film:
    """Take a scene with a random lens, drift, orientation, pixel size and dose.

    Parameters
    ----------
    waves : sequence of Wave
        Behind each of the scene's specimens.
    scene : RestlessScene
    rng : Generator
    size : int
        Rows and columns.
    """
    optics = random_optics(rng)
    extent = waves[0].extent
    step, shape = extent[0] / GRID, (GRID, GRID)
    images = torch.cat(
        [image(w, optics, pixel_size=step, shape=shape, focal_points=5) for w in waves]
    )
    pixel = float(rng.uniform(0.16, 0.26) if rng.random() < 0.7 else rng.uniform(0.13, 0.26))
    frames = len(scene.weights)
    mixed = torch.einsum("tn,nyx->tyx", torch.from_numpy(scene.weights), images)
    reach = min(int(0.5 / pixel * extent[0]), (GRID - 1) // 2)
    spectrum = centred(torch.fft.rfft2(mixed, norm="forward"), [reach, reach])
    rotation = torch.from_numpy(scene.turned)
    if rng.random() < 0.6:
        rotation = rotation + rng.uniform(0, 360)
    way = rng.uniform(0, 2 * np.pi)
    steady = rng.uniform(0, 0.6) * np.arange(frames)[:, None] / RATE * [np.sin(way), np.cos(way)]
    drift = steady + np.cumsum(0.02 * rng.standard_normal((frames, 2)), 0)
    room = max(0.0, (extent[0] - size * pixel) / 2)
    shift = torch.from_numpy((drift + 0.6 * rng.uniform(-room, room, 2)).astype(np.float32))
    clean = []
    for some in torch.arange(frames).split(24):
        turn = rotation[some] if bool(rotation[some].any()) else 0.0
        moved = (shift[some, 0], shift[some, 1])
        clean.append(sampled(spectrum[some], extent, [pixel] * 2, (size, size), turn, moved))
    low, high = (2, 20) if rng.random() < 0.85 else (20, 200)
    dose = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    return Film(torch.cat(clean).clamp(min=0).half(), pixel, dose, scene.busy)


@dataclass
class _Course:
    """What is known of a scene while it is made, frame by frame."""

    specimens: list[Atoms] = field(default_factory=list)
    frames: list[list[int]] = field(default_factory=list)
    turned: list[float] = field(default_factory=list)
    busy: list[bool] = field(default_factory=list)

    def show(self, numbers: list[int], turned: float, busy: bool) -> None:
        """One more frame."""
        self.frames.append(numbers)
        self.turned.append(turned)
        self.busy.append(busy)

    def add(self, specimen: Atoms) -> int:
        """One more specimen, and its number."""
        self.specimens.append(specimen)
        return len(self.specimens) - 1


def restless_scene(seed: int, index: int, frames: int = 96) -> RestlessScene:
    """Scene number `index` of this seed: the same each time.

    Examples
    --------
    >>> scene = restless_scene(0, 0, frames=24)
    >>> scene.weights.shape[0], float(scene.weights.sum(1).min())
    (24, 1.0)
    """
    for attempt in range(100):
        try:
            return _scene(np.random.default_rng([seed, index, attempt]), frames)
        except InputError:  # it does not fit, or atoms would meet
            continue
    raise RuntimeError("no scene fits into the field")


def _scene(rng: np.random.Generator, frames: int) -> RestlessScene:
    support = Recipe(
        thickness=rng.uniform(25, 55),
        trilayers=int(rng.integers(3, 6)),
        oxygen_vacancies=int(rng.integers(0, 4)),
        field=66.0,
    )
    slab, _ = specimens.ceria(support, rng)
    width = specimens.periods(support.field) * specimens.PERIOD
    sharp = bool(rng.random() < 0.5)
    body = particle(rng.uniform(20, 34), sharp=sharp, sunk=rng.uniform(0.1, 0.45), rng=rng)
    tilt = np.tan(np.deg2rad(rng.uniform(-1.5, 1.5, 2))) * (rng.random() < 0.5)
    base = standing(body.atoms)
    offset = base[0] - body.atoms[0]
    foot = base[base[:, 1] < base[:, 1].min() + 0.1]
    pivot = np.array([rng.choice([foot[:, 0].min(), foot[:, 0].max()]), foot[0, 1]])

    def placed(state: Particle, angle: float) -> Atoms:
        atoms = state.atoms + offset
        cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
        atoms[:, :2] = (atoms[:, :2] - pivot) @ np.array([[cos, sin], [-sin, cos]]) + pivot
        atoms[:, :2] += tilt * atoms[:, 2:]
        made = assemble(atoms, slab, width=width)
        made.positions[:, :2] %= width
        return made

    course = _Course()
    angle = float(rng.uniform(-3, 3))
    turned = 0.0
    rest = course.add(placed(body, angle))
    left = int(rng.integers(10, 40))  # frames until the next event
    while len(course.frames) < frames:
        for k in _resting(rng, left):
            number = rest
            if k:
                column, target = hop(body, taken=[], number=k)
                number = course.add(placed(body.moved({column: target}), angle))
            course.show([number], turned, bool(k))
        duration = int(rng.integers(4, 11))
        turn = float(rng.uniform(-12, 12)) * (rng.random() < 0.8)
        whole = rng.random() < 0.15
        path = _change(rng, body, "migration" if sharp and rng.random() < 0.6 else "")
        for k in range(duration):
            times = (k + (np.arange(SAMPLES) + 0.5) / SAMPLES) / duration
            eased = times * times * (3 - 2 * times)
            states = [
                placed(path(t), angle + (0 if whole else turn * e))
                for t, e in zip(times, eased, strict=True)
            ]
            numbers = [course.add(state) for state in states]
            course.show(numbers, turned + whole * turn * float(eased.mean()), True)
        body, sharp = path(1.0), False
        angle, turned = angle + turn * (not whole), turned + turn * whole
        rest = course.add(placed(body, angle))
        left = int(rng.integers(30, 60))
    weights = np.zeros((frames, len(course.specimens)), np.float32)
    for t, numbers in enumerate(course.frames[:frames]):
        np.add.at(weights[t], numbers, 1 / len(numbers))
    used = np.flatnonzero(weights.any(0))
    return RestlessScene(
        [course.specimens[k] for k in used],
        weights[:, used],
        np.array(course.turned[:frames], np.float32),
        np.array(course.busy[:frames]),
    )


def _resting(rng: np.random.Generator, frames: int) -> list[int]:
    """For each frame of a rest 0, or which column hops; a hop lasts one to three frames."""
    shown = [0] * frames
    if frames > 8 and rng.random() < 0.7:
        start, length = int(rng.integers(3, frames - 4)), int(rng.integers(1, 4))
        shown[start : start + length] = [int(rng.integers(1, 4))] * length
    return shown


def _change(rng: np.random.Generator, body: Particle, kind: str) -> Any:
    """A way from a particle to another: a function of the time from 0 to 1."""
    kind = kind or str(rng.choice(KINDS[1:]))
    if kind == "migration":
        edge = edge_columns(body, int(rng.integers(1, 4)))
        first, second = (facet_columns(body, edge, layer) for layer in (1, 2))
        if 0 < len(edge) <= len(first) and len(second) > len(edge) // 3:
            settled = body.moved(dict(zip(edge, first, strict=False)))
            return lambda t: settled if t >= 1 else migrating(body, edge, first, second, t, rng)
        kind = "hops"
    after = body
    for _ in range(int(rng.integers(1, 5))):
        after = _CHANGES[kind](rng, after)
    moment = float(rng.uniform(0.2, 0.8))
    return lambda t: after if t > moment else body


def _hopped(rng: np.random.Generator, body: Particle) -> Particle:
    column, target = hop(body, taken=[], number=int(rng.integers(0, 3)))
    return body.moved({column: target})


def _exposed(body: Particle) -> Iterator[tuple[float, int]]:
    """Neighbours of an atom of each column that is not at the support, and the column."""
    atoms = body.atoms
    floor = atoms[:, 1].min() + 4
    for column, members in body.occupied.items():
        if members[0, 1] > floor:
            yield float(neighbours(members, atoms).mean()), column


def _without(rng: np.random.Generator, body: Particle) -> Particle:
    weakest = sorted(_exposed(body))[:4]
    gone = weakest[int(rng.integers(len(weakest)))][1]
    return Particle(body.sites, body.column, {c: a for c, a in body.occupied.items() if c != gone})


def _grown(rng: np.random.Generator, body: Particle) -> Particle:
    atoms = body.atoms
    floor = atoms[:, 1].min() + 4
    around = neighbours(body.sites, atoms)
    free = np.unique(body.column[around >= 3])
    centres = {c: a[:, :2].mean(0) for c, a in body.occupied.items()}
    choices: list[tuple[int, Array]] = []
    for column in free.tolist():
        place = body.centre(column)
        apart = {c: float(np.linalg.norm(place - centre)) for c, centre in centres.items()}
        nearest = min(apart, key=lambda c: apart[c])
        if apart[nearest] > 2.0 and place[1] > floor:
            beside = body.occupied[nearest][:, 2]
            sites = body.sites[body.column == column]
            inside = (sites[:, 2] > beside.min() - 1.5) & (sites[:, 2] < beside.max() + 1.5)
            if inside.any():
                choices.append((column, sites[inside]))
    if not choices:
        return body
    column, found = choices[int(rng.integers(len(choices)))]
    return Particle(body.sites, body.column, body.occupied | {column: found})


_CHANGES = {"hops": _hopped, "loss": _without, "gain": _grown, "none": lambda rng, body: body}  # noqa: ARG005
