"""What a movie says of the detector that recorded it.

Everything here works on counts alone, shape (t, y, x), without a clean image: the expected
count of a pixel is estimated from its neighbours in space and time, never from itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, special, stats

from insitu import InputError
from insitu.checks import finite, whole_numbers
from insitu.counting.detector import Detector

Counts = NDArray[np.int32]
Histogram = NDArray[np.int64]

_SIGMAS_T = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0)  # frames
_SIGMAS_XY = (0.0, 0.7, 1.0, 1.4, 2.0, 2.8)  # pixels


def refuse_hot_pixels(movie: NDArray[Any], mean: float, first: int = 0) -> None:
    """Raise InputError if a count is far beyond what this mean gives; frames count from `first`."""
    if movie.max() > 20 * (mean + 5 * np.sqrt(mean) + 5):
        t, y, x = np.unravel_index(int(movie.argmax()), movie.shape)
        raise InputError(
            f"movie: frame {first + int(t)} has {movie.max():g} electrons in pixel ({y}, {x}) "
            f"while the mean is {mean:.3g}; that is a hot pixel or a cosmic ray: replace it, or "
            "crop it away"
        )


def as_counts(frames: ArrayLike) -> Counts:
    """Check that a movie holds electron counts, and return it as int32.

    Raises
    ------
    InputError
        In one sentence: not three axes, fewer than two frames, NaN, negative or fractional
        values, or nothing but zeros.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> as_counts(rng.poisson(0.8, (5, 16, 16)).astype(float)).dtype
    dtype('int32')
    >>> as_counts(rng.normal(0.8, 0.1, (5, 16, 16)))
    Traceback (most recent call last):
    insitu.InputError: movie: values are not whole numbers, so they are not electron counts; \
