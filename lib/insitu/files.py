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

_MOST_VALUES = 64_000_000


@dataclass(frozen=True)
class Movie:
    """A movie on disk: frames are read when it is indexed."""

    data: Any  # array-like (t, y, x), lazily read
    pixel_size: float | None  # angstrom, where the file tells it
    path: Path

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, rows, columns."""
        t, y, x = self.data.shape
        return int(t), int(y), int(x)

    def corner(self, size: int) -> tuple[int, int]:
        """First row and column of the central `size` x `size` pixels."""
        top, left = (max(0, (n - size) // 2) for n in self.shape[1:])
        return top, left

    def read(self, *, frames: int, size: int) -> NDArray[Any]:
        """Read the first `frames` frames and their central `size` x `size` pixels.

        Raises
        ------
        InputError
            If the file breaks off, its compression cannot be read, or the region is too large.
        """
        values = min(frames, self.shape[0]) * min(size, self.shape[1]) * min(size, self.shape[2])
        if values > _MOST_VALUES:
            raise InputError(
                f"{frames} frames of {size} x {size} pixels are {values / 1e6:.0f} million values, "
                f"more than the {_MOST_VALUES / 1e6:.0f} million that are read at once; "
                f"give fewer frames or a smaller crop"
            )
        top, left = self.corner(size)
        region = (slice(frames), slice(top, top + size), slice(left, left + size))
        try:
            return np.asarray(self.data[region])
        except Exception as error:  # decoders raise what they like; the reader needs one sentence
            raise InputError(
                f"{self.path.name} is damaged or truncated, its frames cannot be read "
                f"({_first_line(error)}); copy the file again"
            ) from None


def open_movie(path: str | Path) -> Movie:
    """Open a movie: .tif, .npy, and what RosettaSciIO reads (.mrc, .dm4, .hspy, .emd, ...).

    Raises
    ------
    InputError
        In one sentence, if the file is missing, foreign, truncated or has not three axes.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"there is no file {path}; give the path of a movie")
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); copy the file again")
    suffix = path.suffix.lower()
    readers = {".tif": _open_tif, ".tiff": _open_tif, ".npy": _open_npy}
    try:
        data, pixel_size = readers.get(suffix, _open_rosetta)(path)
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
    return Movie(data, pixel_size, path)


def _open_tif(path: Path) -> tuple[Any, float | None]:
    with tifffile.TiffFile(path) as tif:
        series = tif.series[0]
        expected = sum(int(n) for page in series.pages if page for n in page.databytecounts)
        if expected > path.stat().st_size:
            raise InputError(
                f"{path.name} is truncated: it should hold {expected} bytes of image data and is "
                f"{path.stat().st_size} bytes long; copy the file again"
            )
        told = (tif.shaped_metadata or [{}])[0].get("shape", series.shape)
        frames = int((tif.imagej_metadata or {}).get("images", 1))
        if int(np.prod(told)) > series.size or frames > int(np.prod(series.shape[:-2])):
            raise InputError(
                f"{path.name} is truncated: it should hold frames of the shape {tuple(told)} and "
                f"only {series.shape} can be found; copy the file again"
            )
        if series.ndim > 3:
            return np.empty((0,) * series.ndim), None
        pixel_size = _imagej_pixel_size(tif)
    return zarr.open(tifffile.imread(path, aszarr=True), mode="r"), pixel_size


def _imagej_pixel_size(tif: tifffile.TiffFile) -> float | None:
    """Pixel size that ImageJ wrote, in angstrom."""
    unit = (tif.imagej_metadata or {}).get("unit")
    scale = {"nm": 10.0, "A": 1.0, "angstrom": 1.0, "\u00c5": 1.0, "\\u00C5": 1.0}.get(str(unit))
    tag = tif.pages[0].tags.get("XResolution")  # type: ignore[union-attr]
    if scale is None or tag is None or not tag.value[0]:
        return None
    return float(scale * tag.value[1] / tag.value[0])


def _open_npy(path: Path) -> tuple[Any, float | None]:
    return np.load(path, mmap_mode="r", allow_pickle=False), None


def _open_rosetta(path: Path) -> tuple[Any, float | None]:
    from rsciio import IO_PLUGINS

    suffix = path.suffix.lower().lstrip(".")
    plugins = [p for p in IO_PLUGINS if suffix in p["file_extensions"] and p["name"] != "MRCZ"]
    if not plugins:
        raise InputError(
            f"{path.name}: files ending in .{suffix} are not known; give a .tif, .npy, .mrc, "
            f".dm4 or .hspy"
        )
    signal = importlib.import_module(plugins[0]["api"]).file_reader(str(path), lazy=True)[0]
    axis = signal["axes"][-1]
    scale = {"nm": 10.0, "A": 1.0, "\u00c5": 1.0, "um": 1e4, "\u00b5m": 1e4}.get(
        str(axis.get("units"))
    )
    return signal["data"], None if scale is None else float(axis["scale"]) * scale


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
        remove(unfinished)
        raise InputError(
            f"{path} could not be written ({error.strerror or error}); free some space or "
            f"choose another folder"
        ) from None
    except BaseException:
        remove(unfinished)
        raise


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
