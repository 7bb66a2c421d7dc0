"""Events: run lengths, what the counts of the movie's columns allow, calibration.

python tests/benchmarks/events.py [part ...], of which `main` has the names

The false alarms are those of 200 columns together, one in a minute of 75 frames a second. The
planted columns have the clean sums of the shipped movie's surface columns; a vacated place has the
mean of those that columns leave in it. `ruptures` and `river` are not compared: neither is a
dependence of the library.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from insitu.denoise.saved import load_denoiser
from insitu.measure import charts, events, nulls, run_lengths, states
from insitu.measure.following import follow, lattice_sites
from insitu.measure.states import Rates
from insitu.simulate.movie_files import shipped_movie
from insitu.trust.columns import find_columns
from insitu.trust.likelihood import disc_sums, discoveries

Array = NDArray[np.float64]
COLUMNS, MINUTE = 200, 4500
ASKED = float(COLUMNS * MINUTE)  # frames of a series until a false alarm
MOVIES = 50
RADII = (0.6, 0.9, 1.3)  # of the discs [A]


class Discs(NamedTuple):
    """Expected electrons of a frame in the discs of surface columns."""

    present: Array  # (n,)
    absent: Array  # (n,) of a vacated place
    pixels: Array

    @property
    def shift(self) -> Array:
        """In standard deviations of a frame without the column."""
        return (self.present - self.absent) / np.sqrt(self.absent)


@cache
def movie() -> Any:
    return shipped_movie()


def at(frame: int, places: Array, radius: float) -> tuple[Array, Array]:
    return disc_sums(movie().clean[frame], places / movie().pixel_size, radius / movie().pixel_size)


def left() -> list[tuple[int, int, Array]]:
    """Columns that hop away in a frame or more: frames before and without, and their place."""
    found = []
    for event in movie().events:
        if event["kind"] != "hop":
            continue
        before, without = int(event["start"]) - 2, int(event["end"]) - 1
        rows = movie().truth(before)
        row = rows[rows["label"] == event["columns"][0]][0]
        place = np.array([[row["y"], row["x"]]])
        found.append((before, without, place))
    return found


@cache
def discs(radius: float) -> Discs:
    rows = movie().truth(20)
    rows = rows[rows["surface"]]
    present, pixels = at(20, np.stack([rows["y"], rows["x"]], 1), radius)
    vacant = []
    for before, without, place in left():
        moved = place + movie().uncut.drift[without] - movie().uncut.drift[before]
        electrons, number = at(without, moved, radius)
        vacant.append(electrons[0] / number[0])
    return Discs(present, np.mean(vacant) * pixels, pixels)


def lengths() -> None:
    rng = np.random.default_rng(0)
    for name, chart, chain, published in (
        ("EWMA (0.2, 2.962)", charts.ewma, run_lengths.ewma_run_length, (500, 10.5)),
        ("CUSUM (0.5, 5)", charts.cusum, run_lengths.cusum_run_length, (465, 10.4)),
    ):
        alarms, frames = 0, 0
        for _ in range(8):
            found = chart(rng.standard_normal((500, 5000)), restart=True).alarm
            alarms, frames = alarms + int(found.sum()), frames + found.size
        quick = chart(1 + rng.standard_normal((20_000, 80))).alarm
        print(
            f"{name}: ARL0 published {published[0]}, chain {chain(0):.1f}, "
            f"simulated {frames / alarms:.1f} +- {frames / alarms**1.5:.1f}; at one sigma "
            f"{published[1]}, {chain(1):.2f}, {(quick.argmax(1) + 1).mean():.2f}"
        )


def contrast() -> None:
    for radius in RADII:
        d = discs(radius)
        share = np.percentile(d.present / d.absent - 1, [10, 50, 90])
        print(
            f"disc of {radius} A, {d.pixels.mean():.0f} px: contrast (10, 50, 90 %) "
            f"{share.round(3)}, shift of a frame {np.percentile(d.shift, [10, 50, 90]).round(2)}"
        )
    ideal, narrow, windows = [], [], []
    for before, without, place in left():
        moved = place + movie().uncut.drift[without] - movie().uncut.drift[before]
        y, x = np.rint(place[0] / movie().pixel_size).astype(int)
        v, u = np.rint(moved[0] / movie().pixel_size).astype(int)
        reach = 5
        one = movie().clean[before, y - reach : y + reach + 1, x - reach : x + reach + 1]
        none = movie().clean[without, v - reach : v + reach + 1, u - reach : u + reach + 1]
        ideal.append(np.sqrt(((one - none) ** 2 / none).sum()))
        windows.append((one, none))
        (m1, _), (m0, _) = at(before, place, 0.6), at(without, moved, 0.6)
        narrow.append((m1[0] - m0[0]) / np.sqrt(m0[0]))
    print(f"columns that hop: shift in the disc of 0.6 A {np.round(narrow, 2)}")
    print(f"  with the ideal weight of every pixel of 11 x 11 {np.round(ideal, 2)}")
    rng, delays = np.random.default_rng(5), []
    for shift, (one, none) in zip(ideal, windows, strict=True):
        limit = shift * run_lengths.cusum_limit(ASKED, reference=shift / 2, sides="upper")
        counts = rng.poisson(none, (300, 120, *none.shape))
        told = np.tensordot(counts, np.log(none / one), 2) - (none - one).sum()
        alarm = charts.cusum(told, reference=1e-12).upper > limit
        delays.append(float(np.median(alarm.argmax(1) + 1)))
    print(f"  median delay of a column that vanishes, by these weights {delays}")
    for shift in (0.5, 1.0, 1.4, 2.0, 2.4):
        k = shift / 2
        limit = run_lengths.cusum_limit(ASKED, reference=k, sides="upper")
        delay = run_lengths.cusum_run_length(shift, reference=k, limit=limit, sides="upper")
        print(
            f"  shift {shift}: mean delay of the best sum {delay:.1f} frames, log(ARL0) over the "
            f"information of a frame {2 * np.log(ASKED) / shift**2:.1f}"
        )


RATES = Rates(1e-4, 1e-4)
Statistic = Callable[[Array, Discs, bool], Array]


def _ewma(counts: Array, d: Discs, appears: bool) -> Array:
    mean = d.absent if appears else d.present
    x = charts.standardised(counts, mean=mean, deviation=np.sqrt(mean))
    return charts.ewma(x).level * np.sign(d.shift)[:, None] * (1 if appears else -1)


def _cusum(counts: Array, d: Discs, appears: bool) -> Array:
    mean = d.absent if appears else d.present
    x = charts.standardised(counts, mean=mean, deviation=np.sqrt(mean))
    return charts.cusum(x * np.sign(d.shift)[:, None] * (1 if appears else -1)).upper


def _evidence(counts: Array, d: Discs) -> Array:
    return states.disc_evidence(counts, d.pixels, d.absent / d.pixels, d.present / d.pixels)


def _own_cusum(counts: Array, d: Discs, appears: bool) -> Array:
    e = _evidence(counts, d) * (1 if appears else -1)
    return charts.cusum(e, reference=1e-12).upper


def _hmm(counts: Array, d: Discs, appears: bool) -> Array:
    start = RATES._replace(present=1e-4 if appears else 1 - 1e-4)
    return states.filtered(_evidence(counts, d), start)[0] * (1 if appears else -1)


STATISTICS: dict[str, Statistic] = {
    "EWMA (0.2)": _ewma,
    "CUSUM (0.5)": _cusum,
    "CUSUM, own shift": _own_cusum,
    "HMM, filtered": _hmm,
}


def drawn(d: Discs, number: int, rng: np.random.Generator) -> Discs:
    """So many columns, drawn from the surface columns."""
    chosen = rng.integers(0, len(d.present), number)
    return Discs(*(field[chosen] for field in d))


def crossings(statistic: Array, limit: float) -> tuple[int, int]:
    """First alarms of the series, and the frames until them."""
    above = statistic > limit
    any_ = above.any(1)
    return int(any_.sum()), int(np.where(any_, above.argmax(1) + 1, above.shape[1]).sum())


def planted(radius: float = 0.6) -> None:
    d = discs(radius)
    onset, after = 300, 1500
    print(f"discs of {radius} A; {MOVIES} movies of {COLUMNS} columns")
    for appears in (True, False):
        rng = np.random.default_rng([1, appears])
        peaks: dict[str, list[Array]] = {name: [] for name in STATISTICS}
        foretold = {}
        for part in range(MOVIES * COLUMNS // 2000):
            some = drawn(d, 2000, rng)
            mean = (some.absent if appears else some.present)[:, None]
            null = rng.poisson(mean, (2000, MINUTE)).astype(np.uint16)
            for name, f in STATISTICS.items():
                shown = f(null, some, appears)
                peaks[name].append(shown.max(1))
                if not part:
                    foretold[name] = nulls.limit_from_null(shown, ASKED, block=500)
        # of the series 1 - exp(-MINUTE / ASKED) alarm: 50 of 10,000, for all charts alike
        every = {name: np.concatenate(p) for name, p in peaks.items()}
        limits = {name: float(np.sort(p)[-51]) for name, p in every.items()}
        if appears:
            chain = run_lengths.cusum_limit(ASKED, sides="upper")
            print(
                f"  rising CUSUM (0.5): alarms a minute at the chain's limit for normal noise "
                f"{chain:.2f} {(every['CUSUM (0.5)'] > chain).sum() / MOVIES:.2f}"
            )
        some = drawn(d, 20 * MOVIES, rng)
        first, second = (some.absent, some.present) if appears else (some.present, some.absent)
        means = np.repeat(first[:, None], onset + after, 1)
        means[:, onset:] = second[:, None]
        counts = rng.poisson(means)
        parts = np.array_split(np.argsort(np.abs(some.shift)), 3)
        print(
            " appears" if appears else " vanishes",
            f"{len(counts)} planted; shifts by thirds",
            [f"{np.abs(some.shift[p]).mean():.2f}" for p in parts],
        )
        for name, f in STATISTICS.items():
            shown = f(counts, some, appears)[:, onset:] > limits[name]
            delay = np.where(shown.any(1), shown.argmax(1) + 1.0, np.inf)
            recall = [f"{(delay <= h).mean():.3f}" for h in (75, 300, 1500)]
            thirds = [f"{np.median(delay[p]):.0f}" for p in parts]
            print(
                f"  {name:17}: limit {limits[name]:.2f} (from a null of 10 movies "
                f"{foretold[name]:.2f}, with {(every[name] > foretold[name]).sum() / MOVIES:.2f} "
                f"alarms a minute), recall in 1, 4, 20 s {recall}, median delay "
                f"{np.median(delay):.0f}, by thirds {thirds}"
            )
        start = Rates(1e-3, 1e-3, 1e-3 if appears else 1 - 1e-3)
        found = events.appearances(
            states.smoothed(_evidence(counts[:, : onset + 300], some), start)
        )
        good = (found.kind == ("appears" if appears else "vanishes")) & (found.probability > 0.9)
        error = np.abs(found.time[good] - onset)
        inside = (found.earliest[good] <= onset) & (found.latest[good] >= onset)
        number = found.column[good].astype(int)
        best = np.isin(number, parts[2])
        print(
            f"  HMM, 300 frames after are known: told {len(set(number)) / len(counts):.3f}, median "
            f"error of the time {np.median(error):.0f} frames (best third "
            f"{np.median(error[best]):.0f}), in the 90 % interval {inside.mean():.3f}"
        )


def baseline() -> None:
    """The mean is not known, but taken from the first frames."""
    rng = np.random.default_rng(2)
    for frames in (100, 300, 1000, 3000):
        alarms = time = 0
        for _ in range(4):
            x = charts.standardised(
                rng.standard_normal((2000, frames + 2000)), baseline=slice(0, frames)
            )[:, frames:]
            n, t = crossings(charts.cusum(x).statistic, run_lengths.cusum_limit(ASKED / 100))
            alarms, time = alarms + n, time + t
        print(
            f"baseline of {frames} frames: a false alarm in {time / max(alarms, 1):.0f} frames, "
            f"asked {ASKED / 100:.0f}"
        )


def smooth(x: Array, sigma: float) -> Array:
    return np.asarray(ndimage.gaussian_filter1d(x, sigma, axis=1))


def correlated() -> None:
    rng = np.random.default_rng(3)
    for sigma in (0.7, 1.0, 1.5, 3.0):
        noise = smooth(rng.standard_normal((2000, 1560)), sigma)[:, 30:-30]
        noise /= noise.std()
        covariance = nulls.autocovariance(noise[:300], 24)
        null = nulls.gaussian_null(covariance, 2000, 2500, rng)
        told = [f"{1 / rate(charts.cusum(noise).statistic, 5.0):.0f}"]
        for name, chart in (
            ("EWMA", lambda x: np.abs(charts.ewma(x).level)),
            ("CUSUM", lambda x: charts.cusum(x).statistic),
        ):
            limit = nulls.limit_from_null(chart(null), 1000)
            told.append(f"{name} by null (1000) {1 / rate(chart(noise), limit):.0f}")
        print(f"smoothed by {sigma} frames: run length", *told, sep="; ")
    for sigma in (1.0, 1.5, 3.0):
        print(f"smoothed by {sigma}:", *discovery(sigma, rng), sep=" ")


def rate(statistic: Array, limit: float) -> float:
    n, frames = crossings(statistic, limit)
    return n / frames


def discovery(sigma: float, rng: np.random.Generator, asked: float = 0.1) -> list[str]:
    """Share of false ones among claims, and of true ones that are claimed."""
    kept: dict[str, list[tuple[float, float]]] = {"by null": [], "as if independent": []}
    nulls: dict[str, Array] = {}
    for _ in range(60):
        series = rng.standard_normal((COLUMNS, 200))
        series[:20, 100:] += 1.5
        series = smooth(series, sigma)
        covariance = nulls.autocovariance(series, 20)
        if not nulls:
            same = nulls.gaussian_null(covariance / covariance[0], 10_000, 200, rng)
            nulls["by null"] = charts.cusum(same).statistic.max(1)
            white = rng.standard_normal((10_000, 200))
            nulls["as if independent"] = charts.cusum(white).statistic.max(1)
        peaks = charts.cusum(series / np.sqrt(covariance[0])).statistic.max(1)
        for name, null in nulls.items():
            told = discoveries(nulls.p_values(peaks, null), asked)
            kept[name].append((told[20:].sum() / max(1, told.sum()), told[:20].mean()))
    return [
        f"{name}: false {np.mean(rows, 0)[0]:.3f} +- {np.std(rows, 0)[0] / 60**0.5:.3f} (asked "
        f"{asked}), found {np.mean(rows, 0)[1]:.3f};"
        for name, rows in kept.items()
    ]


def hidden_states() -> None:
    """Columns of the movie's contrasts that come and go."""
    rng = np.random.default_rng(4)
    some = drawn(discs(0.6), 1000, rng)
    true = Rates(0.004, 0.004, 0.5)
    now = rng.random(1000) < 0.5
    rows = [now]
    for _ in range(999):
        now = now ^ (rng.random(1000) < 0.004)
        rows.append(now)
    present = np.array(rows).T
    counts = rng.poisson(np.where(present, some.present[:, None], some.absent[:, None]))
    told_by = _evidence(counts, some)
    learned = states.learn_rates(told_by)
    print(f"rates {true}, learned {learned}")
    p = states.smoothed(told_by, learned).present
    sure, right = np.maximum(p, 1 - p), (p > 0.5) == present
    for low, high in ((0.5, 0.7), (0.7, 0.85), (0.88, 0.92), (0.92, 0.98), (0.98, 1.001)):
        part = (sure >= low) & (sure < high)
        print(f"told with {sure[part].mean():.3f}: right {right[part].mean():.3f} of {part.sum()}")
    found = events.appearances(states.smoothed(told_by, learned))
    right_ = []
    for n, a, b, kind in zip(
        found.column.astype(int), found.earliest, found.latest, found.kind, strict=True
    ):
        change = np.diff(present[n].astype(int), prepend=int(present[n, 0]))
        when = np.flatnonzero(change == (1 if kind == "appears" else -1))
        right_.append(((when >= a) & (when <= b)).any())
    told = events.claimed(found.probability, 0.05)
    print(
        f"events {len(told)}, of {(present[:, 1:] != present[:, :-1]).sum()} true; claimed at 5 % "
        f"{told.sum()}, with a true one in the 90 % interval {np.mean(np.array(right_)[told]):.3f}"
    )


