"""Make again what ships in this folder: a clean image, a movie with its truth, exit waves.

    python data/make.py image|movie|waves [--output FOLDER]

image  pt_ceo2_clean.tif, which chapter 2 counts electrons of, and its record; seconds
movie  pt_ceo2_movie.zarr, the movie of chapter 3 with its default parameters; half a minute
waves  exit_waves.zarr, waves behind 40 random specimens; a minute
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import numpy as np
import tifffile

from insitu.simulate import datasets, movie_files, movies, specimens
from insitu.simulate.imaging import Optics, image
from insitu.simulate.waves import exit_wave

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
    unfinished = path.with_suffix(".part")
    tifffile.imwrite(
        unfinished, (clean / vacuum).astype(np.float32), compression="zlib", metadata=None
    )
    unfinished.replace(path)
    record = {
        "what": "clean HRTEM image of a Pt particle on CeO2, beam along [110], vacuum = 1",
        "made_by": "data/make.py image",
        "pixel_size_angstrom": PIXEL_SIZE,
        "recipe": asdict(recipe),
        "optics_angstrom_mrad": optics.values(),
        "versions": {p: metadata.version(p) for p in ("abtem", "ase", "numpy", "torch")},
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "licence": "CC-BY-4.0",
    }
    text = unfinished.with_suffix(".json.part")
    text.write_text(json.dumps(record, indent=1) + "\n")
    text.replace(path.with_suffix(".json"))
    return path


def main() -> None:
    """Make one of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("image", "movie", "waves"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.what == "image":
        print(clean_image(arguments.output))
    elif arguments.what == "movie":
        movie = movies.make_movie(movies.Plan())
        print(movie_files.save(movie, arguments.output / "pt_ceo2_movie.zarr"))
    else:
        print(datasets.make_bank(arguments.output / "exit_waves.zarr", 40))


if __name__ == "__main__":
    main()
