"""A reader's movie, denoised."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from insitu import InputError, checks
from insitu.files import ResultsFolder, open_movie, remove
from insitu.own.reading import seen, spread
from insitu.own.reports import REPORT, write_report
from insitu.own.writing import FORMATS, write_film, write_movie

if TYPE_CHECKING:  # torch is loaded for those who denoise alone
    import torch

    from insitu.denoise.movies import MovieDenoiser

FEW = 1_000_000  # counts, as the network sees them, from which only a small one can learn
FEWEST = 5  # frames of a movie in which a motion is looked for
HALVES = (
    "The network restored sums of frames along their motion; it learned from halves of the "
    "movie{}, and looks at the counts of the frame itself."
)
ELECTRONS, WHOLE = (
    "'s electrons",
    " that are whole frames, as its values are not single electrons or a motion is seen in them",
)
FILES = (
    *(f"denoised.{form}" for form in FORMATS),
    "deviation.tif",
    "with_innovation.tif",
    "film.mp4",
)
INNOVATION = 0.5  # part of each frame's surprise that with_innovation.tif shows


def denoise(
    path: str | Path,
    output: str | Path,
    *,
    pixel_size: float = 0.0,
    frame_time: float = 0.0,
    frames: str = "",
    crop: str = "",
    sum_frames: int = 0,
    with_simulation: bool = False,
    halves: bool = False,
    network: str | Path = "",
    also: str = "",
    steps: int = 0,
    device: str | torch.device = "auto",
    seed: int = 0,
    progress: bool = True,
) -> dict[str, float]:
    """Denoise a movie by a network that learns from it alone, by one that learned before, or ships.

    Writes `denoised.tif` (electrons, float32, of the shape of what was read; blank frames, of which
    nothing is learned, are 0 in it) and, of a movie, `film.mp4`, it beside the counts. A network
    that learned from the movie is kept as `denoiser.safetensors`; beside the movie lie then
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
    sum_frames : int
        How many frames of the file to sum into one; 0 takes them as they are.
    with_simulation : bool
        Take a network that ships and learned from simulations: of a movie that which restores
        sums of frames, of an image, or of fewer than 5 frames, that for single images.
    halves : bool
        Learn from halves of the movie's electrons, in minutes: a network that restores sums of
        frames, and chooses among them from place to place.
    network : path
        The `denoiser.safetensors` of an earlier run, instead of learning anew.
    also : str
        Formats besides tif, such as `zarr,hspy`.
    steps : int
        Of the training; 0 takes 300, or 2,000 of halves.
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
    from insitu.denoise.binning import binning
    from insitu.denoise.halves import are_electrons
    from insitu.denoise.saved import load_denoiser
    from insitu.denoise.supervised import as_images
    from insitu.denoise.unsupervised import examine
    from insitu.learning.training import device_named

    checks.within("movie_pixel_size", pixel_size, 0, 100, "A")
    checks.within("movie_frame_time", frame_time, 0, 1e6, "s")
    checks.within("movie_steps", steps, 0, 1_000_000)
    if halves and with_simulation:
        raise InputError("--halves learns from the movie alone; leave out --with-simulation")
    if network and (halves or with_simulation):
        raise InputError("network: it has learned; leave out --halves and --with-simulation")
    formats = [checks.one_of("also", f.strip(), FORMATS) for f in also.split(",") if f.strip()]
    place = device_named(device)
    results = ResultsFolder(output)
    movie = open_movie(path, sum_frames=sum_frames)
    pixel = movie.pixel_size_or(pixel_size)
    learned = load_denoiser(network, device=place) if network else None
    counts = as_images(movie.part(frames, crop)) if with_simulation else movie.part(frames, crop)
    kept, text = seen(movie, counts, frames)
    counts = counts[kept]
    if not with_simulation:
        if len(counts) < 2:
            raise InputError(
                f"movie: {movie.path.name} is a single image, which cannot tell its noise from its "
                "specimen; take --with-simulation, a network that learned from simulated images"
            )
        _, sample = examine(counts, pixel)
        if halves:
            checks.not_negative("movie", counts)
    results.lock()
    try:
        for name in (*FILES, *REPORT):
            remove(results.path / name)  # of an earlier run
        numbers = {
            "frames": len(counts),
            "pixel_size_angstrom": pixel,
            "mean_electrons": float(counts.mean(dtype=np.float64)),
        }
        scale = {"pixel_size": pixel, "frame_time": frame_time or movie.frame_time or 0.0}
        if with_simulation:
            movies = len(counts) >= FEWEST
            learned = load_denoiser("restorer" if movies else "pt_ceo2", device=place)
            text.append(
                "The network restored sums of frames along their motion."
                if movies
                else f"Each frame by itself: fewer than {FEWEST} are no movie to find motion in."
            )
        elif network:
            text.append(f"The network {network} learned before, and was not trained here.")
        if learned is not None:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                denoised = learned(counts, pixel, progress=progress)
            for warned in said:
                warnings.warn(str(warned.message), stacklevel=2)
                text.append(f"Beware. {warned.message}.")
        else:
            steps = steps or (2_000 if halves else 300)
            own, best, of = _learned(counts, pixel, steps, halves, results, place, seed, progress)
            numbers |= {"steps": steps, "best_step": best}
            denoised = own(counts, pixel, progress=progress)
            if (side := binning(pixel)) > 1:
                text.append(f"The network sees the counts of {side} x {side} pixels summed.")
            if halves:
                text.append(HALVES.format(ELECTRONS if are_electrons(sample) else WHOLE))
            else:
                words, more = _beside(own, counts, denoised, scale, results, kept)
                text += words
                numbers |= more
            if best == of:
                text.append("It was still learning: give more steps (--steps).")
        whole = spread(denoised, kept)
        for form in ("tif", *formats):
            _write(results, f"denoised.{form}", whole, **scale)
        film = None
        if len(counts) > 1:
            both = {"counts": counts, "denoised": denoised}
            film = results.write("film.mp4", lambda path: write_film(path, both))
        numbers["mean_denoised_electrons"] = float(denoised.mean(dtype=np.float64))
        middle = len(counts) // 2
        few = slice(max(0, middle - 8), middle + 8)
        number = int(np.flatnonzero(kept)[middle])
        maps = {f"counts, frame {number}": counts[middle]}
        pictures = {
            f"counts, mean of {len(counts[few])} frames": counts[few].mean(0),
            f"denoised, frame {number}": denoised[middle],
        }
        title = f"{movie.path.name}, denoised"
        write_report(results, title, numbers, text=text, pictures=pictures, maps=maps, film=film)
    finally:
        results.unlock()
    return {name: float(value) for name, value in numbers.items()}