give the counted frames, or divide by the gain and round where that is exact
    """
    movie = np.asarray(frames)
    if movie.ndim != 3:
        raise InputError(
            f"movie: expected three axes (frames, y, x), got an array of shape {movie.shape}"
        )
    if len(movie) < 2:
        raise InputError(
            "movie: a single frame cannot tell its noise from its specimen; "
            "give at least 2 frames of the same area"
        )
    if min(movie.shape[1:]) < 16:
        raise InputError(f"movie: frames of {movie.shape[1:]} are too small, 16 x 16 is the least")
    if movie.dtype.kind not in "uifb":
        raise InputError(f"movie: expected numbers, got values of type {movie.dtype}")
    finite("movie", movie)
    whole_numbers("movie", movie)
    if movie.min() == movie.max():
        raise InputError(f"movie: every value is {movie.min():g}; counted electrons vary")
    mean = float(movie.mean(dtype=np.float64))
    refuse_hot_pixels(movie, mean)
    if mean > 10_000:
        raise InputError(
            f"movie: a mean of {mean:.3g} per pixel and frame is that of grey levels, not of "
            f"counted electrons"
        )
    return movie.astype(np.int32)


def blank_frames(frames: ArrayLike) -> NDArray[np.intp]:
    """Find frames that the beam did not reach: a closed shutter, a lost frame.

    A frame is blank if its total is less than a tenth of the median's, over frames in which
    anything was counted, and if chance does not do that to so few electrons (5 standard
    deviations).

    Returns
    -------
    (n,) array of int
        Their numbers.

    Examples
    --------
    >>> movie = np.random.default_rng(0).poisson(0.8, (6, 16, 16))
    >>> movie[2] = 0
    >>> blank_frames(movie).tolist()
    [2]
    """
    movie = np.asarray(frames)
    total = movie.reshape(len(movie), -1).sum(1, dtype=np.float64)
    if not total.any():
        return np.zeros(0, np.intp)
    usual = float(np.median(total[total > 0]))
    return np.flatnonzero((total < 0.1 * usual) & (usual - total > 5 * np.sqrt(usual)))


def leave_one_out_mean(
    frames: ArrayLike, *, sigma: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    """Expected count of every pixel, from its neighbours in space and time without itself.

    A Gaussian average whose centre weight g_0 is taken out:
    m_i = (sum_j g_ij y_j - g_0 y_i) / (1 - g_0), normalised at the borders.

    Parameters
    ----------
    frames : (t, y, x) array
        Counts.
    sigma : (float, float), optional
        Width in time [frames] and in space [px]. By default the pair that predicts the left-out
        pixels best, by their Poisson likelihood.

    Returns
    -------
    (t, y, x) array of float32
        Expected counts [e-/px], above 0.
    """
    movie = np.asarray(frames, dtype=np.float32)
    if sigma is None:
        sigma = best_smoothing(movie)
    width = (sigma[0], sigma[1], sigma[1])

    def smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return ndimage.gaussian_filter(values, width, mode="constant", truncate=3.0)

    impulse = np.zeros([2 * int(3 * s + 0.5) + 1 for s in width], dtype=np.float32)
    impulse[tuple(n // 2 for n in impulse.shape)] = 1
    centre = float(smooth(impulse).max())
    if centre > 0.999:
        raise ValueError(f"sigma: a smoothing of {sigma} leaves no neighbours to average")
    weight = smooth(np.ones_like(movie)) - centre
    mean = (smooth(movie) - centre * movie) / weight
    floor = 0.1 * float(movie.mean())
    return np.maximum(mean, floor).astype(np.float32)


def best_smoothing(frames: ArrayLike) -> tuple[float, float]:
    """Return the widths (frames, pixels) that predict left-out pixels best.

    Judged on the central 96 x 96 pixels of at most 64 frames.
    """
    movie = np.asarray(frames, dtype=np.float32)[:64]
    top, left = (max(0, (n - 96) // 2) for n in movie.shape[1:])
    movie = movie[:, top : top + 96, left : left + 96]

    def score(sigma: tuple[float, float]) -> float:
        mean = leave_one_out_mean(movie, sigma=sigma)
        return float((movie * np.log(mean) - mean).mean())

    return max(((t, s) for t in _SIGMAS_T for s in _SIGMAS_XY if t or s), key=score)


def histogram_by_mean(counts: ArrayLike, mean: ArrayLike) -> Histogram:
    """How often each count occurs, in bins of equal size by the expected count.

    There are 10 bins, or as many more, up to 80, as it takes for the mean to vary little within
    a bin: its variance adds to that of the counts, and is kept below 0.2 % of it.

    Parameters
    ----------
    counts, mean : arrays of one shape
        Counts and expected counts.

    Returns
    -------
    (bins, largest count + 1) array of int
        Rows in the order of the mean.
    """
    k = np.asarray(counts).astype(np.int64, copy=False).reshape(-1)
    m = np.asarray(mean).reshape(-1)
    levels = np.quantile(m, np.linspace(0, 1, 801))
    bins = 10
    while bins < 80 and _spread_within(levels, bins) > 0.002:
        bins *= 2
    edges = np.quantile(m, np.linspace(0, 1, bins + 1)[1:-1])
    width = int(k.max()) + 1
    joint = np.digitize(m, edges) * width + k
    table = np.bincount(joint, minlength=bins * width).reshape(bins, width)
    return table[table.sum(1) > 0]


def _spread_within(levels: NDArray[np.float64], bins: int) -> float:
    """Median over bins of the variance of the mean within a bin, over the mean."""
    parts = levels[:-1].reshape(bins, -1)
    return float(np.median(parts.var(1) / parts.mean(1)))


def histogram_moments(histogram: Histogram) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of the counts of each row."""
    k = np.arange(histogram.shape[1])
    n = histogram.sum(1)
    mean = histogram @ k / n
    return mean, (histogram @ k**2 / n - mean**2) * n / np.maximum(n - 1, 1)


def autocorrelation(frames: ArrayLike, *, reach: int = 3) -> NDArray[np.float64]:
    """Spatial autocorrelation of the noise, from differences of consecutive frames.

    What stays still cancels in the difference, the noise does not.

    Returns
    -------
    (2 reach + 1, 2 reach + 1) array
        Correlation at shifts -reach ... reach in y and x; 1 in the middle. Its standard error
        where the noise is white is sqrt(1.5 / number of differences), consecutive differences
        having a frame in common.
    """
    d = np.diff(np.asarray(frames, dtype=np.float32), axis=0)
    d -= d.mean()
    height, width = d.shape[1:]
    result = np.zeros((2 * reach + 1, 2 * reach + 1))
    variance = float((d * d).mean())
    for dy in range(reach + 1):
        for dx in range(-reach, reach + 1):
            a = d[:, dy:, max(0, dx) : width + min(0, dx)]
            b = d[:, : height - dy, max(0, -dx) : width - max(0, dx)]
            value = float((a * b).mean()) / variance
            result[reach + dy, reach + dx] = result[reach - dy, reach - dx] = value
    return result


