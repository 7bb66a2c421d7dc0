"""Columns that a denoised movie has too much, or lacks, by the counts of all frames.

At each place the difference of denoised and counted electrons, weighed with the shape of a column
and divided by its standard deviation by counting. Thousands of places have a largest value by
chance alone; where a column would be expected there are fewer, and less is enough.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, signal, stats

Array = NDArray[np.float64]
RATE = 0.001  # of false findings, of one sign, in the map or at sites
LEAST = 0.03  # of the mean of the counts: a weaker peak is a bias, not a column
LOBE = 0.25  # of a peak: its lobes beside it, of the other sign
CERTAIN = 4.5  # z of a peak whose lobes are taken off


class Difference(NamedTuple):
    """A map of z at the scale of a column."""

    z: Array  # (y, x), positive where the denoised movie shows more
    amplitude: Array  # (y, x) of a column of this strength [e-/px]
    least: float  # amplitude below which a peak is not a column's [e-/px]
    reach: int  # between two peaks, at least [px]
    rate: float  # of chance peaks: their mean number is rate z exp(-z^2 / 2)

    def peaks(self, sign: int) -> NDArray[np.intp]:
        """Places (n, 2) of too much (sign 1) or too little (-1), the clearest first.

        Those peaks of the map whose false-discovery rate is below 0.1 %.
        """
        z = self._of_sign(sign)
        top = np.argwhere((z == ndimage.maximum_filter(z, size=2 * self.reach + 1)) & (z > 2))
        top = top[np.argsort(-z[tuple(top.T)])]
        high = z[tuple(top.T)]
        passes = self.rate * high * np.exp(-(high**2) / 2) <= RATE * np.arange(1, len(high) + 1)
        return np.asarray(top[: int(np.flatnonzero(passes).max(initial=-1)) + 1])

    def at(self, sites: Array, sign: int) -> Array:
        """Take z of too much (1) or too little (-1) at sites (n, 2) [px]; 0 where it is faint."""
        where = tuple(np.rint(sites).astype(int).reshape(-1, 2).T)
        return self._of_sign(sign)[where]

    def _of_sign(self, sign: int) -> Array:
        """Z of too much, or too little, less the lobes of stronger peaks; 0 where it is faint."""
        beside = ndimage.maximum_filter(-sign * self.z, size=5 * self.reach + 1)
        z = sign * self.z - np.where(beside > CERTAIN, LOBE * beside, 0.0)
        return np.where(sign * self.amplitude > self.least, z, 0.0)


def clear(z: Array) -> NDArray[np.bool_]:
    """Which of some z pass together, large ones, at a false-discovery rate of 0.1 %."""
    p = np.where(z > 0, stats.norm.sf(z), 1.0)
    return np.asarray(stats.false_discovery_control(p) <= RATE) if len(z) else np.zeros(0, bool)


def difference(y: Array, f: Array, v: Array, width: float, *, ring: bool = True) -> Difference:
    """Difference of a denoised movie and its counts at the scale of a column.

    z = sum_t D * (f - y) / sqrt(sum_t D^2 * v), D a column with the dark ring that a lens gives
    it: a Gaussian less one that is wider by sqrt 2 and has the same integral, so that a change
    of level has no part in it; without a ring a Gaussian, which sees a smooth blob better. A
    field of white noise behind D has on average

        A m (2 pi)^(-3/2) z exp(-z^2 / 2),  m = sum |grad D|^2 / (2 sum D^2),

    peaks above z over A pixels [1]_.

    Parameters
    ----------
    y, f, v : (t, y, x) arrays
        Counts, denoised values, and the variance of a count.
    width : float
        Standard deviation of a column [px].
    ring : bool
        Whether a column has a dark ring.

    Examples
    --------
    One column too much in 40 frames of vacuum:

    >>> counts = np.random.default_rng(0).poisson(0.5, (40, 64, 64))
    >>> y, x = np.mgrid[:64, :64]
    >>> shown = 0.5 + 0.3 * np.exp(-((y - 20) ** 2 + (x - 30) ** 2) / 8) + 0 * counts
    >>> found = difference(counts, shown, shown, 2.0)
    >>> found.peaks(1), len(found.peaks(-1))
    (array([[20, 30]]), 0)

    .. [1] R. J. Adler, The Geometry of Random Fields, Wiley 1981.
    """
    point = np.zeros((2 * int(4 * np.sqrt(2) * width) + 3,) * 2)
    point[point.shape[0] // 2, point.shape[1] // 2] = 1
    narrow, wide = (ndimage.gaussian_filter(point, w) for w in (width, np.sqrt(2) * width))
    column = narrow - wide if ring else narrow
    square = column**2
    raised = signal.oaconvolve((f - y).sum(0), column, "same")
    spread = np.sqrt(signal.oaconvolve(v.sum(0), square, "same"))
    z = raised / spread
    # counts are skewed, by their third moment, that of Poisson's law; Cornish and Fisher's term
    skewness = signal.oaconvolve(v.sum(0), square * column, "same") / spread**3
    z += skewness / 6 * (z**2 - 1)
    amplitude = raised / (len(y) * square.sum()) * column.max()
    roughness = float(sum((g**2).sum() for g in np.gradient(column)) / (2 * square.sum()))
    rate = z.size * roughness * (2 * np.pi) ** -1.5
    return Difference(z, amplitude, LEAST * float(y.mean()), max(1, round(2 * width)), rate)
