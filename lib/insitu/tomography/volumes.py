"""A volume at every moment of one tilt series: one fit, for any model of how a specimen changes.

The specimen is fitted to the tilt series at hand and to nothing else: the slices that are drawn
for a time are projected at the angle that was recorded at that time, and compared
{cite}`yoo2021,craig_abstract`. Some tilts are held back: they tell when to stop, and whether the
specimen is found or only its projections.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from insitu import InputError
from insitu.learning import checkpoints
from insitu.learning.training import Settings, train
from insitu.tomography.mixing import Mixing, Mixture
from insitu.tomography.prior import FreeChange, FreeSpecimen
from insitu.tomography.series import TiltSeries

Array = NDArray[np.float32]
SETTINGS = Settings(steps=500, optimiser="muon", learning_rate=1e-2, warm_up=20, average=0.99)


@dataclass
class Fit:
    """What was fitted to a tilt series.

    Parameters
    ----------
    specimen : FreeSpecimen or Mixture
        By the kind of the model.
    series : TiltSeries
        What it was fitted to.
    held : array of int
        Tilts that it was not fitted to.
    history : list
        Steps, seconds, training loss and error of the tilts held back, relative to their norm.
    """

    specimen: FreeSpecimen | Mixture
    series: TiltSeries
    held: NDArray[np.int64]
    history: list[dict[str, float]]

    def volumes(self, tilts: Sequence[int] | None = None) -> Array:
        """Volumes at tilts by number, in rising order, all by default, (t, z, y, x)."""
        count, depth, size = self.series.projections.shape
        result = np.empty((count if tilts is None else len(tilts), depth, size, size), np.float32)
        for place, volume in zip(result, self.each(tilts), strict=True):
            place[:] = volume
        return result

    def each(self, tilts: Sequence[int] | None = None) -> Iterator[Array]:
        """The same volumes (z, y, x), one by one."""
        return self.specimen.each(range(len(self.series.angles)) if tilts is None else tilts)

    def held_error(self) -> float:
        """|A u - p| / |p| of the tilts held back."""
        return min(h["validation"] for h in self.history)


def held_back(count: int, every: int, first: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the tilts held back, one in `every`, never the first or the last; of the others.

    Raises
    ------
    InputError
        If fewer than three tilts are left to fit.
    """
    held = np.arange(1 + first % every, count - 1, every) if every else np.array([], np.int64)
    if count - len(held) < 3:
        raise InputError(f"tilt series: {len(held)} of {count} tilts are held back; leave 3 to fit")
    return held, np.setdiff1d(np.arange(count), held)


def axis_offset(series: TiltSeries) -> float:
    """Where the tilt axis meets the detector, from its middle [pixels].

    The centre of mass of a specimen at rest goes as offset + a cos angle + b sin angle.
    """
    profile = series.projections.sum(1)
    place = np.arange(profile.shape[1]) - (profile.shape[1] - 1) / 2
    centre = (profile * place).sum(1) / profile.sum(1)
    radians = np.deg2rad(series.angles)
    waves = np.stack((np.ones_like(radians), np.cos(radians), np.sin(radians)), 1)
    return float(np.linalg.lstsq(waves, centre, rcond=None)[0][0])


def sharpened(lines: Tensor, exponent: float) -> Tensor:
    """Filter projections (..., s) by (|f| + 0.05)^exponent along the detector.

    A projection keeps a detail of spatial frequency f with a weight of 1 / f, so that a plain
    difference hardly sees edges, and they are learned last. An exponent of 1 gives the weight
    back, nearly the ramp of filtered back-projection; 0 leaves lines as they are.
    """
    size = lines.shape[-1]
    ramp = (torch.fft.rfftfreq(2 * size, 0.5, device=lines.device) + 0.05) ** exponent
    return torch.fft.irfft(torch.fft.rfft(lines, 2 * size) * ramp, 2 * size)[..., :size]


def edge_length(u: Tensor) -> Tensor:
    """Total variation: the mean length of the gradient within slices (..., y, x)."""
    down = u[..., 1:, :-1] - u[..., :-1, :-1]
    right = u[..., :-1, 1:] - u[..., :-1, :-1]
    return torch.sqrt(down**2 + right**2 + 1e-5).mean()


