"""The zoo before the judge: wrong movies of four scenes, and which lines of the card find them.

With --kept instead: the contrast that denoisers keep, as the card finds it without the truth, and
as the truth has it in the same region.

python tests/benchmarks/judge.py [--draws 20] [--kept]
"""

from __future__ import annotations

import argparse
from collections import Counter
from time import perf_counter

import numpy as np

from insitu.denoise.classical import GaussianInTime
from insitu.denoise.saved import load_denoiser
from insitu.simulate.movie_files import SHIPPED, shipped_movie
from insitu.simulate.movies import Plan, make_movie
from insitu.trust.adversaries import adversaries
from insitu.trust.report import examine, report

UNSEEN = Plan(diameter=26.0, turn=6.0, seed=91)  # no limit of the card was chosen by it


def scenes():
    """Clean movie, columns, surface columns (both in px) at frame 20, pixel size."""
    for name in SHIPPED:
        movie = shipped_movie(name=name)
        yield name, movie.clean, movie.truth(20), movie.pixel_size
    movie, pixel_size = make_movie(UNSEEN), UNSEEN.pixel_size
    yield "unseen", movie.clean() * UNSEEN.vacuum, movie.truth(20), pixel_size


def kept(draws: int) -> None:
    """Print the contrast kept, found and true, mean over the draws, and the largest error."""
    denoisers = {name: load_denoiser(name) for name in ("pt_ceo2", "movie_ours", "restorer")}
    denoisers["Gaussian in time"] = GaussianInTime(1.0, frames=4)
    for name, clean, truth, pixel_size in scenes():
        clean = np.asarray(clean[:40], float)
        at = np.stack([truth["y"], truth["x"]], 1) / pixel_size
        surface = at[truth["surface"] & (truth["y"] < truth["y"].max() - 4)]
        rows: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        for draw in range(draws):
            counts = np.random.default_rng([31, draw]).poisson(clean)
            zoo = adversaries(counts, clean, at, surface, pixel_size, seed=draw)
            shown = {kind: zoo[kind].movie for kind in ("the truth", "half of the surface lost")}
            for kind, denoiser in denoisers.items():
                if denoiser is denoisers["pt_ceo2"]:
                    shown[kind] = np.stack([denoiser(frame, pixel_size) for frame in counts])
                else:
                    shown[kind] = denoiser(counts, pixel_size)
            for kind, movie in shown.items():
                judged = examine(counts, movie, pixel_size=pixel_size)
                for line in judged.lines:
                    if line.line == "contrast" and line.region in ("surface", "bulk"):
                        mask = judged.regions.masks[line.region]
                        f, c = (a[:, mask] - a[:, mask].mean() for a in (judged.denoised, clean))
                        told = line.value, line.error, float((f * c).sum() / (c * c).sum())
                        rows.setdefault((kind, line.region), []).append(told)
        for (kind, region), told in rows.items():
            found, error, true = np.mean(told, 0)
            worst = max((t[0] - t[2] for t in told), key=abs)
            words = f"{found:.3f} +- {error:.3f}, true {true:.3f}, off by {found - true:+.3f}"
            print(f"{name}; {kind}; {region}: {words} (worst {worst:+.3f})", flush=True)


def zoo_found(draws: int) -> None:
    """Print, for every scene and adversary, how often it is found, and by what."""
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


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--kept", action="store_true")
    asked = parser.parse_args()
    (kept if asked.kept else zoo_found)(asked.draws)


if __name__ == "__main__":
    main()
