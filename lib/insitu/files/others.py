"""What RosettaSciIO, numpy, Pillow and LiberTEM read."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from insitu import InputError
from insitu.files.axes import Axis, Mapped, Stored, longer

_MOST_BYTES = 1_000_000_000  # of a file that has to be read whole
_FOREIGN = ("MRC", "MRCZ", "TIFF", "HSPY", "ZSPY", "numpy", "Image", "Arina", "Tofwerk", "Delmic")


def rosetta(path: Path, name: str = "") -> list[Stored]:
    """Read by a plugin of RosettaSciIO, by its name or by the ending of the file.

    Raises
    ------
    InputError
        If there is none, or it has to read a large file at once.
    """
    from rsciio import IO_PLUGINS

    ending = path.suffix.lstrip(".")
    plugins = [
        p
        for p in IO_PLUGINS
        if (p["name"] == name if name else ending.lower() in map(str.lower, p["file_extensions"]))
        and (name or p["name"] not in _FOREIGN)
    ]
    if not plugins:
        raise InputError(
            f"{path.name}: files ending in .{ending} are not known; give a .tif, .npy, .mrc, "
            f".dm4 or .hspy"
        )
    reader = importlib.import_module(plugins[0]["api"]).file_reader
    try:
        signals = reader(str(path), lazy=True)
        for signal in signals:  # which some cannot, and tell when it is too late
            np.asarray(signal["data"][(slice(1),) * np.ndim(signal["data"])])
    except Exception:  # some plugins cannot read by parts, or not this file
        if path.stat().st_size > _MOST_BYTES:
            raise
        signals = reader(str(path), lazy=False)
    return [_stored(signal) for signal in signals if np.ndim(signal["data"]) >= 2]


def _stored(signal: dict[str, Any]) -> Stored:
    axes = [
        Axis(
            "" if axis.get("name") is None else str(axis["name"]),
            "" if axis.get("units") is None else str(axis["units"]),
            axis.get("scale"),
            float(axis.get("offset") or 0.0),
        )
        for axis in signal["axes"]
    ]
    about = signal.get("metadata", {}).get("General", {})
    return Stored(signal["data"], axes, str(about.get("title", "")), notes=_gain(signal))


def _gain(signal: dict[str, Any]) -> tuple[str, ...]:
    """What Digital Micrograph tells of electrons and its values."""
    tags = signal.get("original_metadata", {}).get("ImageList", {}).get("TagGroup0", {})
    told = tags.get("ImageData", {}).get("Calibrations", {}).get("Brightness", {})
    scale, units = told.get("Scale", 1.0), str(told.get("Units", ""))
    if units not in ("e-", "electrons") or scale in (0.0, 1.0):
        return ()
    return (f"by the file a value of 1 is {scale:.4g} electrons; it is read as it is stored",)


def numpy_file(path: Path) -> list[Stored]:
    """Read .npy by parts, or the arrays of an .npz."""
    loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(loaded, np.memmap):
        shape, turned = loaded.shape, loaded.flags.f_contiguous and not loaded.flags.c_contiguous
        kept = Mapped(path, loaded.dtype, loaded.offset, shape[::-1] if turned else shape)
        end = loaded.offset + loaded.nbytes
        notes = longer(path, end, loaded.nbytes // max(1, len(loaded)))
        return [Stored(_turned(kept) if turned else kept, [Axis()] * loaded.ndim, notes=notes)]
    with loaded:
        arrays = {name: loaded[name] for name in loaded.files}
    found = [Stored(a, [Axis()] * a.ndim, n) for n, a in arrays.items() if a.ndim >= 2]
    if not found:
        raise InputError(f"{path.name} holds no movie: no array in it has two axes or more")
    return found


def _turned(data: Mapped) -> Any:
    """Of an array in Fortran's order, the axes in ours."""
    import dask.array as da

    return da.from_array(data, name=False).transpose()


def picture(path: Path) -> list[Stored]:
    """Read .png, .gif, .bmp or .jpg, with all of its frames."""
    from PIL import Image

    arrays, durations = [], []
    with Image.open(path) as image:
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            durations.append(image.info.get("duration", 0))
            plain = image.mode in ("1", "L", "I", "F", "I;16", "I;16B", "I;16L")
            arrays.append(np.asarray(image if plain else image.convert("RGB")))
    if len({a.ndim for a in arrays}) > 1:  # of a .gif: grey frames behind one in colours
        arrays = [a if a.ndim == 3 else np.repeat(a[..., None], 3, -1) for a in arrays]
    data = np.stack(arrays)
    axes = [Axis("time"), Axis("y"), Axis("x")] + [Axis("rgb")] * (data.ndim == 4)
    lossy = path.suffix.lower() in (".jpg", ".jpeg")
    notes = ("JPEG changes the values; they are no counts any more",) if lossy else ()
    time = durations[0] / 1000 if len(data) > 1 and len(set(durations)) == 1 else None
    return [Stored(data, axes, frame_time=time or None, notes=notes)]


def libertem(path: Path) -> list[Stored]:
    """Read K2-IS and .seq by LiberTEM, if it is installed.

    Raises
    ------
    InputError
        If it is not, saying what to export instead.
    """
    try:
        from libertem.api import Context
        from libertem.contrib.daskadapter import make_dask_array
    except ImportError:
        what = "Norpix .seq" if path.suffix.lower() == ".seq" else "raw Gatan K2-IS"
        raise InputError(
            f"{path.name}: {what} files are read by LiberTEM alone; install it with pip install "
            "libertem, or export the movie as .mrc, .dm4 or .tif in the camera's own program"
        ) from None
    with Context.make_with("inline") as context:
        recording = context.load("auto", path=str(path))
        data, _ = make_dask_array(recording, dtype=recording.dtype)
    return [Stored(data.reshape(-1, *data.shape[-2:]), [Axis("time"), Axis("y"), Axis("x")])]
