"""A reader's image of ceria: how many atoms are in each of its columns, or why that is not said."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np
import tifffile
from numpy.typing import NDArray

from insitu import InputError, checks
from insitu.files import ResultsFolder, open_movie
from insitu.own.reports import write_report

if TYPE_CHECKING:  # torch is loaded when it is needed
    import torch

    from insitu.measure.occupancy.counter import Counted

TOLERANCE = 0.015  # of the distance of two cations in a reader's crystal
FILES = ("columns.csv", "labels.tif", "occupancy.tif")


def count_atoms(
    path: str | Path,
    output: str | Path,
    *,
    pixel_size: float = 0.0,
    crystal: str | Path = "",
    frames: str = "",
    crop: str = "",
    device: str | torch.device = "auto",
) -> Counted:
    """Count the atoms in every column of an image of ceria, or of the sum of a movie's frames.

    Writes `columns.csv`, a row for each column with its place, species, number of atoms and its
    90 % interval, `labels.tif` (0 no column, 1 cation, 2 anion) and `occupancy.tif` (atoms of the
    column there, 0 off the columns), both in pixels of about 0.2 A, and a report. Where the answer
    is not to be believed the report says why, and the files are written all the same.

    Parameters
    ----------
    path : path
        An image or a movie of counts; frames are summed as they are, so that drift blurs.
    output : path
        Folder of the results.
    pixel_size : float
        [A]; 0 takes what the file tells.
    crystal : path
        A cif of what the image shows; anything but ceria is refused before any work.
    frames, crop : str
        Part of it as first:last and as y0:y1,x0:x1; empty takes all.
    device : str or device
        Where to compute; auto takes a GPU if there is one.

    Returns
    -------
    Counted
        The table, the maps, and in `abstains` why they should not be believed.

    Raises
    ------
    InputError
        Before any work, if a file cannot be used, or the crystal is not ceria.
    """
    from insitu.learning.training import device_named
    from insitu.measure.occupancy.counter import load_counter

    if crystal:
        _is_ceria(Path(crystal).expanduser())
    checks.within("movie_pixel_size", pixel_size, 0, 100, "A")
    place, results = device_named(device), ResultsFolder(output)
    movie = open_movie(path)
    pixel = movie.pixel_size_or(pixel_size)
    part = movie.part(frames, crop)
    checks.finite("movie", part)
    checks.whole_numbers("movie", part)
    found = load_counter(device=place)(part.sum(0), pixel)
    results.lock()
    try:
        _write(results, movie.path.name, found)
    finally:
        results.unlock()
    return found


def _is_ceria(path: Path) -> None:
    from insitu.simulate.lattice import CEO2

    if path.suffix.lower() != ".cif" or not path.is_file():
        raise InputError(f"crystal: there is no .cif file {path}")
    try:
        atoms: Any = ase.io.read(path, format="cif")
    except Exception as error:  # readers of text files raise all kinds
        raise InputError(
            f"crystal: {path.name} could not be read as cif ({type(error).__name__})"
        ) from None
    kind = atoms.get_chemical_formula("reduce")
    share = np.mean(np.array(atoms.get_chemical_symbols()) == "Ce")
    same = set(atoms.get_chemical_symbols()) == {"Ce", "O"} and abs(share - 1 / 3) < 0.02
    if same:
        many = atoms.repeat(2)
        cerium = many[[a.symbol == "Ce" for a in many]]
        distances = cerium.get_all_distances(mic=True)
        nearest = distances[distances > 0.1].min()
        same = abs(nearest / (CEO2 / 2**0.5) - 1) < TOLERANCE
    if not same:
        raise InputError(
            f"crystal: {path.name} ({kind}) is not ceria, CeO2 with a cell of {CEO2:g} A, which "
            "alone the networks know; for another one its slabs have to be simulated "
            "(insitu.simulate.ceria is the model) and the networks taught (data/make.py occupancy)"
        )


def _write(results: ResultsFolder, name: str, found: Counted) -> None:
    rows = found.rows()
    atoms = np.nan_to_num(found.atoms).astype(np.float32)

    def table(path: Path) -> None:
        heads: Sequence[str] = list(rows[0]) if rows else ["y_angstrom", "x_angstrom"]
        with path.open("w", newline="", encoding="utf-8") as file:
            written = csv.DictWriter(file, heads)
            written.writeheader()
            written.writerows(rows)

    def image(values: NDArray[Any]) -> Any:
        per_cm = 1e8 / found.pixel_size

        def write(path: Path) -> None:
            tifffile.imwrite(path, values, resolution=(per_cm, per_cm), resolutionunit="CENTIMETER")

        return write

    results.write(FILES[0], table)
    results.write(FILES[1], image(found.labels))
    results.write(FILES[2], image(atoms))
    numbers = {
        "columns": float(len(rows)),
        "cations": float(found.cation.sum()),
        "abstains": float(bool(found.abstains)),
    }
    numbers |= {
        f"{key}_{unit}": value
        for (key, value), unit in zip(
            found.conditions.items(), ("angstrom", "degrees", "atoms"), strict=True
        )
        if np.isfinite(value)
    }
    text = [
        f"Not to be believed: {found.abstains}."
        if found.abstains
        else f"{len(rows)} columns; the intervals hold 90 % of the true numbers for slabs like "
        "those that were simulated."
    ]
    write_report(
        results,
        f"{name}, its atoms counted",
        numbers,
        text=text,
        maps={"cations and anions": found.labels, "atoms in the column there": atoms},
    )
