"""A card for any denoised movie: what can be said of it, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu.counting.detector import Detector
from insitu.trust import averaging, metrics, without_truth
from insitu.trust.averaging import movie_pair
from insitu.trust.without_truth import Estimate

Array = NDArray[np.float64]
FEWEST = 8  # frames of which an average says something
INF, NAN = float("inf"), float("nan")
WIDEST = 0.05  # error of the residual's variance, beyond which it says nothing
SEEN = "it has seen the counts that it is held against"


@dataclass(frozen=True)
class Line:
    """One line of the card. What a movie cannot tell is unknown, neither good nor bad."""

    line: str  # name of what was measured, such as "residual"
    region: str  # where; "all" for the whole frame
    value: float | None  # None where it is not finite
    error: float | None  # its standard error
    low: float | None  # the least value that is allowed
    high: float | None  # the largest
    verdict: Literal["pass", "fail", "unknown"]
    words: str  # question and answer


def report(
    raw: ArrayLike,
    denoised: ArrayLike,
    *,
    truth: ArrayLike | None = None,
    detector: Detector | None = None,
    seed: int = 0,
) -> list[Line]:
    """Judge a denoised movie, of whatever program, by its raw counts.

    Parameters
    ----------
    raw, denoised : (t, y, x) arrays
        Electrons per pixel and frame.
    truth : (t, y, x) array, optional
        Clean frames, where they are known.
    detector : Detector, optional
        With which the counts were recorded; Poisson's by default.
    seed : int
        Of the bootstrap, which gives the errors.

    Returns
    -------
    list of Line
        Is it in electrons (`scale`); was noise taken out, and only noise (`residual`, its variance
        over that of counting); has what was taken out a pattern (`whiteness`), or to do with the
        picture (`independence`); does it agree with the average (`average_mean` and
        `average_deviation` of z); how large is its error (`error_own_counts`,
        `error_other_frames`, and with a truth `error_true` [e-^2]).

    Raises
    ------
    InputError
        If the movies are not of one shape, or hold NaN.

    Examples
    --------
    The truth passes. Who keeps a tenth of the counts is found out:

    >>> clean = np.full((16, 64, 64), 0.6)
    >>> counts = np.random.default_rng(0).poisson(clean)
    >>> {line.verdict for line in report(counts, clean)}
    {'pass'}
    >>> card = {line.line: line for line in report(counts, 0.9 * clean + 0.1 * counts)}
    >>> card["residual"].verdict, round(card["residual"].value, 2)
    ('fail', 0.81)
    """
    y, f = movie_pair(raw, denoised)
    variance = averaging.variance_of(detector, np.maximum(f, 0.02 * float(f.mean())))
    left_over = (y - f) / np.sqrt(variance)
    own = without_truth.from_own_count(f, y, detector=detector, seed=seed)
    card = [_scale(y, f), _residual(y, f, own), _whiteness(left_over), _independence(left_over, f)]
    card += _average(y, f, detector)
    card.append(_error("own_counts", "own counts", own))
    if len(y) > 10:
        away = without_truth.from_other_frames(f, y, seed=seed)
        card.append(_error("other_frames", "frames 3 to 5 away", away))
    else:
        few = f"{len(y)} frames have none that are 3 to 5 away; 11 have"
        card.append(_error("other_frames", "frames 3 to 5 away", Estimate(NAN, NAN, NAN), few))
    if truth is not None:
        card.append(_true_error(f, movie_pair(truth, f)[0]))
    return card


def _line(
    line: str,
    question: str,
    value: float,
    error: float,
    allowed: tuple[float, float],
    good: str,
    bad: str,
    *,
    limit: float = INF,
    doubt: str = "",
) -> Line:
    """A line whose verdict is that of its numbers, if there is no doubt.

    Where two errors pass the limit, only what is three errors outside of the allowed is a finding.
    """
    low, high = allowed
    if 2 * error > limit and low - 3 * error < value < high + 3 * error:
        doubt = doubt or f"{value:.3f} \u00b1 {error:.3f} is too uncertain for a limit of {limit:g}"
    if not np.isfinite([value, error]).all():
        doubt = doubt or "too little was counted, or a movie does not vary"
    verdict: Any = "unknown" if doubt else "pass" if low <= value <= high else "fail"
    words = {"pass": good, "fail": bad, "unknown": f"This movie cannot tell: {doubt}."}[verdict]
    numbers = [float(v) if np.isfinite(v) else None for v in (value, error, low, high)]
    told, off, least, most = numbers
    return Line(line, "all", told, off, least, most, verdict, f"{question} {words}")


def _ratio(one: float, other: float) -> float:
    return one / other if other else NAN


def _scale(y: Array, f: Array) -> Line:
    value = _ratio(float(f.mean()), float(y.mean())) - 1
    measured = f"mean {f.mean():.4g}, {value:+.2%} off that of the counts"
    return _line(
        "scale",
        "Is it in electrons?",
        value,
        float(1 / np.sqrt(max(y.sum(), 1.0))),
        (-0.02, 0.02),
        f"Yes: {measured}.",
        f"No, {measured}: other units, or a bias; all that follows is in doubt.",
        limit=0.02,
    )


def _residual(y: Array, f: Array, own: Estimate) -> Line:
    """Mean square of the residual over the variance of counting."""
    noise = float(((y - f) ** 2).mean()) - own.mse
    ratio, width = 1 + _ratio(own.mse, noise), _ratio(own.high - own.low, 4 * noise)
    low, high = 1 - 3 * width, 1.02 + 2 * width
    lost = "more than noise was taken out, something of the specimen is missing"
    return _line(
        "residual",
        "Was noise taken out, and only noise?",
        ratio,
        width,
        (low, high),
        "Yes: as much was taken out as counting puts in.",
        f"No: {f'too little was taken out, {SEEN}' if ratio < low else lost}.",
        doubt=f"its variance is known to {width:.0%}" if INF > width > WIDEST else "",
    )


def _whiteness(left_over: Array) -> Line:
    r = left_over - left_over.mean()
    shifts = {
        "column": (r[:, :, 1:], r[:, :, :-1]),
        "row": (r[:, 1:], r[:, :-1]),
        "frame": (r[1:], r[:-1]),
    }
    values = {
        name: _ratio(float((a * b).mean()), float(r.var()))
        for name, (a, b) in shifts.items()
        if a.size
    }
    name = max(values, key=lambda k: abs(values[k]), default="column")
    measured = ", ".join(f"next {k} {v:+.4f}" for k, v in values.items())
    return _line(
        "whiteness",
        "Is what was taken out white?",
        values.get(name, NAN),
        float(1 / np.sqrt(r.size)),
        (-0.02, 0.02),
        f"Yes: it has no pattern (correlation with the {measured}).",
        f"No: it is alike from {name} to {name} (correlation with the {measured}).",
        limit=0.02,
    )


def _independence(left_over: Array, f: Array) -> Line:
    shared = float(((left_over - left_over.mean()) * (f - f.mean())).mean())
    value = _ratio(shared, float(left_over.std() * f.std()))
    lost = "contrast was lost, or a pixel keeps its own noise"
    bold = "contrast was exaggerated, or noise of other counts kept"
    return _line(
        "independence",
        "Has what was taken out nothing to do with the picture?",
        value,
        float(1 / np.sqrt(f.size)),
        (-0.02, 0.02),
        f"Nothing: correlation {value:+.4f}.",
        f"It has: {lost if value > 0 else bold} (correlation {value:+.4f}).",
        limit=0.02,
    )


def _average(y: Array, f: Array, detector: Detector | None) -> list[Line]:
    z, mean, deviation, frames = averaging.agreement(y, f, detector=detector)
    few = f"{frames} frames are too few for an average, {FEWEST} are the least"
    doubt = few if frames < FEWEST else ""
    hint = "If nothing moved, do not believe it."
    return [
        _line(
            "average_mean",
            f"Is it as bright as the average of {frames} frames?",
            mean,
            float(1 / np.sqrt(z.size)),
            (-0.05, 0.05),
            f"Yes: z {mean:+.3f}.",
            f"No: z {mean:+.3f}. {hint}",
            limit=0.05,
            doubt=doubt,
        ),
        _line(
            "average_deviation",
            f"Does it agree with the average of {frames} frames from pixel to pixel?",
            deviation,
            float(1 / np.sqrt(2 * z.size)),
            (-INF, 1.1),
            f"Yes, within counting noise: deviation of z {deviation:.3f}.",
            f"No: deviation of z {deviation:.3f}; the average shows what the denoised frames do "
            f"not, or the other way round. {hint}",
            limit=0.1,
            doubt=doubt,
        ),
    ]


def _error(name: str, route: str, e: Estimate, doubt: str = "") -> Line:
    good = f"uPSNR {e.psnr():.1f} dB, mean squared error {e.low:.5f} to {e.high:.5f}."
    if not e.mse > 0:
        good = f"Too small to be told: a mean squared error of at most {e.high:.5f}."
    return _line(
        f"error_{name}",
        f"How large is its error, by {route}?",
        e.mse,
        (e.high - e.low) / 4,
        (e.mse - e.high, INF),  # 0 or more is not excluded
        good,
        f"Negative ({e.low:.5f} to {e.high:.5f}): {SEEN}.",
        doubt=doubt,
    )


def _true_error(f: Array, truth: Array) -> Line:
    value, floor = float(((f - truth) ** 2).mean()), float(truth.var())
    told = f"PSNR {metrics.psnr(f, truth):.2f} dB, peak 1" if value else "none at all"
    measured = f"{told}; mean squared error {value:.5f}, the best constant's {floor:.5f}."
    bad = f"Larger than a constant's: {measured}"
    question = "How large is it really?"
    return _line("error_true", question, value, 0.0, (-INF, floor), measured, bad)
