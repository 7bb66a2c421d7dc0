"""The zoo before the judge: wrong movies of four scenes, and which lines of the card find them.

python tests/benchmarks/judge.py [--draws 20]
"""

from __future__ import annotations

import argparse
from collections import Counter
from time import perf_counter

import numpy as np

from insitu.simulate.movie_files import SHIPPED, shipped_movie
from insitu.simulate.movies import Plan, make_movie
from insitu.trust.adversaries import adversaries
from insitu.trust.report import report

UNSEEN = Plan(diameter=26.0, turn=6.0, seed=91)  # no limit of the card was chosen by it


def scenes():
    """Clean movie, columns, surface columns (both in px) at frame 20, pixel size."""
    for name in SHIPPED:
        movie = shipped_movie(name=name)
        yield name, movie.clean, movie.truth(20), movie.pixel_size
    movie, pixel_size = make_movie(UNSEEN), UNSEEN.pixel_size
    yield "unseen", movie.clean() * UNSEEN.vacuum, movie.truth(20), pixel_size


def main() -> None:
    """Print, for every scene and adversary, how often it is found, and by what."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20)
    draws = parser.parse_args().draws
    for name, clean, truth, pixel_size in scenes():
        clean = np.asarray(clean[:40], float)
        at = np.stack([truth["y"], truth["x"]], 1) / pixel_size
        surface = at[truth["surface"] & (truth["y"] < truth["y"].max() - 4)]
        caught, failed, cards, seconds = Counter(), {}, Counter(), 0.0
        for draw in range(draws):
            counts = np.random.default_rng(draw).poisson(clean)
            zoo = adversaries(counts, clean, at, surface, pixel_size, seed=draw)
            for kind, (movie, by) in zoo.items():
                start = perf_counter()
                card = report(counts, movie, pixel_size=pixel_size)
                seconds += perf_counter() - start
                bad = {f"{line.line}/{line.region}" for line in card if line.verdict == "fail"}
                cards[kind] += 1
                caught[kind] += bool(bad & set(by)) if by else not bad
                failed.setdefault(kind, Counter()).update(bad)
        print(f"\n{name}: {seconds / cards.total():.1f} s a card")
        for kind in cards:
            words = "passes" if not zoo[kind].caught_by else " or ".join(zoo[kind].caught_by)
            often = ", ".join(f"{k} {n}" for k, n in failed[kind].most_common(6))
            print(f"{kind:34s} {caught[kind]:3d} of {cards[kind]}  {words:40s} [{often}]")


if __name__ == "__main__":
    main()
