"""Volumes from one tilt series: quality beside the rivals, speed, and a new tilt's volume.

    python tests/benchmarks/tomography.py [--size 96] [--seeds 5] [--steps 600] [--order golden]

At the defaults about an hour an order on two cores.
"""

import argparse
from dataclasses import replace
from functools import partial
from time import perf_counter

import numpy as np

from insitu.book.chapter import peak_memory
from insitu.tomography import algebraic, alloying, ensembles, phantoms, volumes
from insitu.tomography.prior import FreeChange
from insitu.tomography.projection import Projector
from insitu.tomography.series import tilt_series

TILTS = 100
SOME, EVERY = slice(1, None, 4), np.arange(0, TILTS, 5)  # slices, times of the rivals


def quality(found, truth, peak):
    """PSNR of each time [dB]."""
    error = [((f - t) ** 2).mean(dtype=np.float64) for f, t in zip(found, truth, strict=True)]
    return 10 * np.log10(peak**2 / np.array(error))


def tell(name, values, more=""):
    print(f"{name:34s} {values.mean():6.2f} dB, worst {values.min():6.2f}  {more}", flush=True)


def rivals(data, truth, peak):
    """Tuned with the truth."""
    part, there = data.slab(SOME), truth[EVERY][:, SOME]
    window = partial(algebraic.moving_window, part, tilts=EVERY)
    found = {}
    for reach in (4, 7, 12, 20, 35):
        found["SIRT, window", reach] = window(algebraic.sirt, reach=reach)
        for strength in (2.0, 5.0, 12.0):
            found["total variation, window", reach, strength] = window(
                partial(algebraic.total_variation, strength=strength), reach=reach
            )
    for rank in (2, 3, 4):
        for iterations in (8, 14):
            for rounds in (0, 3):
                found["low rank", rank, iterations, rounds] = algebraic.low_rank(
                    part, rank=rank, iterations=iterations, rounds=rounds
                )[EVERY]
    for kind in ("SIRT, window", "total variation, window", "low rank"):
        best = max(
            (k for k in found if k[0] == kind), key=lambda k: quality(found[k], there, peak).mean()
        )
        tell(f"{kind}, tuned with truth", quality(found[best], there, peak), str(best[1:]))


def streaming(data, truth, peak, count=16):
    """Seconds and quality of a new tilt's whole volume, while the series is being recorded."""
    seconds, found = [], []
    begin = perf_counter()
    for newest, known in volumes.stream(data.until(count), FreeChange()):
        found.append(quality(known.volumes([newest]), truth[[newest]], peak)[0])
        seconds.append(perf_counter() - begin)
        begin = perf_counter()
    tell("volume on arrival", np.array(found[1:]), f"{np.median(seconds[1:]):.1f} s a tilt")


def published_size(steps=6):
    """Seconds a step at 128 pixels and 100 tilts, of the projections alone that are needed."""
    particle = phantoms.Phantom("alloying rod", 128, np.zeros(1))
    volume = particle.truth()[0]
    angles = phantoms.tilt_angles("golden", TILTS)
    data = tilt_series(Projector(angles, 128)(volume), angles)
    settings = replace(volumes.SETTINGS, steps=steps, validate_every=steps + 1)
    begin = perf_counter()
    volumes.fit(data, FreeChange(), settings, hold_every=50)
    each = (perf_counter() - begin) / steps
    ours, published = (each * n / 3600 for n in (1000, 57600))
    print(
        f"128 pixels: {each:.2f} s a step of 12 blocks of 16 slices; 1000 steps {ours:.2f} h; "
        f"the published 57600 {published:.0f} h",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--order", default="golden")
    parser.add_argument("--steady", type=float, default=0.0)
    parser.add_argument("--no-rivals", action="store_true")
    parser.add_argument("--only-speed", action="store_true")
    options = parser.parse_args()
    size = options.size
    moments = np.linspace(0, 1, TILTS)
    particle = phantoms.Phantom("alloying rod", size, moments)
    truth, peak = particle.truth(), particle.contrast
    angles = phantoms.tilt_angles(options.order, TILTS)
    data, _ = phantoms.record(particle, angles, rng=np.random.default_rng(0))
    published_size()
    streaming(data, truth, peak)
    if options.only_speed:
        return
    calm = phantoms.Phantom("alloying rod", size, moments, still=True)
    still, _ = phantoms.record(calm, angles, rng=np.random.default_rng(1))
    rest = phantoms.Phantom("alloying rod", size, np.array([0.5])).truth()
    for iterations in (50, 100):
        u = algebraic.sirt(Projector(angles, size), still.projections, iterations)
        tell(f"SIRT of a static specimen, {iterations}", quality(u[None], rest, peak))
    if not options.no_rivals:
        rivals(data, truth, peak)
    settings = replace(volumes.SETTINGS, steps=options.steps, validate_every=options.steps // 4)
    begin = perf_counter()
    fits = []
    for number in range(options.seeds):
        one = volumes.fit(
            data,
            FreeChange(steady=options.steady),
            settings,
            seed=number,
            hold_first=2 * number,
        )
        fits.append(one)
        tell(
            f"deep image prior, seed {number}",
            quality(one.volumes(), truth, peak),
            f"held back {one.held_error():.4f}, {perf_counter() - begin:.0f} s",
        )
    spread = ensembles.spread_of(fits)
    found, bar = ensembles.mean_and_deviation(fits, spread=spread)
    tell("mean of the seeds", quality(found, truth, peak))
    tell(
        "there, where the rivals were", quality(found[EVERY][:, SOME], truth[EVERY][:, SOME], peak)
    )
    solid = alloying.inside(truth.mean(0), margin=0)
    covered = float((np.abs(found - truth)[:, solid] < bar[:, solid]).mean())
    print(f"spread {spread:.2f}; within one standard deviation {covered:.1%}")
    region = alloying.inside(found.mean(0))
    index = partial(alloying.alloying_index, region=region, contrast=peak)
    print("alloying index off by", np.abs(index(found) - index(truth)).max())
    volume = [np.array([alloying.volume(v) for v in w]) for w in (found, truth)]
    print("volume off by", np.abs(volume[0] / volume[1] - 1).max())
    chosen = np.linspace(5, TILTS - 1, 8).astype(int)
    rate, _ = alloying.fitted_diffusivity(
        found[chosen], moments[chosen], contrast=peak, region=region
    )
    print("diffusivity", rate, "true", particle.diffusivity * size**2)
    one = volumes.fit(still, FreeChange(), settings, hold_every=12, hold_first=4)
    u = one.volumes()
    tell("control", quality(u, np.broadcast_to(rest, u.shape), peak))
    inner = alloying.inside(rest[0])
    print(f"false dynamics {u[:, inner].std(0).mean() / u[:, inner].mean():.2%}")
    print(f"peak memory {peak_memory() / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
