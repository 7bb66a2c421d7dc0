"""A denoiser of sums of frames that learns from one movie and nothing else, by its halves.

Electrons come one by one. Those of a sum of frames, dealt at random into two parts, are two
pictures of the same expected image, whose noise is independent; a network that is shown one part
and is to predict the other learns to restore what is expected [1]_. One network restores sums of
any length. A second one, with few weights, looks at how badly each restored sum predicts the
counts near each place and mixes them; it learns by electrons of the frame that were hidden.

Where values are not single electrons, whole frames are dealt instead.

.. [1] J. Lehtinen et al., Noise2Noise: learning image restoration without clean data, ICML 2018.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insitu import checks
from insitu.denoise.binning import BinnedMovie, Frames, binning
from insitu.denoise.blocks import hidden_square
from insitu.denoise.local_wiener import local_wiener, mirrored
from insitu.denoise.motion import motion
from insitu.denoise.networks import BiasFreeUNet, blurred
from insitu.denoise.restorer import FRAMES, WINDOW, MovieRestorer
from insitu.denoise.sums import ALONG, PLAIN, mean_along, mean_frames
from insitu.denoise.unsupervised import examine
from insitu.files import remove
from insitu.learning import checkpoints
from insitu.learning.training import Result, Settings, autocast, train

SUMS = len(PLAIN + ALONG)
SIDE, BATCH = 96, 8
SHARE = 0.7  # of the electrons of a frame that are shown when the choice is learned
HELD = 16  # one frame of so many is never learned from
Place = tuple[slice, slice]
BLOCK = 256, 128  # pixels across, and frames, of the part by which the choice is learned
PLACE = 4  # pixels across a place, at which sums are held against the frame
NEAR = 0.8, 1.6, 3.2  # standard deviations within which this is averaged [places]
RESTORE = Settings(
    steps=6000, optimiser="muon", learning_rate=4e-3, warm_up=100, average=0.998, bfloat16=True
)
CHOOSE = Settings(steps=600, learning_rate=3e-3, average=0.99)


class RestoredSums(nn.Module):
    """Restores every sum that it is shown, and answers a mean of them, other at each place.

    Parameters
    ----------
    channels : int
        Of the network that restores.
    choosing : int
        Of the network that chooses.
    """

    def __init__(self, channels: int = 32, choosing: int = 32) -> None:
        super().__init__()
        self.options = {"channels": channels, "choosing": choosing}
        self.restore = Restore(channels)
        self.choose = Choose(choosing)

    def forward(self, images: Tensor) -> Tensor:
        """From (n, 24, y, x), sums and what the local Wiener filter makes of them."""
        pairs = torch.stack(images.split(SUMS, 1), 2)  # (n, 12, 2, y, x)
        restored = self.restore(pairs.flatten(0, 1)).reshape(len(images), SUMS, *images.shape[-2:])
        answer: Tensor = self.choose(torch.cat([restored, images[:, :2]], 1))
        return answer


class Restore(nn.Module):
    """From a sum and what the local Wiener filter makes of it to the expected image."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.options = {"channels": channels}
        self.body = BiasFreeUNet(channels, levels=3, fold=2, inputs=2)
        with torch.no_grad():
            self.body.last.weight.mul_(0.02)

    def forward(self, pairs: Tensor) -> Tensor:
        """From (n, 2, y, x) to (n, 1, y, x)."""
        found: Tensor = self.body(pairs.contiguous(memory_format=torch.channels_last))
        return pairs[:, 1:] + found.float()


