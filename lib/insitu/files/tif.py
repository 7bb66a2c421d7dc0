"""TIFF: every compression, files in pieces, pyramids, OME, ImageJ, and EER."""

from __future__ import annotations

import logging
import weakref
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from tifffile import PHOTOMETRIC

from insitu import InputError
from insitu.files.axes import ANGSTROM, SECONDS, Axis, Mapped, Stored, in_units, reciprocal

_BREAKS_OFF = ("invalid page offset", "failed to reshape")
_SIDES = ("height", "width")
_LOSSY = (6, 7, 34892)
_PRINT = 1e4  # A; a resolution in inches or centimetres that is coarser is that of a print
_VENDORS = range(34118, 70000)  # codes of the tags in which microscopes keep what they know


class _Told(NamedTuple):
    pixel_size: tuple[float, float] | None = None  # y, x [A]
    frame_time: float | None = None  # [s]
    units: str = ""  # of a pixel, where they are no length


def read(path: Path) -> list[Stored]:
    """Read the series of a TIFF, each with its axes.

    Raises
    ------
    InputError
        If it is truncated, or its grey values are numbers of a palette of colours.
    """
    with _heard() as said:
        tif = tifffile.TiffFile(path)  # open as long as frames may be asked for
        weakref.finalize(tif, tif.filehandle.close)
        series = [s for s in tif.series if s.shape and 0 not in s.shape]
    if any(words in line for line in said for words in _BREAKS_OFF):
        raise InputError(
            f"{path.name} is truncated: the list of its pages leads out of the file; copy the file "
            "again"
        )
    if not series:
        raise InputError(f"{path.name} cannot be read as .tif: it holds no image")
    size = path.stat().st_size
    for one in series:
        _refuse_truncated(path, tif, one, size)
    told = _told(tif, path)
    return [
        Stored(
            _array(tif, one),
            [Axis(letter, told.units if letter in "YX" else "") for letter in one.axes],
            title=one.name,
            pixel_size=told.pixel_size,
            frame_time=told.frame_time,
            notes=_of_values(tif, one),
        )
        for one in series
        if not (one.keyframe.is_reduced and len(series) > 1)
    ]


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What tifffile says of a file, which would else be printed."""
    logger, said = logging.getLogger("tifffile"), []  # type: tuple[logging.Logger, list[str]]
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    before = logger.propagate
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def _refuse_truncated(path: Path, tif: tifffile.TiffFile, series: Any, size: int) -> None:
    pages = [page for page in series.pages if page is not None]
    expected = sum(int(n) for page in pages for n in page.databytecounts)
    ends = (o + n for p in pages for o, n in zip(p.dataoffsets, p.databytecounts, strict=False))
    key = series.keyframe
    if key.compression == 1 and not series.is_pyramidal:
        expected = max(expected, int(series.size) * key.bitspersample // 8)
    if expected > size or max(ends, default=0) > size:
        raise InputError(
            f"{path.name} is truncated: it should hold {expected} bytes of image data and is "
            f"{size} bytes long; copy the file again"
        )
    first = series is tif.series[0]
    declared = (
        (tif.shaped_metadata or [{}])[0].get("shape", series.shape) if first else series.shape
    )
    frames = int((tif.imagej_metadata or {}).get("images", 1)) if first else 1
    found = int(np.prod(series.shape[:-2]))
    missing = any(not n for page in pages for n in page.databytecounts)
    if int(np.prod(declared)) > series.size or frames > found or missing:
        raise InputError(
            f"{path.name} is truncated: it should hold frames of the shape {tuple(declared)} "
            f"and only {series.shape} can be found; copy the file again"
        )


def _array(tif: tifffile.TiffFile, series: Any) -> Any:
    """The largest level of a series, read when it is indexed."""
    level, key = series.levels[0], series.keyframe
    offset = level.dataoffset if key.is_memmappable else None
    if offset is not None and key.compression == 1 and key.bitspersample in (8, 16, 32, 64):
        kind = np.dtype(level.dtype).newbyteorder(tif.byteorder)
        return Mapped(tif.filehandle.path, kind, offset, level.shape)
    import zarr

    return zarr.open_array(series.aszarr(level=0), mode="r")


def _of_values(tif: tifffile.TiffFile, series: Any) -> tuple[str, ...]:
    """What is to be said of a palette, and of compression that loses."""
    key = series.keyframe
    if key.compression in _LOSSY:
        return ("its compression, JPEG, changes the values; they are no counts any more",)
    if key.photometric != PHOTOMETRIC.PALETTE or key.colormap is None:
        return ()
    red = np.asarray(key.colormap[0], np.int64)
    grey = (np.asarray(key.colormap) == red).all() and (np.diff(red) >= 0).all()
    if not (grey or tif.is_imagej):
        raise InputError(
            "it is a picture in colour, whose values are numbers of a palette; export the frames "
            "as grey values"
        )
    return () if grey else ("it is shown in the colours of a palette; its values are taken",)


def _told(tif: tifffile.TiffFile, path: Path) -> _Told:
    """Pixel size and frame time, as OME, ImageJ, the resolution or a vendor's tags tell them."""
    if tif.ome_metadata:
        return _of_ome(tif.ome_metadata)
    if tif.is_eer:
        return _of_eer(tif.eer_metadata or {})
    about: dict[str, Any] = dict((tif.shaped_metadata or [{}])[0])
    about |= tif.imagej_metadata or {}
    per_unit = [_resolution(tif.pages.first, f"{axis}Resolution") for axis in "YX"]
    scales = [1 / n if n else None for n in per_unit]
    unit = about.get("unit") or about.get("spacing_unit")
    sizes = [in_units(scale, unit, ANGSTROM) for scale in scales]
    if not all(sizes):
        kind = tif.pages.first.resolutionunit
        sizes = [in_units(s, {2: "inch", 3: "cm"}.get(int(kind), ""), ANGSTROM) for s in scales]
        if any(s is None or s > _PRINT for s in sizes):
            sizes = _of_vendor(tif, path)
    interval = about.get("finterval") or about.get("frame_interval")
    time = in_units(_number(interval), about.get("tunit") or "s", SECONDS)
    if time is None and (rate := _number(about.get("fps"))):
        time = 1 / rate
    y, x = sizes
    kept = str(unit) if reciprocal(unit) else ""
    return _Told((y, x) if y and x and not kept else None, time, kept)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _resolution(page: Any, name: str) -> float | None:
    """Pixels a unit."""
    tag = page.tags.get(name)
    try:
        above, below = tag.value
        return above / below if above and below else None
    except (AttributeError, TypeError, ValueError):
        return None


