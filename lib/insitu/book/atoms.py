"""Atoms in three dimensions on the page: turned by mouse, touch or keys, a picture in print."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from numpy.typing import ArrayLike, NDArray

from insitu.book.figures import template

ATOM_COLOURS = {"Pt": "#A6A6A6", "Ce": "#E69F00", "O": "#D55E00"}
RADII = {"O": 0.7, "Pt": 1.35, "Ce": 1.2}  # as drawn [A]


def particle_view(
    positions: ArrayLike, symbols: Sequence[str], *, alt: str, size: int = 420, start: int = 0
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
    size : int
        Width and height on the screen.
    start : int
        Degrees about the vertical axis from which the view starts; 0 is along the beam.
    """
    points = np.asarray(positions, dtype=float)
    points = points - (points.min(0) + points.max(0)) / 2
    kinds = sorted(set(symbols))
    page = template("atoms.html").substitute(
        points=html.escape(json.dumps(np.rint(points * 20).astype(int).ravel().tolist())),
        kinds=html.escape(json.dumps([kinds.index(s) for s in symbols])),
        radii=html.escape(json.dumps([RADII.get(k, 1.1) * 20 for k in kinds])),
        colours=html.escape(json.dumps([ATOM_COLOURS.get(k, "#56B4E9") for k in kinds])),
        legend="".join(
            f'<span><i style="background: {ATOM_COLOURS.get(k, "#56B4E9")}"></i> {html.escape(k)}'
            "</span>"
            for k in kinds
        ),
        alt=html.escape(alt, quote=True),
        size=size,
        start=start,
        png=base64.b64encode(_still(points, symbols, start)).decode(),
    )
    display({"text/html": page, "text/plain": alt}, raw=True)


def _still(points: NDArray[np.float64], symbols: Sequence[str], angle: float) -> bytes:
    """Return the same view as a picture, for print and for readers without scripts."""
    turn = np.deg2rad(angle)
    x = np.cos(turn) * points[:, 0] + np.sin(turn) * points[:, 2]
    order = np.argsort(-(np.cos(turn) * points[:, 2] - np.sin(turn) * points[:, 0]))
    figure, axis = plt.subplots(figsize=(4.2, 4.2))
    reach = 1.05 * np.abs(points).max()
    width = np.array([RADII.get(symbols[i], 1.1) for i in order])
    axis.scatter(
        x[order],
        points[order, 1],
        s=(width * 300 / reach) ** 2 / 2,
        linewidths=0.2,
        c=[ATOM_COLOURS.get(symbols[i], "#56B4E9") for i in order],
        edgecolors="black",
    )
    axis.set(xlim=(-reach, reach), ylim=(reach, -reach), aspect="equal")
    axis.axis("off")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor="white", dpi=80, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()
