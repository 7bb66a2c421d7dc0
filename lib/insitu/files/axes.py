"""What the axes of a stored array are, by their names and units, and a movie made of them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu import InputError

_METRE = {"f": 1e-5, "p": 1e-2, "n": 10.0, "u": 1e4, "m": 1e7, "c": 1e8, "": 1e10}  # angstrom
_WORDS = {"femto": "f", "pico": "p", "nano": "n", "micro": "u", "milli": "m", "centi": "c", "": ""}
ANGSTROM = {f"{prefix}m": size for prefix, size in _METRE.items()}
ANGSTROM |= {
    f"{word}{metre}{s}": _METRE[prefix]
    for word, prefix in _WORDS.items()
    for metre in ("meter", "metre")
    for s in ("", "s")
}
ANGSTROM |= dict.fromkeys(("a", "å", "ang", "angstrom", "angstroms", "ångström", "ångstrom"), 1.0)
ANGSTROM |= dict.fromkeys(("micron", "microns"), 1e4) | dict.fromkeys(("inch", "in"), 2.54e8)
SECONDS = dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0)
SECONDS |= dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3)
SECONDS |= dict.fromkeys(("us", "usec", "microsecond", "microseconds"), 1e-6)
SECONDS |= dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9)
SECONDS |= dict.fromkeys(("min", "minute", "minutes"), 60.0)
SECONDS |= dict.fromkeys(("h", "hour", "hours"), 3600.0)
_DEGREES = {"deg", "degree", "degrees", "°"}
_ENERGY = {"ev", "kev", "electronvolt", "electronvolts"}
_RECIPROCAL = re.compile(r"^1/|\^?\(?-1\)?$|⁻¹$|^(m|k|n|u)?rad(ians?)?$|^reciprocal")
_NAMES = {
    "time": {"t", "time", "times", "frame", "frames", "sequence", "movie"},
    "tilt": {"tilt", "tilts", "angle", "angles", "alpha"},
    "y": {"y", "height", "row", "rows"},
    "x": {"x", "width", "column", "columns", "col"},
    "stack": {"z", "q", "i", "r", "image", "images", "index", "slice", "slices", "stack", "plane"},
    "channel": {"c", "channel", "channels"},
    "colour": {"s", "rgb", "rgba", "sample", "samples"},
    "energy": {"energy", "energy loss", "wavelength", "e"},
}
_SQUARE = 0.01  # relative difference of x and y that is rounding


@dataclass(frozen=True)
class Axis:
    """An axis of a stored array, as its file tells it."""

    name: str = ""
    units: str = ""
    scale: float | None = None  # from one sample to the next, in its units
    offset: float = 0.0  # of the first sample


@dataclass(frozen=True)
class Stored:
    """An array of a file, before its axes are understood."""

    data: Any  # with shape and dtype, read when indexed
    axes: Sequence[Axis]
    title: str = ""
    pixel_size: tuple[float, float] | None = None  # y, x [A], where it is told apart from the axes
    frame_time: float | None = None  # [s], likewise
    angles: NDArray[np.float64] | None = None  # [degrees]
    notes: tuple[str, ...] = ()


class Mapped:
    """An array that lies in a file as it is, read a region at a time: no more is ever held."""

    def __init__(self, path: str | Path, dtype: Any, offset: int, shape: tuple[int, ...]) -> None:
        self.path, self.offset = path, offset
        self.dtype, self.shape, self.ndim = np.dtype(dtype), tuple(shape), len(shape)

    def __getitem__(self, region: Any) -> NDArray[Any]:
        stored = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        return np.array(stored[region])


class Size(NamedTuple):
    """The size of a pixel, or why there is none."""

    angstrom: float | None
    trouble: str = ""


@dataclass(frozen=True)
class Frames:
    """Frames (t, y, x), read when they are indexed."""

    data: Any
    size: Size
    frame_time: float | None = None
    angles: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = field(default=())


def plain(unit: Any) -> str:
    r"""A unit in lower case, without decoration: '[n_m]', 'nm/px' and 'NM' are 'nm'.

    >>> [plain(u) for u in ("nm/px", "[n_m]", r"\u00B5m", "Å", None)]
    ['nm', 'nm', 'um', 'å', '']
    """
    text = "" if unit is None else str(unit)
    text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text)
    text = text.replace("\u212b", "å").replace("µ", "u").replace("μ", "u").replace("_", "")
    text = re.sub(r"\s+", "", text.strip("[](){} \0")).lower()
    text = re.sub(r"(/|per)(px|pixel|pixels|frame|frames|image)$", "", text)
    return "" if text in ("<undefined>", "undefined", "none", "px", "pixel", "pixels") else text


def reciprocal(unit: Any) -> bool:
    """Whether a unit is one of diffraction: 1/nm, nm^-1, mrad."""
    return bool(_RECIPROCAL.search(plain(unit)))


def in_units(scale: float | None, unit: Any, table: dict[str, float]) -> float | None:
    """A scale in angstrom or seconds, positive; None if it is not told, or of another kind.

    >>> in_units(-0.012, "nm", ANGSTROM)
    0.12
    """
    if scale is None or not math.isfinite(scale) or scale == 0 or plain(unit) not in table:
        return None
    return abs(float(scale)) * table[plain(unit)]


def pixel(y: float | None, x: float | None) -> Size:
    """One size of a pixel [A] from those of its two axes."""
    if y is None or x is None:
        return Size(None)
    if abs(y - x) > _SQUARE * max(x, y):
        return Size(
            None,
            f"its pixels are {y:.4g} A high and {x:.4g} A wide, not square; resample it to square "
            "pixels",
        )
    return Size(x if y == x else (x + y) / 2)


def frames_of(stored: Stored) -> Frames:
    """Put the axes of an array in the order time, y, x.

    Raises
    ------
    InputError
        If it holds complex values, colours, channels, spectra, or more axes than a movie has.
    """
    data, axes = _lazy(stored.data), [*stored.axes]
    axes += [Axis()] * (data.ndim - len(axes))
    roles = [_role(axis) for axis in axes]
    if not any(roles) and data.ndim == 3 and data.shape[2] == 1 and min(data.shape[:2]) >= 16:
        data, axes, roles = data[..., 0], axes[:2], roles[:2]  # an image of one channel
    if not any(roles) and _looks_coloured(data):
        roles[-1] = "colour"
    roles = [  # frames that were written as colours of one picture
        "stack" if role == "colour" and n > 4 else role
        for role, n in zip(roles, data.shape, strict=True)
    ]
    data, axes, roles = _without_single(data, axes, roles)
    data, notes = _grey(data, roles)
    if "colour" in roles:
        at = roles.index("colour")
        axes, roles = axes[:at] + axes[at + 1 :], roles[:at] + roles[at + 1 :]
    if "energy" in roles:
        raise InputError("it holds spectra; a movie has three axes (frames, y, x)")
    if "channel" in roles:
        count = data.shape[roles.index("channel")]
        raise InputError(
            f"it holds {count} channels; save the one that counts electrons in a file of its own"
        )
    order = _order(data, axes, roles)
    data = _native(data.transpose(order))
    axes = [axes[n] for n in order]
    data = data[None] if data.ndim == 2 else data
    y, x = axes[-2:]
    told = stored.pixel_size or [in_units(a.scale, a.units, ANGSTROM) for a in (y, x)]
    size = pixel(*told)
    if reciprocal(x.units) or reciprocal(y.units):
        size = Size(None, f"its pixels are in {x.units}, as those of a diffraction pattern")
    first = axes[0] if len(axes) == 3 else Axis()
    frame_time = stored.frame_time or in_units(first.scale, first.units, SECONDS)
    angles = stored.angles
    if angles is None and first.scale and plain(first.units) in _DEGREES:
        angles = np.asarray(first.offset + first.scale * np.arange(len(data)), np.float64)
    if angles is not None and len(angles) != len(data):
        angles = None
    return Frames(data, size, frame_time, angles, (*stored.notes, *notes))


def _looks_coloured(data: Any) -> bool:
    """Whether the last axis is of colours: nobody's frames have three columns."""
    if data.ndim not in (3, 4) or data.shape[-1] not in (3, 4):
        return False
    return min(data.shape[-3:-1]) >= 16 and (data.ndim == 3 or data.dtype.kind == "u")


