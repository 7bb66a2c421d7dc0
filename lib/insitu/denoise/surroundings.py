"""What a blind network is shown of a movie beside the frame that it is to predict.

The frames around, near ones one by one and farther ones averaged in groups, and what
`local_wiener` makes of their averages. Frames 3 to 5 away are left out on purpose: their counts
are independent of the prediction and can judge it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from insitu.denoise.binning import Box, Frames, widened
from insitu.denoise.local_wiener import local_wiener

HALO = 96  # pixels around a block or tile that its filters and networks may look at


@dataclass(frozen=True)
class Surroundings:
    """What is shown beside the frame to be predicted.

    Parameters
    ----------
    groups : sequence of sequences of int
        Offsets in time, 0 not among them; the frames of a group are averaged.
    windows : sequence of int
        Sides of the windows of the local Wiener filter [px].
    filtered : sequence of int
        How many of the first groups are averaged and filtered, for each average.
    own : bool
        Filter the frame itself, too, alone and averaged with its two neighbours, the pixels to
        be predicted being replaced by their neighbours in time first; and average all pictures
        of the widest window by how well they predict the counts around (`weighted`).
    blind : int
        As for the network.
    """

    groups: tuple[tuple[int, ...], ...]
    windows: tuple[int, ...] = (32, 96)
    filtered: tuple[int, ...] = ()
    own: bool = False
    blind: int = 1

    @property
    def others(self) -> int:
        """Images that hold none of the frame's own counts."""
        return len(self.groups) + len(self.windows) * len(self.filtered)

    @property
    def filtered_own(self) -> int:
        """Images of which no pixel holds a count of its own phase of the grid of cells."""
        return 2 * len(self.windows) if self.own else 0

    @property
    def averaged(self) -> int:
        """Images of which no pixel holds its own count, but those of its phase."""
        return 1 + len(self.experts) if self.own else 0

    @property
    def reach(self) -> int:
        """Farthest frame that is looked at."""
        return max(abs(o) for group in self.groups for o in group)

    def backwards(self) -> list[int]:
        """Order of the frame and all images when time runs backwards."""
        opposite = [tuple(sorted(-o for o in group)) for group in self.groups]
        order = [1 + opposite.index(tuple(sorted(group))) for group in self.groups]
        count = 1 + self.others + self.filtered_own + self.averaged
        return [0, *order, *range(1 + len(order), count)]

    @property
    def experts(self) -> list[int]:
        """Which images are of the widest window, with `own`."""
        count = len(self.windows)
        first = len(self.groups) + count
        return list(range(first, first + count * (len(self.filtered) + 2), count))

    def fitted(self, shape: Sequence[int], blind: int) -> Surroundings:
        """The same for frames of that shape: no window is wider than the frame."""
        widest = min(shape) // 4 * 4
        windows = tuple(sorted({min(side, widest) for side in self.windows}))
        return replace(self, windows=windows, blind=blind)

    def around(self, movie: Frames, t: int, place: Box) -> Tensor:
        """Return a part of a frame and what is shown beside it: others, filtered_own, averaged.

        All of it, (k, y, x), is filtered with `HALO` pixels around. Where the movie ends, the
        other side stands in for frames that do not exist, and all other frames where there are
        none on that side either.
        """
        seen, inner = widened(place, movie.shape[1:], HALO)
        begin, end = max(0, t - self.reach), min(movie.shape[0], t + self.reach + 1)
        stack = np.asarray(movie[begin:end, seen[0], seen[1]])
        images = self.compose(torch.from_numpy(np.ascontiguousarray(stack)).float(), t - begin)
        return images[:, inner[0], inner[1]]

    def compose(self, stack: Tensor, t: int) -> Tensor:
        """Make all images of frame t of a stack (t, y, x) that holds the frames within reach."""
        frame = stack[t]

        def near(offsets: Sequence[int]) -> list[int]:
            return [t + o for o in offsets if 0 <= t + o < len(stack)]

        shown, shares = [], []
        rest = near(sorted({o * sign for group in self.groups for o in group for sign in (1, -1)}))
        for group in self.groups:
            chosen = near(group) or near([-o for o in group]) or rest
            shown.append(stack[chosen].mean(0))
            shares.append(float(len(chosen)))
        plain = []
        for number in self.filtered:
            share = torch.tensor(shares[:number])[:, None, None]
            plain.append((torch.stack(shown[:number]) * share).sum(0) / share.sum())
        two = stack[near((-1, 1)) or rest][:2]
        filled = self._filled(frame, two.mean(0)) if self.own else []
        if plain or filled:  # all at once, which is several times as fast
            pictures = self._filter(torch.stack([*plain, *filled]))
            shown += pictures[: len(plain)].flatten(0, 1)
        if self.own:
            shown += self._phases(pictures[len(plain) :])
            experts = torch.stack([shown[k - 1] for k in self.experts])
            # of other frames alone: not even a mean over the frame may know the pixel
            noise = (two[0] - two[-1]).square().mean() / 2 if len(two) > 1 else two.var()
            level = two.abs().mean()
            variance = noise * (experts[0] / level.clamp(min=1e-12)).clamp(min=0.1)
            shares_of, best = weighted(frame, experts, variance, self.blind, self.windows[-1])
            shown += [*(shares_of * level), best]
        return torch.stack([frame, *shown])

    def _filled(self, frame: Tensor, beside: Tensor) -> list[Tensor]:
        """For each phase of the grid of cells two images in which its pixels are replaced."""
        cell, half, images = self.blind + 1, self.blind // 2, []
        rows, columns = (torch.arange(n) for n in frame.shape)
        for y, x in product(range(cell), repeat=2):
            of_rows = (rows - y + half) % cell <= 2 * half
            of_columns = (columns - x + half) % cell <= 2 * half
            filled = torch.where(of_rows[:, None] & of_columns, beside, frame)
            images += [filled, (filled + 2 * beside) / 3]
        return images

    def _phases(self, pictures: Tensor) -> Tensor:
        """Put every phase's pixels together, of pictures (phases x 2, windows, y, x) of it."""
        cell = self.blind + 1
        answers = torch.empty(pictures[:2].shape)
        for k, (y, x) in enumerate(product(range(cell), repeat=2)):
            own = pictures[2 * k : 2 * k + 2]
            answers[..., y::cell, x::cell] = own[..., y::cell, x::cell]
        return answers.flatten(0, 1)

    def _filter(self, images: Tensor) -> Tensor:
        """Filter images (n, y, x) in windows of all sides: (n, windows, y, x)."""
        each = [local_wiener(images[:, None], s, threshold=4.5, apart=0.5) for s in self.windows]
        return torch.cat(each, 1)