def fit(
    series: TiltSeries,
    model: FreeChange | Mixing,
    settings: Settings = SETTINGS,
    *,
    seed: int = 0,
    hold_every: int = 10,
    hold_first: int = 0,
    start: Fit | None = None,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Fit:
    """Fit a specimen that changes to a tilt series.

    The loss is the mean square of F (A u - p), in units of that of F p, and

        variation * mean |grad u| + steady / mean (F p)^2 * mean |u(t + 1 tilt) - u(t)|,

    u in units in which its brightest is about 1, in the last term without gains and sizes, and the
    gradient per 1/64 of the field. F is the filter `sharpened`, which gives edges back the weight
    that a projection takes from them. Among slices that explain the tilts about as well, the
    second term favours that of the shortest and lowest edges (total variation), the third that
    which changes least.

    Parameters
    ----------
    series : TiltSeries
        What was recorded.
    model : FreeChange or Mixing
        What is assumed of the specimen.
    settings : Settings
        How long and how fast.
    seed : int
        Of first weights and of batches.
    hold_every, hold_first : int
        Which tilts are held back; 0 holds none, and the step of the best training error is taken.
    start : Fit, optional
        Begin with the weights of an earlier fit of a `FreeChange`, such as one to the tilts so far.
    checkpoint : Path, optional
        Where the state is kept, from which a run that was killed goes on.
    device : device
        Where to fit.
    progress : bool
        Show a bar.

    Raises
    ------
    InputError
        If fewer than three tilts are left to fit, or the loss is no longer finite.

    Examples
    --------
    >>> from insitu.tomography.phantoms import Phantom, record, tilt_angles
    >>> angles = tilt_angles("golden", 6)
    >>> particle = Phantom("rounding", 16, np.linspace(0, 1, 6))
    >>> series, _ = record(particle, angles, rng=np.random.default_rng(0))
    >>> found = fit(series, FreeChange(), replace(SETTINGS, steps=2), hold_every=3)
    >>> found.volumes().shape, found.held
    ((6, 16, 16, 16), array([1, 4]))
    """
    count, _, size = series.projections.shape
    held, used = held_back(count, hold_every, hold_first)
    network = model.network(series, held, seed).to(device)
    scale, begun = float(series.projections[used].max()) / (size / 3) / model.brightest, None
    if start is not None:
        assert isinstance(start.specimen, FreeSpecimen)
        scale, weights = start.specimen.scale, start.specimen.generator.state_dict()
        network.generator.load_state_dict(weights)
        begun = checkpoints.digest(weights.values())
    y = _in_blocks(torch.tensor(series.projections / scale, device=device), network.together)
    power = float((sharpened(y[used], model.sharpness) ** 2).mean())

    def loss(network: Any, step: int) -> Tensor:
        tilt, block = network.turn(used, seed, step)
        drawn, u, seen = network(tilt, block)
        difference = sharpened(seen - y[tilt, block], model.sharpness)
        value = (difference**2).mean() / power
        if model.variation:
            # without the division where it does nothing: it would change the order of gradients
            relative = u if model.brightest == 1 else u / model.brightest
            value = value + model.variation * size / 64 * edge_length(relative)
        if model.steady:
            next_tilt = torch.where(tilt + 1 < count, tilt + 1, tilt - 1)
            change = (network.drawn(next_tilt, block) - drawn).abs().mean()
            value = value + model.steady * change / power
        return value

    judged = held if len(held) else used
    norm = float((y[judged] ** 2).mean())

    def validate(network: Any) -> float:
        shown = network.judged(judged)
        errors = [float(((network(t, b)[2] - y[t, b]) ** 2).mean()) for t, b in shown]
        return float(np.mean(errors) / norm) ** 0.5

    run = {
        "series": series.digest(),
        "held": held.tolist(),
        "model": [type(model).__name__, asdict(model)],
        "seed": seed,
        "start": begun,
    }
    result = train(
        network, loss, validate, settings, checkpoint=checkpoint, about=run, progress=progress
    )
    fitted: Any = result.network
    return Fit(fitted.at_scale(scale), series, held, result.history)


def stream(
    series: TiltSeries,
    model: FreeChange,
    opening: Settings = SETTINGS,
    *,
    first: int = 12,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[int, Fit]]:
    """Fit while tilts arrive: after each new one, some steps from the weights before.

    Parameters
    ----------
    series : TiltSeries
        Of which tilts become known one by one.
    model : FreeChange
        What is assumed of the specimen.
    opening : Settings
        For the first fit; each that follows takes 40 steps at half its learning rate.
    first : int
        Tilts to wait for.
    seed, device
        As of `fit`.

    Yields
    ------
    number, fit
        Of the newest tilt, and what is known then.
    """
    later = replace(opening, steps=40, warm_up=5, learning_rate=opening.learning_rate / 2)
    again = partial(fit, model=model, seed=seed, hold_every=0, device=device)
    known = again(series.until(first), settings=opening)
    yield first - 1, known
    for count in range(first + 1, len(series.angles) + 1):
        known = again(series.until(count), settings=later, start=known)
        yield count - 1, known


def _in_blocks(projections: Tensor, together: int) -> Tensor:
    """(t, z, s) as (t, blocks, together, s), the last block filled up with 0."""
    count, depth, size = projections.shape
    filled = functional.pad(projections, (0, 0, 0, -depth % together))
    return filled.reshape(count, -1, together, size)
