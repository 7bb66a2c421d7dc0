"""Change points by other packages, at one rate of false alarms, where the step is known.

In an environment of its own, since none of them is needed by the book:

    python -m venv rivals && rivals/bin/pip install ruptures==1.1.10 river==0.26.1
    PYTHONPATH=lib rivals/bin/python tests/benchmarks/rivals.py

Series of 128 frames of unit variance, half of which step up in the middle, by what the electrons of
a column's disc change in the shipped movie, or by more. One in a hundred of those without a step is
to alarm, by each method's own threshold.
"""

from __future__ import annotations

import numpy as np
import ruptures
from river.drift import ADWIN
from scipy import ndimage

from insitu.measure import charts

FRAMES, ONSET, NULL, PLANTED = 128, 64, 2000, 400
FALSE = 0.01


def mean_of(x, frames):
    return ndimage.uniform_filter1d(x, frames, axis=1, origin=(frames - 1) // 2) * frames**0.5


def online(statistic, null, planted):
    """Recall and median delay of a statistic of each frame (n, t)."""
    limit = np.quantile(statistic(null).max(1), 1 - FALSE)
    late = statistic(planted)[:, ONSET:] > limit
    return late.any(1).mean(), np.median(np.where(late.any(1), late.argmax(1) + 1.0, np.inf))


def best_step(series):
    """Gain of one change point over none, by the linear kernel, and its frame; offline."""
    told = []
    for x in series:
        search = ruptures.KernelCPD(kernel="linear", min_size=2, jump=1).fit(x)
        at = search.predict(n_bkps=1)[0]
        parts = (x, x[:at], x[at:])
        whole, first, second = (((p - p.mean()) ** 2).sum() for p in parts)
        told.append((whole - first - second, at))
    return np.array(told).T


def adwin(series, delta):
    """First frame at which ADWIN tells a drift, infinity where it does not."""
    told = []
    for x in series:
        detector, first = ADWIN(delta=delta, clock=1, min_window_length=2, grace_period=4), np.inf
        for t, value in enumerate(x):
            detector.update(float(value))
            if detector.drift_detected:
                first = t
                break
        told.append(first)
    return np.array(told)


def main():
    rng = np.random.default_rng(0)
    null = rng.standard_normal((NULL, FRAMES))
    deltas = np.geomspace(0.9, 1e-4, 14)
    rates = [np.isfinite(adwin(null[:500], d)).mean() for d in deltas]
    delta = deltas[int(np.argmax(np.array(rates) <= FALSE))]
    for shift in (1.1, 2.0):
        planted = rng.standard_normal((PLANTED, FRAMES))
        planted[:, ONSET:] += shift
        print(f"step of {shift} standard deviations")
        for name, statistic in (
            ("CUSUM made for it", lambda x, k=shift / 2: charts.cusum(x, reference=k).upper),
            ("EWMA (0.2)", lambda x: np.abs(charts.ewma(x).level)),
            ("mean of 9 frames", lambda x: np.abs(mean_of(x, 9))),
            ("mean of 33 frames", lambda x: np.abs(mean_of(x, 33))),
        ):
            recall, delay = online(statistic, null, planted)
            print(f"  {name:22} recall {recall:.3f}, median delay {delay:.0f} frames")
        limit = np.quantile(best_step(null)[0], 1 - FALSE)
        gain, at = best_step(planted)
        off = np.abs(at - ONSET)[gain > limit]
        print(
            f"  ruptures KernelCPD     recall {(gain > limit).mean():.3f}, from all frames; off by "
            f"{np.median(off):.0f} frames"
        )
        first = adwin(planted, delta)
        late = np.where(first >= ONSET, first - ONSET + 1, np.inf)
        print(
            f"  ADWIN ({delta:.2g})        recall {np.isfinite(late).mean():.3f}, median delay "
            f"{np.median(late):.0f} frames"
        )


if __name__ == "__main__":
    main()
