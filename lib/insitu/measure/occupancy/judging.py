"""What the network's counts are worth, held against a truth, and calibrated on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional

from insitu.counting.poisson import Poisson
from insitu.measure.occupancy.counter import DOSES, OccupancyCounter, resampled
from insitu.measure.occupancy.intervals import (
    DIMENSIONS,
    Calibration,
    bins_of,
    factors_of,
    moments_of,
)
from insitu.measure.occupancy.network import MOST, PIXEL, log_occupancy
from insitu.measure.occupancy.sites import Crystal
from insitu.measure.occupancy.slabs import (
    DEFOCUS,
    TILT,
    Specimen,
    Views,
    draw_optics,
    painted,
    views_of,
)
from insitu.simulate.ceria import Columns

Array = NDArray[np.float64]
MATCH = 0.5  # farthest that a column is found from where it is [A]
FIELD = 25.6  # of an image that is judged [A]
PLACED = 0.85  # share of the columns that lie on sites of a crystal that is where it should be
MISPLACED = 0.025  # share of images whose lattice is elsewhere, among those that are trusted


class Judged(NamedTuple):
    """Columns that were found and exist (n), and images (m) that they are of."""

    atoms: Tensor  # (n, 12) logits
    found_cation: NDArray[np.bool_]  # as found
    cation: NDArray[np.bool_]  # the truth
    present: NDArray[np.int64]  # atoms, the truth
    possible: NDArray[np.int64]
    image: NDArray[np.int64]  # number of the image of each column
    dose: Array  # (m,) [e-/A^2]
    told: Array  # (m, 3) conditions as the network sees them; NaN where no crystal was found
    true: Array  # (m, 3) as they are [A], [degrees], [atoms]
    inside: Array  # (m,) logits; -100 where no crystal was found
    fits: Array  # (m,) log-odds of the lattice being where it was found
    columns: NDArray[np.int64]  # (m, 3) of columns that exist, were found and exist, were found
    pixels: Array  # (temperatures,) mean negative log-likelihood of classes for `HEATS`
    confusion: NDArray[np.int64]  # (3, 3) of true and of found classes of pixels

    @property
    def in_range(self) -> NDArray[np.bool_]:
        """Which images are of the range that was taught, (m,)."""
        defocus, tilt = self.true[:, 0], self.true[:, 1]
        low, high = DEFOCUS
        return (defocus >= low) & (defocus <= high) & (tilt <= TILT)

    def trusted(self, calibration: Calibration) -> NDArray[np.bool_]:
        """Images (m,) on which a counter with this calibration does not abstain."""
        return np.asarray((self.fits >= calibration.fits) & (self.inside >= calibration.inside))

    def f1(self, images: NDArray[np.bool_] | None = None) -> float:
        """Twice the columns found and there, over all found and all there; of some images."""
        chosen = slice(None) if images is None else images
        there, both, found = self.columns[chosen].sum(0)
        return float(2 * both / max(there + found, 1))


HEATS = np.geomspace(0.5, 2.0, 9)


def judge(
    counter: OccupancyCounter,
    specimens: Iterable[Specimen],
    *,
    images: int = 2,
    doses: tuple[float, float] = DOSES,
    beyond: float = 0.0,
    seed: int = 0,
) -> Judged:
    """Let the networks count in images of slabs, of any allowed pixel size.

    Parameters
    ----------
    counter : OccupancyCounter
        Its calibration decides alone which sites are taken for empty.
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
    rows: list[tuple[Any, ...]] = []
    seen: list[tuple[Any, ...]] = []
    for image in _images(specimens, images, doses, beyond, seed):
        row, facts = _held(counter, image, len(seen))
        rows.append(row)
        seen.append((image.dose, image.conditions, *facts))
    atoms, *truths = zip(*rows, strict=True)
    found, cation, present, possible, image_of = (np.concatenate(part) for part in truths)
    dose_of, true_of, told_of, inside_of, fits_of, counts_of, heats, confusion = (
        np.array(part) for part in zip(*seen, strict=True)
    )
    return Judged(
        torch.cat(atoms),
        found,
        cation,
        present,
        possible,
        image_of,
        dose_of,
        told_of,
        true_of,
        inside_of,
        fits_of,
        counts_of,
        heats.mean(0),
        confusion.sum(0),
    )


