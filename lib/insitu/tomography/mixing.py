"""Volumes of a particle of which one knows *how* it changes: two metals mix in it.

Where the law of the change is known, there is one volume to be found and not one a tilt: that of
the first moment. The law makes all later ones of it, and every tilt speaks about all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insitu import InputError
from insitu.learning import checkpoints
from insitu.tomography.prior import Generator, Shape
from insitu.tomography.projection import project
from insitu.tomography.series import TiltSeries

Array = NDArray[np.float32]
STEP, GROWTH = 0.25, 0.5  # the first step [voxels^2]; later ones, of what has diffused before


def advance(share: Tensor, solid: Tensor, amount: Tensor, *, before: float = 0.0) -> Tensor:
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
    faces = [
        torch.minimum(solid.narrow(axis, 0, n - 1), solid.narrow(axis, 1, n - 1))
        for axis, n in enumerate(solid.shape)
    ]
    room = solid.clamp(min=1e-3)

    def gained(g: Tensor) -> Tensor:
        change = torch.zeros_like(g)
        for axis, face in enumerate(faces):
            flux = torch.diff(g, dim=axis) * face
            pad = [0, 0] * (2 - axis)
            change = change + functional.pad(flux, [*pad, 0, 1])
            change = change - functional.pad(flux, [*pad, 1, 0])
        return change / room

    total, done = float(amount.detach()), 0.0
    while done < total:
        step = min(max(STEP, GROWTH * (before + done)), total - done)
        share = _stepped(share, gained, amount * (step / total), step)
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


def shares_at(
    times: Sequence[float], share: Tensor, solid: Tensor, diffusivity: Tensor
) -> Iterator[Tensor]:
    """Shares (z, y, x) at rising times, from that at time 0 on; see `advance`."""
    for before, now in pairwise([0.0, *times]):
        if now > before:
            already = before * float(diffusivity.detach())
            share = advance(share, solid, diffusivity * (now - before), before=already)
        yield share


@dataclass(frozen=True)
class Mixing:
    """A particle that rests, in which two metals mix by diffusion: one volume and two numbers.

    Parameters
    ----------
    contrast : float
        Intensity of the brighter metal over that of the other.
    shape : Shape
        Of the generator that draws the first volume.
    variation : float
        Weight of the total variation.
    offset : float
        Of the tilt axis from the middle of the detector [pixels].

    Raises
    ------
    InputError
        If the contrast is not above 1.
    """

    contrast: float
    shape: Shape = field(default_factory=Shape)
    variation: float = 0.5
    offset: float = 0.0
    sharpness: ClassVar[float] = 1.0  # of the filter of differences
    steady: ClassVar[float] = 0.0  # nothing changes but by the law

    def __post_init__(self) -> None:
        if not (math.isfinite(self.contrast) and self.contrast > 1):
            raise InputError(f"contrast: got {self.contrast:g}, allowed is more than 1")

    @property
    def brightest(self) -> float:
        """Intensity of what is brightest, about."""
        return self.contrast

    def network(self, series: TiltSeries, held: NDArray[np.int64], seed: int) -> _Drawn:  # noqa: ARG002
        """Make the network that is fitted to a series."""
        return checkpoints.seeded(_Drawn, seed, series=series, assumed=self)


@dataclass
class Mixture:
    """Two metals in a particle that rests: I (t) = brightness s (1 + (contrast - 1) g(t)).

    Parameters
    ----------
    solid, share : (z, y, x) arrays
        s, the part of each voxel that is particle, and g, the share of the brighter metal, at the
        first tilt.
    moments : array
        Of the tilts, (t,), from 0 to 1.
    brightness : float
        Intensity of the dimmer metal.
    contrast : float
        That of the brighter one over it.
    diffusivity : float
        [voxels^2 per experiment].
    offset : float
        Of the tilt axis from the middle of the detector [pixels].
    """

    solid: Array
    share: Array
    moments: Array
    brightness: float
    contrast: float
    diffusivity: float
    offset: float

    def each(self, tilts: Sequence[int]) -> Iterator[Array]:
        """Volumes (z, y, x) at tilts by number, in rising order, one by one."""
        times = [float(self.moments[k]) for k in tilts]
        solid, share = torch.from_numpy(self.solid), torch.from_numpy(self.share)
        for g in shares_at(times, share, solid, torch.tensor(self.diffusivity)):
            u: Array = np.float32(self.contrast - 1) * g.numpy() + 1
            u *= np.float32(self.brightness) * self.solid
            yield u

    def places(self, tilt: Tensor) -> Tensor:
        """Place of the tilt axis, the same at every tilt, (n,) [pixels]."""
        return torch.full((len(tilt),), self.offset)


class _Drawn(nn.Module):
    """A generator that draws s and g, as that of `prior` draws slices, and two numbers more."""

    angles: Tensor

    def __init__(self, series: TiltSeries, assumed: Mixing) -> None:
        super().__init__()
        _, self.together, size = series.projections.shape
        depth, self.assumed, self.moments = self.together, assumed, series.moments
        self.group = min(assumed.shape.together, depth)  # slices that are drawn at once
        shape = replace(assumed.shape, together=2 * self.group)
        self.generator = Generator(size, 2 * depth, shape)
        self.brightness = nn.Parameter(torch.zeros(1))  # logarithms
        self.rate = nn.Parameter(torch.full((1,), 2 * math.log(size / 10) / 5))
        angles = torch.tensor(series.angles, dtype=torch.float32)
        self.register_buffer("angles", angles, persistent=False)

    def turn(self, used: NDArray[np.int64], seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Six tilts a step, all slices of them in rising order of one course of the mixing."""
        rng = np.random.default_rng([seed, step])
        return self._all_of(np.sort(rng.choice(used, min(6, len(used)), replace=False)))

    def judged(self, tilts: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        """All of them in one course of the mixing."""
        yield self._all_of(tilts)

    def _all_of(self, tilts: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        tilt = torch.tensor(tilts, device=self.rate.device)
        return tilt, torch.zeros_like(tilt)  # one block has all slices

    def diffusivity(self) -> Tensor:
        return torch.exp(5 * self.rate)

    def first(self) -> tuple[Tensor, Tensor]:
        """Return s and g at the first tilt, (z, y, x)."""
        blocks = torch.arange(self.generator.blocks, device=self.rate.device)
        start = torch.zeros(len(blocks), device=blocks.device)
        drawn = 1 - torch.exp(-self.generator(blocks, start, start))
        solid, share = drawn.split(self.group, 1)  # from 0 to 1 both
        return solid.flatten(0, 1)[: self.together], share.flatten(0, 1)[: self.together]

    def forward(self, tilt: Tensor, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG002
        """Volumes at tilts, twice, and how they are seen."""
        solid, share = self.first()
        times = [float(self.moments[k]) for k in tilt.tolist()]
        shares = torch.stack(list(shares_at(times, share, solid, self.diffusivity())))
        u = torch.exp(self.brightness) * solid * (1 + (self.assumed.contrast - 1) * shares)
        shifts = torch.full((len(tilt),), self.assumed.offset, device=tilt.device)
        return u, u, project(u, self.angles[tilt], shifts=shifts)

    @torch.no_grad()
    def at_scale(self, scale: float) -> Mixture:
        """The mixture, once it is fitted: the intensity drawn as 1 is `scale`."""
        solid, share = (part.cpu().numpy() for part in self.first())
        brightness, rate = scale * float(torch.exp(self.brightness)), float(self.diffusivity())
        contrast, offset = self.assumed.contrast, self.assumed.offset
        return Mixture(solid, share, self.moments, brightness, contrast, rate, offset)
