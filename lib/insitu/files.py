"""Files: a movie read from any of them, a region at a time, and results written whole."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from insitu import InputError
from insitu.checks import box, span

_MOST_VALUES = 64_000_000


@dataclass(frozen=True)
class Movie:
    """A movie on disk: frames are read when it is indexed."""

    data: Any  # array-like (t, y, x), lazily read
    pixel_size: float | None  # angstrom, where the file tells it
    path: Path
    frame_time: float | None = None  # from one frame to the next [s], where the file tells it

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        return self.data.shape

    def part(self, frames: str = "", crop: str = "") -> NDArray[Any]:
        """Read a part of the movie, (t, y, x).

        Parameters
        ----------
        frames : str
            As first:last, the last one left out; empty takes all.
        crop : str
            Pixels, as y0:y1,x0:x1; empty takes all.

        Raises
        ------
        InputError
            If a text is no such part, the file breaks off, its compression cannot be read, or
            the part is too large to be held in memory.
        """
        region = (span("movie_frames", frames, self.shape[0]), *self._crop(crop))
        t, y, x = (part.stop - part.start for part in region)
        if t * y * x > _MOST_VALUES:
            raise InputError(
                f"{t} frames of {y} x {x} pixels are {t * y * x / 1e6:.0f} million values, more "
                f"than the {_MOST_VALUES / 1e6:.0f} million that are read at once; give "
                f"movie_frames or movie_crop"
            )
        try:
            return np.asarray(self.data[region])
        except Exception as error:  # decoders raise what they like; the reader needs one sentence
            raise InputError(
                f"{self.path.name} is damaged or truncated, its frames cannot be read "
                f"({_first_line(error)}); copy the file again"
            ) from None

    def pixel_size_or(self, given: float) -> float:
        """Return what the reader gave, where that is not 0, else what the file tells [A].

        Raises
        ------
        InputError
            If there is neither.
        """
        if size := given or self.pixel_size:
            return size
        raise InputError(
            f"movie_pixel_size: {self.path.name} does not tell it; give it in angstrom"
        )

    def vacuum(self, box_text: str, crop: str = "") -> tuple[slice, slice] | None:
        """Rows and columns of `part(crop=crop)` that a box of the whole frame covers.

        Raises
        ------
        InputError
            If it is no box of at least 4 x 4 pixels, or not within the crop.
        """
        found = box("movie_vacuum", box_text, self.shape[1:])
        if found is None:
            return None
        axes = list(zip(found, self._crop(crop), strict=True))
        if any(b.start < c.start or b.stop > c.stop for b, c in axes):
            raise InputError(
                f"movie_vacuum: {box_text!r} lies outside of movie_crop {crop!r}; choose another, "
                "or a larger crop"
            )
        rows, columns = (slice(b.start - c.start, b.stop - c.start) for b, c in axes)
        return rows, columns

    def _crop(self, text: str) -> tuple[slice, slice]:
        _, y, x = self.shape
        return box("movie_crop", text, (y, x)) or (slice(0, y), slice(0, x))


def open_movie(path: str | Path) -> Movie:
    """Open a movie: .tif, .npy, and what RosettaSciIO reads (.mrc, .dm4, .hspy, .emd, ...).

    Raises
    ------
    InputError
        In one sentence, if the file is missing, foreign, truncated or has not three axes.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/mine.npy", np.ones((40, 64, 64), np.uint8))
    ...     movie = open_movie(f"{folder}/mine.npy")
    ...     movie.shape, movie.part("10:30", "0:32,0:64").shape
    ((40, 64, 64), (20, 32, 64))
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the path of a movie")
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); copy the file again")
    suffix = path.suffix.lower()
    readers = {".tif": _open_tif, ".tiff": _open_tif, ".npy": _open_npy}
    try:
        data, pixel_size, frame_time = readers.get(suffix, _open_rosetta)(path)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path.name} cannot be read as {suffix or 'a movie'}: {_first_line(error)}; "
            f"the file is truncated or of another kind"
        ) from None
    if len(data.shape) == 2:
        data = np.asarray(data)[None]
    if len(data.shape) != 3:
        raise InputError(
            f"{path.name} has the shape {tuple(data.shape)}; a movie has three axes (frames, y, x)"
        )
    return Movie(data, pixel_size, path, frame_time)


# what each reader gives: the data, the pixel size [A] and the time of a frame [s]
_Opened = tuple[Any, float | None, float | None]
_ANGSTROM = {"nm": 10.0, "um": 1e4, "\u00b5m": 1e4, "\\u00B5m": 1e4}
_ANGSTROM |= dict.fromkeys(("A", "angstrom", "\u00c5", "\\u00C5"), 1.0)
_SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3}