class Image(NamedTuple):
    """Counts of a slab, and the truth."""

    counts: NDArray[np.float32]  # (y, x) in pixels of 0.2 A
    dose: float  # [e-/A^2]
    conditions: Array  # (3,) [A], [degrees], [atoms]
    columns: Columns
    views: Views  # of the pixels that were recorded
    places: Array  # (n, 2) of its columns [px of 0.2 A]


def _images(
    specimens: Iterable[Specimen],
    images: int,
    doses: tuple[float, float],
    beyond: float,
    seed: int,
) -> Iterator[Image]:
    """Images of slabs with random optics, turned and moved at random; see `judge`."""
    for specimen in specimens:
        if specimen.tilt > TILT and not beyond:
            continue
        rng = np.random.default_rng([seed, specimen.recipe.seed])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        for _ in range(images):
            pixel_size = float(rng.uniform(0.05, 0.25))
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
            dose = float(np.exp(rng.uniform(*np.log(doses))))
            counts = Poisson().sample(views.clean[0] * dose * pixel_size**2, generator)
            defocus = float(torch.as_tensor(optics.defocus)[0])
            true = np.array([defocus, specimen.tilt, specimen.thickness])
            canonical, steps = resampled(counts.numpy(), pixel_size)
            places = (views.places[0] + 0.5) * pixel_size / steps - 0.5
            yield Image(canonical, dose, true, specimen.columns, views, places)


def weights_of(
    counter: OccupancyCounter, specimens: Iterable[Specimen], *, images: int = 2, seed: int = 0
) -> tuple[float, ...]:
    """How much each of the facts that `OccupancyCounter.candidates` tells speaks for a crystal.

    Logistic regression, on all candidates in images of slabs that were not learned from, of
    whether 85 % of the columns lie on a site of their species. Each image is shown a second time
    with pixels said to be twice or half as large, of which no candidate is right.
    """
    facts, right = [], []
    for number, image in enumerate(_images(specimens, images, DOSES, 0.0, seed)):
        factor = 2.0 if number % 2 else 0.5
        other, _ = resampled(image.counts, PIXEL * factor)
        for counts, dose in ((image.counts, image.dose), (other, image.dose / factor**2)):
            crystals, said = counter.candidates(counts, counter.classes(torch.tensor(counts)), dose)
            facts.append(said.reshape(-1, 5))
            right += [counts is image.counts and _agrees(image, crystal) for crystal in crystals]
    design, truth = np.concatenate(facts), np.array(right)

    def loss(weights: Array) -> float:
        odds = design @ weights
        return float(np.logaddexp(0, np.where(truth, -odds, odds)).mean())

    found = minimize(loss, np.zeros(design.shape[1]))
    return tuple(found.x.round(4).tolist())


def _agrees(image: Image, crystal: Crystal) -> bool:
    """Whether most columns of an image lie on a site of their species."""
    of = image.views.column[0]
    there = image.columns.atoms[of] > 0
    away, nearest = cKDTree(crystal.places).query(image.places[there] * PIXEL)
    alike = crystal.cation[nearest] == image.columns.cation[of][there]
    return bool(((away < MATCH) & alike).mean() > PLACED)


