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

from insitu import InputError, checkpoints
from insitu.tomography import penalties
from insitu.tomography.prior import Generator, Shape
from insitu.tomography.projection import project
from insitu.tomography.series import TiltSeries
from insitu.training import Settings, train

Array = NDArray[np.float32]
SETTINGS = Settings(
    steps=500, optimiser="muon", learning_rate=1e-2, warm_up=20, average=0.99, validate_every=100,
    save_every=100,
)  # fmt: skip


class Specimen(nn.Module):
    """A generator, and what each tilt may have of its own: brightness and place.

    Parameters
    ----------
    series : TiltSeries
        Its times and its size.
    shape : Shape
        Of the generator.
    gains, shifts : bool
        Fit a brightness of the specimen a tilt, which its volumes have, too; fit the place of the
        tilt axis on the detector a tilt.
    offset : float
        Of the tilt axis from the middle of the detector [pixels].
    """

    def __init__(
        self, series: TiltSeries, shape: Shape, *, gains: bool, shifts: bool, offset: float
    ) -> None:
        super().__init__()
        count, depth, size = series.projections.shape
        self.generator = Generator(size, depth, shape)
        self.offset = offset
        self.gains = nn.Parameter(torch.zeros(1, count)) if gains else None
        self.shifts = nn.Parameter(torch.zeros(1, count)) if shifts else None

    def slices(self, block: Tensor, share: Tensor, angle: Tensor) -> Tensor:
        """Slices (n, together, y, x) of the blocks at times from 0 to 1, without the gains."""
        drawn: Tensor = self.generator(block, share, angle)
        return drawn

    def gain(self, near: Tensor) -> Tensor:
        """Brightness at weighted tilts, (n, tilts) to (n, 1, 1, 1)."""
        if self.gains is None:
            return torch.ones(len(near), 1, 1, 1, device=near.device)
        return torch.exp(5 * near @ self.gains[0])[:, None, None, None]

    def places(self, near: Tensor) -> Tensor:
        """Place of the tilt axis at weighted tilts, (n, tilts) to (n,) [pixels]."""
        if self.shifts is None:
            return torch.full((len(near),), self.offset, device=near.device)
        return self.offset + near @ (self.shifts[0] - self.shifts.mean())


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
            u = _draw(self.specimen, blocks, tilt, self._about(device))
            result[index] = self.scale * u.flatten(0, 1)[:depth].cpu().numpy()
        return result

    def place(self, number: int) -> Tensor:
        """Place of the tilt axis at a tilt by number, (1,) [pixels]."""
        near = self._about(next(self.specimen.parameters()).device).near
        return self.specimen.places(near[[number]])

    def _about(self, device: torch.device) -> _About:
        return _about(self.series, self.held, device)

    def held_error(self) -> float:
        """|A u - p| / |p| of the tilts held back."""
        return min(h["validation"] for h in self.history)


@dataclass(frozen=True)
class _About:
    """The series as tensors; brightness and place of a tilt held back are its neighbours' mean."""

    angles: Tensor
    shares: Tensor
    near: Tensor  # (tilts, tilts), rows of weights


def _about(series: TiltSeries, held: NDArray[np.int64], device: torch.device) -> _About:
    count = len(series.angles)
    used = np.setdiff1d(np.arange(count), held)
    near = np.stack([np.interp(series.share, series.share[used], row)
                     for row in np.eye(len(used))], 1)  # fmt: skip
    full = np.zeros((count, count), np.float32)
    full[:, used] = near
    return _About(
        torch.tensor(series.angles, dtype=torch.float32, device=device),
        torch.tensor(series.share, device=device), torch.tensor(full, device=device),
    )  # fmt: skip


def _draw(specimen: Specimen, block: Tensor, tilt: Tensor, about: _About) -> Tensor:
    u = specimen.slices(block, about.shares[tilt], about.angles[tilt])
    return u * specimen.gain(about.near[tilt])


