"""Control charts: when does something happen, told frame by frame, for many series at once.

A series is standardised (`standardised`): mean 0 and standard deviation 1 while nothing happens.
Two charts remember what one frame is too noisy to tell: `ewma` [1]_ weighs the recent past, and
`cusum` [2]_ adds up what exceeds an allowance. Both carry their state, so that a movie that is
still being recorded is charted frame by frame, to the same bits as in one go; a lost frame (NaN)
tells nothing, and the state is carried over it. How long they run until a false alarm, and which
limit to set, is in `insitu.measure.run_lengths`, for frames that are independent. A denoiser's are
not: then the limit comes from a null (`insitu.measure.nulls`).

.. [1] S. W. Roberts, Technometrics 1 (1959) 239; J. M. Lucas, M. S. Saccucci, ibid. 32 (1990) 1.
.. [2] E. S. Page, Biometrika 41 (1954) 100.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu import InputError, checks

Array = NDArray[np.float64]


def series_of(name: str, values: ArrayLike) -> Array:
    """Series as float64 (n, t), if they are two-dimensional and nowhere infinite."""
    array = np.asarray(values, np.float64)
    if array.ndim != 2:
        raise InputError(
            f"{name}: expected series of the shape (series, frames), got {array.shape}"
        )
    bad = int(np.isinf(array).sum())
    if bad:
        raise InputError(f"{name}: {bad} values are infinite; a lost frame is NaN")
    return array


def standardised(
    values: ArrayLike,
    *,
    baseline: slice = slice(None),
    mean: ArrayLike | None = None,
    deviation: ArrayLike | None = None,
) -> Array:
    """Series less their mean, over their standard deviation.

    Parameters
    ----------
    values : (n, t) array
        Such as the electrons of a disc in each frame; NaN where a frame is lost.
    baseline : slice
        Frames in which nothing happens. A mean of b frames errs by deviation / sqrt(b): the
        chart then alarms more often than was asked for, unless b is some hundreds.
    mean, deviation : (n,) array or float, optional
        Where they are known, as the square root of the mean is of Poisson's counts.

    Returns
    -------
    (n, t) array

    Raises
    ------
    InputError
        If a series does not vary, or a deviation is not positive.

    Examples
    --------
    >>> standardised([[9.0, 16.0, 12.0]], mean=9, deviation=3).round(2)
    array([[0.  , 2.33, 1.  ]])
    """
    x = series_of("values", values)
    part, known = x[:, baseline], np.isfinite(x[:, baseline])
    number = known.sum(1)
    if mean is None:
        middle = np.where(known, part, 0).sum(1) / np.where(number, number, np.nan)
    else:
        middle = np.broadcast_to(np.asarray(mean, np.float64), len(x))
    if deviation is None:
        square = np.where(known, part - middle[:, None], 0) ** 2
        spread = np.sqrt(square.sum(1) / np.where(number > 1, number - 1, np.nan))
    else:
        spread = np.broadcast_to(np.asarray(deviation, np.float64), len(x))
    flat = np.flatnonzero(spread <= 0)
    if len(flat):
        raise InputError(
            f"values: series {flat[0]} has the standard deviation 0; give the deviation, or leave "
            "it out"
        )
    return np.asarray((x - middle[:, None]) / spread[:, None])


class Ewma(NamedTuple):
    """An exponentially weighted moving average of each series."""

    level: Array  # (n, t) in its standard deviations while nothing happens
    slope: Array  # (n, t) its change since the frame before, in standard deviations of that
    alarm: NDArray[np.bool_]  # (n, t) whether the level is past the limit
    state: Array  # (1, n) to go on from


def ewma(
    series: ArrayLike,
    *,
    weight: float = 0.2,
    limit: ArrayLike = 2.962,
    state: Array | None = None,
    restart: bool = False,
) -> Ewma:
    """Chart z_t = (1 - lambda) z_{t-1} + lambda x_t, which alarms where |z| > L sigma_z.

    sigma_z^2 = lambda / (2 - lambda). The slope z_t - z_{t-1} = lambda (x_t - z_{t-1}), with the
    variance 2 lambda^2 / (2 - lambda), shows a change while it goes on.

    Parameters
    ----------
    series : (n, t) array
        Standardised; NaN where a frame is lost.
    weight : float
        lambda, of the last frame, above 0 to 1; the memory is 1 / lambda frames.
    limit : float or (n,) array
        L; 2.962 gives a false alarm in 500 frames at the weight 0.2, see `run_lengths.ewma_limit`.
    state : (1, n) array, optional
        Of the frames before.
    restart : bool
        An alarm sets the average back to 0, so that each alarm is a new one.

    Raises
    ------
    InputError
        If a setting or a shape does not fit, or a value is infinite.

    Examples
    --------
    A shift by two standard deviations at frame 3, frame by frame as in one go:

    >>> series = np.array([[0.0, 0, 0, 2, 2, 2, 2]])
    >>> ewma(series).alarm.argmax()
    np.int64(6)
    >>> state = None
    >>> for frame in series.T:
    ...     chart = ewma(frame[:, None], state=state)
    ...     state = chart.state
    >>> bool(chart.alarm[0, 0])
    True
    """
    checks.within("weight", weight, 1e-6, 1)
    x, (z,), (limits,) = _prepared(series, state, 1, limit=limit)
    level, slope, alarm = (np.empty(x.shape, k, order="F") for k in (float, float, bool))
    sigma = np.sqrt(weight / (2 - weight))
    for t, now in enumerate(np.ascontiguousarray(x.T)):
        step = np.where(np.isnan(now), 0.0, weight * (now - z))
        z = z + step
        level[:, t], slope[:, t] = z / sigma, step
        alarm[:, t] = np.abs(level[:, t]) > limits
        if restart:
            z = np.where(alarm[:, t], 0.0, z)
    return Ewma(level, slope / (weight * np.sqrt(2 / (2 - weight))), alarm, z[None])


class Cusum(NamedTuple):
    """Cumulative sums of each series, for shifts up and down."""

    upper: Array  # (n, t) sum of what exceeds the reference
    lower: Array  # (n, t) sum of what falls short of minus the reference
    alarm: NDArray[np.bool_]  # (n, t) whether one of them is past the limit
    age: NDArray[np.intp]  # (n, t) frames since the larger left 0: the change began age - 1 before
    state: Array  # (4, n) to go on from: both sums and both ages

    @property
    def statistic(self) -> Array:
        """The larger of both sums, (n, t)."""
        return np.maximum(self.upper, self.lower)


def cusum(
    series: ArrayLike,
    *,
    reference: ArrayLike = 0.5,
    limit: ArrayLike = 5.0,
    state: Array | None = None,
    restart: bool = False,
) -> Cusum:
    """Chart C_t = max(0, C_{t-1} + x_t - k), and the same of -x; alarms where one is above h.

    It is the fastest of all charts with one rate of false alarms for a shift by 2 k [1]_, and the
    frame in which C left 0 is the likeliest one of the change.

    Parameters
    ----------
    series : (n, t) array
        Standardised; NaN where a frame is lost.
    reference : float or (n,) array
        k, half of the shift to be found, in standard deviations.
    limit : float or (n,) array
        h; see `run_lengths.cusum_limit`.
    state : (4, n) array, optional
        Of the frames before.
    restart : bool
        An alarm sets both sums back to 0, so that each alarm is a new one.

    Raises
    ------
    InputError
        If a setting or a shape does not fit, or a value is infinite.

    Examples
    --------
    A shift by two standard deviations at frame 3, told at frame 6:

    >>> chart = cusum([[0.0, 0, 0, 2, 2, 2, 2]])
    >>> alarm = chart.alarm.argmax()
    >>> alarm, alarm - chart.age[0, alarm] + 1
    (np.int64(6), np.int64(3))

    .. [1] G. V. Moustakides, Ann. Stat. 14 (1986) 1379.
    """
    x, start, (k, h) = _prepared(series, state, 4, reference=reference, limit=limit)
    upper, lower, rising, falling = start
    higher, deeper = (np.empty(x.shape, order="F") for _ in range(2))  # frames are contiguous
    alarm, age = (np.empty(x.shape, kind, order="F") for kind in (bool, np.intp))
    for t, now in enumerate(np.ascontiguousarray(x.T)):
        lost = np.isnan(now)
        upper = np.where(lost, upper, np.maximum(0, upper + now - k))
        lower = np.where(lost, lower, np.maximum(0, lower - now - k))
        rising, falling = (
            np.where(c > 0, a + 1, 0) for c, a in ((upper, rising), (lower, falling))
        )
        higher[:, t], deeper[:, t] = upper, lower
        age[:, t] = np.where(upper >= lower, rising, falling)
        alarm[:, t] = np.maximum(upper, lower) > h
        if restart:
            upper, lower, rising, falling = (
                np.where(alarm[:, t], 0.0, v) for v in (upper, lower, rising, falling)
            )
    return Cusum(higher, deeper, alarm, age, np.stack([upper, lower, rising, falling]))


def _prepared(
    series: ArrayLike, state: Array | None, rows: int, **settings: ArrayLike
) -> tuple[Array, Array, list[Array]]:
    """Series (n, t), the state to go on from, zeros at the beginning, and positive settings."""
    x = series_of("series", series)
    start = np.zeros((rows, len(x))) if state is None else np.asarray(state, np.float64)
    if start.shape != (rows, len(x)):
        raise InputError(f"state: expected the shape {(rows, len(x))}, got {start.shape}")
    values = []
    for name, value in settings.items():
        array = np.asarray(value, np.float64)
        if array.shape not in ((), (len(x),)):
            raise InputError(f"{name}: expected one value, or one of each of {len(x)} series")
        if not (array > 0).all():
            raise InputError(f"{name}: got {array.min():g}, allowed is a positive number")
        values.append(array)
    return x, start, values
