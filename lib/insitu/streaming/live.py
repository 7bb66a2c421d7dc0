"""A folder that grows frame by frame: its mean, its alarms, a denoised picture, and how late.

Each frame is a file of its own whose name ends in a number. What a disk under load does to them is
named, never passed over: a frame that is half-written is read again until it is whole, one that
does not come is lost, one that comes twice counts once.
"""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu import InputError, checks
from insitu.files import open_movie
from insitu.streaming.alarms import Alarms, Watch, cell_sums

POLL = 0.005  # seconds between two looks at the folder
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # half a frame is no news
_NUMBER = re.compile(r"(\d+)$")

Denoiser = Callable[[NDArray[Any], float], Any]


class Picture(NamedTuple):
    """The newest frames, denoised."""

    frame: int  # the last of them
    image: NDArray[np.float32]  # (y, x)
    latency: float  # from the last frame's file to the picture [s]


class Moment(NamedTuple):
    """What is known when a frame has been read, or given up."""

    frame: int  # its number
    latency: float  # from its file's last change until now [s]; NaN if it is lost
    frames: int  # so far in the mean
    mean: NDArray[np.float64]  # (y, x) of all frames so far; the same array each time
    alarms: Alarms  # of this frame
    picture: Picture | None  # if a new one has been made
    trouble: str  # what was wrong; empty if nothing


class _Folder:
    """The files of a folder by the number of their frame."""

    def __init__(self, path: Path, pattern: str) -> None:
        self.path, self.pattern = path, pattern
        self.files: dict[int, list[Path]] = {}
        self.new: list[tuple[int, Path]] = []  # since they were last asked for
        self._known: set[Path] = set()

    def look(self) -> bool:
        """Whether there are files that were not there before."""
        before = len(self._known)
        for path in sorted(self.path.glob(self.pattern)):
            found = _NUMBER.search(path.stem.split(" ")[0])
            if found and path not in self._known and not path.name.startswith("."):
                self._known.add(path)
                self.files.setdefault(int(found[1]), []).append(path)
                self.new.append((int(found[1]), path))
        return len(self._known) > before

    def read(self, number: int, shape: tuple[int, ...]) -> tuple[NDArray[Any], float] | None:
        """A frame and the time of its file; None if no file of that number is whole."""
        for path in self.files.get(number, []):
            try:
                before = path.stat()
                frame = np.array(open_movie(path).data[0:1])[0]
                after = path.stat()
            except (InputError, OSError, ValueError):
                continue
            same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
            if same and shape in ((), frame.shape):
                return frame, after.st_mtime
        return None


