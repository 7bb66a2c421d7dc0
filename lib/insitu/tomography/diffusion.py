"""Volumes of a particle of which one knows *how* it changes: two metals mix in it.

Where the law of the change is known, there is one volume to be found and not one a tilt: that of
the first moment. The law makes all later ones of it, and every tilt speaks about all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insitu import InputError, checkpoints
from insitu.tomography import penalties
from insitu.tomography.prior import Generator, Shape
from insitu.tomography.projection import project
from insitu.tomography.series import TiltSeries
from insitu.tomography.volumes import SETTINGS, held_back
from insitu.training import Settings, train

Array = NDArray[np.float32]
FAR = 3.0  # voxels^2 that are stepped over at once; sharp edges would be drawn wrongly by more


def diffused(share: Tensor, solid: Tensor, amount: Tensor) -> Tensor:
    """Let the share of a metal diffuse in a particle, with no flux through its surface.

    s dg/dt = div(s grad g) by finite volumes: what leaves a voxel arrives in its neighbour, and a
    voxel of which only a part is solid exchanges as much as that part allows. Time is stepped by
    Runge's and Kutta's method on Legendre polynomials, whose n stages reach as far as n^2 / 2
    explicit steps {cite}`meyer2014`.

    Parameters
    ----------
    share : Tensor
        g (z, y, x), from 0 to 1.
    solid : Tensor
        s (z, y, x), the part of each voxel that is particle.
    amount : Tensor
        Diffusivity times time [voxels^2], a number; differentiable.

    Returns
    -------
    Tensor
        (z, y, x); the sum of s g is kept.
    """
    parts = max(1, math.ceil(float(amount.detach()) / FAR))
    reach = float(amount.detach()) / parts
    stages = max(3, math.ceil(math.sqrt(12 * reach + 0.25) - 0.5))
    faces = [torch.minimum(*_sides(solid, axis)) for axis in range(3)]
    step = 2 * amount / parts / (stages**2 + stages) / solid.clamp(min=1e-3)

    def gained(g: Tensor) -> Tensor:
        total = torch.zeros_like(g)
        for axis, face in enumerate(faces):
            flux = torch.diff(g, dim=axis) * face
            pad = [0, 0] * (2 - axis)
            total = total + functional.pad(flux, [*pad, 0, 1]) - functional.pad(flux, [*pad, 1, 0])
        return step * total

    now = share
    for _ in range(parts):
        before, now = now, now + gained(now)
        for j in range(2, stages + 1):
            more = (2 * j - 1) / j
            before, now = now, more * (now + gained(now)) - (j - 1) / j * before
    return now


def _sides(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    length = values.shape[axis] - 1
    return values.narrow(axis, 0, length), values.narrow(axis, 1, length)


class Mixture(nn.Module):
    """u(t) = a s (1 + (contrast - 1) g(t)): an outline s that rests, and a share g that diffuses.

    A generator draws s and g(0), as that of `prior` draws slices; a and the diffusivity are
    fitted, too.

    Parameters
    ----------
    size, depth : int
        Rows and columns of a slice, and slices.
    contrast : float
        Intensity of the brighter metal over that of the other.
    shape : Shape
        Of the generator.
    """

    def __init__(self, size: int, depth: int, contrast: float, shape: Shape) -> None:
        super().__init__()
        self.size, self.depth, self.contrast = size, depth, contrast
        self.together = shape.together
        both = Shape(**{**vars(shape), "together": 2 * shape.together})
        self.generator = Generator(size, 2 * depth, both)
        self.brightness = nn.Parameter(torch.zeros(1))  # logarithms
        self.rate = nn.Parameter(torch.full((1,), 2 * math.log(size / 30) / 5))

    @property
    def diffusivity(self) -> Tensor:
        """[pixels^2 per experiment]; a thousandth of the field's area to begin with."""
        return torch.exp(5 * self.rate)

    def first(self) -> tuple[Tensor, Tensor]:
        """Outline and share of the first moment, (z, y, x)."""
        blocks = torch.arange(self.generator.blocks, device=self.rate.device)
        drawn = self.generator(blocks, torch.zeros_like(blocks, dtype=torch.float32))
        drawn = 1 - torch.exp(-drawn)  # sigmoids
        solid, share = drawn.split(self.together, 1)
        return solid.flatten(0, 1)[: self.depth], share.flatten(0, 1)[: self.depth]

    def forward(self, times: Sequence[float]) -> Tensor:
        """Volumes at rising times from 0 to 1, (t, z, y, x)."""
        solid, share = self.first()
        shares = []
        for before, now in pairwise([0.0, *times]):
            if now > before:
                share = diffused(share, solid, self.diffusivity * (now - before))
            shares.append(share)
        mixed = 1 + (self.contrast - 1) * torch.stack(shares)
        return torch.exp(self.brightness) * solid * mixed