def _lazy(data: Any) -> Any:
    """As a dask array, in blocks of some MB, if it is none."""
    import dask
    import dask.array as da

    if isinstance(data, da.Array):
        return data
    blocks: Any = "auto"  # as the file has them
    if getattr(data, "chunks", None) is None:
        blocks = ("auto", *(-1,) * (data.ndim - 1))
    with dask.config.set({"array.chunk-size": "16MiB"}):
        return da.from_array(data, chunks=blocks, name=False, asarray=True)


def _native(data: Any) -> Any:
    kind = data.dtype.kind
    if kind == "c":
        raise InputError("it holds complex numbers, as of a Fourier transform; give the images")
    if kind not in "buif":
        raise InputError(f"it holds {data.dtype}, no numbers; give the images")
    if kind == "b":
        return data.astype(np.uint8)
    if kind == "f" and data.dtype.itemsize == 2:
        return data.astype(np.float32)
    return data.astype(data.dtype.newbyteorder("="))


def _role(axis: Axis) -> str:
    """What an axis is by its units, else by its name; empty if neither tells."""
    unit, name = plain(axis.units), axis.name.strip().lower()
    if unit in SECONDS:
        return "time"
    if unit in _DEGREES:
        return "tilt"
    if unit in _ENERGY:
        return "energy"
    named = next((role for role, names in _NAMES.items() if name in names), "")
    if not named and (unit in ANGSTROM or reciprocal(unit)):
        return "space"
    return named