def temporal_correlation(frames: ArrayLike) -> float:
    """Correlation of a pixel's noise with its noise one frame later.

    From products of consecutive differences: r = <d_t d_{t+1}> / <d_t^2> is -1/2 where frames
    are independent, and rho = (1 + 2 r) / (2 + 2 r) where only neighbours are correlated. Needs
    three frames; nan for fewer.
    """
    d = np.diff(np.asarray(frames, dtype=np.float32), axis=0)
    if len(d) < 2:
        return float("nan")
    r = float((d[1:] * d[:-1]).mean() / (d * d).mean())
    return (1 + 2 * r) / (2 + 2 * r)


def flattest_box(frames: ArrayLike) -> tuple[slice, slice]:
    """Find the square of 16 x 16 pixels whose time average varies least: the best guess of vacuum.

    Returns
    -------
    (slice, slice)
        Rows and columns.
    """
    average = ndimage.gaussian_filter(np.asarray(frames).mean(0, dtype=np.float64), 2.0)
    size = min(16, *average.shape)
    local = ndimage.uniform_filter(average, size)
    spread = ndimage.uniform_filter(average**2, size) - local**2
    half = size // 2
    inner = spread[half : spread.shape[0] - half + 1, half : spread.shape[1] - half + 1]
    y, x = np.unravel_index(int(inner.argmin()), inner.shape)
    return slice(int(y), int(y) + size), slice(int(x), int(x) + size)


class GTest(NamedTuple):
    """A likelihood-ratio test of goodness of fit: G = 2 sum O log(O / E)."""

    statistic: float
    degrees_of_freedom: int
    p_value: float


def g_test(histogram: Histogram, detector: Detector) -> GTest:
    """Test whether counts sorted by their mean follow a detector.

    The mean of every row is taken from the row itself, so that only the *shape* of P(k | mean)
    is tested. Counts so rare that fewer than 5 are expected in a row are pooled with their
    neighbour, in all rows.

    Parameters
    ----------
    histogram : (bins, counts) array
        As `histogram_by_mean` makes it, of frames to which the detector was *not* fitted.
    detector : Detector
        Whose P(k | mean) is tested.
    """
    mean, _ = histogram_moments(histogram)
    pixels = histogram.sum(1, keepdims=True)
    largest = max(histogram.shape[1] - 1, 4)
    observed = np.pad(histogram, ((0, 0), (0, largest + 1 - histogram.shape[1])))
    expected = pixels * detector.table(mean, largest)
    expected[:, -1] += np.maximum(pixels[:, 0] - expected.sum(1), 0)
    last = _enough(expected[:, ::-1])
    observed, expected = (_pool(t[:, ::-1], last)[:, ::-1] for t in (observed, expected))
    first = _enough(expected)
    observed, expected = _pool(observed, first), _pool(expected, first)
    statistic = 2 * float(special.rel_entr(observed, expected).sum())
    degrees = len(observed) * (observed.shape[1] - 2)
    p_value = float(stats.chi2.sf(statistic, degrees)) if degrees else float("nan")
    return GTest(statistic, degrees, p_value)


def _enough(expected: NDArray[np.float64]) -> int:
    """How many of the first columns together hold 5 in every row, leaving at least one."""
    sums = expected.cumsum(1).min(0)
    return min(int(np.searchsorted(sums, 5.0)) + 1, expected.shape[1] - 1)


def _pool(table: NDArray[Any], first: int) -> NDArray[Any]:
    """Add up the first columns."""
    return np.concatenate([table[:, :first].sum(1, keepdims=True), table[:, first:]], axis=1)
