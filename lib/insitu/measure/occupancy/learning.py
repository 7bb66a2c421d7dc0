"""What the network that counts atoms learns from, and how: clean images, counts, likelihood.

Of a pool of clean images with the truth of every pixel, some of no ceria at all, batches of counts
are drawn without end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from insitu.counting.poisson import Poisson
from insitu.learning import checkpoints
from insitu.learning.training import Result, Settings, train
from insitu.measure.occupancy.network import (
    MOST,
    PIXEL,
    UNITS,
    Answer,
    AtomCounter,
    log_occupancy,
)
from insitu.measure.occupancy.slabs import (
    DEFOCUS,
    TILT,
    Specimen,
    draw_optics,
    painted,
    slabs,
    views_of,
)

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


class Pool(NamedTuple):
    """Clean images, and what is true of every pixel and of every image."""

    clean: Tensor  # (n, y, x) half precision, vacuum = 1
    classes: Tensor  # (n, y, x) uint8, of `CLASSES`
    atoms: Tensor  # (n, y, x) uint8, 255 off the columns
    conditions: Tensor  # (n, 3), of `CONDITIONS`, in their UNITS
    inside: Tensor  # (n,) 1 where all are of the ranges, 0 where not, 2 for what is no ceria


def draw_pool(
    folder: Path,
    part: str,
    images: int,
    *,
    size: int = 128,
    strange: float = 0.12,
    seed: int = 0,
    progress: bool = False,
) -> Pool:
    """Draw clean images of the slabs of a part (train, validation or test).

    Parameters
    ----------
    folder : Path
        With blocks of waves.
    part : str
        `train`, `validation` or `test`.
    images : int
        How many, about, evenly of all slabs.
    size : int
        Their rows and columns, of 0.2 A each.
    strange : float
        Share of images that are no ceria, or have another pixel size.
    seed : int
        Of the draw.
    progress : bool
        Show a bar.
    """
    chosen = list(slabs(folder, part))
    each = max(1, round(images / len(chosen)))
    found: list[tuple[Any, ...]] = []
    for specimen in tqdm(chosen, "clean images", disable=not progress):
        rng = np.random.default_rng([seed, specimen.recipe.seed])
        if specimen.tilt <= TILT or rng.random() < 0.5:
            found += _drawn(specimen, each, size, rng)
    for k in range(round(strange * len(found))):
        found.append(_strange(np.random.default_rng([seed, k]), found, size))
    clean, classes, atoms, conditions, inside = (
        torch.from_numpy(np.stack(part)) for part in zip(*found, strict=True)
    )
    return Pool(clean, classes, atoms, conditions.float(), inside)


def _drawn(
    specimen: Specimen, images: int, size: int, rng: np.random.Generator
) -> list[tuple[Any, ...]]:
    """Images of one slab, each with its row of a pool."""
    optics = draw_optics(rng, images)
    views = views_of(
        specimen,
        optics,
        rotation=rng.uniform(0, 360, images),
        shift=rng.uniform(-0.5, 0.5, (images, 2)) * np.array(specimen.wave.extent) * [0.6, 1],
        size=size,
        focal_points=int(rng.choice([1, 1, 1, 7])),
    )
    rows = []
    for k, clean in enumerate(views.clean):
        defocus = float(torch.as_tensor(optics.defocus)[k])
        inside = DEFOCUS[0] <= defocus <= DEFOCUS[1] and specimen.tilt <= TILT
        told = np.array([defocus, specimen.tilt, specimen.thickness]) / UNITS
        maps = painted(specimen.columns, views, k, (size, size))
        rows.append((clean.half().numpy(), *maps, told, np.int64(inside)))
    return rows


def _strange(
    rng: np.random.Generator, found: Sequence[tuple[Any, ...]], size: int
) -> tuple[Any, ...]:
    """No crystal, another one, or a wrong pixel size."""
    kind = rng.choice(["empty", "carbon", "crystal", "scale"], p=[0.1, 0.15, 0.4, 0.35])
    clean: NDArray[Any] = np.ones((size, size))
    if kind == "scale":
        source = found[int(rng.integers(len(found)))][0].astype(np.float32)
        factor = float(np.exp(rng.choice([-1, 1]) * rng.uniform(0.22, 0.9)))
        clean = _scaled(source, factor)
    elif kind == "carbon":
        fy, fx = np.fft.fftfreq(size, PIXEL)[:, None], np.fft.fftfreq(size, PIXEL)
        q = np.hypot(fy, fx)
        wavy = np.sin(np.pi * 0.0197 * rng.uniform(-200, 200) * q**2)
        white = np.fft.fft2(rng.standard_normal((size, size)))
        noise = np.fft.ifft2(white * wavy * np.exp(-((q / 0.7) ** 2))).real
        clean = np.clip(1 + rng.uniform(0.05, 0.3) * noise / noise.std(), 0.05, None)
    elif kind == "crystal":
        clean = _lattice_image(rng, size)
    nothing = np.zeros((size, size), np.uint8)
    return clean.astype(np.float16), nothing, nothing + np.uint8(255), np.zeros(3), np.int64(2)


def _scaled(source: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """An image as if its pixels were of another size; one that becomes smaller is repeated."""
    side = source.shape[0]
    tiled = np.tile(source, (3, 3)) if factor < 1 else source
    part = zoom(tiled, factor, order=3, mode="wrap")
    return np.clip(part[:side, :side], 0, None)


def _lattice_image(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A made-up crystal: any two-dimensional lattice, with one or two kinds of columns in it."""
    a, b = rng.uniform(1.9, 5.0, 2)
    angle, turn = np.deg2rad(rng.uniform(55, 90)), rng.uniform(0, 2 * np.pi)
    vectors = np.array([[np.cos(turn), np.sin(turn)], [np.cos(turn + angle), np.sin(turn + angle)]])
    vectors *= np.array([[a], [b]])
    reach = int(size * PIXEL / min(a, b)) + 3
    index = np.stack(np.meshgrid(*[np.arange(-reach, reach)] * 2), -1).reshape(-1, 2)
    edge = rng.uniform(-0.2, 0.5) * size * PIXEL
    clean = np.ones((size, size))
    width, height = rng.uniform(0.35, 0.6), rng.choice([-1, 1], p=[0.2, 0.8]) * rng.uniform(0.15, 1)
    for share in rng.random((rng.integers(1, 3), 2)):
        places = (index + share) @ vectors + size * PIXEL / 2
        seen = ((places > -2) & (places < size * PIXEL + 2)).all(1) & (places[:, 0] > edge)
        spots = np.zeros((size, size))
        for place in np.round(places[seen] / PIXEL).astype(int):
            if ((place >= 0) & (place < size)).all():
                spots[tuple(place)] += 1
        clean += height * gaussian_filter(spots, width / PIXEL) * 2 * np.pi * (width / PIXEL) ** 2
        height *= rng.uniform(0.2, 0.8)
    return np.clip(clean, 0.05, None)


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
