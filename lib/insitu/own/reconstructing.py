"""A reader's tilt series, reconstructed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from insitu import InputError, checks
from insitu.files import ResultsFolder, remove
from insitu.own.reports import write_report

if TYPE_CHECKING:  # with torch, which takes seconds, and which not everything here needs
    import torch

    from insitu.tomography.series import TiltSeries


def reconstruct(
    path: str | Path,
    output: str | Path,
    *,
    angles: str = "",
    axis: str = "auto",
    bins: int = 1,
    steps: int = 500,
    members: int = 3,
    steady: float = 0.0,
    variation: float = 0.5,
    contrast: float = 0.0,
    waves: float = 1.0,
    device: str | torch.device = "auto",
    seed: int = 0,
    progress: bool = True,
) -> dict[str, float]:
    """Reconstruct the volume at every tilt of a series, by an ensemble of fits.

    Writes `volumes.zarr` (the ensemble's mean, and the standard deviation of its error), and one
    .mrc a tilt in the folder `mrc`, for Tomviz or ImageJ. What is fitted is kept in `fits`: run
    again with the same values, it goes on where it was.

    Parameters
    ----------
    path : path
        The tilt series, see `insitu.open_tilt_series`.
    output : path
        Folder of the results.
    angles, axis : str
        Text file with the angles, and along what the tilt axis runs, as in `open_tilt_series`.
    bins : int
        Detector pixels across that are summed, 1 to 64.
    steps, members : int
        Of each fit; number of fits, 2 to 20.
    steady, variation : float
        Weights of change and of total variation, see `insitu.tomography.volumes.fit`.
    contrast : float
        Of two metals that mix, by the law of which a particle at rest is fitted then; 0 lets
        anything change.
    waves : float
        Highest frequency in time [periods a series].
    device : str or device
        One of auto, cpu, cuda.
    seed : int
        Of the first fit.
    progress : bool
        Show a bar a fit.

    Returns
    -------
    dict
        What `results.json` holds.

    Raises
    ------
    InputError
        Before any work, if the series or a value cannot be used.
    """
    checks.within("tilt_steady", steady, 0, 1e5)
    checks.within("tilt_variation", variation, 0, 100)
    checks.within("tilt_waves", waves, 0.5, 20)
    checks.within("steps", steps, 1, 100_000)
    checks.within("members", members, 2, 20)
    if contrast and not 1 < contrast <= 100:
        raise InputError(f"tilt_contrast: got {contrast:g}, allowed is 0 or above 1, up to 100")
    from insitu.learning.training import device_named

    results, chosen = ResultsFolder(output), device_named(device)
    series = _usable_series(path, angles, axis, bins)
    from insitu.tomography import ensembles
    from insitu.tomography.mixing import Mixing, Mixture
    from insitu.tomography.prior import FreeChange, Shape
    from insitu.tomography.series import write_mrc, write_volumes
    from insitu.tomography.volumes import SETTINGS, axis_offset

    wide_enough = np.ptp(series.angles) >= 90  # else it is found badly
    offset = axis_offset(series) if wide_enough else 0.0
    model: FreeChange | Mixing
    if contrast:
        model = Mixing(contrast, variation=variation, offset=offset)
    else:
        model = FreeChange(
            shape=Shape(time_waves=waves), variation=variation, steady=steady, offset=offset
        )
    results.lock()
    try:
        for name in ("volumes.zarr", "mrc", "results.json", "report.html"):
            remove(results.path / name)  # of an earlier run
        fits = ensembles.fit_members(
            series,
            model,
            replace(SETTINGS, steps=steps, validate_every=max(1, steps // 5)),
            members=members,
            hold_every=min(10, max(3, len(series.angles) // 3)),
            seed=seed,
            folder=results.path / "fits",
            device=chosen,
            progress=progress,
        )
        spread = ensembles.spread_of(fits)
        volumes, deviation = ensembles.mean_and_deviation(fits, spread=spread)
        write_volumes(results.path / "volumes.zarr", volumes, deviation, series)
        for number, volume in enumerate(volumes):
            write = partial(write_mrc, volume=volume, pixel_size=series.pixel_size)
            results.write(f"mrc/volume_{number:04d}.mrc", write)
        errors = [one.held_error() for one in fits]
        numbers = {
            "tilts": len(series.angles),
            "axis_offset_px": offset,
            "held_error": float(np.mean(errors)),
            "spread": spread,
        }
        rates = [f.specimen.diffusivity for f in fits if isinstance(f.specimen, Mixture)]
        if rates:
            numbers["diffusivity_px2_per_series"] = float(np.mean(rates))
        write_report(
            results,
            f"Volumes of {Path(path).name}",
            numbers,
            text=[
                "{} tilts of {} x {} pixels. ".format(*series.projections.shape)
                + f"The place of the tilt axis "
                f"{'was taken to be' if wide_enough else 'cannot be told, it was taken to be'} "
                f"{offset:+.2f} pixels off the middle of the detector.",
                "Error of the tilts held back, relative to their size: "
                + ", ".join(f"{error:.4f}" for error in errors)
                + ". What makes it smallest is the better choice of the weights.",
            ],
            pictures=_cuts("first", volumes[0]) | _cuts("last", volumes[-1]),
        )
    finally:
        results.unlock()
    return numbers


def _usable_series(path: str | Path, angles: str, axis: str, bins: int) -> TiltSeries:
    from insitu.tomography.series import open_tilt_series

    checks.within("tilt_bins", bins, 1, 64)
    series = open_tilt_series(path, axis=axis, angles=angles).binned(bins)
    tilts, depth, across = series.projections.shape
    if tilts < 5:
        raise InputError(f"tilt_series: {tilts} tilts; 5 are the least here")
    gigabytes = 4e-9 * tilts * depth * across**2
    if gigabytes > 2:
        raise InputError(
            f"tilt_bins: the volumes would have {gigabytes:.0f} GB, 2 is the most; sum more pixels"
        )
    if across > 256:
        raise InputError(
            f"tilt_bins: {across} pixels across are too many, 256 is the most; sum "
            f"{-(-across * bins // 128)} or so"
        )
    return series


def _cuts(name: str, volume: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Three cuts through the middle of a volume (z, y, x)."""
    z, y, x = (n // 2 for n in volume.shape)
    return {
        f"{name} volume, across the tilt axis (y, x)": volume[z],
        f"{name} volume, across the beam (z, x)": volume[:, y],
        f"{name} volume, along both (z, y)": volume[:, :, x],
    }
