"""Denoisers that learn nothing: the floor on which every network has to stand.

Each has one strength and is called as every denoiser: `Gaussian(1.4)(counts, pixel_size)`. They
see what a network sees, pixels of 0.13 to 0.26 A, to which finer ones are binned. `tune` chooses
the strength on images with a truth, as is done for networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage import filters, restoration

from insitu.counting.poisson import Poisson
from insitu.denoise import local_wiener as windows
from insitu.denoise.binning import binned, binning, unbinned

Image = NDArray[np.float32]


@dataclass(frozen=True)
class Filter:
    """A filter of single images with one strength.

    Parameters
    ----------
    strength : float
        Its meaning is told by each filter, lengths in pixels after binning.
    """

    strength: float = 0.0

    def __call__(self, counts: NDArray[Any], pixel_size: float) -> Image:
        """Expected electrons per pixel, of the shape of the counts (y, x) or (t, y, x)."""
        factor = binning(pixel_size)
        stack = counts.reshape(-1, *counts.shape[-2:])
        answers = [
            unbinned(self.filtered(binned(image, factor)), factor, image.shape) for image in stack
        ]
        return np.stack(answers).reshape(counts.shape)

    def filtered(self, image: Image) -> Image:
        """One image of pixels of 0.13 to 0.26 A."""
        raise NotImplementedError


class Constant(Filter):
    """The mean everywhere."""

    def filtered(self, image: Image) -> Image:  # noqa: D102
        return np.full_like(image, image.mean())


class Gaussian(Filter):
    """Gaussian blur with a standard deviation of `strength` pixels.

    >>> counts = np.random.default_rng(0).poisson(0.5, (64, 64))
    >>> smooth = Gaussian(1.4)(counts, pixel_size=0.062)
    >>> smooth.shape, bool(smooth.std() < counts.std() / 5)
    ((64, 64), True)
    """

    def filtered(self, image: Image) -> Image:  # noqa: D102
        return ndimage.gaussian_filter(image, self.strength, mode="mirror")


@dataclass(frozen=True)
class GaussianInTime(Filter):
    """Gaussian blur of a movie (t, y, x), of `strength` pixels as they are and of some frames."""

    frames: float = 0.0

    def __call__(self, counts: NDArray[Any], pixel_size: float) -> Image:  # noqa: ARG002, D102
        width = (self.frames, self.strength, self.strength)
        return ndimage.gaussian_filter(counts.astype(np.float32), width, mode="mirror")


class Butterworth(Filter):
    """Low-pass with half the power at 1 / (2 `strength`) of a cycle per pixel."""

    def filtered(self, image: Image) -> Image:  # noqa: D102
        padding = min(16, min(image.shape) - 1)
        smooth = filters.butterworth(
            image, 0.5 / self.strength, high_pass=False, squared_butterworth=False, npad=padding
        )
        return np.asarray(smooth, np.float32)


class Wiener(Filter):
    """Weigh each frequency by what its power has beyond that of counting noise.

    W = max(0, 1 - N / S), where S is the power spectrum smoothed by a Gaussian of `strength`
    steps of frequency and N the mean count: Bragg spots pass, what is between them does not.
    """

    def filtered(self, image: Image) -> Image:  # noqa: D102
        spectrum = np.fft.rfft2(image - image.mean())
        power = np.abs(np.fft.fft2(image - image.mean())) ** 2 / image.size
        smooth = ndimage.gaussian_filter(power, self.strength, mode="wrap")[:, : spectrum.shape[1]]
        weight = np.clip(1 - image.mean() / np.maximum(smooth, 1e-12), 0, 1)
        signal = np.fft.irfft2(weight * spectrum, s=image.shape)
        return (image.mean() + signal).astype(np.float32)


class LocalWiener(Filter):
    """Do so in overlapping windows of 64 pixels, taking `strength` times the noise off."""

    def filtered(self, image: Image) -> Image:  # noqa: D102
        tensor = torch.from_numpy(image)[None, None]
        return windows.local_wiener(tensor, 64, threshold=self.strength)[0, 0].numpy()


def anscombe(counts: NDArray[Any]) -> NDArray[Any]:
    """2 sqrt(k + 3/8), in which Poisson's counts k have a variance of about 1."""
    return 2 * np.sqrt(counts + 3 / 8)


