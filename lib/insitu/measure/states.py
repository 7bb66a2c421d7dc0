"""Absent or present: a hidden Markov model with two states for every column.

A column is absent or present in each frame; it appears with the probability a a frame and vanishes
with v. What a frame's counts say is one number, the log-likelihood ratio e_t of present against
absent (`disc_evidence`); a frame that is lost says 0. The log-odds of present then follow
from the frames before and after [1]_: with p' the prior odds that the frame before leaves,

    l_t = log p'_t + e_t,   b_t = log [(1 - v) exp(e + b)_{t+1} + v] / [a exp(e + b)_{t+1} + 1 - a],

and of all frames together they are l_t + b_t. The rates are learned from all columns together
(`learn_rates`). Frames that are not independent, as behind a denoiser, say less than they seem to:
take the evidence from the counts.

.. [1] L. R. Rabiner, Proc. IEEE 77 (1989) 257.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from insitu import InputError, checks
from insitu.counting.detector import Detector
from insitu.counting.poisson import Poisson
from insitu.measure.charts import series_of
from insitu.trust.likelihood import disc_sums

Array = NDArray[np.float64]


def disc_evidence(
    electrons: ArrayLike,
    pixels: ArrayLike,
    absent: ArrayLike,
    present: ArrayLike,
    detector: Detector | None = None,
) -> Array:
    """Log-likelihood ratio of a column against none, of counts in discs.

    K log(theta_1 / theta_0) - N log(Z_1 / Z_0) for K electrons in N pixels, as in
    `insitu.trust.likelihood.ratio_test`: K log(m_1 / m_0) - N (m_1 - m_0) for Poisson's counts.

    Parameters
    ----------
    electrons : (n, t) array
        Sums over the disc of each column in each frame; NaN where a frame is lost.
    pixels : (n,) array or float
        Of each disc.
    absent, present : (n,) arrays or float
        Expected counts of a disc's pixel without the column and with it [e-/px].
    detector : Detector, optional
        Of the exponential family; Poisson's by default.

    Returns
    -------
    (n, t) array
        [nat]; 0 where a frame is lost.

    Raises
    ------
    InputError
        If a mean is not positive, or a count negative or infinite.

    Examples
    --------
    >>> disc_evidence([[8, 14, np.nan]], 20, absent=0.45, present=0.6).round(2)
    array([[-0.7 ,  1.03,  0.  ]])
    """
    counts = series_of("electrons", electrons)
    checks.not_negative("electrons", np.nan_to_num(counts))
    n = len(counts)
    m0, m1, size = (np.broadcast_to(np.asarray(v, float), n) for v in (absent, present, pixels))
    for mean in (m0, m1):
        if not np.all((mean > 0) & np.isfinite(mean)):
            raise InputError("absent, present: expected counts must be positive")
    none, one = (np.log((detector or Poisson()).table(m, 1)) for m in (m0, m1))
    partition = none[:, 0] - one[:, 0]  # log Z = -log P(0)
    theta = one[:, 1] - none[:, 1] + partition
    evidence = counts * theta[:, None] - (size * partition)[:, None]
    return np.nan_to_num(evidence)


def evidence_at(
    counts: ArrayLike,
    denoised: ArrayLike,
    sites: ArrayLike,
    pixel_size: float,
    *,
    radius: float = 0.6,
    detector: Detector | None = None,
) -> Array:
    """Log-likelihood ratios (n, t) of a column at each site, of the counts of discs there.

    The denoised movie tells what to expect: without a column its median, with one the upper
    quarter of what it shows at that site, but 10 % more than without at least. A wider disc would
    tell less: columns have rings of the other sign.

    Parameters
    ----------
    counts, denoised : (t, y, x) arrays
        [e-/px].
    sites : (t, n, 2) array
        y and x in every frame [A], such as of `insitu.measure.following.lattice_sites`.
    pixel_size : float
        [A].
    radius : float
        Of the discs [A].
    detector : Detector, optional
        Poisson's by default.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(0.5, (40, 20, 20))
    >>> told = evidence_at(counts, np.full((40, 20, 20), 0.5), np.full((40, 1, 2), 2.4), 0.24)
    >>> told.shape, bool(told.mean() < 0)
    ((1, 40), True)
    """
    movie, shown = np.asarray(counts), np.asarray(denoised)
    places = np.asarray(sites, np.float64) / pixel_size
    size = radius / pixel_size
    electrons, pixels = np.stack(
        [disc_sums(f, p, size) for f, p in zip(movie, places, strict=True)], -1
    )
    told = np.stack([disc_sums(f, p, size)[0] for f, p in zip(shown, places, strict=True)], -1)
    absent = float(np.median(shown))
    present = np.maximum(np.quantile(told / pixels, 0.75, axis=1), 1.1 * absent)
    mean = pixels.mean(1)  # a pixel more or less is how a disc lies on the grid
    return disc_evidence(electrons * mean[:, None] / pixels, mean, absent, present, detector)


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
