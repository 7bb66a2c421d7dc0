"""Several fits to one tilt series: their mean, their error bars, and their files.

One fit tells nothing of its own errors. Fits from other first weights and to other tilts differ
where the data leave them free; the tilts that each has not seen tell how much they err together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from insitu import InputError
from insitu.learning import checkpoints
from insitu.learning.training import Settings
from insitu.tomography.mixing import Mixing, Mixture
from insitu.tomography.prior import FreeChange, FreeSpecimen, Shape
from insitu.tomography.projection import project
from insitu.tomography.series import TiltSeries
from insitu.tomography.volumes import SETTINGS, Fit, fit

Array = NDArray[np.float32]
_NUMBERS = ("brightness", "contrast", "diffusivity", "offset")  # of a mixture, on file
_OPTIONS = ("shape", "gains", "sizes", "shifts", "offset")  # of what may change freely


def fit_members(
    series: TiltSeries,
    model: FreeChange | Mixing,
    settings: Settings = SETTINGS,
    *,
    members: int = 3,
    hold_every: int = 10,
    seed: int = 0,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> list[Fit]:
    """Several fits, each of a seed of its own, and with other tilts held back.

    Parameters
    ----------
    series, model, settings, device, progress
        As of `volumes.fit`.
    members : int
        How many.
    hold_every, seed : int
        As of `volumes.fit`; a member has the next seed, and holds back other tilts.
    folder : Path, optional
        Where each member's state is kept, and what was fitted, so that an ensemble that was killed
        goes on where it stood, with the same bits.
    """
    fits = []
    for m in range(members):
        own: Any = {"seed": seed + m, "hold_every": hold_every}
        own["hold_first"] = m * hold_every // members
        one = partial(fit, series, model, settings, **own, device=device, progress=progress)
        if folder is None:
            fits.append(one())
            continue
        whole, state = folder / f"member_{m}.safetensors", folder / f"member_{m}.part.safetensors"
        run = {**asdict(settings), **own, "model": repr(model), "series": series.digest()}
        if not (whole.is_file() and checkpoints.load(whole)[1].get("run") == run):
            tensors, record = _contents([one(checkpoint=state)])
            checkpoints.save(whole, tensors, {**record, "run": run})
        fits += load(whole, series, device)
    return fits


def mean_and_deviation(
    fits: Sequence[Fit], tilts: Sequence[int] | None = None, *, spread: float
) -> tuple[Array, Array]:
    """Mean volumes of an ensemble, and one standard deviation of their error, (t, z, y, x).

    A member's error is `spread` times what members differ by (`spread_of`): its square is that of
    what they differ by and of what they have in common. The mean of n members keeps the common
    part, and 1/n of the rest: s^2 (spread^2 - 1 + 1/n). Few members tell a voxel's s^2 badly (of
    three, 58 % of the errors would lie within s, not 68 %): it is averaged over its neighbours,
    by a Gaussian of one voxel.
    """
    mean = fits[0].volumes(tilts)
    square = np.zeros_like(mean)
    for number, other in enumerate(fits[1:], start=2):  # Welford's recurrence
        for middle, variance, drawn in zip(mean, square, other.each(tilts), strict=True):
            step = drawn - middle
            middle += step / number
            variance += step * (drawn - middle)
    square *= max(0.0, spread**2 - 1 + 1 / len(fits)) / max(1, len(fits) - 1)
    for variance in square:
        ndimage.gaussian_filter(variance, 1.0, output=variance, mode="nearest")
    return mean, np.sqrt(square, out=square)


@torch.no_grad()
def spread_of(fits: Sequence[Fit]) -> float:
    """How much larger a member's errors are than what members differ by, without a truth.

    Both are measured on projections: errors on the tilts that a member did not see, where the
    noise is taken off, that of the detector's pixels that see no specimen.
    """
    errors, differences = 0.0, 0.0
    for member, one in enumerate(fits):
        angles = torch.tensor(one.series.angles, dtype=torch.float32)
        for k in one.held.tolist():
            seen = []
            for other in fits:
                u, tilt = torch.from_numpy(other.volumes([k])), torch.tensor([k])
                place = other.specimen.places(tilt).cpu()
                seen.append(project(u, angles[tilt], shifts=place)[0].numpy())
            error = (seen[member] - one.series.projections[k]) ** 2
            bright = np.mean(seen, axis=0)
            empty = bright < 0.02 * bright.max()
            noise = float(error[empty].mean()) if empty.sum() >= 50 else 0.0
            errors += float((error[~empty] - noise).sum())
            differences += float(np.var(seen, axis=0, ddof=1)[~empty].sum())
    if differences == 0:
        raise InputError("ensemble: give two fits or more, with tilts held back")
    return max(1.0, errors / differences) ** 0.5


def save(fits: Sequence[Fit], path: Path, record: Mapping[str, Any]) -> Path:
    """Write an ensemble in half precision, and what belongs to it."""
    tensors, own = _contents(fits)
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    return checkpoints.save(path, halves, {**own, **record}, readable=True)


def _contents(fits: Sequence[Fit]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and record of an ensemble: weights of networks, or the first volumes of mixtures."""
    tensors: dict[str, Tensor] = {}
    entries: list[dict[str, Any]] = []
    for number, one in enumerate(fits):
        found, entry = one.specimen, {"held": one.held.tolist(), "history": one.history}
        if isinstance(found, Mixture):
            own = {key: torch.from_numpy(getattr(found, key)) for key in ("solid", "share")}
            entries.append(entry | {key: getattr(found, key) for key in _NUMBERS})
        else:
            own = found.state_dict()
            entries.append(entry | {"scale": found.scale})
        tensors |= {f"{number}.{key}": value for key, value in own.items()}
    record: dict[str, Any] = {"series": _sample(fits[0].series)}
    if isinstance(fits[0].specimen, Mixture):
        return tensors, record | {"mixtures": entries}
    assumed = asdict(fits[0].specimen.assumed)
    return tensors, record | {key: assumed[key] for key in _OPTIONS} | {"fits": entries}


