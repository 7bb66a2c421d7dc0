"""Volumes of a particle of which one knows *how* it changes: two metals mix in it.

Where the law of the change is known, there is one volume to be found and not one a tilt: that of
the first moment. The law makes all later ones of it, and every tilt speaks about all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insitu import InputError
from insitu.learning import checkpoints
from insitu.learning.training import Settings, train
from insitu.tomography import penalties
from insitu.tomography.prior import Generator, Shape
from insitu.tomography.projection import project
from insitu.tomography.series import TiltSeries
from insitu.tomography.volumes import SETTINGS, held_back

Array = NDArray[np.float32]
NUMBERS = ("brightness", "contrast", "diffusivity", "offset")
STEP, GROWTH = 0.25, 0.5  # the first step [voxels^2]; later ones, of what has diffused before


def diffused(share: Tensor, solid: Tensor, amount: Tensor, *, before: float = 0.0) -> Tensor:
    """Let the share of a metal diffuse in a particle, with no flux through its surface.

    s dg/dt = div(s grad g) by finite volumes: what leaves a voxel arrives in its neighbour, and a
    voxel of which only a part is solid exchanges as much as that part allows. Steps are short
    while edges are sharp, and become longer as they blur; each is one of the Runge-Kutta method
    of second order on Legendre polynomials, whose n stages reach as far as n^2 / 4 explicit
    steps {cite}`meyer2014`.

    Parameters
    ----------
    share : Tensor
        g (z, y, x), from 0 to 1.
    solid : Tensor
        s (z, y, x), the part of each voxel that is particle.
    amount : Tensor
        Diffusivity times time [voxels^2], a number; differentiable.
    before : float
        Of it, what has diffused already.

    Returns
    -------
    Tensor
        (z, y, x); the sum of s g is kept.
    """
    faces = [torch.minimum(*_sides(solid, axis)) for axis in range(3)]
    room = solid.clamp(min=1e-3)

    def gained(g: Tensor) -> Tensor:
        total = torch.zeros_like(g)
        for axis, face in enumerate(faces):
            flux = torch.diff(g, dim=axis) * face
            pad = [0, 0] * (2 - axis)
            total = total + functional.pad(flux, [*pad, 0, 1]) - functional.pad(flux, [*pad, 1, 0])
        return total / room

    whole, done = float(amount.detach()), 0.0
    while done < whole:
        step = min(max(STEP, GROWTH * (before + done)), whole - done)
        share = _stepped(share, gained, amount * (step / whole), step)
        done += step
    return share


def _stepped(g: Tensor, gained: Callable[[Tensor], Tensor], amount: Tensor, size: float) -> Tensor:
    """One step of dg/dt = gained(g), whose fastest course dies out as exp(-12 t)."""
    stages = max(3, math.ceil(math.sqrt(24 * size + 2.25) - 0.5))
    b = [1 / 3, 1 / 3, *((j**2 + j - 2) / (2 * j * (j + 1)) for j in range(2, stages + 1))]
    unit = 4 * amount / (stages**2 + stages - 2)
    change = unit * gained(g)
    earlier, now = g, g + b[1] * change
    for j in range(2, stages + 1):
        mu, nu = (2 * j - 1) / j * b[j] / b[j - 1], (1 - j) / j * b[j] / b[j - 2]
        stepped = mu * (now + unit * gained(now) - (1 - b[j - 1]) * change)
        earlier, now = now, stepped + nu * earlier + (1 - mu - nu) * g
    return now


def _sides(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    length = values.shape[axis] - 1
    return values.narrow(axis, 0, length), values.narrow(axis, 1, length)


def mixed(solid: Tensor, share: Tensor, diffusivity: Tensor, times: Sequence[float]) -> Tensor:
    """Shares at rising times from 0 on, (t, z, y, x), of a share at time 0, (z, y, x)."""
    shares = []
    for before, now in pairwise([0.0, *times]):
        if now > before:
            already = before * float(diffusivity.detach())
            share = diffused(share, solid, diffusivity * (now - before), before=already)
        shares.append(share)
    return torch.stack(shares)


@dataclass
class Mixture:
    """Two metals in a particle that rests: I (t) = brightness s (1 + (contrast - 1) g(t)).

    Parameters
    ----------
    solid, share : (z, y, x) arrays
        s, the part of each voxel that is particle, and g, the share of the brighter metal, at the
        first tilt.
    brightness : float
        Intensity of the dimmer metal.
    contrast : float
        That of the brighter one over it.
    diffusivity : float
        [voxels^2 per experiment].
    series : TiltSeries
        To which it was fitted.
    held : array of int
        Tilts that it was not fitted to.
    history : list
        As of `volumes.Fit`.
    offset : float
        Of the tilt axis from the middle of the detector [pixels].
    """

    solid: Array
    share: Array
    brightness: float
    contrast: float
    diffusivity: float
    series: TiltSeries
    held: NDArray[np.int64]
    history: list[dict[str, float]]
    offset: float = 0.0

    def volumes(self, moments: Sequence[int] | None = None) -> Array:
        """Volumes at tilts by number, in rising order, all by default, (t, z, y, x)."""
        numbers = range(len(self.series.angles)) if moments is None else moments
        times = [float(self.series.share[k]) for k in numbers]
        solid, share = torch.from_numpy(self.solid), torch.from_numpy(self.share)
        shares: Array = mixed(solid, share, torch.tensor(self.diffusivity), times).numpy()
        shares *= np.float32(self.contrast - 1)
        shares += 1
        shares *= np.float32(self.brightness) * self.solid
        return shares

    def place(self, number: int) -> Tensor:  # noqa: ARG002
        """Place of the tilt axis, the same at every tilt, (1,) [pixels]."""
        return torch.tensor([self.offset])

    def held_error(self) -> float:
        """|A u - p| / |p| of the tilts held back."""
        return min(h["validation"] for h in self.history)


class _Drawn(nn.Module):
    """A generator that draws s and g, as that of `prior` draws slices, and two numbers more."""

    def __init__(self, size: int, depth: int, contrast: float, shape: Shape) -> None:
        super().__init__()
        self.depth, self.contrast, self.together = depth, contrast, shape.together
        self.generator = Generator(size, 2 * depth, replace(shape, together=2 * shape.together))
        self.brightness = nn.Parameter(torch.zeros(1))  # logarithms
        self.rate = nn.Parameter(torch.full((1,), 2 * math.log(size / 10) / 5))

    def diffusivity(self) -> Tensor:
        return torch.exp(5 * self.rate)

    def first(self) -> tuple[Tensor, Tensor]:
        blocks = torch.arange(self.generator.blocks, device=self.rate.device)
        drawn = 1 - torch.exp(-self.generator(blocks, torch.zeros(len(blocks)).to(blocks.device)))
        solid, share = drawn.split(self.together, 1)  # from 0 to 1 both
        return solid.flatten(0, 1)[: self.depth], share.flatten(0, 1)[: self.depth]

    def forward(self, times: Sequence[float]) -> Tensor:
        solid, share = self.first()
        shares = mixed(solid, share, self.diffusivity(), times)
        return torch.exp(self.brightness) * solid * (1 + (self.contrast - 1) * shares)


def fit(
    series: TiltSeries,
    settings: Settings = SETTINGS,
    *,
    contrast: float,
    shape: Shape | None = None,
    batch: int = 6,
    hold_every: int = 10,
    hold_first: int = 0,
    sharpness: float = 1.0,
    variation: float = 0.5,
    offset: float = 0.0,
    seed: int = 0,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Mixture:
    """Fit two metals that mix to a tilt series.

    The loss is that of `volumes.fit`, without a term for change: nothing changes but by the law.

    Parameters
    ----------
    series : TiltSeries
        Of the whole particle.
    contrast : float
        Intensity of the brighter metal over that of the other.
    batch : int
        Tilts a step, all of them in rising order of one course of the mixing.
    settings, shape, hold_every, hold_first, sharpness, variation, offset
        As of `volumes.fit`.
    seed, checkpoint, device, progress
        As of `volumes.fit`.

    Raises
    ------
    InputError
        If fewer than three tilts are left to fit, or the contrast is not above 1.
    """
    count, depth, size = series.projections.shape
    if not (np.isfinite(contrast) and contrast > 1):
        raise InputError(f"contrast: got {contrast:g}, allowed is more than 1")
    held, used = held_back(count, hold_every, hold_first)
    shape = shape or Shape(together=min(16, depth))
    made = checkpoints.seeded(
        _Drawn, seed, size=size, depth=depth, contrast=contrast, shape=shape
    ).to(device)
    scale = float(series.projections[used].max()) / (size / 3) / contrast
    y = torch.tensor(series.projections / scale, device=device)
    angles = torch.tensor(series.angles, dtype=torch.float32, device=device)
    power = float((penalties.sharpened(y[used], sharpness) ** 2).mean())

    def compare(model: nn.Module, tilts: list[int]) -> tuple[Tensor, Tensor]:
        u = model([float(series.share[k]) for k in tilts])
        shifts = torch.full((len(tilts),), offset, device=device)
        return u, project(u, angles[tilts], shifts=shifts) - y[tilts]

    def loss(model: nn.Module, step: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        tilts = np.sort(rng.choice(used, min(batch, len(used)), replace=False)).tolist()
        u, difference = compare(model, tilts)
        value = (penalties.sharpened(difference, sharpness) ** 2).mean() / power
        return value + variation * size / 64 * penalties.variation(u / contrast)

    judged = (held if len(held) else used).tolist()

    def validate(model: nn.Module) -> float:
        error = (compare(model, judged)[1] ** 2).mean() / (y[judged] ** 2).mean()
        return float(error) ** 0.5

    run = {
        "series": series.digest(),
        "held": held.tolist(),
        "shape": asdict(shape),
        "contrast": contrast,
        "batch": batch,
        "sharpness": sharpness,
        "variation": variation,
        "offset": offset,
        "seed": seed,
    }
    result = train(
        made, loss, validate, settings, checkpoint=checkpoint, about=run, progress=progress
    )
    drawn = result.network
    assert isinstance(drawn, _Drawn)
    with torch.no_grad():
        solid, share = (part.cpu().numpy() for part in drawn.first())
        brightness, diffusivity = float(torch.exp(drawn.brightness)), float(drawn.diffusivity())
    return Mixture(
        solid,
        share,
        scale * brightness,
        contrast,
        diffusivity,
        series,
        held,
        result.history,
        offset,
    )


def save(fits: Sequence[Mixture], path: Path, record: Mapping[str, Any]) -> Path:
    """Write the first volumes of an ensemble, in half precision, and what belongs to them."""
    tensors = {
        f"{n}.{k}": torch.from_numpy(getattr(f, k)).half()
        for n, f in enumerate(fits)
        for k in ("solid", "share")
    }
    told = [
        {"held": f.held.tolist(), "history": f.history, **{k: getattr(f, k) for k in NUMBERS}}
        for f in fits
    ]
    own = {"series": fits[0].series.sample(), "mixtures": told}
    return checkpoints.save(path, tensors, {**own, **record}, readable=True)


def load(path: Path, series: TiltSeries) -> list[Mixture]:
    """Read an ensemble that was fitted to this series.

    Raises
    ------
    InputError
        If the file is not that of an ensemble, or belongs to another series.
    """
    tensors, record = checkpoints.load(path)
    try:
        fits = []
        for n, told in enumerate(record["mixtures"]):
            solid, share = (tensors[f"{n}.{k}"].float().numpy() for k in ("solid", "share"))
            numbers = {k: float(told[k]) for k in NUMBERS}
            held = np.array(told["held"], np.int64)
            fits.append(
                Mixture(solid, share, series=series, held=held, history=told["history"], **numbers)
            )
        there = record["series"]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"checkpoint: {path.name} is not that of mixtures") from None
    series.refuse_another(there, path.name)
    return fits
