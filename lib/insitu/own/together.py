"""All that chapter 11 does with a movie: look, denoise, judge, measure, one report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu import InputError
from insitu.files import ResultsFolder, open_movie, remove
from insitu.own.denoising import denoise
from insitu.own.judging import judge
from insitu.own.looking import Looked, look
from insitu.own.measuring import measure
from insitu.own.reports import REPORT, write_report
from insitu.own.writing import write_movie

EVERY = 5  # one frame in so many is kept aside
STEPS = 300


def everything(
    path: str | Path,
    output: str | Path,
    *,
    pixel_size: float = 0.0,
    frame_time: float = 0.0,
    frames: str = "",
    crop: str = "",
    sum_frames: int = 0,
    with_simulation: bool = False,
    steps: int = 0,
    device: str = "auto",
    seed: int = 0,
    progress: bool = True,
) -> dict[str, float]:
    """Look at a movie, denoise it, judge the result, and measure what is in it.

    Each step writes into a folder of its own, `look`, `learned`, `denoised`, `judged` and
    `measured`; `report.html` shows all of it. What does not apply is left out, and the report says
    why. The network learns from four frames in five; the fifth is evidence that it has not seen.

    Parameters
    ----------
    path : path
        A movie, or an image.
    output : path
        Folder of the results. A training that was killed goes on there.
    pixel_size, frame_time : float
        [A], [s]; 0 takes what the file tells. Without a time events are told in frames.
    frames, crop : str
        Part of the file as first:last and as y0:y1,x0:x1; empty takes all.
    sum_frames : int
        How many frames of the file to sum into one.
    with_simulation : bool
        Denoise by the network that learned from simulations, where the data are in its range.
    steps : int
        Of the training; 0 takes 300.
    device : str
        Where to compute; auto takes a GPU if there is one.
    seed : int
        Of the training.
    progress : bool
        Show bars.

    Returns
    -------
    dict
        The numbers of all steps, by the step's name and theirs.

    Raises
    ------
    InputError
        Before any work, if the file cannot be read.
    """
    results = ResultsFolder(output)
    folder = results.path
    part: dict[str, Any] = {"frames": frames, "crop": crop, "sum_frames": sum_frames}
    looked = look(path, folder / "look", pixel_size=pixel_size, frame_time=frame_time, **part)
    known: dict[str, Any] = {"pixel_size": looked.pixel_size, "frame_time": looked.frame_time}
    common = {**known, "device": device, "progress": progress}
    results.lock()
    for name in (*REPORT, "frames", "denoised", "judged", "measured"):
        remove(folder / name)  # of an earlier run; what learned stays, to go on with
    numbers: dict[str, float] = {}
    done = {"What it is": folder / "look"}
    text = []
    try:
        answer = _denoised(looked, folder, with_simulation, steps, seed, common, done)
        text += [answer] if answer else []
        if not answer and looked.applies("judge"):
            text += _judged(looked, folder, common, done)
            text += _measured(looked, folder, common, done)
        for where in done.values():
            numbers |= _numbers(where)
        name = Path(path).name
        write_report(
            results, f"{name}, looked at, denoised, judged", numbers, text=text, parts=done
        )
    finally:
        results.unlock()
    return numbers


def set_aside(movie: str | Path, folder: str | Path, *, every: int = EVERY) -> tuple[Path, Path]:
    """Keep one frame in so many aside, as evidence that no network has seen.

    Parameters
    ----------
    movie : path
        As `look` wrote it.
    folder : path
        Where `seen.tif` and `aside.tif` are written.
    every : int
        The third of each so many goes.

    Returns
    -------
    (Path, Path)
        Of the frames to learn from, and of the evidence.
    """
    results, film = ResultsFolder(folder), open_movie(movie)
    frames = film.part()
    away = np.arange(len(frames)) % every == every // 2
    scale = {"pixel_size": film.pixel_size or 0.0, "frame_time": film.frame_time or 0.0}

    def write(name: str, some: NDArray[np.bool_]) -> Path:
        return results.write(name, lambda path: write_movie(path, frames[some], "tif", **scale))

    return write("seen.tif", ~away), write("aside.tif", away)


def _denoised(
    looked: Looked,
    folder: Path,
    with_simulation: bool,
    steps: int,
    seed: int,
    common: Mapping[str, Any],
    done: dict[str, Path],
) -> str:
    """Denoise the movie, and once more without the evidence; why not, if that cannot be done."""
    options: dict[str, Any] = {"seed": seed, "steps": steps or STEPS}
    if with_simulation or not looked.applies("movie alone"):
        if not looked.applies("simulation"):
            return (
                f"It was not denoised. From the movie alone: {looked.why('movie alone')}; by the "
                f"network that learned from simulations: {looked.why('simulation')}."
            )
        options = {"with_simulation": True}
    try:
        if looked.applies("atoms"):
            seen, _ = set_aside(looked.movie, folder / "frames")
            denoise(seen, folder / "learned", **options, **common)
            if "steps" in options:
                options = {"network": folder / "learned" / "denoiser.safetensors"}
        denoise(looked.movie, folder / "denoised", also="zarr,hspy", **options, **common)
    except InputError as reason:
        return f"It was not denoised. {reason}."
    done["Denoised"] = folder / "denoised"
    return ""


def _judged(
    looked: Looked, folder: Path, common: Mapping[str, Any], done: dict[str, Path]
) -> list[str]:
    """Judge it, by frames that no network has seen where there are enough."""
    raw, denoised, evidence = looked.movie, folder / "denoised", ""
    if looked.applies("atoms"):
        raw, denoised = folder / "frames" / "seen.tif", folder / "learned"
        evidence = str(folder / "frames" / "aside.tif")
    try:
        judge(raw, denoised / "denoised.tif", folder / "judged", evidence=evidence, **common)
    except InputError as reason:
        return [f"It was not judged. {reason}."]
    done["Judged"] = folder / "judged"
    return []


def _measured(
    looked: Looked, folder: Path, common: Mapping[str, Any], done: dict[str, Path]
) -> list[str]:
    """Name columns and tell events, if there is a crystal."""
    if not looked.applies("columns"):
        return [f"Columns were not named: {looked.why('columns')}."]
    options, text = dict(common), []
    if not options["frame_time"]:
        options["frame_time"] = 1.0
        text.append("How long a frame is, is not known: times are in frames, not in seconds.")
    denoised = folder / "denoised" / "denoised.tif"
    try:
        measure(looked.movie, folder / "measured", denoised=denoised, **options)
    except InputError as reason:
        return [f"Columns were not named. {reason}."]
    done["Measured"] = folder / "measured"
    return text


def _numbers(folder: Path) -> dict[str, float]:
    """The numbers of a step, with its name."""
    told = json.loads((folder / "results.json").read_text("utf-8"))
    return {f"{folder.name}_{key}": float(value) for key, value in told.items()}
