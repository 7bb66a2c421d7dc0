"""HDF5 and zarr: HyperSpy's layout, EMD, Dectris, OME, or just one array.

Groups of both are mappings with attributes, so that one reader serves them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu import InputError
from insitu.files.axes import ANGSTROM, Axis, Stored, in_units

_COUNTED = 100_000  # blocks of a zarr array, up to which those on the disk are counted


def read_hdf5(path: Path) -> list[Stored]:
    """Read an HDF5 file, by what is in it.

    Raises
    ------
    InputError
        If it holds no array of two axes or more.
    """
    import h5py

    from insitu.files import others

    file = h5py.File(path, "r")  # stays open: frames are read when they are asked for
    if "Experiments" in file:
        return _hyperspy(file)
    if "entry/data" in file:
        pieces = [d for n, d in sorted(file["entry/data"].items()) if n.startswith("data")]
        if pieces and all(d.ndim == 3 for d in pieces):
            return [_detector(pieces)]
    emd = path.suffix.lower() in (".emd", ".de5") or "version_major" in file.attrs
    if (emd or "Data/Image" in file) and (found := others.rosetta(path, "EMD")):
        return found
    if path.suffix.lower() == ".nxs":
        return others.rosetta(path, "NeXus")
    return _largest(path, file)


def read_zarr(path: Path) -> list[Stored]:
    """Read a zarr array or group, of version 2 or 3, a folder or a .zip.

    Raises
    ------
    InputError
        If it holds no array of two axes or more.
    """
    import zarr

    store: Any = zarr.storage.ZipStore(path, mode="r") if path.is_file() else path
    opened = zarr.open(store, mode="r")
    if isinstance(opened, zarr.Array):
        return [_alone(opened, {})]
    if "Experiments" in opened:
        return _hyperspy(opened)
    attributes: dict[str, Any] = dict(opened.attrs)
    scales = (attributes.get("ome") or attributes).get("multiscales")
    if scales:
        return [_multiscale(opened, scales[0])]
    return _largest(path, opened)


def _detector(pieces: list[Any]) -> Stored:
    """The frames of a Dectris detector, which it writes in pieces."""
    import dask.array as da

    _need_plugin(pieces[0])
    chunks = [d.chunks or (1, *d.shape[1:]) for d in pieces]
    blocks = [da.from_array(d, c, name=False) for d, c in zip(pieces, chunks, strict=True)]
    return Stored(da.concatenate(blocks), [Axis("time"), Axis("y"), Axis("x")])


def _hyperspy(root: Any) -> list[Stored]:
    """HyperSpy's layout: groups with `data`, and attributes for each axis."""
    found = []
    for title, group in _members(root["Experiments"]):
        if "data" not in group or "ragged_shapes" in group:
            continue
        data = group["data"]
        axes = [_hyperspy_axis(group, n, data.ndim) for n in range(data.ndim)]
        found.append(Stored(data, axes, title, angles=_tilts(group), notes=_absent(data)))
    if not found:
        raise InputError("it holds no signal")
    return found


def _hyperspy_axis(group: Any, number: int, count: int) -> Axis:
    name = f"axis-{number}"
    if name not in group:  # as old versions wrote it
        name = f"_list_{count}_axes/_{number:05d}_"
    if name not in group:
        return Axis()
    about = {k: _text(v) for k, v in dict(group[name].attrs).items()}
    scale = about.get("scale")
    if "axis" in group[name]:  # told point by point
        steps = np.diff(np.asarray(group[name]["axis"], float))
        scale = float(np.median(steps)) if len(steps) else None
    units = about.get("units")
    return Axis(
        str(about.get("name") or ""),
        units if isinstance(units, str) else "",
        None if scale is None else float(scale),
        float(about.get("offset") or 0.0),
    )


def _tilts(group: Any) -> NDArray[np.float64] | None:
    """Tilt angles that a HyperSpy file keeps as a signal of their own."""
    kept = "metadata/Tomography/_sig_tilts/data"
    return np.asarray(group[kept], np.float64).ravel() if kept in group else None


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _absent(array: Any) -> tuple[str, ...]:
    """What is to be said of blocks of a zarr array that are not on the disk."""
    count = getattr(array, "nchunks", 0)  # of zarr alone
    if not 0 < count <= _COUNTED:
        return ()
    absent = count - array.nchunks_initialized
    if absent <= 0:
        return ()
    return (f"{absent} of {count} blocks are not on the disk and read as {array.fill_value}",)


def _multiscale(group: Any, scales: Mapping[str, Any]) -> Stored:
    """The finest level of an OME-Zarr, with its axes."""
    level = scales["datasets"][0]
    array = group[level["path"]]
    steps: list[Any] = [None] * array.ndim
    for source in (level, scales):
        for change in source.get("coordinateTransformations", []):
            if change.get("type") == "scale":
                steps = [(a or 1.0) * b for a, b in zip(steps, change["scale"], strict=True)]
    told = scales.get("axes") or [{}] * array.ndim
    axes = [
        Axis(a, "", s) if isinstance(a, str) else Axis(a.get("name", ""), a.get("unit", ""), s)
        for a, s in zip(told, steps, strict=True)
    ]
    return Stored(array, axes, level["path"], notes=_absent(array))


def _largest(path: Path, root: Any) -> list[Stored]:
    """Arrays of two axes or more, wherever they are in a group."""
    found = [_alone(array, dict(root.attrs)) for array in _arrays(root)]
    if not found:
        raise InputError(f"{path.name} holds no movie: no array in it has two axes or more")
    return found


def _arrays(group: Any) -> Iterator[Any]:
    for _, item in _members(group):
        if not hasattr(item, "shape"):
            yield from _arrays(item)
        elif len(item.shape) >= 2 and item.dtype.kind in "buifcV" and 0 not in item.shape:
            yield item


def _members(group: Any) -> list[tuple[str, Any]]:
    """Names and what has them: h5py and zarr differ."""
    return sorted(group.items() if hasattr(group, "items") else group.members())


def _alone(array: Any, around: Mapping[str, Any]) -> Stored:
    """One array, with what its attributes and its dimensions tell of the axes."""
    _need_plugin(array)
    about = {**around, **{k: _text(v) for k, v in dict(array.attrs).items()}}
    names = about.get("_ARRAY_DIMENSIONS") or about.get("axes")
    names = names or getattr(getattr(array, "metadata", None), "dimension_names", None)
    names = [n if isinstance(n, str) else "" for n in names or []]
    axes = [Axis(n) for n in names] if len(names) == array.ndim else [Axis()] * array.ndim
    size = _number(about.get("pixel_size_angstrom"))
    if size is None and (unit := about.get("units") or about.get("unit")):
        size = in_units(_number(about.get("pixel_size")), unit, ANGSTROM)
    time = _number(about.get("frame_time_s"))
    sizes = (size, size) if size else None
    return Stored(array, axes, str(array.name), sizes, time, notes=_absent(array))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float, np.number)) and value > 0 else None


def _need_plugin(dataset: Any) -> None:
    """Register the filters of detectors, if a dataset needs one."""
    if not hasattr(dataset, "_filters"):
        return
    import h5py

    missing = [n for n in dataset._filters if n.isdigit() and not h5py.h5z.filter_avail(int(n))]
    if missing:
        try:
            import hdf5plugin  # noqa: F401
        except ModuleNotFoundError:
            raise InputError(
                "its compression needs the package hdf5plugin; install it with pip install "
                "hdf5plugin"
            ) from None


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr store."""
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def natural(path: Path) -> list[tuple[int, int, str]]:
    """In the order in which people count: 2 before 10."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]
