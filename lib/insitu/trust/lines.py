"""The lines of the card that are told region by region: numbers, limits, verdict, and words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from insitu.trust import regression
from insitu.trust.regression import Measure, Others

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
FEWEST = 8  # frames of which an average says something
SURE = 4.0  # standard errors, at which the forty lines of the truth pass
CLEARLY = 1.5  # standard errors beyond a limit
INF, NAN = float("inf"), float("nan")
NOTHING = Measure(NAN, INF)
NO_CHANGES = regression.Changes(NOTHING, NOTHING, NOTHING)
SEEN = "it has seen the counts that it is held against"
WHERE = {"all": "in the whole frame", "vacuum": "in vacuum", "bulk": "in the bulk"}
WHERE |= {"surface": "at the surface", "support": "in the support"}


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


def judged(
    line: str,
    region: str,
    question: str,
    found: Measure,
    allowed: tuple[float, float],
    good: str,
    bad: str,
    *,
    limit: float = INF,
    doubt: str = "",
) -> Line:
    """A line whose verdict is that of its numbers, if there is no doubt.

    `allowed` is widened by 1.5 errors, and to 4 errors around what the truth has, 0 or else 1.
    With an error above `limit` only a finding is one; a pass is none.
    """
    value, error = found
    low, high = allowed
    right = 0.0 if low <= 0 <= high else 1.0
    if np.isfinite(error):
        low = min(low - CLEARLY * error, right - SURE * error)
        high = max(high + CLEARLY * error, right + SURE * error)
    if not np.isfinite([value, error]).all():
        doubt = doubt or "too little was counted, or a movie does not vary"
    elif error > limit and low <= value <= high:
        doubt = doubt or f"{value:.3g} \u00b1 {error:.2g} is too uncertain"
    verdict: Any = "unknown" if doubt else "pass" if low <= value <= high else "fail"
    words = {"pass": good, "fail": bad, "unknown": f"This movie cannot tell: {doubt}."}[verdict]
    numbers = [float(n) if np.isfinite(n) else None for n in (value, error, low, high)]
    told, off, least, most = numbers
    return Line(line, region, told, off, least, most, verdict, f"{question} {words}")


def told(found: Measure) -> str:
    """A number and its error, in words."""
    return f"{found.value:.2f} \u00b1 {found.error:.2f}"


def case(found: Measure, *, reverse: str, none: str, part: str, more: str) -> str:
    """Words for what ought to be 1: below 0, about 0 within 4 errors, between, above 1."""
    if abs(found.value) < SURE * found.error and found.value < 0.5:
        return none
    return reverse if found.value < 0 else part if found.value < 1 else more


def scale(region: str, y: Array, f: Array, v: Array) -> Line:
    """Relative difference of all electrons."""
    total = float(y.sum())
    value, error = NAN, INF
    if total:
        value, error = float(f.sum()) / total - 1, float(np.sqrt(v.sum())) / total
    side = "bright" if value > 0 else "dark"
    measured = f"{abs(value):.1%} \u00b1 {error:.1%} too {side}"
    if abs(value) < 2 * error:
        measured = f"as bright as the counts, within {error:.1%}"
    why = "a bias" if abs(value) < 0.5 else "other units"
    if value < -1 + 1e-6:
        why = "in all it shows no electron, or fewer"
    return judged(
        "scale",
        region,
        f"Is it in electrons {WHERE[region]}?",
        Measure(value, error),
        (-0.02, 0.02),
        f"Yes, {measured}.",
        f"No, {measured}: {why}.",
        limit=0.02,
    )


def residual(region: str, y: Array, f: Array, own: Array, detector_error: float) -> Line:
    """Mean square of the residual over the variance of counting."""
    noise = noise_of_counting(y, f, own)
    ratio, error = NAN, INF
    if noise > 0:
        ratio = 1 + float(own.mean()) / noise
        error = float(own.std()) / np.sqrt(own.size) / noise
        error = float(np.hypot(error, detector_error * ratio))
    bad = "more than noise was taken out: something of the specimen is missing, or shown wrongly"
    if region == "vacuum":
        bad = "more than noise was taken out: what it shows is not what was counted"
    if ratio < 1:
        bad = f"too little was taken out: {SEEN}, or these have less noise than their detector"
    return judged(
        "residual",
        region,
        f"Was noise taken out {WHERE[region]}, and only noise?",
        Measure(ratio, error),
        (0.99, 1.02),
        "Yes: as much was taken out as counting puts in.",
        f"No: {bad}.",
        limit=0.05,
    )


def noise_of_counting(y: Array, f: Array, own: Array) -> float:
    """Mean variance of counting [e-^2]: the mean square of the residual, less `own`."""
    return float(np.mean((y - f) ** 2)) - float(own.mean())


def whiteness(region: str, left_over: Array, mask: Mask) -> Line:
    """Correlation of what was taken out with its neighbours: the clearest of three."""
    r = np.where(mask, left_over - regression.within(left_over, mask).mean(), 0.0)
    power = float(np.vdot(r, r)) / (len(r) * mask.sum())
    shifts = {
        "column": (r[:, :, 1:], r[:, :, :-1], mask[:, 1:] & mask[:, :-1]),
        "row": (r[:, 1:], r[:, :-1], mask[1:] & mask[:-1]),
        "frame": (r[1:], r[:-1], mask),
    }
    values = {}
    for name, (a, b, both) in shifts.items():
        n = len(a) * int(both.sum())
        if n and power:
            together = float(np.einsum("tyx,tyx->", a, b))
            values[name] = Measure(together / n / power, 1 / np.sqrt(n))
    name = max(values, key=lambda k: abs(values[k].value) / values[k].error, default="column")
    measured = ", ".join(f"next {k} {m.value:+.4f}" for k, m in values.items())
    found = values.get(name, NOTHING)
    alike = "it is alike" if found.value > 0 else "its sign alternates"
    return judged(
        "whiteness",
        region,
        f"Is what was taken out {WHERE[region]} white?",
        found,
        (-0.02, 0.02),
        f"Yes: it has no pattern (correlation with the {measured}).",
        f"No: {alike} from {name} to {name} (correlation with the {measured}).",
        limit=0.02,
    )


def average(region: str, y: Array, z: Array, detector_error: float) -> Line:
    """Deviation of z (n,), the difference of the averages in standard errors of counting."""
    doubt = "" if y.any() else "nothing was counted"
    if len(y) < FEWEST:
        doubt = f"{len(y)} frames are too few for an average, {FEWEST} are the least"
    value = float(np.sqrt((z**2).mean()))
    error = float(np.hypot(1 / np.sqrt(2 * z.size), detector_error / 2 * value))
    bad = "the average shows what the denoised frames do not, or the other way round"
    if value < 1:
        bad = f"it agrees better than independent counts can: {SEEN}"
    return judged(
        "average",
        region,
        f"Does it differ from the average of {len(y)} frames {WHERE[region]} by counting alone?",
        Measure(value, error),
        (0.8, 1.1),
        f"Yes: root mean square of z {value:.3f}.",
        f"No: root mean square of z {value:.3f}; {bad}.",
        limit=0.1,
        doubt=doubt,
    )


def invented(y: Array, f: Array, v: Array) -> Line:
    """Amplitude of what the vacuum shows and the counts do not."""
    found = regression.invented(y, f, v)
    measured = f"{found.value:.1%} \u00b1 {found.error:.1%} of its level"
    off = f"{abs(found.value):.1%} \u00b1 {found.error:.1%} of its level"
    return judged(
        "invented",
        "vacuum",
        "Is the vacuum empty, as in the counts?",
        found,
        (-0.015, 0.015),
        f"Yes: what it shows and the counts do not has an amplitude of {measured}.",
        f"No: it shows what the counts {'do not have' if found.value > 0 else 'have, too faintly'}"
        f", by an amplitude of {off}.",
        limit=0.01,
    )


def contrast(region: str, y: Array, f: Array, v: Array, others: Others) -> list[Line]:
    """Contrast that is kept, and the slope of the counts on what is shown."""
    kept, slope = regression.kept(y, f, v, others), regression.slope(y, f, v)
    few = f"{len(y)} frames are too few to know the contrast by" if len(y) < FEWEST else ""
    words = f"{told(kept)} of the contrast is kept"
    lost = case(
        kept,
        reverse="what is bright in the counts is dark",
        none="none of it, within the error",
        part="the rest is lost",
        more="more than the counts show",
    )
    sloped = f"raw on denoised has the slope {told(slope)}"
    wrong = case(
        slope,
        reverse="the counts run the other way",
        none="the counts have nothing of what is shown",
        part="a part of it is not there",
        more="contrast was lost",
    )
    return [
        judged(
            "contrast",
            region,
            f"Is the contrast kept {WHERE[region]}?",
            kept,
            (0.95, 1.05),
            f"Yes: {words}.",
            f"No: {words}; {lost}.",
            limit=0.1,
            doubt=few,
        ),
        judged(
            "slope",
            region,
            f"Do the counts follow it {WHERE[region]}?",
            slope,
            (0.95, 1.05),
            f"Yes: {sloped}.",
            f"No: {sloped}, and should have 1: {wrong}.",
            limit=0.1,
        ),
    ]


def changes(region: str, y: Array, f: Array, v: Array) -> list[Line]:
    """Changes that it alone has, and those of the counts that it keeps."""
    few = f"{len(y)} frames are too few to see changes in" if len(y) < FEWEST else ""
    found = NO_CHANGES if few else regression.changes(y, f, v)
    sloped = f"raw on denoised changes have the slope {told(found.slope)}"
    wrong = case(
        found.slope,
        reverse="they run in reverse",
        none="they are noise, or those of something else",
        part="a part of them is not there",
        more="they are shown too weak",
    )
    off = f"{abs(found.invented.value):.0%} of the level"
    bad = f"{off} changes in it otherwise" if found.invented.value > 0 else f"{off} is missing"
    moving = found.invented.value > SURE * found.invented.error
    lost = case(
        found.kept,
        reverse="it changes the other way",
        none="it changes, but not where and when they do" if moving else "it is a still picture",
        part="it is too slow, or shows a part of them only",
        more="it changes more than they do, and so too much, or with their noise",
    )
    kept = f"{told(found.kept)} of the changes is kept"
    return [
        judged(
            "changes",
            region,
            f"Are its changes {WHERE[region]} those of the counts?",
            found.invented,
            (-0.1, 0.1),
            f"Yes: what changes in it alone is {found.invented.value:.1%} of the level; {sloped}.",
            f"No: {bad}; {sloped}: {wrong}.",
            limit=0.1,
            doubt=few,
        ),
        judged(
            "changes_kept",
            region,
            f"Does it change {WHERE[region]} as the counts do?",
            found.kept,
            (0.8, 1.2),
            f"Yes: {kept}.",
            f"No: {kept}: {lost}.",
            limit=0.2,
            doubt=few,
        ),
    ]
