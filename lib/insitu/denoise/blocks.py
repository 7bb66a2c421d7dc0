"""What is learned of a movie: blocks of it, without the counts held back, by a loss that fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insitu import InputError, checks
from insitu.counting import noise
from insitu.counting.categorical import Categorical
from insitu.counting.detector import Detector
from insitu.counting.poisson import Poisson
from insitu.denoise.binning import Frames
from insitu.denoise.surroundings import Surroundings

Measure = Callable[[Tensor, Tensor], Tensor]  # (counts, expected) to the loss of each pixel
BLOCK = 256  # side of a block, at most [px]
PATCH = 16  # side of the patches of counts that are held back [px]
HELD = 0.1  # share of the counts that is held back


@dataclass
class Blocks:
    """Parts of a movie to learn from, made once.

    Parameters
    ----------
    images : (n, k, y, x) tensor of half or single precision
        The frame to be predicted and what is shown beside it.
    held : (n, 1, y, x) tensor of bool
        Counts that are never learned from: the network is judged by them.
    mean : float
        Of the absolute values of all counts.
    order : list of int
        Of the images when time runs backwards.
    chances : (n,) tensor
        How often each block is learned from, relative to the others.
    """

    images: Tensor
    held: Tensor
    mean: float
    order: list[int]
    chances: Tensor

    def batch(self, number: int, count: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return crops in one of the sixteen symmetries of space and time, and what is learned."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)

        def integers(high: int) -> int:
            return int(torch.randint(high, (1,), generator=generator))

        crops, learned = [], []
        side = min(side, *self.images.shape[-2:])
        drawn = torch.multinomial(self.chances, count, replacement=True, generator=generator)
        for n in drawn.tolist():
            y, x = (4 * integers((k - side) // 4 + 1) for k in self.images.shape[-2:])
            crop = self.images[n, :, y : y + side, x : x + side].float()
            mask = ~self.held[n, :, y : y + side, x : x + side]
            turns, mirror, backwards = integers(4), integers(2), integers(2)
            crop, mask = (torch.rot90(part, turns, (1, 2)) for part in (crop, mask))
            if mirror:
                crop, mask = crop.mT, mask.mT
            crops.append(crop[self.order] if backwards else crop)
            learned.append(mask)
        return torch.stack(crops), torch.stack(learned)


def cut(
    movie: Frames, surroundings: Surroundings, *, megabytes: float = 300.0, seed: int = 0
) -> Blocks:
    """Cut a movie into blocks to learn from; those of a long movie are a random choice.

    A tenth of the counts, in patches of 16 x 16 pixels of one frame, is never learned from,
    whichever block they are in. There is always one patch.

    Parameters
    ----------
    movie : (t, y, x) array
        Counts, or other values whose noise is independent between pixels.
    surroundings : Surroundings
        What is shown beside each frame.
    megabytes : float
        That all blocks may take.
    seed : int
        Of the choices.
    """
    frames, rows, columns = movie.shape
    generator = torch.Generator().manual_seed(seed)
    sides = [min(BLOCK, n) for n in (rows, columns)]
    places = [
        (t, min(y, (rows - sides[0]) // 4 * 4), min(x, (columns - sides[1]) // 4 * 4))
        for t in range(frames)
        for y in range(0, rows, sides[0])
        for x in range(0, columns, sides[1])
    ]
    shown = len(surroundings.backwards())
    first = np.asarray(movie[0:8, 0:rows, 0:columns])
    small = (first == np.rint(first)).all() and np.abs(first).max() < 256
    number = torch.float16 if small else torch.float32  # whole numbers stay exact
    room = int(megabytes * 1e6 / (number.itemsize * shown * sides[0] * sides[1]))
    if len(places) > max(1, room):
        chosen = torch.randperm(len(places), generator=generator)[: max(1, room)].sort().values
        places = [places[k] for k in chosen.tolist()]
    images = torch.empty(len(places), shown, *sides, dtype=number)
    mask = torch.empty(len(places), 1, *sides, dtype=torch.bool)
    for n, (t, y, x) in enumerate(places):
        place = slice(y, y + sides[0]), slice(x, x + sides[1])
        part = surroundings.around(movie, t, place)
        if images.dtype == torch.float16 and part.abs().max() > 2048:  # no longer exact
            images = images.float()
        images[n] = part
        patches = _held_patches(movie.shape, t, seed)
        mask[n, 0] = patches.repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)[place]
    mean = float(images[:, 0].float().abs().mean())
    return Blocks(images, mask, mean, surroundings.backwards(), torch.ones(len(places)))


def _held_patches(shape: Sequence[int], t: int, seed: int) -> Tensor:
    """Which patches of frame t are held back; of a very small movie at least its first."""
    coarse = [-(-n // PATCH) for n in shape[1:]]
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + t)
    patches = torch.rand(*coarse, generator=generator) < HELD
    if t == 0 and shape[0] * patches.numel() < 100:
        patches[0, 0] = True
    return patches


def motion(blocks: Blocks, surroundings: Surroundings) -> Tensor:
    """How much better the frame itself predicts the counts of each block than the long mean [nat].

    In the pictures of the widest window, by Gaussian noise whose variance is its mean, as of
    counts; 5 and more where something moves.
    """
    experts = surroundings.experts
    far, alone = len(surroundings.filtered) - 1, slice(len(surroundings.filtered), None)
    gains = []
    for block in blocks.images:
        frame, pictures = block[0].float(), block[experts].float()
        variance = pictures[0].clamp(min=0.1 * blocks.mean)
        surprise = ((frame - pictures).square() / (2 * variance)).sum((1, 2))
        gains.append(float(surprise[far] - surprise[alone].min()))
    return torch.tensor(gains)


def squares(counts: Tensor, expected: Tensor) -> Tensor:
    """Squared error of each pixel, for data that are not counts."""
    return (counts - expected).square()


def surprise(detector: Detector) -> Measure:
    """Minus the log-likelihood of each count [nat]; what the detector cannot give has 50."""
    most = detector.max_mean * (1 - 1e-6)

    def measure(counts: Tensor, expected: Tensor) -> Tensor:
        return -detector.log_prob(counts, expected.clamp(1e-6, most)).clamp(min=-50)

    return measure


def measure_for(movie: NDArray[Any]) -> Measure:
    """Choose the loss that fits a movie: its own detector's, Poisson's, or squares.

    Parameters
    ----------
    movie : (t, y, x) array
        A part of the movie is enough.

    Raises
    ------
    InputError
        If the values are neither counts nor anything else that can be learned from.
    """
    checks.finite("movie", movie)
    if movie.min() == movie.max():
        raise InputError(f"movie: every value is {movie.min():g}; there is nothing to learn")
    if movie.min() < 0 or (movie != np.rint(movie)).any():
        return squares  # no counts
    counts = noise.as_counts(movie)
    if counts.max() > 40:
        return surprise(Poisson())
    try:
        return surprise(Categorical.fit(counts))
    except InputError:  # too few different counts to fit a detector to
        return surprise(Poisson())


def hidden_square(movie: NDArray[Any]) -> int:
    """Side of the square that has to be hidden: 1 where noise is white, 3 where it is not.

    Noise is white here if its correlation between neighbours (`noise.autocorrelation`) is below
    0.02, or not significant.
    """
    correlation = noise.autocorrelation(movie, reach=1)
    error = np.sqrt(1.5 / max(1, (len(movie) - 1) * movie[0].size))
    correlation[1, 1] = 0
    return 3 if np.abs(correlation).max() > max(0.02, 5 * error) else 1