class _Counts:
    """The mean of what came, the charts, and the newest frames."""

    def __init__(self, cell: int, watch: Watch, window: int) -> None:
        self.cell, self.watch = cell, watch
        self.frames = 0
        self.shape: tuple[int, ...] = ()
        self.total = self.mean = np.zeros(0)
        self.recent: deque[NDArray[Any]] = deque(maxlen=window)

    def add(self, frame: NDArray[Any]) -> None:
        """Count a frame."""
        if not self.frames:
            self.shape = frame.shape
            self.total, self.mean = np.zeros(frame.shape), np.zeros(frame.shape)
        self.frames += 1
        self.total += frame
        np.divide(self.total, self.frames, out=self.mean)

    def next(self, frame: NDArray[Any]) -> Alarms:
        """Count and chart the next frame."""
        electrons = cell_sums(frame[None], self.cell)
        if not self.frames:  # beside, so that no frame waits for it later
            Thread(target=self.watch.limit_for, args=(electrons[0],), daemon=True).start()
        self.add(frame)
        self.recent.append(frame)
        return self.watch.push(electrons)

    def nothing(self) -> Alarms:
        """Chart a frame that there is none of."""
        if not self.shape:
            return Alarms.none()
        return self.watch.push(np.full((1, *(-(-n // self.cell) for n in self.shape)), np.nan))

    def is_repeated(self, frame: NDArray[Any]) -> bool:
        """Whether a frame has all electrons where the one before had them."""
        return bool(self.recent and frame.any() and np.array_equal(frame, self.recent[-1]))


class _Pictures:
    """A denoiser that works beside, on the newest frames when it is free."""

    def __init__(self, denoiser: Denoiser | None, pixel_size: float) -> None:
        self.denoiser, self.pixel_size = denoiser, pixel_size
        self._thread = ThreadPoolExecutor(1)
        self._under_way: Future[Picture] | None = None

    def offer(self, recent: deque[NDArray[Any]], number: int, written: float) -> None:
        if self.denoiser and self._under_way is None and len(recent) == recent.maxlen:
            some = np.stack(recent)
            self._under_way = self._thread.submit(self._made, some, number, written)

    def _made(self, frames: NDArray[Any], number: int, written: float) -> Picture:
        assert self.denoiser is not None
        image = np.asarray(self.denoiser(frames, self.pixel_size), np.float32)
        return Picture(number, image[-1], time.time() - written)

    def newest(self) -> Picture | None:
        if self._under_way is None or not self._under_way.done():
            return None
        made, self._under_way = self._under_way.result(), None
        return made

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)


def follow(
    folder: str | Path,
    *,
    pattern: str = "*.tif",
    first: int | None = None,
    cell: int = 16,
    baseline: int = 200,
    false_alarms: float = 100.0,
    patience: float = 1.0,
    until: float = 10.0,
    denoiser: Denoiser | None = None,
    pixel_size: float = 0.0,
    window: int = 16,
) -> Iterator[Moment]:
    """Follow a folder into which frames are being written, one file each.

    Parameters
    ----------
    folder : path
        It must exist.
    pattern : str
        Of the files; the number of the frame stands at the end of the name, or before a space.
    first : int, optional
        Number of the first frame; by default the lowest that is there at first.
    cell : int
        Side of the cells of the alarms [px].
    baseline, false_alarms : int, float
        Of `Watch`.
    patience : float
        How long a frame is waited for once a later one is there [s]; then it is lost.
    until : float
        How long without any new frame ends it [s].
    denoiser : function, optional
        denoiser(counts, pixel_size), called with the last frames (t, y, x) in a thread beside;
        its picture of the last one is shown. While it is at work, no other picture is begun.
    pixel_size : float
        [A], for the denoiser.
    window : int
        Frames that it is given.

    Yields
    ------
    Moment
        One a frame, in order of their numbers; and one for each file that is named.

    Raises
    ------
    InputError
        If there is no such folder, or a setting does not fit.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for k in range(3):
    ...     np.save(folder / f"frame_{k:04d}.npy", np.full((32, 32), k, np.uint8))
    >>> [m.frame for m in follow(folder, pattern="*.npy", until=0.1)]
    [0, 1, 2]
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InputError(f"there is no folder {path}; give the one that frames are written into")
    checks.within("patience", patience, 0, 3600, "s")
    checks.within("window", window, 1, 4096)
    if denoiser is not None:
        checks.positive("pixel_size", pixel_size, "A")
    files = _Folder(path, pattern)
    counts = _Counts(cell, Watch(baseline=baseline, false_alarms=false_alarms), window)
    pictures = _Pictures(denoiser, pixel_size)
    lost: set[int] = set()
    number, news, since = first, time.monotonic(), None

    def moment(frame: int, latency: float, alarms: Alarms, trouble: str = "") -> Moment:
        newest = pictures.newest()
        return Moment(frame, latency, counts.frames, counts.mean, alarms, newest, trouble)

    try:
        while True:
            if files.look():
                news = time.monotonic()
            if number is None and files.files:
                number = min(files.files)
            while files.new and number is not None:
                n, file = files.new.pop(0)
                if n < number:
                    yield moment(n, np.nan, Alarms.none(), _behind(n, file, files, counts, lost))
                elif file != files.files[n][0]:
                    trouble = f"{file.name} is frame {n} a second time; one of them counts"
                    yield moment(n, np.nan, Alarms.none(), trouble)
            found = None if number is None else files.read(number, counts.shape)
            if number is not None and found is not None:
                (frame, written), since = found, None
                if counts.is_repeated(frame):
                    trouble = f"frame {number} is the one before once more; it is left out"
                    yield moment(number, time.time() - written, counts.nothing(), trouble)
                else:
                    alarms = counts.next(frame)
                    pictures.offer(counts.recent, number, written)
                    yield moment(number, time.time() - written, alarms)
                number += 1
            elif number is not None and max(files.files, default=number) > number:
                since = since or time.monotonic()
                if time.monotonic() - since > patience:
                    why = "is not whole" if number in files.files else "did not come"
                    lost.add(number)
                    trouble = f"frame {number} {why}; it is lost"
                    yield moment(number, np.nan, counts.nothing(), trouble)
                    number, since = number + 1, None
                time.sleep(POLL)
            elif time.monotonic() - news > until:
                if number in files.files:
                    trouble = f"frame {number} is not whole; it is lost"
                    yield moment(number, np.nan, counts.nothing(), trouble)
                return
            else:
                time.sleep(POLL)
    finally:
        pictures.close()


def _behind(n: int, file: Path, files: _Folder, counts: _Counts, lost: set[int]) -> str:
    """Count a frame that was given up, if that is what a file is, and say so."""
    if n not in lost:
        return f"{file.name} is frame {n} a second time; it is left out"
    found = files.read(n, counts.shape)
    if found is None:
        return f"frame {n} came late, and is not whole; it is lost"
    lost.discard(n)
    counts.add(found[0])
    return f"frame {n} came late; it is in the mean, and not in the alarms"
