"""Atoms in columns of ceria: the network against the oracle, simple rivals, and its own intervals.

python tests/benchmarks/occupancy.py [columns oracle coverage abstain movie exchange speed]
    [--weights FILE] [--slabs 24]

Slabs are of the test part: numbers 9, 19, ... of the series that the network learned from. All
errors are in atoms. The rivals 'intensity' and 'template' are told the optics, the dose and the
thickness: their straight line from a sum to a number is fitted to another slab under the same
conditions. 'model' is least squares over the oracle's own images.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from insitu.learning.training import device_named
from insitu.measure import hops, occupancy
from insitu.measure.occupancy.counter import load_counter
from insitu.measure.occupancy.slabs import DEFOCUS, Specimen, specimen_of, views_of
from insitu.measure.occupancy.judging import estimates, judge
from insitu.measure.occupancy.network import PIXEL
from insitu.measure.occupancy.oracle import clean_image, priors_of, responses, targets, told_all
from insitu.simulate.ceria import Slab, random_slab
from insitu.simulate.imaging import Optics

REACH = 3  # pixels around a column that the rivals look at


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
        judged = judge(counter.network, specimens, images=1, doses=(dose, dose * 1.001), seed=9)
        cation = (judged.classes[:, 1] > judged.classes[:, 2]).numpy()
        p = judged.pixels
        iou = [p[k, k] / (p[k].sum() + p[:, k].sum() - p[k, k]) for k in range(3)]
        print(
            f"{dose} e-/A^2: species {np.mean(cation == judged.cation):.4f}, F1 {judged.f1:.4f}, "
            f"IoU {iou[0]:.3f} {iou[1]:.3f} {iou[2]:.3f}, {len(judged.dose)} images"
        )


def patches(image, specimen, size):
    """Pixels around every inner column (n, 7, 7) of an image of the whole field, and which."""
    own = specimen.columns
    middle = [(length - PIXEL) / 2 for length in specimen.wave.extent]
    at = np.stack(
        [
            (place - m) / PIXEL + (n - 1) / 2
            for place, m, n in zip((own.y, own.x), middle, size, strict=True)
        ],
        1,
    )
    inner = ((at > REACH + 1) & (at < np.array(size) - REACH - 2)).all(1) & ~own.surface
    grid = np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1].reshape(2, 1, -1)
    return map_coordinates(image, at[inner].T[:, :, None] + grid, order=1), inner, at


def rivals(image, other, specimen, twin, size, chosen):
    """Numbers of atoms in the chosen columns by a sum and by a template, told by a twin slab."""
    found = {"intensity": np.empty(len(chosen)), "template": np.empty(len(chosen))}
    seen, inner, _ = patches(image, specimen, size)
    taught, known, _ = patches(other, twin, size)
    row = np.cumsum(inner) - 1
    for cation in (True, False):
        learn = twin.columns.cation[known] == cation
        truth = twin.columns.atoms[known][learn]
        full = taught[learn][truth == twin.columns.possible[known][learn]].mean(0)
        template = (full - full.mean()) / np.sum((full - full.mean()) ** 2)
        disc = np.hypot(*np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1]).ravel() <= REACH
        asked = specimen.columns.cation[chosen] == cation
        for name, weight in (("intensity", disc.astype(float)), ("template", template)):
            line = np.polyfit(taught[learn] @ weight, truth, 1)
            at = row[chosen[asked]]
            guess = np.polyval(line, seen[at] @ weight)
            found[name][asked] = np.clip(guess, 0, specimen.columns.possible[chosen[asked]])
    return found


def oracle(counter, draws=6, slabs=2):
    """Errors of everybody on the same counts, by species, thickness and dose."""
    priors = priors_of()
    for thickness in (5, 10):
        errors: dict[tuple[int, bool, str], list] = {}
        for seed in range(slabs):
            rng = np.random.default_rng([9, thickness, seed])
            recipe = Slab(
                thickness=thickness,
                cerium=0.04,
                oxygen=0.08,
                emptied=0.2,
                tilt=tuple(rng.uniform(-1.5, 1.5, 2).tolist()),
                seed=900 + seed,
            )
            specimen, twin = specimen_of(recipe), specimen_of(replace(recipe, seed=990 + seed))
            optics = Optics(defocus=float(rng.uniform(*DEFOCUS)))
            chosen = targets(specimen, rng)
            seen = responses(specimen, optics, chosen)
            own = specimen.columns
            told = [priors[bool(own.cation[c]), int(own.possible[c])] for c in chosen]
            truth, size = own.atoms[chosen], seen.truth.shape
            other = clean_image(twin, optics)
            _, _, at = patches(seen.truth, specimen, size)
            for dose in (60, 120, 500):
                counts = rng.poisson(seen.truth * dose * PIXEL**2, (draws, *size))
                best = told_all(seen, counts, dose, told)
                guesses = {"oracle": best.oracle, "model": best.least_squares}
                guesses["full"] = np.broadcast_to(own.possible[chosen], best.oracle.shape)
                guesses["network"] = np.stack(
                    [counted(counter, image, at[chosen]) for image in counts]
                )
                taught = rng.poisson(other * dose * PIXEL**2)
                lines = [rivals(c, taught, specimen, twin, size, chosen) for c in counts]
                guesses |= {n: np.stack([one[n] for one in lines]) for n in lines[0]}
                for cation in (True, False):
                    some = own.cation[chosen] == cation
                    for name, guess in guesses.items():
                        row = errors.setdefault((dose, cation, name), [])
                        row.append((guess - truth)[:, some].ravel())
                    errors.setdefault((dose, cation, "bound"), []).append(best.bound[some])
        for dose, cation in dict.fromkeys((d, c) for d, c, _ in errors):
            row = {n: e for (d, c, n), e in errors.items() if (d, c) == (dose, cation)}
            found = {n: rms(np.concatenate(e)) for n, e in row.items()}
            words = ", ".join(f"{n} {v:.3f}" for n, v in found.items())
            what = f"{thickness} repeats, {dose} e-/A^2, {'Ce' if cation else 'O'}"
            print(f"{what}: {words}; network over oracle {found['network'] / found['oracle']:.2f}")


def counted(counter, image, places):
    """The network's expected numbers of atoms in columns at places [px]."""
    answer = counter.answer(torch.from_numpy(np.asarray(image, np.float32)))
    classes, atoms = occupancy.pooled(answer, places)
    cation = (classes[:, 1] > classes[:, 2]).numpy()
    return occupancy.moments_of(counter.probability(atoms, cation))[0]


