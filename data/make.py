"""Make again what ships in this folder: a clean image, a movie with its truth, exit waves.

    python data/make.py WHAT [--output FOLDER]

image  pt_ceo2_clean.tif, which chapter 2 counts electrons of, and its record; seconds
movies  pt_ceo2_movie.zarr, the movie of chapter 3 with its default parameters, and two of other
       specimens; two minutes
waves  exit_waves.zarr, waves behind 40 random specimens; a minute
hero   ../book/_static/hero.webp, the loop of the first page, and its still; a minute
detector  detector.json, fitted to the real movie; seconds
denoiser  checkpoints/pt_ceo2.safetensors; an hour and a half on a core with units for bfloat16,
          three hours on two cores without, goes on where it was stopped
first  checkpoints/bf_cnn.safetensors; half an hour, likewise
ours   checkpoints/movie_ours.safetensors, learned from the movie; ten minutes on two cores
halves  checkpoints/movie_halves.safetensors, learned from halves of its electrons; a quarter of
       an hour on a core, goes on where it was stopped
udvd   checkpoints/movie_udvd.safetensors, likewise; minutes on a GPU, days without
restorer  checkpoints/restorer.safetensors, for movies of any such specimen; three hours on two
       cores with units for bfloat16, goes on where it was stopped
occupancy  checkpoints/occupancy.safetensors, which finds columns of ceria, and
       occupancy_sites.safetensors, which counts their atoms, with its calibration; waves and
       images are made beside them, half an hour; three hours on a core with units for bfloat16,
       goes on where it was stopped
rod    checkpoints/rod.safetensors, three fits of chapter 10's tilt series; ten minutes on one core
bars   error_bars.json, factors of chapter 10's error bars, from three fits of each of two other
       particles; twenty minutes on one core, goes on where it was stopped
mixture  checkpoints/mixture.safetensors, three fits of a law to that particle in incremental order;
       ten minutes on one core
study  checkpoints/study.json, candidates for the denoiser; a quarter of an hour
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import learn_occupancy
import numpy as np
import tifffile
import torch
from PIL import Image

from insitu import fetch
from insitu.book import chapter
from insitu.counting.categorical import Categorical
from insitu.denoise import learn, learn_movies
from insitu.denoise.blind_networks import UDVD
from insitu.denoise.examples import draw_pool
from insitu.denoise.halves import RESTORE, learn_halves
from insitu.denoise.local_wiener import local_wiener
from insitu.denoise.movies import MovieDenoiser
from insitu.denoise.saved import load_denoiser
from insitu.denoise.surroundings import FIVE
from insitu.denoise.unsupervised import MovieSettings, learn_movie
from insitu.files import whole
from insitu.learning import checkpoints
from insitu.learning.training import Result, Settings, device_named
from insitu.simulate import movie_files, movies, specimens, views
from insitu.simulate.bank import Bank, make_bank
from insitu.simulate.imaging import Optics, image
from insitu.simulate.waves import exit_wave
from insitu.tomography import ensembles, errorbars, phantoms, volumes
from insitu.tomography.mixing import Mixing
from insitu.tomography.prior import FreeChange
from insitu.tomography.series import TiltSeries

PIXELS, PIXEL_SIZE = 276, 0.12


def clean_image(folder: Path) -> Path:
    """Write pt_ceo2_clean.tif and pt_ceo2_clean.json."""
    recipe = specimens.Recipe(
        diameter=21.0, truncation=1.0, sunk=0.4, thickness=30.0, trilayers=3, field=30.0, seed=8
    )
    wave = exit_wave(specimens.build(recipe), pixels=336)
    optics = Optics(defocus=-80.0)
    # the whole field, which repeats itself, so that it can be resampled by Fourier transforms
    step = wave.extent[0] / PIXELS
    if abs(step / PIXEL_SIZE - 1) > 1e-3:
        raise ValueError(f"the pixels are {step:.5f} A, expected {PIXEL_SIZE} A within 0.1 %")
    clean = image(wave, optics, pixel_size=step, shape=(PIXELS, PIXELS), focal_points=9)
    clean = clean[0].numpy()
    vacuum = float(clean[:30].mean())
    if abs(vacuum - 1) > 0.01:
        raise ValueError(f"the vacuum has a mean of {vacuum:.4f}, expected 1 within 1 %")
    path = folder / "pt_ceo2_clean.tif"
    with whole(path) as unfinished:
        tifffile.imwrite(
            unfinished, (clean / vacuum).astype(np.float32), compression="zlib", metadata=None
        )
    record = {
        "what": "clean HRTEM image of a Pt particle on CeO2, beam along [110], vacuum = 1",
        "made_by": "data/make.py image",
        "pixel_size_angstrom": PIXEL_SIZE,
        "recipe": asdict(recipe),
        "optics_angstrom_mrad": vars(optics),
        "versions": {p: metadata.version(p) for p in ("abtem", "ase", "numpy", "torch")},
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "CC-BY-4.0",
    }
    with whole(path.with_suffix(".json")) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1) + "\n")
    return path


def hero(folder: Path) -> Path:
    """Counts, what the restorer makes of them, and the truth: the whole movie, as a loop."""
    movie = movie_files.shipped_movie(192)
    rows = movie.truth(0)
    middle = [int(rows[k].mean() / movie.pixel_size) for k in ("y", "x")]
    corner = [min(max(0, m - 70), 192 - 140) for m in middle]
    place = tuple(slice(c, c + 140) for c in corner)
    shown = load_denoiser("restorer")(movie.counts, movie.pixel_size)
    parts = (movie.counts / 3, shown, movie.clean)
    panels = [np.pad(p[:, *place], ((0, 0), (0, 0), (2, 2)), constant_values=1.1) for p in parts]
    grey = np.clip(np.concatenate(panels, 2) / 1.1 * 255, 0, 255).astype(np.uint8)
    frames = [Image.fromarray(f) for f in grey]
    pictures = folder.parent / "book" / "_static"
    path = pictures / "hero.webp"
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=80, loop=0, quality=40, method=6
    )
    frames[movie.plan.event + 4].save(pictures / "hero.png", optimize=True)
    return path


def detector(folder: Path) -> Path:
    """Write detector.json."""
    path = folder / "detector.json"
    Categorical.fit(fetch.pt_ceo2_movie().counts).save(
        path,
        what="the counting detector of the real Pt/CeO2 movie, fitted to all of its frames",
        made_by="data/make.py detector",
        licence="CC-BY-4.0",
    )
    return path


def denoiser(folder: Path) -> Path:
    """Write checkpoints/pt_ceo2.safetensors; the bank and the training's state lie beside it."""
    waves = folder / "bank.zarr"
    bank = Bank(waves if waves.exists() else make_bank(waves, 520))
    state = folder / "pt_ceo2.training.safetensors"
    made, result = learn.learn_pt_ceo2(bank, checkpoint=state, progress=True)
    return made.save(
        folder / "checkpoints" / "pt_ceo2.safetensors",
        result,
        seed=0,
        images=learn.IMAGES,
        bank={"structures": 520, "seed": 0},
        **_origin("denoiser"),
    )


