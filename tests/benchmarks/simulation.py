"""Speed of simulation against abTEM called image by image, in one run: `make bench`.

The same specimens, pixels, slices and lens; 21 values of defocus for each structure. abTEM makes
each image from its atoms (potential, multislice, lens); ours makes the wave once for all 21, two
structures at a time. Ratios above 1 mean that ours is faster.
"""

import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import abtem
import numpy as np
import torch
from abtem.integrals import ScatteringFactorProjectionIntegrals
from abtem.parametrizations import LobatoParametrization

from insitu import fetch
from insitu.book import chapter
from insitu.simulate import specimens, waves
from insitu.simulate.bank import Bank, random_recipe, sample
from insitu.simulate.imaging import Optics, image

PIXELS, SLICE, IMAGES, STRUCTURES = 540, 1.0, 21, 6
DEFOCI = torch.linspace(-200, 0, IMAGES)
LENS = {"focal_spread": 40.0, "cs": -13e4, "c5": 5e7, "aperture": 32.0}


def median(task: Callable[[], Any], rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def abtem_image(specimen: Any, defocus: float) -> Any:
    """One image as abTEM makes it, with smeared atoms."""
    atoms = specimen.copy()
    atoms.pbc = True
    parametrization = LobatoParametrization(sigmas=dict(waves.THERMAL))
    potential = abtem.Potential(
        atoms,
        gpts=PIXELS,
        slice_thickness=SLICE,
        integrator=ScatteringFactorProjectionIntegrals(parametrization),
    )
    wave = abtem.PlaneWave(energy=300e3).multislice(potential)
    return wave.apply_ctf(transfer(defocus)).intensity().compute(progress_bar=False)


def transfer(defocus: float) -> Any:
    return abtem.CTF(
        energy=300e3,
        defocus=defocus,
        Cs=LENS["cs"],
        C5=LENS["c5"],
        focal_spread=LENS["focal_spread"],
        semiangle_cutoff=LENS["aperture"],
    )


def ours(recipe: specimens.Recipe) -> torch.Tensor:
    """All images of one structure."""
    wave = waves.exit_wave(specimens.build(recipe), pixels=PIXELS, slice_thickness=SLICE)
    return image(wave, Optics(defocus=DEFOCI, vibration=0.0, **LENS))


def main() -> None:
    recipes = [random_recipe(0, i) for i in range(STRUCTURES)]
    built = [specimens.build(r) for r in recipes]
    wave = waves.exit_wave(built[0], pixels=PIXELS, slice_thickness=SLICE)

    # abTEM plans its Fourier transforms by measurement, as it does by default
    abtem.config.set({"fftw.planning_effort": "FFTW_MEASURE"})
    abtem_image(built[0], -80.0)
    theirs = statistics.mean(median(lambda s=s: abtem_image(s, -80.0), 1) for s in built)
    array = np.ascontiguousarray(wave.values[0].numpy().T)
    there = abtem.Waves(array, energy=300e3, extent=wave.extent[::-1])
    lens = median(
        lambda: there.apply_ctf(transfer(-80.0)).intensity().compute(progress_bar=False), 15
    )

    optics = Optics(defocus=DEFOCI, vibration=0.0, **LENS)
    step = wave.extent[0] / PIXELS
    native = median(lambda: image(wave, optics), 9) / IMAGES
    same = median(lambda: image(wave, optics, pixel_size=step, shape=(PIXELS,) * 2), 9) / IMAGES
    averaged = median(lambda: image(wave, optics, focal_points=9), 3) / IMAGES

    begin = time.perf_counter()
    for _ in waves.in_threads(ours, recipes):
        pass
    each = (time.perf_counter() - begin) / STRUCTURES

    bank = Bank(fetch.shipped("exit_waves.zarr"))
    train = bank.part("train")
    numbers = itertools.count()
    draw = lambda: sample(bank, train, next(numbers), images=8, size=128)  # noqa: E731
    draw()
    each_sample = median(draw, 15) / 8
    print(
        f"threads {torch.get_num_threads()}, waves of {PIXELS} x {PIXELS} pixels, "
        f"slices of {SLICE} A"
    )
    print(f"abTEM, image by image       {1 / theirs:8.2f} images/s")
    print(
        f"ours, {IMAGES} images a structure  {IMAGES / each:8.2f} images/s"
        f"   = {theirs * IMAGES / each:.1f} x faster"
    )
    print(f"lens alone: abTEM's apply_ctf {lens * 1e3:6.1f} ms an image")
    for name, seconds in (
        ("on the coarsest lossless pixels", native),
        ("on the same pixels", same),
    ):
        print(f"   ours, {name:32s} {seconds * 1e3:6.1f} ms = {lens / seconds:.1f} x faster")
    print(f"   ours, focal spread averaged (9)        {averaged * 1e3:6.1f} ms")
    print(f"training images of 128 x 128 pixels: {1 / each_sample:.0f} a second")
    print(
        f"projected: 900 structures, {900 * IMAGES:,} images in {900 * each / 60:.0f} min, "
        f"peak memory {chapter.peak_memory() / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    main()