def load(path: Path, series: TiltSeries, device: torch.device | str = "cpu") -> list[Fit]:
    """Read an ensemble that was fitted to this series.

    Raises
    ------
    InputError
        If the file is not that of an ensemble, or belongs to another series.
    """
    tensors, record = checkpoints.load(path)
    fits = []
    try:
        _refuse_another(series, record["series"], path.name)
        for number, entry in enumerate(record.get("mixtures") or record["fits"]):
            held = np.array(entry["held"], np.int64)
            own = {k: v.float() for k, v in checkpoints.of(tensors, f"{number}").items()}
            specimen: FreeSpecimen | Mixture
            if "mixtures" in record:
                solid, share = own["solid"].numpy(), own["share"].numpy()
                numbers = {key: float(entry[key]) for key in _NUMBERS}
                specimen = Mixture(solid, share, series.moments, **numbers)
            else:
                options = {key: record[key] for key in _OPTIONS}
                assumed = FreeChange(**options | {"shape": Shape(**record["shape"])})
                specimen = FreeSpecimen(series, held, assumed)
                checkpoints.fill(specimen, own, path.name)
                specimen = specimen.to(device).eval().at_scale(float(entry["scale"]))
            fits.append(Fit(specimen, series, held, entry["history"]))
    except (KeyError, TypeError):
        raise InputError(f"checkpoint: {path.name} is not that of an ensemble") from None
    return fits


def _sample(series: TiltSeries) -> list[list[float]]:
    """What tells a series from others: angles, times, and three pixels of a dozen tilts."""
    p = series.projections
    count, depth, size = p.shape
    some = np.linspace(0, count - 1, 12).round().astype(int)
    chosen = p[some, depth // 2][:, [size // 3, size // 2, 2 * size // 3]] / p.max()
    columns = (np.full(12, count), series.angles[some], series.moments[some], chosen)
    return [[round(float(v), 5) for v in row] for row in np.column_stack(columns)]


def _refuse_another(series: TiltSeries, sample: Any, name: str) -> None:
    here, there = np.array(_sample(series)), np.array(sample, float)
    # they are rounded, and machines differ
    if here.shape != there.shape or abs(here - there).max() > 1e-3:
        raise InputError(f"checkpoint: {name} was fitted to another tilt series; fit this one")
