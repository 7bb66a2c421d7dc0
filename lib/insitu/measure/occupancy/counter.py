"""How many atoms are in each column of an image: a table, two maps, and when not to believe them.

`load_counter()` opens the network of `insitu.measure.occupancy.network` with its calibration. What
it says is pooled over each column that it finds; intervals hold 90 % within bins of species, dose,
thickness, defocus and occupancy. Where an image is unlike those that it was taught it says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage
from torch import Tensor
from torch.nn import functional

from insitu import InputError, checks
from insitu.denoise.binning import tiles
from insitu.denoise.local_wiener import mirrored
from insitu.learning import checkpoints
from insitu.measure.occupancy.network import (
    CLASSES,
    CONDITIONS,
    MOST,
    PIXEL,
    UNITS,
    Answer,
    AtomCounter,
    expected_atoms,
    log_occupancy,
)

Array = NDArray[np.float64]

TILE, HALO = 256, 32  # pixels, of large images
RADIUS = 2  # pixels around the middle of a column that are pooled
APART = 4  # pixels between two columns, at least
DOSES, PIXELS = (20.0, 10_000.0), (0.04, 0.26)  # what it may be shown [e-/A^2], [A]
# edges of bins, in each of which intervals are calibrated: dose, thickness, defocus, occupancy
DOSE_BINS, THICKNESS_BINS, DEFOCUS_BINS, SHARE_BINS = (60, 200, 600), (5.5, 8.5), (-75, -25), (0.8,)
LEAST = 0.05  # standard deviation that is taken at least, of a number of atoms


@dataclass(frozen=True)
class Calibration:
    """What slabs that it never learned from said of the network."""

    classes: float = 1.0  # temperature of the classes
    atoms: tuple[float, float] = (1.0, 1.0)  # of the atoms in anions, and in cations
    quantiles: Mapping[str, float] = field(default_factory=dict)  # of a bin [standard deviations]
    threshold: float = 0.0  # logit of `inside` below which it abstains


@dataclass(frozen=True)
class Counted:
    """The columns of an image, arrays (n,), and two maps of it."""

    y: Array  # [A] from the middle of pixel (0, 0)
    x: Array
    cation: NDArray[np.bool_]
    certainty: Array  # probability of that species, of the two
    probability: Array  # (n, 13) of 0 to 12 atoms
    low: Array  # limits of the 90 % interval of the number of atoms
    high: Array
    classes: NDArray[np.float32]  # (3, y, x) probabilities of CLASSES
    atoms: NDArray[np.float32]  # (y, x) expected atoms of the column there, NaN off the columns
    pixel_size: float  # of the maps [A]
    conditions: dict[str, float]  # CONDITIONS [A], [degrees], [atoms]
    abstains: str  # why it should not be believed; empty where it may be

    @property
    def mean(self) -> Array:
        """Expected number of atoms (n,)."""
        return np.asarray(self.probability @ np.arange(MOST + 1))

    def rows(self) -> list[dict[str, Any]]:
        """One row for each column, for a csv file."""
        names = np.where(self.cation, "cation", "anion")
        values = (self.y, self.x, names, self.certainty, self.mean, self.low, self.high)
        keys = ("y_angstrom", "x_angstrom", "species", "certainty", "atoms", "low_90", "high_90")
        return [dict(zip(keys, row, strict=True)) for row in zip(*values, strict=True)]


@dataclass
class OccupancyCounter:
    """The network and its calibration: from counts to a table of columns.

    Examples
    --------
    >>> counter = load_counter()
    >>> noise = np.random.default_rng(0).poisson(4.0, (128, 128))
    >>> counter(noise, pixel_size=0.2).abstains
    'no columns were found: this is no image of a crystal that the network was taught'
    """

    network: AtomCounter
    calibration: Calibration

    def __call__(self, counts: ArrayLike, pixel_size: float) -> Counted:
        """Count the atoms in every column of an image.

        Parameters
        ----------
        counts : (y, x) array
            Electrons per pixel.
        pixel_size : float
            [A].

        Raises
        ------
        InputError
            If the counts are no image, NaN or negative, or show less than 10 A.
        """
        image = np.asarray(counts)
        checks.positive("pixel_size", pixel_size, "A")
        if image.ndim != 2 or min(image.shape) * pixel_size < 10:
            raise InputError(
                f"counts: expected an image (y, x) of at least 10 A, got shape {image.shape} with "
                f"pixels of {pixel_size:g} A"
            )
        checks.finite("counts", image)
        checks.not_negative("counts", image)
        dose = float(image.mean(dtype=np.float64)) / pixel_size**2
        canonical, steps = resampled(image, pixel_size)
        answer = self.answer(torch.from_numpy(canonical))
        places = columns_in(answer.classes[0])
        classes, atoms = pooled(answer, places)
        told = np.array(UNITS) * answer.conditions[0].numpy()
        cation = (classes[:, 1] > classes[:, 2]).numpy()
        probability = self.probability(atoms, cation)
        low, high = self.interval(probability, cation, dose, told)
        shown = (answer.classes[0] / self.calibration.classes).softmax(0).numpy()
        return Counted(
            (places[:, 0] + 0.5) * steps[0] - pixel_size / 2,
            (places[:, 1] + 0.5) * steps[1] - pixel_size / 2,
            cation,
            (classes[:, 1:] / self.calibration.classes).softmax(1).amax(1).numpy(),
            probability,
            low,
            high,
            shown,
            np.where(shown[0] < 0.5, expected_atoms(answer.atoms)[0].numpy(), np.nan),
            steps[0],
            dict(zip(CONDITIONS, told.tolist(), strict=True)),
            self._why(dose, pixel_size, told, float(answer.inside[0]), len(places)),
        )

    @torch.no_grad()
    def answer(self, image: Tensor) -> Answer:
        """What the network says of an image (y, x) in pixels of 0.2 A, in tiles if it is large."""
        device = next(self.network.parameters()).device
        rows, columns = image.shape
        unit = self.network.unit
        whole = mirrored(image[None, None], (0, -rows % unit), (0, -columns % unit))
        side = TILE if max(whole.shape) > TILE + 2 * HALO else max(whole.shape)
        maps = torch.empty(1, len(CLASSES) + MOST, *whole.shape[2:])
        told, weights = [], []
        for place, seen, inner in tiles(whole.shape[2:], side, HALO):
            part = whole[:, :, seen[0], seen[1]].to(device)
            some = self.network(part.contiguous(memory_format=torch.channels_last))
            pixels = torch.cat([some.classes, some.atoms], 1)[:, :, inner[0], inner[1]].cpu()
            maps[:, :, place[0], place[1]] = pixels
            told.append(torch.cat([some.conditions, some.spread, some.inside[:, None]], 1).cpu())
            weights.append(float((some.classes.argmax(1) > 0).float().mean()) + 1e-3)
        share = torch.tensor(weights)[:, None] / sum(weights)
        image_wide = (torch.cat(told) * share).sum(0, keepdim=True)
        conditions, spread, inside = image_wide.split([3, 3, 1], 1)
        maps = maps[:, :, :rows, :columns]
        classes, atoms = maps.split([len(CLASSES), MOST], 1)
        return Answer(classes, atoms, conditions, spread, inside[:, 0])

    def probability(self, atoms: Tensor, cation: NDArray[np.bool_]) -> Array:
        """Calibrated probabilities (n, 13) of pooled logits (n, 12)."""
        heat = torch.tensor(self.calibration.atoms)[torch.from_numpy(cation).long()]
        return np.asarray(log_occupancy(atoms / heat[:, None]).exp().numpy(), np.float64)

    def interval(
        self, probability: Array, cation: NDArray[np.bool_], dose: float, told: Array
    ) -> tuple[Array, Array]:
        """Limits of the 90 % intervals: mean and so many standard deviations as the bin needs."""
        mean, deviation = moments_of(probability)
        quantiles = self.calibration.quantiles
        width = deviation * np.array(
            [
                quantiles.get(name, quantiles.get(name.split()[0], 1.645))
                for name in bins_of(mean, cation, dose, told)
            ]
        )
        return np.maximum(mean - width, 0), np.minimum(mean + width, MOST)

    def _why(self, dose: float, pixel_size: float, told: Array, inside: float, columns: int) -> str:
        if not PIXELS[0] <= pixel_size <= PIXELS[1]:
            return (
                f"pixels of {pixel_size:g} A are outside of {PIXELS[0]:g} to {PIXELS[1]:g} A, for "
                "which the network was taught"
            )
        if not DOSES[0] <= dose <= DOSES[1]:
            return (
                f"{dose:.3g} e-/A^2 are outside of {DOSES[0]:g} to {DOSES[1]:g} e-/A^2, for which "
                "the network was taught; sum frames"
            )
        if columns < 5:
            return (
                "no columns were found: this is no image of a crystal that the network was taught"
            )
        if inside < self.calibration.threshold:
            return (
                "the image is unlike those that the network was taught: check pixel size and "
                f"crystal; it looks as if taken at a defocus of {told[0]:.0f} A and {told[1]:.1f} "
                "degrees of tilt, taught are -120 to 20 A and 0 to 4 degrees"
            )
        return ""


def load_counter(
    name: str | Path = "occupancy", *, device: torch.device | str = "cpu"
) -> OccupancyCounter:
    """Open the counter that ships, or one from a .safetensors file.

    Raises
    ------
    InputError
        If there is no such checkpoint, or it is not that of a counter.
    """
    path = checkpoints.find(name)
    tensors, record = checkpoints.load(path)
    try:
        network = AtomCounter(**record["options"])
        kept = record["calibration"]
        calibration = Calibration(**{**kept, "atoms": tuple(kept["atoms"])})
    except (KeyError, TypeError, ValueError):
        raise InputError(f"checkpoint: {path.name} is not that of an occupancy counter") from None
    checkpoints.fill(network, {k: v.float() for k, v in tensors.items()}, path.name)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return OccupancyCounter(network.eval(), calibration)


def resampled(image: NDArray[Any], pixel_size: float) -> tuple[NDArray[np.float32], Array]:
    """Counts in pixels of about 0.2 A, by cosine series, and the sides of these pixels [A].

    Frequencies that one of the two grids cannot hold are left out; white noise stays white.

    >>> coarse, steps = resampled(np.full((128, 64), 2.0), 0.1)
    >>> coarse.shape, steps.tolist(), float(coarse.mean().round(3))
    ((64, 32), [0.2, 0.2], 8.0)
    """
    sides = [max(1, round(n * pixel_size / PIXEL)) for n in image.shape]
    terms = fft.dctn(image.astype(np.float64), norm="forward")
    kept = [min(n, m) for n, m in zip(image.shape, sides, strict=True)]
    room = [(0, m - k) for m, k in zip(sides, kept, strict=True)]
    steps = np.array([n * pixel_size / m for n, m in zip(image.shape, sides, strict=True)])
    coarse = fft.idctn(np.pad(terms[: kept[0], : kept[1]], room), norm="forward")
    return (coarse * steps.prod() / pixel_size**2).astype(np.float32), steps


def columns_in(classes: Tensor) -> Array:
    """Middles of the columns (n, 2) in logits of CLASSES (3, y, x), y and x [px].

    Maxima of the smoothed probability of any column, then the centre of mass around each.
    """
    column = 1 - classes.softmax(0)[0].numpy()
    smooth = ndimage.gaussian_filter(column, 1.0, mode="nearest")
    size = 2 * (APART // 2) + 1
    peak = (smooth == ndimage.maximum_filter(smooth, size, mode="nearest")) & (smooth > 0.4)
    places = np.argwhere(peak)
    if not len(places):
        return np.zeros((0, 2))
    disc = np.argwhere(np.hypot(*np.mgrid[-3:4, -3:4]) <= 3) - 3
    around = np.clip(places[:, None] + disc, 0, np.array(column.shape) - 1)
    weight = column[around[..., 0], around[..., 1]] ** 2
    middle = (around * weight[..., None]).sum(1) / weight.sum(1, keepdims=True)
    return np.asarray(middle, np.float64)


def pooled(answer: Answer, places: Array) -> tuple[Tensor, Tensor]:
    """Mean logits around columns (n, 2) [px] of one image: of classes (n, 3), of atoms (n, 12)."""
    maps = torch.cat([answer.classes, answer.atoms], 1)
    disc = torch.hypot(*torch.meshgrid(*[torch.arange(-RADIUS, RADIUS + 1.0)] * 2, indexing="ij"))
    kernel = (disc <= RADIUS).to(maps)[None, None]
    smooth = functional.conv2d(maps.transpose(0, 1), kernel, padding=RADIUS)
    counted = functional.conv2d(torch.ones_like(maps[:, :1]), kernel, padding=RADIUS)
    smooth = (smooth / counted)[:, 0]
    limits = np.array(smooth.shape[1:]) - 1
    y, x = torch.from_numpy(np.clip(np.rint(places).astype(int), 0, limits)).T
    found = smooth[:, y, x].T
    return found[:, : len(CLASSES)], found[:, len(CLASSES) :]


def moments_of(probability: Array) -> tuple[Array, Array]:
    """Mean and standard deviation, at least 0.05, of distributions (n, 13)."""
    atoms = np.arange(MOST + 1)
    mean = probability @ atoms
    variance = (probability * (atoms - mean[:, None]) ** 2).sum(1)
    return np.asarray(mean), np.sqrt(variance + LEAST**2)


def bins_of(mean: Array, cation: NDArray[np.bool_], dose: float, told: Array) -> list[str]:
    """The bin of each column: species, then the image's dose, thickness and defocus, and share.

    All of it is known without the truth: the thickness and the defocus are the network's own.

    >>> bins_of(np.array([4.9, 2.0]), np.array([True, False]), 120.0, np.array([-60.0, 1.0, 5.0]))
    ['cation 1 0 1 1', 'anion 1 0 1 0']
    """
    image = [
        int(np.searchsorted(edges, value))
        for edges, value in (
            (DOSE_BINS, dose),
            (THICKNESS_BINS, told[2]),
            (DEFOCUS_BINS, told[0]),
        )
    ]
    names = np.where(cation, "cation", "anion")
    share = np.searchsorted(SHARE_BINS, mean / max(float(told[2]), 1.0))
    return [f"{n} {' '.join(map(str, image))} {s}" for n, s in zip(names, share, strict=True)]
