"""Networks that predict a pixel of a movie without having seen its own count.

Both take (n, images, y, x), first the counts of the frame to be predicted and then what is shown
beside it, and give expected counts (n, 1, y, x). Neither has additive constants. `surroundings`
is what each asks to be shown, and `for_surroundings` makes one for what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from insitu import checks
from insitu.denoise.local_wiener import mirrored
from insitu.denoise.networks import BiasFreeUNet
from insitu.denoise.surroundings import FAR, FIVE, Surroundings

ALLOWED = (1, 3)  # sides of the square that is hidden: the pixel alone, or 3 x 3


class UDVD(nn.Module):
    """The unsupervised deep video denoiser [1]_: 2,123,664 weights.

    Every convolution sees only its own row and the rows above. Three overlapping triplets of
    five frames go through one such U-Net, its three answers through a second, in each of the
    four directions; moved on by one row, they have seen all of each frame but the pixel itself,
    and are combined by convolutions of 1 x 1. The pixel is hidden in all five frames, not only
    in the one whose noise it holds.

    Parameters
    ----------
    width : int
        Channels on the way down; on the way up there are twice as many.
    blind : int
        1 hides the pixel, 3 also its eight neighbours, for detectors whose noise is correlated.

    References
    ----------
    .. [1] D. Y. Sheth et al., Unsupervised deep video denoising, ICCV 2021.
    """

    images, unit = 5, 4  # frames t, t-2, t-1, t+1, t+2
    surroundings = FIVE

    def __init__(self, width: int = 48, blind: int = 1) -> None:
        super().__init__()
        self.options = {"width": width, "blind": blind}
        self.blind = checks.one_of("blind", blind, ALLOWED)
        third = 2 * width // 3
        self.first = _CausalUNet(3, third, width)
        self.second = _CausalUNet(3 * third, 2 * width, width)
        self.mix = nn.Sequential(
            nn.Conv2d(8 * width, 8 * width, 1, bias=False),
            nn.LeakyReLU(0.1),
            nn.Conv2d(8 * width, 2 * width, 1, bias=False),
            nn.LeakyReLU(0.1),
            nn.Conv2d(2 * width, 1, 1, bias=False),
        )

    @classmethod
    def for_surroundings(cls, shown: Surroundings, **options: Any) -> UDVD:  # noqa: ARG003
        """Make one; it is shown five frames in any case."""
        return cls(**options)

    def forward(self, frames: Tensor) -> Tensor:  # noqa: D102
        rows, columns = frames.shape[-2:]
        # filled up with nothing: a mirror image would show the pixel itself
        x = functional.pad(
            frames[:, [1, 2, 0, 3, 4]], (0, -columns % self.unit, 0, -rows % self.unit)
        )
        seen = []
        for turns in range(4):
            turned = torch.rot90(x, turns, (2, 3))
            triplets = torch.cat([turned[:, k : k + 3] for k in range(3)])
            answers = self.first(triplets).chunk(3)
            answer = _shifted(self.second(torch.cat(answers, 1)), (self.blind + 1) // 2)
            seen.append(torch.rot90(answer, -turns, (2, 3)))
        return self.mix(torch.cat(seen, 1))[..., :rows, :columns]


class _CausalUNet(nn.Module):
    """A U-Net of which an output row depends on no input row below it."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        wide = 2 * width
        down = [(inputs, width, width, width), (width,) * 4, (width, wide, wide, width)]
        up = [(wide,) * 5, (wide + inputs, wide, wide, wide, outputs)]
        self.down = nn.ModuleList(_causal(*channels) for channels in down)
        self.up = nn.ModuleList(_causal(*channels) for channels in up)

    def forward(self, x: Tensor) -> Tensor:
        first = _halved(self.down[0](x))
        answer = self.down[2](_halved(self.down[1](first)))
        for stage, kept in zip(self.up, (first, x), strict=True):
            answer = functional.interpolate(answer, scale_factor=2, mode="nearest")
            answer = stage(torch.cat([answer, kept], 1))
        return answer


