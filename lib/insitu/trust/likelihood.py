"""Whether an atom is in the data, or in the network.

A denoised image is a claim, and the counts are the evidence. The published map scores each blob of
the denoised image by the likelihood of the counts under it [1]_; it has no scale, and the electrons
that made the blob judge it, too. `judge` asks the same of electrons that had no part in the
choice, and gives a probability.

.. [1] J. L. Vincent et al., Microsc. Microanal. 27 (2021) 1431.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from skimage.feature import blob_log
from torch import Tensor

from insitu import InputError
from insitu.counting.poisson import Poisson

Array = NDArray[np.float64]


class Detector(Protocol):
    """What is asked of a detector here."""

    def log_prob(self, counts: Tensor, intensity: Tensor) -> Tensor:
        """Log-likelihood of each count [nat]."""

    def table(self, means: ArrayLike, largest: int) -> Array:
        """P(k | m), shape (means, largest + 1)."""


class Blobs(NamedTuple):
    """Blobs of a denoised image, with the published score."""

    positions: Array  # (n, 2), y and x [px]
    radius: Array  # (n,) [px]
    intensity: Array  # (n,) mean of the denoised image in the blob [e-/px]
    score: Array  # (n,) mean log-likelihood ratio of blob against vacuum [nat/px]


def published_map(
    counts: ArrayLike,
    denoised: ArrayLike,
    vacuum: float,
    detector: Detector | None = None,
    *,
    sigmas: tuple[float, float] = (2.0, 8.0),
    threshold: float = 0.05,
) -> Blobs:
    """The likelihood map as it was published.

    Blobs are found in the denoised image by the Laplacian of a Gaussian, r = sqrt(2) sigma. With
    m_b the mean of the denoised image over a blob and m_vac that of vacuum, the score is the mean
    over the blob of log P(y | m_b) - log P(y | m_vac), of the noisy counts y. For Poisson's
    detector that is ybar log(m_b / m_vac) - (m_b - m_vac).

    Parameters
    ----------
    counts, denoised : (y, x) arrays
        Of one frame [e-/px].
    vacuum : float
        Mean count of vacuum [e-/px].
    detector : Detector, optional
        Poisson's by default.
    sigmas : (float, float)
        Range of blob sizes [px].
    threshold : float
        Least strength of a blob, relative to the vacuum.
    """
    y, image = _alike(counts, denoised)
    if not vacuum > 0:
        raise InputError(f"vacuum: got {vacuum:g}, allowed is a positive number of electrons")
    found = blob_log(
        image / vacuum, min_sigma=sigmas[0], max_sigma=sigmas[1], num_sigma=8, threshold=threshold
    )
    positions, radius = found[:, :2], np.sqrt(2) * found[:, 2]
    window, mask = _discs(positions, radius, y.shape)
    inside = mask.sum((1, 2))
    intensity = (image[window] * mask).sum((1, 2)) / inside
    ratio = _log_ratio(y[window], intensity[:, None, None], vacuum, detector or Poisson())
    return Blobs(positions, radius, intensity, (ratio * mask).sum((1, 2)) / inside)


class Verdicts(NamedTuple):
    """What the counts say of each candidate."""

    electrons: Array  # (n,) counted in the disc, in all frames
    expected: Array  # (n,) of them if there is no atom
    ratio: Array  # (n,) total log-likelihood ratio, atom against none [nat]
    p_value: Array  # (n,) probability of as many electrons or more without an atom
    intensity: Array  # (n,) of the disc, counted [e-/px and frame]
    error: Array  # (n,) its standard deviation


def judge(
    counts: ArrayLike,
    positions: ArrayLike,
    radius: float,
    present: ArrayLike,
    absent: ArrayLike,
    detector: Detector | None = None,
    *,
    absent_error: ArrayLike = 0.0,
    dark: bool = False,
    generator: np.random.Generator | None = None,
) -> Verdicts:
    """Test whether there is more than the background at candidates.

    For a detector of the exponential family, P(k | m) = w_k theta^k / (k! Z), the log-likelihood
    ratio of two intensities that are even over a disc is K log(theta_1 / theta_0) - N log(Z_1 /
    Z_0): only the sum K of the counts of all N pixels and frames matters, and the p-value needs
    the intensity without an atom alone. It is exact for Poisson's detector; for others K follows
    a gamma distribution with the right first three cumulants.

    The p-values are uniform without an atom only if the candidates were chosen by *other*
    electrons: other frames, or a thinned half.

    Parameters
    ----------
    counts : (y, x) or (t, y, x) array
        Electrons that had no part in choosing the candidates.
    positions : (n, 2) array
        y and x of the middles [px].
    radius : float
        Of the discs [px].
    present, absent : (n,) arrays or float
        Expected counts of a disc's pixel in a frame, with the atom and without [e-/px].
    detector : Detector, optional
        Poisson's by default.
    absent_error : (n,) array or float
        Standard error of `absent` [e-/px].
    dark : bool
        Atoms are darker than the background.
    generator : Generator, optional
        Spreads the p-value evenly over the chance of a tie, so that it is uniform although counts
        are whole numbers. Without it ties count against the atom.

    Raises
    ------
    InputError
        If a candidate lies outside, or an intensity is not positive.
    """
    frames = np.asarray(counts)
    if frames.ndim not in (2, 3):
        raise InputError(f"counts: expected an image or a movie, got the shape {frames.shape}")
    number = 1 if frames.ndim == 2 else len(frames)
    total = frames if frames.ndim == 2 else frames.sum(0, dtype=np.float64)
    where = np.asarray(positions, np.float64).reshape(-1, 2)
    if len(where) and ((where < 0) | (where > np.array(total.shape) - 1)).any():
        raise InputError(f"positions: one lies outside the frame of {total.shape} pixels")
    with_atom, without, doubt = (
        np.broadcast_to(np.asarray(v, np.float64), len(where))
        for v in (present, absent, absent_error)
    )
    if not np.isfinite(total).all():
        raise InputError("counts: some are NaN or infinite; replace or crop them")
    if not len(where):
        return Verdicts(*(np.zeros(0) for _ in Verdicts._fields))
    if not (np.all(with_atom > 0) and np.all(without > 0)):
        raise InputError("present, absent: expected counts must be positive")
    detector = detector or Poisson()
    window, mask = _discs(where, np.full(len(where), float(radius)), total.shape)
    electrons = (total[window] * mask).sum((1, 2))
    pixels = mask.sum((1, 2)) * float(number)
    upper = _tail(detector, electrons, pixels, without, doubt)
    above = _tail(detector, electrons + 1, pixels, without, doubt)
    tie = upper - above
    share = 1.0 if generator is None else generator.random(len(where))
    p_value = 1 - upper + share * tie if dark else above + share * tie
    theta = [_log_theta(detector, m) for m in (with_atom, without)]
    partition = [_log_partition(detector, m) for m in (with_atom, without)]
    ratio = electrons * (theta[0] - theta[1]) - pixels * (partition[0] - partition[1])
    intensity = electrons / np.maximum(pixels, 1)
    _, variance, _ = cumulants(detector, np.maximum(intensity, 1e-6))
    return Verdicts(
        electrons,
        pixels * without,
        ratio,
        np.clip(p_value, 0, 1),
        intensity,
        np.sqrt(variance / np.maximum(pixels, 1)),
    )


def background(
    image: ArrayLike, positions: ArrayLike, inner: float, outer: float
) -> tuple[Array, Array]:
    """Median and rough standard error of an image in rings around positions [px].

    The error takes the pixels of a ring for independent and its structure for noise.
    """
    values = np.asarray(image, np.float64)
    where = np.asarray(positions, np.float64).reshape(-1, 2)
    window, disc = _discs(where, np.full(len(where), outer), values.shape)
    hole = _within(window, where, np.full(len(where), inner))
    ring = disc & ~hole
    cut = np.where(ring, values[window], np.nan)
    median = np.nanmedian(cut, axis=(1, 2))
    spread = np.nanstd(cut, axis=(1, 2)) / np.sqrt(np.maximum(ring.sum((1, 2)), 1))
    return median, spread


def discoveries(p_values: ArrayLike, rate: float = 0.05) -> NDArray[np.bool_]:
    """Which candidates are claimed if at most `rate` of the claims may be false [1]_.

    .. [1] Y. Benjamini, Y. Hochberg, J. R. Stat. Soc. B 57 (1995) 289.
    """
    p = np.asarray(p_values, np.float64)
    return np.asarray(stats.false_discovery_control(p) <= rate) if p.size else np.zeros(0, bool)


def d_prime(
    absent: float, present: float, pixels: int, frames: int = 1, detector: Detector | None = None
) -> float:
    """Shift of the sum of counts by an atom, in standard deviations without one.

    d' = (m_1 - m_0) sqrt(N / v(m_0)), v being the variance of a count: m_0 for Poisson's.
    """
    _, variance, _ = cumulants(detector or Poisson(), np.array([absent]))
    return float((present - absent) * np.sqrt(pixels * frames / variance[0]))


def power(
    absent: float,
    present: float,
    pixels: int,
    rate: float,
    frames: int = 1,
    detector: Detector | None = None,
) -> float:
    """Probability that an atom has a p-value below `rate`, ties being spread.

    With many electrons it is Phi(d' - z), z being the normal quantile of 1 - rate.
    """
    detector = detector or Poisson()
    n = np.array([float(pixels * frames)])
    _, variance, _ = cumulants(detector, np.array([absent, present]))
    top = n[0] * max(absent, present) + 10 * np.sqrt(n[0] * variance.max()) + 10
    k = np.arange(int(top) + 2, dtype=np.float64)
    many, sure = np.full(len(k), n[0]), np.zeros(len(k))
    without, with_atom = (
        _tail(detector, k, many, np.full(len(k), m), sure) for m in (absent, present)
    )
    first = int(np.argmax(without <= rate))  # as many or more electrons pass for certain
    answer = with_atom[first]
    if first:
        tie = (rate - without[first]) / (without[first - 1] - without[first])
        answer += tie * (with_atom[first - 1] - with_atom[first])
    return float(answer)


def cumulants(detector: Detector, means: ArrayLike) -> tuple[Array, Array, Array]:
    """Mean, variance and third central moment of a count, each of the shape of `means`."""
    m = np.atleast_1d(np.asarray(means, np.float64))
    top = float(m.max(initial=0.0))
    k = np.arange(int(top + 12 * np.sqrt(top + 1)) + 2, dtype=np.float64)
    p = detector.table(m.ravel(), len(k) - 1)
    k = k[: p.shape[1]]
    first = p @ k
    away = k - first[:, None]
    moments = first, (p * away**2).sum(1), (p * away**3).sum(1)
    return tuple(value.reshape(m.shape) for value in moments)  # type: ignore[return-value]


def _tail(detector: Detector, electrons: Array, pixels: Array, mean: Array, doubt: Array) -> Array:
    """P(K >= electrons), K the sum of `pixels` counts of that mean."""
    certain = doubt == 0
    answer = np.empty(len(electrons))
    exact = certain & isinstance(detector, Poisson)
    answer[exact] = stats.poisson.sf(electrons[exact] - 1, (pixels * mean)[exact])
    rest = ~exact
    if rest.any():
        _, second, third = cumulants(detector, mean[rest])
        n = pixels[rest]
        variance = n * second + (n * doubt[rest]) ** 2
        skewness = n * third / variance**1.5
        # a gamma distribution of shape 4 / skewness^2, moved and scaled
        z = (electrons[rest] - 0.5 - n * mean[rest]) / np.sqrt(variance)
        answer[rest] = stats.pearson3.sf(z, skewness)
    return answer


def _log_theta(detector: Detector, mean: Array) -> Array:
    """Log theta of P(k | m) = w_k theta^k / (k! Z), up to a constant: log P(1) / P(0)."""
    p = detector.table(mean, 1)
    return np.asarray(np.log(p[:, 1] / p[:, 0]))


def _log_partition(detector: Detector, mean: Array) -> Array:
    """Log Z, up to the same constant: - log P(0)."""
    return np.asarray(-np.log(detector.table(mean, 1)[:, 0]))


def _log_ratio(counts: Array, present: Array, absent: float, detector: Detector) -> Array:
    def log_prob(mean: Any) -> Array:
        whole = np.broadcast_to(np.asarray(mean, np.float32), counts.shape)
        values = detector.log_prob(
            torch.from_numpy(np.ascontiguousarray(counts, np.float32)),
            torch.from_numpy(np.ascontiguousarray(whole)).clamp(min=1e-6),
        )
        return values.double().numpy()

    return log_prob(present) - log_prob(absent)


def _discs(
    positions: Array, radius: Array, shape: tuple[int, ...]
) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], NDArray[np.bool_]]:
    """Indices (n, w, w) of windows around positions, and which of their pixels are in the disc."""
    reach = int(np.ceil(radius.max())) if len(radius) else 0
    steps = np.arange(-reach, reach + 1)
    rows, columns = (np.rint(positions[:, k]).astype(int)[:, None] + steps for k in (0, 1))
    y, x = rows[:, :, None], columns[:, None, :]
    valid = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    window = (
        np.broadcast_to(y.clip(0, shape[0] - 1), valid.shape),
        np.broadcast_to(x.clip(0, shape[1] - 1), valid.shape),
    )
    distance = np.hypot(y - positions[:, 0, None, None], x - positions[:, 1, None, None])
    return window, valid & (distance <= radius[:, None, None])


def _within(window: tuple[Any, Any], positions: Array, radius: Array) -> NDArray[np.bool_]:
    y, x = (w - positions[:, k, None, None] for k, w in enumerate(window))
    return np.asarray(np.hypot(y, x) <= radius[:, None, None])


def _alike(counts: ArrayLike, denoised: ArrayLike) -> tuple[Array, Array]:
    y, image = np.asarray(counts, np.float64), np.asarray(denoised, np.float64)
    if y.ndim != 2 or y.shape != image.shape:
        raise InputError(
            f"counts, denoised: expected two images of one shape, got {y.shape} and {image.shape}"
        )
    return y, image
