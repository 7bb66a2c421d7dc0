"""Speed and quality of networks that learn from one movie, in one run: `make bench`.

Training windows of 64 x 64 pixels and inference of the published network, written plainly in
float32, and of ours with all that it is shown; then ours on the simulated movie with three seeds,
beside the best smoothing, and on the real one.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from denoising import median
from scipy import ndimage

from insitu import fetch
from insitu.book import chapter
from insitu.denoise.blind_networks import UDVD
from insitu.denoise.saved import load_denoiser
from insitu.denoise.unsupervised import MovieSettings, learn_movie
from insitu.simulate import movie_files
from insitu.trust import metrics


def speed(counts: np.ndarray[Any, Any]) -> None:
    plain, images = UDVD(), torch.rand(1, 5, 64, 64)
    optimiser = torch.optim.Adam(plain.parameters(), 1e-4)

    def plain_step() -> None:
        optimiser.zero_grad()
        (plain(images) - images[:, :1]).square().mean().backward()
        optimiser.step()

    theirs = median(plain_step)
    pixel = 0.24
    settings = MovieSettings(steps=6, validate_every=6, judged=1)
    denoiser, result = learn_movie(counts[:16], pixel, settings)
    ours = result.history[-1]["seconds"] / settings.steps / (8 * (96 / 64) ** 2)
    print(
        f"training, window of 64 x 64: UDVD {theirs:.3f} s, ours {ours:.4f} s, "
        f"{theirs / ours:.0f} times"
    )
    with torch.no_grad():
        theirs = 64 * 64 / median(lambda: plain.eval()(images)) / 1e6
    seconds = median(lambda: denoiser(counts[:64], pixel, [32]))
    ours = counts[0].size / seconds / 1e6
    print(
        f"inference [Mpx/s]: UDVD {theirs:.4f}, ours with its filters {ours:.3f}, "
        f"{ours / theirs:.0f} times"
    )


def quality(seeds: int) -> None:
    movie = movie_files.load(fetch.shipped("pt_ceo2_movie.zarr"))
    clean = movie.clean() * movie.plan.vacuum
    single = movie.counts.astype(np.float32)
    parts = {"at rest": slice(20, 44), "turning": slice(65, 72)}
    centre = np.s_[:, 64:192, 64:192]
    rivals = [
        ndimage.gaussian_filter(single, (t, s, s))
        for t in (0, 1.5, 3, 6, 12)
        for s in (1, 1.25, 1.5, 2, 3)
    ]
    five = ndimage.uniform_filter1d(single, 5, axis=0)
    rivals += [five, *(ndimage.gaussian_filter(five, (0, s, s)) for s in (1, 1.5, 2))]
    best = {
        n: max(metrics.psnr(r[p][centre], clean[p][centre]) for r in rivals)
        for n, p in parts.items()
    }
    del rivals
    for seed in range(seeds):
        begin = time.perf_counter()
        denoiser, result = learn_movie(movie.counts, movie.plan.pixel_size, seed=seed)
        minutes = (time.perf_counter() - begin) / 60
        answer = denoiser(movie.counts, movie.plan.pixel_size)
        texts = []
        for name, part in parts.items():
            value = metrics.psnr(answer[part][centre], clean[part][centre])
            texts.append(
                f"{name} {value:.2f} dB, {value - best[name]:+.2f} above the best smoothing"
            )
        vacuum = answer[:, :32].mean() / clean[:, :32].mean() - 1
        error = np.mean((answer[20:44] - clean[20:44]) ** 2)
        exposure = clean[20:44].mean() / error
        print(
            f"seed {seed}, {minutes:.1f} min, step {result.best_step}: {'; '.join(texts)}; "
            f"vacuum {vacuum:+.2%}; exposure {exposure:.0f} frames"
        )


def published() -> None:
    """The shipped UDVD on every eighth frame of the particle, and ours on the same."""
    movie = movie_files.load(fetch.shipped("pt_ceo2_movie.zarr"))
    clean = movie.clean() * movie.plan.vacuum
    near, inner = np.s_[:, 48:208, 48:208], np.s_[:, 16:144, 16:144]
    frames = [*range(20, 44, 8), *range(65, 72, 2)]
    for name in ("movie_udvd", "movie_ours"):
        denoiser = load_denoiser(name)
        answer = denoiser(movie.counts[near], movie.plan.pixel_size, frames)[inner]
        truth = clean[frames][near][inner]
        print(
            f"{name}: at rest {metrics.psnr(answer[:3], truth[:3]):.2f} dB, turning "
            f"{metrics.psnr(answer[3:], truth[3:]):.2f} dB"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    print(chapter.device_name(torch.device("cpu")), chapter.versions())
    speed(movie_files.load(fetch.shipped("pt_ceo2_movie.zarr")).counts)
    published()
    quality(arguments.seeds)
