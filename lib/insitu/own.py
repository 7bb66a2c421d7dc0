"""What the book does, done to a file of your own: called by the commands and by the chapters.

`denoise`, `judge` and `reconstruct` check everything before any work, show progress, go on where
an earlier run was killed, and write into a folder that is locked meanwhile: `results.json`, numbers
by name, `report.html`, one file that opens offline, and what each names.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw
from tqdm.auto import tqdm

from insitu import InputError, checks
from insitu.counting import noise
from insitu.files import Movie, ResultsFolder, open_movie, remove
from insitu.trust import averaging, columns
from insitu.trust.report import Line, report

if TYPE_CHECKING:
    import torch

    from insitu.denoise.movies import MovieDenoiser
    from insitu.denoise.unsupervised import MovieSettings

COARSE = 0.5  # A; of wider pixels a disc of one column holds too few
INNOVATION = 0.5  # part of each frame's surprise that with_innovation.tif shows

_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{border:1px solid #aaa;padding:.2em .6em;text-align:left}"
    "figure{display:inline-block;margin:.5em}img{max-width:100%;image-rendering:pixelated}"
)


def denoise(
    path: str | Path,
    output: str | Path,
    *,
    pixel_size: float = 0.0,
    frame_time: float = 0.0,
    frames: str = "",
    crop: str = "",
    with_simulation: bool = False,
    steps: int = 300,
    device: str | torch.device = "auto",
    seed: int = 0,
    progress: bool = True,
) -> dict[str, float]:
    """Denoise a movie by a network that learns from it alone, or by one that ships.

    Writes `denoised.tif` (electrons, float32, of the shape of what was read). A network that
    learned from the movie is kept as `denoiser.safetensors`; beside the movie lie then
    `deviation.tif`, the usual error of each pixel, where 22 frames or more tell it, and for
    pixels up to 0.3 A `with_innovation.tif`, in which brief changes are shown, and all noise that
    looks like them.

    Parameters
    ----------
    path : path
        A movie of counts; with a network that ships also an image.
    output : path
        Folder of the results. A run that was killed goes on there.
    pixel_size, frame_time : float
        [A], [s]; 0 takes what the file tells.
    frames, crop : str
        Part of the file as first:last and as y0:y1,x0:x1; empty takes all.
    with_simulation : bool
        Take the network that ships, which learned from simulations, for each frame by itself.
    steps : int
        Of the training.
    device : str or device
        Where to compute; auto takes a GPU if there is one.
    seed : int
        Of the training.
    progress : bool
        Show bars.

    Returns
    -------
    dict
        The numbers of results.json.

    Raises
    ------
    InputError
        Before any work, if the file cannot be denoised.
    """
    # torch is loaded for those who denoise alone
    from insitu.denoise.saved import load_denoiser
    from insitu.denoise.supervised import as_images
    from insitu.denoise.unsupervised import MovieSettings, examine

    checks.within("movie_pixel_size", pixel_size, 0, 100, "A")
    checks.within("movie_frame_time", frame_time, 0, 1e6, "s")
    checks.within("movie_steps", steps, 1, 1_000_000)
    place = _device(device)
    results = ResultsFolder(output)
    movie = open_movie(path)
    pixel = movie.pixel_size_or(pixel_size)
    counts = as_images(movie.part(frames, crop)) if with_simulation else movie.part(frames, crop)
    if not with_simulation:
        if len(counts) < 2:
            raise InputError(
                f"movie: {movie.path.name} is a single image, which cannot tell its noise from its "
                "specimen; take --with-simulation, a network that learned from simulated images"
            )
        examine(counts, pixel)
    results.lock()
    try:
        for name in ("denoised.tif", "deviation.tif", "with_innovation.tif"):
            remove(results.path / name)  # of an earlier run
        numbers = {
            "frames": len(counts),
            "pixel_size_angstrom": pixel,
            "mean_electrons": float(counts.mean(dtype=np.float64)),
        }
        scale = {"pixel_size": pixel, "frame_time": frame_time or movie.frame_time or 0.0}
        if with_simulation:
            text = []
            ours = load_denoiser("pt_ceo2", device=place)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                denoised = ours(counts, pixel, progress=progress)
            for told in said:
                warnings.warn(str(told.message), stacklevel=2)
                text.append(f"Beware. {told.message}.")
        else:
            settings = MovieSettings(steps=steps, validate_every=max(1, steps // 8))
            own, best = _learned(counts, pixel, settings, results, place, seed, progress)
            numbers |= {"steps": steps, "best_step": best}
            denoised = own(counts, pixel, progress=progress)
            text, more = _beside(own, counts, denoised, scale, results)
            numbers |= more
            if best == steps:
                text.append("It was still learning: give more steps.")
        _write_tif(results, "denoised.tif", denoised, **scale)
        numbers["mean_denoised_electrons"] = float(denoised.mean(dtype=np.float64))
        middle = len(counts) // 2
        few = slice(max(0, middle - 8), middle + 8)
        pictures = {
            f"counts, mean of {len(counts[few])} frames": counts[few].mean(0),
            f"counts, frame {middle}": np.minimum(counts[middle], 4 * counts.mean() + 1),
            f"denoised, frame {middle}": denoised[middle],
        }
        title = f"{movie.path.name}, denoised"
        _finish(results, title, numbers, text=text, pictures=pictures)
    finally:
        results.unlock()
    return {name: float(value) for name, value in numbers.items()}


def _device(name: str | torch.device) -> torch.device:
    import torch

    if isinstance(name, torch.device):
        return name
    checks.one_of("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: got 'cuda', but torch finds no GPU here; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _learned(
    counts: NDArray[Any],
    pixel_size: float,
    settings: MovieSettings,
    results: ResultsFolder,
    device: torch.device,
    seed: int,
    progress: bool,
) -> tuple[MovieDenoiser, int]:
    """What learned from the counts, and its best step; an earlier run's, if it is the same one."""
    from insitu.denoise.movies import MovieDenoiser
    from insitu.denoise.saved import load_denoiser
    from insitu.denoise.unsupervised import learn_movie
    from insitu.learning import checkpoints

    path = results.path / "denoiser.safetensors"
    digest = hashlib.sha256(np.ascontiguousarray(counts).tobytes()).hexdigest()
    origin = {"movie": digest, "pixel_size": pixel_size, "seed": seed}
    same = {**origin, "settings": asdict(settings)}
    record = checkpoints.load(path)[1] if path.is_file() else {}
    if {key: record.get(key) for key in same} != same:
        made, result = learn_movie(
            counts,
            pixel_size,
            settings,
            seed=seed,
            checkpoint=results.path / "training.safetensors",
            device=device,
            progress=progress,
        )
        made.save(path, result, **origin)
        record = checkpoints.load(path)[1]
    denoiser = load_denoiser(path, device=device)
    assert isinstance(denoiser, MovieDenoiser)
    return denoiser, int(record["best_step"])


