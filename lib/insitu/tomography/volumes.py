"""A volume at every moment of one tilt series, with its uncertainty.

A generator is fitted to the tilt series at hand and to nothing else: the slices that it draws for
a time are projected at the angle that was recorded at that time, and compared
{cite}`yoo2021,craig_abstract`. Some tilts are held back: they tell when to stop, and whether the
specimen is found or only its projections.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from insitu import InputError
from insitu.learning import checkpoints
from insitu.learning.training import Settings, train
from insitu.tomography import penalties
from insitu.tomography.prior import Shape
from insitu.tomography.projection import project
from insitu.tomography.series import TiltSeries
from insitu.tomography.specimen import About, Specimen, about

Array = NDArray[np.float32]
SETTINGS = Settings(
    steps=500,
    optimiser="muon",
    learning_rate=1e-2,
    warm_up=20,
    average=0.99,
    validate_every=100,
    save_every=100,
)


@dataclass
class Fit:
    """A specimen that was fitted to a tilt series.

    Parameters
    ----------
    specimen : Specimen
        The network.
    series : TiltSeries
        What it was fitted to.
    held : array of int
        Tilts that it was not fitted to.
    scale : float
        Intensity that the generator draws as 1.
    history : list
        Steps, seconds, training loss and error of the tilts held back, relative to their norm.
    """

    specimen: Specimen
    series: TiltSeries
    held: NDArray[np.int64]
    scale: float
    history: list[dict[str, float]]

    @torch.no_grad()
    def volumes(self, moments: Sequence[int] | None = None) -> Array:
        """Volumes at tilts by number, all by default, (t, z, y, x)."""
        count, depth, size = self.series.projections.shape
        numbers = range(count) if moments is None else moments
        result = np.empty((len(numbers), depth, size, size), np.float32)
        device = next(self.specimen.parameters()).device
        blocks = torch.arange(self.specimen.generator.blocks, device=device)
        for index, number in enumerate(numbers):
            tilt = torch.full_like(blocks, number)
            _, u = self.specimen(blocks, tilt, self._about(device))
            result[index] = self.scale * u.flatten(0, 1)[:depth].cpu().numpy()
        return result

    def place(self, number: int) -> Tensor:
        """Place of the tilt axis at a tilt by number, (1,) [pixels]."""
        near = self._about(next(self.specimen.parameters()).device).near
        return self.specimen.places(near[[number]])

    def _about(self, device: torch.device) -> About:
        return about(self.series, self.held, device)

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
        raise InputError(
            f"tilt series: of {count} tilts {len(held)} are held back; three or more are needed "
            f"to fit, hold back fewer"
        )
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


def fit(
    series: TiltSeries,
    settings: Settings = SETTINGS,
    *,
    shape: Shape | None = None,
    batch: int = 12,
    hold_every: int = 12,
    hold_first: int = 4,
    sharpness: float = 1.0,
    variation: float = 0.5,
    steady: float = 0.0,
    gains: bool = False,
    sizes: bool = False,
    shifts: bool = False,
    offset: float = 0.0,
    start: Fit | None = None,
    seed: int = 0,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    watch: Callable[[Specimen], None] | None = None,
    progress: bool = True,
) -> Fit:
    """Fit a specimen that changes to a tilt series.

    The loss is the mean square of F (A u - p), in units of that of F p, and

        variation * mean |grad u| + steady / mean (F p)^2 * mean |u(t + 1 tilt) - u(t)|,

    u in units in which its brightest is about 1, in the last term without gains and sizes, and the
    gradient per 1/64 of the field. F is the filter of `penalties.sharpened`, which gives edges
    back the weight that a projection takes from them. Among slices that explain the tilts about
    as well, the second term favours that of the shortest and lowest edges (total variation), the
    third that which changes least.

    Parameters
    ----------
    series : TiltSeries
        What was recorded.
    settings : Settings
        How long and how fast.
    shape : Shape, optional
        Of the generator.
    batch : int
        Blocks of slices a step, each at a tilt of its own.
    hold_every, hold_first : int
        Which tilts are held back; 0 holds none, and the step of the best training error is taken.
    sharpness : float
        Exponent of F; noise is sharpened, too, so that less may be more where there is much of it.
    variation : float
        Weight of the total variation.
    steady : float
        Weight of the change; for orders of tilts that take long to come around.
    gains, sizes, shifts, offset : bool, bool, bool, float
        As of `Specimen`.
    start : Fit, optional
        Begin with the weights of an earlier fit, such as one to the tilts so far.
    seed : int
        Of first weights and of batches.
    checkpoint : Path, optional
        Where the state is kept, from which a run that was killed goes on.
    device : device
        Where to fit.
    watch : callable, optional
        Called with the specimen whenever it is judged.
    progress : bool
        Show a bar.

    Raises
    ------
    InputError
        If fewer than three tilts are left to fit, or the loss is no longer finite.
    """
    count, depth, size = series.projections.shape
    held, used = held_back(count, hold_every, hold_first)
    device = torch.device(device)
    shape = shape or Shape(together=min(16, depth))
    made = checkpoints.seeded(
        Specimen,
        seed,
        series=series,
        shape=shape,
        gains=gains,
        sizes=sizes,
        shifts=shifts,
        offset=offset,
    )
    assert isinstance(made, Specimen)
    specimen = made.to(device)
    specimen.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    scale = float(series.projections[used].max()) / (size / 3)
    if start is not None:
        scale = start.scale
        specimen.generator.load_state_dict(start.specimen.generator.state_dict())
    known = about(series, held, device)
    blocks, together = specimen.generator.blocks, shape.together
    y = torch.tensor(series.projections / scale, device=device)
    y = functional.pad(y, (0, 0, 0, blocks * together - depth))
    y = y.reshape(count, blocks, together, size)
    power = float((penalties.sharpened(y[used], sharpness) ** 2).mean())
    pairs = np.stack(np.meshgrid(used, np.arange(blocks), indexing="ij"), -1).reshape(-1, 2)

    def compare(model: Specimen, tilt: Tensor, block: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        drawn, u = model(block, tilt, known)
        seen = project(u, known.angles[tilt], shifts=model.places(known.near[tilt]))
        return drawn, u, seen - y[tilt, block]

    def loss(model: nn.Module, step: int) -> Tensor:
        assert isinstance(model, Specimen)
        chosen = torch.tensor(_turns(pairs, step, batch, seed), device=device)
        tilt, block = chosen.unbind(1)
        drawn, u, difference = compare(model, tilt, block)
        value = (penalties.sharpened(difference, sharpness) ** 2).mean() / power
        if variation:
            value = value + variation * size / 64 * penalties.variation(u)
        if steady:
            other = torch.where(tilt + 1 < count, tilt + 1, tilt - 1)
            later = model.slices(block, other, known)
            value = value + steady * (later - drawn).abs().mean() / power
        return value

    judged = held if len(held) else used

    def validate(model: nn.Module) -> float:
        assert isinstance(model, Specimen)
        if watch is not None:
            watch(model)
        block = torch.arange(blocks, device=device)
        tilts = [torch.full_like(block, int(k)) for k in judged]
        errors = [float((compare(model, k, block)[2] ** 2).mean()) for k in tilts]
        own = float(torch.mean(y[torch.as_tensor(judged, device=device)] ** 2))
        return float(np.mean(errors) / own) ** 0.5

    run = {
        "series": series.digest(),
        "held": held.tolist(),
        "shape": asdict(shape),
        "batch": batch,
        "sharpness": sharpness,
        "variation": variation,
        "steady": steady,
        "gains": gains,
        "sizes": sizes,
        "shifts": shifts,
        "offset": offset,
        "seed": seed,
        "start": None if start is None else _weights(start.specimen.generator),
    }
    result = train(
        specimen, loss, validate, settings, checkpoint=checkpoint, about=run, progress=progress
    )
    assert isinstance(result.network, Specimen)
    return Fit(result.network, series, held, scale, result.history)


def stream(
    series: TiltSeries,
    *,
    first: int = 12,
    opening: Settings = SETTINGS,
    each: Settings | None = None,
    progress: bool = False,
    **options: Any,
) -> Iterator[tuple[int, Fit]]:
    """Fit while tilts arrive: after each new one, some steps from the weights before.

    Parameters
    ----------
    series : TiltSeries
        Of which tilts become known one by one.
    first : int
        Tilts to wait for.
    opening, each : Settings
        For the first fit, and for each that follows.
    options
        As of `fit`.

    Yields
    ------
    number, fit
        Of the newest tilt, and what is known then.
    """
    later = each or replace(opening, steps=40, warm_up=5, learning_rate=opening.learning_rate / 2)
    known: Fit | None = None
    for count in range(first, len(series.angles) + 1):
        known = fit(
            series.until(count),
            opening if known is None else later,
            start=known,
            hold_every=0,
            progress=progress,
            **options,
        )
        yield count - 1, known


def _weights(of: nn.Module) -> str:
    """Digest of all weights."""
    parts = [weight.cpu().contiguous().numpy().tobytes() for weight in of.state_dict().values()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _turns(pairs: NDArray[Any], step: int, batch: int, seed: int) -> NDArray[Any]:
    """Pairs of a step: all of them once in each round, in an order of the round's own."""
    batch = min(batch, len(pairs))
    turn, first = divmod(step * batch, len(pairs) - len(pairs) % batch)
    order = np.random.default_rng([seed, turn]).permutation(len(pairs))
    return pairs[order[first : first + batch]]
