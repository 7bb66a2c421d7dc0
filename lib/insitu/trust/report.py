"""A card for any denoised movie: what can be said of it, where, in numbers and in words."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu import InputError
from insitu.counting.detector import Detector
from insitu.trust import averaging, lines, metrics, missing, regression, without_truth
from insitu.trust.averaging import movie_pair
from insitu.trust.lines import FEWEST, INF, NAN, NOTHING, SEEN, Line, judged
from insitu.trust.missing import Difference
from insitu.trust.regions import FINE, WIDTH, Regions, find_regions
from insitu.trust.regression import Measure, within
from insitu.trust.without_truth import Estimate

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


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
    return examine(
        raw,
        denoised,
        pixel_size=pixel_size,
        vacuum=vacuum,
        truth=truth,
        detector=detector,
        detector_error=detector_error,
        seed=seed,
    ).lines


class Examined(NamedTuple):
    """A pair of movies and all that was found of it."""

    lines: list[Line]  # the card
    raw: Array  # (t, y, x) counts
    denoised: Array  # (t, y, x) [e-/px]
    variance: Array  # (t, y, x) of a count [e-^2]
    z: Array  # (y, x) of the difference of the averages
    columns: Difference  # the same at the scale of a column
    regions: Regions | None  # None without a pixel size


def examine(
    raw: ArrayLike,
    denoised: ArrayLike,
    *,
    pixel_size: float = 0.0,
    vacuum: Mask | None = None,
    truth: ArrayLike | None = None,
    detector: Detector | None = None,
    detector_error: float = 0.0,
    seed: int = 0,
) -> Examined:
    """Do as `report` does, and return with the card what it was made of."""
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
    z = averaging.difference(y, f, v.mean(0))
    card = []
    left_over = (y - f) / np.sqrt(v)
    for name, mask in places.items():
        here = within(y, mask), within(f, mask), within(v, mask)
        card += [
            lines.scale(name, *here),
            lines.residual(name, *here[:2], within(own, mask), detector_error),
            lines.whiteness(name, left_over, mask),
            lines.average(name, here[0], z[mask], detector_error),
        ]
    del left_over
    if "vacuum" in places:
        card.append(lines.invented(*(within(a, places["vacuum"]) for a in (y, f, v))))
    others = regression.others(y, FINE / pixel_size if pixel_size else 0.8)
    for name in [k for k in places if k not in ("all", "vacuum")] or ["all"]:
        mask = places[name]
        here = within(y, mask), within(f, mask), within(v, mask)
        card += lines.contrast(name, *here, others.within(mask))
        card += lines.changes(name, *here)
    del others, here
    card += _moved(y, f, v)
    width = WIDTH / pixel_size if pixel_size else 1.5
    ringed = missing.difference(y, f, v, width)
    smooth = missing.difference(y, f, v, 1.3 * width, ring=False)
    card += _columns(len(y), (ringed, smooth), found)
    unsure = detector_error * lines.noise_of_counting(y, f, own)
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
    return Examined(card, y, f, v, z, ringed, found)


def _widened(e: Estimate, unsure: float) -> Estimate:
    """With another, independent standard error, of which an interval of 95 % has two."""
    low, high = (float(np.hypot(end - e.mse, 2 * unsure)) for end in (e.low, e.high))
    return Estimate(e.mse, e.mse - low, e.mse + high)


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
    asked = (
        ("registration_y", "Does it lie on the counts, row by row?", down, 0.2, "px", "up down"),
        (
            "registration_x",
            "Does it lie on the counts, column by column?",
            right,
            0.2,
            "px",
            "left right",
        ),
        ("motion", "Does it move as the counts do?", off, 0.25, "px", at),
        ("timing", "Is it in time with the counts?", late, 0.4, "frames", "early late"),
    )
    card = []
    for name, question, found, limit, unit, where in asked:
        way = where if name == "motion" else f", {where.split()[int(found.value > 0)]}"
        by = f"it is off by {found.value:+.2f} \u00b1 {found.error:.2f} {unit}"
        words = f"Yes: {by}.", f"No: {by}{way}."
        card.append(judged(name, "all", question, found, (-limit, limit), *words, limit=limit))
    return card


def _columns(frames: int, maps: tuple[Difference, ...], found: Regions | None) -> list[Line]:
    """Peaks of maps of z; and columns that the counts do not follow, sites that they fill."""
    few = f"{frames} frames are too few to see a column in" if frames < FEWEST else ""
    extra: list[Any] = []
    absent: list[Any] = []
    for z in maps:
        extra += _new(extra, z.peaks(1), z.reach)
        absent += _new(absent, z.peaks(-1), z.reach)
        if found:
            shown, vacant = found.positions[: found.shown], found.vacant
            extra += _new(extra, shown[missing.clear(z.at(shown, 1))], z.reach)
            absent += _new(absent, vacant[missing.clear(z.at(vacant, -1))], z.reach)
    return [
        judged(
            name,
            "all",
            f"Is a column {short}?",
            Measure(float(len(places)), 0.0),
            (0.0, 0.0),
            "None is found that chance would not give.",
            f"Yes: at {len(places)} place{'s' * (len(places) > 1)} it {bad}, at (y, x) = "
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
    return judged(
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
    return judged("error_true", "all", question, Measure(value, 0.0), (-INF, floor), measured, bad)
