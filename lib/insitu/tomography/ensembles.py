"""Several fits to one tilt series: their mean, their error bars, and their files.

One fit tells nothing of its own errors. Fits from other first weights and to other tilts differ
where the data leave them free; the tilts that each has not seen tell how much they err together.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from insitu import InputError
from insitu.learning import checkpoints
from insitu.learning.training import Settings
from insitu.tomography.prior import Shape
from insitu.tomography.projection import project
from insitu.tomography.series import TiltSeries
from insitu.tomography.specimen import Specimen
from insitu.tomography.volumes import SETTINGS, Fit, fit

Array = NDArray[np.float32]


class Member(Protocol):
    """A fit of any kind: `volumes.Fit`, or `diffusion.Mixture`."""

    series: TiltSeries
    held: NDArray[np.int64]

    def volumes(self, moments: Sequence[int] | None = None) -> Array:
        """Volumes at tilts by number, (t, z, y, x)."""

    def place(self, number: int) -> Tensor:
        """Place of the tilt axis at a tilt by number, (1,) [pixels]."""


def fit_members(
    series: TiltSeries,
    settings: Settings = SETTINGS,
    *,
    members: int = 5,
    hold_every: int = 10,
    seed: int = 0,
    folder: Path | None = None,
    **options: Any,
) -> list[Fit]:
    """Several fits, each of a seed of its own, and with other tilts held back.

    Parameters
    ----------
    series, settings
        As of `fit`.
    members : int
        How many.
    hold_every, seed : int
        As of `fit`; a member has the next seed, and holds back other tilts.
    folder : Path, optional
        Where each member's state is kept, and its weights once it is fitted, so that an ensemble
        that was killed goes on where it stood.
    options
        As of `fit`.
    """
    usual = {k: p.default for k, p in inspect.signature(fit).parameters.items()}
    apart = ("series", "settings", "checkpoint", "device", "progress", "watch")
    told_options = {
        k: repr(v) for k, v in {**usual, "shape": Shape(), **options}.items() if k not in apart
    }
    fits = []
    for m in range(members):
        own: dict[str, Any] = {
            "seed": seed + m,
            "hold_every": hold_every,
            "hold_first": m * hold_every // members,
        }
        if folder is None:
            fits.append(fit(series, settings, **own, **options))
            continue
        whole, state = folder / f"member_{m}.safetensors", folder / f"member_{m}.part.safetensors"
        device = options.get("device", "cpu")
        told = {**asdict(settings), **own, "options": told_options}
        if whole.is_file() and checkpoints.load(whole)[1].get("told") == told:
            fits += load(whole, series, device)
        else:
            fits.append(fit(series, settings, checkpoint=state, **own, **options))
            save(fits[-1:], whole, {"told": told})
    return fits


def mean_and_deviation(
    fits: Sequence[Member], moments: Sequence[int] | None = None, *, spread: float = 1.0
) -> tuple[Array, Array]:
    """Mean volumes of an ensemble, and one standard deviation of their error, (t, z, y, x).

    A member's error is `spread` times what members differ by (`spread_of`): its square is that of
    what they differ by and of what they have in common. The mean of n members keeps the common
    part, and 1/n of the rest: s^2 (spread^2 - 1 + 1/n). Few members tell a voxel's s^2 badly (of
    three, 58 % of the errors would lie within s, not 68 %): it is averaged over its neighbours,
    by a Gaussian of one voxel.
    """
    mean = fits[0].volumes(moments)
    square = np.zeros_like(mean)
    for number, other in enumerate(fits[1:], start=2):  # Welford's recurrence
        for middle, variance, drawn in zip(mean, square, other.volumes(moments), strict=True):
            step = drawn - middle
            middle += step / number
            variance += step * (drawn - middle)
    square *= max(0.0, spread**2 - 1 + 1 / len(fits)) / max(1, len(fits) - 1)
    for variance in square:
        ndimage.gaussian_filter(variance, 1.0, output=variance, mode="nearest")
    return mean, np.sqrt(square, out=square)


@torch.no_grad()
def spread_of(fits: Sequence[Member]) -> float:
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
                u, place = torch.from_numpy(other.volumes([k])), other.place(k).cpu()
                seen.append(project(u, angles[[k]], shifts=place)[0].numpy())
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
    """Write an ensemble's weights, in half precision, and what belongs to them."""
    specimen = fits[0].specimen
    own = {
        "series": fits[0].series.sample(),
        "shape": asdict(specimen.generator.shape),
        "gains": specimen.gains is not None,
        "sizes": specimen.sizes is not None,
        "shifts": specimen.shifts is not None,
        "offset": specimen.offset,
        "fits": [{"held": f.held.tolist(), "scale": f.scale, "history": f.history} for f in fits],
    }
    tensors = {
        f"{n}.{k}": v.half() for n, f in enumerate(fits) for k, v in f.specimen.state_dict().items()
    }
    return checkpoints.save(path, tensors, {**own, **record}, readable=True)


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
        shape = Shape(**record["shape"])
        options = {key: record[key] for key in ("gains", "sizes", "shifts", "offset")}
        about = [
            (np.array(f["held"], np.int64), float(f["scale"]), f["history"]) for f in record["fits"]
        ]
        there = record["series"]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"checkpoint: {path.name} is not that of an ensemble") from None
    series.refuse_another(there, path.name)
    for number, (held, scale, history) in enumerate(about):
        specimen = Specimen(series, shape, **options)
        start = f"{number}."
        own = {k.removeprefix(start): v.float() for k, v in tensors.items() if k.startswith(start)}
        checkpoints.fill(specimen, own, path.name)
        fits.append(Fit(specimen.to(device).eval(), series, held, scale, history))
    return fits
