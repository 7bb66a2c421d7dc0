"""Speed and quality of the denoisers, in one run: `make bench`.

Training steps and inference of the same network and images in memory formats and number types;
then the first network and ours over dose, on 20 test images, with three draws of the noise.
"""

import resource
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from insitu import fetch
from insitu.book import chapter
from insitu.counting.categorical import Categorical
from insitu.denoise import classical, examples, learn
from insitu.denoise.examples import Batch, LongExposure, draw_pool
from insitu.denoise.networks import BiasFreeUNet
from insitu.denoise.saved import load_denoiser
from insitu.learning import checkpoints
from insitu.learning.muon import Muon
from insitu.simulate import views
from insitu.simulate.bank import Bank
from insitu.trust import metrics


def median(task: Callable[[], Any], rounds: int = 5) -> float:
    task()
    seconds = []
    for _ in range(rounds):
        begin = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def step(network: Any, optimiser: Muon, counts: torch.Tensor, batch: Batch, number: Any) -> None:
    with torch.autocast("cpu", number, enabled=number != torch.float32):
        output = network(counts)
    examples.decibels(output.float(), batch).backward()
    optimiser.step()


def training_step() -> None:
    expected = torch.full((6, 1, 128, 128), 4.0)
    batch = Batch(torch.poisson(expected), expected, torch.full((6, 1, 1, 1), 4.0))
    seconds = {}
    for name, form, number in (
        ("NCHW, float32", torch.contiguous_format, torch.float32),
        ("channels_last, float32", torch.channels_last, torch.float32),
        ("channels_last, bfloat16", torch.channels_last, torch.bfloat16),
    ):
        network: Any = checkpoints.seeded(BiasFreeUNet, 0, **learn.UNET | {"windows": []})
        network = network.to(memory_format=form)
        counts = batch.counts.contiguous(memory_format=form)
        optimiser = Muon(network.parameters())

        seconds[name] = median(partial(step, network, optimiser, counts, batch, number))
    plain = seconds["NCHW, float32"]
    for name, value in seconds.items():
        print(f"training step, {name:24s} {value * 1e3:7.0f} ms  {plain / value:5.2f} x")


def inference() -> None:
    ours = load_denoiser("pt_ceo2")
    counts = np.random.default_rng(0).poisson(2.0, (1024, 1024))
    for pixel_size in (0.062, 0.13):
        for name, tile in (("tiles", 256), ("whole", 2048)):
            seconds = median(lambda p=pixel_size, t=tile: ours(counts, p, tile=t), 3)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            speed = counts.size / seconds / 1e6
            print(f"1024 x 1024 px of {pixel_size} A, {name}: {speed:.2f} Mpx/s, {peak:.0f} MB")


def over_dose() -> None:
    bank = Bank(fetch.shipped("exit_waves.zarr"))
    detector = LongExposure(Categorical.load(fetch.shipped("detector.json")))
    conditions = learn.BF_CNN_CONDITIONS
    clean = draw_pool(bank, "test", 64, size=256, conditions=conditions, seed=11).clean.float()
    clean = clean[clean.std((1, 2)) > 0.05][::2][:20]  # not of vacuum alone, nor faint
    truth = clean.numpy()
    denoisers = {"first": load_denoiser("bf_cnn"), "ours": load_denoiser("pt_ceo2")}
    print(f"PSNR (peak 1, vacuum 1) and SSIM, {len(clean)} test images, +- over 3 draws of noise")
    for electrons in (0.06, 0.5, 4.0, 32.0, 256.0, 2048.0, 16384.0, 131072.0):
        for name, denoiser in denoisers.items():
            rows = []
            for seed in range(3):
                generator = torch.Generator().manual_seed(seed)
                counts = detector.sample(clean * electrons, generator).numpy()
                answers = denoiser(counts, 0.062) / electrons
                rows.append(
                    [
                        np.mean([f(a, t) for a, t in zip(answers, truth, strict=True)])
                        for f in (metrics.psnr, metrics.ssim)
                    ]
                )
            psnr, ssim = np.mean(rows, axis=0)
            spread_db = np.std(rows, axis=0)[0]
            print(f"{electrons:8.1f} e-/px {name:6s} {psnr:6.2f} +- {spread_db:.3f} dB, {ssim:.4f}")


def fresh_structures(count: int = 24, vacuum: float = 0.45) -> None:
    """PSNR on new structures, peak 1 e-/px, in fields of 25 A and of 50 A."""
    denoisers = {
        "Gaussian": classical.Gaussian(1.4),
        "local Wiener": classical.LocalWiener(4.0),
        "ours": load_denoiser("pt_ceo2"),
    }
    fresh = views.fresh_specimens(count)
    for size in (400, 800):
        for contrast, defocus in views.CONTRASTS.items():
            rows = []
            for seed in range(3):
                rng = np.random.default_rng(seed)
                for view in views.views(fresh, defocus, size=size, focal_points=7):
                    truth = view.clean * vacuum
                    counts = rng.poisson(truth)
                    answers = [denoiser(counts, 0.062) for denoiser in denoisers.values()]
                    answers.insert(0, np.full_like(truth, truth.mean()))
                    rows.append([metrics.psnr(image, truth) for image in answers])
            means = np.array(rows).reshape(3, count, -1).mean(1)
            texts = [
                f"{n} {m:.2f} +- {s:.2f}"
                for n, m, s in zip(
                    ["constant", *denoisers], means.mean(0), means.std(0), strict=True
                )
            ]
            print(f"{size} px, {contrast:13s}", ", ".join(texts), "dB")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(chapter.device_name(torch.device("cpu")), chapter.versions())
    training_step()
    inference()
    fresh_structures()
    over_dose()
