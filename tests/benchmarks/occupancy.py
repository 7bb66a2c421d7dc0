"""Atoms in columns of ceria: the networks against the oracle, simple rivals, and their intervals.

python tests/benchmarks/occupancy.py [columns oracle coverage abstain movie exchange speed]
    [--weights FILE] [--sites FILE] [--slabs 24]

Slabs are of the test part: numbers 9, 19, ... of the series that the networks learned from. All
errors are in atoms; whatever is refused is left out, and the share of it printed. The rivals
'intensity' and 'template' are told the optics, the dose, the thickness and where the columns are:
their straight line from a sum to a number is fitted to another slab under the same conditions.
'model' is least squares over the oracle's own images, and 'full' is told the thickness.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

import numpy as np
import torch
from scipy.ndimage import zoom
from scipy.spatial import cKDTree

from insitu.learning.training import device_named
from insitu.measure import hops
from insitu.measure.occupancy.counter import load_counter
from insitu.measure.occupancy.intervals import DIMENSIONS
from insitu.measure.occupancy.judging import estimates, judge
from insitu.measure.occupancy.network import PIXEL
from insitu.measure.occupancy.oracle import (
    by_lines,
    clean_image,
    places_in,
    priors_of,
    responses,
    targets,
    told_all,
)
from insitu.measure.occupancy.sites import foreground_at
from insitu.measure.occupancy.slabs import DEFOCUS, Specimen, specimen_of, views_of
from insitu.simulate.ceria import Slab, random_slab
from insitu.simulate.imaging import Optics


def rms(error):
    """Root mean square, NaN of nothing."""
    return float(np.sqrt(np.mean(np.square(error)))) if np.size(error) else float("nan")


def tested(count: int) -> Iterator[Specimen]:
    """The first slabs of the test part."""
    return (specimen_of(random_slab(0, 9 + 10 * k)) for k in range(count))


def columns(counter, slabs):
    """Species, columns found, classes of pixels, at three doses."""
    specimens = list(tested(slabs))
    for dose in (60, 120, 500):
        judged = judge(counter, specimens, images=2, doses=(dose, dose * 1.001), seed=9)
        trusted = judged.trusted(counter.calibration)
        right = judged.found_cation == judged.cation
        c = judged.confusion
        iou = [c[k, k] / (c[k].sum() + c[:, k].sum() - c[k, k]) for k in range(3)]
        print(
            f"{dose} e-/A^2: species {right.mean():.4f}, F1 {judged.f1():.4f} of all images; "
            f"{right[trusted[judged.image]].mean():.4f} and {judged.f1(trusted):.4f} of the "
            f"{trusted.sum()} of {len(trusted)} that it does not refuse; "
            f"IoU of pixels {iou[0]:.3f} {iou[1]:.3f} {iou[2]:.3f}"
        )


def judged_slab(thickness, number, rng):
    """A slab of the population that was learned, of this thickness all over, tilted little."""
    normal = str(rng.choice(["111", "001"]))
    return replace(
        random_slab(0, 9 + 10 * number),
        zone="110",
        normal=normal,
        thickness=thickness,
        wedge=0,
        platinum=0.0,
        tilt=tuple(rng.uniform(-1.5, 1.5, 2).tolist()),
    )


def oracle(counter, draws=6, slabs=3):
    """Errors of everybody on the same counts, by species, thickness and dose."""
    priors = priors_of()
    for thickness in (5, 10):
        errors: dict[tuple[int, bool, str], list] = {}
        refused: dict[int, list] = {}
        for seed in range(slabs):
            rng = np.random.default_rng([9, thickness, seed])
            recipe = judged_slab(thickness, seed, rng)
            specimen, twin = specimen_of(recipe), specimen_of(replace(recipe, seed=990 + seed))
            optics = Optics(defocus=float(rng.uniform(*DEFOCUS)))
            chosen = targets(specimen, rng)
            seen = responses(specimen, optics, chosen, arrangements=2)
            own = specimen.columns
            told = [priors[bool(own.cation[c]), int(own.possible[c])] for c in chosen]
            truth, size = own.atoms[chosen], seen.truth.shape
            other = clean_image(twin, optics)
            at = places_in(specimen, size)
            for dose in (60, 120, 500):
                counts = rng.poisson(seen.truth * dose * PIXEL**2, (draws, *size))
                best = told_all(seen, counts, dose, told)
                guesses = {"oracle": best.oracle, "model": best.least_squares}
                guesses["full"] = np.broadcast_to(own.possible[chosen], best.oracle.shape)
                asked = [counted(counter, image, at[chosen]) for image in counts]
                guesses["network"] = np.stack([mean for mean, _ in asked])
                refused.setdefault(dose, []).extend(why != "" for _, why in asked)
                taught = rng.poisson(other * dose * PIXEL**2)
                lines = [by_lines(c, specimen, chosen, taught, twin) for c in counts]
                guesses |= {n: np.stack([one[n] for one in lines]) for n in lines[0]}
                kept = ~np.isnan(guesses["network"])
                for cation in (True, False):
                    some = kept & (own.cation[chosen] == cation)
                    for name, guess in guesses.items():
                        row = errors.setdefault((dose, cation, name), [])
                        row.append((guess - truth)[some])
                    bound = best.bound[own.cation[chosen] == cation]
                    errors.setdefault((dose, cation, "bound"), []).append(bound)
        for dose, cation in dict.fromkeys((d, c) for d, c, _ in errors):
            row = {n: e for (d, c, n), e in errors.items() if (d, c) == (dose, cation)}
            found = {n: rms(np.concatenate(e)) for n, e in row.items()}
            words = ", ".join(f"{n} {v:.3f}" for n, v in found.items())
            what = f"{thickness} repeats, {dose} e-/A^2, {'Ce' if cation else 'O'}"
            print(
                f"{what}: {words}; network over oracle {found['network'] / found['oracle']:.2f}, "
                f"refused {np.mean(refused[dose]):.2f}"
            )


def counted(counter, image, places):
    """Expected numbers of atoms at places [px], 0 where it finds no column; and its refusal."""
    found = counter(image, PIXEL)
    if found.abstains:
        return np.full(len(places), np.nan), found.abstains
    at = np.stack([found.y, found.x], 1)
    distance, nearest = cKDTree(at).query(places * PIXEL)
    return np.where(distance < 0.8, found.mean[nearest], 0.0), ""


def coverage(counter, slabs):
    """Share of true numbers within the 90 % intervals, over all and in bins."""
    judged = judge(counter, tested(slabs), images=4, seed=10)
    kept = judged.trusted(counter.calibration)[judged.image]
    mean, deviation, bins = estimates(judged, counter.calibration)
    width = deviation * counter.calibration.widths(bins)
    inside = (judged.present >= np.maximum(mean - width, 0)) & (judged.present <= mean + width)
    inside, width, bins = inside[kept], width[kept], bins[kept]
    images = np.unique(judged.image[kept], return_inverse=True)[1]
    away = np.bincount(images, inside - inside.mean())  # columns of an image err together
    error = np.sqrt((away**2).sum()) / len(inside)
    print(
        f"over all {inside.mean():.3f} +- {error:.3f} of {len(inside)} in {images.max() + 1} "
        f"images of {len(judged.dose)}, mean width {2 * width.mean():.2f} atoms"
    )
    for name, column in zip(DIMENSIONS, bins.T, strict=True):
        shares = {int(v): round(float(inside[column == v].mean()), 3) for v in np.unique(column)}
        print(f"by {name}: {shares}")
    lack = (judged.possible - judged.present)[kept]
    for low, high in ((0, 0), (1, 2), (3, 12)):
        some = (lack >= low) & (lack <= high)
        print(f"truly {low} to {high} atoms short: {inside[some].mean():.3f} of {some.sum()}")


def abstain(counter, slabs):
    """Share of images on which it abstains: inside of the range, outside, and of other things."""

    def views(defoci, tilt, seed):
        rng = np.random.default_rng(seed)
        for k in range(slabs):
            recipe = random_slab(0, 9 + 10 * k)
            way = rng.uniform(0, 2 * np.pi)
            lean = rng.uniform(0, 3.5) if tilt is None else tilt
            recipe = replace(recipe, tilt=(lean * np.cos(way), lean * np.sin(way)))
            optics = Optics(defocus=float(rng.choice(defoci)))
            turn, shift = rng.uniform(0, 360, 1), np.zeros((1, 2))
            yield views_of(specimen_of(recipe), optics, rotation=turn, shift=shift).clean[0].numpy()

    def share(images, dose=120.0, seed=0):
        rng = np.random.default_rng(seed)
        return np.mean(
            [bool(counter(rng.poisson(c * dose * PIXEL**2), PIXEL).abstains) for c in images]
        )

    inner = np.linspace(DEFOCUS[0], DEFOCUS[1], 29)
    inside = list(views(inner, None, 0))
    print(f"inside {share(inside):.3f}, at 500 e-/A^2 {share(inside, 500.0):.3f}")
    print(f"3 nm outside {share(views([DEFOCUS[0] - 30, DEFOCUS[1] + 30], None, 1)):.3f}")
    print(f"3 degrees outside {share(views(inner, 7.0, 2)):.3f}")
    print(f"at 5 e-/A^2 {share(inside, 5.0):.3f}")
    halves = [np.clip(zoom(c, 2, order=1)[:128, :128], 0, None) for c in inside]
    doubles = [np.tile(c[::2, ::2], (2, 2)) for c in inside]
    print(f"pixels said to be twice {share(halves):.3f}, half as large {share(doubles):.3f}")
    y, x = np.mgrid[:128, :128] * PIXEL
    angles = np.linspace(0, 3, slabs)
    turned = [(np.cos(a) * y + np.sin(a) * x, np.cos(a) * x - np.sin(a) * y) for a in angles]
    gold = [1 + 0.4 * np.cos(np.pi * u / 2.04) * np.cos(np.pi * v / 1.44) for u, v in turned]
    print(f"another crystal {share(gold):.3f}, none {share([np.ones((128, 128))] * slabs):.3f}")


def movie(counter, frames=70, dose=120.0, slabs=3):
    """One oxygen vacancy in ten: sensitivity at 1 % false alarms a column, in a sum of frames."""
    lacking, full = [], []
    for seed in range(slabs):
        rng = np.random.default_rng([11, seed])
        specimen = specimen_of(Slab(thickness=10, oxygen=0.01, tilt=(0.5, 0.5), seed=seed))
        clean = clean_image(specimen, Optics(defocus=-50.0))
        counts = rng.poisson(frames * dose * PIXEL**2 * clean)
        at = places_in(specimen, clean.shape)
        inner = ((at > 4) & (at < np.array(clean.shape) - 5)).all(1) & ~specimen.columns.surface
        own = inner & ~specimen.columns.cation
        mean, why = counted(counter, counts, at[own])
        if why:
            print(f"slab {seed}: {why}")
            continue
        atoms = specimen.columns.atoms[own]
        lacking += mean[atoms == 9].tolist()
        full += mean[atoms == 10].tolist()
    limit = np.nanquantile(full, 0.01)
    print(f"found {np.mean(np.array(lacking) < limit):.3f} of {len(lacking)}, of {len(full)} full")


def exchange(counter):
    """Columns whose atoms come and go, at two doses of a frame."""
    for dose in (120.0, 500.0):
        print(f"{dose:g} e-/A^2: {exchanged(counter, dose)}")


def exchanged(counter, dose, frames=80, slabs=12):
    """In words: share of sites whose 90 % interval holds their rate, and errors of the numbers."""
    held, wide, alone, together = [], [], [], []
    for seed in range(slabs):
        recipe = Slab(thickness=5, oxygen=0.08, cerium=0.1, emptied=0.2, tilt=(0.6, 0.3))
        specimen = specimen_of(replace(recipe, surface="flat", seed=21 + seed))
        optics = Optics(defocus=-70.0 + 20 * (seed % 3))
        truth, there, posterior = exchanging(counter, specimen, optics, frames, dose, seed)
        usual = posterior.mean((0, 1))
        states = np.arange(np.flatnonzero(usual > 0.01)[-1] + 1)
        prior = np.broadcast_to(usual[states], (len(truth), len(states)))
        said = hops.likelihood(posterior[..., states], prior)
        found = hops.rates(said)
        held += ((found.low <= truth) & (truth <= found.high)).tolist()
        wide += (found.high / found.low).tolist()
        alone.append((posterior @ np.arange(posterior.shape[2]) - there).ravel())
        together.append((hops.smoothed(said, found.rate) @ states - there).ravel())
    errors = [rms(np.concatenate(e)) for e in (alone, together)]
    return (
        f"error of a frame alone {errors[0]:.2f} atoms, of all frames together {errors[1]:.2f}; "
        f"{np.mean(held):.2f} of {len(held)} sites in {slabs} movies, "
        f"limits apart by a factor of {np.median(wide):.0f}"
    )


def exchanging(counter, specimen, optics, frames, dose, seed):
    """Rates of exchange, true numbers (n, t), and what the networks say of them (n, t, 13)."""
    rng = np.random.default_rng([12, seed])
    chosen = targets(specimen, rng)
    chosen = chosen[~specimen.columns.cation[chosen]]
    seen = responses(specimen, optics, chosen, arrangements=1)
    at = places_in(specimen, seen.truth.shape)
    truth = np.exp(rng.uniform(np.log(0.01), np.log(0.2), len(chosen)))
    most = specimen.columns.possible[chosen]
    atoms, movie, there = specimen.columns.atoms[chosen].copy(), [], []
    for _ in range(frames):
        step = np.where(rng.random(len(chosen)) < truth, rng.choice([-1, 1], len(chosen)), 0)
        atoms = np.clip(atoms + step, 0, most)
        there.append(atoms)
        clean = seen.truth.copy()
        for n, window in zip(atoms, seen.windows, strict=True):
            clean[window] = seen.images[n][0][window]
        movie.append(rng.poisson(clean * dose * PIXEL**2).astype(np.float32))
    total = np.sum(movie, 0)
    classes = counter.classes(torch.from_numpy(total))
    crystal = counter.sites(total, classes, dose * frames).crystal
    weight = foreground_at(classes, crystal.places)
    _, nearest = cKDTree(crystal.places).query(at[chosen] * PIXEL)
    told = []
    for image in movie:
        sites = counter.looked_at(image, crystal, weight, dose)
        told.append(counter.calibration.probability(sites.atoms, crystal.cation)[nearest])
    return truth, np.stack(there, 1), np.stack(told, 1)


def speed(counter, repeats=5):
    """Frames of 512 x 512 pixels of 0.2 A a second, with all that is counted in them."""
    clean = clean_image(specimen_of(Slab(thickness=5)), Optics(defocus=-60.0))
    image = np.random.default_rng(0).poisson(np.tile(clean, (4, 4))[:512, :512] * 120 * PIXEL**2)
    counter.network.to(device_named("auto"))
    begin = perf_counter()
    for _ in range(repeats):
        found = counter(image, PIXEL)
    took = (perf_counter() - begin) / repeats
    print(
        f"{1 / took:.2f} frames a second of {len(found.y)} columns, "
        f"{torch.get_num_threads()} threads"
    )


def main():
    """Run the parts that are named."""
    parts = {f.__name__: f for f in (columns, oracle, coverage, abstain, movie, exchange, speed)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(parts))
    parser.add_argument("--weights", default="occupancy")
    parser.add_argument("--slabs", type=int, default=24)
    parser.add_argument("--sites", default="occupancy_sites")
    given = parser.parse_args()
    counter = load_counter(given.weights, given.sites)
    for name in given.parts or parts:
        begin = perf_counter()
        print(f"-- {name}")
        wanted = (given.slabs,) if name in ("columns", "coverage", "abstain") else ()
        parts[name](counter, *wanted)
        print(f"   {perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
