"""What a frame's own counts say beyond their prediction, shown again at a price.

A prediction gives a rare and brief change next to no weight, and on average it is right. Who looks
for such changes may want them shown all the same, with all the chance that looks like them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from insitu import InputError

NARROW = 0.3  # standard deviation of a Gaussian as wide as a column [A]
PEAK = 0.75 / 4 ** (1 / 3)  # of exp(-a f^2) - exp(-4 a f^2) over all f


def added(
    counts: NDArray[Any], denoised: NDArray[np.float32], *, pixel_size: float, gain: float
) -> NDArray[np.float32]:
    """Add a part of the innovation, counts minus prediction, in details as wide as a column.

        x = f + gain / PEAK (G_1 - G_2) * (y - f),

    * being a convolution with the difference of two Gaussians of 0.3 and 0.6 A. Of a detail of
    0.5 1/A this adds `gain` of the innovation, at 0.24 and 0.9 1/A half as much, of the mean
    nothing. For Poisson's noise, and a prediction that rests on other frames, the variance rises
    by 0.10 gain^2 times the expected count in pixels of 0.24 A, and as the area of the pixels
    elsewhere. The result is no longer blind to the counts: what is left of them is no test of it.

    Parameters
    ----------
    counts, denoised : (t, y, x) arrays
        y, and its prediction f by a network that is blind to it.
    pixel_size : float
        At most 0.3 A.
    gain : float
        0 leaves the prediction as it is.

    Returns
    -------
    (t, y, x) array of float32
        Also below 0 where there is little signal: what is cut off there would make vacuum brighter.

    Raises
    ------
    InputError
        If the shapes differ, or gain or pixel size are out of range.
    """
    if counts.shape != denoised.shape:
        raise InputError(f"innovation: counts are {counts.shape}, prediction {denoised.shape}")
    if not 0 <= gain <= 1:
        raise InputError(f"innovation: got {gain:g}, allowed is 0 to 1")
    if not 0 < pixel_size <= NARROW:
        raise InputError(f"innovation: got pixels of {pixel_size:g} A, allowed is up to {NARROW} A")
    result = np.empty(denoised.shape, np.float32)
    for number, (y, f) in enumerate(zip(counts, denoised, strict=True)):
        news = y.astype(np.float32) - f
        fine, coarse = (ndimage.gaussian_filter(news, k * NARROW / pixel_size) for k in (1, 2))
        result[number] = f + np.float32(gain / PEAK) * (fine - coarse)
    return result
