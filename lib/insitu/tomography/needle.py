"""A dynamic benchmark from a real recording: a walk along a needle, one tilt at each step.

The recording is of a layered needle, at rest, with 77 tilts of every slice. Taken as a time
series, slice number k at "time" k, of which only one tilt is shown, it is a specimen that changes;
the 76 other tilts of that slice are projections of the same moment that were held back for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from insitu import checks, fetch
from insitu.tomography.algebraic import Method, moving_window, sirt
from insitu.tomography.phantoms import GOLDEN
from insitu.tomography.projection import Projector
from insitu.tomography.series import TiltSeries, open_tilt_series, tilt_series
from insitu.tomography.volumes import axis_offset

Array = NDArray[np.float32]
NAME = "HAADF_Aligned.hspy"


@dataclass(frozen=True)
class Needle:
    """The benchmark for one order of the tilts."""

    data: TiltSeries  # (77, 1, 48): what is shown
    everything: Array  # (77 times, 77 tilts, 48): all tilts of every slice
    angles: NDArray[np.float64]  # (77,) of all tilts [degrees]
    shown: NDArray[np.int64]  # (77,) the tilt that is shown at each time
    offset: float  # of the tilt axis [pixels]
    reference: Array  # (77, 48, 48): SIRT of all tilts of each slice

    def score(self, slices: Array) -> tuple[float, float]:
        """Mean PSNR against the reference [dB], peak its maximum; error of the tilts not shown.

        Parameters
        ----------
        slices : array
            (77, y, x).
        """
        error = ((slices - self.reference) ** 2).mean((1, 2))
        psnr = 10 * np.log10(float(self.reference.max()) ** 2 / error)
        count, size = len(slices), slices.shape[-1]
        shifts = np.full(len(self.angles), self.offset)
        seen = Projector(self.angles, size, shifts=shifts)(slices)
        hidden = np.ones((count, len(self.angles)), bool)
        hidden[np.arange(count), self.shown] = False
        difference = (seen.transpose(1, 0, 2) - self.everything)[hidden]
        held = np.linalg.norm(difference) / np.linalg.norm(self.everything[hidden])
        return float(psnr.mean()), float(held)


def windowed(
    real: Needle,
    method: Method,
    *,
    reach: int,
    tilts: Sequence[int] | None = None,
    gains: NDArray[Any] | float = 1.0,
    sizes: NDArray[Any] | float = 1.0,
) -> Array:
    """Reconstruct in moving windows, of a needle made alike first: as bright and as large.

    Parameters
    ----------
    real : Needle
        Its axis offset is told to the method.
    method, reach, tilts
        As of `algebraic.moving_window`.
    gains, sizes : array or float
        (77,) of each time; they are taken out of the projections, and given back to the slices.

    Returns
    -------
    array
        (t, y, x).
    """
    data, middle = real.data, (real.data.projections.shape[2] - 1) / 2
    count, place = len(data.angles), np.arange(data.projections.shape[2])
    g, r = (np.broadcast_to(np.asarray(v, np.float32), count) for v in (gains, sizes))
    axis = middle + real.offset
    lines = [
        np.interp(axis + size * (place - axis), place, line[0], left=0, right=0) / (gain * size)
        for line, gain, size in zip(data.projections, g, r, strict=True)
    ]
    alike = replace(data, projections=np.array(lines, np.float32)[:, None])
    found = moving_window(alike, method, reach=reach, tilts=tilts, offset=real.offset)[:, 0]
    chosen = np.arange(count) if tilts is None else np.asarray(tilts)
    return np.stack(
        [
            gain * ndimage.affine_transform(u, [1 / size] * 2, middle - middle / size, order=1)
            for u, gain, size in zip(found, g[chosen], r[chosen], strict=True)
        ]
    )


def benchmark(order: str) -> Needle:
    """Make the benchmark of the recording: order is golden or incremental.

    Raises
    ------
    Unavailable
        If the recording can be neither found nor fetched.
    """
    return walked_along(open_tilt_series(fetch.recording(NAME)), order)


def walked_along(recorded: TiltSeries, order: str) -> Needle:
    """Make the benchmark of a needle that was recorded at rest, 256 pixels each way.

    The 96 middle pixels of the detector are summed in pairs. The tilt axis is placed by the
    centres of mass of the tilts that are shown, which know nothing of the others.
    """
    checks.one_of("order", order, ("golden", "incremental"))
    count = len(recorded.angles)
    places = np.rint(np.linspace(92, 190, count)).astype(int)
    middle = recorded.projections[:, places, 80:176].transpose(1, 0, 2)
    everything = middle.reshape(count, count, 48, 2).mean(3) / 2
    shown = np.arange(count)
    if order == "golden":
        shown = np.argsort(np.argsort((shown * GOLDEN + 0.5) % 1, kind="stable"))
    data = tilt_series(everything[np.arange(count), shown][:, None], recorded.angles[shown])
    offset = axis_offset(data)
    A = Projector(recorded.angles, 48, shifts=np.full(count, offset))
    reference = sirt(A, everything.transpose(1, 0, 2), 100)  # z is the time here
    return Needle(data, everything, recorded.angles, shown, offset, reference)
