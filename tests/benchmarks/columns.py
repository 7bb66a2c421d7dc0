"""How near fitted columns come to what counting allows, on drawn counts and on the shipped movie.

python tests/benchmarks/columns.py [bound] [pairs] [speed] [model] [turn] [drift]
"""

from __future__ import annotations

import sys
from time import perf_counter

import numpy as np
import torch

from insitu.counting.categorical import Categorical
from insitu.counting.poisson import Poisson
from insitu.measure.columns import fit_columns

PIXEL, WIDTH = 0.24, 0.45


def scene(places, electrons, background, size=44):
    """Clean image of Gaussian columns (n, 2) [A], sampled at the middles of the pixels."""
    y, x = np.mgrid[:size, :size] * PIXEL
    rise = np.broadcast_to(electrons, len(places)) * PIXEL**2 / (2 * np.pi * WIDTH**2)
    return background + sum(
        r * np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * WIDTH**2))
        for r, (a, b) in zip(rise, places, strict=True)
    )


def bound(places, electrons, background, information, free, size=44):
    """Cramer-Rao bound of y and x of the first column, by differences over the whole image [A]."""
    places = np.asarray(places, float)
    y, x = np.mgrid[:size, :size] * PIXEL

    def model(v):
        at, volume, width = v[:2].T, v[2], v[3]
        rise = volume * PIXEL**2 / (2 * np.pi * width**2)
        return sum(
            r * np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * s**2))
            for r, (a, b), s in zip(rise, at, width, strict=True)
        )

    n = len(places)
    v = np.stack([*places.T, np.broadcast_to(electrons, n), np.full(n, WIDTH)])
    slopes = []
    for q in range(4 if "width" in free else 3):
        for i in range(n):
            step = np.zeros_like(v)
            step[q, i] = 1e-4 * max(1, abs(v[q, i]))
            slopes.append((model(v + step) - model(v - step)) / (2 * step[q, i]))
    owner = np.argmin([np.hypot(y - a, x - b) for a, b in places], 0)
    near = np.min([np.hypot(y - a, x - b) for a, b in places], 0) <= 1.5
    for i, (a, b) in enumerate(places):
        own = (owner == i) & near
        slopes.append(own * 1.0)
        if "slope" in free:
            slopes += [own * (y - a), own * (x - b)]
    weight = information(background + model(v)) * near
    j = np.reshape(slopes, (len(slopes), -1))
    matrix = (j * weight.ravel()) @ j.T
    scale = 1 / np.sqrt(np.diag(matrix))
    inverse = np.linalg.inv(matrix * scale * scale[:, None]) * scale * scale[:, None]
    return np.sqrt(np.diag(inverse))[[0, n]]


def binomial(parts):
    return lambda m: 1 / (m * (1 - m / parts))


def draw(clean, detector, frames, seed):
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    many = torch.as_tensor(clean, dtype=torch.float32).expand(frames, -1, -1)
    return detector.sample(many, generator).numpy()


def compare(kind, places, electrons, background, detector, information, free, frames, seed):
    places = np.asarray(places, float)
    start = places + np.random.default_rng(seed).uniform(-0.1, 0.1, places.shape)
    counts = draw(scene(places, electrons, background), detector, frames, seed)
    begin = perf_counter()
    fit = fit_columns(counts, start, PIXEL, detector, free=free)
    took = perf_counter() - begin
    ok = fit.good.all(1)
    off = fit.position[ok] - places
    z = off / fit.position_error[ok]
    zi = (fit.intensity[ok] - electrons) / fit.intensity_error[ok]
    zw = (fit.width[ok] - WIDTH) / np.maximum(fit.width_error[ok], 1e-9)
    zb = (fit.background[ok] - background) / fit.background_error[ok]
    least = bound(places, electrons, background, information, free)
    print(
        f"{kind:24s} N {electrons:4.0f} free {'+'.join(free) or '-':12s} flagged {1 - ok.mean():.3f}"
        f" error/bound {off[:, 0].std(0) / least} bias [mA] {1e3 * off.mean((0, 1))}"
        f" +- {1e3 * off.std() / np.sqrt(off.size / 2):.1f}"
        f" z pos {z.std((0, 1))} int {zi.std():.3f} ({zi.mean():+.3f}) bg {zb.std():.3f}"
        f" width {zw.std() if 'width' in free else 0:.3f} {took:.1f} s"
    )


def bounds(frames=4000):
    np.set_printoptions(precision=3, suppress=True)
    one, two = [(5.13, 5.32)], [(5.1, 4.2), (5.3, 6.19)]
    four = Categorical.sub_frames(4)
    for free in ((), ("width",), ("width", "slope")):
        for electrons in (300, 1000):
            compare(
                "one, Poisson", one, electrons, 1.0, Poisson(), lambda m: 1 / m, free, frames, 1
            )
    for free in ((), ("width", "slope")):
        compare("two at 2 A, Poisson", two, 300, 1.0, Poisson(), lambda m: 1 / m, free, frames, 2)
        compare("two at 2 A, Poisson", two, 1000, 1.0, Poisson(), lambda m: 1 / m, free, frames, 2)
    compare("one, sub-frames", one, 60, 0.6, four, binomial(4), (), frames, 3)
    compare("two at 2 A, sub-frames", two, 60, 0.6, four, binomial(4), (), frames, 4)


def speed(frames=20):
    """A lattice of 200 columns, all neighbours at 2.4 A."""
    places = np.array([(4 + 2.4 * i, 4 + 2.4 * j) for i in range(10) for j in range(20)])
    clean = scene(places, 300.0, 1.0, size=230)[:130]
    counts = np.random.default_rng(0).poisson(clean, (frames, *clean.shape))
    start = places + np.random.default_rng(1).uniform(-0.1, 0.1, places.shape)
    for free in ((), ("width", "slope")):
        begin = perf_counter()
        fit = fit_columns(counts, start, PIXEL, free=free)
        took = perf_counter() - begin
        z = ((fit.position - places) / fit.position_error)[fit.good]
        print(
            f"{len(places)} columns x {frames} frames, free {free}: {took:.2f} s on "
            f"{torch.get_num_threads()} threads, {took / frames * 1000:.0f} s for 1,000 frames; "
            f"flagged {1 - fit.good.mean():.4f}, z {z.std():.3f}"
        )


if __name__ == "__main__":
    np.set_printoptions(precision=3, suppress=True)
    tasks = {"bound": bounds, "speed": speed}
    for name in sys.argv[1:] or tasks:
        tasks[name]()
