"""How the network that counts atoms is taught: endless batches of counts, and their likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from insitu.counting.poisson import Poisson
from insitu.learning import checkpoints
from insitu.learning.training import Result, Settings, train
from insitu.measure.occupancy_network import MOST, PIXEL, Answer, AtomCounter, log_occupancy
from insitu.measure.occupancy_pool import Pool

DOSES = (20.0, 10_000.0)  # [e-/A^2]; up to sums of many frames
TRAINED_FOR = {
    "crystal": "CeO2 along [110], 3 to 12 atoms thick, and along [100], 3 to 6 repeats thick",
    "defocus": "12 nm overfocus to 2 nm underfocus",
    "cs": "-13 and -9 um, within 3 %",
    "tilt": "0 to 4 degrees in any way",
    "pixel_size": [0.05, 0.25],
    "dose": list(DOSES),
}
SETTINGS = Settings(
    steps=40_000,
    optimiser="muon",
    learning_rate=5e-3,
    warm_up=100,
    average=0.999,
    bfloat16=True,
    validate_every=250,
    save_every=250,
)


class Batch(NamedTuple):
    """Counts and the truth of them."""

    counts: Tensor  # (n, 1, y, x)
    truth: Pool


def make_batch(
    pool: Pool, number: int, *, images: int = 32, size: int = 64, seed: int = 0
) -> Batch:
    """Batch `number` of an endless series: the same whenever it is asked for.

    Many small images teach more than few large ones: thickness and defocus are of an image, and
    13 A of it show both.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    chosen = torch.randint(len(pool.clean), (images,), generator=generator)
    turns, mirror = torch.randint(4, (2, 1), generator=generator).flatten().tolist()
    parts = [part[chosen] for part in pool]
    room = pool.clean.shape[-1] - size + 1
    y, x = torch.randint(max(1, room), (2, images, 1), generator=generator)
    y, x = (k + torch.arange(min(size, pool.clean.shape[-1])) for k in (y, x))
    for k in range(3):
        parts[k] = parts[k][torch.arange(images)[:, None, None], y[:, :, None], x[:, None]]
        parts[k] = torch.rot90(parts[k], turns, (1, 2))
        parts[k] = parts[k].mT if mirror % 2 else parts[k]
    low, high = np.log(DOSES[0]), np.log(DOSES[1])
    dose = torch.exp(low + (high - low) * torch.rand(images, 1, 1, generator=generator))
    expected = parts[0].float() * dose * PIXEL**2
    counts = Poisson().sample(expected, generator)
    if int(torch.randint(4, (1,), generator=generator)) == 0:  # pixels of up to 0.25 A, made finer
        counts = cut_off(counts, 0.8 + 0.2 * float(torch.rand((), generator=generator)))
    return Batch(counts[:, None], Pool(parts[0], *parts[1:]))


def cut_off(images: Tensor, share: float) -> Tensor:
    """Images (n, y, x) without the frequencies above a share of what their pixels hold."""
    spectrum = torch.fft.rfft2(images)
    fy = torch.fft.fftfreq(images.shape[-2])[:, None].abs()
    fx = torch.fft.rfftfreq(images.shape[-1])
    return torch.fft.irfft2(spectrum * ((fy < share / 2) & (fx < share / 2)), s=images.shape[-2:])


def loss_of(answer: Answer, truth: Pool) -> Tensor:
    """Negative log-likelihood of classes, atoms, conditions, and of being inside."""
    ceria, ranged = truth.inside < 2, truth.inside == 1
    classes = functional.cross_entropy(answer.classes, truth.classes.long(), reduction="none")
    likelihood = log_occupancy(answer.atoms)
    there = (truth.atoms < 255) & ceria[:, None, None]
    atoms = -likelihood.gather(1, truth.atoms.long().clamp(max=MOST)[:, None])[:, 0]
    weight = there * torch.where(ranged, 1.0, 0.3)[:, None, None]
    atoms = (atoms * weight).sum() / weight.sum().clamp(min=1)
    away = (truth.conditions - answer.conditions) * torch.exp(-answer.spread)
    conditions = ((0.5 * away**2 + answer.spread).mean(1) * ceria).mean()
    inside = functional.binary_cross_entropy_with_logits(answer.inside, ranged.float())
    return 0.5 * classes.mean() + atoms + 0.1 * conditions + 0.2 * inside


def learn_counter(
    learned: Pool,
    judged: Pool,
    settings: Settings = SETTINGS,
    *,
    options: Mapping[str, Any] | None = None,
    start: Mapping[str, Tensor] | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Result:
    """Train the network, or go on with one.

    Parameters
    ----------
    learned, judged : Pool
        Of the slabs for training and for validation.
    settings : Settings
        How long and how fast.
    options : mapping, optional
        Of the network.
    start : mapping, optional
        Weights to begin with.
    seed : int
        Of the first weights and of the batches.
    checkpoint : Path, optional
        Where the state is kept, from which a run that was killed goes on.
    device : device
        Where to train.
    progress : bool
        Show a bar.
    """
    network = checkpoints.seeded(AtomCounter, seed, **dict(options or {}))
    if start is not None:
        checkpoints.fill(network, start, "start")
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def moved(batch: Batch) -> Batch:
        return Batch(batch.counts.to(device), Pool(*(part.to(device) for part in batch.truth)))

    held = [moved(make_batch(judged, k, images=8, size=128, seed=7)) for k in range(8)]

    def loss(net: nn.Module, step: int) -> Tensor:
        batch = moved(make_batch(learned, step, seed=seed))
        return loss_of(net(batch.counts), batch.truth)

    def validate(net: nn.Module) -> float:
        return float(np.mean([float(loss_of(net(b.counts), b.truth)) for b in held]))

    about = {"seed": seed, "images": len(learned.clean), "options": dict(network.options)}
    return train(
        network, loss, validate, settings, checkpoint=checkpoint, about=about, progress=progress
    )
