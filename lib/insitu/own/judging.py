"""A reader's denoised movie, judged by its raw counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from insitu import InputError, checks
from insitu.counting import noise
from insitu.files import Movie, ResultsFolder, open_movie, remove
from insitu.own import places
from insitu.own.reading import seen
from insitu.own.reports import REPORT, write_report
from insitu.trust.lines import Line
from insitu.trust.report import examine

if TYPE_CHECKING:
    from insitu.counting.categorical import Categorical

FANO_TOLERANCE = 0.02  # a Fano factor this near to 1 counts as Poisson's, as in chapter 02
COARSE = 0.5  # A; of wider pixels a disc of one column holds too few
FITTED = 0.02  # relative standard error of the variance of a detector that was fitted
FILES = ("card.json", "candidates.csv", "likelihood_map.png", "columns.csv", "columns.png")
MAPS = ("z.npy", "z_column.npy")


def judge(
    raw: str | Path,
    denoised: str | Path,
    output: str | Path,
    *,
    pixel_size: float = 0.0,
    frame_time: float = 0.0,
    frames: str = "",
    crop: str = "",
    sum_frames: int = 0,
    evidence: str | Path = "",
    vacuum: str = "",
    device: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> list[Line]:
    """Judge a denoised movie, of whatever program, by its raw counts.

    Writes `card.json` (the lines that are returned), `z.npy` (the difference of the averages, in
    standard deviations of counting) and, where the pixel size is known and at most 0.5 A:

    - `z_column.npy`, the same at the scale of a column;
    - `columns.csv` and `columns.png`, every column of either average, the slope of the counts on
      the denoised movie in its disc, and the contrast that was kept;
    - `candidates.csv` and `likelihood_map.png`, every atom that the denoised average shows, bright
      or dark, and what the counts say of it. That is a score only, unless there is evidence:
      electrons that chose a place give no p-value for it.

    Parameters
    ----------
    raw, denoised : path
        Movies or images of one shape, of counts and of expected counts [e-/px].
    output : path
        Folder of the results.
    pixel_size, frame_time : float
        [A], [s]; 0 takes what the file tells. With the first the card is by region.
    frames, crop : str
        Part of both as first:last and as y0:y1,x0:x1; empty takes all.
    sum_frames : int
        How many frames of the counts to sum into one; 0 takes them as they are.
    evidence : path
        Counts of other frames of the same place, which the denoiser has not seen; all are taken.
    vacuum : str
        A box y0:y1,x0:x1 of the whole frame without specimen; else the flattest square, and on
        the card what is far from every column.
    device : str
        One of auto, cpu, cuda; no network runs here.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of Line
        The card, see `insitu.trust.report.report`.

    Raises
    ------
    InputError
        Before any work, if a file cannot be used, or the files do not belong together.
    """
    if not raw:
        raise InputError("movie: give the movie of counts, against which the other is held")
    if not denoised:
        raise InputError("denoised: give the same movie, denoised, too")
    checks.within("movie_pixel_size", pixel_size, 0, 100, "A")
    checks.within("movie_frame_time", frame_time, 0, 1e6, "s")
    checks.one_of("device", device, ("auto", "cpu", "cuda"))
    results = ResultsFolder(output)
    movie, answer = open_movie(raw, sum_frames=sum_frames), open_movie(denoised)
    if movie.shape != answer.shape:
        raise InputError(
            f"movie, denoised: their shapes differ, {movie.shape} and {answer.shape}; "
            "give the same frames of the same pixels"
        )
    counts, shown = _counts(movie, frames, crop), answer.part(frames, crop)
    checks.finite("denoised", shown)
    kept, notes = seen(movie, counts, frames)
    counts, shown = counts[kept], shown[kept]
    size = movie.pixel_size_if_known(pixel_size)
    if evidence or vacuum:
        size = movie.pixel_size_or(pixel_size)
    others = _evidence(evidence, movie, counts, crop) if evidence else None
    fine = 0 < size <= COARSE
    box = given = movie.vacuum(vacuum, crop)
    if fine:
        box = box or noise.flattest_box(counts)
    if box is not None:
        _refuse_dark({"movie": counts, "evidence": others}, shown, box)
    results.lock()
    try:
        for name in (*FILES, *MAPS, *REPORT):
            remove(results.path / name)  # of an earlier run
        with tqdm(total=2, desc="judge", disable=not progress) as bar:
            detector = _detector(counts)
            examined = examine(
                counts,
                shown,
                pixel_size=size if fine else 0.0,
                vacuum=_mask(given, counts.shape[1:]),
                detector=detector,
                detector_error=0.0 if detector is None else FITTED,
                seed=seed,
            )
            card, z = examined.lines, examined.z
            results.write_json("card.json", [asdict(line) for line in card])
            results.write(MAPS[0], lambda path: np.save(path, z.astype(np.float32)))
            bar.update()
            numbers = {_name(line): line.value for line in card if line.value is not None}
            numbers["frames"] = len(counts)
            text = [
                *notes,
                _of_the_dose(counts, size, frame_time or movie.frame_time or 0.0),
                "The card takes the detector for Poisson's."
                if detector is None
                else f"The counts are not Poisson's; the card takes the detector that fits them, "
                f"{detector}.",
            ]
            maps = {"z: denoised minus raw average, in standard deviations of counting": z}
            if fine and box is not None:
                crops = checks.box("movie_crop", crop, movie.shape[1:])
                corner = [part.start for part in crops] if crops else [0, 0]
                text += [_box_in_words(vacuum, box, corner)]
                words, found, drawn = places.write_columns(results, examined, size, corner)
                text, numbers = [*text, words], numbers | found
                z_column = examined.columns.z
                results.write(MAPS[1], lambda path: np.save(path, z_column.astype(np.float32)))
                maps["z at the scale of a column"] = z_column
                maps["columns: blue where the counts follow the denoised movie"] = drawn
                words, found, drawn = places.write_candidates(
                    results, examined, others, detector, size, box, corner
                )
                text, numbers = [*text, words], numbers | found
                maps["atoms of the denoised average: blue where the counts agree"] = drawn
            else:
                why = "are too coarse for it" if size else "have no known size"
                text += [f"Single atoms were not tested: the pixels {why}."]
            bar.update()
        pictures = {"raw, mean": counts.mean(0), "denoised, mean": shown.mean(0)}
        write_report(
            results,
            f"{movie.path.name}, denoised: {answer.path.name}",
            numbers,
            text=text,
            table=[_row(line) for line in card],
            pictures=pictures,
            maps=maps,
        )
    finally:
        results.unlock()
    return card


def _counts(movie: Movie, frames: str, crop: str) -> NDArray[np.int32]:
    """A part of a movie, or an image as a movie of one frame, if it holds counts."""
    part = movie.part(frames, crop)
    if len(part) > 1:
        return noise.as_counts(part)
    return noise.as_counts(np.repeat(part, 2, axis=0))[:1]  # which alone would be refused


def _detector(counts: NDArray[np.int32]) -> Categorical | None:
    """The detector that fits counts whose variance is not their mean; else None, for Poisson's."""
    if len(counts) < 2 or np.count_nonzero(np.bincount(counts.ravel()) >= 50) < 3:
        return None
    histogram = noise.histogram_by_mean(counts, noise.leave_one_out_mean(counts))
    mean, variance = noise.histogram_moments(histogram)
    if abs(float(np.median(variance / mean)) - 1) <= FANO_TOLERANCE:
        return None
    from insitu.counting.categorical import Categorical  # which loads torch

    return Categorical.fit(counts)


