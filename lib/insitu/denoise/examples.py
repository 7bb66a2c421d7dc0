"""Training examples: clean images drawn once, noise drawn anew each time they are shown.

Simulating an image costs milliseconds, which a small network spends on learning from it. So a
pool of clean images is drawn first; a batch is chosen from it, turned, mirrored, cropped and
counted at a random dose, by a generator that depends on the number of the batch alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from insitu import InputError
from insitu.counting.categorical import Categorical
from insitu.counting.detector import moments
from insitu.counting.poisson import Poisson
from insitu.simulate.bank import Bank, Conditions, sample

# (expected electrons, generator) to counts, as a detector's `sample`
Counting = Callable[[Tensor, torch.Generator], Tensor]

FRAME = 0.45  # mean count of a frame of a `LongExposure` [e-/px]


class Pool(NamedTuple):
    """Clean images."""

    clean: Tensor  # (n, y, x) float16, vacuum = 1
    pixel_size: Tensor  # (n,) [A]
    structure: Tensor  # (n,) number in the bank


def draw_pool(
    bank: Bank,
    part: str,
    count: int,
    *,
    size: int = 144,
    conditions: Conditions | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Pool:
    """Draw clean images of the structures of a part of the bank in turn, eight of each.

    Parameters
    ----------
    bank : Bank
        Exit waves.
    part : str
        train, validation or test: structures are in one of them only.
    count : int
        How many images, rounded up to eights.
    size : int
        Their rows and columns.
    conditions : Conditions, optional
        Ranges of optics and pixel size.
    seed : int
        Of the draw.
    progress : bool
        Show a bar.
    """
    structures = bank.part(part)
    if not structures:
        raise InputError(f"part: the bank has only {len(bank)} structures, none is for {part}")
    draws = -(-count // 8)
    clean = torch.empty(8 * draws, size, size, dtype=torch.float16)
    pixels, numbers = torch.empty(8 * draws), torch.empty(8 * draws, dtype=torch.long)
    for number in tqdm(range(draws), "clean images", disable=not progress):
        one = [structures[number % len(structures)]]
        drawn = sample(bank, one, number, images=8, size=size, conditions=conditions, seed=seed)
        place = slice(8 * number, 8 * number + 8)
        clean[place] = drawn.clean.cpu().half()
        pixels[place], numbers[place] = drawn.pixel_size, drawn.structure
    return Pool(clean, pixels, numbers)


class LongExposure:
    """A detector whose short frames are summed until the dose is reached.

    Each image (n, ..., y, x) is the sum of as many frames as make its mean count 0.45 each.
    Sums of more than 8 frames are drawn as Gaussian numbers of the detector's mean and variance,
    rounded.

    Parameters
    ----------
    detector : Categorical
        Of one frame.
    """

    def __init__(self, detector: Categorical) -> None:
        self.detector = detector
        means = np.linspace(0, detector.max_mean, 513)
        self._variance = torch.tensor(moments(detector, means).variance, dtype=torch.float32)

    def sample(self, intensity: Tensor, generator: torch.Generator) -> Tensor:
        """Draw counts."""
        return torch.stack([self._sum(image, generator) for image in intensity])

    def _sum(self, intensity: Tensor, generator: torch.Generator) -> Tensor:
        frames = max(1, round(float(intensity.mean()) / FRAME))
        mean = (intensity / frames).clamp(max=self.detector.max_mean)
        if frames <= 8:
            each = [self.detector.sample(mean, generator) for _ in range(frames)]
            return torch.stack(each).sum(0)
        place = mean * (512 / self.detector.max_mean)
        low = place.long().clamp(max=511)
        variance = torch.lerp(self._variance[low], self._variance[low + 1], place - low)
        noise = torch.randn(mean.shape, generator=generator) * (frames * variance).sqrt()
        return (frames * mean + noise).round().clamp(min=0)


class Batch(NamedTuple):
    """Counts and what was expected of them."""

    counts: Tensor  # (n, 1, y, x) electrons
    expected: Tensor  # (n, 1, y, x) electrons
    vacuum: Tensor  # (n, 1, 1, 1) electrons per pixel


@dataclass(frozen=True)
class Batches:
    """Batch number n of an endless series: the same whenever it is asked for.

    Parameters
    ----------
    pool : Pool
        Clean images.
    images, size : int
        Of a batch, and their rows and columns.
    dose : (float, float)
        Range, evenly in its logarithm [e-/A^2].
    counting : callable
        `sample` of a detector, such as those of `insitu.counting`.
    seed : int
        Of the series.
    """

    pool: Pool
    images: int = 6
    size: int = 128
    dose: tuple[float, float] = (3.2, 8000.0)
    counting: Counting = Poisson().sample
    seed: int = 0

    def __call__(self, number: int) -> Batch:
        """Make batch `number`."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)

        def integer(high: int) -> int:
            return int(torch.randint(high, (1,), generator=generator))

        chosen = torch.randint(len(self.pool.clean), (self.images,), generator=generator).tolist()
        room = self.pool.clean.shape[-1] - self.size + 1
        crops = []
        for index in chosen:
            y, x, turns, mirror = (integer(n) for n in (room, room, 4, 2))
            crop = self.pool.clean[index, y : y + self.size, x : x + self.size].float()
            crop = torch.rot90(crop, turns, (0, 1))
            crops.append(crop.mT if mirror else crop)
        low, high = torch.tensor(self.dose).log()
        dose = torch.exp(low + (high - low) * torch.rand(self.images, generator=generator))
        vacuum = (dose * self.pool.pixel_size[chosen] ** 2).reshape(-1, 1, 1, 1)
        expected = torch.stack(crops)[:, None] * vacuum
        integer(1)  # one more number, so that series stay what they were
        return Batch(self.counting(expected, generator).float(), expected, vacuum)


