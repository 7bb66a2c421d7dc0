"""How long a control chart runs until it alarms, and the limit for a stated rate of false alarms.

If frames are independent, the chart is a Markov chain: its range is cut into cells, and with Q the
probabilities of going from cell to cell without an alarm the mean number of frames until the first
is (I - Q)^-1 1; Brook and Evans [1]_ for `cusum`, Lucas and Saccucci [2]_ for `ewma`. If they are
not, as behind a denoiser, the limit comes from a null (`insitu.measure.nulls`).

.. [1] D. Brook, D. A. Evans, Biometrika 59 (1972) 539.
.. [2] J. M. Lucas, M. S. Saccucci, Technometrics 32 (1990) 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from insitu import InputError, checks

Array = NDArray[np.float64]
Law = Callable[[Array], Array]  # P(x <= value) of the standardised value of a frame
CELLS = 201  # of the Markov chain; twice as many change the run lengths below by less than 0.3 %


def normal(values: Array) -> Array:
    """The normal law."""
    return np.asarray(special.ndtr(values))


def skewed(skewness: float) -> Law:
    """The law of a count of few electrons: gamma's, with the third moment of the count.

    Of the standardised count, m^-1/2 for Poisson's of mean m. The limit for the normal law is too
    low for counts that rise and too high for those that fall. Counts are whole numbers, so that
    the run length that was asked for is kept within what an electron more or less makes of it.

    >>> float(skewed(1 / 3)(np.array(0.0)).round(3))
    0.522
    """
    checks.within("skewness", skewness, 1e-6, 10)

    def law(values: Array) -> Array:
        return np.asarray(stats.pearson3.cdf(values, skewness))

    return law


def ewma_run_length(shift: float, *, weight: float = 0.2, limit: float = 2.962) -> float:
    """Mean number of frames until `charts.ewma` alarms, from z = 0.

    Parameters
    ----------
    shift : float
        Of the series, in standard deviations; 0 while nothing happens.
    weight, limit : float
        Of the chart.

    Examples
    --------
    >>> round(ewma_run_length(0)), round(ewma_run_length(1), 1)
    (500, 10.5)
    """
    return float(_mean_length(_ewma_chain(shift, weight, limit))[CELLS // 2])


def cusum_run_length(
    shift: float,
    *,
    reference: float = 0.5,
    limit: float = 5.0,
    law: Law = normal,
    sides: str = "both",
) -> float:
    """Mean number of frames until `charts.cusum` alarms, from 0.

    1 / ARL = 1 / ARL_upper + 1 / ARL_lower [1]_. `sides` other than 'both' asks for the 'upper' or
    the 'lower' sum alone.

    .. [1] C. S. van Dobben de Bruyn, Cumulative Sum Tests, Griffin (1968).

    Examples
    --------
    >>> round(cusum_run_length(0)), round(cusum_run_length(1), 1)
    (465, 10.4)
    """
    checks.one_of("sides", sides, ("both", "upper", "lower"))
    rates = [
        1 / _mean_length(_cusum_chain(shift, reference, limit, side, law))[0]
        for side in ("upper", "lower")
        if sides in ("both", side)
    ]
    return float(1 / max(sum(rates), 1e-300))


def cusum_power(
    shift: float,
    frames: int,
    *,
    reference: float = 0.5,
    limit: float = 5.0,
) -> float:
    """Probability that `charts.cusum` alarms within so many frames of a shift upwards.

    From 0: the sum before a shift is seldom far from it, and only helps.

    Examples
    --------
    >>> round(cusum_power(1.0, 10), 2), round(cusum_power(1.0, 30), 2)
    (0.61, 0.99)
    """
    chain = _cusum_chain(shift, reference, limit, "upper")
    return float(1 - np.linalg.matrix_power(chain, int(frames)).sum(1)[0])


def detectable_shift(frames: int, run_length: float, *, power: float = 0.95) -> float:
    """Smallest shift of so many frames that a cumulative sum made for it finds that often.

    In standard deviations of a frame; a disc of N pixels of m_0 electrons each shows a relative
    contrast c as c sqrt(N m_0). The sum has half of the shift as k, and the run length sets h.

    Parameters
    ----------
    frames : int
        How long it lasts.
    run_length : float
        Frames until a false alarm of one series, on average.
    power : float
        Probability that it is found while it lasts.

    Examples
    --------
    Ten frames are enough for a shift by 2.1 deviations, if 200 columns are to give one false alarm
    in 4,500 frames:

    >>> round(detectable_shift(10, 200 * 4500), 1)
    2.1
    """
    checks.within("frames", frames, 1, 100_000)
    checks.within("power", power, 0.01, 0.999)
    checks.within("run_length", run_length, 10, 1e12, "frames")
    largest = 2 * (float(stats.norm.isf(0.5 / run_length)) - 0.1)  # a limit of nearly 0 serves

    def miss(shift: float) -> float:
        k = shift / 2
        limit = cusum_limit(run_length, reference=k)
        return cusum_power(shift, frames, reference=k, limit=limit) - power

    return float(optimize.brentq(miss, 0.1, min(8, largest), xtol=1e-3))


def ewma_limit(run_length: float, *, weight: float = 0.2) -> float:
    """Limit of `charts.ewma` with this many frames until a false alarm of a series, on average.

    Of n series together one alarms falsely every run_length / n frames.

    Examples
    --------
    >>> round(ewma_limit(500, weight=0.2), 2)
    2.96
    """
    return _limit(lambda h: ewma_run_length(0, weight=weight, limit=h), run_length, 9)


def cusum_limit(
    run_length: float, *, reference: float = 0.5, law: Law = normal, sides: str = "both"
) -> float:
    """Limit of `charts.cusum` with this many frames until a false alarm of a series, on average.

    Examples
    --------
    >>> round(cusum_limit(465, reference=0.5), 2)
    5.0
    """

    def length(h: float) -> float:
        return cusum_run_length(0, reference=reference, limit=h, law=law, sides=sides)

    return _limit(length, run_length, 20 / reference)


def _limit(length: Callable[[float], float], wanted: float, top: float) -> float:
    """The limit at which a run length, which grows with it, is the wanted one."""
    high = 0.5
    while high < top and length(high) < wanted:  # far above the numbers are no longer exact
        high = min(top, 1.3 * high)
    checks.within("run_length", wanted, length(0.05), max(wanted, 1e12), "frames")
    if length(high) < wanted:
        raise InputError(f"run_length: got {wanted:g}, no limit below {top:g} gives so many frames")

    def miss(limit: float) -> float:
        return float(np.log(length(limit) / wanted))

    return float(optimize.brentq(miss, 0.05, high, xtol=1e-5))


def _mean_length(chain: Array) -> Array:
    return np.asarray(np.linalg.solve(np.eye(len(chain)) - chain, np.ones(len(chain))))


def _ewma_chain(shift: float, weight: float, limit: float) -> Array:
    """Probabilities from cell to cell of (-L sigma_z, L sigma_z)."""
    checks.within("weight", weight, 1e-3, 1)
    checks.positive("limit", limit)
    edges = np.linspace(-1, 1, CELLS + 1) * limit * np.sqrt(weight / (2 - weight))
    centres = (edges[1:] + edges[:-1]) / 2
    needed = (edges - (1 - weight) * centres[:, None]) / weight
    return np.diff(special.ndtr(needed - shift), axis=1)


def _cusum_chain(
    shift: float, reference: float, limit: float, side: str, law: Law = normal
) -> Array:
    """Probabilities from cell to cell of (0, h); the first is half as wide, and is at 0."""
    checks.positive("reference", reference)
    checks.positive("limit", limit)
    width = 2 * limit / (2 * CELLS - 1)
    centres = np.arange(CELLS) * width
    needed = reference + centres + width / 2 - centres[:, None]
    below = law(needed - shift) if side == "upper" else 1 - law(-needed - shift)
    return np.diff(below, axis=1, prepend=0)