def _held(
    counter: OccupancyCounter, image: Image, number: int
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Columns that were found, held against those of the truth; and what is said of the image."""
    columns, views, truth = image.columns, image.views, image.places
    classes = counter.classes(torch.from_numpy(image.counts))
    seen = counter.sites(image.counts, classes, image.dose)
    scaled = Views(views.clean, views.column, [truth])
    painted_classes = torch.from_numpy(painted(columns, scaled, 0, image.counts.shape)[0]).long()
    heats = [
        float(functional.cross_entropy(classes[None] / heat, painted_classes[None]))
        for heat in HEATS
    ]
    pairs = (3 * painted_classes + classes.argmax(0)).flatten()
    confusion = torch.bincount(pairs, minlength=9).view(3, 3).numpy()
    there = columns.atoms[views.column[0]] > 0
    limits = np.array(image.counts.shape) - 1 - 0.5 / PIXEL

    def within(some: Array) -> NDArray[np.bool_]:  # columns at the very edge are not counted
        return np.asarray(((some >= 0.5 / PIXEL) & (some <= limits)).all(1))

    if seen is None:
        nothing = np.zeros(0, int)
        row = (torch.zeros(0, MOST), nothing > 0, nothing > 0, nothing, nothing, nothing)
        counted = [int(within(truth[there]).sum()), 0, 0]
        return row, (np.full(3, np.nan), -100.0, -100.0, counted, heats, confusion)
    kept = counter.calibration.probability(seen.atoms, seen.crystal.cation)[:, 0] < 0.5
    places = seen.crystal.places[kept] / PIXEL
    distance, nearest = cKDTree(truth[there]).query(places, distance_upper_bound=MATCH / PIXEL)
    first = np.zeros(len(places), bool)
    first[np.unique(nearest, return_index=True)[1]] = True
    both = np.isfinite(distance) & first
    counted = [int(within(some).sum()) for some in (truth[there], places[both], places)]
    of = views.column[0][there][nearest[both]]
    row = (
        seen.atoms[torch.from_numpy(kept)][torch.from_numpy(both)],
        seen.crystal.cation[kept][both],
        columns.cation[of],
        columns.atoms[of],
        columns.possible[of],
        np.full(int(both.sum()), number),
    )
    told = (seen.conditions, seen.inside, seen.evidence)
    return row, (*told, counted, heats, confusion)


def calibrate(judged: Judged, evidence: tuple[float, ...] = Calibration.evidence) -> Calibration:
    """Temperatures, widths of intervals and thresholds of abstention from validation slabs.

    `evidence` are the weights of the counter that was judged; see `weights_of`.

    Of the images of the range 1.5 % are refused for their lens and tilt, and as many as it takes
    that of the rest 2.5 % have their lattice elsewhere, or none; their columns calibrate nothing.
    """
    ranged = judged.in_range
    inside = float(np.quantile(judged.inside[ranged], 0.015))
    there, both, found_there = judged.columns[ranged].T
    placed = 2 * both > 0.7 * (there + found_there)  # half a lattice agrees with any other
    order = np.argsort(-judged.fits[ranged])
    wrong = np.cumsum(~placed[order]) / np.arange(1, len(order) + 1)
    last = int(np.flatnonzero(wrong <= MISPLACED).max(initial=0))
    fits = float(judged.fits[ranged][order][last])
    heat = float(HEATS[judged.pixels.argmin()])
    found = Calibration(heat, inside=inside, fits=fits, evidence=evidence)
    kept = (ranged & judged.trusted(found))[judged.image]
    heats = []
    for cation in (False, True):
        some = torch.from_numpy(kept & (judged.found_cation == cation))
        logits, truth = judged.atoms[some], torch.from_numpy(judged.present)[some]
        heats.append(_temperature(lambda t, a=logits, n=truth: _atoms_loss(a / t, n)))
    found = replace(found, atoms=(heats[0], heats[1]))
    mean, deviation, bins = estimates(judged, found)
    score = np.abs(judged.present - mean) / deviation
    return replace(found, factors=factors_of(score[kept], bins[kept]))


def _atoms_loss(logits: Tensor, truth: Tensor) -> float:
    return -float(log_occupancy(logits).gather(1, truth[:, None]).mean())


def _temperature(loss: Any) -> float:
    found = minimize_scalar(lambda u: loss(float(np.exp(u))), bounds=(-1.5, 1.5), method="bounded")
    return float(np.exp(found.x))


def estimates(judged: Judged, calibration: Calibration) -> tuple[Array, Array, NDArray[np.int64]]:
    """Of every column: mean and standard deviation of its atoms, and its bins."""
    probability = calibration.probability(judged.atoms, judged.found_cation)
    mean, deviation = moments_of(probability)
    bins = np.zeros((len(mean), len(DIMENSIONS)), np.int64)
    for number, (dose, told) in enumerate(zip(judged.dose, judged.told, strict=True)):
        own = judged.image == number
        bins[own] = bins_of(mean[own], judged.found_cation[own], dose, told)
    return mean, deviation, bins
