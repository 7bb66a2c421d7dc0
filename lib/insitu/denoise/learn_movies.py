"""How the denoiser that restores sums is trained, on simulated movies without end.

In a first stage it is shown plain sums alone, counted anew in every step. Then its own pictures
tell the motion of every film, and it learns to use the sums along it. Now and then columns are
added where none are expected, and taken away: what is shown must come from the counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from insitu.denoise.motion import motion
from insitu.denoise.networks import BiasFreeUNet, blurred
from insitu.denoise.restorer import FRAMES, MovieRestorer, shown, with_filtered
from insitu.denoise.sums import ALONG, PLAIN
from insitu.learning import checkpoints
from insitu.learning.training import Result, Settings, train
from insitu.simulate.bank import Bank
from insitu.simulate.restless import Film, film, restless_scene, still_scene
from insitu.simulate.waves import exit_wave, in_threads

OPTIONS = {"channels": 48, "levels": 3, "fold": 2, "inputs": 2 * len(PLAIN + ALONG), "outputs": 1}
PIXELS, DOSES = (0.05, 0.26), (2.0, 200.0)  # [A], [e-/A^2]
SIDE, BATCH = 96, 6
ALONE = 0.5  # share of examples without a motion in which the frame is shown alone
CHANGED = 0.6  # share of the examples counted anew in which columns are added and taken away
BRIGHTNESS = 0.35  # largest change of the dose from example to example, in its logarithm
CONTRAST = 0.0094  # variance of a place without contrast, relative to vacuum squared
SETTINGS = Settings(
    steps=26_000,
    optimiser="muon",
    learning_rate=3e-3,
    warm_up=200,
    average=0.998,
    bfloat16=True,
    validate_every=500,
    save_every=250,
)
FIRST = replace(SETTINGS, steps=3_500, learning_rate=5e-3, warm_up=300)


def films(seed: int, scenes: Sequence[int], views: int = 3, workers: int = 1) -> Iterator[Film]:
    """Film restless scenes, each with several lenses; the same seed gives the same films."""
    for index in scenes:
        scene = restless_scene(seed, index)
        waves = list(in_threads(exit_wave, scene.specimens, workers))
        for view in range(views):
            yield film(waves, scene, np.random.default_rng([9, seed, index, view]))


def still_films(bank: Bank, structures: Sequence[int]) -> Iterator[Film]:
    """Film structures of a bank at rest, and turning with their whole field."""
    for index in structures:
        for turns in (False, True):
            rng = np.random.default_rng([11, index, turns])
            yield film([bank.wave(index)], still_scene(rng, turns=turns), rng)


class Examples:
    """Crops of films in batches: what the network is shown, and the clean frame.

    Parameters
    ----------
    films : list of Film
    seed : int
    first : MovieRestorer, optional
        What tells the motion; without it plain sums stand for sums along it.
    share : float
        Of examples with sums along the motion, where there is one.
    """

    def __init__(
        self,
        films: Sequence[Film],
        *,
        seed: int,
        first: MovieRestorer | None = None,
        share: float = 0.75,
    ) -> None:
        self.films, self.seed, self.share = list(films), seed, share
        self.moved: list[tuple[Tensor, Tensor]] = []
        if first is not None:
            self.moved = [moved(f, first, [seed, n]) for n, f in enumerate(self.films)]

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Batch `number`: (n, 24, y, x) relative to vacuum, and (n, 1, y, x)."""
        rng = np.random.default_rng([self.seed, number])
        pairs = [self._example(rng) for _ in range(BATCH)]
        seen, clean = (torch.stack(part) for part in zip(*pairs, strict=True))
        turns, mirror = int(rng.integers(4)), bool(rng.random() < 0.5)
        seen, clean = (torch.rot90(part, turns, (-2, -1)) for part in (seen, clean))
        return (seen.flip(-1), clean.flip(-1)) if mirror else (seen, clean)

    def _example(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        n = int(rng.integers(len(self.films)))
        room = max(0, self.films[n].clean.shape[-1] - SIDE)
        y, x = (int(k) for k in rng.integers(0, room + 1, 2))
        place = np.s_[..., y : y + SIDE, x : x + SIDE]
        if self.moved and rng.random() < self.share:
            seen, clean = self.moved[n]
            k = int(rng.integers(len(seen)))
            return seen[k][place].float(), clean[k][place].float()[None]
        return self._counted(self.films[n], place, rng)

    @staticmethod
    def _counted(movie: Film, place: Any, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Plain sums, counted anew: each holds the counts of those that are shorter."""
        clean, busy = movie.clean[place], np.flatnonzero(movie.busy)
        if rng.random() < CHANGED:
            clean = changed(clean.float(), movie.pixel_size, rng)
        t = int(rng.integers(len(clean)))
        if len(busy) and rng.random() < 0.5:
            t = int(np.clip(rng.choice(busy) + rng.integers(-2, 3), 0, len(clean) - 1))
        vacuum = movie.vacuum * float(np.exp(rng.uniform(-BRIGHTNESS, BRIGHTNESS)))
        rings, frames, before = [], [], (t, t)
        for width in PLAIN:
            first, last = max(0, t - width // 2), min(len(clean), t + width // 2 + 1)
            outer = clean[first : before[0]], clean[before[1] : last]
            rings.append(torch.cat([part.float() for part in outer]).sum(0))
            frames.append(last - first)
            before = first, last
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        counts = torch.poisson(torch.stack(rings) * vacuum, generator=generator).cumsum(0)
        plain = counts / vacuum / torch.tensor(frames)[:, None, None]
        if rng.random() < ALONE:
            plain = plain[:1].expand_as(plain)
        again = plain[[PLAIN.index(width) for width in ALONG]]
        seen = with_filtered(torch.cat([plain, again])[None])[0]
        return seen, clean[t].float()[None]


def changed(clean: Tensor, pixel_size: float, rng: np.random.Generator) -> Tensor:
    """Clean frames with columns where none are expected, and with holes where some were.

    What is shown must come from the counts, and not from where columns usually are.
    """
    rows, columns = clean.shape[-2:]
    y, x = torch.arange(rows)[:, None] * pixel_size, torch.arange(columns) * pixel_size
    low, high = (float(clean[0].quantile(q)) for q in (0.01, 0.99))
    peak = high - 1 if high - 1 > 1 - low else low - 1  # of a bright column, or of a dark one
    clean = clean.clone()
    for _ in range(int(rng.integers(1, 6))):
        at_y, at_x = rng.uniform(0, rows * pixel_size), rng.uniform(0, columns * pixel_size)
        away = (y - at_y).square() + (x - at_x).square()
        first, length = int(rng.integers(len(clean))), int(rng.integers(2, 2 * len(clean)))
        then = slice(0, None) if rng.random() < 0.6 else slice(first, first + length)
        if rng.random() < 0.4:
            hole = ((1.6 - away.sqrt()) / 0.6).clamp(0, 1)
            clean[then] += (1 - clean[then]) * hole
        else:
            width = rng.uniform(0.4, 0.7)  # [A]
            clean[then] += float(peak * rng.uniform(0.3, 1.2)) * (-away / (2 * width**2)).exp()
    return clean.clamp(min=0)


@torch.no_grad()
def moved(
    movie: Film, first: MovieRestorer, seed: Sequence[int], frames: int = 22
) -> tuple[Tensor, Tensor]:
    """Count a film; what is shown of some of its frames, two thirds of them busy, and the clean."""
    rng = np.random.default_rng([21, *seed])
    vacuum = movie.vacuum * float(np.exp(rng.uniform(-BRIGHTNESS, BRIGHTNESS)))
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    counts = torch.poisson(movie.clean.float() * vacuum, generator=generator) / vacuum
    ways = motion(torch.cat([first.alone(some) for some in counts.split(FRAMES)]))
    every = np.arange(len(counts))
    near = np.flatnonzero(np.convolve(movie.busy, np.ones(5), "same") > 0)
    near = rng.permutation(near)[: 2 * frames // 3]
    rest = rng.permutation(np.setdiff1d(every, near))[: frames - len(near) if len(near) else 6]
    chosen = sorted([*near.tolist(), *rest.tolist()])
    return shown(counts, chosen, ways).half(), movie.clean[chosen]


def errors(answer: Tensor, clean: Tensor) -> Tensor:
    """Squared error of each example, plain and relative to the local contrast, both in decibels.

    The second weighs a faint column at the surface as much as a bright one in the bulk:
    the squared error over the variance of the clean image within about 5 pixels.
    """
    wrong = (answer - clean).square()
    contrast = (blurred(clean.square(), 5.0) - blurred(clean, 5.0).square()).clamp(min=0) + CONTRAST
    plain = wrong.mean((1, 2, 3)).add(1e-6).log10()
    return 10 * (plain + (wrong / contrast).mean((1, 2, 3)).add(1e-4).log10())


def learn_restorer(
    learned: Examples,
    judged: Examples,
    settings: Settings = SETTINGS,
    *,
    first: MovieRestorer | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    about: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> tuple[MovieRestorer, Result]:
    """Train the denoiser that restores sums, from nothing or from its first stage.

    Parameters
    ----------
    learned, judged : Examples
        Of different structures.
    settings : Settings
    first : MovieRestorer, optional
        Begin with its weights.
    seed : int
        Of the first weights.
    checkpoint, about, progress
        As for `insitu.learning.training.train`.
    """
    network: nn.Module = checkpoints.seeded(BiasFreeUNet, seed, **OPTIONS)
    if first is not None:
        network.load_state_dict(first.network.state_dict())
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss_of(examples: Examples, network: nn.Module, number: int) -> Tensor:
        seen, clean = examples.batch(number)
        answer = network(seen.contiguous(memory_format=torch.channels_last))
        return errors(answer.float(), clean).mean()

    result = train(
        network,
        lambda network, step: loss_of(learned, network, step),
        lambda network: float(np.mean([float(loss_of(judged, network, n)) for n in range(12)])),
        settings,
        checkpoint=checkpoint,
        about={"seed": seed, "films": len(learned.films)} | dict(about or {}),
        progress=progress,
    )
    return MovieRestorer(result.network, PIXELS, DOSES), result