def _beside(
    denoiser: MovieDenoiser,
    counts: NDArray[Any],
    denoised: NDArray[np.float32],
    scale: Mapping[str, float],
    results: ResultsFolder,
) -> tuple[list[str], dict[str, float]]:
    """Write deviation.tif and with_innovation.tif, where they can be told; words and numbers."""
    from insitu.denoise import residuals
    from insitu.denoise.binning import binning

    shown, pixel = denoiser.surroundings, scale["pixel_size"]
    looks = "looks" if shown.own else "does not look"
    text = [
        f"The network is blind to {shown.blind} x {shown.blind} pixels, and {looks} at the other "
        "counts of the frame itself."
    ]
    numbers = {}
    every = range(len(counts))
    guess, width = denoiser.first_guess(counts, pixel, every), 2.0 * binning(pixel)
    try:
        found = residuals.error_scale(counts, denoised, guess, every, width=width)
    except InputError as reason:
        text.append(f"There is no deviation.tif. {reason}.")
    else:
        deviation = residuals.deviation(denoised, guess, found, width=width)
        _write_tif(results, "deviation.tif", deviation, **scale)
        numbers["mean_deviation_electrons"] = float(deviation.mean(dtype=np.float64))
    if pixel > residuals.NARROW:
        text.append("There is no with_innovation.tif: pixels above 0.3 A do not show columns.")
    else:
        prompt = residuals.with_innovation(counts, denoised, pixel_size=pixel, gain=INNOVATION)
        _write_tif(results, "with_innovation.tif", prompt, **scale)
    return text, numbers


def _write_tif(
    results: ResultsFolder,
    name: str,
    movie: NDArray[np.float32],
    *,
    pixel_size: float,
    frame_time: float,
) -> None:
    """Write a movie, or an image, as ImageJ reads it, with its pixel size and frame time."""
    images = movie if len(movie) > 1 else movie[0]
    metadata: dict[str, Any] = {"axes": "TYX"[-images.ndim :], "unit": "nm"}
    if frame_time:
        metadata |= {"finterval": frame_time, "tunit": "s"}
    results.write(
        name,
        lambda path: tifffile.imwrite(
            path, images, imagej=True, resolution=(10 / pixel_size,) * 2, metadata=metadata
        ),
    )


