"""Projected potentials of slices, exact at every position of an atom.

abTEM's quick way of projecting puts each atom onto the four pixels around it, which changes the
high frequencies of its potential with its place between them: at 0.1 A a pixel an image of
platinum comes out wrong by a tenth of its contrast. Here the structure factor is summed as it
stands, by a product of two matrices, which is no slower for the slices of a specimen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from abtem.integrals import FieldIntegrator
from abtem.parametrizations import LobatoParametrization
from ase import Atoms
from numpy.typing import NDArray

_CUTOFF = 2 / 3 + 0.01  # of the largest frequency: multislice keeps nothing beyond


class StructureFactorProjection(FieldIntegrator):
    """Infinite projections of smeared atoms, from their structure factors.

    v(x, y) = sum_k sum_atoms f(k) exp(-2 (pi s k)^2) exp(2 pi i k (r - r_atom)), with the
    projected scattering factor f of an element and the displacement s of its atoms along an axis.

    Parameters
    ----------
    sigmas : dict
        Root mean square displacement of each element along one axis [A]; none are at rest.

    Factors are computed once for each element: an instance serves one grid of pixels.
    """

    def __init__(self, sigmas: dict[str, float]) -> None:
        self.sigmas = dict(sigmas)
        self._factors: dict[str, NDArray[np.float32]] = {}
        super().__init__(periodic=True, finite=False)

    def cutoff(self, symbol: str) -> float:  # noqa: ARG002
        """Infinite: the potential is periodic."""
        return float(np.inf)

    def integrate_on_grid(
        self,
        atoms: Atoms,
        a: float,  # noqa: ARG002
        b: float,  # noqa: ARG002
        gpts: tuple[int, int],
        sampling: tuple[float, float],
        device: str = "cpu",  # noqa: ARG002
    ) -> Any:
        """Potential of the atoms of a slice on (x, y) pixels [V A]; see `FieldIntegrator`."""
        n_x, n_y = gpts
        kx = np.fft.fftfreq(n_x, sampling[0])
        ky = np.fft.rfftfreq(n_y, sampling[1])
        kept = np.abs(kx) <= _CUTOFF / 2 / sampling[0]
        kx, ky = kx[kept], ky[ky <= _CUTOFF / 2 / sampling[1]]
        square, area = kx[:, None] ** 2 + ky**2, sampling[0] * sampling[1]
        total = np.zeros(square.shape, dtype=np.complex64)
        symbols = np.array(atoms.get_chemical_symbols())
        for symbol in np.unique(symbols):
            x, y = atoms.positions[symbols == symbol, :2].T
            phase_x = np.exp(-2j * np.pi * kx[:, None] * x).astype(np.complex64)
            phase_y = np.exp(-2j * np.pi * y[:, None] * ky).astype(np.complex64)
            total += (phase_x @ phase_y) * self._factor(symbol, square, area)
        half = np.zeros((n_x, n_y // 2 + 1), dtype=np.complex64)
        half[kept, : len(ky)] = total
        return scipy.fft.irfft2(half, s=gpts, overwrite_x=True)

    def _factor(self, symbol: str, square: NDArray[Any], area: float) -> NDArray[np.float32]:
        if symbol not in self._factors:
            of_square: Any = LobatoParametrization().projected_scattering_factor(symbol)
            smear = np.exp(-2 * (np.pi * self.sigmas.get(symbol, 0.0)) ** 2 * square)
            self._factors[symbol] = (of_square(square) * smear / area).astype(np.float32)
        return self._factors[symbol]
