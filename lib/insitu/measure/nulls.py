"""What a chart does where nothing happens, if frames are not independent, as behind a denoiser.

`gaussian_null` draws noise with the memory that was measured (`autocovariance`); the limit of a
chart (`limit_from_null`) and the probability of a peak (`p_values`) follow from it, or from a
specimen at rest that went through the same denoiser.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu import InputError, checks
from insitu.measure.charts import series_of

Array = NDArray[np.float64]


def autocovariance(series: ArrayLike, lags: int) -> Array:
    """Autocovariance of series of which most show nothing but noise, (lags + 1,).

    At each lag the median over the series, so that the few in which something happens do not
    count. Pairs with a lost frame are left out. Each series is centred by its own mean, which
    lowers all lags by the variance of a mean of t frames, sum_k r_k / t; that is added again.

    Raises
    ------
    InputError
        If fewer than 2 (lags + 1) frames are there, or no series has any.

    Examples
    --------
    >>> noise = np.random.default_rng(0).standard_normal((500, 400))
    >>> autocovariance((noise[:, 1:] + noise[:, :-1]) / 2, 1).round(2)
    array([0.5 , 0.25])
    """
    x = series_of("series", series)
    if x.shape[1] < 2 * (lags + 1):
        raise InputError(
            f"series: {x.shape[1]} frames are too few for {lags} lags; give {2 * (lags + 1)}"
        )
    known = np.isfinite(x)
    x, known = x[known.sum(1) > 1], known[known.sum(1) > 1]
    if not len(x):
        raise InputError("series: all values are NaN; give one that is not empty")
    x = np.where(known, x - np.nanmean(x, 1, keepdims=True), 0)
    rows = []
    for lag in range(lags + 1):
        a, b = slice(None, x.shape[1] - lag), slice(lag, None)
        pairs = (known[:, a] & known[:, b]).sum(1)
        rows.append(np.median((x[:, a] * x[:, b]).sum(1) / np.maximum(pairs, 1)))
    r, frames = np.array(rows), float(np.median(known.sum(1)))
    total = max(0.0, 2 * r.sum() - r[0])  # the sum over all lags, of which each is too low
    return np.asarray(r + total / max(1.0, frames - 2 * lags - 1))


def gaussian_null(
    covariance: ArrayLike, series: int, frames: int, generator: np.random.Generator
) -> Array:
    """Draw Gaussian noise of that autocovariance, (series, frames).

    By the spectrum of the autocovariance [1]_, which is 0 at the lags that are not given; what
    is negative in it, by errors of a measured one, is left out.

    .. [1] C. R. Dietrich, G. N. Newsam, SIAM J. Sci. Comput. 18 (1997) 1088.

    Examples
    --------
    >>> noise = gaussian_null([1.0, 0.5], 400, 500, np.random.default_rng(0))
    >>> float((noise[:, 1:] * noise[:, :-1]).mean().round(2))
    0.5
    """
    r = np.asarray(covariance, np.float64)
    if not (len(r) and r[0] > 0):
        raise InputError("covariance: the variance, its first value, must be positive")
    length = frames + 2 * len(r)
    circle = np.zeros(length)
    circle[: len(r)] = r
    circle[length - len(r) + 1 :] = r[:0:-1]
    power = np.maximum(np.fft.rfft(circle).real, 0)
    gain = np.sqrt(power * r[0] / max(np.fft.irfft(power, length)[0], 1e-300))
    drawn = np.fft.rfft(generator.standard_normal((series, length)), axis=1)
    return np.asarray(np.fft.irfft(drawn * gain, length, axis=1)[:, :frames])


def limit_from_null(statistic: ArrayLike, run_length: float, *, block: int = 250) -> float:
    """Limit from charts in which nothing happens, whatever the law and the memory of the frames.

    The largest value of each block of frames stays below the limit with the probability
    exp(-block / run_length). Where that needs fewer than 20 of the blocks above it, the excess over
    the largest twentieth is taken to be exponential, as a cumulative sum's is; that of an average
    of normal noise falls faster, so that its limit is a little too high.

    Parameters
    ----------
    statistic : (n, t) array
        `Cusum.statistic`, or |level| of `Ewma`, charted without `restart`.
    run_length : float
        Frames until a false alarm of one series, on average.
    block : int
        Frames, many times what the chart remembers.

    Raises
    ------
    InputError
        If there are fewer than 400 blocks.

    Examples
    --------
    >>> from insitu.measure import charts
    >>> noise = np.random.default_rng(0).standard_normal((200, 3000))
    >>> round(limit_from_null(np.abs(charts.ewma(noise).level), 500), 1)
    3.0
    """
    values = series_of("statistic", statistic)
    blocks = values.shape[1] // block
    if len(values) * blocks < 400:
        raise InputError(
            f"statistic: {len(values) * blocks} blocks of {block} frames are too few for a limit; "
            "give 400 or more"
        )
    checks.positive("run_length", run_length, "frames")
    cut = values[:, values.shape[1] - blocks * block :].reshape(-1, block)
    peaks = np.sort(np.nan_to_num(cut).max(1))
    above = -np.expm1(-block / run_length)  # share of the blocks that alarm
    if above * len(peaks) >= 20:
        return float(np.quantile(peaks, 1 - above))
    tail = peaks[-max(20, len(peaks) // 20) :]
    return float(tail[0] + (tail - tail[0]).mean() * np.log(len(tail) / len(peaks) / above))


def p_values(peaks: ArrayLike, null_peaks: ArrayLike) -> Array:
    """Probability of peaks as high or higher if nothing happens, by those of a null.

    (1 + number of null peaks at or above) / (1 + number of null peaks) [1]_: never 0, and never too
    small. For `insitu.trust.likelihood.discoveries` among n series at the rate q the null needs
    several times n / q peaks. A peak that is NaN has the probability 1.

    .. [1] A. C. Davison, D. V. Hinkley, Bootstrap Methods, Cambridge (1997), section 4.2.

    Examples
    --------
    >>> p_values([3.5, 0.0], [1.0, 2.0, 3.0])
    array([0.25, 1.  ])
    """
    null = np.sort(np.asarray(null_peaks, np.float64).ravel())
    checks.finite("null_peaks", null)
    values = np.nan_to_num(np.asarray(peaks, np.float64), nan=-np.inf)
    above = len(null) - np.searchsorted(null, values, side="left")
    return np.asarray((1 + above) / (1 + len(null)))
