"""A denoiser learned from one movie, from its counts to its file and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from insitu import InputError
from insitu.counting import noise
from insitu.denoise import blindspot, losses
from insitu.denoise.binning import Binned, spread
from insitu.denoise.blind_networks import UDVD, BlindVideoUNet
from insitu.denoise.surroundings import FAR, FIVE, Frames, Surroundings
from insitu.learning import checkpoints
from insitu.learning.training import Result, Settings

NETWORKS: dict[str, type[nn.Module]] = {"UDVD": UDVD, "BlindVideoUNet": BlindVideoUNet}
MOVING = 0.3  # share of the training at least that is of blocks in which something moves
OPTIONS = {"channels": 24, "levels": 2}
SETTINGS = Settings(
    steps=400,
    optimiser="muon",
    learning_rate=2e-3,
    warm_up=50,
    average=0.98,
    validate_every=50,
    save_every=50,
)


@dataclass
class MovieDenoiser:
    """A network that was trained on a movie, and what it is shown of it.

    Parameters
    ----------
    network : Module
        UDVD or BlindVideoUNet.
    surroundings : Surroundings
        What it is shown.
    mean : float
        Of the absolute values of the movie, in the pixels that the network sees.
    factor : int
        Pixels across that are summed for the network. The answer, spread over finer pixels again,
        is not blind to a fine pixel's own count: estimate its error on summed counts.
    least : float
        The least that is answered: 0 where the loss was that of counts.
    """

    network: nn.Module
    surroundings: Surroundings
    mean: float
    factor: int = 1
    least: float = 0.0

    def __call__(
        self,
        movie: Frames,
        frames: Sequence[int] | None = None,
        *,
        symmetric: bool = False,
        out: Any = None,
        progress: bool = True,
    ) -> Any:
        """Predict every count of a movie; see `blindspot.denoise`.

        Returns
        -------
        (t, y, x) array of float32
            Expected counts, none below `least`.
        """
        chosen = list(range(movie.shape[0]) if frames is None else frames)
        seen = Binned(movie, self.factor) if self.factor > 1 else movie
        rows, columns = movie.shape[1:]
        if out is None:
            out = np.empty((len(chosen), rows, columns), np.float32)
        target = _Spread(out, self.factor, self.least)
        blindspot.denoise(
            seen,
            self.network,
            self.surroundings,
            mean=self.mean,
            frames=chosen,
            symmetric=symmetric,
            out=target,
            progress=progress,
        )
        return out

    def begun(self, movie: Frames, frames: Sequence[int]) -> NDArray[np.float32]:
        """Predict frames as the network did before any training, but for its random part.

        Returns
        -------
        (frames, y, x) array
            The average of filtered images that it is shown last; as blind as its answer.

        Raises
        ------
        InputError
            If the network is shown no filtered images, as UDVD.
        """
        if not self.surroundings.windows:
            raise InputError("begun: this network is shown counts alone, and begins with nothing")
        first = replace(self, network=_Last())
        result: NDArray[np.float32] = first(movie, frames, progress=False)
        return result

    def save(self, path: Path, result: Result, settings: Settings, **provenance: Any) -> Path:
        """Write the network in half precision, with all that is known of its making."""
        network: Any = self.network
        record = {
            "network": type(network).__name__,
            "options": network.options,
            "surroundings": asdict(self.surroundings),
            "mean": self.mean,
            "factor": self.factor,
            "counts": self.least == 0.0,
            "settings": asdict(settings),
            "best_step": result.best_step,
            "history": result.history,
            "versions": {p: metadata.version(p) for p in ("torch",)},
            "licence": "CC-BY-4.0",
            **provenance,
        }
        tensors = {k: v.half() for k, v in network.state_dict().items()}
        return checkpoints.save(path, tensors, record, readable=True)


class _Last(nn.Module):
    """What a network begins with: the last image that it is shown."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, -1:]


class _Spread:
    """An array (t, y, x) that is written in coarser pixels."""

    def __init__(self, out: Any, factor: int, least: float) -> None:
        self.out, self.factor, self.least = out, factor, least

    def __setitem__(self, number: int, frame: NDArray[np.float32]) -> None:
        fine = spread(frame, self.factor, self.out.shape[1:])
        self.out[number] = np.maximum(fine, self.least)


