"""Clean images of specimens that no network has been trained on, with their columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from insitu.simulate import specimens
from insitu.simulate.bank import PARTS, SEMIANGLE, random_recipe
from insitu.simulate.imaging import Optics, image
from insitu.simulate.specimens import Recipe
from insitu.simulate.waves import Wave, band_limited, exit_wave, in_threads

CONTRASTS = {"white": -80.0, "intermediate": -20.0, "black": 60.0}  # defocus [A]


class Specimen(NamedTuple):
    """Atoms and the wave behind them."""

    atoms: Atoms
    wave: Wave
    recipe: Recipe


class View(NamedTuple):
    """A clean image and the columns in it."""

    clean: NDArray[np.float32]  # (y, x), vacuum = 1
    pixel_size: float  # [A]
    positions: NDArray[np.float64]  # (n, 2) columns, y and x from the middle of pixel (0, 0) [A]
    platinum: NDArray[np.bool_]  # (n,)
    surface: NDArray[np.bool_]  # (n,) surface columns of the particle
    atoms: NDArray[np.int64]  # (n,) in the column


def fresh_numbers(count: int) -> list[int]:
    """Numbers of test structures of the endless bank, beyond the 40 that ship."""
    return [n for n in range(40, 40 + 10 * count) if PARTS[n % len(PARTS)] == "test"]


def specimen(recipe: Recipe, atoms: Atoms | None = None) -> Specimen:
    """Simulate a specimen: that of the recipe, or other atoms in its place."""
    built = specimens.build(recipe) if atoms is None else atoms.copy()
    if not built.has("column"):
        specimens.number_columns(built)
    return Specimen(built, band_limited(exit_wave(built), SEMIANGLE), recipe)


def fresh_specimens(count: int) -> list[Specimen]:
    """Simulate structures of the test part of the bank that ships, beyond those in it."""
    return list(in_threads(specimen, [random_recipe(0, n) for n in fresh_numbers(count)]))


def view(
    of: Specimen,
    optics: Optics,
    *,
    pixel_size: float = 0.062,
    size: int = 400,
    focal_points: int = 9,
    centre: NDArray[np.float64] | None = None,
) -> View:
    """Take a clean image, with the particle in its middle.

    Parameters
    ----------
    of : Specimen
        Atoms and wave.
    optics : Optics
        The lens, numbers only.
    pixel_size : float
        [A].
    size : int
        Rows and columns.
    focal_points : int
        See `image`.
    centre : (2,) array, optional
        y and x of the specimen that come into the middle [A]; by default the particle's.
    """
    metal = np.isin(of.atoms.numbers, (78, 79))  # platinum, or gold
    middle = of.atoms.positions[metal, 1::-1].mean(0) if centre is None else centre
    extent = np.array(of.wave.extent)
    shift = extent / 2 - middle
    clean = image(
        of.wave,
        optics,
        pixel_size=pixel_size,
        shape=(size, size),
        shift=(shift[0], shift[1]),
        focal_points=focal_points,
    )
    columns = specimens.columns(of.atoms)
    corner = (extent - size * pixel_size) / 2
    positions = np.column_stack([columns["y"], columns["x"]])
    places = (positions + shift) % extent - corner  # the field repeats itself
    inside = ((places >= 0) & (places <= (size - 1) * pixel_size)).all(1)
    found = places, columns["symbol"] == "Pt", columns["surface"], columns["atoms"]
    return View(clean[0].clamp(min=0).numpy(), pixel_size, *(values[inside] for values in found))


def views(of: Sequence[Specimen], defocus: float, **options: Any) -> list[View]:
    """Take an image of each specimen with the default lens at this defocus [A]."""
    return [view(one, Optics(defocus=defocus), **options) for one in of]
