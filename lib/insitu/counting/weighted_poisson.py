"""The weighted Poisson family: counts whose probabilities are tilted by one weight each.

P(k | theta) = w_k theta^k / (k! Z(theta)). Weights of 1 are the Poisson distribution; a factor
c b^k in the weights changes nothing, so they are kept with w_0 = w_1 = 1 [1]_.

References
----------
.. [1] J. del Castillo and M. Perez-Casany, Ann. Inst. Stat. Math. 50 (1998) 567.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, softmax

from insitu import InputError

Array = NDArray[np.float64]
_BRIGHTEST = 60  # e-/px
_ENOUGH = 50  # a count seen less often says too little about its weight
_CONTRADICTED = 5.0  # standard deviations that a count is rarer than its weight, if extended, says
_UNSEEN = 0.5  # how often a count is taken for seen that was not


def gauge(log_w: Array) -> Array:
    """The same detector, with w_0 = w_1 = 1."""
    return log_w - log_w[0] - np.arange(len(log_w)) * (log_w[1] - log_w[0])


def extended(log_w: Array, most: int, first: int = 0) -> Array:
    """Log-weights of the counts 0 ... `most` from those of `first` and the following ones."""
    low, high = (min(0.0, float(np.diff(edge, 2)[0])) for edge in (log_w[:3], log_w[-3:]))
    before = np.arange(first, 0, -1)
    after = np.arange(1, most - first - len(log_w) + 2)
    slope_low, slope_high = log_w[0] - log_w[1], log_w[-1] - log_w[-2]
    head = log_w[0] + slope_low * before + low * before * (before + 1) / 2
    tail = log_w[-1] + slope_high * after + high * after * (after + 1) / 2
    return gauge(np.concatenate([head, log_w, tail])[: most + 1])


def probabilities(log_w: Array, log_theta: Array) -> Array:
    """P(k | theta), shape (theta, k); log theta = -inf means that nothing ever arrives."""
    k = np.arange(len(log_w))
    with np.errstate(invalid="ignore"):
        tilt = np.where(k > 0, k * log_theta[:, None], 0.0)
    return np.asarray(softmax(log_w - gammaln(k + 1.0) + tilt, axis=1))


def log_theta(log_w: Array, mean: Array) -> Array:
    """Solve sum_k k P(k | theta) = mean for log theta; -inf where the mean is 0.

    Newton's method, d mean / d log theta being the variance, with bisection where a step would
    leave the bracket: the mean grows with theta, so that there is one solution.

    Raises
    ------
    InputError
        If the mean is more than the largest possible count.
    """
    k = np.arange(len(log_w))
    largest = k[np.isfinite(log_w)][-1]
    if mean.size and mean.max() >= largest:
        raise InputError(
            f"a mean of {mean.max():.3g} e-/px is more than a detector that counts to {largest} "
            f"can give; are there hot pixels, or grey levels instead of counts?"
        )
    low, high = np.full(mean.shape, -60.0), np.full(mean.shape, 600.0)
    guess = np.log(np.maximum(mean, 1e-25))
    for _ in range(200):
        p = probabilities(log_w, guess)
        found = p @ k
        low, high = np.where(found < mean, guess, low), np.where(found < mean, high, guess)
        variance = np.maximum(p @ k**2 - found**2, 1e-300)
        step = guess + (mean - found) / variance
        inside = (step > low) & (step < high)
        guess, before = np.where(inside, step, (low + high) / 2), guess
        if np.abs(guess - before).max(initial=0.0) < 1e-12:
            break
    return np.where(mean > 0, guess, -np.inf)


def fit_weights(histogram: NDArray[np.int64]) -> tuple[Array, tuple[float, float]]:
    """Fit the weights to how often each count was seen, in several bins of different mean.

    Parameters
    ----------
    histogram : (bins, counts) array of int
        As `noise.histogram_by_mean` makes it.

    Returns
    -------
    log_weights : array
        log w_k for k = 0 ... the largest count that was seen 50 times, or one more.
    mean_range : (float, float)
        Smallest and largest mean of a bin [e-/px].

    Raises
    ------
    InputError
        If fewer than three neighbouring counts were seen 50 times, or no weights fit.

    Notes
    -----
    In bin b the model is log P(k | b) = log w_k + k log theta_b - log k! - log Z_b. That is a
    log-linear model of the table of bins by counts: its maximum-likelihood solution has the
    mean of every bin and the total of every count as in the data. Counts seen less than 50 times
    are left to `extended`, unless the first of them is far rarer than that says, as where a
    detector can count no further: then it has a weight of its own, too, for its few sightings,
    or half a one.
    """
    k = np.arange(histogram.shape[1])
    pixels = histogram.sum(1)
    mean = histogram @ k / pixels
    total = histogram.sum(0)
    rare = np.flatnonzero(total < _ENOUGH)
    common = int(total.argmax())
    first = max(rare[rare < common], default=-1) + 1
    last = min(rare[rare > common], default=len(total)) - 1
    seen = np.arange(first, last + 1)  # neighbouring counts, none of them rare
    if len(seen) < 3:
        raise InputError(
            f"only {len(seen)} neighbouring counts occur {_ENOUGH} times or more (from {first} to "
            f"{last}), and three are needed to fit a detector; use more frames or a larger crop"
        )
    if mean.max() > _BRIGHTEST:
        raise InputError(
            f"the brightest pixels have {mean.max():.3g} e-/px; the count model is for up to "
            f"{_BRIGHTEST}, where a detector still counts single electrons"
        )
    log_w, expected = _solve(seen, total, mean, pixels)
    after = last + 1
    found = max(total[after], _UNSEEN) if after < len(total) else _UNSEEN
    if found < expected[after] - _CONTRADICTED * np.sqrt(expected[after]):
        seen = np.append(seen, after)
        total = np.append(total[:after], found)
        log_w, _ = _solve(seen, total, mean, pixels)
    weights = extended(log_w, int(seen[-1]), first=int(seen[0]))
    return weights, (float(mean.min()), float(mean.max()))


def _solve(
    seen: NDArray[np.int64], total: NDArray[Any], mean: Array, pixels: NDArray[np.int64]
) -> tuple[Array, Array]:
    """Log-weights of the counts `seen`, by Newton's method, and how often each count is expected.

    The thetas of the bins, of some mean and number of pixels, follow the weights.
    """
    most = int(max(seen[-1] + 1, mean.max() + 12 * np.sqrt(mean.max() + 1)))
    k = np.arange(most + 1)
    # two weights only set the gauge: keep those of the commonest counts, solve for the others
    free = np.sort(np.argsort(total[seen])[:-2])
    column = seen[free]
    log_w = np.zeros(len(seen))
    for _ in range(100):
        weights = extended(log_w, most, first=int(seen[0]))
        p = probabilities(weights, log_theta(weights, mean))
        missing = total[column] - (pixels @ p)[column]
        # minus the second derivative: the covariance of the counts' indicators e_k in each bin,
        # less what the theta of the bin makes up for
        centred = k - (p @ k)[:, None]
        q = p[:, column]
        along = q * centred[:, column] / np.sqrt((p * centred**2).sum(1, keepdims=True))
        curvature = np.diag(pixels @ q) - (q.T * pixels) @ q - (along.T * pixels) @ along
        step = np.linalg.solve(curvature, missing)
        log_w[free] += np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-6:
            break
    else:
        if np.abs(step).max() > 0.1:
            raise InputError(
                f"no detector of this family gives the counts {seen[0]} to {seen[-1]} as often as "
                "they were seen; use more frames, or brighter ones"
            )
    return log_w, pixels @ p