def _learned(
    counts: NDArray[Any],
    pixel_size: float,
    steps: int,
    halves: bool,
    results: ResultsFolder,
    device: torch.device,
    seed: int,
    progress: bool,
) -> tuple[Any, int, int]:
    """What learned from the counts, its best step and of how many; an earlier run's, if the same.

    Of halves these are the steps of the network that chooses, a quarter as many.
    """
    from insitu.denoise.binning import binning
    from insitu.denoise.halves import CHOOSE, RESTORE, learn_halves
    from insitu.denoise.saved import load_denoiser
    from insitu.denoise.unsupervised import MovieSettings, learn_movie
    from insitu.learning import checkpoints

    few = counts.size < FEW * binning(pixel_size) ** 2
    every = max(1, steps // 8)
    path = results.path / "denoiser.safetensors"
    digest = hashlib.sha256(np.ascontiguousarray(counts).tobytes()).hexdigest()
    origin: dict[str, Any] = {"movie": digest, "pixel_size": pixel_size, "seed": seed}
    common: dict[str, Any] = {"seed": seed, "device": device, "progress": progress}
    common |= {"checkpoint": results.path / "training.safetensors"}
    settings: Any
    made: Any
    if halves:
        restoring = replace(RESTORE, steps=steps, validate_every=every)
        settings = replace(CHOOSE, steps=-(-steps // 4), validate_every=every)
        origin["restoring"] = asdict(restoring)
    else:
        settings = MovieSettings(steps=steps, validate_every=every, side=48 if few else 96)
    same = {**origin, "settings": asdict(settings)}
    record = checkpoints.load(path)[1] if path.is_file() else {}
    if {key: record.get(key) for key in same} != same:
        if halves:
            small = {"channels": 16} if few else {}
            made, result = learn_halves(
                counts, pixel_size, restoring, choosing=settings, options=small, **common
            )
        else:
            small = {"channels": 16, "levels": 1, "reach": 6} if few else {}
            made, result = learn_movie(counts, pixel_size, settings, options=small, **common)
        made.save(path, result, **origin)
        record = checkpoints.load(path)[1]
    return load_denoiser(path, device=device), int(record["best_step"]), settings.steps


def _beside(
    denoiser: MovieDenoiser,
    counts: NDArray[Any],
    denoised: NDArray[np.float32],
    scale: Mapping[str, float],
    results: ResultsFolder,
    kept: NDArray[np.bool_],
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
        _write(results, "deviation.tif", spread(deviation, kept), **scale)
        numbers["mean_deviation_electrons"] = float(deviation.mean(dtype=np.float64))
    if pixel > residuals.NARROW:
        text.append("There is no with_innovation.tif: pixels above 0.3 A do not show columns.")
    else:
        prompt = residuals.with_innovation(counts, denoised, pixel_size=pixel, gain=INNOVATION)
        _write(results, "with_innovation.tif", spread(prompt, kept), **scale)
    return text, numbers


def _write(
    results: ResultsFolder,
    name: str,
    movie: NDArray[np.float32],
    *,
    pixel_size: float,
    frame_time: float,
) -> None:
    """Write a movie, or an image, in the format of its ending."""
    form = name.rsplit(".", 1)[-1]
    scale = {"pixel_size": pixel_size, "frame_time": frame_time}
    results.write(name, lambda path: write_movie(path, movie, form, **scale))
