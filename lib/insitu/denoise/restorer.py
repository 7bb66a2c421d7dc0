"""A denoiser that restores sums of frames, and chooses among them from place to place.

A network learned from simulated movies what a specimen looks like; it is shown the frame, its
plain sums, its sums along the motion, and what the local Wiener filter makes of each of them, and
answers the expected counts of the frame. The motion comes from the movie itself: from a first
pass that is shown each frame alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from insitu import InputError, checks
from insitu.denoise.binning import BinnedMovie, Frames, binning, tiles, unbinned
from insitu.denoise.local_wiener import local_wiener
from insitu.denoise.motion import motion
from insitu.denoise.networks import BiasFreeUNet, symmetrised
from insitu.denoise.sums import ALONG, PLAIN, mean_along, mean_frames
from insitu.denoise.supervised import warn_untrained
from insitu.learning.training import Result, autocast

TILE, HALO = 512, 96  # pixels of the network
FRAMES = 8  # that are worked on at once
WINDOW = 64  # pixels, of the local Wiener filter
REACH = max(PLAIN) // 2  # farthest frame that is looked at


@dataclass
class MovieRestorer:
    """A network that restores sums of frames, and what it was trained for.

    Parameters
    ----------
    network : Module
        From the sums (n, 24, y, x) to expected counts (n, 1, y, x).
    pixel_size : (float, float)
        The range that it was trained for [A].
    dose : (float, float)
        The range of doses of a frame [e-/A^2].
    """

    network: nn.Module
    pixel_size: tuple[float, float]
    dose: tuple[float, float]

    @torch.no_grad()
    def __call__(
        self,
        counts: Frames,
        pixel_size: float,
        frames: Iterable[int] | None = None,
        *,
        along: bool = True,
        symmetric: bool = False,
        progress: bool = False,
    ) -> NDArray[np.float32]:
        """Denoise a movie.

        Parameters
        ----------
        counts : (t, y, x) array
            Electrons per pixel and frame.
        pixel_size : float
            [A].
        frames : iterable of int, optional
            Which ones; all by default.
        along : bool
            Estimate the motion and look at sums along it; without, one pass is enough.
        symmetric : bool
            Average the answers to all eight rotations and mirror images: 0.2 to 0.3 dB, for eight
            times the work of the network.
        progress : bool
            Show a bar.

        Returns
        -------
        (frames, y, x) array of float32
            Expected electrons, none below 0.

        Raises
        ------
        InputError
            If the counts are no movie, or hold NaN or negative values.

        Warns
        -----
        UserWarning
            If the pixel size or the dose is not one that the network was trained for.
        """
        checks.positive("pixel_size", pixel_size, "A")
        if len(counts.shape) != 3 or 0 in counts.shape:
            raise InputError(f"counts: expected a movie (t, y, x), got shape {counts.shape}")
        factor = binning(pixel_size)
        movie = BinnedMovie(counts, factor)
        first = np.asarray(counts[0], np.float32)
        _check(first)
        warn_untrained(float(first.mean()) / pixel_size**2, self.dose, pixel_size, self.pixel_size)
        chosen = list(range(movie.shape[0]) if frames is None else frames)
        result = np.empty((len(chosen), *counts.shape[1:]), np.float32)
        answer = result
        if factor > 1:
            answer = np.empty((len(chosen), *movie.shape[1:]), np.float32)
        places = list(tiles(movie.shape[1:], TILE, HALO))
        passes = along * -(-movie.shape[0] // FRAMES) + -(-len(chosen) // FRAMES)
        with tqdm(total=len(places) * passes, desc="denoising", disable=not progress) as bar:
            for place, seen, inner in places:
                part = np.asarray(movie[slice(0, movie.shape[0]), seen[0], seen[1]], np.float32)
                _check(part)
                whole = torch.from_numpy(part).to(self._device)
                done = 0
                for images in self._passes(whole, chosen, along, symmetric, bar):
                    some = slice(done, done := done + len(images))
                    answer[some, place[0], place[1]] = images[:, inner[0], inner[1]].cpu()
        if factor > 1:
            for t, image in enumerate(answer):
                result[t] = unbinned(image, factor, tuple(counts.shape[1:]))
        return np.maximum(result, 0, out=result)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _passes(
        self, movie: Tensor, chosen: Sequence[int], along: bool, symmetric: bool, bar: Any
    ) -> Iterator[Tensor]:
        """The frames that were chosen, denoised, some at a time."""
        level = float(movie.mean()) or 1.0
        movie = movie / level
        ways = None
        if along and len(movie) > 1:
            pictures = []
            for some in movie.split(FRAMES):
                pictures.append(self.alone(some))
                bar.update()
            ways = motion(torch.cat(pictures))
        for begin in range(0, len(chosen), FRAMES):
            numbers = chosen[begin : begin + FRAMES]
            images = shown(movie, numbers, ways)
            answer = symmetrised(self.restored, images) if symmetric else self.restored(images)
            yield answer * level
            bar.update()

    @torch.no_grad()
    def alone(self, frames: Tensor) -> Tensor:
        """Restore frames (n, y, x), each by itself: pictures that share no counts."""
        filtered = local_wiener(frames[:, None], WINDOW, apart=0.5)
        return self._answers(torch.cat([frames[:, None], filtered], 1), copies=len(PLAIN + ALONG))

    @torch.no_grad()
    def restored(self, images: Tensor) -> Tensor:
        """The network's answer to (n, 24, y, x), some images at a time."""
        return self._answers(images)

    def _answers(self, images: Tensor, **options: int) -> Tensor:
        layout = torch.channels_last
        with autocast(self.network, True):
            parts = [
                self.network(some.contiguous(memory_format=layout), **options)
                for some in images.split(2)
            ]
        return torch.cat(parts)[:, 0].float()

    def save(self, path: Path, result: Result, **provenance: Any) -> Path:
        """Write the network of a training, with all that is known of its making."""
        limits = {"pixel_size": list(self.pixel_size), "dose": list(self.dose)}
        sums = {"plain": list(PLAIN), "along": list(ALONG)}
        return result.save(path, sums=sums, trained_for=limits, **provenance)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> MovieRestorer:
        """Make the denoiser that a record tells of, with weights that are not trained."""
        pixel_size, dose = (tuple(record["trained_for"][key]) for key in ("pixel_size", "dose"))
        return cls(BiasFreeUNet(**record["options"]), pixel_size, dose)


def _check(counts: NDArray[Any]) -> None:
    checks.finite("counts", counts)
    checks.not_negative("counts", counts)


def shown(
    movie: Tensor, frames: Sequence[int], ways: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """What the network is shown of some frames: plain sums, sums along the motion, both filtered.

    Without a motion the plain sums stand for those along it.

    Returns
    -------
    (frames, 24, y, x) tensor
    """
    plain = mean_frames(movie, frames)
    if ways is None:
        along = plain[:, [PLAIN.index(width) for width in ALONG]]
    else:
        along = mean_along(movie, *ways, frames)
    return with_filtered(torch.cat([plain, along], 1))


def with_filtered(sums: Tensor) -> Tensor:
    """Sums (n, 12, y, x), and behind them what the local Wiener filter makes of each.

    It averages a lattice over windows of 64 pixels, which convolutions take long to learn.
    """
    filtered = local_wiener(sums.flatten(0, 1)[:, None], WINDOW, apart=0.5)
    return torch.cat([sums, filtered.reshape(sums.shape)], 1)