def _open_tif(path: Path) -> _Opened:
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        expected = sum(int(n) for page in series.pages if page for n in page.databytecounts)
        if expected > path.stat().st_size:
            raise InputError(
                f"{path.name} is truncated: it should hold {expected} bytes of image data and is "
                f"{path.stat().st_size} bytes long; copy the file again"
            )
        declared = (tif.shaped_metadata or [{}])[0].get("shape", series.shape)
        about = tif.imagej_metadata or {}
        frames = int(about.get("images", 1))
        if int(np.prod(declared)) > series.size or frames > int(np.prod(series.shape[:-2])):
            raise InputError(
                f"{path.name} is truncated: it should hold frames of the shape {tuple(declared)} "
                f"and only {series.shape} can be found; copy the file again"
            )
        scale = _ANGSTROM.get(str(about.get("unit")))
        tag = tif.pages[0].tags.get("XResolution")  # type: ignore[union-attr]
        pixel_size = None
        if scale is not None and tag is not None and tag.value[0]:
            pixel_size = float(scale * tag.value[1] / tag.value[0])
        interval = float(about.get("finterval") or 0) * _SECONDS.get(about.get("tunit", "s"), 0)
    return zarr.open(tifffile.imread(path, aszarr=True), mode="r"), pixel_size, interval or None


def _open_npy(path: Path) -> _Opened:
    return np.load(path, mmap_mode="r"), None, None


def _open_rosetta(path: Path) -> _Opened:
    from rsciio import IO_PLUGINS

    suffix = path.suffix.lower().lstrip(".")
    plugins = [p for p in IO_PLUGINS if suffix in p["file_extensions"] and p["name"] != "MRCZ"]
    if not plugins:
        raise InputError(
            f"{path.name}: files ending in .{suffix} are not known; give a .tif, .npy, .mrc, "
            f".dm4 or .hspy"
        )
    signal = importlib.import_module(plugins[0]["api"]).file_reader(str(path), lazy=True)[0]
    times, pixels = signal["axes"][0], signal["axes"][-1]
    return signal["data"], _calibration(pixels, _ANGSTROM), _calibration(times, _SECONDS)


def _calibration(axis: dict[str, Any], units: dict[str, float]) -> float | None:
    unit = units.get(str(axis.get("units")))
    return None if unit is None else float(axis["scale"]) * unit


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary name for a file or a store, which takes its own when the block is done.

    What was there before stays until then, and stays where the block fails. A folder of the
    temporary name that an earlier run left is removed.

    Raises
    ------
    InputError
        If the disk is full or not writable.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole(Path(folder) / "a.txt") as unfinished:
    ...         _ = unfinished.write_text("all of it")
    ...     (Path(folder) / "a.txt").read_text()
    'all of it'
    """
    path = Path(path)
    unfinished = path.with_name(f".part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(unfinished)
        yield unfinished
        if path.is_dir():  # a store is a folder, which a rename does not replace
            remove(path)
        unfinished.replace(path)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error.strerror or error}); free some space or "
            f"choose another folder"
        ) from None
    finally:
        remove(unfinished)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class ResultsFolder:
    """A folder that one run at a time writes its results into.

    Parameters
    ----------
    path : str or Path
        Made when something is written. `lock` keeps other processes out until `unlock`, or
        until this process ends.

    Raises
    ------
    InputError
        If it is a file.

    Examples
    --------
    >>> import tempfile
    >>> results = ResultsFolder(Path(tempfile.mkdtemp()) / "mine")
    >>> results.lock()
    >>> results.write_json("results.json", {"psnr_db": 31.5}).name
    'results.json'
    >>> results.unlock()
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"output_dir: {self.path} is a file; choose a folder")
        # not in the folder: input that is refused later must leave nothing behind
        name = hashlib.sha256(f"{Path.home()} {self.path.resolve()}".encode()).hexdigest()[:32]
        self._lock = filelock.FileLock(
            Path(tempfile.gettempdir()) / f"insitu-{name}.lock", is_singleton=True
        )

    def lock(self) -> None:
        """Keep every other process out of the folder.

        Raises
        ------
        InputError
            If another run writes into it, or it cannot be written into.
        """
        there = next(p for p in (self.path.resolve(), *self.path.resolve().parents) if p.exists())
        if not os.access(there, os.W_OK):
            raise InputError(
                f"output_dir: {self.path} cannot be written into; choose another folder"
            )
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise InputError(
                f"output_dir: another run is writing into {self.path}; wait for it, or choose "
                f"another folder"
            ) from None

    def unlock(self) -> None:
        """Let others in."""
        self._lock.release(force=True)

    def write(self, name: str, writer: Callable[[Path], Any]) -> Path:
        """Write a file or a store by `writer(path)`, under a temporary name until it is `whole`.

        Raises
        ------
        InputError
            If the name leads out of the folder, or the disk is full or not writable.
        """
        path = (self.path / name).resolve()
        if self.path.resolve() not in path.parents:
            raise InputError(f"{name} lies outside of output_dir {self.path}")
        with whole(path) as unfinished:
            writer(unfinished)
        return path

    def write_json(self, name: str, record: Mapping[str, Any] | list[Any]) -> Path:
        """Write a record as JSON."""
        text = json.dumps(record, indent=1) + "\n"
        return self.write(name, lambda path: path.write_text(text, "utf-8"))
