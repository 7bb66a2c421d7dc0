"""One pass over a movie of any size: dose, Fano factor, mean, drift, alarms, a denoised movie.

Workers read blocks, a tile of some frames each, and send back sums; these are merged in order, so
that the state is always that of the frames up to one, and can be kept and gone on from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu import InputError, checks
from insitu.streaming.alarms import cell_sums
from insitu.streaming.recording import Source, open_array
from insitu.streaming.store import FRAMES, SIDE, Entry, Index, sum_type

ASKED = ("mean", "fano", "drift", "alarms")
HALO = 192  # pixels around a tile that a denoiser sees
CELLS = 64  # along an edge of the frame, at most
COARSE = 512  # pixels along an edge of the images in which drift is looked for, at most

Array = NDArray[np.float64]
Box = tuple[slice, ...]


@dataclass(frozen=True)
class Job:
    """What is to be done to every block.

    Parameters
    ----------
    shape : (int, int, int)
        Of the movie, (t, y, x).
    asked : tuple of str
        Of `ASKED`. The electrons of each frame are always counted.
    block : int
        Frames of a block.
    side : int
        Of a tile, at most [px].
    denoiser : str
        Name or file of one; empty for none.
    device : str
        Of the denoiser.
    pixel_size : float
        [A], for the denoiser.
    kept : Path or None
        Store of the denoised frames.
    columns : bool
        Find columns in the mean of each denoised block.
    """

    shape: tuple[int, ...]
    asked: tuple[str, ...]
    block: int
    side: int = SIDE
    denoiser: str = ""
    device: str = "auto"
    pixel_size: float = 0.0
    kept: Path | None = None
    columns: bool = False

    @property
    def cell(self) -> int:
        """Side of a cell [px]: 16, or what makes at most 64 along an edge."""
        side = 16
        while max(self.shape[1:]) > CELLS * side:
            side *= 2
        return side

    @property
    def shrink(self) -> int:
        """Pixels that are binned where drift is looked for."""
        side = 1
        while max(self.shape[1:]) > COARSE * side:
            side *= 2
        return side

    def tasks(self) -> Iterator[tuple[int, Box]]:
        """First frame and tile of each block, in order."""
        tiles = [
            tuple(slice(k, min(n, k + self.side)) for k, n in zip(corner, frame, strict=True))
            for frame in [self.shape[1:]]
            for corner in product(*(range(0, n, self.side) for n in frame))
        ]
        for first in range(0, self.shape[0], self.block):
            for tile in tiles:
                yield first, tile

    def last(self, first: int) -> int:
        """The frame behind a block's last one."""
        return min(first + self.block, self.shape[0])


class Tally(NamedTuple):
    """What a worker says of a block; what was not asked is None."""

    first: int
    tile: Box
    cells: NDArray[Any]  # (t, rows, columns) electrons
    total: NDArray[Any] | None  # (y, x) of all frames
    squares: NDArray[Any] | None  # (y, x) of the differences of successive frames
    ends: NDArray[Any] | None  # (2, y, x) first and last frame
    counted: NDArray[np.int64]  # pixels of the first frame with 0, 1, 2, ... electrons
    denoised: Array | None  # (y, x) sum of all frames
    columns: Array | None  # (n, 3) y, x [A], height
    entries: list[Entry]  # chunks of the denoised store that were written


def tally(job: Job, source: Source, first: int, tile: Box) -> Tally:
    """Read a block and count; called by the workers."""
    last, whole = job.last(first), source.dtype.kind in "uib"
    total = squares = denoised = columns = before = None
    cells, entries = [], []
    ends: list[NDArray[Any]] = []
    counted = np.zeros(0, np.int64)
    for frames in _parts(source, first, last, tile):
        if not whole:
            checks.finite("movie", frames)
        cells.append(cell_sums(frames, job.cell))
        if not ends:
            counted = _counted(frames[0])
            ends.append(frames[0])
        if {"mean", "fano", "drift"} & set(job.asked) or job.denoiser:
            if total is None:
                total = np.zeros(frames.shape[1:], np.int64 if whole else np.float64)
            total += frames.sum(0, dtype=sum_type(frames, len(frames)))
        if "fano" in job.asked:
            some = _squares(frames, before)
            squares = some if squares is None else squares + some
            before = frames[-1]
    if "fano" in job.asked and before is not None:
        ends.append(before)
    if job.denoiser:
        found = denoised_block(job, source, first, tile)
        denoised = found.sum(0, dtype=np.float64)
        if job.columns:
            columns = _columns(denoised / len(found), job.pixel_size)
        if job.kept is not None:
            entries = _keep(job.kept, first, tile, found)
    return Tally(
        first,
        tile,
        np.concatenate(cells),
        total,
        squares,
        np.stack(ends) if squares is not None else None,
        counted,
        denoised,
        columns,
        entries,
    )


