"""The generator of a deep image prior: from a place and a time to slices of the specimen.

What it can easily draw, and what changes smoothly with its inputs, is what `volumes.fit` finds
{cite}`ulyanov2018,yoo2021`. Nothing is learned from any other specimen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from insitu.tomography.projection import disc


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
        inputs = len(_waves(torch.zeros(1), shape.time_waves)[0])
        inputs += len(_waves(torch.zeros(1), shape.place_waves)[0]) if self.blocks > 1 else 0
        inputs += 2 * shape.angle
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

    def forward(self, block: Tensor, time: Tensor, angle: Tensor | None = None) -> Tensor:
        """Draw slices.

        Parameters
        ----------
        block : Tensor of int
            (n,) which slices: block b has those from b * together on.
        time : Tensor
            (n,) from 0 to 1.
        angle : Tensor, optional
            (n,) [degrees], for a generator that is shown it.

        Returns
        -------
        Tensor
            (n, together, y, x).
        """
        inputs = [_waves(time, self.shape.time_waves)]
        if self.blocks > 1:
            inputs.append(_waves(block / (self.blocks - 1), self.shape.place_waves))
        if self.shape.angle and angle is not None:
            radians = torch.deg2rad(angle)[:, None]
            inputs += [torch.cos(radians), torch.sin(radians)]
        x = self.dense(torch.cat(inputs, 1))
        x = x.reshape(len(x), self.shape.width, self.coarse, self.coarse)
        for number, scale in enumerate(self.scales):
            if number:
                x = functional.interpolate(x, scale_factor=2, mode="bilinear")
            x = scale(x)
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
