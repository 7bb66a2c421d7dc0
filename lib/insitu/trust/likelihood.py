"""Whether an atom is in the data, or in the network.

A denoised image is a claim, and the counts are the evidence. The published map scores each blob of
the denoised image by the likelihood of the counts under it [1]_; it has no scale, and the electrons
that made the blob judge it, too. `ratio_test` asks the same of electrons that had no part in the
choice, and gives a probability, if the intensity without an atom is known; `ring_test` takes that
from the counts around it, and `supported` asks it of all atoms of a picture at once.

.. [1] J. L. Vincent et al., Microsc. Microanal. 27 (2021) 1431.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from skimage.feature import blob_log

from insitu import InputError, checks
from insitu.counting.detector import Detector, moments
from insitu.counting.poisson import Poisson
from insitu.trust import columns

Array = NDArray[np.float64]
RADIUS = 0.6  # of the disc in which electrons are counted [A]
RING = (1.2, 1.9)  # radii between which its background is taken [A]
EDGE = 2.2  # nearer to the edge an atom is not tested [A]


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
    *,
    sigmas: tuple[float, float],
    threshold: float = 0.05,
) -> Blobs:
    """The likelihood map as it was published, for Poisson's detector.

    Blobs are found in the denoised image by the Laplacian of a Gaussian, r = sqrt(2) sigma. With
    m_b the mean of the denoised image over a blob and m_vac that of vacuum, the score is the mean
    over the blob of log P(y | m_b) - log P(y | m_vac), of the noisy counts y:
    ybar log(m_b / m_vac) - (m_b - m_vac).

    Parameters
    ----------
    counts, denoised : (y, x) arrays
        Of one frame [e-/px].
    vacuum : float
        Mean count of vacuum [e-/px].
    sigmas : (float, float)
        Range of blob sizes [px].
    threshold : float
        Least strength of a blob, relative to the vacuum.
    """
    y, image = np.asarray(counts, np.float64), np.asarray(denoised, np.float64)
    if y.ndim != 2 or y.shape != image.shape:
        raise InputError(
            f"counts, denoised: expected two images of one shape, got {y.shape} and {image.shape}"
        )
    checks.positive("vacuum", vacuum, "electrons")
    found = blob_log(
        image / vacuum, min_sigma=sigmas[0], max_sigma=sigmas[1], num_sigma=8, threshold=threshold
    )
    positions, radius = found[:, :2], np.sqrt(2) * found[:, 2]
    (claimed, pixels), (electrons, _) = (disc_sums(v, positions, radius) for v in (image, y))
    intensity = claimed / pixels
    rise = np.log(np.maximum(intensity, 1e-6) / vacuum)
    score = electrons / pixels * rise - (intensity - vacuum)
    return Blobs(positions, radius, intensity, score)


class RatioTest(NamedTuple):
    """What the counts say of each candidate."""

    electrons: Array  # (n,) counted in the disc, in all frames
    expected: Array  # (n,) of them if there is no atom
    ratio: Array  # (n,) total log-likelihood ratio, atom against none [nat]
    p_value: Array  # (n,) probability of as many electrons or more without an atom
    intensity: Array  # (n,) of the disc, counted [e-/px and frame]
    error: Array  # (n,) its standard deviation


def ratio_test(
    counts: ArrayLike,
    positions: ArrayLike,
    radius: float,
    present: ArrayLike,
    absent: ArrayLike,
    detector: Detector | None = None,
    *,
    dark: bool = False,
    generator: np.random.Generator | None = None,
) -> RatioTest:
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
    dark : bool
        Atoms are darker than the background.
    generator : Generator, optional
        Spreads the p-value evenly over the chance of a tie, so that it is uniform although counts
        are whole numbers. Without it ties count against the atom.

    Raises
    ------
    InputError
        If a candidate lies outside, an intensity is not positive, or a count is NaN.

    Examples
    --------
    One disc holds what the vacuum gives, the other half as much again:

    >>> counts = np.full((10, 40, 40), 0.4)
    >>> counts[:, 20:] = 0.6
    >>> found = ratio_test(counts, [[10, 20], [30, 20]], 4, present=0.6, absent=0.4)
    >>> found.electrons.round(), found.p_value < 0.001
    (array([196., 294.]), array([False,  True]))
    """
    total, number, where = _summed(counts, positions)
    with_atom, without = (
        np.broadcast_to(np.asarray(v, np.float64), len(where)) for v in (present, absent)
    )
    if not len(where):
        return RatioTest(*(np.zeros(0) for _ in RatioTest._fields))
    if not (np.all(with_atom > 0) and np.all(without > 0)):
        raise InputError("present, absent: expected counts must be positive")
    detector = detector or Poisson()
    electrons, pixels = disc_sums(total, where, radius)
    pixels = pixels * float(number)
    upper = _tail(detector, electrons, pixels, without)
    above = _tail(detector, electrons + 1, pixels, without)
    p_value = _spread(upper, above, dark, generator)
    # log theta = log P(1) / P(0) and log Z = -log P(0), each up to one and the same constant
    log_p = np.log(np.stack([detector.table(m, 1) for m in (with_atom, without)]))
    theta, partition = log_p[:, :, 1] - log_p[:, :, 0], -log_p[:, :, 0]
    ratio = electrons * (theta[0] - theta[1]) - pixels * (partition[0] - partition[1])
    intensity = electrons / np.maximum(pixels, 1)
    variance = moments(detector, np.maximum(intensity, 1e-6)).variance
    return RatioTest(
        electrons,
        pixels * without,
        ratio,
        p_value,
        intensity,
        np.sqrt(variance / np.maximum(pixels, 1)),
    )