@dataclass
class MixtureFit:
    """A mixture that was fitted to a tilt series; as `volumes.Fit`."""

    specimen: Mixture
    series: TiltSeries
    held: NDArray[np.int64]
    scale: float
    history: list[dict[str, float]]

    @torch.no_grad()
    def volumes(self, moments: Sequence[int] | None = None) -> Array:
        """Volumes at tilts by number, in rising order, all by default, (t, z, y, x)."""
        numbers = range(len(self.series.angles)) if moments is None else moments
        volumes = self.specimen([float(self.series.share[k]) for k in numbers])
        result: Array = self.scale * volumes.cpu().numpy()
        return result

    def place(self, number: int) -> Tensor:  # noqa: ARG002
        """Place of the tilt axis at a tilt by number: the middle."""
        return torch.zeros(1, device=self.specimen.rate.device)

    def held_error(self) -> float:
        """|A u - p| / |p| of the tilts held back."""
        return min(h["validation"] for h in self.history)


def fit(
    series: TiltSeries, settings: Settings = SETTINGS, *, contrast: float,
    shape: Shape | None = None, batch: int = 6, hold_every: int = 10, hold_first: int = 0,
    sharpness: float = 1.0, variation: float = 0.5, seed: int = 0,
    device: torch.device | str = "cpu", progress: bool = True, **more: Any,
) -> MixtureFit:  # fmt: skip
    """Fit a mixture that diffuses to a tilt series.

    The loss is that of `volumes.fit`, without a term for change: nothing changes but by the law.

    Parameters
    ----------
    series : TiltSeries
        Of the whole particle, centred.
    settings, shape, hold_every, hold_first, sharpness, variation, seed, device, progress
        As of `volumes.fit`.
    contrast : float
        Intensity of the brighter metal over that of the other.
    batch : int
        Tilts a step.
    more
        As of `training.train`.
    """
    count, depth, size = series.projections.shape
    if contrast <= 1:
        raise InputError(f"contrast: got {contrast:g}, allowed is more than 1")
    held = held_back(count, hold_every, hold_first)
    used = np.setdiff1d(np.arange(count), held)
    shape = shape or Shape(together=min(16, depth))
    made = checkpoints.seeded(
        Mixture, seed, size=size, depth=depth, contrast=contrast, shape=shape
    ).to(device)
    scale = float(series.projections[used].max()) / (size / 3) / contrast
    y = torch.tensor(series.projections / scale, device=device)
    angles = torch.tensor(series.angles, dtype=torch.float32, device=device)
    power = float((penalties.sharpened(y[used], sharpness) ** 2).mean())

    def compare(model: nn.Module, tilts: list[int]) -> tuple[Tensor, Tensor]:
        u = model([float(series.share[k]) for k in tilts])
        return u, project(u, angles[tilts]) - y[tilts]

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

    result = train(made, loss, validate, settings, progress=progress, **more)
    assert isinstance(result.network, Mixture)
    return MixtureFit(result.network, series, held, scale, result.history)
