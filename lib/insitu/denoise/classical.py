"""Denoisers that learn nothing: the floor on which every network has to stand.

All take counts (y, x) and a strength, and give expected counts (y, x). `tune` chooses the
strength on images with a truth, as is done for networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from skimage import filters, restoration

from insitu import InputError
from insitu.counting.poisson import Poisson
from insitu.denoise import local_wiener as windows

Image = NDArray[np.float32]


class Method(Protocol):
    """A denoiser with one strength."""

    def __call__(self, counts: Image, strength: float) -> Image:
        """Denoise an image (y, x)."""


class CountModel(Protocol):
    """A detector, such as those of `insitu.counting.detector`."""

    def table(self, means: ArrayLike, largest: int) -> NDArray[np.float64]:
        """P(k | m), (means, largest + 1)."""


def constant(counts: Image, strength: float = 0) -> Image:  # noqa: ARG001
    """Give the mean everywhere."""
    return np.full_like(counts, counts.mean())


def gaussian(counts: Image, strength: float) -> Image:
    """Gaussian blur with a standard deviation of `strength` pixels."""
    return ndimage.gaussian_filter(counts, strength, mode="mirror")


def butterworth(counts: Image, strength: float) -> Image:
    """Low-pass with half the power at 1 / (2 `strength`) of a cycle per pixel."""
    padding = min(16, min(counts.shape) - 1)
    smooth = filters.butterworth(
        counts, 0.5 / strength, high_pass=False, squared_butterworth=False, npad=padding
    )
    return np.asarray(smooth, np.float32)


def wiener(counts: Image, strength: float) -> Image:
    """Weigh each frequency by what its power has beyond that of counting noise.

    W = max(0, 1 - N / S), where S is the power spectrum smoothed by a Gaussian of `strength`
    steps of frequency and N the mean count: Bragg spots pass, what is between them does not.
    """
    spectrum = np.fft.rfft2(counts - counts.mean())
    power = np.abs(np.fft.fft2(counts - counts.mean())) ** 2 / counts.size
    smooth = ndimage.gaussian_filter(power, strength, mode="wrap")[:, : spectrum.shape[1]]
    weight = np.clip(1 - counts.mean() / np.maximum(smooth, 1e-12), 0, 1)
    signal = np.fft.irfft2(weight * spectrum, s=counts.shape)
    return (counts.mean() + signal).astype(np.float32)


def local_wiener(counts: Image, strength: float) -> Image:
    """Do so in overlapping windows of 64 pixels, taking `strength` times the noise off."""
    image = torch.from_numpy(np.asarray(counts, np.float32))[None, None]
    filtered: Image = windows.local_wiener(image, 64, threshold=strength)[0, 0].numpy()
    return filtered


class Anscombe:
    """2 sqrt(k + 3/8), in which counts have a variance of about 1, and its exact inverse [1]_.

    Averaging stabilised counts and squaring the mean is biased; the exact inverse is the mean m
    for which E[2 sqrt(k + 3/8) | m] is what the average gave, from the detector's own P(k | m).

    Parameters
    ----------
    detector : CountModel, optional
        Poisson by default. Where its variance is F times the mean, so is that of the
        transformed counts.
    largest : float
        The largest mean of which the inverse is asked [e-/px].

    References
    ----------
    .. [1] M. Makitalo, A. Foi, IEEE Trans. Image Process. 20 (2011) 99.
    """

    def __init__(self, detector: CountModel | None = None, *, largest: float = 50.0) -> None:
        top = int(np.ceil(largest + 10 * np.sqrt(largest) + 10))
        means = np.linspace(0, largest**0.5, 400) ** 2
        table = (detector or Poisson()).table(means, top)
        values = 2 * np.sqrt(np.arange(top + 1) + 3 / 8)
        expected = table @ values
        self.means, self.expected = means, expected
        self.deviation = float(np.sqrt(np.median(table @ values**2 - expected**2)))

    def forward(self, counts: Image) -> Image:
        """From counts to values of even noise."""
        return (2 * np.sqrt(counts + 3 / 8)).astype(np.float32)

    def inverse(self, values: Image) -> Image:
        """From the expectation of those values to that of the counts."""
        return np.interp(values, self.expected, self.means).astype(np.float32)


def behind_anscombe(
    filter_: Callable[[Image, float], Image], detector: CountModel | None = None
) -> Method:
    """Make a method for counts of one for Gaussian noise of standard deviation 1."""

    def method(counts: Image, strength: float) -> Image:
        even = Anscombe(detector, largest=float(counts.max()) + 1)
        return even.inverse(filter_(even.forward(counts), strength))

    return method


def _wavelets(image: Image, strength: float) -> Image:
    smooth = restoration.denoise_wavelet(
        image,
        sigma=strength,
        wavelet="sym4",
        mode="soft",
        method="BayesShrink",
        rescale_sigma=False,
    )
    return np.asarray(smooth, np.float32)


def _means(image: Image, strength: float) -> Image:
    smooth = restoration.denoise_nl_means(
        image, patch_size=9, patch_distance=15, h=strength, sigma=1.0, fast_mode=True
    )
    return np.asarray(smooth, np.float32)


def _variation(image: Image, strength: float) -> Image:
    return np.asarray(restoration.denoise_tv_chambolle(image, strength), np.float32)


def _block_matching(image: Image, strength: float) -> Image:
    try:
        import bm3d
    except ImportError:
        raise InputError(
            "bm3d: not installed; `pip install bm3d` gets it, for non-commercial use alone"
        ) from None
    return np.asarray(bm3d.bm3d(image, strength), np.float32)


wavelets = behind_anscombe(_wavelets)
non_local_means = behind_anscombe(_means)
total_variation = behind_anscombe(_variation)
block_matching = behind_anscombe(_block_matching)

METHODS: Mapping[str, tuple[Method, tuple[float, ...]]] = {
    "constant": (constant, (0,)),
    "Gaussian": (gaussian, (0.7, 1.0, 1.4, 2.0, 2.8)),
    "Butterworth": (butterworth, (1.5, 2.0, 3.0, 4.0, 6.0)),
    "Wiener": (wiener, (0.7, 1.0, 1.4, 2.0, 3.0)),
    "local Wiener": (local_wiener, (2.0, 3.0, 4.0, 6.0)),
    "wavelets": (wavelets, (0.5, 0.7, 1.0)),
    "non-local means": (non_local_means, (0.1, 0.2, 0.3)),
    "total variation": (total_variation, (0.5, 1.0, 1.5, 2.0)),
}


def tune(
    method: Method, strengths: Iterable[float], counts: NDArray[Any], expected: NDArray[Any]
) -> float:
    """Return the strength with the least mean squared error over images (n, y, x)."""
    errors = {
        strength: float(
            np.mean([(method(k, strength) - m) ** 2 for k, m in zip(counts, expected, strict=True)])
        )
        for strength in strengths
    }
    return min(errors, key=lambda strength: errors[strength])