class RingTest(NamedTuple):
    """What the counts say of each candidate against its surroundings."""

    electrons: Array  # (n,) counted in the disc, in all frames
    expected: Array  # (n,) of them, if the disc is like the ring around it
    z: Array  # (n,) the excess in standard deviations
    p_value: Array  # (n,) of as many electrons or more (dark: or fewer), if they are alike


def ring_test(
    counts: ArrayLike,
    positions: ArrayLike,
    pixel_size: float,
    detector: Detector | None = None,
    *,
    dark: bool | NDArray[np.bool_] = False,
    generator: np.random.Generator | None = None,
) -> RingTest:
    """Test whether discs of 0.6 A hold more electrons than the rings from 1.2 to 1.9 A around them.

    Nothing of a denoised picture enters but the places. If disc and ring have one intensity, the
    electrons of N and M pixels are shared out by chance alone: for Poisson's counts K of the
    disc follows a binomial law of K + L electrons and the probability N / (N + M), whatever the
    intensity [1]_. For other detectors K - L N / M follows a gamma distribution with the right
    first three cumulants at the intensity of both.

    Parameters
    ----------
    counts : (y, x) or (t, y, x) array
        Electrons that had no part in the choice of the places.
    positions : (n, 2) array
        y and x of the middles [px].
    pixel_size : float
        [A].
    detector : Detector, optional
        Poisson's by default.
    dark : bool or (n,) array of bool
        Atoms, or which of them, are darker than their surroundings: the p-value is then that of
        as few electrons.
    generator : Generator, optional
        Spreads the p-value evenly over the chance of a tie; without it ties count against the
        atom.

    Raises
    ------
    InputError
        If a place lies outside, or a count is NaN.

    Examples
    --------
    An atom in the middle, and none beside it:

    >>> y, x = np.mgrid[:40, :60]
    >>> clean = 0.5 + 0.4 * np.exp(-((y - 20) ** 2 + (x - 20) ** 2) / 8)
    >>> counts = np.random.default_rng(0).poisson(clean, (40, 40, 60))
    >>> ring_test(counts, [[20, 20], [20, 40]], 0.25).p_value < 0.001
    array([ True, False])

    .. [1] J. Przyborowski, H. Wilenski, Biometrika 31 (1940) 313.
    """
    total, number, where = _summed(counts, positions)
    radii = (RADIUS, *RING)
    (electrons, n), (hole, h), (wide, w) = (disc_sums(total, where, r / pixel_size) for r in radii)
    around, m = wide - hole, (w - h).astype(float)
    both, share = electrons + around, n / (n + m)
    if detector is None or isinstance(detector, Poisson):
        deviation = np.sqrt(both * share * (1 - share))
        law = stats.binom(np.rint(both), share)
        upper, above = law.sf(electrons - 1), law.sf(electrons)
    else:
        # of K (1 - share) - L share
        _, second, third = moments(detector, np.maximum(both / (n + m) / number, 1e-6))
        weights = (1 - share) ** 2 * n + share**2 * m, (1 - share) ** 3 * n - share**3 * m
        deviation = np.sqrt(number * second * weights[0])
        skewness = number * third * weights[1] / np.maximum(deviation, 1e-9) ** 3
        upper, above = (
            stats.pearson3.sf(
                (electrons - both * share + tie * (1 - share)) / np.maximum(deviation, 1e-9),
                skewness,
            )
            for tie in (-0.5, 0.5)
        )
    z = (electrons - both * share) / np.maximum(deviation, 1e-9)
    return RingTest(electrons, both * share, z, _spread(upper, above, dark, generator))


