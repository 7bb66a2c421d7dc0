"""A card for any denoised movie: what can be said of it, where, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu import InputError
from insitu.counting.detector import Detector
from insitu.trust import averaging, metrics, missing, regression, without_truth
from insitu.trust.averaging import movie_pair
from insitu.trust.regions import FINE, WIDTH, Regions, find_regions
from insitu.trust.regression import Measure
from insitu.trust.without_truth import Estimate

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


def report(
    raw: ArrayLike,
    denoised: ArrayLike,
    *,
    pixel_size: float = 0.0,
    vacuum: Mask | None = None,
    truth: ArrayLike | None = None,
    detector: Detector | None = None,
    detector_error: float = 0.0,
    seed: int = 0,
) -> list[Line]:
    """Judge a denoised movie, of whatever program, by its raw counts, region by region.

    Each line has its own limits, which do not tighten with the number of frames: a value outside
    of them by 1.5 standard errors of counting, and 4 of them off, fails. What these errors leave
    open is unknown.

    Parameters
    ----------
    raw, denoised : (t, y, x) arrays
        Electrons per pixel and frame.
    pixel_size : float
        [A]; with it columns are looked for, and the lines told for vacuum, bulk, surface and
        support (see `insitu.trust.regions`); 0 judges the frame as a whole.
    vacuum : (y, x) array of bool, optional
        Where there is no specimen, and every column is invented; else what is far from all.
    truth : (t, y, x) array, optional
        Clean frames, where they are known.
    detector : Detector, optional
        With which the counts were recorded; Poisson's by default.
    detector_error : float
        Relative standard error of its variance, if it was fitted; what rests on that variance,
        `residual`, `average` and `error_own_counts`, is that much less certain.
    seed : int
        Of the bootstrap.

    Returns
    -------
    list of Line
        Is it in electrons (`scale`, relative bias); was noise taken out, and only noise
        (`residual`, its variance over that of counting); has that a pattern (`whiteness`); does
        it differ from the average as it must (`average`, deviation of z); what is kept of the
        contrast (`contrast`, and `slope` of the counts on it); is there something in the vacuum
        (`invented`); is it moved (`registration_y`, `registration_x`, `motion` [px], `timing`
        [frames]); does it change as the counts do (`changes`, `changes_kept`); is a column too
        much or missing (`extra`, `missing`); how large is its error
        (`error_own_counts`, `error_other_frames`, and with a truth `error_true` [e-^2]).

    Raises
    ------
    InputError
        If the movies are not of one shape, or hold NaN, or the mask is none.

    Examples
    --------
    The truth passes. Who keeps a tenth of the counts is found out:

    >>> clean = np.full((16, 64, 64), 0.6)
    >>> counts = np.random.default_rng(0).poisson(clean)
    >>> sorted({line.verdict for line in report(counts, clean)})
    ['pass', 'unknown']
    >>> card = {line.line: line for line in report(counts, 0.9 * clean + 0.1 * counts)}
    >>> card["residual"].verdict, round(card["residual"].value, 2)
    ('fail', 0.81)
    """
    y, f = movie_pair(raw, denoised)
    v = averaging.noise_of(detector, f)
    own = without_truth.own_errors(f, y, detector=detector)
    places: dict[str, Mask] = {"all": np.ones(y.shape[1:], bool)}
    found = None
    if pixel_size:
        found = find_regions(y.mean(0), f.mean(0), v.mean(0) / len(v), pixel_size)
        places |= found.masks
    if vacuum is not None:
        if vacuum.shape != y.shape[1:] or not vacuum.any():
            raise InputError(
                f"vacuum: expected a mask of {y.shape[1]} x {y.shape[2]} pixels, not all of them "
                f"False, got {vacuum.shape}"
            )
        specimen = {k: m & ~vacuum for k, m in places.items() if k not in ("all", "vacuum")}
        places = {"all": places["all"], "vacuum": vacuum}
        places |= {k: m for k, m in specimen.items() if m.any()}
    fine = FINE / pixel_size if pixel_size else 0.8
    card = []
    left_over = (y - f) / np.sqrt(v)
    for name, mask in places.items():
        here = _within(y, mask), _within(f, mask), _within(v, mask)
        card += [
            _scale(name, *here),
            _residual(name, *here[:2], _within(own, mask), detector_error),
            _whiteness(name, left_over, mask),
            _average(name, *here, detector_error),
        ]
    del left_over
    if "vacuum" in places:
        card.append(_invented(*(_within(a, places["vacuum"]) for a in (y, f, v))))
    far, doubt = regression.others(y, fine)
    for name in [k for k in places if k not in ("all", "vacuum")] or ["all"]:
        mask = places[name]
        here = _within(y, mask), _within(f, mask), _within(v, mask)
        card += _contrast(name, *here, _within(far, mask), doubt)
        card += _changes(name, *here)
    del far, here
    card += _moved(y, f, v)
    card += _columns(y, f, v, found, pixel_size)
    unsure = detector_error * _noise(y, f, own)
    by_own = _widened(without_truth.bootstrap_mean(own, seed=seed), unsure)
    card.append(_error("own_counts", "own counts", by_own))
    if len(y) > 10:
        away = without_truth.from_other_frames(f, y, seed=seed)
        card.append(_error("other_frames", "frames 3 to 5 away", away))
    else:
        few = f"{len(y)} frames have none that are 3 to 5 away; 11 have"
        card.append(_error("other_frames", "frames 3 to 5 away", Estimate(NAN, NAN, NAN), few))
    if truth is not None:
        card.append(_true_error(f, movie_pair(truth, f)[0]))
    return card


def _within(movie: Array, mask: Mask) -> Array:
    """Pixels of a movie (t, n); a view, where they are all."""
    return movie.reshape(len(movie), -1) if mask.all() else movie[:, mask]


def _noise(y: Array, f: Array, own: Array) -> float:
    """Mean variance of counting [e-^2]: the mean square of the residual, less `own`."""
    return float(np.mean((y - f) ** 2)) - float(own.mean())


def _widened(e: Estimate, unsure: float) -> Estimate:
    """With another, independent standard error, of which an interval of 95 % has two."""
    low, high = (float(np.hypot(end - e.mse, 2 * unsure)) for end in (e.low, e.high))
    return Estimate(e.mse, e.mse - low, e.mse + high)


def _line(
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


def _scale(region: str, y: Array, f: Array, v: Array) -> Line:
    total = float(y.sum())
    value, error = NAN, INF
    if total:
        value, error = float(f.sum()) / total - 1, float(np.sqrt(v.sum())) / total
    side = "bright" if value > 0 else "dark"
    measured = f"{abs(value):.1%} \u00b1 {error:.1%} too {side}"
    if abs(value) < 2 * error:
        measured = f"as bright as the counts, within {error:.1%}"
    return _line(
        "scale",
        region,
        f"Is it in electrons {WHERE[region]}?",
        Measure(value, error),
        (-0.02, 0.02),
        f"Yes, {measured}.",
        f"No, {measured}: other units, or a bias.",
        limit=0.02,
    )


def _residual(region: str, y: Array, f: Array, own: Array, detector_error: float) -> Line:
    """Mean square of the residual over the variance of counting."""
    noise = _noise(y, f, own)
    ratio, error = NAN, INF
    if noise > 0:
        ratio = 1 + float(own.mean()) / noise
        error = float(own.std()) / np.sqrt(own.size) / noise
        error = float(np.hypot(error, detector_error * ratio))
    lost = "more than noise was taken out, something of the specimen is missing"
    return _line(
        "residual",
        region,
        f"Was noise taken out {WHERE[region]}, and only noise?",
        Measure(ratio, error),
        (0.99, 1.02),
        "Yes: as much was taken out as counting puts in.",
        f"No: {f'too little was taken out, {SEEN}' if ratio < 1 else lost}.",
        limit=0.05,
    )


def _whiteness(region: str, left_over: Array, mask: Mask) -> Line:
    r = np.where(mask, left_over - _within(left_over, mask).mean(), 0.0)
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
    return _line(
        "whiteness",
        region,
        f"Is what was taken out {WHERE[region]} white?",
        values.get(name, NOTHING),
        (-0.02, 0.02),
        f"Yes: it has no pattern (correlation with the {measured}).",
        f"No: it is alike from {name} to {name} (correlation with the {measured}).",
        limit=0.02,
    )


def _average(region: str, y: Array, f: Array, v: Array, detector_error: float) -> Line:
    """Deviation of z, the difference of the averages in standard errors of counting."""
    z = (f.mean(0) - y.mean(0)) / np.sqrt(v.mean(0) / len(v))
    doubt = "" if y.any() else "nothing was counted"
    if len(y) < FEWEST:
        doubt = f"{len(y)} frames are too few for an average, {FEWEST} are the least"
    value = float(np.sqrt((z**2).mean()))
    error = float(np.hypot(1 / np.sqrt(2 * z.size), detector_error / 2 * value))
    bad = "the average shows what the denoised frames do not, or the other way round"
    if value < 1:
        bad = f"it agrees better than independent counts can: {SEEN}"
    return _line(
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


def _invented(y: Array, f: Array, v: Array) -> Line:
    found = regression.invented(y, f, v)
    measured = f"{found.value:.1%} \u00b1 {found.error:.1%} of its level"
    return _line(
        "invented",
        "vacuum",
        "Is the vacuum empty, as in the counts?",
        found,
        (-0.015, 0.015),
        f"Yes: what it shows and the counts do not has an amplitude of {measured}.",
        f"No: it shows what the counts {'do not have' if found.value > 0 else 'have, too faintly'}"
        f", an amplitude of {measured}.",
        limit=0.01,
    )


def _contrast(region: str, y: Array, f: Array, v: Array, far: Array, doubt: Array) -> list[Line]:
    kept, slope = regression.kept(y, f, v, far, doubt), regression.slope(y, f, v)
    few = f"{len(y)} frames are too few to know the contrast by" if len(y) < FEWEST else ""
    told = f"{kept.value:.2f} \u00b1 {kept.error:.2f} of the contrast is kept"
    sloped = f"raw on denoised has the slope {slope.value:.2f} \u00b1 {slope.error:.2f}"
    return [
        _line(
            "contrast",
            region,
            f"Is the contrast kept {WHERE[region]}?",
            kept,
            (0.95, 1.05),
            f"Yes: {told}.",
            f"No: {told}{'' if kept.value < 1 else '; more than the counts show'}.",
            limit=0.1,
            doubt=few,
        ),
        _line(
            "slope",
            region,
            f"Do the counts follow it {WHERE[region]}?",
            slope,
            (0.95, 1.05),
            f"Yes: {sloped}.",
            f"No: {sloped}, and should have 1: "
            f"{'contrast was lost' if slope.value > 1 else 'a part of it is not there'}.",
            limit=0.1,
        ),
    ]


def _changes(region: str, y: Array, f: Array, v: Array) -> list[Line]:
    few = f"{len(y)} frames are too few to see changes in" if len(y) < FEWEST else ""
    found = NO_CHANGES if few else regression.changes(y, f, v)
    sloped = f"raw on denoised changes have the slope {_told(found.slope)}"
    wrong = "they run in reverse, or are noise" if found.slope.value < 0 else "they are not there"
    still = abs(found.kept.value) < SURE * found.kept.error
    lost = "it is a still picture" if still else "it is too slow, or others' changes"
    kept = f"{_told(found.kept)} of the changes is kept"
    return [
        _line(
            "changes",
            region,
            f"Are its changes {WHERE[region]} those of the counts?",
            found.invented,
            (-0.1, 0.1),
            f"Yes: what changes in it alone is {found.invented.value:.1%} of the level; {sloped}.",
            f"No: {found.invented.value:.0%} of the level changes in it otherwise; {sloped}: "
            f"{wrong if found.invented.value > 0 else 'they are shown too weak'}.",
            limit=0.1,
            doubt=few,
        ),
        _line(
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


def _told(found: Measure) -> str:
    return f"{found.value:.2f} \u00b1 {found.error:.2f}"


def _moved(y: Array, f: Array, v: Array) -> list[Line]:
    down = right = off = NOTHING
    at = ""
    if min(f.shape[1:]) > 1:
        steps = np.gradient(f, axis=1), np.gradient(f, axis=2)
        down, right = regression.shift(y, f, v, *steps)
        if len(y) >= FEWEST and np.isfinite(down.value):
            values, errors = regression.wander(y, f, v, *steps)
            part, axis = np.unravel_index(np.abs(values / errors).argmax(), values.shape)
            off = Measure(float(values[part, axis]), float(errors[part, axis]))
            at = f" in part {part + 1} of 8, along {'yx'[axis]}"
        del steps
    late = regression.lag(*(a.reshape(len(a), -1) for a in (y, f, v)))
    return [
        _line(
            name,
            "all",
            question,
            found,
            (-limit, limit),
            f"Yes: it is off by {found.value:+.2f} \u00b1 {found.error:.2f} {unit}{where}.",
            f"No: it is off by {found.value:+.2f} \u00b1 {found.error:.2f} {unit}{where}.",
            limit=limit,
        )
        for name, question, found, limit, unit, where in (
            ("registration_y", "Does it lie on the counts, row by row?", down, 0.2, "px", ""),
            (
                "registration_x",
                "Does it lie on the counts, column by column?",
                right,
                0.2,
                "px",
                "",
            ),
            ("motion", "Does it move as the counts do?", off, 0.25, "px", at),
            ("timing", "Is it in time with the counts?", late, 0.4, "frames", ""),
        )
    ]


def _columns(y: Array, f: Array, v: Array, found: Regions | None, pixel_size: float) -> list[Line]:
    """Peaks of the map of z; and columns that the counts do not follow, sites that they fill."""
    few = f"{len(y)} frames are too few to see a column in" if len(y) < FEWEST else ""
    width = WIDTH / pixel_size if found else 1.5
    extra: list[Any] = []
    absent: list[Any] = []
    for ring, wide in ((True, width), (False, 1.3 * width)):
        z = missing.difference(y, f, v, wide, ring=ring)
        extra += _new(extra, z.peaks(1), z.reach)
        absent += _new(absent, z.peaks(-1), z.reach)
        if found:
            shown, vacant = found.positions[: found.shown], found.vacant
            extra += _new(extra, shown[missing.clear(z.at(shown, 1))], z.reach)
            absent += _new(absent, vacant[missing.clear(z.at(vacant, -1))], z.reach)
    return [
        _line(
            name,
            "all",
            f"Is a column {short}?",
            Measure(float(len(places)), 0.0),
            (0.0, 0.0),
            "None is found that chance would not give.",
            f"Yes: at {len(places)} places it {bad}, at (y, x) = "
            f"{', '.join(f'({a:.0f}, {b:.0f})' for a, b in places[:5])} px first.",
            doubt=few,
        )
        for name, places, short, bad in (
            ("extra", extra, "too much", "shows what the counts do not"),
            ("missing", absent, "missing", "leaves out what the counts show"),
        )
    ]


def _new(known: list[Any], places: NDArray[Any], reach: float) -> list[Any]:
    """Places that are not near to known ones."""
    return [
        tuple(p) for p in places if not known or np.hypot(*(np.array(known) - p).T).min() > reach
    ]


def _error(name: str, route: str, e: Estimate, doubt: str = "") -> Line:
    good = f"uPSNR {e.psnr():.1f} dB, mean squared error {e.low:.5f} to {e.high:.5f}."
    if not e.low > 0:
        good = f"too small to be told: mean squared error {e.low:.5f} to {e.high:.5f}."
        if 0 < e.high < INF:
            least = Estimate(e.high, e.high, e.high).psnr()
            good = f"uPSNR at least {least:.1f} dB: a mean squared error of at most {e.high:.5f}."
    return _line(
        f"error_{name}",
        "all",
        f"How large is its error, by {route}?",
        Measure(e.mse, (e.high - e.low) / 4),
        (0.0, INF),
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
    return _line("error_true", "all", question, Measure(value, 0.0), (-INF, floor), measured, bad)