def first(folder: Path) -> Path:
    """Write checkpoints/bf_cnn.safetensors."""
    bank = Bank(fetch.shipped("exit_waves.zarr"))
    counting = Categorical.load(fetch.shipped("detector.json"))
    state = folder / "bf_cnn.training.safetensors"
    made, result = learn.learn_bf_cnn(bank, counting, checkpoint=state, progress=True)
    return made.save(
        folder / "checkpoints" / "bf_cnn.safetensors",
        result,
        seed=0,
        images=learn.BF_CNN_IMAGES,
        bank={"name": "data/exit_waves.zarr", "structures": 40, "seed": 0},
        **_origin("first"),
    )


def ours(folder: Path) -> Path:
    """Write checkpoints/movie_ours.safetensors."""
    settings = MovieSettings(blind=1, megabytes=450.0)
    return _from_movie(folder, "movie_ours", settings, "ours")


def udvd(folder: Path, passes: int = 50) -> Path:
    """Write checkpoints/movie_udvd.safetensors, by the published protocol; on a GPU.

    Whole frames of the movie one by one, 70 of 100 of them, squared error, Adam at 1e-4, halved
    after 15, 30 and 40 passes; kept is the pass with the least held-back error.
    """
    movie = movie_files.load(fetch.shipped("pt_ceo2_movie.zarr"))
    device = device_named("auto")
    counts = torch.from_numpy(movie.counts).float().to(device)
    rng = np.random.default_rng(314)
    order = rng.permutation(len(counts))
    learned, held = np.split(order, [int(0.7 * len(order))])
    network = checkpoints.seeded(UDVD, 0).to(device, memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), 1e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [15, 30, 40], 0.5)
    last = len(counts) - 1

    def error(frames: torch.Tensor) -> torch.Tensor:
        return (network(frames[None])[0, 0].relu() - frames[0]).square().mean()

    def window(t: int) -> torch.Tensor:  # mirrored at the ends of the movie
        return counts[[last - abs(last - abs(t + k)) for k in (0, -2, -1, 1, 2)]]

    history: list[dict[str, float]] = []
    best, begin = dict(network.state_dict()), perf_counter()
    for number in range(1, passes + 1):
        total = 0.0
        for t in rng.permutation(learned).tolist():
            frames = torch.rot90(window(t), int(rng.integers(4)), (1, 2))
            frames = frames.flip([k for k in (1, 2) if rng.random() < 0.5])
            loss = error(frames)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            total += float(loss.detach())
        schedule.step()
        with torch.no_grad():
            judged = float(np.mean([float(error(window(t))) for t in held.tolist()]))
        row = {"step": number, "seconds": round(perf_counter() - begin, 1)}
        history.append(row | {"training": total / len(learned), "validation": judged})
        print(history[-1], flush=True)
        if judged == min(h["validation"] for h in history):
            best = {k: v.detach().half().cpu() for k, v in network.state_dict().items()}
    settings = MovieSettings(steps=passes, optimiser="adam", learning_rate=1e-4, squares=True)
    made = Result(network, history, int(np.argmin([h["validation"] for h in history])), settings)
    network.load_state_dict(best)
    path = folder / "checkpoints" / "movie_udvd.safetensors"
    movie_name = "data/pt_ceo2_movie.zarr"
    denoiser = MovieDenoiser(network, FIVE, 1.0)
    return denoiser.save(path, made, seed=0, movie=movie_name, **_origin("udvd"))