def supported(
    counts: ArrayLike,
    positions: ArrayLike,
    pixel_size: float,
    detector: Detector | None = None,
    *,
    rate: float = 0.02,
    dark: bool | NDArray[np.bool_] = False,
) -> tuple[NDArray[np.bool_], RingTest]:
    """Which atoms of a denoised picture other electrons support: `discoveries` by `ring_test`.

    At most `rate` of them are expected to be false. It is 2 %, because beside true columns, which
    pass, more false ones pass, and the ring of a vacant place at a surface holds a little less
    than its disc.
    """
    found = ring_test(counts, positions, pixel_size, detector, dark=dark)
    return discoveries(found.p_value, rate), found


def _summed(counts: ArrayLike, positions: ArrayLike) -> tuple[Array, int, Array]:
    """Sum of all frames, their number, and the places, if all are usable."""
    frames = np.asarray(counts)
    if frames.ndim not in (2, 3):
        raise InputError(f"counts: expected an image or a movie, got the shape {frames.shape}")
    number = 1 if frames.ndim == 2 else len(frames)
    total = np.asarray(frames if frames.ndim == 2 else frames.sum(0), np.float64)
    where = np.asarray(positions, np.float64).reshape(-1, 2)
    if len(where) and ((where < 0) | (where > np.array(total.shape) - 1)).any():
        raise InputError(f"positions: one lies outside the frame of {total.shape} pixels")
    checks.finite("counts", total)
    return total, number, where


def _spread(
    upper: Array,
    above: Array,
    dark: bool | NDArray[np.bool_],
    generator: np.random.Generator | None,
) -> Array:
    """p-value between P(K >= k) and P(K > k), of the other tail for dark atoms."""
    share = 1.0 if generator is None else generator.random(len(upper))
    tie = upper - above
    return np.clip(np.where(dark, 1 - upper, above) + share * tie, 0, 1)


def disc_sums(image: ArrayLike, positions: ArrayLike, radius: ArrayLike) -> tuple[Array, Array]:
    """Sum of an image over discs around positions, and the pixels in each; radius in pixels."""
    values = np.asarray(image, np.float64)
    where = np.asarray(positions, np.float64).reshape(-1, 2)
    each = np.broadcast_to(np.asarray(radius, float), len(where))
    rows, across, mask = columns.discs(where, each, values.shape)
    return (values[rows, across] * mask).sum((1, 2)), mask.sum((1, 2))


def discoveries(p_values: ArrayLike, rate: float = 0.05) -> NDArray[np.bool_]:
    """Which candidates are claimed if at most `rate` of the claims may be false [1]_.

    .. [1] Y. Benjamini, Y. Hochberg, J. R. Stat. Soc. B 57 (1995) 289.

    Examples
    --------
    >>> discoveries([0.001, 0.02, 0.6, 0.9])
    array([ True,  True, False, False])
    """
    p = np.asarray(p_values, np.float64)
    return np.asarray(stats.false_discovery_control(p) <= rate) if p.size else np.zeros(0, bool)


def d_prime(absent: float, present: float, pixels: int, frames: int = 1) -> float:
    """Shift of the sum of Poisson's counts by an atom, in standard deviations without one.

    d' = (m_1 - m_0) sqrt(N / m_0).
    """
    return float((present - absent) * np.sqrt(pixels * frames / absent))


def power(absent: float, present: float, pixels: int, rate: float, frames: int = 1) -> float:
    """Probability that an atom has a p-value below `rate`, ties being spread; Poisson's detector.

    With many electrons it is Phi(d' - z), z being the normal quantile of 1 - rate.
    """
    without, with_atom = (pixels * frames * m for m in (absent, present))
    top = max(without, with_atom)
    k = np.arange(int(top + 10 * np.sqrt(top) + 10) + 2, dtype=np.float64)
    false, true = (stats.poisson.sf(k - 1, mean) for mean in (without, with_atom))
    first = int(np.argmax(false <= rate))  # as many or more electrons pass for certain
    answer = true[first]
    if first:
        tie = (rate - false[first]) / (false[first - 1] - false[first])
        answer += tie * (true[first - 1] - true[first])
    return float(answer)


def _tail(detector: Detector, electrons: Array, pixels: Array, mean: Array) -> Array:
    """P(K >= electrons), K the sum of `pixels` counts of that mean."""
    if isinstance(detector, Poisson):
        return np.asarray(stats.poisson.sf(electrons - 1, pixels * mean))
    _, second, third = moments(detector, mean)
    variance = pixels * second
    # a gamma distribution of shape 4 / skewness^2, moved and scaled
    z = (electrons - 0.5 - pixels * mean) / np.sqrt(variance)
    return np.asarray(stats.pearson3.sf(z, pixels * third / variance**1.5))
