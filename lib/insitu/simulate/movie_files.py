"""The movie in files: zarr with all of its truth, and HyperSpy with calibrated axes."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from insitu import InputError, fetch
from insitu.checks import one_of, within
from insitu.files import whole
from insitu.simulate.movies import COLUMN_FIELDS, Plan, SimulatedMovie

SHIPPED = {
    "pt_ceo2_movie": Plan(),
    "pt_ceo2_movie_28": Plan(diameter=28.0, turn=-8.0, drift=0.2, seed=11),
    "pt_ceo2_movie_30": Plan(diameter=30.0, turn=12.0, drift=0.4, seed=12),
}  # movies in data/ of the same event, of three specimens, and what they are made from
PAIR = {"pt_ceo2_pair": Plan(scene="pair", frames=40, event=13)}  # of two small particles
_ARRAYS = ("counts", "exposures", "weights", "drift", "angles")


def save(movie: SimulatedMovie, path: Path | str) -> Path:
    """Write a movie with its truth as a zarr v3 group.

    Raises
    ------
    InputError
        If the path exists or cannot be written.
    """
    path = Path(path)
    if path.exists():
        raise InputError(f"{path} exists; choose another name, or remove it")
    arrays = {name: getattr(movie, name) for name in _ARRAYS}
    arrays |= {f"columns/{name}": movie.columns[name] for name, _ in COLUMN_FIELDS}
    packing = BloscCodec(cname="zstd", clevel=9, shuffle="bitshuffle")
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
    with whole(path) as unfinished:
        group = zarr.create_group(unfinished, attributes=json.loads(json.dumps(about)))
        for name, array in arrays.items():
            chunks = (min(64, len(array)), *array.shape[1:]) if name == "counts" else array.shape
            group.create_array(name, data=array, chunks=chunks, compressors=packing)
    return path


def load(path: Path | str) -> SimulatedMovie:
    """Read a movie that `save` wrote.

    Raises
    ------
    InputError
        If it is something else.
    """
    try:
        group: Any = zarr.open_group(path, mode="r")
        about = dict(group.attrs)
        given = about["plan"] | {"hops": tuple(tuple(h) for h in about["plan"]["hops"])}
        columns = np.zeros(group["columns/x"].shape, dtype=COLUMN_FIELDS)
        for name, _ in COLUMN_FIELDS:
            columns[name] = group[f"columns/{name}"][:]
        return SimulatedMovie(
            plan=Plan(**given),
            extent=float(about["extent_angstrom"]),
            columns=columns,
            events=list(about["events"]),
            **{name: group[name][:] for name in _ARRAYS},
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{path} is no movie of ours ({error})") from None


class ShippedMovie(NamedTuple):
    """The central part of a movie that ships with the book, and its truth."""

    counts: NDArray[np.uint8]  # (t, y, x) electrons
    clean: NDArray[np.float32]  # (t, y, x) expected electrons
    pixel_size: float  # [A]
    vacuum: float  # expected electrons of a pixel of vacuum in one frame
    offset: int  # first row and column of the part [pixels]
    plan: Plan
    events: list[dict[str, Any]]  # as in `SimulatedMovie`
    uncut: SimulatedMovie

    def truth(self, frame: int) -> NDArray[Any]:
        """Columns of platinum in a frame, as `SimulatedMovie.truth`, from the part's corner."""
        columns = self.uncut.truth(frame)
        for axis in ("y", "x"):
            columns[axis] -= self.offset * self.pixel_size
        return columns


def shipped_movie(size: int | None = None, *, name: str = "pt_ceo2_movie") -> ShippedMovie:
    """Read a movie that ships, with its truth: the book's own, which chapter 03 makes, or another.

    Parameters
    ----------
    size : int, optional
        Central rows and columns; by default all 256.
    name : str
        One of `SHIPPED`: particles of 32, 28 and 30 A that turn by 10, -8 and 12 degrees; or
        `pt_ceo2_pair`, two small particles.

    Examples
    --------
    >>> movie = shipped_movie(64)
    >>> movie.counts.shape, movie.pixel_size, round(movie.vacuum, 3)
    ((128, 64, 64), 0.24, 0.461)
    """
    movie = load(fetch.shipped(f"{one_of('name', name, SHIPPED | PAIR)}.zarr"))
    plan = movie.plan
    size = plan.size if size is None else size
    within("size", size, 1, plan.size)
    offset = (plan.size - size) // 2
    part = np.s_[:, offset : offset + size, offset : offset + size]
    counts, clean = movie.counts[part], movie.clean()[part] * plan.vacuum
    return ShippedMovie(
        counts, clean, plan.pixel_size, plan.vacuum, offset, plan, movie.events, movie
    )


def to_hyperspy(movie: SimulatedMovie) -> Any:
    """Return the counts as a HyperSpy signal with axes in seconds and angstrom."""
    import hyperspy.api as hs  # takes seconds

    plan = movie.plan
    scales = {"time": (1 / plan.rate, "s")}
    scales |= dict.fromkeys(("y", "x"), (plan.pixel_size, "\u00c5"))
    axes = [
        {"name": name, "scale": scale, "units": unit, "size": size, "navigate": name == "time"}
        for (name, (scale, unit)), size in zip(scales.items(), movie.counts.shape, strict=True)
    ]
    signal = hs.signals.Signal2D(movie.counts, axes=axes)
    signal.metadata.General.title = "simulated in situ movie of Pt on CeO2"
    signal.metadata.add_dictionary({"Simulation": {"plan": asdict(plan)}})
    return signal
