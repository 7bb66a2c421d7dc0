"""How near fitted columns come to what counting allows, on drawn counts and on the shipped movie.

python tests/benchmarks/columns.py [bound] [speed] [model] [turn] [names]

`atomap PYTHON` fits one frame of the same lattice by the 2D Gaussians of atomap, from another
environment: `python -m venv rivals && rivals/bin/pip install atomap==0.4.2`.
"""

from __future__ import annotations

import sys
from collections import Counter
from time import perf_counter, process_time

import numpy as np
import torch
from elsewhere import asked

from insitu.counting.categorical import Categorical
from insitu.counting.poisson import Poisson
from insitu.measure.columns import fit_columns
from insitu.measure.following import follow, turn_and_strain
from insitu.measure.lattice import fit_lattice
from insitu.simulate.movie_files import shipped_movie
from insitu.trust.columns import find_columns, match

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
    begin = process_time()
    fit = fit_columns(counts, start, PIXEL, detector, free=free)
    took = process_time() - begin
    ok = fit.good.all(1)
    off = fit.position[ok] - places
    z = off / fit.position_error[ok]
    zi = (fit.intensity[ok] - electrons) / fit.intensity_error[ok]
    zw = (fit.width[ok] - WIDTH) / np.maximum(fit.width_error[ok], 1e-9)
    zb = (fit.background[ok] - background) / fit.background_error[ok]
    least = bound(places, electrons, background, information, free)
    print(
        f"{kind:24s} N {electrons:4.0f} {'+'.join(free) or '-':12s} flagged {1 - ok.mean():.3f}"
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


def speed(frames=1000):
    """A lattice of 200 columns, all neighbours at 2.4 A."""
    places = np.array([(4 + 2.4 * i, 4 + 2.4 * j) for i in range(10) for j in range(20)])
    clean = scene(places, 300.0, 1.0, size=230)[:130]
    counts = np.random.default_rng(0).poisson(clean, (frames, *clean.shape))
    start = places + np.random.default_rng(1).uniform(-0.1, 0.1, places.shape)
    for free in ((), ("width",)):
        begin, wall = process_time(), perf_counter()
        fit = fit_columns(counts, start, PIXEL, free=free)
        took, wall = process_time() - begin, perf_counter() - wall
        z = ((fit.position - places) / fit.position_error)[fit.good]
        each = 1e3 * took / fit.good.size
        print(
            f"{len(places)} columns x {frames} frames, free {free}: {wall:.0f} s, {took:.0f} s of "
            f"all cores, {each:.2f} ms a column, {41 / each:.0f} times atomap's 2D Gaussian as "
            f"reported (41 ms); flagged {1 - fit.good.mean():.4f}, z {z.std():.3f}"
        )


ATOMAP = """
import atomap.api as am
from time import perf_counter
lattice = am.Sublattice(given["places"][:, ::-1], image=given["image"])
lattice.find_nearest_neighbors()
begin = perf_counter()
lattice.refine_atom_positions_using_2d_gaussian(show_progressbar=False)
found["seconds"] = perf_counter() - begin
found["places"] = np.stack([lattice.y_position, lattice.x_position], 1)
"""


def atomap(python, electrons=300.0):
    """One frame of the lattice of `speed`, by atomap and by us."""
    places = np.array([(4 + 2.4 * i, 4 + 2.4 * j) for i in range(10) for j in range(20)])
    clean = scene(places, electrons, 1.0, size=230)[:130]
    counts = np.random.default_rng(0).poisson(clean)
    start = places + np.random.default_rng(1).uniform(-0.1, 0.1, places.shape)
    theirs = asked(python, ATOMAP, places=start / PIXEL, image=counts.astype(float))
    frames = 50
    begin = perf_counter()
    fit = fit_columns(np.repeat(counts[None], frames, 0), start, PIXEL)
    took = (perf_counter() - begin) / frames
    for name, found, seconds in (
        ("atomap", theirs["places"] * PIXEL, float(theirs["seconds"])),
        ("ours", fit.position[0], took),
    ):
        off = np.linalg.norm(found - places, axis=1)
        print(
            f"{name}: {1e3 * seconds / len(places):.2f} ms a column of {electrons:.0f} electrons,"
            f" error [A] rms {np.sqrt((off**2).mean()):.3f}, median {np.median(off):.3f}"
        )


def shown(movie, frame):
    """Columns of platinum in a frame and all others that a filter finds, (n, 2) and (m, 2) [A]."""
    truth = movie.truth(frame)
    places = np.stack([truth["y"], truth["x"]], 1)
    found = find_columns(movie.clean[frame], movie.pixel_size, threshold=0.04, border=0.5).positions
    apart = np.linalg.norm(found[:, None] - places, axis=2).min(1)
    return places, found[apart > 1], truth["surface"]


def model():
    """Columns of the simulation are no Gaussians: what that moves, on clean frames; one raw."""
    movie = shipped_movie()
    clean = np.asarray(movie.clean, float)
    for frame in (0, 72):
        places, others, surface = shown(movie, frame)
        start, n = np.concatenate([places, others]), len(places)
        for free in ((), ("width",), ("width", "slope")):
            fit = fit_columns(clean[frame], start, movie.pixel_size, None, free=free)
            off, good = 100 * (fit.position[0, :n] - places), fit.good[0, :n]
            rms = [np.sqrt((off[good & part] ** 2).mean()) for part in (~surface, surface)]
            print(
                f"clean frame {frame} {free}: {good.sum()} of {n} good, off by {rms[0]:.2f} pm "
                f"(bulk) and {rms[1]:.2f} pm (surface) an axis, mean {off[good].mean(0)} pm"
            )
        fit = fit_columns(movie.counts[frame], start, movie.pixel_size, free=())
        off, good = fit.position[0, :n] - places, fit.good[0, :n]
        print(
            f"raw frame {frame}: {good.sum()} of {n} good, off by {100 * off[good].std():.1f} pm "
            f"an axis, z {(off / fit.position_error[0, :n])[good].std():.3f}, electrons "
            f"{np.median(fit.intensity[0, :n]):.1f} +- {np.median(fit.intensity_error[0, :n]):.1f}"
        )


def turn(frames=range(60, 76)):
    """Turn in the event, from clean frames and from the raw ones at the columns of the former."""
    movie = shipped_movie()
    true = movie.uncut.angles[list(frames)]
    found = [
        find_columns(movie.clean[t], movie.pixel_size, threshold=0.04, border=1).positions
        for t in frames
    ]
    track = follow(found)
    first, last = (list(frames).index(t) for t in (64, 72))
    error = np.hypot(track.angle_error[first], track.angle_error[last])
    print(
        f"clean: turn {track.angle[last] - track.angle[first]:.3f} +- {error:.3f} degrees; off by "
        f"{np.std(track.angle - true):.3f} over {len(true)} frames"
    )
    off, z, strains = [], [], []
    for i, t in enumerate(frames):
        there = track.column[i] >= 0
        others = np.delete(found[i], track.column[i][there], 0)
        start = np.concatenate([track.positions[i][there], others])
        fit = fit_columns(movie.counts[t], start, movie.pixel_size, free=())
        good, n = fit.good[0, : there.sum()], there.sum()
        _, vectors, covariance = fit_lattice(
            fit.position[0, :n][good], track.names[there][good], fit.position_error[0, :n][good]
        )
        told = turn_and_strain(vectors, track.vectors[0], covariance[:, 1:, 1:])
        off.append(told[0] - true[i])
        z.append(off[-1] / told[2])
        strains.append(told[1] / told[3])
    print(
        f"raw: turn {true[last] - true[first] + off[last] - off[first]:.3f} degrees; off by "
        f"{np.sqrt(np.mean(np.square(off))):.3f} a frame, z {np.std(z):.2f}, z of strain "
        f"{np.std(strains, axis=0).ravel()}"
    )


def names():
    """Names of the columns against the labels of the truth, over the whole clean movie."""
    movie = shipped_movie()
    found = [
        find_columns(f, movie.pixel_size, threshold=0.04, border=1).positions for f in movie.clean
    ]
    # 5 px a frame and back: the frame, not the particle, would end otherwise
    drift = 1.2 * np.abs((np.arange(len(found)) + 8) % 16 - 8)
    moved = [np.add(p, [d, -d]) for p, d in zip(found, drift, strict=True)]
    for kind, places in (("as it is", found), ("drifting by 7 px a frame", moved)):
        begin = process_time()
        track = follow(places)
        took = process_time() - begin
        sites: dict[int, Counter[tuple[int, int]]] = {}
        total = extra = 0
        for t in np.flatnonzero(~track.lost):
            truth = movie.truth(t)
            if len(np.unique(truth["label"])) < len(truth):
                continue  # atoms on their way
            shift = np.array([drift[t], -drift[t]]) if places is moved else 0
            at = np.stack([truth["y"], truth["x"]], 1) + shift
            there = np.flatnonzero(track.column[t] >= 0)
            pairs = match(track.positions[t][there], at)
            total += len(at)
            extra += len(there) - len(pairs.found)
            for i, j in zip(there[pairs.found], pairs.true, strict=True):
                label = int(truth["label"][j])
                sites.setdefault(label, Counter())[tuple(track.names[i].tolist())] += 1
        named = sum(c.most_common(1)[0][1] for c in sites.values())
        print(
            f"{kind}: {track.lost.sum()} of {len(found)} frames lost; {named} of {total} columns "
            f"have the one name of their label, {extra} others are named; {took:.1f} s"
        )


if __name__ == "__main__":
    np.set_printoptions(precision=3, suppress=True)
    tasks = {"bound": bounds, "speed": speed, "model": model, "turn": turn, "names": names}
    if sys.argv[1:2] == ["atomap"]:
        atomap(sys.argv[2])
    else:
        for name in sys.argv[1:] or tasks:
            tasks[name]()