def _parts(source: Source, first: int, last: int, tile: Box) -> Iterator[NDArray[Any]]:
    """Frames of a block, 16 at a time; the next ones are read while these are counted."""

    def read(begin: int) -> NDArray[Any]:
        end = min(begin + FRAMES, last)
        frames = source.frames(begin, end, tile)
        if len(frames) != end - begin:
            raise InputError(
                f"movie: frames {begin} to {end - 1} are not all there; the file is cut off"
            )
        return frames

    with ThreadPoolExecutor(1) as beside:
        reading = beside.submit(read, first)
        for begin in range(first + FRAMES, last, FRAMES):
            frames = reading.result()
            reading = beside.submit(read, begin)
            yield frames
        yield reading.result()


def _counted(frame: NDArray[Any]) -> NDArray[np.int64]:
    if frame.dtype.kind not in "uib" or frame.min() < 0 or frame.max() > 4095:
        return np.zeros(0, np.int64)
    return np.bincount(frame.ravel().astype(np.uint16)).astype(np.int64)


def _squares(frames: NDArray[Any], before: NDArray[Any] | None) -> NDArray[Any]:
    """Sum of the squares of the differences of successive frames, exact for counts."""
    if before is not None:
        frames = np.concatenate([before[None], frames])
    if frames.dtype.kind not in "uib":
        return (np.diff(frames.astype(np.float64), axis=0) ** 2).sum(0)
    largest = max(int(frames.max(initial=0)), -int(frames.min(initial=0)))
    if largest <= 11:  # squares fit into a byte: a fifth of the time
        steps: NDArray[Any] = np.diff(frames.astype(np.int8, copy=False), axis=0)
        steps *= steps
        return steps.sum(0, dtype=np.int16).astype(np.int64)
    steps = np.diff(frames.astype(np.int64), axis=0)
    return (steps**2).sum(0)


_loading = Lock()


@lru_cache(maxsize=2)
def _loaded(name: str, device: str) -> Any:
    import torch

    from insitu.denoise.saved import load_denoiser
    from insitu.learning.training import device_named

    place = device_named(device)
    if place.type == "cpu":
        torch.set_num_threads(1)  # the workers share the cores
    return load_denoiser(name, device=place)


def loaded(name: str, device: str) -> Any:
    """The denoiser of that name, loaded once by each worker."""
    with _loading:
        return _loaded(name, device)


def reach(denoiser: Any) -> int | None:
    """Farthest frame that a denoiser looks at; None if it takes each frame by itself."""
    from insitu.denoise.movies import MovieDenoiser
    from insitu.denoise.restorer import REACH, MovieRestorer

    if isinstance(denoiser, MovieRestorer):
        return REACH
    return denoiser.surroundings.reach if isinstance(denoiser, MovieDenoiser) else None


def denoised_block(job: Job, source: Source, first: int, tile: Box) -> NDArray[np.float32]:
    """Denoise a block with as many frames and pixels around it as the denoiser looks at."""
    from insitu.denoise.binning import binning, widened

    denoiser, last = loaded(job.denoiser, job.device), job.last(first)
    far = reach(denoiser)
    factor = binning(job.pixel_size)
    seen, inner = widened(tile, source.shape[1:], -(-HALO // factor) * factor)
    if far is None:
        return np.asarray(denoiser(source.frames(first, last, seen), job.pixel_size))[
            (slice(None), *inner)
        ]
    begin, end = max(0, first - far), min(source.shape[0], last + far)
    frames = source.frames(begin, end, seen)
    found = denoiser(frames, job.pixel_size, range(first - begin, last - begin))
    return np.asarray(found[(slice(None), *inner)])


def _columns(mean: Array, pixel_size: float) -> Array:
    from insitu.trust.columns import find_columns

    level = float(np.median(mean)) or 1.0
    found = find_columns(mean / level, pixel_size)
    return np.column_stack([found.positions, found.strength])


def _keep(path: Path, first: int, tile: Box, frames: NDArray[np.float32]) -> list[Entry]:
    """Write a denoised block, each chunk of it."""
    store = open_array(path)
    place = tuple(s.start // n for s, n in zip(tile, store.array.chunks[1:], strict=True))
    entries: list[Entry] = []
    for begin in range(0, len(frames), FRAMES):
        index: Index = ((first + begin) // FRAMES, *place)
        entries += store.write([index], frames[begin : begin + FRAMES])
    return entries


def asked_of(given: Collection[str]) -> tuple[str, ...]:
    """What is asked, in one order."""
    for name in given:
        checks.one_of("asked", name, ASKED)
    return tuple(name for name in ASKED if name in given)