DRAWS = 2


def denoised() -> None:
    """The event of the shipped movie, restored: columns that vanish or appear for good.

    At the sites that the lattice has in the restored movie. The network looks 32 frames ahead, so
    that its charts may alarm before the event; an alarm while recording comes as much later.
    """
    part = shipped_movie(192)
    pixel, size = part.pixel_size, 0.6 / part.pixel_size
    restorer = load_denoiser("restorer")
    series: dict[str, list[Array]] = {"restored": [], "counts": []}
    changes: list[NDArray[np.int64]] = []
    ideal: list[Array] = []
    for draw in range(DRAWS):
        counts = np.random.default_rng(1000 + draw).poisson(part.clean).astype(np.uint8)
        shown = restorer(counts, pixel)
        level = float(np.median(shown))
        places = [find_columns(f / level, pixel, border=1.5).positions for f in shown]
        _, sites = lattice_sites(follow(places), places, (192, 192), pixel)
        there = np.stack([near_truth(part.truth(t), sites[t]) for t in range(len(sites))], 1)
        sums = {
            name: np.stack(
                [disc_sums(f, p / pixel, size)[0] for f, p in zip(m, sites, strict=True)], 1
            )
            for name, m in (("restored", shown), ("counts", counts), ("clean", part.clean))
        }
        rest = slice(0, 58)
        kind = np.select([there.all(1) | ~there.any(1)], [0], 9)
        kind[there[:, :60].all(1) & ~there[:, 76:].any(1)] = -1
        kind[~there[:, :60].any(1) & there[:, 76:].all(1)] = 1
        changes.append(kind)
        first = {name: s[:, rest].mean(1, keepdims=True) for name, s in sums.items()}
        spread = np.median((sums["restored"] - first["restored"])[kind == 0, rest].std(1))
        series["restored"].append((sums["restored"] - first["restored"]) / spread)
        series["counts"].append((sums["counts"] - first["counts"]) / np.sqrt(first["counts"]))
        moved = sums["clean"][:, 76:].mean(1) - first["clean"][:, 0]
        ideal.append(np.abs(moved) / np.sqrt(first["clean"][:, 0]))
    kinds, shift = np.concatenate(changes), np.concatenate(ideal)
    event = np.abs(kinds) == 1
    bound = 2 * np.log(ASKED) / np.median(shift[event]) ** 2
    print(
        f"{event.sum()} columns, which shift their disc by {np.median(shift[event]):.2f} a frame: "
        f"no detector of its electrons is faster than about {bound:.0f} frames"
    )
    for source, parts in series.items():
        every = np.concatenate(parts)
        for name, chart in (
            ("frame by frame", np.abs),
            ("EWMA", lambda x: np.abs(charts.ewma(x).level)),
            ("CUSUM", lambda x: charts.cusum(x).statistic),
            ("sum of 9 frames", lambda x: np.abs(ndimage.uniform_filter1d(x, 9, origin=4)) * 3),
            (
                "sum of 33 frames",
                lambda x: np.abs(ndimage.uniform_filter1d(x, 33, origin=16)) * 33**0.5,
            ),
        ):
            told = chart(every)
            for null, quiet in (
                ("at rest", told[kinds == 0, :58]),
                ("all along", told[kinds == 0]),
            ):
                limit = nulls.limit_from_null(quiet, ASKED, block=28)
                late = told[event][:, 60:] > limit
                delay = np.where(late.any(1), late.argmax(1) + 60.0 - 68, np.inf)
                others = (told[kinds == 0] > limit).any(1).mean()
                print(
                    f"  {source}, {name}, null {null}: limit {limit:.1f}, told "
                    f"{np.isfinite(delay).mean():.2f}, median {np.median(delay):.0f} frames after "
                    f"the middle of the event, of the others {others:.3f}"
                )