def anscombe_inverse(values: Image, largest: float) -> Image:
    """From the expectation of such values to that of the counts, `largest` at most, exactly [1]_.

    Averaging stabilised counts and squaring the mean is biased; the exact inverse is the mean m
    for which E[2 sqrt(k + 3/8) | m] is what the average gave.

    References
    ----------
    .. [1] M. Makitalo, A. Foi, IEEE Trans. Image Process. 20 (2011) 99.
    """
    top = int(np.ceil(largest + 10 * np.sqrt(largest) + 10))
    means = np.linspace(0, largest**0.5, 400) ** 2
    expected = Poisson().table(means, top) @ anscombe(np.arange(top + 1))
    return np.interp(values, expected, means).astype(np.float32)


class BehindAnscombe(Filter):
    """A filter for Gaussian noise of standard deviation 1, made one for counts."""

    def filtered(self, image: Image) -> Image:  # noqa: D102
        even = self.filtered_evenly(anscombe(image).astype(np.float32))
        return anscombe_inverse(even, float(image.max()) + 1)

    def filtered_evenly(self, image: Image) -> Image:
        """One image whose noise has a standard deviation of 1 everywhere."""
        raise NotImplementedError


class Wavelets(BehindAnscombe):
    """Soft thresholds for wavelets, chosen for noise of a standard deviation of `strength`."""

    def filtered_evenly(self, image: Image) -> Image:  # noqa: D102
        smooth = restoration.denoise_wavelet(
            image, sigma=self.strength, wavelet="sym4", rescale_sigma=False
        )
        return np.asarray(smooth, np.float32)


class NonLocalMeans(BehindAnscombe):
    """Average pixels by how much the patches around them are alike, within `strength`."""

    def filtered_evenly(self, image: Image) -> Image:  # noqa: D102
        smooth = restoration.denoise_nl_means(
            image, patch_size=9, patch_distance=15, h=self.strength, sigma=1.0
        )
        return np.asarray(smooth, np.float32)


class TotalVariation(BehindAnscombe):
    """Make the sum of the absolute gradients small, as far as `strength` weighs it."""

    def filtered_evenly(self, image: Image) -> Image:  # noqa: D102
        return np.asarray(restoration.denoise_tv_chambolle(image, self.strength), np.float32)


CANDIDATES: Mapping[str, Sequence[Filter]] = {
    "constant": [Constant()],
    "Gaussian": [Gaussian(s) for s in (0.7, 1.0, 1.4, 2.0, 2.8)],
    "Butterworth": [Butterworth(s) for s in (1.5, 2.0, 3.0, 4.0, 6.0)],
    "Wiener": [Wiener(s) for s in (0.7, 1.0, 1.4, 2.0, 3.0)],
    "local Wiener": [LocalWiener(s) for s in (2.0, 3.0, 4.0, 6.0)],
    "wavelets": [Wavelets(s) for s in (0.5, 0.7, 1.0)],
    "non-local means": [NonLocalMeans(s) for s in (0.1, 0.2, 0.3)],
    "total variation": [TotalVariation(s) for s in (0.5, 1.0, 1.5, 2.0)],
}


def tune(
    candidates: Iterable[Filter], counts: NDArray[Any], expected: NDArray[Any], pixel_size: float
) -> Filter:
    """Return the candidate with the least mean squared error over images (n, y, x).

    >>> expected = np.full((2, 48, 48), 0.5)
    >>> counts = np.random.default_rng(0).poisson(expected)
    >>> tune([Gaussian(1.0), Gaussian(3.0)], counts, expected, pixel_size=0.2)
    Gaussian(strength=3.0)
    """

    def error(denoiser: Filter) -> float:
        pairs = zip(counts, expected, strict=True)
        return float(np.mean([(denoiser(k, pixel_size) - m) ** 2 for k, m in pairs]))

    return min(candidates, key=error)