def weighted(
    frame: Tensor, experts: Tensor, variance: Tensor, blind: int, side: int
) -> tuple[Tensor, Tensor]:
    """Average predictions of a frame by how likely each makes the counts around a pixel.

    The weight of a prediction m_k is exp(L_k) / sum_j exp(L_j) (Bayes' rule for equal priors),
    L_k = sum -(y - m_k)^2 / 2 v, over the counts y within half of `side`. Only counts on the
    pixel's own phase of the grid of cells are taken, and not its own, because a prediction made
    for another phase may have seen the pixel.

    Parameters
    ----------
    frame : (y, x) tensor
        Counts.
    experts : (k, y, x) tensor
        Predictions, none of which has seen the count of its own pixel.
    variance : (y, x) tensor
        v of the counts, roughly, from elsewhere.
    blind : int
        As for the network.
    side : int
        Of the square around a pixel [px].

    Returns
    -------
    (k, y, x) tensor, (y, x) tensor
        The weights, and the average.
    """
    cell = blind + 1
    surprise = (frame - experts).square() / (2 * variance.clamp(min=1e-12))
    sums = torch.empty_like(experts)
    reach = max(1, side // (2 * cell))
    for y, x in product(range(cell), repeat=2):
        sums[:, y::cell, x::cell] = _around(surprise[:, y::cell, x::cell], reach)
    weights = torch.softmax(-sums, 0)
    return weights, (weights * experts).sum(0)


def _around(values: Tensor, reach: int) -> Tensor:
    """Sum over a square without its middle: the middle is never added, not even to be taken off."""

    def pooled(values: Tensor, size: int, *pad: int) -> Tensor:  # sums of so many rows
        padded = functional.pad(values, (0, 0, *pad))
        return functional.avg_pool2d(padded, (size, 1), 1, divisor_override=1)

    def beside(values: Tensor) -> Tensor:  # rows above and below, without the row itself
        above = pooled(values[..., :-1, :], reach, reach, 0)
        return above + pooled(values[..., 1:, :], reach, 0, reach)

    if min(values.shape[-2:]) < 2:
        return torch.zeros_like(values)
    rows = pooled(values.mT, 2 * reach + 1, reach, reach).mT
    return beside(rows) + beside(values.mT).mT


FIVE = Surroundings(((-2,), (-1,), (1,), (2,)), windows=())  # what UDVD is shown
FAR = Surroundings(
    (
        *FIVE.groups,
        tuple(range(-12, -5)),
        tuple(range(6, 13)),
        tuple(range(-32, -12)),
        tuple(range(13, 33)),
    ),
    filtered=(4, 6, 8),
    own=True,
)