def near_truth(rows: Any, sites: Array) -> NDArray[np.bool_]:
    """Whether a column stands at each site."""
    return np.asarray(cKDTree(np.stack([rows["y"], rows["x"]], 1)).query(sites)[0] < 0.8)


def map_() -> None:
    """Smallest relative contrast of a disc of 0.6 A (20 px of 0.24 A) by dose and duration."""
    doses, durations = (2, 4, 8, 16, 32, 64), (1, 3, 5, 10, 25, 75, 300)
    print("frames " + " ".join(f"{d:>5} e/A2" for d in doses) + "   shift [sigma of a frame]")
    for frames in durations:
        shift = run_lengths.detectable_shift(frames, ASKED)
        row = [shift / np.sqrt(20 * dose * 0.24**2) for dose in doses]
        print(f"{frames:6} " + " ".join(f"{c:10.2f}" for c in row) + f"   {shift:.2f}")


def main() -> None:
    parts = {
        "lengths": lengths,
        "contrast": contrast,
        "planted": planted,
        "wide": lambda: planted(1.3),
        "baseline": baseline,
        "correlated": correlated,
        "states": hidden_states,
        "denoised": denoised,
        "map": map_,
    }
    for name in sys.argv[1:] or parts:
        print(f"== {name}")
        parts[name]()


if __name__ == "__main__":
    main()
