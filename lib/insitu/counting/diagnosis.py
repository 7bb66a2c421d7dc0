"""What one should know of a movie's noise before trusting a denoiser with it, in words."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from insitu import InputError
from insitu.counting import noise
from insitu.counting.poisson import Poisson

FANO_TOLERANCE = 0.02  # a Fano factor this near to 1 counts as Poisson
FANO_OF_COUNTS = (0.2, 2.0)  # outside, values are grey levels rather than electrons
CORRELATION = 0.02  # a smaller correlation of the noise does not matter to a denoiser
_REACH = 3  # pixels


class Finding(NamedTuple):
    """One question, answered."""

    question: str
    answer: str  # in words
    measured: str
    threshold: str
    good: bool


def diagnose(
    counts: ArrayLike,
    mean: ArrayLike,
    *,
    pixel_size: float | None = None,
    vacuum: tuple[slice, slice] | None = None,
) -> list[Finding]:
    """Answer five questions about a movie.

    Blank frames (`noise.blank_frames`) are left out of all answers, and then named in a sixth.

    Parameters
    ----------
    counts : (t, y, x) array
        As `noise.as_counts` returns it.
    mean : (t, y, x) array
        Expected counts, as `noise.leave_one_out_mean` returns them.
    pixel_size : float, optional
        [A].
    vacuum : (slice, slice), optional
        Rows and columns where there is no specimen; by default `noise.flattest_box`.

    Returns
    -------
    list of Finding
        Are they counts, are they Poisson, is the noise white in space, in time, and what is the
        dose. If there are blank frames: which.

    Raises
    ------
    InputError
        If fewer than two frames are not blank.

    Examples
    --------
    >>> counts = noise.as_counts(np.random.default_rng(0).poisson(0.8, (20, 48, 48)))
    >>> mean = noise.leave_one_out_mean(counts)
    >>> for finding in diagnose(counts, mean, pixel_size=0.24)[:3]:
    ...     print(finding.question, finding.answer)
    Are these electron counts? Yes: whole numbers whose variance is near their mean.
    Is the noise Poisson? Yes, as far as a denoiser is concerned.
    Is the noise independent from pixel to pixel? Yes: a blind spot of one pixel is enough.
    """
    k = np.asarray(counts)
    blank = noise.blank_frames(k)
    if len(blank):
        kept = np.delete(k, blank, axis=0)
        if len(kept) < 2:
            raise InputError(f"movie: {len(blank)} of {len(k)} frames are blank; give 2 or more")
        # the mean that was given has the blank frames in it
        found = diagnose(kept, noise.leave_one_out_mean(kept), pixel_size=pixel_size, vacuum=vacuum)
        return [*found, _blank(k, blank)]
    histogram = noise.histogram_by_mean(k, mean)
    bin_mean, variance = noise.histogram_moments(histogram)
    fano = variance / np.maximum(bin_mean, 1e-9)
    first, in_time = _are_counts(k, fano), _is_white_in_time(k)
    poisson = [_is_poisson(histogram, fano, in_time.good)] if first.good else []
    return [first, *poisson, _is_white(k), in_time, _dose(k, pixel_size, vacuum)]


def _blank(k: np.ndarray, blank: np.ndarray) -> Finding:
    named = ", ".join(map(str, blank[:20])) + (", ..." if len(blank) > 20 else "")
    frames, be, them = ("Frame", "is", "it") if len(blank) == 1 else ("Frames", "are", "them")
    total = k.sum((1, 2), dtype=np.float64)
    return Finding(
        "Are there blank frames?",
        f"{frames} {named} (the first is 0) {be} blank, as behind a closed shutter, and left out "
        f"of all answers; leave {them} out of what you denoise, too.",
        f"{total[blank].max():.0f} electrons at most, median frame {np.median(total):.0f}",
        "less than a tenth of the median frame's",
        False,
    )


def _are_counts(k: np.ndarray, fano: np.ndarray) -> Finding:
    step = int(np.gcd.reduce(np.diff(np.unique(k))))
    low, high = FANO_OF_COUNTS
    good = step == 1 and low < float(np.median(fano)) < high
    if good:
        answer = "Yes: whole numbers whose variance is near their mean."
    elif step > 1:
        answer = f"No: values come in steps of {step}, not of 1; undo the gain and look again."
    else:
        answer = "No: the variance does not go with the mean; these are grey levels."
    return Finding(
        "Are these electron counts?",
        answer,
        f"values {k.min()} to {k.max()} in steps of {step}, Fano factor {np.median(fano):.2f}",
        f"steps of 1, Fano factor {low:g} to {high:g}",
        good,
    )


def _is_poisson(histogram: noise.Histogram, fano: np.ndarray, independent_frames: bool) -> Finding:
    p = noise.g_test(histogram, Poisson()).p_value
    shown_p = "< 1e-6" if p < 1e-6 else f"= {p:.3g}"
    good = abs(float(np.median(fano)) - 1) <= FANO_TOLERANCE
    if good:
        answer = "Yes, as far as a denoiser is concerned."
    elif not independent_frames:
        answer = (
            "No; but frames share noise or the scene changes (see below), which alone does that."
        )
    elif np.median(fano) < 1:
        answer = "No: sub-Poisson, as when electrons that arrive together are counted once."
    else:
        answer = "No: super-Poisson; one electron gives several counts, or the specimen moves."
    return Finding(
        "Is the noise Poisson?",
        answer,
        f"Fano factor {fano.min():.3f} to {fano.max():.3f}; G-test p {shown_p}",
        f"Fano factor within {FANO_TOLERANCE:g} of 1, which decides; p is for information",
        good,
    )


def _is_white(k: np.ndarray) -> Finding:
    correlation = noise.autocorrelation(k, reach=_REACH)
    correlation[_REACH, _REACH] = 0
    largest = float(np.abs(correlation).max())
    error = np.sqrt(1.5 / k[1:].size)  # differences overlap, hence 1.5
    limit = max(CORRELATION, 4 * error)
    good = largest <= limit
    no = "No: neighbours share noise; a blind spot must hide them too."
    return Finding(
        "Is the noise independent from pixel to pixel?",
        "Yes: a blind spot of one pixel is enough." if good else no,
        f"largest correlation {largest:.4f} within {_REACH} px, standard error {error:.4f}",
        f"at most {limit:.3f}",
        good,
    )


def _is_white_in_time(k: np.ndarray) -> Finding:
    rho = noise.temporal_correlation(k)
    limit = max(CORRELATION, 4 / np.sqrt(k[2:].size or 1))
    good = abs(rho) <= limit  # never of nan
    if np.isnan(rho):
        answer = "Cannot be told from two frames."
    elif good:
        answer = "Yes: a frame's neighbours carry fresh electrons."
    else:
        answer = "No: frames share noise (a lagging detector or interpolated frames)."
    return Finding(
        "Is it independent from frame to frame?",
        answer,
        f"correlation {rho:.4f}",
        f"at most {limit:.3f}",
        good,
    )


def _dose(k: np.ndarray, pixel_size: float | None, vacuum: tuple[slice, slice] | None) -> Finding:
    rows, columns = vacuum or noise.flattest_box(k)
    empty = k[:, rows, columns].astype(float)
    mean, spread = float(empty.mean()), float(empty.std())
    dose = f", {mean / pixel_size**2:.1f} e-/A^2" if pixel_size else "; pixel size not known"
    ratio = mean / max(spread, 1e-9)
    given = "given" if vacuum else "flattest; is it empty?"
    return Finding(
        "What is the dose in vacuum?",
        f"Counted: {mean:.3f} electrons per pixel and frame{dose}; SNR {ratio:.2f}.",
        f"{mean:.3f} +- {spread:.3f} e-/px in rows {rows.start} to {rows.stop}, "
        f"columns {columns.start} to {columns.stop} ({given})",
        "none",
        True,
    )
