"""Where and when the electrons of a movie change, told frame by frame.

A frame is divided into square cells; the electrons of each cell are a series, and
`insitu.measure.charts.cusum` charts them all. What comes next needs no more than the charts' state,
so that a movie of any length, or one that is still being recorded, is watched in bounded memory.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu import InputError, checks
from insitu.measure import charts, run_lengths
from insitu.streaming.store import sum_type

Array = NDArray[np.float64]


class Alarms(NamedTuple):
    """One row an alarm, in order of time."""

    frame: NDArray[np.int64]  # (m,) in which the chart passed its limit
    since: NDArray[np.int64]  # (m,) likeliest first frame of the change
    cell: NDArray[np.int64]  # (m, 2) row and column of the cell
    rises: NDArray[np.bool_]  # (m,) whether there are more electrons than before

    @classmethod
    def none(cls) -> Alarms:
        """An empty table."""
        return cls(
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty((0, 2), np.int64),
            np.empty(0, bool),
        )

    def and_later(self, other: Alarms) -> Alarms:
        """Both tables, one behind the other."""
        return Alarms(*(np.concatenate(both) for both in zip(self, other, strict=True)))


class Watch:
    """Charts of cells, fed in order.

    The first frames, in which nothing should happen, tell one Fano factor F of all cells, by the
    differences of successive frames. A frame's electrons x are compared with the mean m of the n
    frames before it, all of them, z = (x - m) / sqrt(F m (1 + 1 / n)): such z of Poisson counts
    are independent, as the limit of the charts assumes. Against a mean of the first frames alone,
    whose error stays, there would be several times as many false alarms as are allowed.

    Parameters
    ----------
    baseline : int
        Frames without an alarm at first, from which F is taken.
    false_alarms : float
        That are allowed in a million frames, of all cells together.
    shift : float
        Change that is found fastest, in standard deviations of a cell and frame.

    Examples
    --------
    A cell that brightens in frame 300; the chart rises, by chance, a little before:

    >>> electrons = np.random.default_rng(0).poisson(100, (400, 2, 3))
    >>> electrons[300:, 1, 2] += 25
    >>> watch = Watch()
    >>> told = watch.push(electrons[:350]).and_later(watch.push(electrons[350:]))
    >>> int(told.since[0]), told.cell[0].tolist(), bool(told.rises[0])
    (296, [1, 2], True)
    """

    def __init__(
        self, *, baseline: int = 200, false_alarms: float = 100.0, shift: float = 1.0
    ) -> None:
        self.baseline = int(checks.within("baseline", baseline, 20, 1_000_000))
        self.false_alarms = checks.within("false_alarms", false_alarms, 1e-3, 1e5)
        self.shift = checks.within("shift", shift, 0.1, 10)
        self.first: list[Array] = []
        self.seen = 0  # frames
        self.total = np.empty(0)  # electrons of each cell so far
        self.known = 0  # frames so far that were not lost
        self.fano = np.nan
        self.limit = np.nan
        self.state: Array | None = None

    def push(self, electrons: NDArray[np.generic]) -> Alarms:
        """Go on with the next frames, (t, rows, columns); a frame of NaN is a lost one.

        Returns
        -------
        Alarms
            Of these frames; the chart of a cell that alarms begins again.
        """
        x = np.asarray(electrons, np.float64)
        before = x[: max(0, self.baseline - self.seen)]
        self.seen += len(before)
        if len(before):
            self.first.append(before)
            if self.seen < self.baseline:
                return Alarms.none()
            self._learn(np.concatenate(self.first))
            self.first = []
        x = x[len(before) :]
        if not len(x):
            return Alarms.none()
        found = charts.cusum(
            self._compared(x.reshape(len(x), -1)).T,
            reference=self.shift / 2,
            limit=self.limit,
            state=self.state,
            restart=True,
        )
        self.state = found.state
        frames, cells = np.nonzero(found.alarm.T)
        number = self.seen + frames
        self.seen += len(x)
        return Alarms(
            number,
            number - found.age[cells, frames] + 1,
            np.stack(np.unravel_index(cells, x.shape[1:]), -1),
            (found.upper > found.lower)[cells, frames],
        )

    def _learn(self, frames: Array) -> None:
        series = frames.reshape(len(frames), -1)
        known = np.isfinite(series[:, 0])
        if known.sum() < 20:
            raise InputError(f"baseline: only {known.sum()} of its frames are there, 20 are needed")
        self.total, self.known = series[known].sum(0), int(known.sum())
        if not (self.total > 0).all():
            raise InputError(
                f"movie: {(self.total <= 0).sum()} cells have no electron in {self.baseline} "
                "frames; take larger cells, or a longer baseline"
            )
        variance = (np.diff(series[known], axis=0) ** 2).mean(0) / 2
        self.fano = float(variance.sum() / self.total.sum() * self.known)
        if not self.fano > 0:
            raise InputError("movie: the frames of the baseline are all the same, which no beam is")
        self.limit = self.limit_for(self.total / self.known)

    def _compared(self, series: Array) -> Array:
        """Electrons in standard deviations from the mean of all frames before, (t, cells)."""
        there = np.isfinite(series[:, :1])
        counted = np.where(there, series, 0)
        number = self.known + np.cumsum(there, 0) - there
        mean = (self.total + np.cumsum(counted, 0) - counted) / number
        self.total, self.known = self.total + counted.sum(0), self.known + int(there.sum())
        return (series - mean) / np.sqrt(self.fano * mean * (1 + 1 / number))

    def limit_for(self, mean: Array) -> float:
        """Limit of the charts of cells of such means; kept, since it takes half a second."""
        skewness = float(np.clip(np.median(mean), 1 / 9, 1e4)) ** -0.5  # of Poisson counts
        return _limit(1e6 / self.false_alarms * mean.size, self.shift / 2, round(skewness, 2))


@lru_cache(maxsize=64)
def _limit(length: float, reference: float, skewness: float) -> float:
    return run_lengths.cusum_limit(length, reference=reference, law=run_lengths.skewed(skewness))


def cell_sums(frames: NDArray[np.generic], side: int) -> NDArray[np.int64] | Array:
    """Electrons in squares of `side` pixels, (t, rows, columns); those at the edge may be smaller.

    >>> cell_sums(np.ones((1, 4, 5), np.uint8), 2)[0].tolist()
    [[4, 4, 2], [4, 4, 2]]
    """
    kind = np.int64 if frames.dtype.kind in "uib" else np.float64
    steps = [np.arange(0, n, side) for n in frames.shape[1:]]
    if all(n % side == 0 for n in frames.shape[1:]):
        short = sum_type(frames, side)
        rows = frames.reshape(len(frames), len(steps[0]), side, -1).sum(2, dtype=short)
        return rows.reshape(*rows.shape[:2], len(steps[1]), side).sum(3, dtype=kind)
    rows = np.add.reduceat(frames, steps[0], axis=1, dtype=kind)
    return np.add.reduceat(rows, steps[1], axis=2, dtype=kind)
