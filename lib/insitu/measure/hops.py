"""Atoms that come and go: the number in each column over time, and how often it changes.

A column holds n atoms in a frame and, with the probability h a frame, one more or one less in the
next, both alike: a hidden Markov model whose states are 0 to 12. What each frame says is the
logarithm of its likelihood for every n; a network gives a posterior, which is first divided by the
prior of its training. Of all frames together follow the number in each (forwards and backwards
[1]_), and the likelihood of h itself, from which an interval of the rate is read.

.. [1] L. R. Rabiner, Proc. IEEE 77 (1989) 257.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu import InputError, checks

Array = NDArray[np.float64]
RATES = np.geomspace(1e-4, 0.5, 40)  # hops a frame that are compared


def likelihood(posterior: ArrayLike, prior: ArrayLike, *, trust: float = 1.0) -> Array:
    """Logarithm of what each frame says, up to a constant, from a network's posterior.

    Parameters
    ----------
    posterior : (n, t, states) array
        Probabilities of 0, 1, ... atoms in a column and frame.
    prior : (n, states) array
        What it would say of a column before it saw the image.
        A number that it hardly ever gives should be left out of both: what is divided by a prior
        near 0 counts too much.
    trust : float
        Power of the likelihood, 0 to 1: errors that all frames share count only once.
    """
    told, before = np.asarray(posterior, np.float64), np.asarray(prior, np.float64)
    if told.ndim != 3 or before.shape != (told.shape[0], told.shape[2]):
        raise InputError(
            f"posterior: expected (columns, frames, states) and a prior (columns, states), got "
            f"{told.shape} and {before.shape}"
        )
    checks.within("trust", trust, 0, 1)
    return trust * (np.log(np.maximum(told, 1e-9)) - np.log(np.maximum(before, 1e-6))[:, None])


def smoothed(log_likelihood: ArrayLike, rate: ArrayLike) -> Array:
    """Probability of each number of atoms in every frame, from all frames, (n, t, states).

    Parameters
    ----------
    log_likelihood : (n, t, states) array
        Of every frame [nat].
    rate : float or (n,) array
        Hops a frame.

    Examples
    --------
    Of five frames that say two, two, nothing, one, one:

    >>> frames = np.full((1, 5, 3), -3.0)
    >>> frames[0, [0, 1], 2], frames[0, [3, 4], 1], frames[0, 2] = 0, 0, 0
    >>> smoothed(frames, 0.05)[0].argmax(1)
    array([2, 2, 2, 1, 1])
    """
    told, hop = _told(log_likelihood), np.asarray(rate, np.float64)
    hop = np.broadcast_to(hop, told.shape[:1])[:, None]
    seen = np.exp(told - told.max(2, keepdims=True))
    forward, backward = np.empty_like(seen), np.ones_like(seen)
    state = np.ones_like(seen[:, 0])
    for t in range(seen.shape[1]):
        state = (_moved(state, hop) if t else state) * seen[:, t]
        state /= state.sum(1, keepdims=True)
        forward[:, t] = state
    for t in range(seen.shape[1] - 2, -1, -1):
        later = _moved(backward[:, t + 1] * seen[:, t + 1], hop)
        backward[:, t] = later / later.sum(1, keepdims=True)
    both = forward * backward
    return np.asarray(both / both.sum(2, keepdims=True))


class Rate(NamedTuple):
    """Hops a frame of each column (n,), and the limits of an interval."""

    rate: Array
    low: Array
    high: Array


def rates(log_likelihood: ArrayLike, *, coverage: float = 0.9) -> Rate:
    """How often each column changes, from the likelihood of the rate itself.

    The prior of the rate is even in its logarithm from 1e-4 to 0.5, so that without a hop the
    lower limit is that of the prior: nothing was seen.

    Parameters
    ----------
    log_likelihood : (n, t, states) array
        Of every frame [nat].
    coverage : float
        Of the interval.

    Examples
    --------
    A column that changes in every tenth frame:

    >>> rng = np.random.default_rng(0)
    >>> atoms = 6 + np.cumsum(np.where(rng.random(400) < 0.1, rng.choice([-1, 1], 400), 0)) % 3
    >>> counts = -0.5 * (np.arange(13) - atoms[:, None] - 0.3 * rng.standard_normal((400, 1))) ** 2
    >>> found = rates(counts[None] / 0.3**2)
    >>> bool(found.low[0] < 0.1 < found.high[0])
    True
    """
    told = _told(log_likelihood)
    seen = np.exp(told - told.max(2, keepdims=True))
    state = np.ones((len(RATES), *seen[:, 0].shape))
    total = np.zeros(state.shape[:2])
    for t in range(seen.shape[1]):
        state = (_moved(state, RATES[:, None, None]) if t else state) * seen[:, t]
        norm = state.sum(2)
        total += np.log(norm)
        state /= norm[..., None]
    weight = np.exp(total - total.max(0))
    below = np.cumsum(weight, 0) - 0.5 * weight
    below /= weight.sum(0)
    grid = np.log(RATES)
    tail = (1 - coverage) / 2
    found = [
        np.exp([np.interp(q, column, grid) for column in below.T]) for q in (0.5, tail, 1 - tail)
    ]
    return Rate(*(np.asarray(f) for f in found))


def _told(log_likelihood: ArrayLike) -> Array:
    told = np.asarray(log_likelihood, np.float64)
    if told.ndim != 3 or 0 in told.shape:
        raise InputError(
            f"log_likelihood: expected (columns, frames, states), got shape {told.shape}"
        )
    checks.finite("log_likelihood", told)
    return told


def _moved(state: Array, hop: Array) -> Array:
    """Probabilities (..., states) a frame later; at either end half of the hops are none."""
    padded = np.concatenate([state[..., :1], state, state[..., -1:]], -1)
    return np.asarray((1 - hop) * state + 0.5 * hop * (padded[..., :-2] + padded[..., 2:]))
