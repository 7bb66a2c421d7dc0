"""Movie denoisers on movies with truth, at rest and in the event, with the best Gaussian beside.

python tests/benchmarks/movies.py [--movies pt_ceo2_movie ...] [--learn] [--symmetric]

What learned from the shipped movie alone is shown for it alone; with --learn one learns from each
movie by halves here, ten minutes each. With --symmetric the restorer also answers the mean of
eight rotations and mirror images.

PSNR of the whole frame, peak 1 electron; kept: regression of the denoised on the clean frame
within 1.3 A of true columns of platinum, at the surface and inside. Means over the frames of the
event and over 20 frames at rest.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter1d

from insitu import fetch
from insitu.denoise.halves import learn_halves
from insitu.denoise.saved import load_denoiser
from insitu.simulate import movie_files

TIMES, WIDTHS = (0, 0.5, 1, 1.5, 3, 6, 12, 20, 30), (0.6, 0.8, 1, 1.25, 1.5, 2, 2.5, 3)


def columns(movie, frame):
    """Masks of surface columns, not at the support, and of columns inside."""
    pixel, rows = movie.plan.pixel_size, movie.truth(frame)
    y, x = np.mgrid[: movie.plan.size, : movie.plan.size] * pixel
    surface, inside = (np.zeros(y.shape, bool) for _ in range(2))
    for row in rows:
        near = np.hypot(y - row["y"], x - row["x"]) < 1.3
        if not row["surface"]:
            inside |= near
        elif row["y"] < rows["y"].max() - 4:
            surface |= near
    return surface, inside & ~surface


def figures(movie, clean, frames, images):
    """Mean PSNR, contrast kept at the surface, contrast kept inside, of images of these frames."""
    rows = []
    for t, image in zip(frames, images, strict=True):
        truth = clean[t]
        row = [-10 * np.log10(np.mean((image - truth) ** 2))]
        for mask in columns(movie, t):
            centred = truth[mask] - truth[mask].mean()
            row.append((centred * image[mask]).sum() / (centred**2).sum())
        rows.append(row)
    return np.mean(rows, 0)


def main() -> None:
    """Print a row for every denoiser of every movie."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--movies", nargs="+", default=list(movie_files.SHIPPED))
    parser.add_argument("--learn", action="store_true")
    parser.add_argument("--symmetric", action="store_true")
    arguments = parser.parse_args()
    print("movie; denoiser; Mpx/s; at rest: dB, surface, inside; event: dB, surface, inside")
    for name in arguments.movies:
        path = Path(name) if name.endswith(".zarr") else fetch.shipped(f"{name}.zarr")
        movie = movie_files.load(path)
        plan = movie.plan
        clean, counts = movie.clean() * plan.vacuum, movie.counts
        event = range(plan.event, plan.event + plan.duration)
        still = [t for t in range(plan.frames) if not _something(movie, t)]
        rest = [still[k] for k in np.linspace(0, len(still) - 1, 20).astype(int)]

        def show(what, images, speed=0.0, name=name, movie=movie, clean=clean, at=(rest, event)):
            halves = images[: len(at[0])], images[len(at[0]) :]
            told = [
                v for half in zip(at, halves, strict=True) for v in figures(movie, clean, *half)
            ]
            words = ", ".join(f"{value:.2f}" for value in told)
            print(f"{name}; {what}; {speed:.2f} Mpx/s; {words}", flush=True)

        asked = [*rest, *event]
        single = counts.astype(np.float32)
        best = {}
        for t, xy in product(TIMES, WIDTHS):
            for mean in (1, 5):
                image = single if mean == 1 else uniform_filter1d(single, mean, axis=0)
                image = gaussian_filter(image, (t, xy, xy), truncate=3.0)
                for when, frames in (("at rest", rest), ("event", event)):
                    error = np.mean((image[list(frames)] - clean[list(frames)]) ** 2)
                    if when not in best or error < best[when][0]:
                        best[when] = error, (t, xy, mean), image
        for when, (_, widths, image) in best.items():
            show(f"best Gaussian {when} (frames, px, mean of) {widths}", image[asked])
        denoisers = {}
        if name == "pt_ceo2_movie":
            own = ("movie_udvd", "movie_ours", "movie_halves")
            denoisers = {kind: load_denoiser(kind) for kind in own}
        if arguments.learn:
            denoisers["learned by halves here"] = learn_halves(counts, plan.pixel_size)[0]
        restorer = denoisers["restorer"] = load_denoiser("restorer")
        if arguments.symmetric:
            denoisers["restorer, eight symmetries"] = partial(restorer, symmetric=True)
        for kind, denoiser in denoisers.items():
            frames = asked if kind == "movie_udvd" else range(plan.frames)  # many minutes for all
            begin = perf_counter()
            images = denoiser(counts, plan.pixel_size, frames)
            speed = images.size / 1e6 / (perf_counter() - begin)
            show(kind, images if frames is asked else images[asked], speed)


def _something(movie, t):
    return any(event["start"] - 3 < t < event["end"] + 3 for event in movie.events)


if __name__ == "__main__":
    main()
