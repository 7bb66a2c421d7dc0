"""From atoms to the electron wave behind them, by multislice (abTEM).

Arrays are (y, x), lengths in angstrom, energies in electron volt, angles of scattering in mrad.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray
from torch import Tensor

from insitu import InputError
from insitu.checks import one_of, within

T = TypeVar("T")
R = TypeVar("R")

# root mean square displacement of an atom along one axis, about room temperature [A]
THERMAL = {"Pt": 0.07, "Ce": 0.06, "O": 0.08}


@dataclass(frozen=True)
class Wave:
    """Electron waves at the exit face of a specimen; vacuum has the amplitude 1.

    `values` is (configurations, y, x), complex: frozen phonons are averaged as intensities.
    """

    values: Tensor
    extent: tuple[float, float]  # of the field along y and x [A]
    energy: float = 300e3  # [eV]

    @property
    def wavelength(self) -> float:
        """Relativistic wavelength [A]."""
        return wavelength(self.energy)

    def to(self, device: torch.device | str) -> Wave:
        """Return the same wave on another device."""
        return replace(self, values=self.values.to(device))


def wavelength(energy: float) -> float:
    """Relativistic wavelength [A] of electrons of an energy [eV]."""
    rest = 510998.95
    return 12.398419843e3 / float(np.sqrt(energy * (2 * rest + energy)))


def exit_wave(
    specimen: Atoms,
    *,
    pixels: int = 540,
    slice_thickness: float = 1.0,
    thermal: str = "envelope",
    phonons: int = 8,
    seed: int = 0,
    energy: float = 300e3,
) -> Wave:
    """Send a plane wave through a specimen, slice by slice.

    Parameters
    ----------
    specimen : Atoms
        In an orthogonal cell with the beam along z.
    pixels : int
        Of the wave, along the longer side of the cell.
    slice_thickness : float
        [A].
    thermal : str
        `envelope` smears the potential of every atom (Debye-Waller factor), `phonons` averages
        over displaced copies of the specimen, `none` holds the atoms still.
    phonons : int
        Copies of the specimen.
    seed : int
        Of their displacements.
    energy : float
        [eV].

    Raises
    ------
    InputError
        If the specimen has no atoms or one without a potential, if it is too coarsely sampled,
        or if a value is not allowed.

    References
    ----------
    J. Madsen, T. Susi, Open Research Europe 1 (2021) 24.
    E. J. Kirkland, Advanced Computing in Electron Microscopy, 3rd ed., ch. 6.

    Examples
    --------
    >>> column = Atoms("Pt5", [(5, 5, 2.77 * i + 1.4) for i in range(5)], cell=[10, 10, 14])
    >>> wave = exit_wave(column, pixels=64)
    >>> wave.values.shape, round(float(wave.values.abs().max()), 1)
    (torch.Size([1, 64, 64]), 2.5)
    """
    import abtem  # takes seconds, and is not needed to use a wave that exists

    within("pixels", pixels, 32, 8192)
    within("slice_thickness", slice_thickness, 0.1, 20)
    within("phonons", phonons, 1, 1000)
    within("energy", energy, 1e4, 2e6)
    one_of("thermal", thermal, ("envelope", "phonons", "none"))
    width, height = specimen.cell.lengths()[:2]
    sampling = max(width, height) / pixels
    if sampling > 0.25:
        raise InputError(
            f"pixels: {pixels} over {max(width, height):.0f} A is {sampling:.2f} A a pixel; the "
            f"wave needs 0.25 A or less, take {int(np.ceil(max(width, height) / 0.2))} pixels"
        )
    potential = _potential(specimen, sampling, slice_thickness, thermal, phonons, seed)
    # unmeasured plans give the same bits every time; powers of two would make them slow
    abtem.config.set({"fftw.planning_effort": "FFTW_ESTIMATE"})
    wave: Any = abtem.PlaneWave(energy=energy, device="cpu").multislice(potential)
    array = wave.compute(scheduler="single-threaded", progress_bar=False).array
    values = torch.from_numpy(array).mT.contiguous()  # abTEM has (x, y)
    return Wave(values.reshape(-1, *values.shape[-2:]), (float(height), float(width)), energy)


def projected_potential(specimen: Atoms) -> NDArray[np.float32]:
    """Electrostatic potential of a specimen along the beam on pixels of 0.1 A, (y, x) [V A]."""
    depth = float(specimen.cell.lengths()[2])
    potential = _potential(specimen, 0.1, depth).build()
    array = potential.compute(scheduler="single-threaded", progress_bar=False).array.sum(0)
    return np.asarray(array.T, dtype=np.float32)


def _potential(
    specimen: Atoms,
    sampling: float,
    slice_thickness: float,
    thermal: str = "envelope",
    phonons: int = 1,
    seed: int = 0,
) -> Any:
    """The potential that abTEM slices, periodic across the beam."""
    import abtem
    from abtem.parametrizations import LobatoParametrization

    from insitu.simulate.potentials import StructureFactorProjection

    if len(specimen) == 0:
        raise InputError("the specimen: it has no atoms")
    symbols = set(specimen.get_chemical_symbols())
    unknown = symbols - set(LobatoParametrization().parameters)
    if unknown:
        raise InputError(f"the specimen: no potential is known for {', '.join(sorted(unknown))}")
    atoms: Any = specimen.copy()
    atoms.pbc = True
    sigmas = {s: THERMAL.get(s, 0.08) for s in symbols}
    width, height, depth = atoms.cell.lengths()
    if thermal == "phonons":
        atoms = abtem.FrozenPhonons(atoms, num_configs=phonons, sigmas=sigmas, seed=seed)
    return abtem.Potential(
        atoms,
        gpts=tuple(2 * round(side / sampling / 2) for side in (width, height)),
        slice_thickness=min(slice_thickness, depth),
        integrator=StructureFactorProjection(sigmas if thermal == "envelope" else {}),
        device="cpu",
    )


def band_limited(wave: Wave, semiangle: float) -> Wave:
    """Keep what an aperture [mrad] can pass, on a grid just large enough for it."""
    limit = semiangle * 1e-3 / wave.wavelength
    sizes = [
        min(n, 2 * int(np.ceil(limit * length)) + 2)
        for n, length in zip(wave.values.shape[-2:], wave.extent, strict=True)
    ]
    rows, columns = (torch.fft.fftfreq(n, 1 / n).round().long() for n in sizes)
    spectrum = torch.fft.fft2(wave.values, norm="forward")[..., rows[:, None], columns]
    return replace(wave, values=torch.fft.ifft2(spectrum, norm="forward"))


def in_threads(
    work: Callable[[T], R], items: Iterable[T], workers: int | None = None
) -> Iterator[R]:
    """Results of some work on each item, in their order, by default one thread a core.

    Multislice spends its time in Fourier transforms, during which other threads run.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(workers or cores) as pool:
        yield from pool.map(work, items)