class _CausalConvolution(nn.Conv2d):
    """3 x 3 over the row itself, the row above and the one above that."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, (1, 1, 2, 0)))


def _causal(*channels: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        parts += [_CausalConvolution(inputs, outputs), nn.LeakyReLU(0.1)]
    return nn.Sequential(*parts)


def _shifted(x: Tensor, rows: int) -> Tensor:
    """Move down, so that each row holds what the rows above it have seen."""
    return functional.pad(x, (0, 0, rows, 0))[..., : x.shape[-2], :]


def _halved(x: Tensor) -> Tensor:
    return functional.max_pool2d(_shifted(x, 1), 2)


class BlindVideoUNet(nn.Module):
    """Hides what must be hidden, and shows everything else.

    The frame to be predicted is cut into cells of s x s pixels, s = `blind` + 1. A U-Net is shown
    all pixels of all other images, and of this frame all but those within (`blind` - 1) / 2 of
    the first pixel of every cell; it predicts these first pixels. With the cells moved by one
    pixel at a time it predicts all. What it is denied of the other cells' first pixels, one wide
    filter with a hole in its middle brings back.

    Parameters
    ----------
    others : int
        Images shown beside the frame to be predicted, which hold none of its counts.
    own : int
        Further images, of which a pixel holds none of the counts that are predicted together
        with its own: of them, the first pixel of every cell is shown.
    averaged : int
        Further images, of which a pixel holds none of its own count: they are looked at only
        there. The answer begins as the last of all images.
    channels, levels, blocks
        Of the U-Net, as for `BiasFreeUNet`.
    blind : int
        Side of the square that is hidden, odd; 1 where noise is white.
    reach : int
        Half of the side of the wide filter [px].
    """

    hole: Tensor
    surroundings = FAR

    def __init__(
        self,
        others: int = 4,
        own: int = 0,
        averaged: int = 0,
        *,
        channels: int = 24,
        levels: int = 2,
        blocks: int | Sequence[int] = 1,
        blind: int = 1,
        reach: int = 10,
    ) -> None:
        super().__init__()
        self.blind = checks.one_of("blind", blind, ALLOWED)
        self.options = {
            "others": others,
            "own": own,
            "averaged": averaged,
            "channels": channels,
            "levels": levels,
            "blocks": blocks,
            "blind": blind,
            "reach": reach,
        }
        self.images, self.cell = 1 + others + own + averaged, blind + 1
        self.others, self.own = others, own
        more = own + averaged
        self.unit = self.cell * 2**levels
        near = {*range(blind // 2 + 1), *range(self.cell - blind // 2, self.cell)}
        places = product(range(self.cell), repeat=2)
        self.visible = [k for k, (y, x) in enumerate(places) if not (y in near and x in near)]
        inputs = others * self.cell**2 + len(self.visible) + own
        self.body = BiasFreeUNet(channels, levels, blocks, inputs=inputs, outputs=channels)
        side = 2 * reach + 1
        self.wide = nn.Conv2d(1, 8, side, stride=self.cell, padding=reach, bias=False)
        hole = torch.ones(side, side)
        hole[(middle := slice(reach - blind // 2, reach + blind // 2 + 1)), middle] = 0
        self.register_buffer("hole", hole, persistent=False)
        self.mixed = nn.Conv2d(others, 1, 5, stride=self.cell, padding=2, bias=False)
        self.mixed_own = nn.Conv2d(more, 1, 1, bias=False) if more else None
        combine = nn.Conv2d(channels + 8 + more, channels, 1, bias=False)
        last = nn.Conv2d(channels, 1, 1, bias=False)
        for part in (self.wide, combine, last):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        self.mix = nn.Sequential(combine, nn.ReLU(), last)
        with torch.no_grad():
            last.weight.mul_(0.1)
            self.mixed.weight.zero_()[0, -1, 2, 2] = float(more == 0)
            if self.mixed_own is not None:
                self.mixed_own.weight.zero_()[0, -1] = 1

    @classmethod
    def for_surroundings(cls, shown: Surroundings, **options: Any) -> BlindVideoUNet:
        """Make one with an input for each image that is shown."""
        return cls(shown.others, shown.filtered_own, shown.averaged, **options)

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        (rows, columns), cell = images.shape[-2:], self.cell
        sides = [-(-(n + cell) // self.unit) * self.unit for n in (rows, columns)]
        more = [(cell, side - n - 1) for n, side in zip((rows, columns), sides, strict=True)]
        others = mirrored(images[:, 1 : 1 + self.others], *more)
        # around the frame lie other images: its own mirror image would show hidden pixels
        given = torch.cat([images[:, :1], images[:, 1 + self.others :]], 1)
        frame = others[:, -1:].repeat(1, given.shape[1], 1, 1)
        frame[..., cell : cell + rows, cell : cell + columns] = given
        corners = list(product(range(cell), repeat=2))

        def moved(values: Tensor) -> Tensor:
            return torch.cat([values[..., y : y + sides[0], x : x + sides[1]] for y, x in corners])

        others, frame = moved(others), moved(frame)
        frame, own = frame[:, :1], frame[:, 1:, ::cell, ::cell]
        visible = functional.pixel_unshuffle(frame, cell)[:, self.visible]
        others_seen = functional.pixel_unshuffle(others, cell)
        seen = self.body(torch.cat([others_seen, visible, own[:, : self.own]], 1))
        around = functional.conv2d(
            frame, self.wide.weight * self.hole, stride=cell, padding=self.wide.padding
        )
        answer = self.mix(torch.cat([seen, around, own], 1)) + self.mixed(others)
        if self.mixed_own is not None:
            answer = answer + self.mixed_own(own)
        answer = answer.reshape(cell, cell, len(images), *answer.shape[-2:])
        answer = answer.permute(2, 3, 0, 4, 1).reshape(len(images), 1, *sides)
        return answer[..., cell : cell + rows, cell : cell + columns]
