"""What the values of a movie are: electrons, electrons times a gain, or grey levels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from insitu.counting import noise
from insitu.counting.diagnosis import FANO_OF_COUNTS, Finding

QUESTION = "Are these electron counts?"
SAMPLE = 400_000  # values that are looked at
CLUSTERED = 0.75  # least coherence of values that pile up in equal steps
NEAR, SHARE = 0.25, 0.97  # of them so many lie within so much of a step
LARGEST = 10_000  # mean of counts


class Values(NamedTuple):
    """A movie, as electrons where its values tell them."""

    kind: str  # counts, scaled or grey
    frames: NDArray[Any]  # (t, y, x) whole electrons, or the values as they were
    finding: Finding
    step: float = 1.0  # of scaled values: what one electron is
    offset: float = 0.0  # what none is


def values_of(frames: NDArray[Any]) -> Values:
    """Tell what the values of a movie are, and undo a gain where that can be done exactly.

    Whole numbers in steps of 1 whose variance goes with their mean, from 0 on, are *counts*.
    Values that pile up at o, o + s, o + 2 s, ... are counts that were *scaled*: by one gain for
    all pixels, or into grey levels. The step is that of the largest coherence
    |<exp(2 pi i v / s)>|, and the offset its phase. Or each pixel has a gain of its own, and its
    values are multiples of that. Rounded to whole steps they are counts again, if 97 % of them lie
    within a quarter of a step. Everything else is *grey*: an electron has no value of its own.

    Parameters
    ----------
    frames : (t, y, x) array
        Finite values; without blank frames and broken pixels.

    Examples
    --------
    >>> counts = np.random.default_rng(0).poisson(0.8, (20, 48, 48))
    >>> values_of(counts).kind, round(values_of(counts * 57.7 + 15).step, 1)
    ('counts', 57.7)
    >>> values_of(np.random.default_rng(0).normal(400, 30, (20, 48, 48))).kind
    'grey'
    """
    few = frames.ravel()[:: max(1, frames.size // SAMPLE)].astype(np.float64)
    if few.min() >= 0 and few.mean() < LARGEST and (frames == np.rint(frames)).all():
        counts = frames.astype(np.int32)
        if int(np.gcd.reduce(np.unique(counts))) == 1 and _like_electrons(counts):
            return Values("counts", counts, _counted(counts))
    for step, offset in _steps(frames, few):
        scaled = (frames - offset) / step
        counts = np.maximum(np.rint(scaled), 0).astype(np.int32)
        share = float((np.abs(scaled - counts) <= NEAR).mean())
        if share >= SHARE and counts.any() and _like_electrons(counts):
            finding = _scaled(np.asarray(step), offset, share, counts)
            return Values("scaled", counts, finding, float(np.median(step)), offset)
    return Values("grey", frames, _grey(frames))


def _fano(counts: NDArray[Any]) -> float:
    """Variance over mean, as differences from frame to frame tell it, or within one frame."""
    steps = np.diff(counts.astype(np.float32), axis=0 if len(counts) > 1 else 2)
    return float(np.square(steps).mean(dtype=np.float64) / 2 / max(counts.mean(), 1e-9))


def _like_electrons(counts: NDArray[Any]) -> bool:
    """Whether the variance is near the mean, and goes with it from 0 on."""
    low, high = FANO_OF_COUNTS
    if not low < _fano(counts) < high:
        return False
    if len(counts) < 2:
        return True
    slope, start, wide = _transfer(counts)
    return start < 0.3 * counts.mean() if slope else not wide


def _steps(frames: NDArray[Any], few: NDArray[np.float64]) -> Iterator[tuple[Any, float]]:
    """Steps in which values may pile up, and where the first pile is."""
    step, offset = _common_step(few)
    if step:
        yield step, offset
    gains = _steps_of_pixels(frames, few)
    if gains is not None:
        yield gains, 0.0


def _common_step(few: NDArray[np.float64]) -> tuple[float, float]:
    """The step in which all values pile up, and where the first pile is; zeros if there is none.

    The coherence at all steps at once is the Fourier transform of the histogram.
    """
    low, high = np.percentile(few, (0.05, 99.95))
    if not high > low:
        return 0.0, 0.0
    bins, pad = 4096, 16
    heights, _ = np.histogram(few, bins, (low, high))
    coherence = np.abs(np.fft.rfft(heights, pad * bins)) / heights.sum()
    # n steps in the range of values; of a smooth heap a few wide ones are coherent, too
    fewest = 0.9 if len(np.unique(few[:20_000])) <= 8 else 1.7
    first, last = int(fewest * pad), 128 * pad
    peaks, _ = signal.find_peaks(coherence[: last + 1])
    peaks = peaks[(peaks >= first) & (coherence[peaks] >= CLUSTERED)]
    if not len(peaks):
        return 0.0, 0.0
    best = peaks[coherence[peaks] >= 0.97 * coherence[peaks].max()][0]
    step = (high - low) / best * pad
    for _ in range(3):  # the straight line through the piles
        phase = float(np.angle(np.exp(2j * np.pi * few / step).mean())) / (2 * np.pi) * step
        number = np.rint((few - phase) / step)
        if not np.ptp(number):
            return 0.0, 0.0
        step = float(np.polyfit(number, few, 1)[0])
    if abs(phase) < 0.03 * step:
        return step, 0.0
    return step, phase + step * float(np.rint((low - phase) / step))


def _steps_of_pixels(frames: NDArray[Any], few: NDArray[np.float64]) -> NDArray[Any] | None:
    """The step of each pixel (y, x), where values are multiples of a gain that it has alone."""
    if len(frames) < 8 or few.min() < 0:
        return None
    usual, _, _ = _transfer(frames)
    if not usual > 0:
        return None
    some = frames[:: max(1, len(frames) // 32)].astype(np.float32)
    off = np.full(frames.shape[1:], np.inf, np.float32)
    step = np.full(frames.shape[1:], usual, np.float32)
    for trial in usual * np.linspace(0.7, 1.45, 151, dtype=np.float32):
        scaled = some / trial
        miss = np.abs(scaled - np.rint(scaled)).mean(0)
        better = miss < off
        off[better], step[better] = miss[better], trial
    number = np.rint(some / step)
    told = np.square(number).sum(0)
    return np.where(told > 0, (number * some).sum(0) / np.maximum(told, 1), usual)


def _counted(counts: NDArray[Any]) -> Finding:
    answer = "Yes: whole numbers whose variance goes with their mean."
    measured = f"values {counts.min()} to {counts.max()}, variance over mean {_fano(counts):.2f}"
    return Finding(QUESTION, answer, measured, _threshold(), True)


def _scaled(step: NDArray[Any], offset: float, share: float, counts: NDArray[np.int32]) -> Finding:
    if step.ndim:
        low, high = np.percentile(step, (5, 95))
        steps = f"{low:.4g} to {high:.4g}, other from pixel to pixel,"
    else:
        steps = f"{float(step):.4g}" + (f", from {offset:.4g} on," if offset else ",")
    answer = (
        f"They were: values pile up in steps of {steps} one for each electron. Rounded to whole "
        "steps they are counts again, and are taken so."
    )
    measured = (
        f"{share:.1%} within a quarter of a step; then variance over mean {_fano(counts):.2f}"
    )
    return Finding(QUESTION, answer, measured, f"{SHARE:.0%}; {_threshold()}", True)


def _threshold() -> str:
    low, high = FANO_OF_COUNTS
    return f"variance over mean {low:g} to {high:g}"


def _grey(frames: NDArray[Any]) -> Finding:
    """Grey levels, and what an electron would be if their noise were that of electrons."""
    answer = "No: these are grey levels, in which an electron has no value of its own."
    threshold = "whole steps, and a variance that goes with the mean"
    low = float(frames.min())
    if len(frames) < 2:
        return Finding(QUESTION, answer, "one frame", threshold, False)
    slope, start, _ = _transfer(frames)
    if slope > 0:
        measured = (
            f"variance rises by {slope:.3g} for each level above {start:.4g}, so that an electron "
            "is about as many levels, if the camera does not spread it over pixels"
        )
    else:
        measured = "the variance does not rise with the mean: rendered, normalised or filtered"
    if low < 0:
        answer += f" Values down to {low:.4g} say that a background was subtracted."
    return Finding(QUESTION, answer, measured, threshold, False)


def _transfer(frames: NDArray[Any]) -> tuple[float, float, bool]:
    """Slope of the noise's variance on the mean, the mean without noise, and if means differ.

    Over pixels: var = g (mean - offset), J. R. Janesick, Photon Transfer, SPIE, 2007. The slope
    is 0 where the variance does not go with the mean.
    """
    movie = frames[: 2 * (SAMPLE // frames[0].size + 8)].astype(np.float64)
    mean = movie.mean(0).ravel()
    variance = (np.square(np.diff(movie, axis=0)).mean(0) / 2).ravel()
    parts = np.array_split(np.argsort(mean), 20)
    x = np.array([mean[p].mean() for p in parts])
    y = np.array([variance[p].mean() for p in parts])
    wide = bool(np.ptp(x) > 0.3 * abs(x.mean()))
    if not (np.ptp(x) > 0 and np.ptp(y) > 0 and np.corrcoef(x, y)[0, 1] > 0.8):
        return 0.0, 0.0, wide
    slope, level = np.polyfit(x, y, 1)
    return float(slope), float(-level / slope), wide


def whiteness(frames: NDArray[Any], *, reach: int = 3) -> list[Finding]:
    """Whether the noise of grey levels is independent, in space and in time.

    Of counts `counting.diagnosis.diagnose` tells it.
    """
    around = noise.autocorrelation(frames, reach=reach)
    around[reach, reach] = 0
    largest, rho = float(np.abs(around).max()), noise.temporal_correlation(frames)
    limit = max(0.02, 4 * np.sqrt(1.5 / max(1, frames[1:].size)))
    space, time = largest <= limit, abs(rho) <= limit  # never of nan
    return [
        Finding(
            "Is the noise independent from pixel to pixel?",
            "Yes: a blind spot of one pixel is enough."
            if space
            else "No: neighbours share noise; a blind spot must hide them too.",
            f"largest correlation {largest:.3f} within {reach} px",
            f"at most {limit:.3f}",
            space,
        ),
        Finding(
            "Is it independent from frame to frame?",
            "Yes: a frame's neighbours carry fresh noise."
            if time
            else "Cannot be told from two frames."
            if np.isnan(rho)
            else "No: frames share noise (a lagging detector, averaged or interpolated frames).",
            f"correlation {rho:.3f}",
            f"at most {limit:.3f}",
            time,
        ),
    ]