def by_halves(folder: Path) -> Path:
    """Write checkpoints/movie_halves.safetensors: sums, and the choice among them."""
    name, state = "pt_ceo2_movie", folder / "halves.training.safetensors"
    movie = movie_files.load(fetch.shipped(f"{name}.zarr"))
    given = {"checkpoint": state, "progress": True}
    made, result = learn_halves(movie.counts, movie.plan.pixel_size, **given)
    path = folder / "checkpoints" / "movie_halves.safetensors"
    restoring = asdict(RESTORE)
    return made.save(
        path, result, restoring=restoring, seed=0, movie=f"data/{name}.zarr", **_origin("halves")
    )


def restorer(folder: Path, scenes: int = 64) -> Path:
    """Write checkpoints/restorer.safetensors: films, a first stage, then motion."""
    state, judged_by = folder / "restorer.training.safetensors", [0, 1]
    bank = Bank(fetch.shipped("exit_waves.zarr"))
    judged = [
        *learn_movies.films(0, judged_by),
        *learn_movies.still_films(bank, bank.part("validation")),
    ]
    films = [
        *learn_movies.films(0, range(len(judged_by), scenes)),
        *learn_movies.still_films(bank, bank.part("train")),
    ]
    first, given = None, {"checkpoint": state, "progress": True}
    for settings in (learn_movies.FIRST, learn_movies.SETTINGS):
        learned, held = (
            learn_movies.Examples(f, seed=k, first=first) for f, k in ((films, 3), (judged, 7))
        )
        first, result = learn_movies.learn_restorer(learned, held, settings, first=first, **given)
    path = folder / "checkpoints" / "restorer.safetensors"
    return first.save(path, result, films=len(films), **_origin("restorer"))


def occupancy(folder: Path) -> Path:
    """Write both networks of the occupancy; waves, images and states lie beside them."""
    return learn_occupancy.write(folder, **_origin("occupancy"))


