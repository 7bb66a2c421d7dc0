"""The counts regressed on a denoised movie: what it kept, where and when, without a truth.

Each measure is 1 (or 0) for the expected counts themselves, and its error is that of counting
alone: y - f, of the variance v, is the noise if f is right. Movies are given as (t, n): n pixels
of a region in t frames.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from insitu.trust.columns import discs

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
FIRST, NEAR, AWAY, FAR = 3, 5, 13, 16  # frames away: other noise, and the same specimen


class Measure(NamedTuple):
    """A number and its standard error by counting."""

    value: float
    error: float


def _ratio(above: float, below: float, variance: float) -> Measure:
    """A ratio and its error; unknown where the lower sum is nothing but rounding."""
    if not abs(below) > 1e-12:
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
    found = _ratio(float((df * y).sum()), float(square.sum()), float((v * square).sum()))
    return found if found.error < 10 else Measure(float("nan"), float("inf"))


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
    return _ratio(float((df * (f - y)).sum()), norm, float((v * square).sum()))


class Others(NamedTuple):
    """Other frames of the same place, for each frame."""

    near: NDArray[np.float32]  # mean of those 3 to 5 away
    far: NDArray[np.float32]  # mean of those 3 to 16 away
    away: NDArray[np.float32]  # mean of those 13 and more away; of frames that have none, as far
    doubt: Array  # (t, 1) variance of the noise of `far`, over that of a count

    def within(self, mask: Mask) -> Others:
        """Those of the pixels of a region, of movies (t, n)."""
        near, far, away = (within(a, mask) for a in (self.near, self.far, self.away))
        return Others(near, far, away, self.doubt)


def others(y: Array, width: float) -> Others:
    """For each frame of a movie (t, y, x) means of other ones, smoothed.

    `width` is the standard deviation of the Gaussian G [px]; the filter is 2 G - G^2, which is
    flat where columns have their contrast, and still leaves little of the noise.
    """
    total = np.concatenate([np.zeros_like(y[:1]), np.cumsum(y, 0)])
    t = np.arange(len(y))
    means = []
    for first, last in ((AWAY, len(y)), (FIRST, NEAR), (FIRST, FAR)):
        before, after = (
            [np.clip(k, 0, len(y)) for k in ends]
            for ends in ((t - last, t - first + 1), (t + first, t + last + 1))
        )
        found = before[1] - before[0] + after[1] - after[0]
        number = np.maximum(found, 1)[:, None]
        if first == AWAY:
            none = found == 0
        mean = total[before[1]] - total[before[0]] + total[after[1]] - total[after[0]]
        mean /= number[..., None]
        once = ndimage.gaussian_filter(mean, (0, width, width))
        flat = 2 * once - ndimage.gaussian_filter(once, (0, width, width))
        means.append(flat.astype(np.float32))
    away, near, far = means
    away[none] = far[none]
    # a Gaussian leaves 1 / (4 pi width^2) of the variance, this filter 11/6 as much
    return Others(near, far, away, 1 / number / max(1.0, 24 / 11 * np.pi * width**2))


def within(movie: NDArray[Any], mask: Mask) -> NDArray[Any]:
    """Pixels of a movie (t, n); a view, where they are all."""
    return movie.reshape(len(movie), -1) if mask.all() else movie[:, mask]


def kept(y: Array, f: Array, v: Array, others: Others) -> Measure:
    """Contrast that was kept: the least of sum f y, sum f Y' and sum f Y, over sum y Y.

    Y' and Y are the means `near` and `far`; their noise is not that of y, so that the lower sum
    is that of the squared contrast. With the mean `away` the same is asked, sum f Y'' over
    sum y Y'', and the least of all is taken: what f has seen, its own counts or others, makes the
    sum with these too large, never too small. (A network that sums all frames has seen all.) What
    moves lowers the sums with frames far away, the lower and the upper one.
    """
    near, far, away, shown = (
        _centred(a.astype(np.float64)) for a in (others.near, others.far, others.away, f)
    )
    variance = float((v * (far**2 + 2 * v * others.doubt)).sum())
    below = float(np.vdot(y, far))
    seen = min(float(np.vdot(shown, a)) for a in (y, near, far))
    if (still := float(np.vdot(y, away))) > 0.5 * below:  # else it has moved, or is noise
        seen = min(seen, float(np.vdot(shown, away)) * below / still)
    return _ratio(seen, below, variance)


class Changes(NamedTuple):
    """Changes over a quarter of the movie, of a denoised one against its counts."""

    slope: Measure  # of the raw on the denoised changes
    invented: Measure  # amplitude of changes that the counts do not have, relative to the mean
    kept: Measure  # of the changes of the counts


def changes(y: Array, f: Array, v: Array) -> Changes:
    """Hold the changes of a denoised movie against those of the counts.

    D f = f_{t+L} - f_t with L a quarter of the movie; the second, independent witness of what
    the counts do is y_{t+L+1} - y_{t-1}. A still picture keeps 0; the slope of frames in reverse
    is negative, and that of changes that are noise near to 0.
    """
    gap = max(1, len(y) // 4)
    a, b = slice(1, len(y) - gap - 1), slice(1 + gap, len(y) - 1)
    df, dy, dv = _centred(f[b] - f[a]), y[b] - y[a], v[b] + v[a]
    other = _centred(y[gap + 2 :] - y[: len(y) - gap - 2])
    square, together = df**2, float((df * dy).sum())
    power, noise = float(square.sum()), float((dv * square).sum())
    level = float(np.sqrt(df.size * power)) * float(y.mean())
    seen = min(together, float((df * other).sum()))
    return Changes(
        _ratio(together, power, noise),
        _ratio(power - together, level, noise),
        _ratio(seen, float((dy * other).sum()), float((dv * (other**2 + dv)).sum())),
    )


def lag(y: Array, f: Array, v: Array) -> Measure:
    """By how many frames a denoised movie is late, negative where it is early.

    Least squares of y - f on the rate at which f changes. Where nothing happens that rate is
    noise, or a drift, and may be correlated with y in any way: what the median frame has of it is
    taken for such, and its share of the value, or of one frame, is added to the error.
    """
    nothing = Measure(float("nan"), float("inf"))
    if len(y) < 8:
        return nothing
    rate, t = (f[2:] - f[:-2]) / 2, slice(1, -1)
    square = rate**2
    power = square.sum(1)
    if not power.sum() > 1e-12:
        return nothing
    value, error = _ratio(
        float((rate * (y - f)[t]).sum()), float(power.sum()), float((square * v[t]).sum())
    )
    share = np.median(power) / power.mean()
    return Measure(value, float(np.hypot(error, share * max(1.0, abs(value)))))


def wander(y: Array, f: Array, v: Array, *steps: Array, parts: int = 8) -> tuple[Array, Array]:
    """Shift of a denoised movie against its counts in each of some parts, less its mean.

    Rows and columns [px] (parts, 2), and their errors; `steps` are the slopes of f along both.
    """
    edges = np.linspace(0, len(y), parts + 1).astype(int)
    rows = []
    for first, last in pairwise(edges):
        part = slice(first, last)
        rows.append(shift(y[part], f[part], v[part], *(s[part] for s in steps)))
    found = np.array(rows)
    values, errors = found[..., 0], found[..., 1]
    return values - values.mean(0), errors


def shift(y: Array, f: Array, v: Array, *slopes: Array) -> list[Measure]:
    """By how much f is moved against the counts along each of its slopes.

    Least squares of y - f on the derivatives of f, of (t, n) each: for rows and columns in
    pixels, for time in frames.
    """
    matrix = np.array([[np.vdot(a, b) for b in slopes] for a in slopes])
    if np.linalg.matrix_rank(matrix) < len(slopes):
        return [Measure(float("nan"), float("inf"))] * len(slopes)
    inverse = np.linalg.inv(matrix)
    value = inverse @ [np.vdot(a, y - f) for a in slopes]
    variance = inverse @ [[np.vdot(a * v, b) for b in slopes] for a in slopes] @ inverse
    return [
        Measure(float(a), float(np.sqrt(b))) for a, b in zip(value, np.diag(variance), strict=True)
    ]


class ByColumn(NamedTuple):
    """Measures of single columns, each (n,)."""

    slope: Array  # of raw on denoised
    slope_error: Array
    kept: Array  # contrast
    kept_error: Array


def by_column(
    y: Array, f: Array, v: Array, positions: Array, radius: float, fine: float
) -> ByColumn:
    """Slope and kept contrast in the disc of every column.

    Of movies (t, y, x); positions (n, 2), radius and the smoothing of `others` in pixels.
    """
    beside = others(y, fine)
    rows, across, inside = discs(positions, np.full(len(positions), radius), y.shape[1:])
    found = []
    for disc in zip(rows, across, inside, strict=True):
        at = (slice(None), disc[0][disc[2]], disc[1][disc[2]])
        around = Others(beside.near[at], beside.far[at], beside.away[at], beside.doubt)
        found.append((*slope(y[at], f[at], v[at]), *kept(y[at], f[at], v[at], around)))
    return ByColumn(*np.array(found).reshape(-1, 4).T)
