"""A movie on disk, whatever its format: opened at once, read a region at a time."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu import InputError
from insitu.checks import box, span

_MOST_VALUES = 64_000_000
_FINEST = 0.03  # A; finer pixels are a size given in nm
_COARSEST = 1e5  # A; coarser ones are the resolution of a print
_NEAR_TEN = (9.0, 11.1)  # a ratio of two sizes that is nm for angstrom


@dataclass(frozen=True)
class Movie:
    """A movie on disk: frames are read when it is indexed."""

    data: Any  # array-like (t, y, x), lazily read
    pixel_size: float | None  # angstrom, where the file tells it
    path: Path
    frame_time: float | None = None  # from one frame to the next [s], where the file tells it
    angles: NDArray[np.float64] | None = None  # of a tilt series [degrees], where it tells them
    notes: tuple[str, ...] = ()  # what was made of the file, where that is not plain
    trouble: str = ""  # why there is no pixel size, where the file tells one that is of no use

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
        return self.read(region)

    def read(self, region: tuple[slice, ...] = ()) -> NDArray[Any]:
        """Read frames, rows and columns as an array, however large.

        Raises
        ------
        InputError
            If the file breaks off, or its compression cannot be read.
        """
        try:
            return np.asarray(self.data[region])
        except InputError as error:
            raise InputError(f"{self.path.name}: {error}") from None
        except Exception as error:  # decoders raise what they like; the reader needs one sentence
            missing = missing_package(error)
            if missing:
                raise InputError(f"{self.path.name} cannot be read: {missing}") from None
            raise InputError(
                f"{self.path.name} is damaged or truncated, its frames cannot be read "
                f"({first_line(error)}); copy the file again"
            ) from None

    def pixel_size_or(self, given: float) -> float:
        """Return what the reader gave, where that is not 0, else what the file tells [A].

        Raises
        ------
        InputError
            If there is neither, or what there is can be no size of a pixel in angstrom.
        """
        if given and self.pixel_size:
            low, high = _NEAR_TEN
            ratio = max(given, self.pixel_size) / min(given, self.pixel_size)
            if low <= ratio <= high:
                raise InputError(
                    f"movie_pixel_size: got {given:g} A, but {self.path.name} tells "
                    f"{self.pixel_size:.4g} A, ten times as {_more(given < self.pixel_size)}; give "
                    "it in angstrom (1 nm is 10 A), or 0 to take what the file tells"
                )
        if size := given or self.pixel_size:
            if size < _FINEST:
                raise InputError(
                    f"movie_pixel_size: {size:g} A is finer than any microscope's pixels; if it is "
                    f"in nm, give {10 * size:g}"
                )
            return size
        if self.trouble:
            raise InputError(
                f"movie_pixel_size: {self.path.name} has none to be used, {self.trouble}"
            )
        raise InputError(
            f"movie_pixel_size: {self.path.name} does not tell it; give it in angstrom "
            "(--pixel-size of a command)"
        )

    def pixel_size_if_known(self, given: float) -> float:
        """As `pixel_size_or`, but 0 where neither reader nor file tells it."""
        return self.pixel_size_or(given) if given or self.pixel_size or self.trouble else 0.0

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


def open_movie(path: str | Path, *, sum_frames: int = 0) -> Movie:
    """Open a movie: a file of any format that `kinds` names, or a folder of frames.

    What the reader should know of it (what was left out, axes that were moved, pixels that are
    not square) is in `Movie.notes`, and warned of.

    Parameters
    ----------
    path : path
        .tif, .mrc, .dm3, .dm4, .npy, .hspy, .emd, .ser, .mib, .tvips, .eer, .zarr, .gif, a folder
        of frames, ...
    sum_frames : int
        How many frames to sum into one; has to be given for .eer, whose frames hold next to
        nothing. What is left at the end goes.

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
    from insitu.files import kinds

    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"there is no file {path}; give the path of a movie")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); copy the file again")
    try:
        frames = kinds.read(path)
        data, words = _summed(frames.data, sum_frames, path)
    except InputError as error:
        said = str(error)
        raise InputError(said if path.name in said else f"{path.name}: {said}") from None
    except Exception as error:  # readers raise what they like; the reader needs one sentence
        if missing := missing_package(error):
            raise InputError(f"{path.name} cannot be read: {missing}") from None
        raise InputError(
            f"{path.name} cannot be read as {path.suffix.lower() or 'a movie'}: "
            f"{first_line(error)}; the file is truncated or of another kind"
        ) from None
    size, trouble = frames.size
    if size and size > _COARSEST:
        size = None
    notes = (*frames.notes, *words, *([trouble] if trouble else []))
    for note in notes:
        warnings.warn(f"{path.name}: {note}", stacklevel=2)
    time = frames.frame_time
    if time and sum_frames > 1:
        time *= sum_frames
    return Movie(data, size, path, time, frames.angles, notes, trouble)


def _summed(data: Any, count: int, path: Path) -> tuple[Any, tuple[str, ...]]:
    """Sums of so many frames each."""
    if count < 0 or count > len(data):
        raise InputError(f"sum_frames: got {count}, allowed is 0 to {len(data)}")
    if not count and path.suffix.lower() == ".eer":
        raise InputError(
            f"{path.name} holds {len(data)} raw frames with hardly an electron each; say how many "
            "to sum into one, by sum_frames"
        )
    if count < 2:
        return data, ()
    import dask.array as da

    whole = len(data) // count
    kept = data[: whole * count].rechunk({0: count * max(1, data.chunksize[0] // count)})
    kind = np.uint32 if data.dtype.kind in "bu" else np.int32 if data.dtype.kind == "i" else None
    summed = da.coarsen(np.sum, kept, {0: count}, dtype=kind or np.float32)
    left = len(data) - whole * count
    return summed, (f"the last {left} frames do not fill a sum and are left out",) if left else ()


def _more(larger: bool) -> str:
    return "much" if larger else "little"


def missing_package(error: Exception) -> str:
    """Which package a reader lacks, as a sentence; empty if that is not what is wrong."""
    text = str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"it needs the package {error.name}; install it with pip install {error.name}"
    if "imagecodecs" in text and ("require" in text or "install" in text):
        return (
            "its compression needs the package imagecodecs; install it with pip install imagecodecs"
        )
    return ""


def first_line(error: Exception) -> str:
    """What an error says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
