"""Denoisers that were saved, of whatever kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from insitu import InputError
from insitu.denoise.halves import HalvesRestorer
from insitu.denoise.movies import MovieDenoiser
from insitu.denoise.restorer import MovieRestorer
from insitu.denoise.supervised import ImageDenoiser
from insitu.learning import checkpoints


def load_denoiser(
    name: str | Path, *, device: torch.device | str = "cpu"
) -> ImageDenoiser | MovieDenoiser | MovieRestorer:
    """Open a denoiser.

    Parameters
    ----------
    name : str or Path
        One that ships, or a .safetensors file that `save` wrote: `pt_ceo2` (learned from
        simulations, for all magnifications and contrasts), `bf_cnn` (20 layers of 64 channels,
        for 0.062 A/px), `restorer` (movies, learned from simulated ones), `movie_ours`,
        `movie_halves` and `movie_udvd` (learned from the movie that ships).
    device : device
        Where it is to work.

    Raises
    ------
    InputError
        If there is no such checkpoint, or it is not what its record says.

    Examples
    --------
    >>> import numpy as np
    >>> denoiser = load_denoiser("pt_ceo2")
    >>> counts = np.random.default_rng(0).poisson(2.0, (48, 64))
    >>> denoiser(counts, pixel_size=0.2).shape
    (48, 64)
    """
    path = checkpoints.find(name)
    tensors, record = checkpoints.load(path)
    kind: Any = ImageDenoiser
    if record.get("network") == "RestoredSums":
        kind = HalvesRestorer
    elif "sums" in record:
        kind = MovieRestorer
    elif "surroundings" in record:
        kind = MovieDenoiser
    try:
        denoiser = kind.from_record(record)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"checkpoint: {path.name} is not that of a denoiser") from None
    weights = {key: value.float() for key, value in tensors.items()}
    checkpoints.fill(denoiser.network, weights, path.name)
    denoiser.network.to(device).eval()
    return denoiser
