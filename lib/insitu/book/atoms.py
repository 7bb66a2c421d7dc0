"""Atoms in three dimensions on the page: turned by mouse, touch or keys, a picture in print."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from numpy.typing import ArrayLike, NDArray

from insitu.book.figures import template
from insitu.book.scales import typeset
from insitu.book.tiles import data_address, framed

ATOM_COLOURS = {"Pt": "#A6A6A6", "Ce": "#E69F00", "O": "#D55E00"}
RADII = {"O": 0.7, "Pt": 1.35, "Ce": 1.2}  # as drawn [A]


def particle_view(
    positions: ArrayLike, symbols: Sequence[str], *, alt: str, caption: str = ""
) -> None:
    """Atoms in three dimensions, to be turned by the mouse, by touch or by the arrow keys.

    Parameters
    ----------
    positions : (n, 3) array
        x to the right, y down, z along the beam, away from the viewer [A].
    symbols : sequence of str
        Of each atom.
    alt : str
        What is to be seen.
    caption : str
        What is to be noticed.
    """
    points = np.asarray(positions, dtype=float)
    points = points - (points.min(0) + points.max(0)) / 2
    names, kinds = np.unique(list(symbols), return_inverse=True)
    radii = np.array([RADII.get(name, 1.1) for name in names])
    colours = np.array([ATOM_COLOURS.get(name, "#56B4E9") for name in names])
    data = {
        "points": np.rint(points * 20).astype(int).ravel().tolist(),
        "kinds": kinds.tolist(),
        "radii": (radii * 20).tolist(),
        "colours": colours.tolist(),
    }
    more = "".join(f' data-{k}="{html.escape(json.dumps(v))}"' for k, v in data.items())
    body = template("atoms.html").substitute(
        legend="".join(
            f'<span><i style="background: {colour}"></i> {html.escape(name)}</span>'
            for name, colour in zip(names, colours, strict=True)
        ),
        alt=html.escape(alt, quote=True),
        png=data_address(_still(points, radii[kinds], colours[kinds])),
    )
    said = typeset(caption)
    display(framed(body, alt=alt, caption=said, kind="insitu-atoms", more=more), raw=True)


def _still(
    points: NDArray[np.float64], radii: NDArray[np.float64], colours: NDArray[np.str_]
) -> bytes:
    """Return the same view as a picture, for print and for readers without scripts."""
    order = np.argsort(-points[:, 2])  # those behind are drawn first
    figure, axis = plt.subplots(figsize=(4.2, 4.2))
    reach = 1.05 * np.abs(points).max()
    axis.scatter(
        points[order, 0],
        points[order, 1],
        s=(radii[order] * 300 / reach) ** 2 / 2,
        linewidths=0.2,
        c=colours[order],
        edgecolors="black",
    )
    axis.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal")
    axis.axis("off")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor="white", dpi=80, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()
