"""What the counts of a frame say: the log-likelihood ratio of a column against none.

It is what `insitu.measure.states` reads, one number for each column and frame: of the electrons of
a disc (`disc_evidence`), of all its pixels, each with the weight it deserves, where pictures with
the column and without are known (`template_evidence`), or of an intensity (`normal_evidence`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu import InputError, checks
from insitu.counting.detector import Detector
from insitu.counting.poisson import Poisson
from insitu.measure.charts import series_of

Array = NDArray[np.float64]


def _weights(absent: Array, present: Array, detector: Detector | None) -> tuple[Array, Array]:
    """Log(theta_1 / theta_0) and log(Z_1 / Z_0) of each mean, log Z = -log P(0)."""
    for mean in (absent, present):
        if not np.all((mean > 0) & np.isfinite(mean)):
            raise InputError("absent, present: expected counts must be positive")
    tables = ((detector or Poisson()).table(m.ravel(), 1) for m in (absent, present))
    none, one = (np.log(table).reshape(*absent.shape, 2) for table in tables)
    partition = none[..., 0] - one[..., 0]
    return one[..., 1] - none[..., 1] + partition, partition


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
    theta, partition = _weights(m0, m1, detector)
    evidence = counts * theta[:, None] - (size * partition)[:, None]
    return np.nan_to_num(evidence)


def template_evidence(
    counts: ArrayLike,
    absent: ArrayLike,
    present: ArrayLike,
    detector: Detector | None = None,
) -> Array:
    """Log-likelihood ratio of a column against none, of windows of which both pictures are known.

    sum_p [k_p log(theta_1 / theta_0)_p - log(Z_1 / Z_0)_p] over the pixels p. It is the best that
    the counts of a window can say, and its square shift a frame is sum_p (m_1 - m_0)^2 / m_0 for
    small contrasts: the dark ring around a bright column counts as much as its middle.

    Parameters
    ----------
    counts : (n, t, y, x) array
        Windows around each column; NaN where a frame is lost, or a pixel.
    absent, present : (n, y, x) arrays
        Expected counts of the windows' pixels without the column and with it [e-/px].
    detector : Detector, optional
        Of the exponential family; Poisson's by default.

    Returns
    -------
    (n, t) array
        [nat]; what is lost says 0.

    Raises
    ------
    InputError
        If a mean is not positive, or the shapes do not fit.

    Examples
    --------
    >>> counts = np.array([[[[1, 2]], [[0, 0]]]])
    >>> template_evidence(counts, [[[0.5, 0.5]]], [[[0.6, 0.5]]]).round(2)
    array([[ 0.08, -0.1 ]])
    """
    k = np.asarray(counts)
    m0, m1 = (np.asarray(m, np.float64) for m in (absent, present))
    if k.ndim != 4 or not m0.shape == m1.shape == (len(k), *k.shape[2:]):
        raise InputError(
            f"counts, absent, present: expected windows (n, t, y, x) and (n, y, x), got {k.shape}, "
            f"{m0.shape} and {m1.shape}"
        )
    theta, partition = _weights(m0, m1, detector)
    lost = np.isnan(k)
    said = np.einsum("ntyx,nyx->nt", np.where(lost, 0, k), theta)
    return np.asarray(said - np.einsum("ntyx,nyx->nt", ~lost, partition))


def normal_evidence(
    values: ArrayLike, deviation: ArrayLike, absent: ArrayLike, present: ArrayLike
) -> Array:
    """Log-likelihood ratio of present against absent, of intensities with normal noise.

    (x - (m_0 + m_1) / 2) (m_1 - m_0) / sigma^2.

    Parameters
    ----------
    values : (n, t) array
        Such as the intensities of columns in a denoised movie; NaN where a frame is lost.
    deviation, absent, present : (n,) arrays or float
        sigma, m_0 and m_1, in the unit of the values.

    Returns
    -------
    (n, t) array
        [nat]; 0 where a frame is lost.

    Raises
    ------
    InputError
        If a deviation is not positive, or a value infinite.

    Examples
    --------
    >>> normal_evidence([[1.0, 1.4]], 0.2, absent=1.0, present=1.4).round(6)
    array([[-2.,  2.]])
    """
    x = series_of("values", values)
    m0, m1, s = (
        np.broadcast_to(np.asarray(v, float), len(x)) for v in (absent, present, deviation)
    )
    if not np.all(s > 0):
        raise InputError("deviation: must be positive")
    return np.nan_to_num((x - (m0 + m1)[:, None] / 2) * ((m1 - m0) / s**2)[:, None])
