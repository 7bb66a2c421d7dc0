"""The r_em network, published for single images of any microscope, on the movies with truth.

It needs TensorFlow, and so an environment of its own:

    python -m venv rivals
    rivals/bin/pip install tk-r-em==1.0.4 tensorflow-cpu==2.15.1 "numpy<2"
    python tests/benchmarks/r_em.py rivals/bin/python [MOVIE ...]

Writes data/r_em.json, which page 05 shows, and prints it. The network, `sfr_hrtem` of I. Lobato et
al., npj Comput. Mater. 10 (2024) 10, has learned from simulations of other specimens and sees one
image, a frame or a sum of some; figures as in movies.py. It takes seconds a frame.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from elsewhere import asked
from movies import _something, figures

from insitu import fetch
from insitu.denoise.sums import mean_frames
from insitu.files import whole
from insitu.simulate import movie_files

SUMS = (1, 3, 25)  # frames
ASK = """
import tk_r_em
network = tk_r_em.load_network("sfr_hrtem")
images = given["images"][..., None]
found["images"] = np.stack([network.predict(i[None])[0, ..., 0] for i in images])
"""


def main() -> None:
    """Write and print the figures of every movie and sum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", help="of the environment that holds tk-r-em")
    parser.add_argument("movies", nargs="*", default=list(movie_files.SHIPPED))
    arguments = parser.parse_args()
    python, rows = arguments.python, []
    for name in arguments.movies:
        movie = movie_files.load(fetch.shipped(f"{name}.zarr"))
        plan = movie.plan
        clean = movie.clean() * plan.vacuum
        counts = torch.from_numpy(movie.counts.astype(np.float32))
        event = range(plan.event, plan.event + plan.duration)
        still = [t for t in range(plan.frames) if not _something(movie, t)]
        rest = [still[k] for k in np.linspace(0, len(still) - 1, 20).astype(int)]
        for frames in SUMS:
            means = mean_frames(counts, [*rest, *event], [frames])[:, 0].numpy()
            images = asked(python, ASK, images=means * frames)["images"] / frames
            row = {"movie": name, "frames summed": frames}
            for when, at, part in (("at rest", rest, images[:20]), ("event", event, images[20:])):
                told = figures(movie, clean, at, part)
                kinds = (f"{when}: {kind}" for kind in ("dB", "surface", "inside"))
                row |= {k: round(float(v), 3) for k, v in zip(kinds, told, strict=True)}
            rows.append(row)
            print(row, flush=True)
        about = {"package": "tk-r-em 1.0.4", "network": "sfr_hrtem", "frame": [256, 256]}
        with whole(Path(__file__).parents[2] / "data" / "r_em.json") as path:
            path.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
