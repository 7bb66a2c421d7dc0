"""Simulate the clean image that chapter 2 counts electrons of: Pt on CeO2 along [110].

    python data/make_clean_image.py [--output FOLDER]

Writes pt_ceo2_clean.tif, 256 x 256 float32 at 0.12 A per pixel, vacuum = 1, and
pt_ceo2_clean.json, which says how it was made. Needs about a minute on two cores.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from importlib.metadata import version
from pathlib import Path

import abtem
import ase.build
import numpy as np
import tifffile
from ase import Atoms
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

PIXELS, PIXEL_SIZE = 256, 0.12  # the image; its field is 30.72 A
OVERSAMPLING = 2  # of the wave, against the image
ENERGY = 300e3  # [eV]
OPTICS = {"defocus": -60.0, "Cs": -13e-6 * 1e10, "C5": 5e-3 * 1e10}  # [A]; white atoms
FOCAL_SPREAD = 40.0  # 1/e width [A]
VIBRATION = 0.25  # standard deviation of the image's jitter [A]
THERMAL = {"Pt": 0.08, "Ce": 0.075, "O": 0.10}  # standard deviation of displacements [A]
THICKNESS = 38.3  # of the ceria along the beam, 10 repeats of 3.826 A
PARTICLE_RADIUS = 10.5  # [A]
GAP = 2.0  # between the last plane of ceria and the first of Pt [A]


def along_110(crystal: Atoms, size: tuple[int, int, int]) -> Atoms:
    """Cut a cubic crystal so that (x, y, z) are [1-1-2]-like, [111] and [110], and repeat it."""
    cell = ase.build.cut(crystal, a=(0.5, -0.5, 0), b=(0.5, 0.5, -1), c=(1, 1, 1))
    lengths = cell.cell.lengths()
    cut = Atoms(
        cell.get_chemical_symbols(),
        scaled_positions=cell.get_scaled_positions()[:, [1, 2, 0]],
        cell=lengths[[1, 2, 0]],
        pbc=True,
    )
    return cut.repeat(size)


def build() -> Atoms:
    """Make a supported particle; x and y span the image with the surface normal along -y."""
    field = PIXELS * PIXEL_SIZE
    # four periods, 26.5 A, leave 2 A of vacuum at both sides; three whole O-Ce-O layers
    ceria = along_110(ase.build.bulk("CeO2", "fluorite", a=5.411, cubic=True), (4, 3, 10))
    ceria.positions[:, 0] -= ceria.positions[:, 0].mean()
    height = ceria.positions[:, 1]
    cations = np.unique(height[ceria.symbols == "Ce"].round(3))[1:4]
    ceria = ceria[np.abs(height[:, None] - cations).min(1) < 1.0]
    top_of_ceria = ceria.positions[:, 1].max()

    platinum = along_110(ase.build.bulk("Pt", "fcc", a=3.92, cubic=True), (9, 6, 16))
    platinum.positions[:, 0] -= platinum.positions[:, 0].mean()
    platinum.positions[:, 2] -= platinum.positions[:, 2].mean()
    platinum.positions[:, 1] -= platinum.positions[:, 1].min()
    centre = np.array([0.0, 0.55 * PARTICLE_RADIUS, 0.0])  # cut below its equator
    inside = np.ones(len(platinum), dtype=bool)
    offset = platinum.positions - centre
    to_cubic = np.array([[0.5, 0.5, -1], [1, 1, 1], [0.5, -0.5, 0]])
    to_cubic /= np.linalg.norm(to_cubic, axis=1, keepdims=True)
    cubic = offset @ to_cubic  # rows of to_cubic are x, y, z in the crystal's own axes
    inside &= np.abs(cubic).max(1) < PARTICLE_RADIUS * 0.92  # {100} facets
    inside &= np.abs(cubic).sum(1) / np.sqrt(3) < PARTICLE_RADIUS * 0.86  # {111} facets
    platinum = platinum[inside]
    platinum.positions[:, 1] += top_of_ceria + GAP - platinum.positions[:, 1].min()

    ceria.positions[:, 2] -= ceria.positions[:, 2].mean()
    specimen = ceria + platinum
    depth = np.ptp(specimen.positions[:, 2]) + 4.0
    y = specimen.positions[:, 1]
    specimen.positions[:, 1] = field - 1.5 - (y - y.min())  # image rows run downwards
    specimen.positions[:, 0] += field / 2
    specimen.positions[:, 2] += depth / 2 - specimen.positions[:, 2].mean()
    specimen.set_cell([field, field, depth])
    specimen.pbc = True
    return specimen


def check(specimen: Atoms) -> None:
    """Refuse a wrong stoichiometry, atoms outside of the cell, and any two nearer than 1.5 A."""
    symbols = specimen.get_chemical_symbols()
    if symbols.count("O") != 2 * symbols.count("Ce"):
        raise ValueError("the ceria is not CeO2")
    scaled = specimen.get_scaled_positions(wrap=False)
    if not ((scaled >= 0) & (scaled < 1)).all():
        raise ValueError("an atom lies outside of the cell")
    nearest = neighbor_list("d", specimen, 1.5)
    if len(nearest):
        raise ValueError(f"two atoms are only {nearest.min():.2f} A apart")


def simulate(specimen: Atoms, phonons: int, seed: int) -> NDArray[np.float32]:
    """Multislice exit waves over frozen phonons, imaged; (y, x), vacuum = 1."""
    frozen = abtem.FrozenPhonons(specimen, num_configs=phonons, sigmas=THERMAL, seed=seed)
    sampling = PIXEL_SIZE / OVERSAMPLING
    potential = abtem.Potential(frozen, sampling=sampling, slice_thickness=1.0, projection="finite")
    waves = abtem.PlaneWave(energy=ENERGY).multislice(potential)
    transfer = abtem.CTF(
        energy=ENERGY, semiangle_cutoff=45, focal_spread=FOCAL_SPREAD, **OPTICS
    )  # fmt: skip
    image = waves.apply_ctf(transfer).intensity().compute().array
    mean = np.asarray(image, dtype=np.float64).reshape(-1, *image.shape[-2:]).mean(0)
    spectrum = np.fft.fft2(mean)
    fx, fy = (np.fft.fftfreq(n, sampling) for n in mean.shape)
    spectrum *= np.exp(-2 * (np.pi * VIBRATION) ** 2 * (fx[:, None] ** 2 + fy**2))
    keep = np.r_[0 : PIXELS // 2, -PIXELS // 2 : 0]  # the image holds nothing beyond
    small = np.fft.ifft2(spectrum[np.ix_(keep, keep)]).real / OVERSAMPLING**2
    return small.T.astype(np.float32)  # abTEM's arrays are (x, y)


def main() -> None:
    """Make the image and its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    parser.add_argument("--phonons", type=int, default=8)
    arguments = parser.parse_args()
    begin = time.perf_counter()
    abtem.config.set({"local_diagnostics.progress_bar": False})
    specimen = build()
    check(specimen)
    image = simulate(specimen, arguments.phonons, seed=0)
    vacuum = float(image[:30].mean())
    if abs(vacuum - 1) > 0.01:
        raise ValueError(f"the vacuum has a mean of {vacuum:.4f}, expected 1 within 1 %")
    image /= vacuum
    arguments.output.mkdir(parents=True, exist_ok=True)
    tif = arguments.output / "pt_ceo2_clean.tif"
    tifffile.imwrite(tif.with_suffix(".part"), image, compression="zlib", metadata=None)
    tif.with_suffix(".part").replace(tif)
    symbols = specimen.get_chemical_symbols()
    record = {
        "what": "clean HRTEM image of a Pt particle on CeO2, beam along [110], vacuum = 1",
        "made_by": "data/make_clean_image.py",
        "pixel_size_angstrom": PIXEL_SIZE,
        "energy_ev": ENERGY,
        "optics_angstrom": OPTICS | {"focal_spread": FOCAL_SPREAD, "vibration": VIBRATION},
        "frozen_phonons": arguments.phonons,
        "seed": 0,
        "atoms": {s: symbols.count(s) for s in sorted(set(symbols))},
        "versions": {p: version(p) for p in ("abtem", "ase", "numpy")},
        "seconds": round(time.perf_counter() - begin, 1),
        "sha256": hashlib.sha256(tif.read_bytes()).hexdigest(),
        "licence": "CC-BY-4.0",
    }
    text = tif.with_suffix(".json.part")
    text.write_text(json.dumps(record, indent=1) + "\n")
    text.replace(tif.with_suffix(".json"))
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
