"""Networks for single images, shown sums of frames of the movies with truth.

The rival is r_em, published for images of any microscope (I. Lobato et al., npj Comput. Mater. 10
(2024) 10). It needs TensorFlow, and so an environment of its own:

    python -m venv rivals
    rivals/bin/pip install tk-r-em==1.0.4 tensorflow-cpu==2.15.1 "numpy<2"
    python tests/benchmarks/r_em.py rivals/bin/python [--movies MOVIE ...] [--networks ...]

Beside it the network of page 04 on the same sums. Figures as in movies.py, and the PSNR of the
central 192 pixels, which page 05 has. Writes data/r_em.json, which that page shows: what was asked
for anew, and what it held of others. r_em takes seconds an image on one core; where the processor
multiplies numbers of 16 bits, TF_SET_ONEDNN_FPMATH_MODE=BF16 makes that one.

r_em standardises what it is shown, so there is no unit to choose: a sum of three frames, times 0.1
to 100 or plus 5, was answered alike to 2e-6 of the answer's deviation. BF16 changes 0.8 % of that.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

import numpy as np
from elsewhere import asked
from movies import _something, figures

from insitu import fetch
from insitu.denoise.saved import load_denoiser
from insitu.files import whole
from insitu.simulate import movie_files
from insitu.trust.metrics import psnr

SUMS = (1, 3, 5, 9, 17, 25, 33, 65)  # frames
NETWORKS = ("sfr_hrtem", "sfr_lrtem", "pt_ceo2")  # of r_em, for high and low magnification; ours
WHEN = ("at rest", "event")
KINDS = ("dB", "surface", "inside", "dB of 192 px")
CENTRE = np.s_[32:224, 32:224]
ASK = """
import tk_r_em
network = tk_r_em.load_network("{}")
found["images"] = network.predict(given["images"], batch_size=1)
"""
SHIPS = Path(__file__).parents[2] / "data" / "r_em.json"


def answered(network, python, movie, frames, width):
    """What a network answers to sums of so many frames around some, for one frame."""
    parts = [movie.counts[max(0, t - width // 2) : t + width // 2 + 1] for t in frames]
    sums = np.array([part.sum(0, dtype=np.float32) for part in parts])
    if network == "pt_ceo2":
        images = load_denoiser(network)(sums, movie.plan.pixel_size)
    else:
        images = asked(python, ASK.format(network), images=sums)["images"]
    return images / np.array([len(part) for part in parts])[:, None, None]


def judged(name, every):
    """A movie, its expected counts, and the frames of it that are judged, at rest and not."""
    movie = movie_files.load(fetch.shipped(f"{name}.zarr"))
    plan = movie.plan
    still = [t for t in range(plan.frames) if not _something(movie, t)]
    rest = [still[k] for k in np.linspace(0, len(still) - 1, 20).astype(int)]
    event = [*range(plan.event, plan.event + plan.duration)]
    frames = {"at rest": rest[every // 2 :: every], "event": event[::every]}
    return movie, movie.clean() * plan.vacuum, frames


def main() -> None:
    """Write and print the figures of every movie, network and sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", help="of the environment that holds tk-r-em")
    parser.add_argument("--movies", nargs="+", default=list(movie_files.SHIPPED))
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--when", nargs="+", default=WHEN, choices=WHEN)
    parser.add_argument("--sums", nargs="+", type=int, default=SUMS, help="frames, odd")
    parser.add_argument("--every", type=int, default=1, help="judge every so-manieth frame")
    ask = parser.parse_args()
    for name in ask.movies:
        movie, clean, frames_of = judged(name, ask.every)
        for network, when, width in product(ask.networks, ask.when, ask.sums):
            frames = frames_of[when]
            images = answered(network, ask.python, movie, frames, width)
            central = [
                psnr(i[CENTRE], clean[t][CENTRE]) for t, i in zip(frames, images, strict=True)
            ]
            told = (*figures(movie, clean, frames, images), np.mean(central))
            row = {"movie": name, "network": network, "when": when, "frames summed": width}
            row |= {"frames judged": len(frames)}
            row |= {kind: round(float(v), 3) for kind, v in zip(KINDS, told, strict=True)}
            print(row, flush=True)
            _ship(row)


def _ship(new):
    """Put a row into what ships, in the place of that of the same movie, network, time and sum."""

    def named(row):
        return [row[k] for k in ("movie", "network", "when", "frames summed")]

    held = json.loads(SHIPS.read_text("utf-8"))["rows"] if SHIPS.exists() else []
    rows = sorted([row for row in held if named(row) != named(new)] + [new], key=named)
    lines = ",\n".join(json.dumps(row) for row in rows)
    with whole(SHIPS) as path:
        path.write_text(f'{{"package": "tk-r-em 1.0.4", "rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
