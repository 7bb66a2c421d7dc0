"""How the denoisers that ship were trained, from exit waves to checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from insitu.counting.categorical import Categorical
from insitu.denoise import examples
from insitu.denoise.examples import Batches, LongExposure, Pool, draw_pool
from insitu.denoise.networks import BiasFreeCNN, BiasFreeUNet
from insitu.denoise.supervised import ImageDenoiser
from insitu.learning import checkpoints
from insitu.learning.training import Result, Settings, train
from insitu.simulate.bank import Bank, Conditions

PIXELS = (0.13, 0.26)  # what the network sees [A]
DOSES = (3.2, 8000.0)  # [e-/A^2]
CONDITIONS = Conditions(pixel_size=PIXELS, vibration=(0.1, 0.5), focal_spread=(20.0, 50.0))
LEARNED = replace(CONDITIONS, vibration=(0.1, 0.6))  # a little more than it is judged by
UNET = {"channels": 40, "levels": 3, "blocks": [1, 1, 1, 2], "fold": 2, "windows": [32, 96]}
IMAGES = 12_800
SETTINGS = Settings(
    steps=14_000,
    optimiser="muon",
    learning_rate=7e-3,
    warm_up=100,
    average=0.999,
    bfloat16=True,
    validate_every=250,
    save_every=250,
)


def shortened(settings: Settings, steps: int) -> Settings:
    """Return the same course of the learning rate in another number of steps."""
    return replace(settings, steps=steps, validate_every=max(5, steps // 32))


def learn_pt_ceo2(
    bank: Bank,
    settings: Settings = SETTINGS,
    *,
    seed: int = 0,
    images: int = IMAGES,
    options: Mapping[str, Any] | None = None,
    pool: Pool | None = None,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> tuple[ImageDenoiser, Result]:
    """Train the denoiser for all magnifications, doses and contrasts.

    Parameters
    ----------
    bank : Bank
        Exit waves; its training structures are learned from, those for validation judged by.
    settings : Settings
        How long and how fast.
    seed : int
        Of the first weights and of the batches.
    images : int
        Clean images drawn from the bank before training.
    options : mapping, optional
        Of the network; the default has 2.5 million weights.
    pool : Pool, optional
        Clean images, if they have been drawn already.
    checkpoint : Path, optional
        Where the state is kept, from which a run that was killed goes on.
    device : device
        Where to train.
    progress : bool
        Show bars.
    """
    pool = pool or draw_pool(bank, "train", images, conditions=LEARNED, seed=1, progress=progress)
    judged = draw_pool(bank, "validation", 96, size=128, conditions=CONDITIONS, seed=1)
    given = dict(options or UNET)
    network = checkpoints.seeded(BiasFreeUNet, seed, **given).to(device)
    result = train(
        network.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        examples.loss_of(Batches(pool, images=8, dose=DOSES, seed=seed), examples.decibels, device),
        examples.validation(Batches(judged, images=8, dose=DOSES, seed=7), 6, device),
        settings,
        checkpoint=checkpoint,
        progress=progress,
        about={"seed": seed, "images": len(pool.clean), "bank": len(bank), "options": given},
    )
    return ImageDenoiser(result.network, (0.05, PIXELS[1]), DOSES), result


BF_CNN_PIXELS = (0.062, 0.062)  # [A]
BF_CNN_CONDITIONS = Conditions(pixel_size=BF_CNN_PIXELS)
BF_CNN_DOSES = (100.0, 100_000.0)  # [e-/A^2]; 0.4 to 400 electrons per pixel
BF_CNN_IMAGES = 460
BF_CNN_SETTINGS = replace(SETTINGS, steps=5_000, learning_rate=2e-3, warm_up=50, average=0.998)


def learn_bf_cnn(
    bank: Bank,
    detector: Categorical,
    settings: Settings = BF_CNN_SETTINGS,
    *,
    images: int = BF_CNN_IMAGES,
    checkpoint: Path | None = None,
    progress: bool = False,
) -> tuple[ImageDenoiser, Result]:
    """Train the first network for such movies: 460 images, 20 layers of 64 channels, L2 [1]_.

    Its dose was not told; here it is drawn evenly in its logarithm, and the squared error of
    each image is taken relative to its dose.

    Parameters
    ----------
    bank : Bank
        Exit waves.
    detector : Categorical
        Fitted to the real movie.
    images : int
        Clean images of the training structures, 256 x 256 pixels each.
    settings, checkpoint, progress
        As for `learn_pt_ceo2`.

    References
    ----------
    .. [1] J. L. Vincent et al., Microsc. Microanal. 26 (S2), 2020.
    """
    given: Any = {"size": 256, "conditions": BF_CNN_CONDITIONS, "seed": 2, "progress": progress}
    pool = Pool(*(part[:images] for part in draw_pool(bank, "train", images, **given)))
    judged = draw_pool(bank, "validation", 16, **given)
    shots: Any = {"dose": BF_CNN_DOSES, "counting": LongExposure(detector).sample}
    network = checkpoints.seeded(BiasFreeCNN, 0)
    result = train(
        network.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        examples.loss_of(Batches(pool, size=64, **shots), examples.relative_squared),
        examples.validation(Batches(judged, images=4, seed=7, **shots), 2),
        settings,
        checkpoint=checkpoint,
        progress=progress,
        about={"seed": 0, "images": images, "bank": len(bank)},
    )
    return ImageDenoiser(result.network, BF_CNN_PIXELS, BF_CNN_DOSES, binned=False), result
