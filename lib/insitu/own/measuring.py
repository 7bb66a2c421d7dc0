"""A reader's movie, measured: its columns by name, the particle's turn, and what happened when."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from tqdm import tqdm

from insitu import InputError, checks
from insitu.counting.noise import as_counts
from insitu.files import Movie, ResultsFolder, open_movie, remove
from insitu.own.places import BLUE, ORANGE, marked
from insitu.own.reports import REPORT, write_report

if TYPE_CHECKING:  # torch is loaded when it is needed
    import torch

    from insitu.measure.events import Events
    from insitu.measure.following import Track

FEWEST = 5  # frames
COARSE = 0.5  # A; of wider pixels columns are not seen
THRESHOLD = 0.15  # of the median: least height of a blob
FALSE = 0.05  # share of the events that may be false
FILES = ("columns.csv", "events.csv", "frames.csv", "denoised.npy")
COLUMNS = (
    "frame",
    "time_s",
    "column",
    "y_angstrom",
    "x_angstrom",
    "probability_present",
    "surface",
)
FITTED = ("y_counts_angstrom", "x_counts_angstrom", "y_error_angstrom", "x_error_angstrom")
ELECTRONS = ("electrons", "electrons_error")
EVENTS = ("time_s", "earliest_s", "latest_s", "y_angstrom", "x_angstrom", "column", "kind")
PROBABILITY = ("probability",)
FRAMES = ("frame", "time_s", "columns", "turn_degrees", "turn_error_degrees")
STRAINS = ("strain_yy", "strain_yx", "strain_xy", "strain_xx")


def measure(
    path: str | Path,
    output: str | Path,
    *,
    denoised: str | Path = "",
    pixel_size: float = 0.0,
    frame_time: float = 0.0,
    frames: str = "",
    crop: str = "",
    sum_frames: int = 0,
    device: str | torch.device = "auto",
    progress: bool = True,
) -> dict[str, float]:
    """Name the columns of the largest crystal in a movie, follow them, and tell what happened.

    Columns are bright blobs of the denoised frames; the lattice names them; whether one is there
    is read from the counts, by a hidden Markov model. Writes, in units:

    - `columns.csv`, a row for each named site and frame: its place on the lattice, the probability
      that a column is there, whether that is of the surface, and what the counts of this frame
      alone say of its place and of its electrons, with standard errors; empty where nothing;
    - `events.csv`: what appeared or vanished, when, with a 90 % interval, and with what
      probability; as many as keep the share of false ones below 5 %, if the model is right;
    - `frames.csv`: the columns, the turn and the strain of the particle in each frame;
    - `denoised.npy`, if it was made here.

    Parameters
    ----------
    path : path
        A movie of counts, of pixels up to 0.5 A.
    output : path
        Folder of the results.
    denoised : path
        The same movie, denoised by any program [e-/px]; by default the network `restorer`, which
        ships and learned from simulated platinum on ceria, does it.
    pixel_size, frame_time : float
        [A], [s]; 0 takes what the file tells.
    frames, crop : str
        Part of both as first:last and as y0:y1,x0:x1; empty takes all.
    sum_frames : int
        How many frames of the file to sum into one.
    device : str or device
        Where to compute; auto takes a GPU if there is one.
    progress : bool
        Show bars.

    Returns
    -------
    dict
        The numbers of results.json.

    Raises
    ------
    InputError
        Before any work, if a file cannot be used; later, if no crystal is seen.
    """
    from insitu.learning.training import device_named
    from insitu.measure import events, states
    from insitu.measure.following import follow, lattice_sites
    from insitu.trust.columns import find_columns

    checks.within("movie_pixel_size", pixel_size, 0, 100, "A")
    checks.within("movie_frame_time", frame_time, 0, 1e6, "s")
    place, results = device_named(device), ResultsFolder(output)
    movie = open_movie(path, sum_frames=sum_frames)
    pixel = movie.pixel_size_or(pixel_size)
    if pixel > COARSE:
        raise InputError(
            f"movie_pixel_size: got {pixel:g} A; columns are seen in pixels up to {COARSE:g} A"
        )
    time = frame_time or movie.frame_time or 0.0
    if not time:
        raise InputError("movie_frame_time: the file does not tell it; give the time of a frame")
    part = movie.part(frames, crop)
    if len(part) < FEWEST:
        raise InputError(f"movie: {len(part)} frames; events need {FEWEST} or more")
    counts = as_counts(part)
    given = _given(denoised, movie, frames, crop) if denoised else None
    results.lock()
    try:
        for name in (*FILES, *REPORT):
            remove(results.path / name)  # of an earlier run
        shown = _restored(counts, pixel, place, progress) if given is None else given
        if given is None:
            results.write(FILES[3], lambda path: _save(path, shown))
        level = float(np.median(shown))
        if not level > 0:
            raise InputError("denoised: its median is not above 0; is it in electrons?")
        places = [
            find_columns(f / level, pixel, threshold=THRESHOLD, border=1.5).positions for f in shown
        ]
        track = follow(places)
        names, sites = lattice_sites(track, places, counts.shape[1:], pixel)
        if not len(names):
            raise InputError(
                "movie_crop: no site of the crystal stays inside of the image and away from "
                "other crystals; give a larger part"
            )
        told = states.evidence_at(counts, shown, sites, pixel)
        told[:, track.lost] = 0  # where the sites are is not known
        posterior = states.smoothed(told, states.learn_rates(told))
        called = [f"{h} {k}" for h, k in names]
        table = events.appearances(posterior, positions=sites[0], names=called, frame_time=time)
        table = table.where(events.claimed(table.probability, FALSE))
        present = posterior.present
        fit = _fitted(counts, sites, places, pixel, progress)
        head = COLUMNS + FITTED + ELECTRONS
        _write(results, FILES[0], head, _of_columns(track, names, sites, present, fit, time))
        _write(results, FILES[1], EVENTS + PROBABILITY, zip(*table, strict=True))
        _write(results, FILES[2], FRAMES + STRAINS, _of_frames(track, time))
        numbers = {
            "frames": len(counts),
            "pixel_size_angstrom": pixel,
            "frame_time_s": time,
            "frames_lost": int(track.lost.sum()),
            "columns_named": len(names),
            "columns_present_first": float(present[:, 0].sum()),
            "columns_present_last": float(present[:, -1].sum()),
            "events": len(table.time),
            "turn_degrees": float(np.ptp(track.angle[~track.lost])),
        }
        _report(results, movie.path.name, numbers, table, shown, sites / pixel, present)
    finally:
        results.unlock()
    return {name: float(value) for name, value in numbers.items()}


def _restored(
    counts: NDArray[Any], pixel_size: float, device: torch.device, progress: bool
) -> NDArray[Any]:
    from insitu.denoise.restorer import MovieRestorer
    from insitu.denoise.saved import load_denoiser

    restorer = load_denoiser("restorer", device=device)
    assert isinstance(restorer, MovieRestorer)
    return restorer(counts, pixel_size, progress=progress)


def _save(path: Path, array: NDArray[Any]) -> None:
    with path.open("wb") as file:  # a path alone would be given another ending
        np.save(file, array)


def _given(path: str | Path, movie: Movie, frames: str, crop: str) -> NDArray[Any]:
    answer = open_movie(path)
    if answer.shape != movie.shape:
        raise InputError(
            f"movie, denoised: their shapes differ, {movie.shape} and {answer.shape}; "
            "give the same frames of the same pixels"
        )
    shown = answer.part(frames, crop)
    checks.finite("denoised", shown)
    return np.asarray(shown, np.float64)


def _fitted(
    counts: NDArray[Any],
    sites: NDArray[np.float64],
    places: Sequence[NDArray[np.float64]],
    pixel_size: float,
    progress: bool,
) -> NDArray[np.float64]:
    """Place, its errors, electrons and their error by the counts of each frame (t, n, 6).

    What is seen beside the sites is fitted along; NaN where the counts tell nothing.
    """
    from insitu.measure.columns import fit_columns

    found = []
    bar = tqdm(counts, "fits", disable=not progress)
    for frame, at, seen in zip(bar, sites, places, strict=True):
        others = seen[cKDTree(at).query(seen)[0] > 1.0] if len(seen) else seen
        fit = fit_columns(frame, np.concatenate([at, others]), pixel_size, free=())
        parts = [fit.position[0], fit.position_error[0]]
        parts += [q[0][:, None] for q in (fit.intensity, fit.intensity_error)]
        found.append(np.where(fit.good[0][:, None], np.concatenate(parts, 1), np.nan)[: len(at)])
    return np.stack(found)


def _of_columns(
    track: Track,
    names: NDArray[np.int64],
    sites: NDArray[np.float64],
    present: NDArray[np.float64],
    fit: NDArray[np.float64],
    time: float,
) -> Iterable[Sequence[Any]]:
    from insitu.measure.facets import surface

    vectors = track.vectors[np.flatnonzero(~track.lost)[0]]
    for t, (at, now, values) in enumerate(zip(sites, present.T, fit, strict=True)):
        edge = np.zeros(len(names), bool)
        edge[now > 0.5] = surface(names[now > 0.5], vectors)
        for (h, k), place, p, rim, row in zip(names, at, now, edge, values, strict=True):
            yield (t, t * time, f"{h} {k}", *place, p, int(rim), *row)


def _of_frames(track: Track, time: float) -> Iterable[Sequence[Any]]:
    for t in range(len(track.lost)):
        columns = int((track.column[t] >= 0).sum())
        told = (track.angle[t], track.angle_error[t], *track.strain[t].ravel())
        yield (t, t * time, columns, *told)


def _write(
    results: ResultsFolder, name: str, head: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(head)
            for row in rows:
                table.writerow([_cell(value) for value in row])

    results.write(name, write)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}" if np.isfinite(value) else ""
    return value


def _report(
    results: ResultsFolder,
    name: str,
    numbers: dict[str, float],
    table: Events,
    shown: NDArray[Any],
    sites: NDArray[np.float64],
    present: NDArray[np.float64],
) -> None:
    first, last = (
        marked(shown[t], sites[t], np.where(present[:, t] > 0.5, BLUE, ORANGE)) for t in (0, -1)
    )
    order = np.lexsort((sites[0, :, 1], sites[0, :, 0]))
    raster = np.kron(present[order], np.ones((3, 3)))
    text = [
        f"{len(order)} sites of the largest crystal have a name, and {len(table.time)} times a "
        f"column appeared or vanished there. At most {FALSE:.0%} of these are expected to be "
        "false, if the denoised movie tells what a column and no column look like.",
        "Blue: a column is there; orange: none. Judge the denoised movie first: insitu judge.",
    ]
    rows = [dict(zip(EVENTS + PROBABILITY, row, strict=True)) for row in zip(*table, strict=True)]
    maps = {
        "the first frame, denoised": first,
        "the last frame, denoised": last,
        "present (bright) or absent, columns from the top downwards, time to the right": raster,
    }
    write_report(results, f"{name}, measured", numbers, text=text, table=rows, maps=maps)