def _from_movie(
    folder: Path, name: str, settings: MovieSettings, target: str, **options: Any
) -> Path:
    movie = movie_files.load(fetch.shipped("pt_ceo2_movie.zarr"))
    state = folder / f"{name}.training.safetensors"
    made, result = learn_movie(
        movie.counts,
        movie.plan.pixel_size,
        settings,
        checkpoint=state,
        progress=True,
        **options,
    )
    return made.save(
        folder / "checkpoints" / f"{name}.safetensors",
        result,
        seed=0,
        movie="data/pt_ceo2_movie.zarr",
        **_origin(target),
    )


def _origin(target: str) -> dict[str, Any]:
    return {
        "made_by": f"data/make.py {target}",
        "versions": chapter.versions(),
        "device": chapter.device_name(torch.device("cpu")),
    }


CANDIDATES = (
    ("20 channels, 5 scales, not folded", "adam", 2e-3, 292, {"channels": 20, "levels": 4}),
    (
        "32 channels, fold 2, deeper",
        "adam",
        2e-3,
        412,
        {"channels": 32, "levels": 3, "blocks": [1, 2, 2, 2], "fold": 2},
    ),
    ("40 channels, fold 2", "adam", 2e-3, 425, {"channels": 40, "levels": 3, "fold": 2}),
    ("40 channels, fold 2", "muon", 6e-3, 277, {"channels": 40, "levels": 3, "fold": 2}),
    (
        "40 channels, fold 2, windows 32 and 64",
        "muon",
        7e-3,
        253,
        {"channels": 40, "levels": 3, "fold": 2, "windows": [32, 64]},
    ),
)


def study(folder: Path) -> Path:
    """Write checkpoints/study.json: short trainings of candidates, on validation structures."""
    made = folder / "bank.zarr"
    bank = Bank(made if made.exists() else make_bank(made, 520))
    pool = draw_pool(bank, "train", 6400, conditions=learn.CONDITIONS, seed=1)
    electrons = 0.45 * 9  # in a pixel of 3 x 3 of 0.062 A
    scenes = []
    for defocus in views.CONTRASTS.values():
        clean = [
            image(
                bank.wave(n),
                Optics(defocus=defocus),
                pixel_size=0.186,
                shape=(128, 128),
                focal_points=7,
            )
            for n in bank.part("validation")[:16]
        ]
        expected = torch.cat(clean)[:, None] * electrons
        generator = torch.Generator().manual_seed(1)
        scenes.append((expected, torch.poisson(expected, generator=generator)))

    def decibels(denoise: Callable[[torch.Tensor], torch.Tensor]) -> list[float]:
        with torch.no_grad():
            errors = [((denoise(k) - m) / 9).square().mean((1, 2, 3)) for m, k in scenes]
        return [round(float(-10 * e.log10().mean()), 2) for e in errors]

    rows = []
    for name, optimiser, rate, steps, options in CANDIDATES:
        settings = Settings(
            steps=steps, optimiser=optimiser, learning_rate=rate, validate_every=steps // 4
        )
        _, result = learn.learn_pt_ceo2(bank, settings, options=options, pool=pool, progress=True)
        network = result.network
        rows.append(
            {
                "what": f"{name}, {optimiser}",
                "optimiser": optimiser,
                "learning_rate": rate,
                "weights": sum(p.numel() for p in network.parameters()),
                "steps": steps,
                "psnr_db": decibels(network),
            }
        )
    alone = decibels(lambda k: local_wiener(k, 64, threshold=4.0))
    rows.append(
        {"what": "local Wiener filter alone, window 64", "weights": 0, "steps": 0, "psnr_db": alone}
    )
    record = {
        "what": "candidates for the denoiser, each trained for 70 to 100 s on two CPU cores; PSNR "
        "(peak 1 e-/px, 0.45 e-/px of 0.062 A) of white, intermediate, black contrast on 16 "
        "validation structures",
        "made_by": "data/make.py study",
        "rows": rows,
    }
    path = folder / "checkpoints" / "study.json"
    with whole(path) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1) + "\n")
    return path


