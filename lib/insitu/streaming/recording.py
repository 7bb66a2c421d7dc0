"""A movie, from whatever it comes, into a store; on again where it was interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu import InputError, checks
from insitu.files import Movie, ResultsFolder, open_movie
from insitu.streaming.store import FRAMES, LOG, Entry, Index, Store, create, open_store
from insitu.streaming.tasks import in_order


class Source(NamedTuple):
    """Something that is cut like an array (t, y, x), and what is known of it."""

    data: Any  # the frames; None for a file, which each worker opens itself
    path: Path | None
    pixel_size: float
    frame_time: float
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    state: tuple[int, int]  # size and time of the file

    def frames(self, first: int, last: int, box: tuple[slice, ...] = ()) -> NDArray[Any]:
        """Read a region, (t, y, x)."""
        movie = self.data if self.path is None else _opened(self.path, self.state)
        try:
            part = movie[(slice(first, last), *box)]
            if hasattr(part, "dask"):  # inside of a worker nothing else may be asked to compute it
                part = part.compute(scheduler="synchronous")
            return np.asarray(part)
        except InputError:
            raise
        except Exception as error:
            name = self.path.name if self.path else "movie"
            raise InputError(
                f"{name}: frames {first} to {last - 1} cannot be read "
                f"({(str(error) or type(error).__name__).splitlines()[0][:200]}); the file is "
                "damaged or was cut off: copy it again"
            ) from None

    def sent(self, first: int, last: int) -> Source:
        """What a worker needs for these frames: of an array in memory, no more than them."""
        if hasattr(self.data, "dask"):
            from dask import optimize

            return self._replace(data=_Part(optimize(self.data[first:last])[0], first))
        if isinstance(self.data, np.ndarray) and not isinstance(self.data, np.memmap):
            return self._replace(data=_Part(self.data[first:last], first))
        return self


class _Part:
    """Some frames of an array, cut by their numbers in it."""

    def __init__(self, frames: Any, first: int) -> None:
        self.frames, self.first = frames, first

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        time, *box = key
        moved = slice(time.start - self.first, time.stop - self.first)
        return self.frames[(moved, *box)]


@lru_cache(maxsize=4)
def _opened(path: Path, state: tuple[int, int]) -> Any:
    """Frames of a file, opened once by each worker as long as it stays the same."""
    del state
    return open_store(path) if (path / LOG).is_file() else open_movie(path).data


def source_of(movie: Any) -> Source:
    """Whatever holds frames, as a source.

    Parameters
    ----------
    movie : path, Movie, Store, HyperSpy signal or array-like
        A file that `insitu.open_movie` reads, a store, a lazy signal with time as its first axis,
        a dask array, or anything that has `shape` and `dtype` and is cut by slices.

    Raises
    ------
    InputError
        If it is no movie.
    """
    if isinstance(movie, Source):
        return movie
    if isinstance(movie, str | Path):
        path = Path(movie).expanduser()
        movie = open_store(path) if (path / LOG).is_file() else open_movie(path)
    if isinstance(movie, Movie | Store):
        data = movie.data if isinstance(movie, Movie) else movie
        path = movie.path.resolve()
        scale = movie.pixel_size or 0.0, movie.frame_time or 0.0
        return Source(None, path, *scale, tuple(data.shape), data.dtype, _state(path))
    scale = 0.0, 0.0
    if hasattr(movie, "axes_manager"):
        axes = {axis.name: axis for axis in movie.axes_manager._axes}
        scale = _angstrom(movie.axes_manager[-1]), _seconds(next(iter(axes.values())))
        movie = movie.data
    if not hasattr(movie, "dtype") or len(getattr(movie, "shape", ())) != 3:
        raise InputError(
            "movie: expected a file, a store, a HyperSpy signal or an array (t, y, x), got "
            f"{type(movie).__name__} of shape {getattr(movie, 'shape', None)}"
        )
    return Source(movie, None, *scale, tuple(movie.shape), np.dtype(movie.dtype), (0, 0))


def _state(path: Path) -> tuple[int, int]:
    stat = (path / LOG if path.is_dir() else path).stat()
    return stat.st_size, stat.st_mtime_ns


def _angstrom(axis: Any) -> float:
    units = {"nm": 10.0, "\u00c5": 1.0, "A": 1.0, "angstrom": 1.0, "um": 1e4, "\u00b5m": 1e4}
    return float(axis.scale) * units.get(str(axis.units), 0.0)


def _seconds(axis: Any) -> float:
    return float(axis.scale) * {"s": 1.0, "ms": 1e-3}.get(str(axis.units), 0.0)


def record(
    movie: Any,
    path: str | Path,
    *,
    pixel_size: float = 0.0,
    frame_time: float = 0.0,
    frames: int = FRAMES,
    shards: int = 1,
    client: Any = None,
) -> Store:
    """Copy a movie into a store, compressed, each chunk of it logged.

    A run that was killed goes on: what the log has is read again and compared, what is damaged or
    not there is written. So does a movie that has become longer meanwhile. What was written is read
    and compared at the end. Of a lazy array each task computes the chunks that it touches: give it
    chunks of whole frames, no more of them than the store's, else they are computed several times.

    Parameters
    ----------
    movie : path, Movie, Store, HyperSpy signal or array-like
        See `source_of`.
    path : path
        Of the store, a folder.
    pixel_size, frame_time : float
        [A], [s]; 0 takes what the movie tells.
    frames : int
        Of a chunk.
    shards : int
        Chunks in time that share a file; 1 unless a file system suffers from many files.
    client : dask.distributed.Client, optional
        Whose workers do it.

    Raises
    ------
    InputError
        If the movie cannot be read, the store holds another one or is being written, the disk is
        full, or the movie grew meanwhile: then the store holds what was there at first.

    Examples
    --------
    >>> import tempfile
    >>> counts = np.random.default_rng(0).poisson(0.5, (40, 64, 64)).astype(np.uint8)
    >>> store = record(counts, Path(tempfile.mkdtemp()) / "counts.zarr", pixel_size=0.24)
    >>> bool((store[:] == counts).all()), len(store.log)
    (True, 3)
    """
    source = source_of(movie)
    path = Path(path).expanduser()
    lock = ResultsFolder(path)
    lock.lock()
    try:
        store = _store_for(source, path, pixel_size, frame_time, frames, shards)
        store.forget(damaged(store, client=client))
        kept = set(store.log)
        _copy_missing(source, store, client)
        if bad := damaged(store, store.log.keys() - kept, client):
            raise InputError(
                f"{path}: {len(bad)} chunks are not what was written; the disk or the memory "
                "fails, copy to another place"
            )
        if source.path is not None and _state(source.path) != source.state:
            raise InputError(
                f"{source.path.name} changed while it was read; the store holds "
                f"{source.shape[0]} frames of it, run again for what came later"
            )
    finally:
        lock.unlock()
    return store


def _store_for(
    source: Source, path: Path, pixel_size: float, frame_time: float, frames: int, shards: int
) -> Store:
    """A new store, or that of an earlier run, made longer where the movie is."""
    if source.dtype.kind not in "uif":
        raise InputError(f"movie: expected numbers, got values of type {source.dtype}")
    if 0 in source.shape:
        raise InputError(f"movie: expected frames (t, y, x), got the shape {source.shape}")
    start = np.ascontiguousarray(source.frames(0, 1))
    about = {
        "frame": list(source.shape[1:]),
        "dtype": str(source.dtype),
        "first": hashlib.sha256(start.tobytes()).hexdigest(),
    }
    if not path.exists():
        return create(
            path,
            source.shape,
            source.dtype,
            pixel_size=pixel_size or source.pixel_size,
            frame_time=frame_time or source.frame_time,
            frames=frames,
            shards=shards,
            about=about,
        )
    store = open_store(path)
    if store.array.attrs["about"] != about:
        raise InputError(f"{path} holds another movie; choose another folder")
    if source.shape[0] < store.shape[0]:
        raise InputError(
            f"{path} holds {store.shape[0]} frames, the movie only {source.shape[0]}; it was cut "
            "off, or is another one"
        )
    if source.shape[0] > store.shape[0]:
        store.array.resize(source.shape)
        store = open_store(path)
    return store


def _copy_missing(source: Source, store: Store, client: Any) -> None:
    def work() -> Any:
        for task in store.missing():
            first = store.region(task[0])[0].start
            yield source.sent(first, store.region(task[-1])[0].stop), store.path, task

    for entries in in_order(_copy, work(), client):
        store.note(entries)


def _copy(source: Source, path: Path, task: Sequence[Index]) -> list[Entry]:
    """Write the chunks of one file."""
    store = open_array(path)
    regions = [store.region(index) for index in task]
    time, *box = regions[0]
    values = source.frames(time.start, regions[-1][0].stop, tuple(box))
    wanted = (regions[-1][0].stop - time.start, *(s.stop - s.start for s in box))
    if values.shape != wanted:
        raise InputError(
            f"movie: frames {time.start} to {regions[-1][0].stop - 1} are not all there; the file "
            "is cut off: copy it again"
        )
    if values.dtype.kind == "f":
        checks.finite("movie", values)
    return store.write(task, values)


@lru_cache(maxsize=8)
def _array(path: Path, size: tuple[int, int]) -> Any:
    del size
    return open_store(path).array


def open_array(path: Path) -> Store:
    """A store to write into, without its log; opened once by each worker."""
    about = (path / "zarr.json").stat()
    return Store(path, _array(path, (about.st_size, about.st_mtime_ns)), {})


def damaged(store: Store, chunks: Iterable[Index] | None = None, client: Any = None) -> list[Index]:
    """Read chunks that the log has, all by default, and return those that are not what it says.

    The last ones are among them where the movie was made longer: they hold too few frames.
    """
    logged = [store.log[index] for index in sorted(store.log if chunks is None else chunks)]
    many = [logged[k : k + 16] for k in range(0, len(logged), 16)]
    found = in_order(_not_as_logged, ((store.path, some) for some in many), client)
    return [index for some in found for index in some]


def _not_as_logged(path: Path, entries: Sequence[Entry]) -> list[Index]:
    store = open_array(path)
    store.log.update({entry.chunk: entry for entry in entries})
    bad = []
    for entry in entries:
        try:
            store.chunk(entry.chunk)
        except InputError:
            bad.append(entry.chunk)
    return bad


def to_hyperspy(store: Store) -> Any:
    """Return a lazy HyperSpy signal of a store, each chunk compared with the log when it is read.

    Axes are in seconds and angstrom, where they are known.
    """
    import dask.array as da
    import hyperspy.api as hs  # takes seconds

    lazy = da.from_array(store, chunks=store.array.chunks, asarray=True, fancy=False, name=False)
    scales = {"time": (store.frame_time, "s")}
    scales |= dict.fromkeys(("y", "x"), (store.pixel_size, "\u00c5"))
    axes = [
        {"name": name, "size": size, "navigate": name == "time"}
        | ({"scale": scale, "units": unit} if scale else {})
        for (name, (scale, unit)), size in zip(scales.items(), store.shape, strict=True)
    ]
    return hs.signals.Signal2D(lazy, axes=axes).as_lazy()
