"""Denoising of a movie that has nothing but itself to learn from.

A network predicts each count from other counts. Noise cannot be predicted, so that the best
prediction is the expected count [1]_. When to stop is told by counts that are held back.

.. [1] A. Krull, T.-O. Buchholz, F. Jug, Noise2Void, CVPR 2019; S. Laine et al., High-quality
   self-supervised deep image denoising, NeurIPS 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from insitu.denoise.losses import Measure
from insitu.denoise.surroundings import Frames, Surroundings
from insitu.learning.training import Result, Settings, train

PATCH = 16  # side of the patches of counts that are held back [px]
HALO = 96  # pixels around a block or tile that its filters and networks may look at


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
    chances : (n,) tensor, optional
        How often each block is learned from, relative to the others.
    """

    images: Tensor
    held: Tensor
    mean: float
    order: list[int]
    chances: Tensor | None = None

    def batch(self, number: int, count: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
        """Return crops in one of the sixteen symmetries of space and time, and what is learned."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)

        def integers(high: int) -> int:
            return int(torch.randint(high, (1,), generator=generator))

        crops, learned = [], []
        side = min(side, *self.images.shape[-2:])
        chances = torch.ones(len(self.images)) if self.chances is None else self.chances
        for n in torch.multinomial(chances, count, replacement=True, generator=generator).tolist():
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
    movie: Frames,
    surroundings: Surroundings,
    *,
    side: int = 256,
    held: float = 0.1,
    megabytes: float = 300.0,
    seed: int = 0,
) -> Blocks:
    """Cut a movie into blocks to learn from; those of a long movie are a random choice.

    Parameters
    ----------
    movie : (t, y, x) array
        Counts, or other values whose noise is independent between pixels.
    surroundings : Surroundings
        What is shown beside each frame.
    side : int
        Of a block, at most [px].
    held : float
        Share of the counts, in patches of 16 x 16 pixels of one frame, that is never learned
        from, whichever block they are in. There is always one.
    megabytes : float
        That all blocks may take.
    seed : int
        Of the choices.
    """
    frames, rows, columns = movie.shape
    generator = torch.Generator().manual_seed(seed)
    sides = [min(side, n) for n in (rows, columns)]
    places = [
        (t, min(y, (rows - sides[0]) // 4 * 4), min(x, (columns - sides[1]) // 4 * 4))
        for t in range(frames)
        for y in range(0, rows, sides[0])
        for x in range(0, columns, sides[1])
    ]
    shown = len(surroundings.backwards())
    first = np.asarray(movie[0 : min(8, frames), 0:rows, 0:columns])
    small = (first == np.rint(first)).all() and np.abs(first).max() < 256
    number = torch.float16 if small else torch.float32  # whole numbers stay exact
    room = int(megabytes * 1e6 / (number.itemsize * shown * sides[0] * sides[1]))
    if len(places) > max(1, room):
        chosen = torch.randperm(len(places), generator=generator)[: max(1, room)].sort().values
        places = [places[k] for k in chosen.tolist()]
    images = torch.empty(len(places), shown, *sides, dtype=number)
    mask = torch.empty(len(places), 1, *sides, dtype=torch.bool)
    for n, (t, y, x) in enumerate(places):
        part = _part(movie, surroundings, t, (y, x), sides)
        if images.dtype == torch.float16 and part.abs().max() > 2048:  # no longer exact
            images = images.float()
        images[n] = part
        patches = _held_patches(movie.shape, t, held, seed)
        whole = patches.repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
        mask[n, 0] = whole[y : y + sides[0], x : x + sides[1]]
    mean = float(images[:, 0].float().abs().mean())
    return Blocks(images, mask, mean, surroundings.backwards())


def _held_patches(shape: Sequence[int], t: int, held: float, seed: int) -> Tensor:
    """Which patches of frame t are held back; of a very small movie at least its first."""
    coarse = [-(-n // PATCH) for n in shape[1:]]
    generator = torch.Generator().manual_seed((seed + 1) * 1_000_003 + t)
    patches = torch.rand(*coarse, generator=generator) < held
    if t == 0 and held and shape[0] * patches.numel() < 100:
        patches[0, 0] = True
    return patches


def _part(
    movie: Frames, surroundings: Surroundings, t: int, place: Sequence[int], sides: Sequence[int]
) -> Tensor:
    """A block of a frame and what is shown beside it, filtered with HALO pixels around."""
    box, inner = [], []
    for start, length, size in zip(place, sides, movie.shape[1:], strict=True):
        low, high = max(0, start - HALO), min(size, start + length + HALO)
        box.append(slice(low, high))
        inner.append(slice(start - low, start - low + length))
    return surroundings.around(movie, t, (box[0], box[1]))[:, inner[0], inner[1]]


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


def learn(
    network: nn.Module,
    blocks: Blocks,
    settings: Settings,
    *,
    measure: Measure,
    batch: int = 8,
    side: int = 96,
    seed: int = 0,
    judged: int = 16,
    checkpoint: Path | None = None,
    about: Mapping[str, Any] | None = None,
    watch: Callable[[nn.Module], None] | None = None,
    progress: bool = True,
) -> Result:
    """Train a blind network on blocks of a movie, and keep it as it was when it was best.

    Best is what predicts the counts that were held back best; no clean image is needed to see
    when a network begins to learn the noise by heart.

    Parameters
    ----------
    network : Module
        UDVD or BlindVideoUNet, on the device where it is to be trained.
    blocks : Blocks
        From `cut`.
    settings : Settings
        How long and how fast.
    measure : callable
        (counts, expected) to the loss of each pixel, such as `losses.surprise(detector)`.
    batch, side : int
        Crops of a step, and their rows and columns.
    seed : int
        Of the series of crops.
    judged : int
        Blocks on whose held-back counts the network is judged.
    checkpoint, about, progress
        As for `insitu.learning.training.train`.
    watch : callable, optional
        Called with the network whenever it is judged.
    """
    device = next(network.parameters()).device
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    useful = blocks.held.flatten(1).any(1).nonzero().flatten()
    chosen = useful[torch.linspace(0, len(useful) - 1, min(judged, len(useful))).long()]

    def answer(network: nn.Module, images: Tensor) -> Tensor:
        shown = (images.to(device) / blocks.mean).contiguous(memory_format=torch.channels_last)
        expected: Tensor = network(shown) * blocks.mean
        return expected

    def loss(network: nn.Module, step: int) -> Tensor:
        images, learned = blocks.batch(step, batch, side, seed)
        values = measure(images[:, :1].to(device), answer(network, images))
        learned = learned.to(device)
        return values[learned].sum() / learned.sum().clamp(min=1)

    def validate(network: nn.Module) -> float:
        total = count = 0.0
        for k in chosen.tolist():
            images = blocks.images[k : k + 1].float()
            values = measure(images[:, :1].to(device), answer(network, images))
            held = values[0][blocks.held[k].to(device)]
            total, count = total + float(held.sum()), count + held.numel()
        if watch is not None:
            watch(network)
        return total / max(1.0, count)

    return train(
        network, loss, validate, settings, checkpoint=checkpoint, about=about, progress=progress
    )


@torch.no_grad()
def denoise(
    movie: Frames,
    network: nn.Module,
    surroundings: Surroundings,
    *,
    mean: float,
    frames: Sequence[int] | None = None,
    tile: int = 512,
    symmetric: bool = False,
    out: Any = None,
    progress: bool = True,
) -> Any:
    """Predict every count of a movie.

    Parameters
    ----------
    movie : (t, y, x) array
        As the network was trained on.
    network : Module
        From `learn`.
    surroundings : Surroundings
        As in `cut`.
    mean : float
        `Blocks.mean` of the training.
    frames : sequence of int, optional
        Which ones; all by default.
    tile : int
        Side of the tiles in which large frames are worked on [px].
    symmetric : bool
        Average the answers to all eight rotations and mirror images.
    out : (t, y, x) array, optional
        Where to write, such as a zarr array; a new array of float32 by default.
    progress : bool
        Show a bar.

    Returns
    -------
    (t, y, x) array
        Expected counts.
    """
    network.eval()
    device = next(network.parameters(), torch.empty(0)).device
    chosen = range(movie.shape[0]) if frames is None else frames
    rows, columns = movie.shape[1:]
    result = np.empty((len(chosen), rows, columns), np.float32) if out is None else out
    for number, t in enumerate(tqdm(chosen, "denoising", disable=not progress)):
        whole = torch.empty(rows, columns)
        for y in range(0, rows, tile):
            for x in range(0, columns, tile):
                sides = [min(tile, rows - y), min(tile, columns - x)]
                low = [max(0, y - HALO), max(0, x - HALO)]
                more = [
                    min(n, s + k + HALO) - b
                    for n, s, k, b in zip((rows, columns), (y, x), sides, low, strict=True)
                ]
                part = _part(movie, surroundings, t, low, more)[None].to(device) / mean
                answer = _answers(network, part, symmetric)[0, 0] * mean
                inner = answer[y - low[0] :, x - low[1] :][: sides[0], : sides[1]]
                whole[y : y + sides[0], x : x + sides[1]] = inner.cpu()
        result[number] = whole.numpy()
    return result


def _answers(network: nn.Module, images: Tensor, symmetric: bool) -> Tensor:
    if not symmetric:
        return network(images.contiguous(memory_format=torch.channels_last))
    total = torch.zeros_like(images[:, :1])
    for turns in range(4):
        for mirror in (False, True):
            turned = torch.rot90(images, turns, (2, 3))
            answer = network((turned.mT if mirror else turned).contiguous())
            total += torch.rot90(answer.mT if mirror else answer, -turns, (2, 3))
    return total / 8
