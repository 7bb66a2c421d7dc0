"""The counts regressed on a denoised movie: what it kept, where and when, without a truth.

Each measure is 1 (or 0) for the expected counts themselves, and its error is that of counting
alone: y - f, of the variance v, is the noise if f is right. Movies are given as (t, n): n pixels
of a region in t frames.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]
NEAR, FAR = 3, 40  # frames away, in which the noise is other, and the specimen the same


class Measure(NamedTuple):
    """A number and its standard error by counting."""

    value: float
    error: float


def _ratio(above: float, below: float, variance: float) -> Measure:
    if not below:
        return Measure(float("nan"), float("inf"))
    return Measure(above / below, float(np.sqrt(variance)) / abs(below))


def _centred(values: Array) -> Array:
    return values - values.mean(1, keepdims=True)


def slope(y: Array, f: Array, v: Array) -> Measure:
    """Slope of the counts on the denoised values, sum df y / sum df^2.

    1 for the expected counts. Above it contrast was lost, below it was exaggerated, or is noise.
    """
    df = _centred(f)
    square = df**2
    return _ratio(float((df * y).sum()), float(square.sum()), float((v * square).sum()))


def invented(y: Array, f: Array, v: Array) -> Measure:
    """Amplitude of what f shows and the counts do not, relative to its mean.

    sum df (f - y) / sqrt(n sum df^2), n pixels: 0 for the expected counts, the standard
    deviation of f itself where all of it is invented.
    """
    df = _centred(f)
    square = df**2
    norm = float(np.sqrt(df.size * square.sum())) * max(float(y.mean()), 1e-9)
    flat = np.sqrt(float(v.mean()) / df.size) / max(float(y.mean()), 1e-9)
    if not norm:
        return Measure(0.0, float(flat))
    found = _ratio(float((df * (f - y)).sum()), norm, float((v * square).sum()))
    return found


def others(y: Array, width: float) -> tuple[Array, Array]:
    """For each frame the mean of those 3 to 40 away, smoothed, and the variance of its noise.

    Of a movie (t, y, x); `width` is the standard deviation of the Gaussian [px]. Its noise is not
    that of the frame itself, and smoothed at the scale of a column there is little of it. The
    second answer is the factor (t, 1) by which the variance of a count is to be multiplied.
    """
    total = np.concatenate([np.zeros_like(y[:1]), np.cumsum(y, 0)])
    t = np.arange(len(y))
    before, after = (
        [np.clip(k, 0, len(y)) for k in ends]
        for ends in ((t - FAR, t - NEAR + 1), (t + NEAR, t + FAR + 1))
    )
    number = (before[1] - before[0] + after[1] - after[0])[:, None]
    mean = total[before[1]] - total[before[0]] + total[after[1]] - total[after[0]]
    mean /= np.maximum(number, 1)[..., None]
    smooth = ndimage.gaussian_filter(mean, (0, width, width))
    return smooth, 1 / np.maximum(number, 1) / max(1.0, 4 * np.pi * width**2)


def kept(y: Array, f: Array, v: Array, far: Array, doubt: Array) -> Measure:
    """Contrast that was kept: sum f Y / sum y Y, with Y and its variance from `others`.

    The noise of Y is not that of y, so that the lower sum is that of the squared contrast; and
    f, if it has not seen Y, has its own share of it. What moves lowers both sums alike.
    """
    far = _centred(far)
    variance = float((v * (far**2 + 2 * v * doubt)).sum())
    return _ratio(float((f * far).sum()), float((y * far).sum()), variance)


def changes(y: Array, f: Array, v: Array) -> tuple[Measure, Measure]:
    """What was kept of the changes, and the slope of the raw on the denoised ones.

    Over a quarter of the movie: D f = f_{t+L} - f_t, and as a second, independent witness of the
    counts f_{t+L+1} - f_{t-1}. Both are 1 for the expected counts; a still picture keeps 0, and
    the slope of frames in reverse is negative.
    """
    gap = max(1, len(y) // 4)
    a, b = slice(1, len(y) - gap - 1), slice(1 + gap, len(y) - 1)
    df, dy, dv = f[b] - f[a], y[b] - y[a], v[b] + v[a]
    other = y[gap + 2 :] - y[: len(y) - gap - 2]
    df, other = _centred(df), _centred(other)
    found = _ratio(
        float((df * other).sum()), float((dy * other).sum()), float((dv * (other**2 + dv)).sum())
    )
    return found, _ratio(float((df * dy).sum()), float((df**2).sum()), float((dv * df**2).sum()))


def shift(y: Array, f: Array, v: Array, *slopes: Array) -> list[Measure]:
    """By how much f is moved against the counts along each of its slopes.

    Least squares of y - f on the derivatives of f, of (t, n) each: for rows and columns in
    pixels, for time in frames.
    """
    g = np.stack([s.ravel() for s in slopes])
    matrix = g @ g.T
    if np.linalg.matrix_rank(matrix) < len(slopes):
        return [Measure(float("nan"), float("inf"))] * len(slopes)
    inverse = np.linalg.inv(matrix)
    value = inverse @ (g @ (y - f).ravel())
    variance = inverse @ ((g * v.ravel()) @ g.T) @ inverse
    return [Measure(float(a), float(np.sqrt(b))) for a, b in zip(value, np.diag(variance), strict=True)]


class ByColumn(NamedTuple):
    """Measures of single columns, each (n,)."""

    slope: Array  # of raw on denoised
    slope_error: Array
    kept: Array  # contrast
    kept_error: Array


def by_column(
    y: Array, f: Array, v: Array, positions: Array, radius: float, width: float
) -> ByColumn:
    """Slope and kept contrast in the disc of every column.

    Of movies (t, y, x); positions (n, 2), radius and the width of a column in pixels.
    """
    far, doubt = others(y, width)
    reach = int(np.ceil(radius))
    grid = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    rows = []
    for place in positions:
        at = np.rint(place).astype(int)[:, None] + grid
        near = np.hypot(*(at - place[:, None])) <= radius
        near &= ((at >= 0) & (at < np.array(y.shape[1:])[:, None])).all(0)
        inside = (slice(None), *at[:, near])
        rows.append(
            (
                *slope(y[inside], f[inside], v[inside]),
                *kept(y[inside], f[inside], v[inside], far[inside], doubt),
            )
        )
    return ByColumn(*np.array(rows).reshape(-1, 4).T)
