"""How large is the error of a denoised movie of which no truth is known.

The mean squared difference from a noisy copy is the error plus the copy's noise, if the copy had
no part in the prediction. Two more copies tell the noise [1]_:

    uMSE = mean[(a - f)^2 - (b - c)^2 / 2] .

The routes to such copies differ in what they assume, and so in their bias. Logarithms are taken
once, of the mean.

.. [1] A. Marcos Morales et al., Evaluating unsupervised denoising requires unsupervised metrics,
   ICML 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from insitu import InputError
from insitu.counting.detector import Detector, moments
from insitu.trust.averaging import movie_pair

Array = NDArray[np.float64]
BLOCK = (8, 8, 8)  # frames, rows, columns that are drawn together by the bootstrap
DRAWS = 400
LEVEL = 0.95  # of the intervals
OFFSETS = (4, 3, 5)  # frames away, which the networks of this book do not see
RINGS = 40


class Estimate(NamedTuple):
    """A mean squared error and its interval of 95 % [e-^2]."""

    mse: float
    low: float
    high: float

    def psnr(self, peak: float = 1.0) -> float:
        """10 log10(peak^2 / mse) [dB]; nan where the estimate is not positive."""
        return float(10 * np.log10(peak**2 / self.mse)) if self.mse > 0 else float("nan")

    def __contains__(self, value: object) -> bool:
        return self.low <= float(value) <= self.high  # type: ignore[arg-type]


def bootstrap_mean(values: ArrayLike, *, seed: int = 0) -> Estimate:
    """Mean of values (t, y, x), with an interval by bootstrap over blocks.

    Neighbouring values are related, so that whole blocks are drawn, with replacement. Of a
    single block nothing is known of its spread, and the interval is infinite.
    """
    v = np.asarray(values, np.float64)
    starts = [np.arange(0, n, b) for n, b in zip(v.shape, BLOCK, strict=True)]
    sums, sizes = v, np.ones(v.shape)
    for axis, start in enumerate(starts):
        sums, sizes = (np.add.reduceat(part, start, axis) for part in (sums, sizes))
    total, size = sums.ravel(), sizes.ravel()
    mean, n = float(v.mean()), len(total)
    if n == 1:
        return Estimate(mean, float("-inf"), float("inf"))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS)
    means = (drawn @ total) / (drawn @ size)
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # few blocks: their spread is known no better than Student says
    stretch = np.sqrt(n / (n - 1)) * stats.t.ppf(tails[1], n - 1) / stats.norm.ppf(tails[1])
    low, high = mean + stretch * (np.quantile(means, tails) - mean)
    return Estimate(mean, float(low), float(high))


def from_copies(
    prediction: ArrayLike, a: ArrayLike, b: ArrayLike, c: ArrayLike, *, seed: int = 0
) -> Estimate:
    """From three noisy copies of the same signal, none of which the prediction has seen.

    Unbiased if the three are recordings of one and the same thing, their noise independent of
    each other and of the prediction, with mean zero and one variance.
    """
    f, first = movie_pair(prediction, a)
    second, third = movie_pair(b, c)
    return bootstrap_mean((first - f) ** 2 - (second - third) ** 2 / 2, seed=seed)


def from_other_frames(prediction: ArrayLike, raw: ArrayLike, *, seed: int = 0) -> Estimate:
    """From the frames 3, 4 and 5 later, as if nothing had moved.

    Off where something did move, and kind to whoever shows only what is steady. The networks of
    this book leave these frames out, but a wide average in time has seen them.
    """
    f, y = movie_pair(prediction, raw)
    reach = max(OFFSETS)
    if len(y) <= 2 * reach:
        raise InputError(f"raw: {len(y)} frames are too few for copies {reach} frames away")
    inner = np.arange(reach, len(y) - reach)
    a, b, c = (y[inner + o] for o in OFFSETS)
    return from_copies(f[inner], a, b, c, seed=seed)


def from_own_count(
    prediction: ArrayLike, raw: ArrayLike, *, detector: Detector | None = None, seed: int = 0
) -> Estimate:
    """From the counts themselves, of which a *blind* prediction has not seen its own.

    mean[(y - f)^2 - g(y)], the mean of g(y) being the variance of y: y itself for Poisson's
    noise, else `noise_of_counts`. Far too small, even negative, if the prediction has seen y.

    Raises
    ------
    InputError
        If the movies are not of one shape, hold NaN, or a detector is given and `raw` holds
        values that are no counts.

    Examples
    --------
    A prediction that is 0.1 e-/px too bright has the mean squared error 0.01:

    >>> counts = np.random.default_rng(0).poisson(0.5, (40, 64, 64))
    >>> 0.01 in from_own_count(np.full(counts.shape, 0.6), counts)
    True
    """
    return bootstrap_mean(own_errors(prediction, raw, detector=detector), seed=seed)


def own_errors(prediction: ArrayLike, raw: ArrayLike, *, detector: Detector | None = None) -> Array:
    """(y - f)^2 - g(y) of every pixel (t, y, x), whose mean `from_own_count` takes."""
    f, y = movie_pair(prediction, raw)
    noise = y
    if detector is not None:
        if (y < 0).any() or (y != np.rint(y)).any():
            raise InputError("raw: values are no counts, so that a detector says nothing of them")
        noise = noise_of_counts(detector, float(f.max()), int(y.max()))[y.astype(np.int64)]
    return np.asarray((y - f) ** 2 - noise)


def noise_of_counts(detector: Detector, brightest: float, largest: int) -> Array:
    """Estimate the variance of a count from the count: g(k) with sum_k P(k | m) g(k) = v(m).

    Solved by least squares for means up to `brightest`, as near to a multiple of k as it can
    be; for Poisson's detector g(k) = k.
    """
    means = np.linspace(0.02, 1, 100) * max(brightest, 0.1)
    k = np.arange(max(largest, int(means[-1] + 8 * np.sqrt(means[-1] + 1))) + 1, dtype=np.float64)
    p = detector.table(means, len(k) - 1)
    p = np.pad(p, ((0, 0), (0, len(k) - p.shape[1])))
    first, variance, _ = moments(detector, means)
    slope = float((variance / first).mean())
    more, *_ = np.linalg.lstsq(p, variance - slope * first, rcond=1e-4)
    return np.asarray(slope * k + more)


def from_thinning(
    raw: ArrayLike,
    denoise: Callable[[NDArray[Any]], ArrayLike],
    *,
    share: float = 0.9,
    seed: int = 0,
) -> Estimate:
    """From electrons that are put aside at random, and judge what is made of the others.

    Each electron is kept with the probability `share`. For Poisson's noise both parts are
    independent. The error is that of the denoiser with so many electrons fewer: too large; and
    where the noise is not Poisson's, the parts are related, and it is off either way.

    Parameters
    ----------
    raw : (t, y, x) array
        Counts.
    denoise : callable
        Counts to expected counts.
    share : float
        Of the electrons that are denoised.
    seed : int
        Of the choice.
    """
    y = np.asarray(raw)
    if not 0 < share < 1:
        raise InputError(f"share: got {share:g}, allowed is a number between 0 and 1")
    kept = np.random.default_rng(seed).binomial(y.astype(np.int64), share)
    put_aside = (y - kept) / (1 - share)
    f = np.asarray(denoise(kept), np.float64) / share
    return bootstrap_mean((put_aside - f) ** 2 - put_aside / (1 - share))


def from_blocks(raw: ArrayLike, denoise: Callable[[NDArray[Any]], ArrayLike]) -> Estimate:
    """From the four pixels of blocks of 2 x 2, as if their signals were equal.

    Denoises the movie of the upper left pixels alone, and so judges the denoiser at another
    magnification; too large where the signal changes from pixel to pixel.
    """
    y = np.asarray(raw)
    y = y[:, : y.shape[1] // 2 * 2, : y.shape[2] // 2 * 2]
    f = denoise(y[:, ::2, ::2])
    return from_copies(f, y[:, 1::2, 1::2], y[:, ::2, 1::2], y[:, 1::2, ::2])


def ring_correlation(first: ArrayLike, second: ArrayLike) -> tuple[Array, Array]:
    """Fourier ring correlation of two images: spatial frequency [1/px], correlation.

    In a Hann window, so that what the edges cut off does not leak into all rings. A denoiser that
    makes the same lattice of both halves correlates perfectly, whether it is there or not.
    """
    one, two = (np.asarray(v, np.float64) for v in (first, second))
    if one.shape != two.shape or one.ndim != 2:
        raise InputError(f"images: expected two of one shape, got {one.shape} and {two.shape}")
    window = np.hanning(one.shape[0])[:, None] * np.hanning(one.shape[1])
    a, b = (np.fft.fft2((v - v.mean()) * window) for v in (one, two))
    radius = np.hypot(np.fft.fftfreq(a.shape[0])[:, None], np.fft.fftfreq(a.shape[1]))
    edges = np.linspace(0, 0.5, RINGS + 1)
    ring = np.digitize(radius.ravel(), edges) - 1
    inside = ring < RINGS

    def ring_sums(values: Array) -> Array:
        sums = np.bincount(ring[inside], values.ravel()[inside], minlength=RINGS)
        return np.asarray(sums, np.float64)

    cross = ring_sums((a * b.conj()).real)
    norm = np.sqrt(ring_sums(np.abs(a) ** 2) * ring_sums(np.abs(b) ** 2))
    return 0.5 * (edges[1:] + edges[:-1]), cross / np.maximum(norm, 1e-30)
