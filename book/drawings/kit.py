"""Canvas, words, arrows, boxes and small pictures of the drawings.

A drawing is 540 pixels wide, as the page shows it, and its smallest letters are 16 pixels high;
on a phone, where 350 pixels are left of the width, they are still 10. All places are given in
these pixels, from the upper left corner.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from numpy.typing import ArrayLike

from insitu.book.figures import COLOURS

WIDTH = 540  # pixels, of each drawing
SMALLEST = 16  # pixels, of letters
BLUE, ORANGE, GREEN, PINK, GOLD, SKY, BLACK = COLOURS
GREY, SILVER = "#5a5a5a", "#b9c0c8"
INK = {ORANGE: "#a84300", GREEN: "#006e50", SKY: "#1c6a96"}  # dark enough for letters on white


def canvas(height: float) -> Axes:
    """Return axes of 540 x `height` pixels, y downwards, with nothing in them."""
    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "insitu", "font.size": 12})
    figure = plt.figure(figsize=(WIDTH / 96, height / 96), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    return axes


def save(axes: Axes, path: Path) -> None:
    """Write the drawing as SVG, the same bytes each time, and close it."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.savefig(path, format="svg", facecolor="white", dpi=192, metadata={"Date": None})
    plt.close(figure)


def words(axes: Axes, x: float, y: float, text: str, size: float = 16, **options: Any) -> None:
    """Write at a place, centred unless `ha` or `va` say otherwise; `size` in pixels."""
    usual: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "color": BLACK,
        "linespacing": 1.25,
        "zorder": 6,
    }
    options = usual | options
    options["color"] = INK.get(options["color"], options["color"])
    axes.text(x, y, text, fontsize=0.75 * max(size, SMALLEST), **options)


def arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    color: str = GREY,
    *,
    bend: float = 0.0,
    width: float = 1.8,
    head: float = 11.0,
    style: str = "-|>",
) -> None:
    """Draw an arrow; `bend` is its height over its length."""
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle=style,
            mutation_scale=head,
            color=color,
            lw=width,
            shrinkA=0,
            shrinkB=0,
            connectionstyle=f"arc3,rad={bend}",
            joinstyle="miter",
        )
    )


def box(
    axes: Axes,
    place: tuple[float, float, float, float],
    text: str = "",
    *,
    face: str = "white",
    edge: str = GREY,
    size: float = 16,
    round_by: float = 6,
    **options: Any,
) -> None:
    """Draw a box at (left, top, width, height) with words in it."""
    left, top, width, height = place
    axes.add_patch(
        FancyBboxPatch(
            (left + round_by, top + round_by),
            width - 2 * round_by,
            height - 2 * round_by,
            boxstyle=f"round,pad={round_by},rounding_size={round_by}",
            facecolor=face,
            edgecolor=edge,
            lw=1.4,
        )
    )
    if text:
        words(axes, left + width / 2, top + height / 2, text, size, **options)


def square(axes: Axes, x: float, y: float, side: float, **options: Any) -> None:
    """Draw a square, given by its upper left corner."""
    usual: dict[str, Any] = {"facecolor": "none", "edgecolor": GREY, "lw": 1.0}
    axes.add_patch(Rectangle((x, y), side, side, **(usual | options)))


def dot(axes: Axes, x: float, y: float, radius: float, **options: Any) -> None:
    """Draw a disc."""
    axes.add_patch(Circle((x, y), radius, **({"lw": 0} | options)))


def picture(
    axes: Axes,
    image: ArrayLike,
    place: tuple[float, float, float, float],
    limits: tuple[float, float],
    *,
    cmap: Any = "gray",
    edge: str = GREY,
) -> None:
    """Draw an image at (left, top, width, height), its pixels sharp."""
    left, top, width, height = place
    axes.imshow(
        np.asarray(image),
        extent=(left, left + width, top + height, top),
        vmin=limits[0],
        vmax=limits[1],
        cmap=cmap,
        aspect="auto",
        interpolation="nearest",
        zorder=2,
    )
    frame = Rectangle((left, top), width, height, fill=False, edgecolor=edge, lw=1.2, zorder=3)
    axes.add_patch(frame)
    axes.set(xlim=(0, WIDTH), ylim=axes.get_ylim())


def grid(axes: Axes, values: ArrayLike, left: float, top: float, side: float) -> None:
    """Draw counts as a grid of pixels, and write them; NaN is one that is hidden."""
    for row, line in enumerate(np.asarray(values, float)):
        for column, value in enumerate(line):
            x, y, hidden = left + column * side, top + row * side, bool(np.isnan(value))
            face = ORANGE if hidden else plt.get_cmap("Blues")(min(1.0, 0.06 + 0.2 * value))
            square(axes, x, y, side, facecolor=face, edgecolor="white", lw=1.2)
            ink = "white" if hidden or value > 2 else BLACK
            words(axes, x + side / 2, y + side / 2, "?" if hidden else f"{value:g}", color=ink)
