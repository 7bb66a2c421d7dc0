"""A card for any denoised movie: what can be said of it, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu.counting.detector import Detector
from insitu.trust import averaging, metrics, without_truth
from insitu.trust.averaging import movie_pair
from insitu.trust.without_truth import Estimate

Array = NDArray[np.float64]
FEWEST = 8  # frames of which an average says something
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
    few = "" if len(y) > 10 else f"{len(y)} frames have none that are 3 to 5 away; 11 have"
    away = without_truth.from_other_frames(f, y, seed=seed) if not few else own
    card.append(_error("other_frames", "frames 3 to 5 away", away, few))
    if truth is not None:
        card.append(_true_error(f, movie_pair(truth, f)[0]))
    return card


def _line(
    line: str,
    question: str,
    value: float,
    error: float | None,
    allowed: tuple[float | None, float | None],
    good: str,
    bad: str,
    *,
    doubt: str = "",
) -> Line:
    """A line whose verdict is that of its numbers, if there is no doubt."""
    low, high = allowed
    numbers = [value] if error is None else [value, error]
    if not doubt and not np.isfinite(numbers).all():
        doubt = "too little was counted, or a movie does not vary"
    passes = (low is None or value >= low) and (high is None or value <= high)
    verdict: Literal["pass", "fail", "unknown"] = "pass" if passes else "fail"
    words = good if passes else bad
    if doubt:
        verdict, words = "unknown", f"This movie cannot tell: {doubt}."
    value_, error_, low_, high_ = (
        float(v) if v is not None and np.isfinite(v) else None for v in (value, error, low, high)
    )
    return Line(line, "all", value_, error_, low_, high_, verdict, f"{question} {words}")


def _within(
    line: str, question: str, value: float, error: float, limit: float, good: str, bad: str
) -> Line:
    """A line whose value should be 0, and may be off by `limit`."""
    unclear = 2 * error > limit and abs(value) < limit + 3 * error
    doubt = f"{value:+.3f} \u00b1 {error:.3f} is too uncertain for a limit of {limit:g}"
    return _line(
        line, question, value, error, (-limit, limit), good, bad, doubt=doubt if unclear else ""
    )


def _ratio(one: float, other: float) -> float:
    return one / other if other else float("nan")


def _scale(y: Array, f: Array) -> Line:
    value = _ratio(float(f.mean()), float(y.mean())) - 1
    measured = f"mean {f.mean():.4g}, {value:+.2%} off that of the counts"
    return _within(
        "scale",
        "Is it in electrons?",
        value,
        float(1 / np.sqrt(max(y.sum(), 1.0))),
        0.02,
        f"Yes: {measured}.",
        f"No, {measured}: other units, or a bias; all that follows is in doubt.",
    )


def _residual(y: Array, f: Array, own: Estimate) -> Line:
    """Mean square of the residual over the variance of counting."""
    squared = float(((y - f) ** 2).mean())
    noise = squared - own.mse
    ratio, width = 1 + _ratio(own.mse, noise), _ratio(own.high - own.low, 4 * noise)
    low, high = 1 - 3 * width, 1.02 + 2 * width
    lost = "more than noise was taken out, something of the specimen is missing"
    bad = f"too little was taken out, {SEEN}" if ratio < low else lost
    return _line(
        "residual",
        "Was noise taken out, and only noise?",
        ratio,
        width,
        (low, high),
        "Yes: as much was taken out as counting puts in.",
        f"No: {bad}.",
        doubt=f"its variance is known to {width:.0%}" if np.inf > width > WIDEST else "",
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
    return _within(
        "whiteness",
        "Is what was taken out white?",
        values.get(name, float("nan")),
        float(1 / np.sqrt(r.size)),
        0.02,
        f"Yes: it has no pattern (correlation with the {measured}).",
        f"No: it is alike from {name} to {name} (correlation with the {measured}).",
    )


def _independence(left_over: Array, f: Array) -> Line:
    spread = float(left_over.std() * f.std())
    shared = float(((left_over - left_over.mean()) * (f - f.mean())).mean())
    value = _ratio(shared, spread)
    lost = "contrast was lost, or a pixel keeps its own noise"
    bold = "contrast was exaggerated, or noise of other counts kept"
    return _within(
        "independence",
        "Has what was taken out nothing to do with the picture?",
        value,
        float(1 / np.sqrt(f.size)),
        0.02,
        f"Nothing: correlation {value:+.4f}.",
        f"It has: {lost if value > 0 else bold} (correlation {value:+.4f}).",
    )


def _average(y: Array, f: Array, detector: Detector | None) -> list[Line]:
    found = averaging.agreement(y, f, detector=detector)
    n, frames = found.z.size, found.frames
    hint = "If nothing moved, do not believe it."
    few = f"{frames} frames are too few for an average, {FEWEST} are the least"
    if frames < FEWEST:
        question = f"Does it agree with the average of {frames} frames?"
        nothing = float("nan")
        return [
            _line(f"average_{name}", question, nothing, None, allowed, "", "", doubt=few)
            for name, allowed in (("mean", (-0.05, 0.05)), ("deviation", (None, 1.1)))
        ]
    unclear = 2 / np.sqrt(2 * n) > 0.1 and found.deviation < 1.1 + 3 / np.sqrt(2 * n)
    return [
        _within(
            "average_mean",
            f"Is it as bright as the average of {frames} frames?",
            found.mean,
            float(1 / np.sqrt(n)),
            0.05,
            f"Yes: z {found.mean:+.3f}.",
            f"No: z {found.mean:+.3f}. {hint}",
        ),
        _line(
            "average_deviation",
            f"Does it agree with the average of {frames} frames from pixel to pixel?",
            found.deviation,
            float(1 / np.sqrt(2 * n)),
            (None, 1.1),
            f"Yes, within counting noise: deviation of z {found.deviation:.3f}.",
            f"No: deviation of z {found.deviation:.3f}; the average shows what the denoised frames "
            f"do not, or the other way round. {hint}",
            doubt=f"{n} pixels are too few" if unclear else "",
        ),
    ]


def _error(name: str, route: str, e: Estimate, doubt: str = "") -> Line:
    if e.mse > 0:
        good = f"uPSNR {e.psnr():.1f} dB, mean squared error {e.low:.5f} to {e.high:.5f}."
    else:
        good = f"Too small to be told: a mean squared error of at most {e.high:.5f}."
    return _line(
        f"error_{name}",
        f"How large is its error, by {route}?",
        float("nan") if doubt else e.mse,
        None if doubt else (e.high - e.low) / 4,
        (e.mse - e.high, None) if not doubt else (None, None),
        good,
        f"Negative ({e.low:.5f} to {e.high:.5f}): {SEEN}.",
        doubt=doubt,
    )


def _true_error(f: Array, truth: Array) -> Line:
    value = float(((f - truth) ** 2).mean())
    floor = float(truth.var())
    told = f"PSNR {metrics.psnr(f, truth):.2f} dB, peak 1" if value else "none at all"
    measured = f"{told}; mean squared error {value:.5f}, the best constant's {floor:.5f}."
    return _line(
        "error_true",
        "How large is it really?",
        value,
        None,
        (None, floor),
        measured,
        f"Larger than a constant's: {measured}",
    )
