"""The network that counts atoms: from an image to classes, numbers of atoms, and conditions.

It sees an image of ceria with pixels of 0.2 A and says of every pixel whether it belongs to a
column of cations, of anions, or to none, and how many atoms that column holds: not a number but a
distribution over 0 to 12, by continuation ratios [1]_,

    P(n = k) = sigmoid(l_1) ... sigmoid(l_k) (1 - sigmoid(l_{k+1})).

Of the whole image it says how it was taken, and whether it is one of those that it was taught.

.. [1] W. Cao, V. Mirjalili, S. Raschka, Pattern Recognit. Lett. 140 (2020) 325; X. Shi, W. Cao,
   S. Raschka, Pattern Anal. Appl. 26 (2023) 941, for the conditional kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from insitu.denoise.local_wiener import local_wiener
from insitu.denoise.networks import Residual

PIXEL = 0.2  # of the network [A]
MOST = 12  # atoms in a column
CLASSES = ("background", "cation", "anion")
CONDITIONS = ("defocus", "tilt", "thickness")  # what it says of an image
UNITS = (60.0, 3.0, 6.0)  # in which it says so: [A], degrees, atoms
WINDOWS = (32, 64)  # pixels, of the local Wiener filter


class Answer(NamedTuple):
    """What the network says of images (n, 1, y, x)."""

    classes: Tensor  # (n, 3, y, x) logits of CLASSES
    atoms: Tensor  # (n, 12, y, x) logits of one atom more
    conditions: Tensor  # (n, 3) in UNITS
    spread: Tensor  # (n, 3) logarithm of their standard deviations
    inside: Tensor  # (n,) logit of being like what was taught


class AtomCounter(nn.Module):
    """A pyramid of convolutions that knows of the whole image: counts to classes and atoms.

    It is shown the counts over their mean, the same filtered by `local_wiener` in windows of 6 and
    13 A, and the number of electrons in a pixel. Mean and mean square of its coarsest level over
    the image give the conditions, and go back to every pixel: thickness and defocus are the
    image's.

    Parameters
    ----------
    channels : int
        At the finest level; each further one has twice as many, up to 4 times.
    blocks : sequence of int
        Pairs of convolutions at each level.
    """

    def __init__(self, channels: int = 48, blocks: Sequence[int] = (1, 1, 2, 2)) -> None:
        super().__init__()
        self.options = {"channels": channels, "blocks": list(blocks)}
        widths = [channels * min(2**level, 4) for level in range(len(blocks))]
        last = widths[-1]
        self.first = nn.Conv2d(4 * (2 + len(WINDOWS)), channels, 3, padding=1)
        self.down = nn.ModuleList(_stage(w, n) for w, n in zip(widths, blocks, strict=True))
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.whole = nn.Sequential(nn.Linear(2 * last, last), nn.ReLU(), nn.Linear(last, last))
        self.told = nn.Linear(last, 2 * len(CONDITIONS) + 1)
        self.turn = nn.Linear(last, 2 * last)
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths)
        )
        self.up = nn.ModuleList(_stage(w, n) for w, n in zip(widths[:-1], blocks[:-1], strict=True))
        self.last = nn.Conv2d(channels, 4 * (len(CLASSES) + MOST), 3, padding=1)
        self.unit = 2 ** len(blocks)

    def forward(self, counts: Tensor) -> Answer:
        """Look at counts (n, 1, y, x) in pixels of 0.2 A, whose sides are multiples of `unit`."""
        mean = counts.float().mean((1, 2, 3), keepdim=True).clamp(min=1e-3)
        away = counts / mean - 1
        views = [away * (0.04 + 1 / mean).rsqrt()]
        views += [5 * local_wiener(away, side, apart=0.5) for side in WINDOWS]
        views.append(mean.log10().expand_as(away))
        x = self.first(functional.pixel_unshuffle(torch.cat(views, 1), 2))
        kept: list[Tensor] = []
        for stage, shrink in zip(self.down[:-1], self.shrink, strict=True):
            x = stage(x)
            kept.append(x)
            x = shrink(functional.relu(x))
        x = self.down[-1](x)
        active = functional.relu(x)
        squares = active.float().square().mean((2, 3)).add(1e-6).sqrt()
        image = self.whole(torch.cat([active.mean((2, 3)), squares.to(active.dtype)], 1))
        scale, offset = self.turn(functional.relu(image))[..., None, None].chunk(2, 1)
        x = x * (1 + scale) + offset
        for level in reversed(range(len(self.grow))):
            x = self.up[level](self.grow[level](functional.relu(x)) + kept[level])
        maps = functional.pixel_shuffle(self.last(functional.relu(x)), 2).float()
        told = self.told(functional.relu(image)).float()
        means, spreads = told[:, :-1].chunk(2, 1)
        classes, atoms = maps.split([len(CLASSES), MOST], 1)
        return Answer(classes, atoms, means, spreads.clamp(-4, 2), told[:, -1])


def _stage(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*[Residual(channels) for _ in range(blocks)])


def log_occupancy(logits: Tensor) -> Tensor:
    """Logarithm of P(n = 0), ..., P(n = 12), (n, 13, ...), of the logits of one atom more.

    >>> log_occupancy(torch.full((1, 12), 20.0)).exp()[0, -1].round(decimals=3)
    tensor(1.)
    """
    reached = torch.cumsum(functional.logsigmoid(logits), 1)
    reached = torch.cat([torch.zeros_like(reached[:, :1]), reached], 1)
    ends = torch.cat([functional.logsigmoid(-logits), torch.zeros_like(logits[:, :1])], 1)
    return reached + ends


def expected_atoms(logits: Tensor) -> Tensor:
    """Mean number of atoms (n, ...) of logits (n, 12, ...): the sum of P(n >= k)."""
    return torch.cumsum(functional.logsigmoid(logits), 1).exp().sum(1)