def _mask(box: tuple[slice, slice] | None, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """The pixels of a box."""
    if box is None:
        return None
    mask = np.zeros(shape, bool)
    mask[box] = True
    return mask


def _name(line: Line) -> str:
    return line.line if line.region == "all" else f"{line.line}_{line.region}"


def _row(line: Line) -> dict[str, Any]:
    """A line of the card for people."""
    allowed = [_bound(value) for value in (line.low, line.high)]
    return {
        "line": line.line,
        "region": line.region,
        "verdict": line.verdict,
        "in words": line.words,
        "value": line.value,
        "error": line.error,
        "allowed": " to ".join(allowed),
    }


def _bound(value: float | None) -> str:
    return "any" if value is None else f"{value:.4g}"


def _evidence(
    path: str | Path, movie: Movie, counts: NDArray[np.int32], crop: str
) -> NDArray[np.int32]:
    other = open_movie(path)
    if other.shape[1:] != movie.shape[1:]:
        raise InputError(
            f"evidence: its frames have {other.shape[1]} x {other.shape[2]} pixels, those of the "
            f"movie {movie.shape[1]} x {movie.shape[2]}; give other frames of the same place"
        )
    others = _counts(other, "", crop)
    others = others[seen(other, others).kept]
    if other.path.resolve() == movie.path.resolve() or np.array_equal(others, counts):
        raise InputError(
            f"evidence: {other.path.name} is the movie itself; electrons that chose a place give "
            "no p-value for it: give frames that the denoiser has not seen, or none"
        )
    return others


def _refuse_dark(
    movies: Mapping[str, NDArray[Any] | None], denoised: NDArray[Any], box: tuple[slice, slice]
) -> None:
    where = f"rows {box[0].start} to {box[0].stop}, columns {box[1].start} to {box[1].stop}"
    for name, counts in movies.items():
        if counts is not None and not counts[:, *box].any():
            raise InputError(
                f"movie_vacuum: no electron of {name} was counted in {where}; give a box of empty "
                "space that the beam reaches"
            )
    if not np.median(denoised.mean(0)[box]) > 0:
        raise InputError(
            f"denoised: in vacuum, {where}, its average is not above 0; is it in electrons?"
        )


def _of_the_dose(counts: NDArray[Any], pixel_size: float, frame_time: float) -> str:
    mean = float(counts.mean())
    words = f"{len(counts)} frames of {mean:.4g} electrons per pixel"
    if pixel_size:
        words += f", {mean / pixel_size**2:.4g} e-/A^2"
        if frame_time:
            words += f", {mean / pixel_size**2 / frame_time:.4g} e-/(A^2 s)"
    return f"{words}."


def _box_in_words(given: str, box: tuple[slice, slice], corner: Sequence[int]) -> str:
    (top, bottom), (left, right) = (
        (part.start + first, part.stop + first) for part, first in zip(box, corner, strict=True)
    )
    origin = "as given" if given else "the flattest square; is it empty?"
    return f"Vacuum is the box {top}:{bottom},{left}:{right} ({origin})."