def held_back(count: int, every: int, first: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every so-manieth tilt, never the first or the last, and the others, to be fitted to.

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

    u in units in which its brightest is about 1, in the last term without the gains, and the
    gradient per 1/64 of the field. A projection
    keeps a detail of spatial frequency f with a weight of 1 / f, so that a plain difference
    hardly sees edges, and they are learned last. F gives the weight back,
    (|f| + 0.05)^sharpness along the detector: 1 is nearly the ramp of filtered back-projection, 0
    is none. Among slices that explain the tilts about as well, the second term favours that of
    the shortest and lowest edges (total variation), the third that which changes least.

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
    gains, shifts, offset : bool, bool, float
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
        Specimen, seed, series=series, shape=shape, gains=gains, shifts=shifts, offset=offset
    )
    assert isinstance(made, Specimen)
    specimen = made.to(device)
    specimen.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    scale = float(series.projections[used].max()) / (size / 3)
    if start is not None:
        scale = start.scale
        specimen.generator.load_state_dict(start.specimen.generator.state_dict())
    about = _about(series, held, device)
    blocks, together = specimen.generator.blocks, shape.together
    y = torch.tensor(series.projections / scale, device=device)
    y = functional.pad(y, (0, 0, 0, blocks * together - depth))
    y = y.reshape(count, blocks, together, size)
    power = float((penalties.sharpened(y[used], sharpness) ** 2).mean())
    pairs = np.stack(np.meshgrid(used, np.arange(blocks), indexing="ij"), -1).reshape(-1, 2)

    def compare(model: Specimen, tilt: Tensor, block: Tensor) -> tuple[Tensor, Tensor]:
        u = _draw(model, block, tilt, about)
        seen = project(u, about.angles[tilt], shifts=model.places(about.near[tilt]))
        return u, seen - y[tilt, block]

    def loss(model: nn.Module, step: int) -> Tensor:
        assert isinstance(model, Specimen)
        chosen = torch.tensor(_turns(pairs, step, batch, seed), device=device)
        tilt, block = chosen.unbind(1)
        u, difference = compare(model, tilt, block)
        value = (penalties.sharpened(difference, sharpness) ** 2).mean() / power
        if variation:
            value = value + variation * size / 64 * penalties.variation(u)
        if steady:
            other = torch.where(tilt + 1 < count, tilt + 1, tilt - 1)
            still = u / model.gain(about.near[tilt])
            later = model.slices(block, about.shares[other], about.angles[other])
            value = value + steady * (later - still).abs().mean() / power
        return value

    judged = held if len(held) else used

    def validate(model: nn.Module) -> float:
        assert isinstance(model, Specimen)
        if watch is not None:
            watch(model)
        block = torch.arange(blocks, device=device)
        tilts = [torch.full_like(block, int(k)) for k in judged]
        errors = [float((compare(model, k, block)[1] ** 2).mean()) for k in tilts]
        own = float(torch.mean(y[torch.as_tensor(judged, device=device)] ** 2))
        return float(np.mean(errors) / own) ** 0.5

    run = {"series": series.digest(), "held": held.tolist(), "shape": asdict(shape),
           "batch": batch, "sharpness": sharpness, "variation": variation, "steady": steady,
           "gains": gains, "shifts": shifts, "offset": offset, "seed": seed,
           "start": None if start is None else _weights(start.specimen.generator)}  # fmt: skip
    result = train(
        specimen, loss, validate, settings, checkpoint=checkpoint, about=run, progress=progress
    )
    assert isinstance(result.network, Specimen)
    return Fit(result.network, series, held, scale, result.history)


def stream(
    series: TiltSeries, *, first: int = 12, opening: Settings = SETTINGS,
    each: Settings | None = None, progress: bool = False, **options: Any,
) -> Iterator[tuple[int, Fit]]:  # fmt: skip
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
            series.until(count), opening if known is None else later, start=known, hold_every=0,
            progress=progress, **options,
        )  # fmt: skip
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
