"""The in situ movie and its truth.

Each exposure of a scene (`insitu.simulate.scenes`) is imaged at every specimen that shares it,
and the images are averaged: a camera integrates over what moves. A frame is one exposure, or a
few in proportion to their share of it, moved by the drift and counted by a detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from numpy.lib.recfunctions import append_fields
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from insitu import InputError
from insitu.checks import one_of, within
from insitu.counting.categorical import Categorical
from insitu.counting.poisson import Poisson
from insitu.simulate import scenes, specimens
from insitu.simulate.imaging import Optics, image
from insitu.simulate.resampling import resample
from insitu.simulate.waves import exit_wave, in_threads

_GRID = 300  # pixels of an exposure's image across the cell: 0.22 A, below half of 0.48 A
COLUMN_FIELDS = [
    ("exposure", "i4"),
    ("specimen", "i4"),
    ("label", "i4"),
    ("x", "f4"),
    ("y", "f4"),
    ("atoms", "i4"),
    ("surface", "?"),
]


@dataclass(frozen=True)
class Plan:
    """Everything that a movie is made from; the same plan gives the same movie."""

    scene: str = "turn"  # or pair
    frames: int = 128
    size: int = 256  # rows and columns
    pixel_size: float = 0.24  # [A]
    rate: float = 75.0  # [frames/s]
    dose: float = 8.0  # [e-/A^2] a frame
    diameter: float = 32.0  # of the particle [A]
    turn: float = 10.0  # [degrees], anticlockwise
    event: int = 64  # first frame of the event
    duration: int = 9  # of the event [frames]
    hops: tuple[tuple[float, float], ...] = ((44, 1), (50.5, 3.5), (57, 1), (116, 1), (121, 7))
    samples: int = 6  # specimens in an exposure in which atoms move
    drift: float = 0.3  # steady drift [A/s]
    jitter: float = 0.02  # standard deviation of the random walk's steps, one axis [A]
    defocus: float = -80.0  # [A]; columns of platinum are white
    detector: str = "poisson"  # or sub_frames: reads four times in a frame, one bit each
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "frames": (1, 100_000),
            "size": (16, 4096),
            "pixel_size": (0.02, 1),
            "rate": (0.1, 1e5),
            "dose": (0.01, 1e5),
            "turn": (-20, 20),
            "samples": (1, 100),
            "drift": (0, 1000),
            "jitter": (0, 10),
            "defocus": (-5000, 5000),
        }
        for name, (low, high) in limits.items():
            within(name, getattr(self, name), low, high)
        field = specimens.periods(scenes.SUPPORT.field) * specimens.PERIOD
        if self.size * self.pixel_size > field:
            raise InputError(
                f"size: {self.size} pixels of {self.pixel_size:g} A are more than the "
                f"{field:.0f} A of the simulated field; take fewer or smaller ones"
            )
        one_of("scene", self.scene, scenes.SCENES)
        one_of("detector", self.detector, ("poisson", "sub_frames"))

    @property
    def vacuum(self) -> float:
        """Electrons that reach a pixel of vacuum in one frame."""
        return self.dose * self.pixel_size**2


class SimulatedMovie(NamedTuple):
    """A movie with its truth. Times are in frames since the start, positions in angstrom."""

    plan: Plan
    counts: NDArray[np.uint8]  # (t, y, x) electrons; uint16 where they pass 255
    exposures: NDArray[np.float16]  # (n, y, x) clean images of the whole field, vacuum = 1
    extent: float  # of that field [A]
    weights: NDArray[np.float32]  # (t, n) share of each exposure in each frame
    drift: NDArray[np.float32]  # (t, 2) movement along y and x [A]
    angles: NDArray[np.float32]  # (t,) of the particle, anticlockwise [degrees]
    columns: NDArray[Any]  # columns of platinum in every specimen of every exposure
    events: list[dict[str, Any]]  # kind, start, end [frames], labels of the columns

    def clean(self) -> NDArray[np.float32]:
        """Clean frames, (t, y, x), relative to vacuum = 1."""
        exposures = torch.from_numpy(self.exposures.astype(np.float32))
        return _frames(self.plan, exposures, self.extent, self.weights, self.drift).numpy()

    def truth(self, frame: int) -> NDArray[Any]:
        """Columns of platinum seen in a frame.

        Returns
        -------
        structured array
            `label` of the column, `x` and `y` [A] in the frame from the middle of pixel (0, 0),
            `atoms`, `surface`, and `occupancy`: the share of the frame's time that it spent there;
            `exposure` and `specimen` say which of `columns` it is.
        """
        found = []
        offset = (self.extent - self.plan.size * self.plan.pixel_size) / 2
        for exposure in np.flatnonzero(self.weights[frame]):
            rows = self.columns[self.columns["exposure"] == exposure]
            share = self.weights[frame, exposure] / (rows["specimen"].max() + 1)
            shown = append_fields(rows, "occupancy", np.full(len(rows), share, "f4"), usemask=False)
            shown["y"] += self.drift[frame, 0] - offset
            shown["x"] += self.drift[frame, 1] - offset
            found.append(shown)
        return np.concatenate(found)


def parse_hops(text: str) -> tuple[tuple[float, float], ...]:
    """Read hops written as `start+duration`, in frames, separated by blanks.

    Raises
    ------
    InputError
        If the text is something else.
    """
    hops = []
    for word in text.split():
        try:
            start, length = map(float, word.split("+"))
        except ValueError:
            start = length = np.nan
        if not (np.isfinite(start) and 0 < length < np.inf):
            raise InputError(f"hops: got {word!r}, expected start+duration in frames, as 44+1")
        hops.append((start, length))
    return tuple(hops)


def make_movie(plan: Plan) -> SimulatedMovie:
    """Simulate a movie; the same plan gives the same bits, whatever the number of cores.

    Raises
    ------
    InputError
        If the scene cannot be built, as when the particle does not fit into the field.
    """
    scene = scenes.SCENES[plan.scene](plan)
    places = [e for e, exposure in enumerate(scene.exposures) for _ in exposure.specimens]
    tasks = [s for exposure in scene.exposures for s in exposure.specimens]
    extent = float(tasks[0].cell[0, 0])
    pictures = np.zeros((len(scene.exposures), _GRID, _GRID), dtype=np.float64)
    made = in_threads(partial(_picture, defocus=plan.defocus), tasks)
    for place, picture in zip(places, tqdm(made, "exposures", len(tasks)), strict=True):
        pictures[place] += picture / places.count(place)
    exposures = pictures.astype(np.float16)
    rng = np.random.default_rng([plan.seed, 1])
    direction = rng.uniform(0, 2 * np.pi)
    steady = np.arange(plan.frames)[:, None] / plan.rate * plan.drift
    drift = steady * [np.sin(direction), np.cos(direction)]
    drift = drift + np.cumsum(plan.jitter * rng.standard_normal((plan.frames, 2)), axis=0)
    drift = (drift - drift[0]).astype(np.float32)
    generator = torch.Generator().manual_seed(plan.seed)
    detector = Poisson() if plan.detector == "poisson" else Categorical.sub_frames(4)
    tensor = torch.from_numpy(exposures.astype(np.float32))
    counted = []
    for start in range(0, plan.frames, 32):
        part = slice(start, start + 32)
        clean = _frames(plan, tensor, extent, scene.weights[part], drift[part])
        counted.append(detector.sample(clean.clamp(min=0) * plan.vacuum, generator).numpy())
    counts = np.concatenate(counted)
    counts = counts.astype(np.uint8 if counts.max() < 256 else np.uint16)
    angle = np.array([np.mean(e.angles) for e in scene.exposures])
    return SimulatedMovie(
        plan,
        counts,
        exposures,
        extent,
        scene.weights,
        drift,
        (scene.weights @ angle).astype(np.float32),
        _columns(scene),
        scene.events,
    )


def _picture(specimen: Atoms, defocus: float) -> NDArray[np.float32]:
    """Clean image of the whole field."""
    wave = exit_wave(specimen, pixels=648)  # 0.1 A
    step = wave.extent[0] / _GRID
    lens = Optics(defocus=defocus)
    shown = image(wave, lens, pixel_size=step, shape=(_GRID, _GRID), focal_points=9)
    return np.asarray(shown[0].numpy())


def _frames(
    plan: Plan, exposures: Tensor, extent: float, weights: NDArray[Any], drift: NDArray[Any]
) -> Tensor:
    """Clean frames from the exposures' images."""
    mixed = torch.einsum("tn,nyx->tyx", torch.from_numpy(weights), exposures)
    dy, dx = torch.from_numpy(drift).unbind(1)
    field, shape = (extent, extent), (plan.size, plan.size)
    return resample(mixed, field, pixel_size=plan.pixel_size, shape=shape, shift=(dy, dx))


def _columns(scene: scenes.Scene) -> NDArray[Any]:
    rows = []
    for number, exposure in enumerate(scene.exposures):
        for index, specimen in enumerate(exposure.specimens):
            label = specimen.arrays["label"]
            for name in np.unique(label[label >= 0]):
                member = label == name
                x, y = specimen.positions[member, :2].mean(0)
                surface = bool(specimen.arrays["surface"][member][0])
                rows.append((number, index, name, x, y, member.sum(), surface))
    return np.array(rows, dtype=COLUMN_FIELDS)