def load_movie_denoiser(name: str | Path, device: torch.device | str = "cpu") -> MovieDenoiser:
    """Open a denoiser that `MovieDenoiser.save` wrote.

    Parameters
    ----------
    name : str or Path
        `movie_ours` or `movie_udvd`, both trained on the movie that ships, or a file.
    device : device
        Where it is to work.

    Raises
    ------
    InputError
        If there is no such checkpoint, or it is not what its record says.
    """
    path = checkpoints.find(name)
    tensors, record = checkpoints.load(path)
    try:
        network = NETWORKS[record["network"]](**record["options"])
        told = dict(record["surroundings"])
        told["groups"] = tuple(tuple(group) for group in told["groups"])
        told |= {key: tuple(told[key]) for key in ("windows", "filtered")}
        surroundings = Surroundings(**told)
        mean, factor = float(record["mean"]), int(record["factor"])
        least = 0.0 if record.get("counts", True) else -np.inf
    except (KeyError, TypeError, ValueError):
        raise InputError(f"checkpoint: {path.name} is not that of a movie's denoiser") from None
    checkpoints.fill(network, {k: v.float() for k, v in tensors.items()}, path.name)
    return MovieDenoiser(network.to(device).eval(), surroundings, mean, factor, least)


def checked(movie: Frames, factor: int = 1) -> tuple[losses.Measure, NDArray[Any]]:
    """Hold a movie against what can be learned from; the loss that fits it, and its middle.

    Every frame is looked at for values that no detector gives. The loss is chosen by 64 frames
    in the middle of the movie, 512 pixels across in the middle of the frame.

    Raises
    ------
    InputError
        In one sentence: one frame, less than 16 pixels across, NaN, all values alike, a hot
        pixel, or no three axes.
    """
    if len(movie.shape) != 3 or movie.shape[0] < 2:
        raise InputError(
            f"movie: got the shape {tuple(movie.shape)}; a movie has frames, rows and columns, "
            "and a single frame cannot tell its noise from its specimen"
        )
    if min(movie.shape[1:]) < 16 * factor:
        raise InputError(
            f"movie: frames of {movie.shape[1:]} are too small, {16 * factor} x {16 * factor} is "
            "the least"
        )
    seen = Binned(movie, factor) if factor > 1 else movie
    middle = [
        slice(max(0, n - k) // 2, max(0, n - k) // 2 + k)
        for n, k in zip(seen.shape, (64, 512, 512), strict=True)
    ]
    sample = np.asarray(seen[middle[0], middle[1], middle[2]])
    if not np.isfinite(sample).all():
        raise InputError("movie: it holds NaN or infinite values; replace or crop them")
    measure = losses.measure_for(sample)
    whole = slice(0, movie.shape[1]), slice(0, movie.shape[2])
    for first in range(0, movie.shape[0], 16):
        part = np.asarray(movie[first : first + 16, whole[0], whole[1]])
        if not np.isfinite(part).all():
            raise InputError(
                f"movie: there are NaN or infinite values between frames {first} and "
                f"{first + len(part) - 1}; replace or crop them"
            )
        if measure is not losses.squares:
            noise.refuse_hot_pixels(part, float(sample.mean()) / factor**2, first)
    return measure, sample


def learn_movie(
    movie: Frames,
    settings: Settings = SETTINGS,
    *,
    surroundings: Surroundings = FAR,
    network: str = "BlindVideoUNet",
    options: Mapping[str, Any] | None = None,
    factor: int = 1,
    blind: int = 0,
    seed: int = 0,
    batch: int = 8,
    side: int = 96,
    squares: bool = False,
    judged: int = 16,
    megabytes: float = 300.0,
    start: MovieDenoiser | None = None,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    watch: Callable[[MovieDenoiser], None] | None = None,
    progress: bool = True,
) -> tuple[MovieDenoiser, Result]:
    """Train a denoiser on a movie and nothing else.

    Parameters
    ----------
    movie : (t, y, x) array
        Counts; two frames or more.
    settings : Settings
        How long and how fast.
    surroundings : Surroundings
        What a network is shown; UDVD is shown five frames in any case. Windows are made as
        narrow as the frame, and a movie in which nothing moves is learned without `own`.
    network : str
        BlindVideoUNet or UDVD.
    options : mapping, optional
        Of the network.
    factor : int
        Pixels across that are summed for it.
    blind : int
        Side of the hidden square; 0 measures the noise's correlation and chooses.
    seed : int
        Of first weights, crops, and the counts that are held back.
    batch, side : int
        Crops of a step, and their rows and columns.
    squares : bool
        Take the squared error, whatever the values are.
    judged : int
        Blocks on whose held-back counts the network is judged.
    megabytes : float
        That the blocks to learn from may take.
    start : MovieDenoiser, optional
        Begin with what was learned from another movie, whose network and surroundings are taken,
        whatever is said of them here; windows wider than the frame become as wide as it.
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
    """
    if network not in NETWORKS:
        raise InputError(f"network: got {network!r}, allowed is one of {', '.join(NETWORKS)}")
    measure, sample = checked(movie, factor)
    if squares:
        measure = losses.squares
    seen = Binned(movie, factor) if factor > 1 else movie
    if not blind:
        blind = losses.hidden_square(sample)
    if start is not None:
        network, surroundings = type(start.network).__name__, start.surroundings
        options = cast("Any", start.network).options
    shown = FIVE
    if network != "UDVD":
        widest = min(seen.shape[1:]) // 4 * 4  # no window is wider than the frame
        windows = tuple(sorted({min(w, widest) for w in surroundings.windows}))
        shown = replace(surroundings, windows=windows, blind=blind)
    if start is not None and (shown.others, blind) != (
        start.surroundings.others,
        cast("Any", start.network).blind,
    ):
        raise InputError(
            f"start: it hides {cast('Any', start.network).blind} pixels across and filters in "
            f"windows of {start.surroundings.windows}; this movie asks for {blind} and has frames "
            f"of {seen.shape[1:]}"
        )
    blocks = blindspot.cut(seen, shown, megabytes=megabytes, seed=seed)
    if shown.own:
        moving = blindspot.motion(blocks, shown) > 5
        share = float(moving.float().mean())
        if share == 0 and start is None:
            shown = replace(shown, own=False)
            kept = blocks.images[:, : 1 + shown.others].clone()
            blocks = replace(blocks, images=kept, order=shown.backwards())
        elif 0 < share < MOVING:  # events are rare: learn from them more often
            blocks.chances = torch.where(moving, MOVING / share, (1 - MOVING) / (1 - share))
    given: dict[str, Any] = {"blind": blind, **(options or {})}
    if network != "UDVD":
        given = {
            "others": shown.others,
            "own": shown.filtered_own,
            "averaged": shown.averaged,
            **OPTIONS,
            **given,
        }
    untrained = checkpoints.seeded(NETWORKS[network], seed, **given).to(device)
    if start is not None:
        untrained.load_state_dict(start.network.state_dict())
    least = 0.0 if measure is not losses.squares else -np.inf

    def whole(part: nn.Module) -> MovieDenoiser:
        return MovieDenoiser(part, shown, blocks.mean, factor, least)

    origin = {}
    if start is not None:
        origin["start"] = _digest(*(w.detach().cpu() for w in start.network.parameters()))
    result = blindspot.learn(
        untrained,
        blocks,
        settings,
        measure=measure,
        batch=batch,
        side=side,
        seed=seed,
        judged=judged,
        checkpoint=checkpoint,
        progress=progress,
        watch=None if watch is None else lambda part: watch(whole(part)),
        about={
            "seed": seed,
            "network": network,
            "options": given,
            "shape": list(seen.shape),
            "mean": blocks.mean,
            "surroundings": json.loads(json.dumps(asdict(shown))),
            "batch": batch,
            "side": side,
            "squares": squares,
            "factor": factor,
            "movie": _digest(sample),
            **origin,
        },
    )
    return whole(result.network), result


def _digest(*values: Any) -> str:
    parts = [np.ascontiguousarray(v).tobytes() for v in values]
    return hashlib.sha256(b"".join(parts)).hexdigest()
