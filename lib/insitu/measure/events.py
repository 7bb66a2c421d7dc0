"""The table of events: what happened to which column, when, and how sure that is.

`appearances` reads columns that appear or vanish from the states of `insitu.measure.states`. Each
event has its probability, and an interval for its time; `claimed` keeps as many as may be told if
only a share of them is to be false.

From the electrons of discs (columns, frames) to the events of which one in twenty may be false:

>>> from insitu.measure.states import disc_evidence, learn_rates, smoothed
>>> present = np.arange(400) < [[150], [400], [400]]
>>> electrons = np.random.default_rng(0).poisson(np.where(present, 14, 9))
>>> told = disc_evidence(electrons, 20, absent=0.45, present=0.7)
>>> table = appearances(smoothed(told, learn_rates(told)), names="abc", frame_time=1 / 75)
>>> table = table.where(claimed(table.probability, 0.05))
>>> table.column.tolist(), table.kind.tolist(), table.time.round(1).tolist()
(['a'], ['vanishes'], [2.1])
>>> bool(table.earliest[0] <= 150 / 75 <= table.latest[0])
True
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu import InputError, checks
from insitu.measure.states import Posterior

Array = NDArray[np.float64]


class Events(NamedTuple):
    """One row an event, in order of time. The time is that of the first frame after the change."""

    time: Array  # (m,) the median [s]
    earliest: Array  # (m,) bounds of its interval [s]
    latest: Array
    y: Array  # (m,) of the column [A]
    x: Array
    column: NDArray[np.str_]  # (m,) its name
    kind: NDArray[np.str_]  # (m,) appears or vanishes
    probability: Array  # (m,)

    def where(self, mask: ArrayLike) -> Events:
        """The events at which `mask` (m,) is true."""
        chosen = np.asarray(mask, bool)
        return Events(*(field[chosen] for field in self))


class _Row(NamedTuple):
    series: int
    frames: Array  # median, earliest, latest
    kind: str
    probability: float


def _table(
    rows: list[_Row],
    number: int,
    positions: ArrayLike | None,
    names: Sequence[object] | None,
    frame_time: float,
) -> Events:
    """Rows as a table, sorted by time."""
    checks.positive("frame_time", frame_time, "s")
    where = np.full((number, 2), np.nan) if positions is None else np.asarray(positions, np.float64)
    called = np.arange(number).astype(str) if names is None else np.array([str(n) for n in names])
    if where.shape != (number, 2) or called.shape != (number,):
        raise InputError(
            f"positions, names: expected y and x, and a name, of each of {number} columns, "
            f"got {where.shape} and {called.shape}"
        )
    rows = sorted(rows, key=lambda row: (row.frames[0], row.series))
    series = np.array([row.series for row in rows], np.intp)
    frames = np.array([row.frames for row in rows], np.float64).reshape(-1, 3) * frame_time
    return Events(
        frames[:, 0],
        frames[:, 1],
        frames[:, 2],
        where[series, 0],
        where[series, 1],
        called[series].astype(str) if number else np.zeros(0, "U1"),
        np.array([row.kind for row in rows], "U9"),
        np.array([row.probability for row in rows], np.float64),
    )


def _quantiles(weights: Array, first: int, level: float) -> Array:
    """Median and central interval of a frame, `weights` being its law from frame `first` on."""
    law = np.cumsum(weights) / max(weights.sum(), 1e-300)
    at = np.searchsorted(law, [0.5, (1 - level) / 2, (1 + level) / 2])
    return first + np.minimum(at, len(weights) - 1).astype(float)


def appearances(
    posterior: Posterior,
    *,
    positions: ArrayLike | None = None,
    names: Sequence[object] | None = None,
    frame_time: float = 1.0,
    level: float = 0.9,
) -> Events:
    """Columns that appear or vanish, from the states of all frames.

    Where the likelier state changes, s and u are the frames on both sides in which it is surest.
    The event's probability is that of one state in s and the other in u, along the chain of states
    given all frames; the law of its frame is that of the changes between s and u.

    Parameters
    ----------
    posterior : Posterior
        Of `insitu.measure.states.smoothed`, of n columns.
    positions : (n, 2) array, optional
        y and x [A].
    names : sequence of n, optional
        Of the columns; their numbers by default.
    frame_time : float
        [s].
    level : float
        Probability of the interval of the time.

    Raises
    ------
    InputError
        If positions, names or a setting do not fit.

    Examples
    --------
    >>> from insitu.measure.states import Rates, smoothed
    >>> evidence = np.where(np.arange(20) < 8, -2.0, 2.0)[None]
    >>> found = appearances(smoothed(evidence, Rates(0.01, 0.01)), frame_time=0.5)
    >>> found.time, found.kind, found.probability.round(3)
    (array([4.]), array(['appears'], dtype='<U9'), array([1.]))
    """
    checks.within("level", level, 0.01, 0.999)
    likely = posterior.present > 0.5
    appears, vanishes = posterior.appears, posterior.vanishes
    rows = []
    for n in map(int, np.flatnonzero((likely[:, 1:] != likely[:, :-1]).any(1))):
        p = posterior.present[n]
        edges = np.flatnonzero(np.diff(likely[n])) + 1
        edges = np.concatenate([[0], edges, [len(p)]])
        sure = np.abs(p - 0.5)
        surest = [int(a + np.argmax(sure[a:b])) for a, b in pairwise(edges)]
        for s, u in pairwise(surest):
            rising = bool(likely[n, u])
            there = 0.0 if rising else 1.0  # probability of present, from s on
            for t in range(s + 1, u + 1):
                there = there * posterior.stays[n, t] + (1 - there) * posterior.comes[n, t]
            probability = (1 - p[s]) * there if rising else p[s] * (1 - there)
            changes = (appears if rising else vanishes)[n, s + 1 : u + 1]
            frames = _quantiles(changes, s + 1, level)
            rows.append(_Row(n, frames, "appears" if rising else "vanishes", probability))
    return _table(rows, len(likely), positions, names, frame_time)


def claimed(probability: ArrayLike, rate: float = 0.05) -> NDArray[np.bool_]:
    """Which events are told if at most the share `rate` of them may be false, (m,) [1]_.

    The likeliest ones, as many as have the mean of 1 - probability below the rate. For p-values
    it is `insitu.trust.likelihood.discoveries`.

    Examples
    --------
    >>> claimed([0.99, 0.6, 0.93])
    array([ True, False,  True])

    .. [1] M. A. Newton, A. Noueiry, D. Sarkar, P. Ahlquist, Biostatistics 5 (2004) 155.
    """
    p = np.asarray(probability, np.float64)
    checks.finite("probability", p)
    checks.within("rate", rate, 0, 1)
    order = np.argsort(-p, kind="stable")
    false = np.cumsum(1 - p[order]) / np.arange(1, len(p) + 1)
    chosen = np.zeros(len(p), bool)
    chosen[order] = false <= rate
    return chosen