def relative_squared(output: Tensor, batch: Batch) -> Tensor:
    """L2 of images of different dose: mean square of the error over the variance of counts."""
    return ((output - batch.expected).square() / batch.vacuum).mean()


def decibels(output: Tensor, batch: Batch) -> Tensor:
    """Mean over images of 10 log10 of their mean squared error.

    Unlike the mean of the squares it does not care most for the images of the lowest dose.
    """
    errors = ((output - batch.expected) / batch.vacuum).square().mean((1, 2, 3))
    return 10 * torch.log10(errors + 1e-7).mean()


def loss_of(
    batches: Batches,
    measure: Callable[[Tensor, Batch], Tensor],
    device: torch.device | str = "cpu",
    *,
    relative: bool = True,
) -> Callable[[nn.Module, int], Tensor]:
    """(network, step) to the loss of that batch, for `insitu.learning.training.train`.

    With `relative` the network sees counts over those of vacuum, so that all images of a batch
    are alike; one without additive constants answers the same to counts.
    """

    def loss(network: nn.Module, step: int) -> Tensor:
        batch = Batch(*(part.to(device) for part in batches(step)))
        return measure(_answer(network, batch, relative), batch)

    return loss


def validation(
    batches: Batches,
    count: int,
    device: torch.device | str = "cpu",
    *,
    relative: bool = True,
) -> Callable[[nn.Module], float]:
    """Network to minus its mean PSNR [dB], vacuum = 1, over the first batches of a series."""
    made = [Batch(*(part.to(device) for part in batches(number))) for number in range(count)]

    def score(network: nn.Module) -> float:
        errors = [float(decibels(_answer(network, batch, relative), batch)) for batch in made]
        return sum(errors) / count

    return score


def _answer(network: nn.Module, batch: Batch, relative: bool) -> Tensor:
    unit = batch.vacuum if relative else torch.ones_like(batch.vacuum)
    counts = (batch.counts / unit).contiguous(memory_format=torch.channels_last)
    return network(counts) * unit