def judge(
    raw: str | Path,
    denoised: str | Path,
    output: str | Path,
    *,
    pixel_size: float = 0.0,
    frame_time: float = 0.0,
    frames: str = "",
    crop: str = "",
    evidence: str | Path = "",
    vacuum: str = "",
    device: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> list[Line]:
    """Judge a denoised movie, of whatever program, by its raw counts.

    Writes `card.json` (the lines that are returned), `z.npy` (the difference of the averages, in
    standard deviations of counting) and, where the pixel size is known, `candidates.csv` and
    `likelihood_map.png`: every atom that the denoised average shows, and what the counts say of
    it. That is a score only, unless there is evidence: electrons that chose a place give no
    p-value for it.

    Parameters
    ----------
    raw, denoised : path
        Movies or images of one shape, of counts and of expected counts [e-/px].
    output : path
        Folder of the results.
    pixel_size, frame_time : float
        [A], [s]; 0 takes what the file tells.
    frames, crop : str
        Part of both as first:last and as y0:y1,x0:x1; empty takes all.
    evidence : path
        Counts of other frames of the same place, which the denoiser has not seen; all are taken.
    vacuum : str
        A box y0:y1,x0:x1 of the whole frame without specimen; else the flattest square.
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
    movie, answer = open_movie(raw), open_movie(denoised)
    if movie.shape != answer.shape:
        raise InputError(
            f"movie, denoised: their shapes differ, {movie.shape} and {answer.shape}; "
            "give the same frames of the same pixels"
        )
    counts, shown = _counts(movie, frames, crop), answer.part(frames, crop)
    checks.finite("denoised", shown)
    size = pixel_size or movie.pixel_size or 0.0
    if evidence or vacuum:
        size = movie.pixel_size_or(pixel_size)
    others = _evidence(evidence, movie, counts, crop) if evidence else None
    box = movie.vacuum(vacuum, crop)
    if 0 < size <= COARSE:
        box = box or noise.flattest_box(counts)
    if box is not None:
        _refuse_dark({"movie": counts, "evidence": others}, shown, box)
    results.lock()
    try:
        for name in ("card.json", "candidates.csv", "likelihood_map.png", "z.npy"):
            remove(results.path / name)  # of an earlier run
        with tqdm(total=2, desc="judge", disable=not progress) as bar:
            card = report(counts, shown, seed=seed)
            z = averaging.agreement(counts, shown).z
            results.write_json("card.json", [asdict(line) for line in card])
            results.write("z.npy", lambda path: np.save(path, z.astype(np.float32)))
            bar.update()
            numbers = {line.line: line.value for line in card if line.value is not None}
            numbers["frames"] = len(counts)
            text = [_of_the_dose(counts, size, frame_time or movie.frame_time or 0.0)]
            maps = {"z: denoised minus raw average, in standard deviations of counting": z}
            if box is not None and size <= COARSE:
                crops = checks.box("movie_crop", crop, movie.shape[1:])
                corner = [part.start for part in crops] if crops else [0, 0]
                text += [_box_in_words(vacuum, box, corner)]
                words, found, drawn = _candidates(
                    results, counts, others, shown.mean(0), size, box, corner
                )
                text, numbers = [*text, words], numbers | found
                maps["atoms of the denoised average: blue where the counts agree"] = drawn
            else:
                why = "are too coarse for it" if size else "have no known size"
                text += [f"Single atoms were not tested: the pixels {why}."]
            bar.update()
        pictures = {"raw, mean": counts.mean(0), "denoised, mean": shown.mean(0)}
        _finish(
            results,
            f"{movie.path.name}, denoised: {answer.path.name}",
            numbers,
            text=text,
            table=[asdict(line) for line in card],
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
    return f"{words}. The card takes the detector for Poisson's; `insitu run 02` measures it."


def _box_in_words(given: str, box: tuple[slice, slice], corner: Sequence[int]) -> str:
    (top, bottom), (left, right) = (
        (part.start + first, part.stop + first) for part, first in zip(box, corner, strict=True)
    )
    origin = "as given" if given else "the flattest square; is it empty?"
    return f"Vacuum is the box {top}:{bottom},{left}:{right} ({origin})."


def _candidates(
    results: ResultsFolder,
    counts: NDArray[np.int32],
    evidence: NDArray[np.int32] | None,
    picture: NDArray[Any],
    pixel_size: float,
    vacuum: tuple[slice, slice],
    corner: Sequence[int],
) -> tuple[str, dict[str, float], NDArray[Any]]:
    """Test the atoms of a picture, and write them: in words, in numbers, and as a map."""
    # which load torch
    from insitu.counting.categorical import Categorical
    from insitu.counting.poisson import Poisson
    from insitu.trust import likelihood

    electrons = counts if evidence is None else evidence
    enough = len(counts) > 1 and np.count_nonzero(np.bincount(counts.ravel()) >= 50) > 2
    detector = Categorical.fit(counts) if enough else Poisson()
    found = columns.find_columns(
        picture / np.median(picture[vacuum]), pixel_size, threshold=0.15, border=likelihood.EDGE
    )
    where = found.positions / pixel_size
    good, test = likelihood.supported(electrons, picture, where, pixel_size, vacuum, detector)
    table: dict[str, NDArray[Any]] = {
        "y_angstrom": found.positions[:, 0] + corner[0] * pixel_size,
        "x_angstrom": found.positions[:, 1] + corner[1] * pixel_size,
        "electrons": test.electrons,
        "expected_without": test.expected,
        "log_ratio_nat": test.ratio,
    }
    numbers = {"candidates": float(len(where))}
    if evidence is None:
        good = test.ratio > 0
        numbers["candidates_likelier"] = float(good.sum())
        words = (
            f"{len(where)} atoms are seen in the denoised average, and for {good.sum()} of them "
            "the counts are likelier with the atom. That is a score only: the same electrons "
            "chose the places, so it has no p-value. Give other frames of the same place as "
            "evidence."
        )
    else:
        table |= {"p_value": test.p_value, "supported": good}
        numbers["candidates_supported"] = float(good.sum())
        words = (
            f"{len(where)} atoms are seen in the denoised average; {len(electrons)} other frames "
            f"support {good.sum()} of them, of which at most 5 % are expected to be false."
        )
    rows, header = np.column_stack(list(table.values())), ",".join(table)
    results.write(
        "candidates.csv",
        lambda path: np.savetxt(path, rows, "%.6g", ",", header=header, comments=""),
    )
    drawn = _marked(picture, where, good)
    results.write("likelihood_map.png", lambda path: Image.fromarray(drawn).save(path, "PNG"))
    return words, numbers, drawn


def _marked(picture: NDArray[Any], positions: NDArray[Any], good: NDArray[Any]) -> NDArray[Any]:
    """The picture, enlarged, with a ring on each position: blue where it is good, else orange."""
    zoom = max(1, round(480 / max(picture.shape)))
    low, high = np.percentile(picture, (0, 99.5))
    grey = (np.clip((picture - low) / max(high - low, 1e-12), 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(np.kron(grey, np.ones((zoom, zoom), np.uint8))).convert("RGB")
    draw = ImageDraw.Draw(image)
    for (y, x), yes in zip((positions + 0.5) * zoom, good, strict=True):
        colour = "#56B4E9" if yes else "#E69F00"
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), outline=colour, width=2)
    return np.asarray(image)


def _finish(
    results: ResultsFolder,
    title: str,
    numbers: Mapping[str, float],
    *,
    text: Sequence[str] = (),
    table: Sequence[Mapping[str, Any]] = (),
    pictures: Mapping[str, ArrayLike] | None = None,
    maps: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Write results.json and report.html.

    Parameters
    ----------
    results : ResultsFolder
        Locked by this run.
    title : str
        Of the report.
    numbers : mapping
        Finite numbers by name, with a unit in the name.
    text : sequence of str
        Paragraphs.
    table : sequence of mappings
        Rows with the same keys.
    pictures : mapping
        Caption and (y, x) array; all have the same grey levels.
    maps : mapping
        Others, each with grey levels of its own, or (y, x, 3) of colours.
    """
    bad = [key for key, value in numbers.items() if not math.isfinite(value)]
    if bad:
        raise ValueError(f"results that are no finite numbers: {', '.join(bad)}")
    results.write_json("results.json", {key: float(value) for key, value in numbers.items()})
    parts = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(t)}</p>" for t in text)]
    for group in (pictures or {}, *({caption: image} for caption, image in (maps or {}).items())):
        parts += _pictures(group)
    parts.append(_table(table))
    parts.append(_table([{"number": k, "value": f"{v:.6g}"} for k, v in numbers.items()]))
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<body>{''.join(parts)}</body></html>"
    )
    results.write("report.html", lambda path: path.write_text(page, "utf-8"))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(str(key))}</th>" for key in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _pictures(pictures: Mapping[str, ArrayLike]) -> list[str]:
    arrays = {caption: np.asarray(image, float) for caption, image in pictures.items()}
    if not arrays:
        return []
    values = np.concatenate([a.ravel() for a in arrays.values()])
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    drawn = []
    for caption, image in arrays.items():
        coloured = image.ndim == 3
        grey = image if coloured else np.clip((image - low) / max(high - low, 1e-12), 0, 1) * 255
        stream = io.BytesIO()
        Image.fromarray(grey.astype(np.uint8)).save(stream, "PNG", optimize=True)
        source = base64.b64encode(stream.getvalue()).decode()
        words = html.escape(caption, quote=True)
        drawn.append(
            f'<figure><img alt="{words}" width="{max(240, image.shape[1])}" '
            f'src="data:image/png;base64,{source}"><figcaption>{words}</figcaption></figure>'
        )
    return drawn