def rod(folder: Path) -> Path:
    """Write checkpoints/rod.safetensors, the ensemble of chapter 10 at its defaults."""
    data, _ = _tilted("golden", 1)
    settings = replace(volumes.SETTINGS, steps=500, validate_every=100)
    fits = ensembles.fit_members(data, FreeChange(), settings, progress=True)
    return ensembles.save(
        fits, folder / "checkpoints" / "rod.safetensors", _made("rod", settings, fits)
    )


def bars(folder: Path) -> Path:
    """Write error_bars.json: a factor for each region, of particles that no page judges."""
    settings = replace(volumes.SETTINGS, steps=500, validate_every=100)
    found_of: dict[str, list[float]] = {}
    for number, kind in enumerate(("alloying sphere", "alloying wire"), start=1):
        particle = phantoms.Phantom(kind, 64, np.linspace(0, 1, 100))
        angles = phantoms.tilt_angles("golden", 100)
        rng = np.random.default_rng([0, 19 + number])
        data, _ = phantoms.record(particle, angles, rng=rng)
        parts = folder / "parts" / kind.split()[1]
        parts.mkdir(parents=True, exist_ok=True)
        fits = ensembles.fit_members(
            data, FreeChange(), settings, seed=10 * number, folder=parts, progress=True
        )
        found, deviation = ensembles.mean_and_deviation(fits, spread=ensembles.spread_of(fits))
        region = errorbars.regions(found, contrast=particle.contrast)
        factors = errorbars.learned_factors(found, deviation, particle.truth(), region)
        found_of[kind] = [round(float(f), 3) for f in factors]
    record = {
        "what": "factors with which error bars of an ensemble of three fits cover 68 % of a "
        "region's errors; the mean of those of two simulated particles, 64 pixels and 100 tilts",
        "made_by": "python data/make.py bars",
        "regions": errorbars.REGIONS,
        "factors": np.mean(list(found_of.values()), axis=0).round(3).tolist(),
        "of": found_of,
        "settings": asdict(settings),
    }
    path = folder / "error_bars.json"
    with whole(path) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1) + "\n")
    return path


def mixture(folder: Path) -> Path:
    """Write checkpoints/mixture.safetensors: the law of chapter 10b, in incremental order."""
    data, contrast = _tilted("incremental", 3)
    settings = replace(volumes.SETTINGS, steps=300, validate_every=50)
    fits = ensembles.fit_members(data, Mixing(contrast), settings, progress=True)
    return ensembles.save(
        fits, folder / "checkpoints" / "mixture.safetensors", _made("mixture", settings, fits)
    )


def _tilted(order: str, stream: int) -> tuple[TiltSeries, float]:
    """The tilt series of chapter 10 at its defaults, and the contrast of its metals."""
    particle = phantoms.Phantom("alloying rod", 64, np.linspace(0, 1, 100))
    angles = phantoms.tilt_angles(order, 100)
    rng = np.random.default_rng([0, stream])
    return phantoms.record(particle, angles, rng=rng)[0], particle.contrast


def _made(name: str, settings: Settings, fits: Sequence[Any]) -> dict[str, Any]:
    return {
        "made_by": f"python data/make.py {name}",
        "minutes": round(sum(f.history[-1]["seconds"] for f in fits) / 60, 1),
        "settings": asdict(settings),
        "versions": chapter.versions(),
        "device": chapter.device_name(torch.device("cpu")),
    }


def main() -> None:
    """Make one of them."""
    made_here = {
        "hero": hero,
        "detector": detector,
        "denoiser": denoiser,
        "first": first,
        "study": study,
        "ours": ours,
        "halves": by_halves,
        "udvd": udvd,
        "restorer": restorer,
        "occupancy": occupancy,
        "rod": rod,
        "bars": bars,
        "mixture": mixture,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("image", "movies", "waves", *made_here))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.what == "image":
        print(clean_image(arguments.output))
    elif arguments.what == "movies":
        for name, plan in (movie_files.SHIPPED | movie_files.PAIR).items():
            print(movie_files.save(movies.make_movie(plan), arguments.output / f"{name}.zarr"))
    elif arguments.what in made_here:
        print(made_here[arguments.what](arguments.output))
    else:
        print(make_bank(arguments.output / "exit_waves.zarr", 40))


if __name__ == "__main__":
    main()
