"""What an image is worth when the truth is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from insitu import InputError

Image = NDArray[Any]


def psnr(image: Image, truth: Image, *, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio, 10 log10(peak^2 / mean squared error) [dB].

    Parameters
    ----------
    image, truth : arrays of one shape
        In the same unit.
    peak : float
        By convention; it has to be told with the number.

    Examples
    --------
    >>> truth = np.zeros((4, 4))
    >>> round(psnr(truth + 0.1, truth), 6)
    20.0
    """
    _alike(image, truth)
    error = float(np.mean((np.asarray(image, np.float64) - truth) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(peak**2 / error))


def ssim(image: Image, truth: Image, *, peak: float = 1.0) -> float:
    """Structural similarity [1]_ in Gaussian windows of 1.5 px, 1 for equal images.

    .. [1] Z. Wang et al., IEEE Trans. Image Process. 13 (2004) 600.
    """
    _alike(image, truth)
    value: Any = structural_similarity(
        np.asarray(image, np.float64),
        np.asarray(truth, np.float64),
        data_range=peak,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(value)


def profile(
    image: Image, start: tuple[float, float], end: tuple[float, float]
) -> NDArray[np.float64]:
    """Mean across 10 pixels, along a line from start to end, both (y, x) in pixels."""
    from skimage.measure import profile_line

    values: NDArray[np.float64] = profile_line(
        np.asarray(image, np.float64), start, end, linewidth=10, mode="reflect", order=1
    )
    return values


def _alike(image: Image, truth: Image) -> None:
    if np.shape(image) != np.shape(truth):
        raise InputError(
            f"image: its shape is {np.shape(image)}, not {np.shape(truth)}, the truth's"
        )
