"""Folders of frames: .tif, .dm4, .mrc and others, a file a frame or a piece, in counting order.

Gatan's in-situ recordings are such: Hour_00/Minute_00/Second_00/name_Hour_00_..._Frame_0000.dm4.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu import InputError
from insitu.files.axes import Frames, with_notes
from insitu.files.hdf import natural

_ENDINGS = (
    ".tif",
    ".tiff",
    ".dm4",
    ".dm3",
    ".mrc",
    ".npy",
    ".png",
    ".bmp",
    ".hspy",
    ".ser",
    ".emd",
)
_LOOKED_AT = 300  # files that are opened to see whether they fit


def read(folder: Path) -> Frames:
    """Read a folder of frames.

    Raises
    ------
    InputError
        If there are no files of frames in it.
    """
    files = [p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in _ENDINGS]
    files = sorted((p for p in files if not p.name.startswith(".")), key=natural)
    if not files:
        raise InputError(
            f"there is no file of frames in the folder {folder}; give a file, or a folder of .tif "
            "or .dm4"
        )
    endings = Counter(p.suffix.lower() for p in files)
    ending = endings.most_common(1)[0][0]
    others = [f"{n} {e}" for e, n in endings.items() if e != ending]
    files = [p for p in files if p.suffix.lower() == ending]
    opened, left = _opened(files)
    shapes = Counter(_family(f) for f in opened.values() if f)
    if not shapes:
        raise InputError(f"{left[0]}" if left else f"no file in {folder.name} can be read")
    best = shapes.most_common(1)[0][0]
    first = next(f for f in opened.values() if f and _family(f) == best)
    left += [p.name for p, f in opened.items() if f and _family(f) != best]
    kept = [p for p, f in opened.items() if f is None or _family(f) == best]
    frames = _stacked(kept, opened, first)
    notes = []
    if others or left:
        notes.append(
            f"{len(kept)} files {ending} were taken; left out: {', '.join((others + left)[:5])}"
            + (f" and {len(others + left) - 5} more" if len(others + left) > 5 else "")
        )
    return with_notes(Frames(frames, first.size, first.frame_time, None, first.notes), *notes)


def _opened(files: list[Path]) -> tuple[dict[Path, Frames | None], list[str]]:
    """Frames of files: of all if they are few, else of those of an unusual length."""
    usual = Counter(p.stat().st_size for p in files).most_common(1)[0][0]
    found: dict[Path, Frames | None] = {}
    left: list[str] = []
    looked = 0
    for number, path in enumerate(files):
        odd = path.stat().st_size != usual
        if number and len(files) > _LOOKED_AT and not (odd and looked < _LOOKED_AT):
            found[path] = None
            continue
        looked += 1
        try:
            found[path] = _one(path)
        except InputError as reason:
            left.append(str(reason))
    return found, left


def _one(path: Path) -> Frames:
    from insitu.files import kinds
    from insitu.files.movies import first_line

    try:
        return kinds.read(path)
    except InputError as reason:
        text = str(reason)
        raise InputError(text if path.name in text else f"{path.name}: {text}") from None
    except Exception as error:  # readers raise what they like
        raise InputError(f"{path.name} cannot be read: {first_line(error)}") from None


def _family(frames: Frames) -> tuple[object, ...]:
    return (*frames.data.shape[1:], frames.data.dtype)


def _stacked(files: list[Path], opened: dict[Path, Frames | None], first: Frames) -> Any:
    """All frames as one array, each file read when it is asked for."""
    import dask.array as da

    def piece(path: Path) -> Any:
        known = opened[path]
        shape = first.data.shape if known is None else known.data.shape
        load = partial(_load, path, shape, first.data.dtype)
        return da.map_blocks(
            load, chunks=tuple((n,) for n in shape), dtype=first.data.dtype, meta=np.empty((0,) * 3)
        )

    return da.concatenate([piece(path) for path in files])


def _load(path: Path, shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    frames = _one(path)
    if frames.data.shape != shape or frames.data.dtype != kind:
        raise InputError(
            f"{path.name} has the shape {frames.data.shape}, the files before it {shape}; leave it "
            "out of the folder"
        )
    return np.asarray(frames.data)
