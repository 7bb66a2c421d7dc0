"""A reader's own structure, from a file, made ready for multislice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from insitu import InputError
from insitu.checks import finite
from insitu.simulate.specimens import nearest_distance, number_columns

FORMATS = {".xyz": "extxyz", ".extxyz": "extxyz", ".cif": "cif"}
MARGIN = 4.0  # of vacuum around a structure without a cell [A]
LARGEST, MOST = 300.0, 200_000  # extent [A] and number of atoms
FIELD = 30.0  # to which the cell of a crystal is repeated across the beam [A]


def read_structure(path: str | Path, *, thickness: float = 40.0) -> Atoms:
    """Read a structure; the beam runs along its z axis, -y is up in the image.

    Parameters
    ----------
    path : path
        An xyz or a cif file.
    thickness : float
        To which the cell of a crystal (a cif) is repeated along the beam [A].

    Returns
    -------
    Atoms
        In an orthogonal cell, with the arrays `column` and `surface`.

    Raises
    ------
    InputError
        In one sentence, if the file is missing, empty or something else, or if the structure is
        too large, or has two atoms in one place. `exit_wave` refuses elements without a potential.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(f"structure: {path.name} is not an .xyz or .cif file")
    if not path.is_file():
        raise InputError(f"structure: there is no file {path}")
    try:
        atoms: Any = ase.io.read(path, format=FORMATS[suffix])
    except Exception as error:  # readers of text files raise all kinds
        raise InputError(
            f"structure: {path.name} could not be read as {suffix[1:]} "
            f"({type(error).__name__}); check it with a viewer such as VESTA or ase gui"
        ) from None
    if not len(atoms):
        raise InputError(f"structure: {path.name} has no atoms")
    finite("structure", atoms.positions)
    if suffix == ".cif":
        atoms = _repeated(atoms, thickness, path.name)
    else:
        size = np.ptp(atoms.positions, axis=0) + 2 * np.array([MARGIN, MARGIN, 2.0])
        atoms = Atoms(atoms.symbols, atoms.positions, cell=np.maximum(size, [12, 12, 0]))
        atoms.center()
    if max(atoms.cell.lengths()) > LARGEST or len(atoms) > MOST:
        raise InputError(
            f"structure: {len(atoms)} atoms in {max(atoms.cell.lengths()):.0f} A are too many; "
            f"allowed are {MOST} atoms in {LARGEST:.0f} A"
        )
    nearest = nearest_distance(atoms)
    if nearest < 0.3:
        raise InputError(f"structure: two atoms are only {nearest:.2f} A apart")
    number_columns(atoms)
    return atoms


def _repeated(atoms: Atoms, thickness: float, name: str) -> Atoms:
    """Make the cell of a crystal orthogonal, and repeat it to the size of a specimen."""
    import abtem  # takes seconds

    if not atoms.cell.volume > 0.1:
        raise InputError(f"structure: {name} has no cell; save it as .xyz")
    try:
        cell = abtem.orthogonalize_cell(atoms)
    except Exception as error:
        raise InputError(
            f"structure: the cell of {name} could not be made orthogonal ({error}); save a block "
            "of the crystal as .xyz"
        ) from None
    lengths = cell.cell.lengths()
    across = np.maximum(1, np.ceil(FIELD / lengths[:2])).astype(int)
    return cell.repeat((*across, max(1, round(thickness / lengths[2]))))
