"""GainTuning: a trained network adapts one gain for each channel to a single image [1]_.

.. [1] S. Mohan et al., Adaptive denoising via GainTuning, NeurIPS 2021.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from insitu import InputError
from insitu.denoise.binning import binning, summed
from insitu.denoise.supervised import Denoiser, checked, filled


def thinned(counts: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Keep every electron with the probability `share`: Poisson counts fall into two independent
    parts, this one and the rest.
    """
    return torch.binomial(counts, torch.full_like(counts, share), generator=generator)


def gain_tuned(
    denoiser: Denoiser,
    counts: NDArray[np.generic],
    pixel_size: float,
    *,
    steps: int = 60,
    share: float = 0.8,
    learning_rate: float = 0.01,
    seed: int = 0,
) -> Denoiser:
    """Adapt the gains of a denoiser to images, without a truth; all other weights stay.

    In each step the electrons are divided at random. The network sees `share` of them and says
    how many of the others to expect in each pixel; their Poisson likelihood is made larger.

    Parameters
    ----------
    denoiser : Denoiser
        What to begin with; it is not changed.
    counts : (y, x) or (n, y, x) array of counts
        Electrons per pixel.
    pixel_size : float
        [A].
    steps : int
        Of Adam.
    share : float
        Of the electrons that the network sees.
    learning_rate : float
        Relative change of a gain in a step, about.
    seed : int
        Of the divisions.

    Raises
    ------
    InputError
        If the counts are no whole numbers.
    """
    images = checked(counts)
    if images.dtype.kind == "f" and (images != np.rint(images)).any():
        raise InputError("counts: GainTuning divides electrons, it needs whole numbers of them")
    stack = images.reshape(-1, *images.shape[-2:])
    factor = binning(pixel_size) if denoiser.binned else 1
    network = copy.deepcopy(denoiser.network)
    unit = getattr(network, "unit", 1)
    device = next(network.parameters()).device
    coarse = [filled(torch.from_numpy(summed(image, factor)), unit) for image in stack]
    y = torch.stack(coarse)[:, None].to(device)
    gains = [p for name, p in network.named_parameters() if name.endswith("gain")]
    if not gains:
        raise InputError("denoiser: this network has no gains to tune")
    start = [g.detach().clone() for g in gains]
    factors = [torch.nn.Parameter(torch.ones_like(g)) for g in gains]
    optimiser = torch.optim.Adam(factors, learning_rate)
    generator = torch.Generator(device).manual_seed(seed)
    names = [name for name, _ in network.named_parameters() if name.endswith("gain")]
    floor = 1e-3 * float(y.mean())
    for _ in range(steps):
        seen = thinned(y, share, generator)
        rest = y - seen
        tuned = {n: f * s for n, f, s in zip(names, factors, start, strict=True)}
        output = torch.func.functional_call(network, tuned, (seen,))
        expected = ((1 - share) / share * output).clamp(min=floor)
        loss = (expected - rest * expected.log()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        for gain, f in zip(gains, factors, strict=True):
            gain.mul_(f)
    return replace(denoiser, network=network)
