"""Absent or present: a hidden Markov model with two states for every column.

A column is absent or present in each frame; it appears with the probability a a frame and vanishes
with v. What a frame's counts say is one number, the log-likelihood ratio e_t of present against
absent (`insitu.measure.evidence`); a frame that is lost says 0. The log-odds of present then follow
from the frames before and after [1]_: with p' the prior odds that the frame before leaves,

    l_t = log p'_t + e_t,   b_t = log [(1 - v) exp(e + b)_{t+1} + v] / [a exp(e + b)_{t+1} + 1 - a],

and of all frames together they are l_t + b_t. The rates are learned from all columns together
(`learn_rates`). Frames that are not independent, as behind a denoiser, say less than they seem to:
divide the evidence by `insitu.measure.correlation.correlation_time`.

.. [1] L. R. Rabiner, Proc. IEEE 77 (1989) 257.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from insitu import InputError, checks
from insitu.measure.charts import series_of

Array = NDArray[np.float64]


class Rates(NamedTuple):
    """How often a column changes; probabilities."""

    appears: float = 1e-3  # of an absent column, in a frame
    vanishes: float = 1e-3  # of a present column, in a frame
    present: float = 0.5  # in the first frame

    def checked(self) -> Rates:
        """Itself, if all are probabilities that leave both states open."""
        for name, value in zip(self._fields, self, strict=True):
            checks.within(name, value, 1e-12, 1 - 1e-12)
        return self


def filtered(
    evidence: ArrayLike, rates: Rates, *, state: Array | None = None
) -> tuple[Array, Array]:
    """Log-odds of present from the frames up to each, and the state to go on from.

    Parameters
    ----------
    evidence : (n, t) array
        Log-likelihood ratios [nat]; NaN where a frame is lost.
    rates : Rates
        Of appearing and vanishing, per frame.
    state : (n,) array, optional
        What an earlier call gave; a stream gives the same bits as all frames in one go.

    Examples
    --------
    >>> odds, state = filtered([[0.0, 3.0, 3.0]], Rates(0.01, 0.01, 0.5))
    >>> expit(odds).round(2)
    array([[0.5 , 0.95, 1.  ]])
    """
    e = np.nan_to_num(series_of("evidence", evidence))
    appears, vanishes, present = rates.checked()
    odds = np.empty(e.shape, order="F")  # frames are contiguous
    now = None if state is None else np.asarray(state, np.float64)
    if now is not None and now.shape != (len(e),):
        raise InputError(f"state: expected one value of each of {len(e)} series, got {now.shape}")
    for t, told in enumerate(np.ascontiguousarray(e.T)):
        if now is None:
            prior = np.full(len(e), np.log(present / (1 - present)))
        else:
            prior = np.logaddexp(now + np.log1p(-vanishes), np.log(appears))
            prior -= np.logaddexp(now + np.log(vanishes), np.log1p(-appears))
        odds[:, t] = now = prior + told
    return odds, np.zeros(len(e)) if now is None else now


def _backward(later: Array, rates: Rates) -> Array:
    """Log of b_t(present) / b_t(absent), from e + b of the next frame."""
    appears, vanishes, _ = rates
    here = np.logaddexp(later + np.log1p(-vanishes), np.log(vanishes))
    return np.asarray(here - np.logaddexp(later + np.log(appears), np.log1p(-appears)))


class Posterior(NamedTuple):
    """What all frames together say of every frame."""

    present: Array  # (n, t) probability
    stays: Array  # (n, t) probability of present, if it was so in the frame before
    comes: Array  # (n, t) probability of present, if it was absent in the frame before

    @property
    def appears(self) -> Array:
        """Probability that the column appears between the frame before and this one, (n, t)."""
        return (1 - self._before) * self.comes

    @property
    def vanishes(self) -> Array:
        """Probability that the column vanishes between the frame before and this one, (n, t)."""
        return self._before * (1 - self.stays)

    @property
    def _before(self) -> Array:
        """Of the frame before; of the first none is known, and nothing changes there."""
        first = np.round(self.present[:, :1])
        return np.concatenate([first, self.present[:, :-1]], 1)


def smoothed(evidence: ArrayLike, rates: Rates) -> Posterior:
    """Probability of present in each frame from all frames, and of each change.

    Parameters
    ----------
    evidence : (n, t) array
        Log-likelihood ratios [nat]; NaN where a frame is lost.
    rates : Rates
        Of appearing and vanishing, per frame.

    Examples
    --------
    >>> found = smoothed([[-3.0, -3.0, 0.0, 3.0, 3.0]], Rates(0.01, 0.01))
    >>> found.present.round(2)
    array([[0.1 , 0.11, 0.5 , 0.89, 0.9 ]])
    >>> found.appears.round(2)
    array([[0.  , 0.02, 0.39, 0.39, 0.02]])
    """
    e = np.nan_to_num(series_of("evidence", evidence))
    odds, _ = filtered(e, rates)
    later = e.copy(order="F")  # e + b
    for t in range(e.shape[1] - 2, -1, -1):
        later[:, t] += _backward(later[:, t + 1], rates)
    appears, vanishes, _ = rates
    present = expit(odds + later - e)
    comes = expit(later + np.log(appears / (1 - appears)))
    stays = expit(later + np.log((1 - vanishes) / vanishes))
    comes[:, :1], stays[:, :1] = 0, 1
    return Posterior(present, stays, comes)


def learn_rates(evidence: ArrayLike, start: Rates = Rates(), *, rounds: int = 60) -> Rates:  # noqa: B008
    """Rates from all columns together, by expectation maximisation.

    Of each round the rates are the expected numbers of changes over those of chances, with half a
    change in one chance more on either side, so that no rate is ever 0.

    Parameters
    ----------
    evidence : (n, t) array
        Log-likelihood ratios [nat].
    start : Rates
        To begin with.
    rounds : int
        At most; it ends where no rate changes by a thousandth.

    Raises
    ------
    InputError
        If there are no two frames of a column.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> present = np.arange(400) % 100 > 49
    >>> rates = learn_rates(np.where(present, 2, -2) + 2 * rng.standard_normal((50, 400)))
    >>> round(rates.appears, 2), round(rates.vanishes, 2)
    (0.02, 0.02)
    """
    e = series_of("evidence", evidence)
    if e.shape[0] < 1 or e.shape[1] < 2:
        raise InputError(f"evidence: two frames of a column or more are needed, got {e.shape}")
    rates = start.checked()
    for _ in range(rounds):
        found = smoothed(e, rates)
        chances = found.present[:, :-1].sum()
        last, rates = (
            rates,
            Rates(
                float((found.appears.sum() + 0.5) / (found.present[:, :-1].size - chances + 1)),
                float((found.vanishes.sum() + 0.5) / (chances + 1)),
                float((found.present[:, 0].sum() + 0.5) / (len(e) + 1)),
            ),
        )
        if np.allclose(last, rates, rtol=1e-3, atol=0):
            break
    return Rates(*(min(max(r, 1e-9), 1 - 1e-9) for r in rates))


def lagged(evidence: ArrayLike, rates: Rates, lag: int) -> Array:
    """Log-odds of present in each frame, from the frames up to `lag` after it, (n, t)."""
    e = np.nan_to_num(series_of("evidence", evidence))
    checks.within("lag", lag, 0, 1_000_000, "frames")
    odds, _ = filtered(e, rates)
    back = np.zeros_like(e)
    for ahead in range(min(lag, e.shape[1] - 1), 0, -1):
        # of all frames at once: what the frame `ahead` later says, one step nearer
        back[:, : e.shape[1] - ahead] = _backward(
            e[:, ahead:] + back[:, : e.shape[1] - ahead], rates
        )
    return odds + back


class Stream:
    """`filtered` and `lagged`, one frame in, and one out.

    Examples
    --------
    >>> stream = Stream(Rates(0.01, 0.01), lag=1)
    >>> for frame in ([-3.0], [0.0], [3.0]):
    ...     now, before = stream.update(frame)
    >>> expit(now).round(2), expit(before).round(2)
    (array([0.58]), array([0.5]))
    """

    def __init__(self, rates: Rates, *, lag: int = 0) -> None:
        checks.within("lag", lag, 0, 1_000_000, "frames")
        self.rates, self.lag = rates.checked(), lag
        self._state: Array | None = None
        self._last: deque[tuple[Array, Array]] = deque(maxlen=lag + 1)

    def update(self, evidence: ArrayLike) -> tuple[Array, Array | None]:
        """Log-odds (n,) of this frame, and of that `lag` before, if there is one.

        `evidence` (n,) is this frame's, NaN where it is lost.
        """
        told = np.nan_to_num(np.asarray(evidence, np.float64))
        odds, self._state = filtered(told[:, None], self.rates, state=self._state)
        self._last.append((told, odds[:, 0]))
        if len(self._last) <= self.lag:
            return odds[:, 0], None
        back = np.zeros_like(told)
        for later, _ in list(self._last)[:0:-1]:
            back = _backward(later + back, self.rates)
        return odds[:, 0], self._last[0][1] + back
