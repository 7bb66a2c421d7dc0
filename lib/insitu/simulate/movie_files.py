"""The movie in files: zarr with all of its truth, and HyperSpy with calibrated axes."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from insitu import InputError, fetch
from insitu.checks import within
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


@dataclass(frozen=True)
class ShippedMovie:
    """The central part of the movie that ships with the book, and its truth."""

    counts: NDArray[np.uint8]  # (t, y, x) electrons
    clean: NDArray[np.float32]  # (t, y, x) expected electrons
    plan: Plan
    events: list[dict[str, Any]]  # as in `Movie`
    offset: int  # first row and column of the part [pixels]
    uncut: Movie

    @property
    def pixel_size(self) -> float:
        """[A]."""
        return self.plan.pixel_size

    @property
    def frame_time(self) -> float:
        """From one frame to the next [s]."""
        return 1 / self.plan.rate

    @property
    def vacuum(self) -> float:
        """Expected electrons of a pixel of vacuum in one frame."""
        return self.plan.vacuum

    def truth(self, frame: int) -> NDArray[Any]:
        """Columns of platinum in a frame, as `Movie.truth`, from pixel (0, 0) of the part."""
        columns = self.uncut.truth(frame)
        for axis in ("y", "x"):
            columns[axis] -= self.offset * self.pixel_size
        return columns


def shipped_movie(size: int | None = None) -> ShippedMovie:
    """Read the book's own movie: Pt on CeO2, made by chapter 03, with its truth.

    Parameters
    ----------
    size : int, optional
        Central rows and columns; by default all 256.

    Examples
    --------
    >>> movie = shipped_movie(64)
    >>> movie.counts.shape, movie.pixel_size, round(movie.vacuum, 3)
    ((128, 64, 64), 0.24, 0.461)
    """
    movie = load(fetch.shipped("pt_ceo2_movie.zarr"))
    plan = movie.plan
    size = plan.size if size is None else size
    within("size", size, 1, plan.size)
    offset = (plan.size - size) // 2
    part = np.s_[:, offset : offset + size, offset : offset + size]
    clean = movie.clean()[part] * plan.vacuum
    return ShippedMovie(movie.counts[part], clean, plan, movie.events, offset, movie)


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