def coverage(counter, slabs):
    """Share of true numbers within the 90 % intervals, over all and in bins."""
    judged = judge(counter.network, tested(slabs), images=4, seed=10)
    _, mean, deviation, bins = estimates(judged, counter.calibration)
    quantiles = counter.calibration.quantiles
    width = deviation * [quantiles.get(b, quantiles[b.split()[0]]) for b in bins]
    inside = (judged.present >= np.maximum(mean - width, 0)) & (judged.present <= mean + width)
    print(f"over all {inside.mean():.3f} of {len(inside)}, mean width {2 * width.mean():.2f} atoms")
    parts = np.array([b.split() for b in bins])
    for k, name in enumerate(("species", "dose", "thickness", "defocus", "share")):
        shares = {
            str(v): round(float(inside[parts[:, k] == v].mean()), 3) for v in np.unique(parts[:, k])
        }
        print(f"by {name}: {shares}")
    lack = judged.possible - judged.present
    for low, high in ((0, 0), (1, 2), (3, 12)):
        some = (lack >= low) & (lack <= high)
        print(f"truly {low} to {high} atoms short: {inside[some].mean():.3f} of {some.sum()}")


def abstain(counter, slabs):
    """Share of images on which it abstains, inside and 3 nm or 3 degrees outside of the range."""

    def share(defoci, tilt, seed):
        rng = np.random.default_rng(seed)
        said = []
        for k in range(slabs):
            recipe = random_slab(0, 9 + 10 * k)
            way = rng.uniform(0, 2 * np.pi)
            lean = rng.uniform(0, 3.5) if tilt is None else tilt
            recipe = replace(recipe, tilt=(lean * np.cos(way), lean * np.sin(way)))
            view = views_of(
                specimen_of(recipe),
                Optics(defocus=float(rng.choice(defoci))),
                rotation=rng.uniform(0, 360, 1),
                shift=np.zeros((1, 2)),
            )
            dose = 120 * PIXEL**2
            said.append(bool(counter(rng.poisson(view.clean[0].numpy() * dose), PIXEL).abstains))
        return np.mean(said)

    inner = np.linspace(DEFOCUS[0], DEFOCUS[1], 29)
    print(f"inside {share(inner, None, 0):.3f}")
    print(f"3 nm outside {share([DEFOCUS[0] - 30, DEFOCUS[1] + 30], None, 1):.3f}")
    print(f"3 degrees outside {share(inner, 7.0, 2):.3f}")


