"""A denoiser that was learned from one movie, at work on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from insitu import InputError, checks
from insitu.denoise.binning import BinnedMovie, Frames, binning, tiles, unbinned
from insitu.denoise.blind_networks import UDVD, BlindVideoUNet
from insitu.denoise.networks import symmetrised
from insitu.denoise.surroundings import HALO, Surroundings
from insitu.learning.training import Result, autocast

NETWORKS: dict[str, type[nn.Module]] = {"UDVD": UDVD, "BlindVideoUNet": BlindVideoUNet}
TILE = 512  # side of the tiles in which large frames are worked on, in pixels of the network


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
    least : float
        The least that is answered: 0 where the loss was that of counts.

    Notes
    -----
    Where pixels are binned for the network, its answer, interpolated back, is not blind to a fine
    pixel's own count: estimate its error on binned counts.
    """

    network: nn.Module
    surroundings: Surroundings
    mean: float
    least: float = 0.0

    def __call__(
        self,
        counts: Frames,
        pixel_size: float,
        frames: Iterable[int] | None = None,
        *,
        symmetric: bool = False,
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Predict every count of a movie.

        Parameters
        ----------
        counts : (t, y, x) array
            As the network was trained on.
        pixel_size : float
            [A].
        frames : iterable of int, optional
            Which ones; all by default.
        symmetric : bool
            Average the answers to all eight rotations and mirror images.
        progress : bool
            Show a bar.

        Returns
        -------
        (frames, y, x) array of float32
            Expected counts, none below `least`.
        """
        chosen = list(range(counts.shape[0]) if frames is None else frames)
        layout = torch.channels_last

        def plain(images: Tensor) -> Tensor:
            with autocast(self.network, True):
                answer: Tensor = self.network(images.contiguous(memory_format=layout))
            return answer.float()

        network = partial(symmetrised, plain) if symmetric else plain
        return self._predicted(network, counts, pixel_size, chosen, progress=progress)

    def first_guess(
        self, counts: Frames, pixel_size: float, frames: Iterable[int]
    ) -> NDArray[np.float32]:
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
            raise InputError("first_guess: this network sees counts alone and begins with nothing")
        return self._predicted(lambda images: images[:, -1:], counts, pixel_size, list(frames))

    @torch.no_grad()
    def _predicted(
        self,
        network: Callable[[Tensor], Tensor],
        counts: Frames,
        pixel_size: float,
        numbers: Sequence[int],
        *,
        progress: bool = False,
    ) -> NDArray[np.float32]:
        checks.positive("pixel_size", pixel_size, "A")
        if len(counts.shape) != 3:
            raise InputError(f"counts: expected a movie (t, y, x), got shape {counts.shape}")
        factor, device = binning(pixel_size), next(self.network.parameters()).device
        movie = BinnedMovie(counts, factor)
        self.network.eval()
        result = np.empty((len(numbers), *counts.shape[1:]), np.float32)
        for number, t in enumerate(tqdm(numbers, "denoising", disable=not progress)):
            frame = torch.empty(movie.shape[1:])
            for place, seen, inner in tiles(movie.shape[1:], TILE, HALO):
                images = self.surroundings.around(movie, t, seen)[None].to(device) / self.mean
                frame[place] = (network(images)[0, 0] * self.mean)[inner].cpu()
            result[number] = unbinned(frame.numpy(), factor, counts.shape[1:])
        return np.maximum(result, self.least, out=result)

    def save(self, path: Path, result: Result, **provenance: Any) -> Path:
        """Write the network of a training, with all that is known of its making."""
        shown, are_counts = asdict(self.surroundings), self.least == 0.0
        own = {"surroundings": shown, "mean": self.mean, "counts": are_counts}
        return result.save(path, **own, **provenance)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> MovieDenoiser:
        """Make the denoiser that a record tells of, with weights that are not trained."""
        network = NETWORKS[record["network"]](**record["options"])
        shown = dict(record["surroundings"])
        shown["groups"] = tuple(tuple(group) for group in shown["groups"])
        shown |= {key: tuple(shown[key]) for key in ("windows", "filtered")}
        least = 0.0 if record.get("counts", True) else -np.inf
        return cls(network, Surroundings(**shown), float(record["mean"]), least)