def _without_single(
    data: Any, axes: list[Axis], roles: list[str]
) -> tuple[Any, list[Axis], list[str]]:
    """Leave axes of one sample out, but rows and columns."""
    for at in range(data.ndim - 1, -1, -1):
        if data.ndim > 2 and data.shape[at] == 1:
            spatial = at >= data.ndim - 2 if not any(roles) else roles[at] in ("y", "x", "space")
            if spatial and data.ndim <= 3:
                continue
            data = data[(slice(None),) * at + (0,)]
            axes, roles = axes[:at] + axes[at + 1 :], roles[:at] + roles[at + 1 :]
    return data, axes, roles


def _grey(data: Any, roles: list[str]) -> tuple[Any, tuple[str, ...]]:
    """Of colours that are all the same, one; else a sentence."""
    if data.dtype.names:  # as RosettaSciIO gives colours
        import dask.array as da

        if not {"R", "G", "B"} <= set(data.dtype.names):
            return data, ()
        roles.append("colour")
        data = da.stack([data[name] for name in "RGB"], axis=-1)
    if "colour" not in roles:
        return data, ()
    at = roles.index("colour")
    colours = min(data.shape[at], 3)  # a fourth is how opaque it is
    channels = [data[(slice(None),) * at + (n,)] for n in range(colours)]
    _same(*(np.asarray(c[0] if c.ndim == 3 else c) for c in channels))
    grey = channels[0].map_blocks(_same, *channels[1:], dtype=data.dtype)
    return grey, ("its colours are all alike, and taken as one grey value",)


def _same(first: NDArray[Any], *others: NDArray[Any]) -> NDArray[Any]:
    if first.size:
        _refuse_colours(np.stack([first, *others], -1))
    return first


def _refuse_colours(values: NDArray[Any]) -> None:
    if (values != values[..., :1]).any():
        raise InputError(
            "it is a picture in colour, which holds no counts; export the frames as grey values"
        )


def _order(data: Any, axes: list[Axis], roles: list[str]) -> list[int]:
    """Which axis is time, which y, and which x."""
    if data.ndim not in (2, 3):
        named = ", ".join(a.name or "?" for a in axes)
        words = f" ({named})" if any(a.name for a in axes) else ""
        raise InputError(
            f"it has the shape {tuple(data.shape)}{words}; a movie has three axes (frames, y, x)"
        )
    if data.ndim == 2:
        return [1, 0] if roles == ["x", "y"] else [0, 1]
    first = 0
    for wanted in ("time", "tilt", "stack", ""):  # the surest
        found = [n for n, role in enumerate(roles) if role == wanted]
        if len(found) == 1:
            first = found[0]
            break
    rest = [n for n in range(3) if n != first]
    if [roles[n] for n in rest] == ["x", "y"]:
        rest = rest[::-1]
    return [first, *rest]


def longer(path: Path, end: int, frame: int) -> tuple[str, ...]:
    """What is to be said of a file in which a frame or more lies behind the last one."""
    left = (path.stat().st_size - end) // max(1, frame)
    if not left:
        return ()
    return (f"behind its last frame the file is long enough for {left} more; is its head right?",)


def with_notes(frames: Frames, *notes: str) -> Frames:
    """The same frames, and more said of them."""
    return replace(frames, notes=(*frames.notes, *notes))
