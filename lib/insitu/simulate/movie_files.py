"""The movie in files: zarr with all of its truth, and HyperSpy with calibrated axes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from insitu import InputError
from insitu.simulate.movies import COLUMN_FIELDS, Movie, Plan


def save(movie: Movie, path: Path | str) -> Path:
    """Write a movie with its truth as a zarr v3 group.

    Raises
    ------
    InputError
        If the path exists or cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} exists; choose another name, or remove it")
    unfinished = path.with_name(f".part-{path.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    arrays: dict[str, NDArray[Any]] = {
        "counts": movie.counts,
        "exposures": movie.exposures,
        "weights": movie.weights,
        "drift": movie.drift,
        "angles": movie.angles,
    }
    arrays |= {f"columns/{name}": movie.columns[name] for name, _ in COLUMN_FIELDS}
    packing = BloscCodec(cname="zstd", clevel=9, shuffle="bitshuffle")
    try:
        about = {
            "what": "simulated in situ movie of Pt on CeO2, electron counts, with its truth",
            "plan": asdict(movie.plan),
            "extent_angstrom": movie.extent,
            "events": movie.events,
            "axes": {
                "counts": ["time", "y", "x"],
                "scale": [1 / movie.plan.rate, movie.plan.pixel_size, movie.plan.pixel_size],
                "units": ["s", "A", "A"],
            },
            "licence": "CC-BY-4.0",
        }
        group = zarr.create_group(unfinished, attributes=json.loads(json.dumps(about)))
        for name, array in arrays.items():
            chunks = (min(64, len(array)), *array.shape[1:]) if name == "counts" else array.shape
            group.create_array(name, data=array, chunks=chunks, compressors=packing)
        unfinished.replace(path)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise InputError(
            f"{path} could not be written ({error.strerror or error}); free some space or choose "
            "another output_dir"
        ) from None
    return path


def load(path: Path | str) -> Movie:
    """Read a movie that `save` wrote.

    Raises
    ------
    InputError
        If it is something else.
    """
    path = Path(path)
    if not (path / "zarr.json").is_file():
        raise InputError(f"{path} is no movie of ours: it has no zarr.json")
    group: Any = zarr.open_group(path, mode="r")
    about = dict(group.attrs)
    try:
        given = about["plan"] | {"hops": tuple(tuple(h) for h in about["plan"]["hops"])}
        plan = Plan(**given)
        counts = group["counts"][:]
        parts = {name: group[f"columns/{name}"][:] for name, _ in COLUMN_FIELDS}
        columns = np.zeros(len(parts["x"]), dtype=COLUMN_FIELDS)
        for name, values in parts.items():
            columns[name] = values
        return Movie(
            plan,
            counts,
            group["exposures"][:],
            float(about["extent_angstrom"]),
            group["weights"][:],
            group["drift"][:],
            group["angles"][:],
            columns,
            list(about["events"]),
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} is no movie of ours ({error})") from None


def to_hyperspy(movie: Movie) -> Any:
    """Return the counts as a HyperSpy signal with axes in seconds and angstrom."""
    import hyperspy.api as hs  # takes seconds

    plan = movie.plan
    axes = [
        {
            "name": "time",
            "scale": 1 / plan.rate,
            "offset": 0.0,
            "units": "s",
            "size": plan.frames,
            "navigate": True,
        }
    ]
    axes += [
        {
            "name": name,
            "scale": plan.pixel_size,
            "offset": 0.0,
            "units": "\u00c5",
            "size": plan.size,
            "navigate": False,
        }
        for name in ("y", "x")
    ]
    signal = hs.signals.Signal2D(movie.counts, axes=axes)
    signal.metadata.General.title = "simulated in situ movie of Pt on CeO2"
    signal.metadata.add_dictionary({"Simulation": {"plan": asdict(plan)}})
    return signal


def save_hyperspy(signal: Any, path: Path | str) -> Path:
    """Write a HyperSpy signal as .hspy, whatever the path is called."""
    path = Path(path)
    named = path if path.suffix == ".hspy" else path.with_suffix(".hspy")
    signal.save(named, overwrite=True, compression="gzip")
    if named != path:
        named.replace(path)
    return path