def _of_ome(text: str) -> _Told:
    """OME counts lengths in micrometres and times in seconds where it does not say in what."""
    try:
        root = ET.fromstring(text)
    except ET.ParseError:
        return _Told()
    pixels = next((e for e in root.iter() if e.tag.rsplit("}")[-1] == "Pixels"), None)
    if pixels is None:
        return _Told()

    def told(name: str, usual: str, table: dict[str, float]) -> float | None:
        unit = pixels.get(f"{name}Unit", usual)
        return in_units(_number(pixels.get(name)), unit, table)

    y, x = (told(f"PhysicalSize{axis}", "um", ANGSTROM) for axis in "YX")
    y, x = y or x, x or y
    time = told("TimeIncrement", "s", SECONDS)
    return _Told((y, x) if y and x else None, time)


def _of_eer(about: dict[str, Any]) -> _Told:
    y, x = (in_units(_number(about.get(f"sensorPixelSize.{n}")), "m", ANGSTROM) for n in _SIDES)
    return _Told((y, x) if y and x else None)


def _of_vendor(tif: tifffile.TiffFile, path: Path) -> list[float | None]:
    """What Digital Micrograph, FEI, TVIPS and others put into tags of their own."""
    if not any(tag.code in _VENDORS for tag in tif.pages.first.tags):
        return [None, None]
    from rsciio.tiff import file_reader

    try:
        axes = file_reader(str(path), lazy=True)[0]["axes"][-2:]
    except Exception:  # a tag that says nothing to RosettaSciIO is no fault of the file
        return [None, None]
    return [in_units(a.get("scale"), a.get("units"), ANGSTROM) for a in axes]
