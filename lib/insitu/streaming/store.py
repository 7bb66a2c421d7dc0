"""Frames in chunks on disk, and a log of what each chunk holds.

A zarr array alone is not safe: a chunk file that is missing reads as zeros without an error. So
the sum of every chunk is logged when it has been written, whole, and is compared whenever it is
read; a checksum behind the compressor tells damage. What is in the log is there; what is not is
written again.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from insitu import InputError, checks
from insitu.files import whole

FRAMES = 16  # of a chunk
SIDE = 1024  # of a chunk, at most [px]: whole frames, and tiles of larger ones
BLOCK = 1 << 20  # bytes that are compressed at once: blosc's own choice takes 8 % more, and longer
LOG = "chunks.jsonl"

Index = tuple[int, ...]  # number of a chunk along t, y, x


class Entry(NamedTuple):
    """What a chunk holds."""

    chunk: Index
    frames: int
    sum: float  # of all values; exact for counts


@dataclass
class Store:
    """A movie in chunks; a part is read by an index of slices, (t, y, x).

    Parameters
    ----------
    path : Path
        A zarr v3 array, which any zarr can read.
    array : zarr.Array
        (t, y, x).
    log : dict
        Entries by the number of their chunk.
    """

    path: Path
    array: Any
    log: dict[Index, Entry] = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        return self.array.shape

    @property
    def ndim(self) -> int:
        """Three, as of any movie: dask asks."""
        return 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.array.dtype

    @property
    def pixel_size(self) -> float | None:
        """In angstrom, where it is known."""
        return self.array.attrs["pixel_size"] or None

    @property
    def frame_time(self) -> float | None:
        """From one frame to the next [s], where it is known."""
        return self.array.attrs["frame_time"] or None

    def __getitem__(self, key: slice | tuple[slice, ...]) -> NDArray[Any]:
        """Read a region, each chunk of it compared with the log.

        Raises
        ------
        InputError
            If a chunk is missing, damaged, or not yet written.
        """
        given = key if isinstance(key, tuple) else (key,)
        given += (slice(None),) * (3 - len(given))
        steps = [range(*s.indices(n)) for s, n in zip(given, self.shape, strict=True)]
        if any(s.step != 1 for s in steps):
            raise IndexError("a store is cut by slices without a step")
        result = np.empty([len(s) for s in steps], self.dtype)
        sides = self.array.chunks
        touched = [
            range(s.start // n, -(-s.stop // n)) for s, n in zip(steps, sides, strict=True) if s
        ]
        for index in product(*touched) if result.size else ():
            region, values = self.region(index), self.chunk(index)
            if values.shape == result.shape:  # all of it
                return values
            both = list(zip(region, steps, strict=True))
            into = tuple(
                slice(max(r.start, s.start) - s.start, min(r.stop, s.stop) - s.start)
                for r, s in both
            )
            out_of = tuple(
                slice(max(r.start, s.start) - r.start, min(r.stop, s.stop) - r.start)
                for r, s in both
            )
            result[into] = values[out_of]
        return result

    def region(self, index: Index) -> tuple[slice, ...]:
        """Frames, rows and columns of a chunk."""
        sides = zip(index, self.array.chunks, self.shape, strict=True)
        return tuple(slice(k * n, min((k + 1) * n, size)) for k, n, size in sides)

    def chunk(self, index: Index) -> NDArray[Any]:
        """Read one chunk, compared with the log.

        Raises
        ------
        InputError
            If it is missing, damaged, or not yet written.
        """
        region = self.region(index)
        where = f"{self.path.name}: chunk {'/'.join(map(str, index))} (frames {region[0].start} to "
        where += f"{region[0].stop - 1})"
        entry = self.log.get(index)
        if entry is None or entry.frames < region[0].stop - region[0].start:
            raise InputError(f"{where} is not yet written; run again what writes it")
        try:
            values = np.asarray(self.array[region])
        except Exception as error:  # decoders raise what they like
            words = str(error).splitlines()[:1] or [type(error).__name__]
            raise InputError(
                f"{where} is damaged ({words[0][:120]}); make the store again from its source, "
                "which keeps all that is whole"
            ) from None
        found = total(values)
        if not math.isclose(found, entry.sum, rel_tol=1e-9, abs_tol=1e-9):
            raise InputError(
                f"{where} is missing or was changed: its sum is {found:.6g}, {entry.sum:.6g} were "
                "written; make the store again from its source, which keeps all that is whole"
            )
        return values

    def tasks(self) -> list[list[Index]]:
        """All chunks, those of one file together: a shard is only ever written by one task."""
        inner, outer = self.array.chunks, self.array.shards or self.array.chunks
        files = product(*(range(-(-n // side)) for n, side in zip(self.shape, outer, strict=True)))
        many = [o // i for o, i in zip(outer, inner, strict=True)]
        ends = [-(-n // side) for n, side in zip(self.shape, inner, strict=True)]
        return [
            list(
                product(
                    *(
                        range(k * m, min((k + 1) * m, end))
                        for k, m, end in zip(file, many, ends, strict=True)
                    )
                )
            )
            for file in files
        ]

    def is_written(self, index: Index) -> bool:
        """Whether the log has all frames of a chunk."""
        frames = self.region(index)[0]
        return index in self.log and self.log[index].frames >= frames.stop - frames.start

    def missing(self) -> list[list[Index]]:
        """Tasks of which a chunk is not in the log."""
        return [task for task in self.tasks() if not all(map(self.is_written, task))]

    def write(self, task: Sequence[Index], values: NDArray[Any]) -> list[Entry]:
        """Write the chunks of one file; what is returned belongs into the log."""
        regions = [self.region(index) for index in task]
        box = tuple(
            slice(min(r[k].start for r in regions), max(r[k].stop for r in regions))
            for k in range(3)
        )
        if self.array.shards:  # else zarr reads what is there first, which may be torn
            file = (b.start // n for b, n in zip(box, self.array.shards, strict=True))
            self.path.joinpath("c", *map(str, file)).unlink(missing_ok=True)
        self.array[box] = values
        entries = []
        for index, region in zip(task, regions, strict=True):
            inside = tuple(
                slice(r.start - b.start, r.stop - b.start) for r, b in zip(region, box, strict=True)
            )
            part = values[inside].astype(self.dtype, copy=False)
            entries.append(Entry(index, part.shape[0], total(part)))
        return entries

    def note(self, entries: Iterable[Entry]) -> None:
        """Add to the log, on disk before this returns."""
        entries = list(entries)
        with (self.path / LOG).open("a", encoding="utf-8") as log:
            log.writelines(json.dumps(entry) + "\n" for entry in entries)
            log.flush()
            os.fsync(log.fileno())
        self.log.update({entry.chunk: entry for entry in entries})

    def forget(self, chunks: Iterable[Index]) -> None:
        """Take chunks out of the log, and with them what a killed run left of a line."""
        for index in chunks:
            self.log.pop(index, None)
        with whole(self.path / LOG) as unfinished:
            unfinished.write_text("".join(json.dumps(e) + "\n" for e in self.log.values()), "utf-8")

    def files(self) -> int:
        """Bytes that its chunks take on disk."""
        return sum(p.stat().st_size for p in (self.path / "c").rglob("*") if p.is_file())


def total(values: NDArray[Any]) -> float:
    """Sum of all values; of whole numbers an int."""
    found = values.sum(0, dtype=sum_type(values, len(values))).sum()
    return int(found) if values.dtype.kind in "ui" else float(found)


def sum_type(values: NDArray[Any], count: int) -> Any:
    """Type in which `count` of the values are added: of bytes the smallest that holds the sum.

    Bytes add up four times as fast as what they have to be widened to.

    >>> few = np.ones((16, 8, 8), np.uint8)
    >>> [np.dtype(sum_type(some, 16)).name for some in (few, 20 * few, few / 3)]
    ['uint8', 'uint16', 'float64']
    """
    if values.dtype.kind not in "uib":
        return np.float64
    if values.dtype == np.uint8:
        for kind in (np.uint8, np.uint16, np.uint32):
            if int(values.max(initial=0)) * count <= np.iinfo(kind).max:
                return kind
    return np.int64


def create(
    path: str | Path,
    shape: Sequence[int],
    dtype: DTypeLike,
    *,
    pixel_size: float = 0.0,
    frame_time: float = 0.0,
    frames: int = FRAMES,
    side: int = SIDE,
    shards: int = 1,
    about: Mapping[str, Any] | None = None,
) -> Store:
    """Make an empty store.

    Parameters
    ----------
    path : path
        A folder, which must not exist.
    shape : (int, int, int)
        Frames, rows, columns.
    dtype : dtype
        Of the values.
    pixel_size, frame_time : float
        [A], [s]; 0 where unknown.
    frames : int
        Of a chunk.
    side : int
        Of a chunk, at most [px].
    shards : int
        Chunks in time that share a file, 1 for none. A shard is written at once by one task,
        which holds all of it in memory.
    about : mapping, optional
        What it was made from; read again from `array.attrs["about"]`.

    Examples
    --------
    >>> import tempfile
    >>> store = create(Path(tempfile.mkdtemp()) / "counts.zarr", (20, 32, 32), np.uint8)
    >>> for task in store.missing():
    ...     t, y, x = store.region(task[0])
    ...     values = np.ones((t.stop - t.start, 32, 32), np.uint8)
    ...     store.note(store.write(task, values))
    >>> int(open_store(store.path)[10:18].sum())
    8192
    """
    checks.within("frames", frames, 1, 4096)
    checks.within("shards", shards, 1, 4096)
    chunks = (frames, *(min(n, side) for n in shape[1:]))
    with whole(path) as unfinished:
        zarr.create_array(
            unfinished,
            shape=tuple(shape),
            chunks=chunks,
            shards=(frames * shards, *chunks[1:]) if shards > 1 else None,
            dtype=np.dtype(dtype),
            compressors=[
                BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle", blocksize=BLOCK),
                Crc32cCodec(),
            ],
            attributes={
                "pixel_size": pixel_size,
                "frame_time": frame_time,
                "about": dict(about or {}),
            },
            dimension_names=["t", "y", "x"],
        )
        (unfinished / LOG).touch()
    return open_store(path)


def open_store(path: str | Path) -> Store:
    """Open a store that `create` has made.

    Raises
    ------
    InputError
        If it is none.
    """
    path = Path(path).expanduser()
    if not (path / LOG).is_file():
        raise InputError(f"{path} is no store of frames; make one by insitu.streaming.record")
    try:
        array: Any = zarr.open_array(path, mode="r+").with_config({"write_empty_chunks": True})
    except Exception as error:  # of a damaged zarr.json
        raise InputError(f"{path} cannot be opened as zarr: {str(error)[:200]}") from None
    return Store(path, array, {entry.chunk: entry for entry in _logged(path / LOG)})


def _logged(path: Path) -> Iterator[Entry]:
    """Entries of a log; a line that breaks off, of a run that was killed, is none."""
    for line in path.read_text("utf-8").splitlines():
        try:
            index, frames, value = json.loads(line)
        except ValueError:
            continue
        yield Entry(tuple(index), int(frames), value)