class Choose(nn.Module):
    """Weights of restored sums, from place to place.

    It is told of each sum by how much it is worse than their mean as a prediction of two pictures
    of counts, the frame and the mean of three, in squares over places of three sizes; and how
    much the sums differ there. Nothing else: with few weights it cannot learn noise by heart.
    """

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.options = {"channels": channels}
        self.first = nn.Conv2d(SUMS * (2 * len(NEAR) + 1), channels, 1)
        self.last = nn.Conv2d(channels, SUMS, 1)
        for part in self.last.parameters():  # begin with the mean of all
            nn.init.zeros_(part)

    def forward(self, images: Tensor) -> Tensor:
        """From (n, 14, y, x): restored sums, the frame, and its mean with its neighbours."""
        sums, frame, three = images.float().split([SUMS, 1, 1], 1)
        with torch.autocast(images.device.type, enabled=False):
            mean = sums.mean(1, keepdim=True)
            apart = sums - mean
            told = [blurred(_pooled(apart.square()), NEAR[1]) * 60]
            for counts in (three, frame):
                worse = _pooled(apart * (sums + mean - 2 * counts))
                told += [blurred(worse, width) * (30 * width) for width in NEAR]
            weights = self.last(functional.relu(self.first(torch.cat(told, 1))))
            weights = functional.interpolate(weights, scale_factor=PLACE, mode="bilinear")
            rows, columns = images.shape[-2:]
            return (weights[..., :rows, :columns].softmax(1) * sums).sum(1, keepdim=True)


def _pooled(images: Tensor) -> Tensor:
    return functional.avg_pool2d(images, PLACE, ceil_mode=True, count_include_pad=False)


@dataclass
class HalvesRestorer(MovieRestorer):
    """A denoiser of sums that learned from the movie itself."""

    network: RestoredSums

    @torch.no_grad()
    def alone(self, frames: Tensor) -> Tensor:
        """Restore frames (n, y, x), each by itself: pictures that share no counts."""
        return restored(self.network.restore, frames)

    @torch.no_grad()
    def restored(self, images: Tensor) -> Tensor:
        """The network's answer to (n, 24, y, x)."""
        with autocast(self.network, True):
            return torch.cat([self.network(one)[:, 0] for one in images.split(1)])

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> HalvesRestorer:
        """Make the denoiser that a record tells of, with weights that are not trained."""
        pixel_size, dose = (tuple(record["trained_for"][key]) for key in ("pixel_size", "dose"))
        return cls(RestoredSums(**record["options"]), pixel_size, dose)


def with_filtered(sums: Tensor) -> Tensor:
    """Sums (n, 1, y, x), and behind each what the local Wiener filter makes of it."""
    return torch.cat([sums, local_wiener(sums, WINDOW, apart=0.5)], 1)


@torch.no_grad()
def restored(network: nn.Module, sums: Tensor) -> Tensor:
    """Sums (n, y, x), each restored by itself."""
    device = next(network.parameters()).device
    with autocast(network, True):
        parts = sums[:, None].split(FRAMES)
        answers = [network(with_filtered(some.to(device)))[:, 0] for some in parts]
    return torch.cat(answers).to(sums.device)


