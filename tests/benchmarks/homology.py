"""What persistent homology tells of an event, a number a frame, beside a count of columns.

It needs detectda, and so an environment of its own:

    python -m venv rivals && rivals/bin/pip install detectda==0.5.6 scikit-learn==1.5.2
    python tests/benchmarks/homology.py rivals/bin/python

For three movies: by how many standard deviations of the frames before the event a statistic of a
frame differs in the event and after it, and the frames from the onset to the alarm of a CUSUM
(0.5, 5) on it. The statistics are those of A. M. Thomas et al., Technometrics 65 (2023) 465:
persistent entropy and ALPS of the components of sublevel sets, of counts smoothed by two pixels and
of restored frames. The number of columns is that of the blobs of the same restored frames.
"""

from __future__ import annotations

import sys

import numpy as np
from elsewhere import asked

from insitu.denoise.saved import load_denoiser
from insitu.measure import charts
from insitu.simulate.movie_files import SHIPPED, shipped_movie
from insitu.trust.columns import find_columns

ASK = """
from detectda.imgs import ImageSeries
for name in given.files:
    series = ImageSeries(given[name])
    series.fit(sigma=2.0 if name == "counts" else None, print_time=False)
    series.get_pers_entr()
    series.get_alps()
    found[name + ", entropy"], found[name + ", ALPS"] = series.pers_entr, series.alps
"""


def main() -> None:
    """Print a row for each movie and statistic."""
    python = sys.argv[1]
    restorer = load_denoiser("restorer")
    for name in SHIPPED:
        movie = shipped_movie(192, name=name)
        onset, end = movie.plan.event, movie.plan.event + movie.plan.duration
        shown = restorer(movie.counts, movie.pixel_size)
        given = {"counts": movie.counts.astype(float), "restored": shown, "clean": movie.clean}
        series = asked(python, ASK, **given)
        level = np.median(shown)
        blobs = [find_columns(frame / level, movie.pixel_size) for frame in shown]
        series["restored, number of columns"] = np.array([len(b.positions) for b in blobs], float)
        for what, values in series.items():
            x = charts.standardised(values[None], baseline=slice(0, onset - 3))
            alarm = charts.cusum(x).alarm[0]
            after = np.flatnonzero(alarm[onset:])
            print(
                f"{name}; {what}; in the event {x[0, onset:end].mean():+.2f}, after it "
                f"{x[0, end + 3 :].mean():+.2f} standard deviations; false alarms before "
                f"{alarm[: onset - 3].sum()}, alarm after {after[0] + 1 if len(after) else '-'} "
                "frames",
                flush=True,
            )


if __name__ == "__main__":
    main()
