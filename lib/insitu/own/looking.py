"""What a reader's movie is, what may be done with it, and what has to be mended first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu import InputError, checks
from insitu.counting import noise
from insitu.counting.diagnosis import Finding
from insitu.files import Movie, ResultsFolder, open_movie, remove
from insitu.own import mending, values
from insitu.own.advice import Advice, advise
from insitu.own.reading import seen, spread
from insitu.own.reports import REPORT, write_report
from insitu.own.writing import write_movie

MOST = 32_000_000  # values that are looked at
SAMPLE = 256  # pixels across, of the middle of the frame, by which the noise is told
FILES = ("movie.tif", "drift.csv", "findings.json", "advice.json")


@dataclass(frozen=True)
class Looked:
    """A movie, looked at."""

    movie: Path  # what was made of it, for all that comes next
    kind: str  # of its values: counts, scaled (and counts again in `movie`), or grey
    frames: int  # that are not blank
    pixel_size: float  # [A], 0 if it is not known
    frame_time: float  # [s], 0 if it is not known
    findings: list[Finding]
    advice: list[Advice]

    def applies(self, method: str) -> bool:
        """Whether a method may be used: movie alone, simulation, judge, atoms or columns."""
        return next(a.applies for a in self.advice if a.method == method)

    def why(self, method: str) -> str:
        """Say why it may, or may not."""
        return next(a.why for a in self.advice if a.method == method)


def look(
    path: str | Path,
    output: str | Path,
    *,
    pixel_size: float = 0.0,
    frame_time: float = 0.0,
    frames: str = "",
    crop: str = "",
    sum_frames: int = 0,
) -> Looked:
    """Tell what a movie is, which methods apply to it and why, and mend what can be mended.

    Is it electrons, or grey levels; is its noise that of electrons, and independent in space and
    in time; what is the dose; are there blank frames, broken pixels, a drift. Writes `movie.tif`,
    for all that comes next: a gain is undone where that gives counts exactly, broken pixels have
    the value of their nearest neighbour, a drift of more than 2 pixels is undone by whole pixels,
    and what not all frames show is cut away. Blank frames stay, and are left out of all. And
    `drift.csv`, where a drift is told, `findings.json`, `advice.json`, `report.html`.

    Parameters
    ----------
    path : path
        A movie, or an image.
    output : path
        Folder of the results.
    pixel_size, frame_time : float
        [A], [s]; 0 takes what the file tells.
    frames, crop : str
        Part of the file as first:last and as y0:y1,x0:x1; empty takes all, but of movies above 32
        million values those frames in the middle that are fewer.
    sum_frames : int
        How many frames of the file to sum into one.

    Raises
    ------
    InputError
        If it cannot be read, or holds nothing.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> np.save(folder / "mine.npy", np.random.default_rng(0).poisson(0.8, (12, 48, 64)) * 32.0)
    >>> looked = look(folder / "mine.npy", folder / "out", pixel_size=0.2)
    >>> looked.kind, looked.applies("judge"), open_movie(looked.movie).part().max()
    ('scaled', True, np.uint8(7))
    """
    checks.within("movie_pixel_size", pixel_size, 0, 100, "A")
    checks.within("movie_frame_time", frame_time, 0, 1e6, "s")
    results = ResultsFolder(output)
    movie = open_movie(path, sum_frames=sum_frames)
    pixel, time = movie.pixel_size_if_known(pixel_size), frame_time or movie.frame_time or 0.0
    chosen, left_out = _affordable(movie, frames, crop)
    part = movie.part(chosen, crop)
    _refuse_nothing(movie.path.name, part)
    kept, text = seen(movie, part, chosen)
    broken, told = _mended(part[kept])
    drift, still = _placed(told.frames)
    noisy = _noise(still, told.kind, pixel)
    findings = [told.finding, *noisy, _blank(kept, text), broken, _drift(drift, pixel)]
    whole = spread(still, kept)
    count = int(kept.sum())
    advice = advise(told, findings, pixel, count)
    results.lock()
    try:
        for name in (*FILES, *REPORT):
            remove(results.path / name)  # of an earlier run
        stored = _small(whole)
        results.write(
            FILES[0],
            lambda file: write_movie(file, stored, "tif", pixel_size=pixel, frame_time=time),
        )
        if drift is not None:
            rows = np.column_stack([np.flatnonzero(kept), drift.shifts])
            results.write(
                FILES[1],
                lambda file: np.savetxt(
                    file, rows, "%.6g", ",", header="frame,y_px,x_px", comments=""
                ),
            )
        results.write_json(FILES[2], [f._asdict() | {"good": bool(f.good)} for f in findings])
        results.write_json(FILES[3], [a._asdict() for a in advice])
        numbers = {
            "frames": float(count),
            "rows": float(whole.shape[1]),
            "columns": float(whole.shape[2]),
            "mean": float(told.frames.mean(dtype=np.float64)),
        }
        if drift is not None:
            numbers |= {"drift_px": drift.length, "drift_error_px": drift.error}
        text += [*left_out, _size(part, pixel, time), *(a.in_words() for a in advice)]
        write_report(
            results,
            f"{movie.path.name}: what it is",
            numbers,
            text=text,
            table=[
                {"question": f.question, "answer": f.answer, "measured": f.measured}
                for f in findings
            ],
            maps={"a frame": whole[len(whole) // 2], "mean of all": whole[kept].mean(0)},
        )
    finally:
        results.unlock()
    return Looked(results.path / FILES[0], told.kind, count, pixel, time, findings, advice)


def _affordable(movie: Movie, frames: str, crop: str) -> tuple[str, list[str]]:
    """Frames in the middle of those that were asked for, if all are too many."""
    asked = checks.span("movie_frames", frames, movie.shape[0])
    rows, columns = checks.box("movie_crop", crop, movie.shape[1:]) or (
        slice(0, movie.shape[1]),
        slice(0, movie.shape[2]),
    )
    size = (rows.stop - rows.start) * (columns.stop - columns.start)
    count = asked.stop - asked.start
    most = max(1, MOST // size)
    if count <= most:
        return frames, []
    first = asked.start + (count - most) // 2
    words = (
        f"Of {count} frames {most} in the middle were looked at, from number {first} on: give "
        "frames or a crop for others, or insitu.streaming for all."
    )
    return f"{first}:{first + most}", [words]


def _refuse_nothing(name: str, part: NDArray[Any]) -> None:
    if min(part.shape[1:]) < 16:
        raise InputError(f"movie: frames of {part.shape[1:]} are too small, 16 x 16 is the least")
    finite = part[np.isfinite(part)]
    if not finite.size:
        raise InputError(f"movie: {name} holds no number, NaN and infinite values alone")
    if finite.min() == finite.max():
        raise InputError(f"movie: every value of {name} is {finite.min():g}; nothing was recorded")


def _blank(kept: NDArray[np.bool_], text: Sequence[str]) -> Finding:
    """What is said of blank frames; it is what `seen` said last."""
    count = int((~kept).sum())
    answer = text[-1] if count else "None."
    return Finding("Are there blank frames?", answer, f"{count} of {len(kept)}", "none", not count)


def _mended(frames: NDArray[Any]) -> tuple[Finding, values.Values]:
    """What is said of broken pixels, and the values without them, where these are few."""
    question, limit = "Are there broken pixels?", f"at most {mending.MOST:.0%}"
    first = mending.broken_pixels(frames)
    nowhere = np.zeros(frames.shape[1:], bool)
    if first.spikes.mean() > mending.MOST:
        checks.finite("movie", frames)
    # what was hit once may hide a gain; what is always broken is told better without one
    hit = first._replace(hot=nowhere, dead=nowhere)
    told = values.values_of(mending.mended(frames, hit))
    broken = mending.broken_pixels(told.frames)
    broken = broken._replace(spikes=broken.spikes | first.spikes)
    if told.kind == "grey":  # as one hot pixel makes them look
        again = values.values_of(mending.mended(told.frames, broken))
        told = again if again.kind != "grey" else told
    words, share = broken.in_words(), max(broken.share, float(broken.spikes.mean()))
    if share > mending.MOST:
        answer = f"Too many to be an accident: {words}. Crop them away."
        return Finding(question, answer, f"{share:.2%} of all", limit, False), told
    if not words:
        return Finding(question, "None that stands out.", "0 of all", limit, True), told
    answer = f"Yes: {words}. They have values of their neighbours; believe nothing there."
    filled = told._replace(frames=mending.mended(told.frames, broken))
    return Finding(question, answer, f"{share:.2%} of all", limit, True), filled


def _placed(frames: NDArray[Any]) -> tuple[mending.Drift | None, NDArray[Any]]:
    """The drift, and frames in which it is undone, if it is one."""
    drift = mending.drift_of(frames)
    if drift is None or not (drift.sure and drift.length > mending.SHIFTED):
        return drift, frames
    return drift, mending.undrifted(frames, drift)


def _noise(frames: NDArray[Any], kind: str, pixel_size: float) -> list[Finding]:
    """What the noise of the middle of the movie is like."""
    from insitu.counting.diagnosis import diagnose

    if len(frames) < 2:
        return []
    sides = zip(frames.shape, (64, SAMPLE, SAMPLE), strict=True)
    middle = frames[tuple(slice(max(0, n - k) // 2, (n + k) // 2) for n, k in sides)]
    if kind == "grey" or not middle.any():
        return values.whiteness(middle)
    mean = noise.leave_one_out_mean(middle)
    return diagnose(middle, mean, pixel_size=pixel_size or None)[1:]


def _drift(drift: mending.Drift | None, pixel_size: float) -> Finding:
    question, limit = "Does it drift?", f"at most {mending.SHIFTED:g} px"
    if drift is None:
        return Finding(question, "Cannot be told from so few frames.", "nothing", limit, True)
    measured = f"{drift.length:.1f} px, known to {drift.error:.1f} px"
    if not drift.sure:
        return Finding(question, "Not by more than can be told.", measured, limit, True)
    far = f", {drift.length * pixel_size:.1f} A" if pixel_size else ""
    if drift.length <= mending.SHIFTED:
        return Finding(question, f"Hardly: {drift.length:.1f} px{far}.", measured, limit, True)
    answer = (
        f"Yes: {drift.length:.1f} px{far}. It is undone by whole pixels, and what not all frames "
        "show is cut away."
    )
    return Finding(question, answer, measured, limit, True)


def _small(movie: NDArray[Any]) -> NDArray[Any]:
    """Counts in few bytes, anything else as float32."""
    if movie.dtype.kind in "iu" and movie.min() >= 0:
        for kind in (np.uint8, np.uint16):
            if movie.max() <= np.iinfo(kind).max:
                return movie.astype(kind)
    return movie.astype(np.float32)


def _size(part: NDArray[Any], pixel_size: float, frame_time: float) -> str:
    words = "{} frames of {} x {} pixels".format(*part.shape)
    unknown = [
        name
        for name, value in (("a pixel's size", pixel_size), ("a frame's time", frame_time))
        if not value
    ]
    words += (f" of {pixel_size:.4g} A" if pixel_size else "") + (
        f", {frame_time:.4g} s each" if frame_time else ""
    )
    return f"{words}{'; not known: ' if unknown else ''}{' and '.join(unknown)}."
