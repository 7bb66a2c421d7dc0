"""Noise that is not independent from frame to frame, as behind a denoiser.

Three ways to go on with it. `whitened` makes it independent, if it is an autoregression, and the
limits of `insitu.measure.run_lengths` hold again; behind a Gaussian in time they do not, since what
such a filter takes out cannot be had back. `gaussian_null` draws noise like it, for
`run_lengths.limit_from_null` and `run_lengths.p_values`; that holds for any memory, and is the
choice behind smoothing in time. `correlation_time` tells by how much to divide the evidence.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu import InputError, checks
from insitu.measure.charts import series_of, state_of

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


def correlation_time(covariance: ArrayLike) -> float:
    """Frames that tell as much as one independent frame, 1 + 2 sum_k rho_k, at least 1.

    The sum ends where two neighbouring rho together are not positive [1]_.

    .. [1] C. J. Geyer, Stat. Sci. 7 (1992) 473.

    Examples
    --------
    >>> correlation_time([2.0, 1.0, 0.0])
    2.0
    """
    r = np.asarray(covariance, np.float64)
    if not (len(r) and r[0] > 0):
        raise InputError("covariance: the variance, its first value, must be positive")
    rho = r[1:] / r[0]
    pairs = rho[:-1] + rho[1:] if len(rho) > 1 else rho
    end = int(np.argmax(pairs <= 0)) if (pairs <= 0).any() else len(rho)
    return float(max(1.0, 1 + 2 * rho[: end + 1].sum()))


class Whitened(NamedTuple):
    """What the past does not foretell."""

    residual: Array  # (n, t) standardised; NaN where the frame is lost
    state: Array  # (order, n) the last values, the newest first


def whitened(
    series: ArrayLike, covariance: ArrayLike, *, order: int = 1, state: Array | None = None
) -> Whitened:
    """Series less their best linear prediction from the `order` values before, standardised.

    e_t = (x_t - sum_i phi_i x_{t-i}) / s, with phi and s from the autocovariance by the equations
    of Yule and Walker. If the noise is an autoregression of that order, e is independent from
    frame to frame, and the limits of `run_lengths` hold. A lasting shift by d stays as one by
    d (1 - sum_i phi_i) / s. A lost frame is filled with its prediction. Before a recording x was 0.

    Parameters
    ----------
    series : (n, t) array
        Less its mean.
    covariance : (m,) array
        Of the noise at the lags 0 ... m - 1, m above `order`; see `autocovariance`.
    order : int
        Values before that are looked at.
    state : (order, n) array, optional
        Of the frames before.

    Raises
    ------
    InputError
        If a setting or a shape does not fit, or there are too few lags.

    Examples
    --------
    >>> x = np.array([[1.0, 0.5, 0.25, np.nan, 0.0625]])
    >>> whitened(x, [1.0, 0.5]).residual.round(2)
    array([[1.15, 0.  , 0.  ,  nan, 0.  ]])
    """
    x = series_of("series", series)
    r = np.asarray(covariance, np.float64)
    checks.within("order", order, 1, max(1, len(r) - 1))
    if not (len(r) > 1 and r[0] > 0):
        raise InputError("covariance: two lags or more are needed, and a positive variance")
    lags = np.abs(np.subtract.outer(np.arange(order), np.arange(order)))
    phi = np.linalg.lstsq(r[lags], r[1 : order + 1], rcond=1e-10)[0]
    deviation = np.sqrt(max(r[0] - phi @ r[1 : order + 1], 1e-12 * r[0]))
    past = state_of(state, (order, len(x)))
    residual = np.empty_like(x)
    for t, now in enumerate(x.T):
        foretold = phi @ past
        residual[:, t] = (now - foretold) / deviation
        past = np.vstack([np.where(np.isnan(now), foretold, now)[None], past[:-1]])
    return Whitened(residual, past)


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