def learn_halves(
    counts: Frames,
    pixel_size: float,
    settings: Settings = RESTORE,
    *,
    choosing: Settings = CHOOSE,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> tuple[HalvesRestorer, Result]:
    """Train a denoiser of sums on a movie and nothing else.

    Of 16 frames one is never learned from; the networks that are kept are those which predict its
    counts best.

    Parameters
    ----------
    counts : (t, y, x) array
        Two frames or more.
    pixel_size : float
        [A]; fine pixels are binned.
    settings, choosing : Settings
        How the network that restores is trained, and that which chooses.
    options : mapping, optional
        Channels of the two: `channels`, `choosing`.
    seed : int
        Of first weights, crops, and of who gets which electron.
    checkpoint : Path, optional
        Where the state is kept, from which a run that was killed goes on; what the first network
        has learned lies beside it until the end.
    device : device
        Where to train.
    progress : bool
        Show bars.

    Raises
    ------
    InputError
        If the movie has fewer than two frames, or cannot be learned from.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(0.5, (6, 32, 32))
    >>> short, small = replace(RESTORE, steps=2), {"channels": 4, "choosing": 4}
    >>> denoiser, _ = learn_halves(counts, 0.2, short, choosing=short, options=small)
    >>> denoiser(counts, 0.2).shape
    (6, 32, 32)
    """
    _, sample = examine(counts, pixel_size)
    checks.not_negative("movie", sample)
    movie = BinnedMovie(counts, binning(pixel_size))
    parts = Dealt(movie, float(np.abs(sample).mean()), are_electrons(sample), seed)
    network = checkpoints.seeded(RestoredSums, seed, **(options or {}))
    about = {
        "seed": seed,
        "options": network.options,
        "shape": list(movie.shape),
        "movie": hashlib.sha256(np.ascontiguousarray(sample).tobytes()).hexdigest(),
        "dealt": "electrons" if parts.electrons else "frames",
    }
    given: dict[str, Any] = {"checkpoint": checkpoint, "progress": progress}
    restore, seconds = _learned(network.restore.to(device), parts, settings, about, **given)
    choices = Choices(parts, restore)

    def loss(choose: nn.Module, number: int) -> Tensor:
        shown, other = (part.to(device) for part in choices.batch(number))
        return surprise(choose(shown), other).mean()

    result = train(
        network.choose.to(device),
        loss,
        choices.judge,
        choosing,
        about=about | {"sums": checkpoints.digest(restore.state_dict().values())},
        **given,
    )
    checkpoints.fill(network.restore, restore.state_dict(), "what was learned")
    checkpoints.fill(network.choose, result.network.state_dict(), "what was learned")
    for path in _kept(checkpoint):
        remove(path)
    dose = float(sample.mean()) / (pixel_size * binning(pixel_size)) ** 2
    limits = (0.8 * pixel_size, 1.25 * pixel_size), (dose / 2, dose * 2)
    history = [row | {"seconds": round(row["seconds"] + seconds, 2)} for row in result.history]
    return HalvesRestorer(network.eval(), *limits), replace(
        result, network=network, history=history
    )


def are_electrons(movie: NDArray[Any]) -> bool:
    """Whether values are single electrons: whole, white, and as variable as Poisson's.

    The variance is that of differences from frame to frame, over the mean; a movement that is
    seen in single frames makes it larger, and frames are dealt then.
    """
    if len(movie) < 2 or (movie != np.rint(movie)).any() or movie.min() < 0:
        return False
    frames = movie.astype(np.float64)
    ratio = np.square(np.diff(frames, axis=0)).mean() / (2 * frames.mean())
    return bool(abs(ratio - 1) < 0.03) and hidden_square(movie) == 1


def _kept(checkpoint: Path | None) -> list[Path]:
    """Where the network that restores waits for the one that chooses: weights and record."""
    if checkpoint is None:
        return []
    path = checkpoint.with_name(f"{checkpoint.stem}_sums.safetensors")
    return [path, path.with_suffix(".json")]


def _learned(
    network: nn.Module,
    parts: Dealt,
    settings: Settings,
    about: Mapping[str, Any],
    *,
    checkpoint: Path | None,
    progress: bool,
) -> tuple[nn.Module, float]:
    """Train the network that restores, or take what an earlier run has learned; and its time."""
    device = next(network.parameters()).device
    same = {"about": dict(about), "settings": vars(settings).copy()}
    for path in _kept(checkpoint)[:1]:
        if path.is_file():
            tensors, record = checkpoints.load(path)
            if {key: record.get(key) for key in same} == same:
                checkpoints.fill(network, tensors, path.name)
                return network.eval(), record["seconds"]

    def error(network: nn.Module, number: int) -> Tensor:
        shown, other, weights = (part.to(device) for part in parts.sum(number))
        return (surprise(network(with_filtered(shown)), other) * weights).mean()

    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    result = train(
        network,
        error,
        lambda network: parts.judge(network),
        settings,
        checkpoint=checkpoint,
        about=about,
        progress=progress,
    )
    seconds = result.history[-1]["seconds"]
    for path in _kept(checkpoint)[:1]:
        checkpoints.save(path, result.network.state_dict(), same | {"seconds": seconds})
    return result.network, seconds


class Dealt:
    """A movie from which some frames are held back, and whose electrons or frames are dealt.

    Parameters
    ----------
    movie : (t, y, x) array
    mean : float
        Of its values; all that is learned is relative to it.
    electrons : bool
        Deal electrons, else frames.
    seed : int
    """

    def __init__(self, movie: Frames, mean: float, electrons: bool, seed: int) -> None:
        self.movie, self.mean, self.electrons, self.seed = movie, mean, electrons, seed
        frames, rows, columns = movie.shape
        self.held = list(range(min(HELD, frames) // 2, frames, HELD))
        self.learned = sorted(set(range(frames)) - set(self.held)) or self.held
        self.sides = min(SIDE, rows), min(SIDE, columns)

    def counts(self, first: int, last: int, place: Place) -> Tensor:
        """Frames from the first to before the last, of a place."""
        return torch.from_numpy(np.asarray(self.movie[first:last, place[0], place[1]], np.float32))

    def sum(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Two parts of sums, (n, 1, y, x) relative to the movie's mean, and weights of them."""
        rng = np.random.default_rng([self.seed, 1, number])
        parts = [self._in_two(rng) for _ in range(BATCH)]
        shown, other, weights = (torch.stack(part)[:, None] for part in zip(*parts, strict=True))
        shown, other = turned((shown, other), rng)
        return smoothed(shown, rng), other, weights[..., None, None]

    def _in_two(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        width, t = int(rng.choice(PLAIN)), int(rng.choice(self.learned))
        frames = [k for k in self.learned if abs(k - t) <= width // 2]
        if len(frames) < 2 and not self.electrons:
            frames = sorted(self.learned, key=lambda k: abs(k - t))[:2]
        first, n = min(frames), len(frames)
        place = anywhere(self.movie.shape[1:], self.sides, rng)
        counts = self.counts(first, max(frames) + 1, place)[[k - first for k in frames]]
        total = counts.sum(0)
        if self.electrons:
            share = float(rng.uniform(0.5, 0.9))
            seen = dealt(total, share, rng)
        else:
            some = int(rng.integers(1, n)) if n > 1 else 1
            share = min(0.9, some / n)
            seen = counts[rng.permutation(n)[:some]].sum(0)
        scale = n * self.mean
        pair = seen / share / scale, (total - seen) / (1 - share) / scale
        return *pair, torch.tensor((1 - share) * n**0.8)

    def judge(self, network: nn.Module) -> float:
        """Surprise by frames that are held back, as their neighbours' restored sums tell them."""
        device, values = next(network.parameters()).device, []
        rows, columns = (
            slice((n - min(n, 512)) // 2, (n + min(n, 512)) // 2) for n in self.movie.shape[1:]
        )
        for t in self.held[:: max(1, len(self.held) // 8)]:
            for width in (9, 65):
                first, last = max(0, t - width // 2), min(self.movie.shape[0], t + width // 2 + 1)
                counts = self.counts(first, last, (rows, columns)).to(device) / self.mean
                others = (counts.sum(0) - counts[t - first]) / max(1, len(counts) - 1)
                answer = network(with_filtered(others[None, None]))
                values.append(surprise(answer[0, 0], counts[t - first]).mean())
        return float(torch.stack(values).mean())

    def examples(self, restore: nn.Module) -> tuple[Tensor, Tensor, list[int]]:
        """What is shown of each frame of a block when the choice is learned, and what is hidden.

        Returns
        -------
        (n, 14, y, x) tensor, (n, 1, y, x) tensor, list of int
            Relative to the movie's mean; and which frame each is.
        """
        rng = np.random.default_rng([self.seed, 2])
        number = min(self.movie.shape[0], BLOCK[1])
        first = (self.movie.shape[0] - number) // 2
        sides = [min(BLOCK[0], n) for n in self.movie.shape[1:]]
        place = anywhere(self.movie.shape[1:], sides, rng)
        whole = self.counts(first, first + number, place) / self.mean
        ways = motion(restored(restore, whole))
        shown = torch.empty(number, SUMS + 2, *sides, dtype=torch.float16)
        hidden = torch.empty(number, 1, *sides)
        reach = torch.tensor(PLAIN + ALONG) // 2
        for t in range(number):
            plain, moved = (
                mean_frames(whole, [t], own=False),
                mean_along(whole, *ways, [t], own=False),
            )
            sums = torch.cat([plain, moved], 1)[0]
            if self.electrons:
                seen = dealt(whole[t] * self.mean, SHARE, rng) / self.mean
                others = (reach.clamp(max=t) + reach.clamp(max=number - 1 - t))[:, None, None]
                sums = (sums * others + seen) / (others + SHARE)
                hidden[t, 0] = (whole[t] - seen) / (1 - SHARE)
            else:  # a frame that cannot be dealt is not shown, but another one
                sums[0], hidden[t, 0] = whole[t - 1 if t else 1], whole[t]
            shown[t] = torch.cat([restored(restore, sums), sums[:2]])
        return shown, hidden, list(range(first, first + number))


class Choices:
    """Restored sums of frames, and what of each frame was hidden."""

    def __init__(self, movie: Dealt, restore: nn.Module) -> None:
        self.shown, self.hidden, frames = movie.examples(restore)
        self.seed, self.sides = movie.seed, movie.sides
        self.learned = [n for n, t in enumerate(frames) if t in set(movie.learned)]
        self.judged = [n for n, t in enumerate(frames) if t in set(movie.held)] or self.learned

    def batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Crops of what is shown, and of what is hidden."""
        rng = np.random.default_rng([self.seed, 3, number])
        crops, hidden = [], []
        for _ in range(BATCH):
            n = int(rng.choice(self.learned))
            place = anywhere(self.shown.shape[-2:], self.sides, rng)
            crops.append(self.shown[n][:, place[0], place[1]].float())
            hidden.append(self.hidden[n][:, place[0], place[1]])
        return torch.stack(crops), torch.stack(hidden)

    def judge(self, network: nn.Module) -> float:
        """Surprise by what is hidden of the frames that are held back."""
        device = next(network.parameters()).device
        values = [
            surprise(network(self.shown[n : n + 1].to(device)), self.hidden[n : n + 1].to(device))
            for n in self.judged
        ]
        return float(torch.cat(values).mean())


def surprise(answer: Tensor, counts: Tensor) -> Tensor:
    """Minus the logarithm of Poisson's likelihood, for each electron; no answer is below 0.03."""
    answer = answer.float().clamp(min=0.03)
    return answer - counts * answer.log()


def dealt(counts: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """How many of the electrons at each pixel are shown."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    counts = counts.round()
    return torch.binomial(counts, torch.full_like(counts, share), generator=generator)


def anywhere(shape: Sequence[int], sides: Sequence[int], rng: np.random.Generator) -> Place:
    """Rows and columns of a box somewhere in a frame."""
    corner = [int(rng.integers(n - side + 1)) for n, side in zip(shape, sides, strict=True)]
    return slice(corner[0], corner[0] + sides[0]), slice(corner[1], corner[1] + sides[1])


def turned(images: Sequence[Tensor], rng: np.random.Generator) -> tuple[Tensor, ...]:
    """All images in one of the eight symmetries of a square."""
    turns, mirror = int(rng.integers(4)), bool(rng.random() < 0.5)
    parts = (torch.rot90(part, turns, (-2, -1)) for part in images)
    return tuple(part.flip(-1) if mirror else part for part in parts)


def smoothed(sums: Tensor, rng: np.random.Generator) -> Tensor:
    """Some of the sums (n, 1, y, x) as smooth as interpolation by a part of a pixel makes them."""
    along = torch.from_numpy(rng.uniform(0, 0.5, (2, len(sums))) * (rng.random(len(sums)) < 0.45))
    near = along * (1 - along) / 2
    padded = mirrored(sums, (1, 1), (1, 1))
    for axis, part in zip((-2, -1), near.float()[..., None, None, None], strict=True):
        n = padded.shape[axis] - 2
        first, middle, last = (padded.narrow(axis, k, n) for k in range(3))
        padded = part * (first + last) + (1 - 2 * part) * middle
    return padded
