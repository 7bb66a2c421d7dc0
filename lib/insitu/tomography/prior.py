"""A specimen that may change in any way: a deep image prior, from a place and a time to slices.

What its generator can easily draw, and what changes smoothly with its inputs, is what
`volumes.fit` finds {cite}`ulyanov2018,yoo2021`. Nothing is learned from any other specimen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insitu.learning import checkpoints
from insitu.tomography.projection import disc, project
from insitu.tomography.series import TiltSeries

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """What a generator is made of."""

    width: int = 32  # features at every scale
    finest: int = 4  # convolutions at full resolution; edges are drawn there
    together: int = 16  # slices drawn at once
    time_waves: float = 1.0  # highest frequency of the time [periods per experiment]
    place_waves: float = 3.0  # highest frequency along the tilt axis [periods per particle]
    hidden: int = 128
    angle: bool = False  # show it the tilt angle, as the reference does; for comparison


class Generator(nn.Module):
    """(place, time) to a few neighbouring slices, nowhere below 0.

    Waves of place and time, two dense layers, a coarse picture, then convolutions of growing
    resolution. Features are normalised within each picture, never over a batch, so that a slice
    depends on nothing but its place and its time.
    """

    round: Tensor

    def __init__(self, size: int, depth: int, shape: Shape) -> None:
        super().__init__()
        self.size, self.depth, self.shape = size, depth, shape
        self.blocks = -(-depth // shape.together)
        scales = max(1, round(math.log2(size / 14)))
        self.coarse = -(-size // 2**scales)
        self.register_buffer("round", disc(size), persistent=False)
        nowhere = torch.zeros(1)
        inputs = self._inputs(nowhere, nowhere, nowhere).shape[1]
        self.dense = nn.Sequential(
            nn.Linear(inputs, shape.hidden),
            nn.SiLU(),
            nn.Linear(shape.hidden, shape.hidden),
            nn.SiLU(),
            nn.Linear(shape.hidden, shape.width * self.coarse**2),
        )
        self.scales = nn.ModuleList(
            nn.Sequential(*(part for _ in range(count) for part in _convolution(shape.width)))
            for count in [*[1] * scales, shape.finest]
        )
        self.last = nn.Conv2d(shape.width, shape.together, 3, padding=1)

    def _inputs(self, block: Tensor, time: Tensor, angle: Tensor) -> Tensor:
        inputs = [_waves(time, self.shape.time_waves)]
        if self.blocks > 1:
            inputs.append(_waves(block / (self.blocks - 1), self.shape.place_waves))
        if self.shape.angle:
            radians = torch.deg2rad(angle)[:, None]
            inputs += [torch.cos(radians), torch.sin(radians)]
        return torch.cat(inputs, 1)

    def forward(self, block: Tensor, time: Tensor, angle: Tensor) -> Tensor:
        """Draw slices.

        Parameters
        ----------
        block : Tensor of int
            (n,) which slices: block b has those from b * together on.
        time : Tensor
            (n,) from 0 to 1.
        angle : Tensor
            (n,) [degrees], which only some are shown.

        Returns
        -------
        Tensor
            (n, together, y, x).
        """
        x = self.dense(self._inputs(block, time, angle))
        x = self.scales[0](x.reshape(len(x), self.shape.width, self.coarse, self.coarse))
        for scale in self.scales[1:]:
            x = scale(functional.interpolate(x, scale_factor=2, mode="bilinear"))
        x = self.last(x)
        cut = (x.shape[-1] - self.size) // 2
        x = x[..., cut : cut + self.size, cut : cut + self.size]
        return functional.softplus(x) * self.round


def _convolution(width: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(4, width), nn.SiLU()


def _waves(position: Tensor, highest: float) -> Tensor:
    """Position and sines and cosines of it, (n, features)."""
    position = position.float()[:, None]
    frequencies = torch.arange(1, int(2 * highest) + 1, device=position.device) / 2
    phase = 2 * math.pi * position * frequencies
    return torch.cat((2 * position - 1, torch.sin(phase), torch.cos(phase)), 1)


@dataclass(frozen=True)
class FreeChange:
    """A specimen that may change in any way: each moment is what a generator draws.

    What can be assumed of it, and of each tilt, stands here; `volumes.fit` tells how each counts.

    Parameters
    ----------
    shape : Shape
        Of the generator.
    sharpness : float
        Exponent of the filter of differences; noise is sharpened, too, so that less may be more
        where there is much of it.
    variation : float
        Weight of the total variation.
    steady : float
        Weight of the change; for orders of tilts that take long to come around.
    gains, sizes, shifts : bool
        Fit a brightness a tilt, and a size a tilt, both of which the specimen's volumes have, too;
        fit the place of the tilt axis on the detector a tilt.
    offset : float
        Of the tilt axis from the middle of the detector [pixels].
    """

    shape: Shape = field(default_factory=Shape)
    sharpness: float = 1.0
    variation: float = 0.5
    steady: float = 0.0
    gains: bool = False
    sizes: bool = False
    shifts: bool = False
    offset: float = 0.0
    brightest: ClassVar[float] = 1.0  # of what it draws, about

    def network(self, series: TiltSeries, held: NDArray[np.int64], seed: int) -> FreeSpecimen:
        """Make the network that is fitted to a series of which some tilts are held back."""
        network = checkpoints.seeded(FreeSpecimen, seed, series=series, held=held, assumed=self)
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class FreeSpecimen(nn.Module):
    """A generator, and what each tilt may have of its own: brightness, size and place."""

    angles: Tensor  # (tilts,) [degrees]
    moments: Tensor  # (tilts,) times from 0 to 1
    near: Tensor  # (tilts, tilts) weights: a tilt held back has what its neighbours have
    gains: nn.Parameter | None
    sizes: nn.Parameter | None
    shifts: nn.Parameter | None

    def __init__(self, series: TiltSeries, held: NDArray[np.int64], assumed: FreeChange) -> None:
        super().__init__()
        count, depth, size = series.projections.shape
        together = min(assumed.shape.together, depth)
        self.generator = Generator(size, depth, replace(assumed.shape, together=together))
        self.together, self.assumed, self.scale = together, assumed, 1.0
        for name in ("gains", "sizes", "shifts"):
            own = nn.Parameter(torch.zeros(1, count)) if getattr(assumed, name) else None
            self.register_parameter(name, own)
        used = np.setdiff1d(np.arange(count), held)
        near = np.zeros((count, count))
        for number, row in zip(used, np.eye(len(used)), strict=True):
            near[:, number] = np.interp(series.moments, series.moments[used], row)
        values = {"angles": series.angles, "moments": series.moments, "near": near}
        for name, array in values.items():
            self.register_buffer(name, torch.tensor(array).float(), persistent=False)

    def turn(self, used: NDArray[np.int64], seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Tilts and blocks of a step: each pair once a round, in an order of the round's own."""
        blocks = np.arange(self.generator.blocks)
        pairs = np.stack(np.meshgrid(used, blocks, indexing="ij"), -1).reshape(-1, 2)
        batch = min(12, len(pairs))
        turn, first = divmod(step * batch, len(pairs) - len(pairs) % batch)
        order = np.random.default_rng([seed, turn]).permutation(len(pairs))
        chosen = torch.tensor(pairs[order[first : first + batch]], device=self.near.device)
        return chosen[:, 0], chosen[:, 1]

    def judged(self, tilts: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
        """All blocks of tilts, one tilt at a time."""
        blocks = torch.arange(self.generator.blocks, device=self.near.device)
        return ((torch.full_like(blocks, int(k)), blocks) for k in tilts)

    def drawn(self, tilt: Tensor, block: Tensor) -> Tensor:
        """Slices (n, together, y, x) of blocks at tilts, without their gains and sizes."""
        return self.generator(block, self.moments[tilt], self.angles[tilt])

    def forward(self, tilt: Tensor, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Slices of blocks at tilts, the same with gains and sizes, and how they are seen."""
        drawn, u = self._slices(tilt, block)
        return drawn, u, project(u, self.angles[tilt], shifts=self.places(tilt))

    def _slices(self, tilt: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
        drawn = u = self.drawn(tilt, block)
        if self.gains is not None:
            u = u * self.brightness(tilt)[:, None, None, None]
        if self.sizes is not None:
            square = torch.eye(2, 3, device=u.device) / self.extent(tilt)[:, None, None]
            u = functional.grid_sample(
                u,
                functional.affine_grid(square, list(u.shape), align_corners=False),
                align_corners=False,
            )
        return drawn, u

    def brightness(self, tilt: Tensor) -> Tensor:
        """Gain at tilts by number, (n,)."""
        return self._own(self.gains, 5, tilt)

    def extent(self, tilt: Tensor) -> Tensor:
        """Size at tilts by number, (n,), over that which is drawn."""
        return self._own(self.sizes, 10, tilt)

    def _own(self, logarithms: Tensor | None, rate: float, tilt: Tensor) -> Tensor:
        near = self.near[tilt]
        if logarithms is None:
            return torch.ones_like(near[:, 0])
        return torch.exp(rate * near @ logarithms[0])

    @torch.no_grad()
    def of_each_tilt(self) -> tuple[Array, Array]:
        """Gain and size of every tilt, (tilts,) each."""
        every = torch.arange(len(self.near), device=self.near.device)
        return self.brightness(every).cpu().numpy(), self.extent(every).cpu().numpy()

    def places(self, tilt: Tensor) -> Tensor:
        """Place of the tilt axis at tilts by number, (n,) [pixels]."""
        near = self.near[tilt]
        if self.shifts is None:
            return torch.full((len(near),), self.assumed.offset, device=near.device)
        return self.assumed.offset + near @ (self.shifts[0] - self.shifts.mean())

    def at_scale(self, scale: float) -> FreeSpecimen:
        """The specimen, once it is fitted: the intensity drawn as 1 is `scale`."""
        self.scale = scale
        return self

    @torch.no_grad()
    def each(self, tilts: Sequence[int]) -> Iterator[Array]:
        """Volumes (z, y, x) at tilts by number, one by one."""
        for tilt, block in self.judged(np.asarray(tilts)):
            u = self._slices(tilt, block)[1]
            yield np.float32(self.scale) * u.flatten(0, 1)[: self.generator.depth].cpu().numpy()
