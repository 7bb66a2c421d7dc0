"""The needle benchmark with settings that are chosen without the needle.

    python tests/benchmarks/needle.py [--order incremental] [--steps 300] [--seeds 3]

The weight of the least change is chosen first, then what else is asked of the fit. In golden order
the real needle itself tells: by the error of those of its shown tilts that are held back. In
incremental order that tells little, and needles with layers are simulated, each walked along as
the real one is, one tilt a slice; what does best on them, by their truth, is taken. A quarter of
an hour an order on one core.

The rivals, SIRT and total variation in moving windows, are tuned with the reference of the real
needle itself: once with the tilt axis alone, once told the gains and sizes, too, that the network
of the first seed has found in the same run.
"""

import argparse
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from insitu.tomography import needle, volumes
from insitu.tomography.algebraic import sirt, total_variation
from insitu.tomography.prior import FreeChange, Shape
from insitu.tomography.projection import Projector
from insitu.tomography.series import tilt_series

WEIGHTS = (0.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
PLAIN: dict[str, Any] = {"gains": True, "sizes": True, "sharpness": 0.0, "variation": 0.0}
CHANGES: dict[str, dict[str, Any]] = {
    "without gains": {"gains": False},
    "without sizes": {"sizes": False},
    "differences filtered": {"sharpness": 1.0},
    "total variation": {"variation": 0.5},
}
REACHES = {"golden": (3, 4, 5, 7), "incremental": (4, 6, 9, 14, 20, 30, 40, 60)}
STRENGTHS = (0.02, 0.04, 0.08, 0.16, 0.32)  # of total variation, in parts of the brightest pixel


def simulated(real: needle.Needle, number: int) -> needle.Needle:
    """A needle that becomes thinner, in layers of other brightness, seen from the same angles."""
    rng = np.random.default_rng([7, number])
    count, fine = len(real.angles), 96
    place = (np.arange(fine) + 0.5) / fine - 0.5
    y, x = place[:, None], place[None]
    thinner = np.linspace(1, rng.uniform(0.3, 0.6), count)
    jumps = np.sort(rng.choice(np.arange(6, count - 6), 4, replace=False))
    levels = rng.uniform(0.6, 1.4, 5)[np.searchsorted(jumps, np.arange(count), side="right")]
    across, flat, turn = rng.uniform(0.3, 0.4), rng.uniform(0.75, 1.0), rng.uniform(0, np.pi)
    corners = rng.uniform(2, 3)
    slices = []
    for size, level in zip(thinner, levels, strict=True):
        u = (np.cos(turn) * x + np.sin(turn) * y) / (across * size)
        v = (np.cos(turn) * y - np.sin(turn) * x) / (across * size * flat)
        radius = (abs(u) ** corners + abs(v) ** corners) ** (1 / corners)
        slices.append(level * np.clip(0.5 + (1 - radius) * across * size * fine, 0, 1))
    drawn = np.array(slices, np.float32)
    seen = Projector(real.angles, fine)(drawn).transpose(1, 0, 2)  # (time, tilt, s)
    everything = seen.reshape(count, count, 48, 2).mean(3) / 2
    everything += 0.01 * everything.max() * rng.standard_normal(everything.shape)
    everything = everything.astype(np.float32)
    data = tilt_series(everything[np.arange(count), real.shown][:, None], real.angles[real.shown])
    truth = drawn.reshape(count, 48, 2, 48, 2).mean((2, 4))
    return needle.Needle(data, everything, real.angles, real.shown, 0.0, truth)


def network(case: needle.Needle, seed: int, steps: int, options: dict[str, Any]) -> volumes.Fit:
    """One fit."""
    settings = replace(volumes.SETTINGS, steps=steps, validate_every=max(1, steps // 3))
    shape = Shape(together=1, finest=1, time_waves=2.0)
    model = FreeChange(shape=shape, offset=case.offset, **options)
    return volumes.fit(case.data, model, settings, seed=seed, hold_every=8, hold_first=4)


def fitted(
    case: needle.Needle, seed: int, steps: int, options: dict[str, Any]
) -> tuple[float, float, float]:
    """PSNR of a fit [dB], its error of the tilts not shown, and of the shown ones held back."""
    one = network(case, seed, steps, options)
    return *case.score(one.volumes()[:, 0]), one.held_error()


def rivals(real: needle.Needle, order: str, told: str, **own: Any) -> None:
    """Print the best of SIRT and of total variation, by every fourth slice of the reference."""
    every = np.arange(0, len(real.angles), 4)
    brightest = float(real.data.projections.max())
    tried: dict[str, dict[tuple[float, ...], Any]] = {"SIRT": {}, "total variation": {}}
    for reach in REACHES[order]:
        tried["SIRT"][(reach,)] = sirt
        for strength in STRENGTHS:
            method = partial(total_variation, strength=strength * brightest)
            tried["total variation"][reach, strength] = method
    for name, methods in tried.items():
        errors = {}
        for setting, method in methods.items():
            u = needle.windowed(real, method, reach=int(setting[0]), tilts=every.tolist(), **own)
            errors[setting] = np.log(((u - real.reference[every]) ** 2).mean((1, 2))).mean()
        best = min(errors, key=lambda k: errors[k])
        db, held = real.score(needle.windowed(real, methods[best], reach=int(best[0]), **own))
        print(f"{name}, told {told}, {best}: {db:.1f} dB, tilts not shown {held:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--order", default="incremental", choices=("golden", "incremental"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--needles", type=int, default=4)
    asked = parser.parse_args()
    real = needle.benchmark(asked.order)
    cases = [simulated(real, number) for number in range(asked.needles)]

    def tried(name: str, options: dict[str, Any]) -> float:
        if asked.order == "golden":
            errors = [fitted(real, n, asked.steps, options)[2] for n in range(asked.seeds)]
            row = ", ".join(f"{error:.4f}" for error in errors)
            print(f"{name:21s} shown tilts held back {np.mean(errors):.4f}; {row}", flush=True)
            return -float(np.mean(errors))
        rows = [fitted(c, n, asked.steps, options) for n, c in enumerate(cases)]
        mean = float(np.mean([db for db, _, _ in rows]))
        row = ", ".join(f"{db:.1f} dB / {held:.3f}" for db, held, _ in rows)
        print(f"simulated, {name:21s} mean {mean:.1f} dB; {row}", flush=True)
        return mean

    means = {w: tried(f"steady {w:.0f}", PLAIN | {"steady": w}) for w in WEIGHTS}
    plain = PLAIN | {"steady": max(means, key=lambda w: means[w])}
    print(f"chosen: steady {plain['steady']:.0f}")
    others = {name: tried(name, plain | change) for name, change in CHANGES.items()}
    name = max(others, key=lambda k: others[k])
    better = others[name] > means[plain["steady"]]
    chosen = plain | CHANGES[name] if better else plain
    print(f"chosen: {chosen}")
    fits = [network(real, seed, asked.steps, chosen) for seed in range(asked.seeds)]
    for seed, one in enumerate(fits):
        db, held = real.score(one.volumes()[:, 0])
        print(f"real needle, seed {seed}: {db:.1f} dB, tilts not shown {held:.3f}", flush=True)
    gains, sizes = fits[0].specimen.of_each_tilt()
    rivals(real, asked.order, "the axis")
    rivals(real, asked.order, "axis, gains and sizes", gains=gains, sizes=sizes)


if __name__ == "__main__":
    main()