def movie(counter, frames=70, dose=120.0, slabs=3):
    """One oxygen vacancy in ten: sensitivity at 1 % false alarms a column, in a sum of frames."""
    lacking, full = [], []
    for seed in range(slabs):
        rng = np.random.default_rng([11, seed])
        specimen = specimen_of(Slab(thickness=10, oxygen=0.01, tilt=(0.5, 0.5), seed=seed))
        clean = clean_image(specimen, Optics(defocus=-50.0))
        counts = rng.poisson(frames * dose * PIXEL**2 * clean)
        _, inner, at = patches(clean, specimen, clean.shape)
        own = inner & ~specimen.columns.cation
        mean = counted(counter, counts, at[own])
        atoms = specimen.columns.atoms[own]
        lacking += mean[atoms == 9].tolist()
        full += mean[atoms == 10].tolist()
    limit = np.quantile(full, 0.01)
    print(f"found {np.mean(np.array(lacking) < limit):.3f} of {len(lacking)}, of {len(full)} full")


def exchange(counter, frames=80, dose=120.0):
    """Columns whose atoms come and go: share of sites whose 90 % interval holds their rate."""
    rng = np.random.default_rng(12)
    specimen = specimen_of(Slab(thickness=5, oxygen=0.05, tilt=(0.5, 0.5), seed=1))
    chosen = targets(specimen, rng)
    chosen = chosen[~specimen.columns.cation[chosen]]
    seen = responses(specimen, Optics(defocus=-50.0), chosen, arrangements=1)
    _, _, at = patches(seen.truth, specimen, seen.truth.shape)
    truth = np.exp(rng.uniform(np.log(0.01), np.log(0.2), len(chosen)))
    most = specimen.columns.possible[chosen]
    atoms, told, there = specimen.columns.atoms[chosen].copy(), [], []
    for _ in range(frames):
        step = np.where(rng.random(len(chosen)) < truth, rng.choice([-1, 1], len(chosen)), 0)
        atoms = np.clip(atoms + step, 0, most)
        there.append(atoms)
        clean = seen.truth.copy()
        for n, window in zip(atoms, seen.windows, strict=True):
            clean[window] = seen.images[n][0][window]
        answer = counter.answer(
            torch.from_numpy(rng.poisson(clean * dose * PIXEL**2).astype(np.float32))
        )
        _, logits = occupancy.pooled(answer, at[chosen])
        told.append(counter.probability(logits, np.zeros(len(chosen), bool)))
    posterior = np.stack(told, 1)
    prior = np.broadcast_to(posterior.mean((0, 1)), (len(chosen), posterior.shape[2]))
    said = hops.likelihood(posterior, prior)
    found = hops.rates(said)
    many = np.arange(posterior.shape[2])
    alone, together = (
        rms(p @ many - np.stack(there, 1)) for p in (posterior, hops.smoothed(said, found.rate))
    )
    print(f"error of a frame alone {alone:.2f} atoms, of all frames together {together:.2f}")
    inside = (found.low <= truth) & (truth <= found.high)
    wide = np.median(found.high / found.low)
    print(f"{inside.mean():.2f} of {len(chosen)} sites, limits apart by a factor of {wide:.0f}")


def speed(counter, repeats=5):
    """Frames of 512 x 512 pixels of 0.2 A a second."""
    image = torch.from_numpy(np.random.default_rng(0).poisson(4.0, (512, 512)).astype(np.float32))
    counter.network.to(device_named("auto"))
    counter.answer(image)
    begin = perf_counter()
    for _ in range(repeats):
        counter.answer(image)
    took = (perf_counter() - begin) / repeats
    print(f"{1 / took:.2f} frames a second, {torch.get_num_threads()} threads")


def main():
    """Run the parts that are named."""
    parts = {f.__name__: f for f in (columns, oracle, coverage, abstain, movie, exchange, speed)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(parts))
    parser.add_argument("--weights", default="occupancy")
    parser.add_argument("--slabs", type=int, default=24)
    given = parser.parse_args()
    counter = load_counter(given.weights)
    for name in given.parts or parts:
        begin = perf_counter()
        print(f"-- {name}")
        wanted = (given.slabs,) if name in ("columns", "coverage", "abstain") else ()
        parts[name](counter, *wanted)
        print(f"   {perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
