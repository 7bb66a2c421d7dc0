"""What the network's counts are worth, held against a truth, and calibrated on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional

from insitu.counting.poisson import Poisson
from insitu.measure import occupancy
from insitu.measure.occupancy.counter import Calibration, OccupancyCounter
from insitu.measure.occupancy.slabs import (
    DEFOCUS,
    TILT,
    Specimen,
    Views,
    draw_optics,
    painted,
    views_of,
)
from insitu.measure.occupancy.network import PIXEL, UNITS, AtomCounter, log_occupancy
from insitu.simulate.ceria import Columns
from insitu.simulate.imaging import Optics

Array = NDArray[np.float64]
MATCH = 0.5  # farthest that a column is found from where it is [A]
FIELD = 25.6  # of an image that is judged [A]


class Judged(NamedTuple):
    """Columns that were found and exist (n), and images (m) that they are of."""

    atoms: Tensor  # (n, 12) pooled logits
    classes: Tensor  # (n, 3) pooled logits
    cation: NDArray[np.bool_]  # the truth
    present: NDArray[np.int64]  # atoms, the truth
    possible: NDArray[np.int64]
    image: NDArray[np.int64]  # number of the image of each column
    dose: Array  # (m,) [e-/A^2]
    told: Array  # (m, 3) conditions as the network sees them
    true: Array  # (m, 3) as they are [A], [degrees], [atoms]
    inside: Array  # (m,) logits
    columns: NDArray[np.int64]  # (m, 3) of columns that exist, were found and exist, were found
    pixels: NDArray[np.int64]  # (3, 3) of true and of found classes

    @property
    def in_range(self) -> NDArray[np.bool_]:
        """Which images are of the range that was taught, (m,)."""
        defocus, tilt = self.true[:, 0], self.true[:, 1]
        low, high = DEFOCUS
        return (defocus >= low) & (defocus <= high) & (tilt <= TILT)

    @property
    def f1(self) -> float:
        """Twice the columns found and there, over all found and all there."""
        there, both, found = self.columns.sum(0)
        return float(2 * both / max(there + found, 1))


def judge(
    network: AtomCounter,
    specimens: Iterable[Specimen],
    *,
    images: int = 2,
    doses: tuple[float, float] = (20.0, 10_000.0),
    beyond: float = 0.0,
    seed: int = 0,
) -> Judged:
    """Let the network count in images of slabs, of any allowed pixel size.

    Parameters
    ----------
    network : AtomCounter
        In evaluation.
    specimens : iterable of Specimen
        Slabs that it never saw.
    images : int
        Of each slab.
    doses : (float, float)
        Range, evenly in its logarithm [e-/A^2].
    beyond : float
        Share of images up to 5 nm out of the range of defocus; slabs that are tilted by more than
        4 degrees are left out if it is 0.
    seed : int
        Of optics, doses and counts.
    """
    counter = OccupancyCounter(network, Calibration())
    rows: list[tuple[Any, ...]] = []
    seen: list[tuple[Any, ...]] = []
    pixels = np.zeros((3, 3), np.int64)
    for specimen in specimens:
        if specimen.tilt > TILT and not beyond:
            continue
        rng = np.random.default_rng([seed, specimen.recipe.seed])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        for _ in range(images):
            pixel_size = float(rng.uniform(0.05, 0.25))
            optics, views = _view(specimen, pixel_size, beyond, rng)
            dose = float(np.exp(rng.uniform(*np.log(doses))))
            counts = Poisson().sample(views.clean[0] * dose * pixel_size**2, generator)
            defocus = float(torch.as_tensor(optics.defocus)[0])
            true = np.array([defocus, specimen.tilt, specimen.thickness])
            row, told, inside, counted, own = _held(
                counter, counts, pixel_size, specimen.columns, views, len(seen)
            )
            rows.append(row)
            seen.append((dose, told, true, inside, counted))
            pixels += own
    atoms, classes, *truths = zip(*rows, strict=True)
    cation, present, possible, image = (np.concatenate(part) for part in truths)
    dose_of, told_of, true_of, inside_of, counts_of = (
        np.array(part) for part in zip(*seen, strict=True)
    )
    return Judged(
        torch.cat(atoms),
        torch.cat(classes),
        cation,
        present,
        possible,
        image,
        dose_of,
        told_of,
        true_of,
        inside_of,
        counts_of,
        pixels,
    )


def _view(
    specimen: Specimen, pixel_size: float, beyond: float, rng: np.random.Generator
) -> tuple[Optics, Views]:
    """One image of a slab, with random optics, turned and moved at random."""
    optics = draw_optics(rng, 1, beyond=beyond)
    shift = rng.uniform(-0.5, 0.5, (1, 2)) * np.array(specimen.wave.extent) * [0.4, 1]
    views = views_of(
        specimen,
        optics,
        rotation=rng.uniform(0, 360, 1),
        shift=shift,
        size=round(FIELD / pixel_size),
        pixel_size=pixel_size,
    )
    return optics, views


def _held(
    counter: OccupancyCounter,
    counts: Tensor,
    pixel_size: float,
    columns: Columns,
    views: Views,
    number: int,
) -> tuple[Any, ...]:
    """Columns that were found, held against those of the truth."""
    canonical, steps = occupancy.resampled(counts.numpy(), pixel_size)
    answer = counter.answer(torch.from_numpy(canonical))
    places = occupancy.columns_in(answer.classes[0])
    scale = pixel_size / steps
    truth = (views.places[0] + 0.5) * scale - 0.5
    there = columns.atoms[views.column[0]] > 0
    limits = np.array(canonical.shape) - 1 - 0.5 / PIXEL
    tree = cKDTree(truth[there])
    distance, nearest = tree.query(places, distance_upper_bound=MATCH / PIXEL)
    first = np.zeros(len(places), bool)
    first[np.unique(nearest, return_index=True)[1]] = True
    both = np.isfinite(distance) & first

    def within(some: Array) -> NDArray[np.bool_]:  # columns at the very edge are not counted
        return np.asarray(((some >= 0.5 / PIXEL) & (some <= limits)).all(1))

    counted = [within(truth[there]).sum(), within(places[both]).sum(), within(places).sum()]
    of = views.column[0][there][nearest[both]]
    classes, atoms = occupancy.pooled(answer, places[both])
    image = np.full(int(both.sum()), number)
    scaled = Views(views.clean, views.column, [truth])
    painted_classes, _ = painted(columns, scaled, 0, canonical.shape)
    guessed = answer.classes[0].argmax(0).numpy()
    pixels = np.bincount(3 * painted_classes.ravel() + guessed.ravel(), minlength=9)
    row = (atoms, classes, columns.cation[of], columns.atoms[of], columns.possible[of], image)
    told = answer.conditions[0].numpy() * UNITS
    return row, told, float(answer.inside[0]), counted, pixels.reshape(3, 3)


def calibrate(judged: Judged, *, coverage: float = 0.9, least: int = 100) -> Calibration:
    """Temperatures, conformal quantiles and the threshold of abstention from validation slabs.

    In a bin with m columns the interval is mean +- q deviations, with q the k-th smallest of the
    errors in deviations and k = ceil((m + 1) coverage): Mondrian conformal prediction [1]_. Bins
    of fewer than `least` columns take the quantile of their species.

    .. [1] V. Vovk, A. Gammerman, G. Shafer, Algorithmic Learning in a Random World (2005), ch. 4.
    """
    kept = judged.in_range[judged.image]
    heats = []
    for cation in (False, True):
        some = torch.from_numpy(kept & (judged.cation == cation))
        logits, truth = judged.atoms[some], torch.from_numpy(judged.present)[some]
        heats.append(_temperature(lambda t, a=logits, n=truth: _atoms_loss(a / t, n)))
    species = torch.from_numpy(np.where(judged.cation, 0, 1)[kept])
    logits = judged.classes[torch.from_numpy(kept), 1:]
    heat = _temperature(lambda t: float(functional.cross_entropy(logits / t, species)))
    found = Calibration(heat, (heats[0], heats[1]))
    _, mean, deviation, bins = estimates(judged, found)
    score = np.abs(judged.present - mean) / deviation
    species_of = np.array([name.split()[0] for name in bins])
    quantiles = {}
    for name in np.unique(np.concatenate([bins[kept], species_of[kept]])):
        own = np.sort(score[kept & ((bins == name) | (species_of == name))])
        if len(own) >= least or " " not in name:
            rank = min(len(own), int(np.ceil((len(own) + 1) * coverage)))
            quantiles[str(name)] = float(own[rank - 1])
    threshold = float(np.quantile(judged.inside[judged.in_range], 0.04))
    return replace(found, quantiles=quantiles, threshold=threshold)


def _atoms_loss(logits: Tensor, truth: Tensor) -> float:
    return -float(log_occupancy(logits).gather(1, truth[:, None]).mean())


def _temperature(loss: Any) -> float:
    found = minimize_scalar(lambda u: loss(float(np.exp(u))), bounds=(-1.5, 1.5), method="bounded")
    return float(np.exp(found.x))


def estimates(
    judged: Judged, calibration: Calibration
) -> tuple[NDArray[np.bool_], Array, Array, NDArray[np.str_]]:
    """Of every column: cation as found, mean, standard deviation, and its bin."""
    counter = OccupancyCounter(AtomCounter(8, (1, 1)), calibration)
    cation = (judged.classes[:, 1] > judged.classes[:, 2]).numpy()
    mean, deviation = occupancy.moments_of(counter.probability(judged.atoms, cation))
    bins = np.empty(len(mean), dtype="U32")
    for number, (dose, told) in enumerate(zip(judged.dose, judged.told, strict=True)):
        own = judged.image == number
        bins[own] = occupancy.bins_of(mean[own], cation[own], dose, told)
    return cation, mean, deviation, bins
