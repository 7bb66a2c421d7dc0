"""A denoiser learned from one noisy movie and nothing else.

A network predicts each count from other counts. Noise cannot be predicted, so that the best
prediction is the expected count [1]_. When to stop is told by counts that are held back.

.. [1] A. Krull, T.-O. Buchholz, F. Jug, Noise2Void, CVPR 2019; S. Laine et al., High-quality
   self-supervised deep image denoising, NeurIPS 2019.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from insitu import InputError, checks
from insitu.counting import noise
from insitu.denoise.binning import BinnedMovie, Frames, binning
from insitu.denoise.blind_networks import UDVD, BlindVideoUNet
from insitu.denoise.blocks import Blocks, Measure, cut, hidden_square, measure_for, motion, squares
from insitu.denoise.movies import MovieDenoiser
from insitu.learning import checkpoints
from insitu.learning.training import Result, Settings, train

MOVING = 0.3  # share of the training at least that is of blocks in which something moves


@dataclass(frozen=True)
class MovieSettings(Settings):
    """How a network is trained on a movie."""

    steps: int = 400
    optimiser: str = "muon"
    learning_rate: float = 2e-3
    average: float = 0.98
    validate_every: int = 50
    save_every: int = 50
    batch: int = 8  # crops of a step
    side: int = 96  # rows and columns of a crop, in pixels of the network
    blind: int = 0  # side of the hidden square, 1 or 3; 0 chooses by the noise's correlation
    squares: bool = False  # take the squared error, whatever the values are
    judged: int = 16  # blocks on whose held-back counts the network is judged
    megabytes: float = 300.0  # that the blocks to learn from may take


def examine(counts: Frames, pixel_size: float) -> tuple[Measure, NDArray[Any]]:
    """Hold a movie against what can be learned from; the loss that fits it, and its middle.

    Every frame is looked at for values that no detector gives. The loss is chosen by 64 frames
    in the middle of the movie, 512 pixels across in the middle of the frame.

    Raises
    ------
    InputError
        In one sentence: one frame, less than 16 pixels across, NaN, all values alike, a hot
        pixel, or no three axes.
    """
    checks.positive("pixel_size", pixel_size, "A")
    factor = binning(pixel_size)
    if len(counts.shape) != 3 or counts.shape[0] < 2:
        raise InputError(
            f"movie: got the shape {tuple(counts.shape)}; a movie has frames, rows and columns, "
            "and a single frame cannot tell its noise from its specimen"
        )
    least = 16 * factor
    if min(counts.shape[1:]) < least:
        raise InputError(f"movie: frames of {counts.shape[1:]} are too small; {least} is the least")
    movie = BinnedMovie(counts, factor)
    sides = zip(movie.shape, (64, 512, 512), strict=True)
    sample = np.asarray(movie[tuple(slice(max(0, n - k) // 2, (n + k) // 2) for n, k in sides)])
    measure = measure_for(sample)
    for first in range(0, counts.shape[0], 16):
        part = np.asarray(counts[first : first + 16])
        checks.finite(f"movie, frames {first} to {first + len(part) - 1}", part)
        if measure is not squares:
            noise.refuse_hot_pixels(part, float(sample.mean()) / factor**2, first)
    return measure, sample


def learn_movie(
    counts: Frames,
    pixel_size: float,
    settings: MovieSettings | None = None,
    *,
    network: type[UDVD] | type[BlindVideoUNet] = BlindVideoUNet,
    options: Mapping[str, Any] | None = None,
    start: MovieDenoiser | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    watch: Callable[[MovieDenoiser], None] | None = None,
    progress: bool = False,
) -> tuple[MovieDenoiser, Result]:
    """Train a denoiser on a movie and nothing else.

    The network that is kept is the one that predicts the counts that were held back best; no clean
    image is needed to see when it begins to learn the noise by heart.

    Parameters
    ----------
    counts : (t, y, x) array
        Two frames or more.
    pixel_size : float
        [A]; fine pixels are binned.
    settings : MovieSettings, optional
        How long and how fast.
    network : type
        UDVD or BlindVideoUNet. It asks for what it is shown; a movie in which nothing moves is
        learned without `own` images.
    options : mapping, optional
        Of the network.
    start : MovieDenoiser, optional
        Begin with what was learned from another movie, whose network and surroundings are taken,
        whatever is said of them here; windows wider than the frame become as wide as it.
    seed : int
        Of first weights, crops, and the counts that are held back.
    checkpoint : Path, optional
        Where the state is kept, from which a run that was killed goes on.
    device : device
        Where to train.
    watch : callable, optional
        Called with the denoiser whenever it is judged.
    progress : bool
        Show a bar.

    Raises
    ------
    InputError
        If the movie has fewer than two frames, or cannot be learned from.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(0.5, (6, 24, 24))
    >>> settings = MovieSettings(steps=2, batch=2, side=16, validate_every=2)
    >>> small = {"channels": 4, "levels": 1, "reach": 4}
    >>> denoiser, result = learn_movie(counts, 0.2, settings, options=small)
    >>> denoiser(counts, 0.2).shape
    (6, 24, 24)
    """
    settings = settings or MovieSettings()
    measure, sample = examine(counts, pixel_size)
    if settings.squares:
        measure = squares
    movie = BinnedMovie(counts, binning(pixel_size))
    blind = settings.blind or hidden_square(sample)
    asked, given = network.surroundings, dict(options or {})
    if start is not None:
        before: Any = start.network
        network, given, asked = type(before), before.options, start.surroundings
    shown = asked.fitted(movie.shape[1:], blind)
    if start is not None and (shown.others, blind) != (asked.others, before.blind):
        raise InputError(
            f"start: it hides {before.blind} pixels across and filters in windows of "
            f"{asked.windows}; this movie asks for {blind} and has frames of {movie.shape[1:]}"
        )
    blocks = cut(movie, shown, megabytes=settings.megabytes, seed=seed)
    if shown.own:
        moving = motion(blocks, shown) > 5
        share = float(moving.float().mean())
        if share == 0 and start is None:
            shown = replace(shown, own=False)
            kept = blocks.images[:, : 1 + shown.others].clone()
            blocks = replace(blocks, images=kept, order=shown.backwards())
        elif 0 < share < MOVING:  # events are rare: learn from them more often
            blocks.chances = torch.where(moving, MOVING / share, (1 - MOVING) / (1 - share))
    given = {"blind": blind} | given
    if start is None:
        untrained = checkpoints.seeded(network.for_surroundings, seed, shown=shown, **given)
    else:
        untrained = copy.deepcopy(before)
    least = 0.0 if measure is not squares else -np.inf

    def whole(part: nn.Module) -> MovieDenoiser:
        return MovieDenoiser(part, shown, blocks.mean, least)

    about = {
        "seed": seed,
        "network": network.__name__,
        "options": given,
        "shape": list(movie.shape),
        "mean": blocks.mean,
        "surroundings": asdict(shown),
        "movie": hashlib.sha256(np.ascontiguousarray(sample).tobytes()).hexdigest(),
        "start": "" if start is None else checkpoints.digest(before.state_dict().values()),
    }
    result = _train(
        untrained.to(device),
        blocks,
        settings,
        measure,
        seed,
        watch=None if watch is None else lambda part: watch(whole(part)),
        checkpoint=checkpoint,
        about=json.loads(json.dumps(about)),
        progress=progress,
    )
    return whole(result.network), result


def _train(
    network: nn.Module,
    blocks: Blocks,
    settings: MovieSettings,
    measure: Measure,
    seed: int,
    *,
    watch: Callable[[nn.Module], None] | None = None,
    **options: Any,
) -> Result:
    """Train a blind network on blocks of a movie, and keep it as it was when it was best."""
    device = next(network.parameters()).device
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    useful = blocks.held.flatten(1).any(1).nonzero().flatten()
    judged = min(settings.judged, len(useful))
    chosen = useful[torch.linspace(0, len(useful) - 1, judged).long()]

    def losses(network: nn.Module, images: Tensor) -> Tensor:
        shown = (images.to(device) / blocks.mean).contiguous(memory_format=torch.channels_last)
        return measure(images[:, :1].to(device), network(shown) * blocks.mean)

    def loss(network: nn.Module, step: int) -> Tensor:
        images, learned = blocks.batch(step, settings.batch, settings.side, seed)
        learned = learned.to(device)
        return losses(network, images)[learned].sum() / learned.sum().clamp(min=1)

    def validate(network: nn.Module) -> float:
        total = count = 0.0
        for k in chosen.tolist():
            values = losses(network, blocks.images[k : k + 1].float())[0]
            held = values[blocks.held[k].to(device)]
            total, count = total + float(held.sum()), count + held.numel()
        if watch is not None:
            watch(network)
        return total / max(1.0, count)

    return train(network, loss, validate, settings, **options)
