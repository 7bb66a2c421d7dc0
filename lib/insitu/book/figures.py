"""Figures of a page: `show` with a caption and a text for those who cannot see them, grey levels
that can be compared, scale bars, and the scrubber.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from skimage.util import montage

from insitu.book.png import few_colours
from insitu.book.scales import scale_html, typeset
from insitu.book.tiles import MOST_BYTES, data_address, framed, tiles

# Okabe and Ito's colours, which people with colour blindness can tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

STYLE: Any = {
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.size": 10,
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "legend.frameon": False,
}
_NUMBERS = (int, float, np.number)


def style() -> None:
    """Draw as on the pages of the book, from here on: `chapter.start` calls it."""
    plt.rcParams.update(STYLE)


def show(figure: Figure, *, alt: str, caption: str = "") -> None:
    """Put a figure on the page, with its number and caption, and close it.

    Each of its axes becomes a picture of its own, as `insitu.book.tiles` says.

    Parameters
    ----------
    figure : Figure
        A matplotlib figure.
    alt : str
        What is to be seen, in a sentence or two, for readers who cannot see it.
    caption : str
        What is to be noticed, in a sentence or two; its numbers are those of the run.

    Raises
    ------
    ValueError
        If `alt` says too little.
    """
    if len(alt.split()) < 4:
        raise ValueError(f"alt: say in a sentence what the figure shows, got {alt!r}")
    body = tiles(figure, alt)
    plt.close(figure)
    display(framed(body, alt=alt, caption=typeset(caption)), raw=True)


def panels(
    images: Mapping[str, ArrayLike],
    *,
    pixel_size: float,
    limits: tuple[float, float] | None = None,
    label: str = "electrons per pixel",
    columns: int = 4,
    width: float = 2.6,
) -> Figure:
    """Images side by side with the same grey levels, one colour bar, and a scale bar.

    Parameters
    ----------
    images : mapping
        Title and (y, x) array of each panel.
    pixel_size : float
        [A].
    limits : (float, float), optional
        Values drawn black and white; by default the smallest value of all panels and the one
        that 0.5 % of their pixels pass. Values outside are marked by the colour bar's points.
    """
    arrays = {title: np.asarray(image, dtype=float) for title, image in images.items()}
    low, high = limits or grey_limits(list(arrays.values()))
    columns = min(columns, len(arrays))
    rows = -(-len(arrays) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns + 0.9, (width + 0.25) * rows), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    drawn: Any = None
    for axis, (title, image) in zip(axes.flat, arrays.items(), strict=False):
        drawn = axis.imshow(image, vmin=low, vmax=high, cmap="gray")
        axis.set_title(title, fontsize=10)
        scale_bar(axis, pixel_size)
    below = any(image.min() < low for image in arrays.values())
    above = any(image.max() > high for image in arrays.values())
    extend = ("neither", "min", "max", "both")[below + 2 * above]
    figure.colorbar(drawn, ax=axes, label=label, extend=extend, shrink=0.9, pad=0.02)
    return figure


def show_panels(
    images: Mapping[str, ArrayLike], *, alt: str, caption: str = "", **options: Any
) -> None:
    """Put `panels` on the page: images side by side, with the options of `panels`.

    Parameters
    ----------
    images : mapping
        Title and (y, x) array of each panel.
    alt : str
        What is to be seen, in a sentence or two.
    caption : str
        What is to be noticed.
    **options
        Of `panels`: `pixel_size`, `limits`, `label`, `columns`, `width`.
    """
    show(panels(images, **options), alt=alt, caption=caption)


def table(
    rows: Sequence[Mapping[str, Any]], *, digits: int = 4, caption: str = "", folded: str = ""
) -> None:
    """Put a table on the page.

    Parameters
    ----------
    rows : sequence of mappings
        Rows with the same keys, which head the columns.
    digits : int
        Significant digits of a number that is not whole.
    caption : str
        What stands in the table.
    folded : str
        What is seen of a table that opens on a click, such as one that a figure has said.
    """
    columns: list[list[str]] = []  # as text
    marked: list[list[str]] = []  # as HTML
    for head in rows[0] if rows else ():
        values = [row[head] for row in rows]
        texts = [typeset(str(head)), *(_written(value, digits) for value in values)]
        number = all(isinstance(v, _NUMBERS) and not isinstance(v, bool) for v in values)
        wide = max(map(len, texts))
        columns.append([text.rjust(wide) if number else text.ljust(wide) for text in texts])
        kind = ' class="number"' if number else ""
        first, *others = map(html.escape, texts)
        marked.append([f"<th{kind}>{first}</th>", *(f"<td{kind}>{t}</td>" for t in others)])
    lines = ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
    header, *body = [f"<tr>{''.join(row)}</tr>" for row in zip(*marked, strict=True)] or [""]
    caption = typeset(caption)
    said = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    page = (
        f'<table class="insitu-table">{said}<thead>{header}</thead>'
        f"<tbody>{''.join(body)}</tbody></table>"
    )
    text = "\n".join([caption, *lines] if caption else lines)
    if folded:
        head = f"<summary>{html.escape(folded)}</summary>"
        page, text = f'<details class="insitu-results">{head}{page}</details>', folded
    display({"text/html": page, "text/plain": text}, raw=True)


def _written(value: Any, digits: int) -> str:
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return "\u2013"
        words = f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
        return words.replace("-", "\u2212")
    return typeset(str(value))


def grey_limits(images: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Grey levels that serve several images: the smallest value, and the 99.5th percentile."""
    values = np.concatenate([np.asarray(a, dtype=float).ravel() for a in images])
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    return low, high if high > low else low + 1.0


def scale_bar(axis: Axes, pixel_size: float) -> None:
    """Draw a bar of a round length near a quarter of the image's width; `pixel_size` in A."""
    left, right = axis.get_xlim()
    length, text = _bar_length(abs(right - left) * pixel_size)
    bar = AnchoredSizeBar(
        axis.transData,
        length / pixel_size,
        text,
        "lower left",
        pad=0.3,
        sep=3,
        color="black",
        fontproperties={"size": 8},
        size_vertical=abs(right - left) / 100,
    )
    bar.patch.set(alpha=0.75, linewidth=0)
    axis.add_artist(bar)


def _bar_length(field: float) -> tuple[float, str]:
    """A round length [A] near a quarter of the field, and its label."""
    target = field / 4
    power = 10.0 ** np.floor(np.log10(target))
    length = float(max(m * power for m in (1, 2, 5) if m * power <= target * 1.001))
    return length, f"{length / 10:g} nm" if length >= 10 else f"{length:g} \u00c5"


def scrubber(
    movies: Mapping[str, ArrayLike],
    *,
    labels: Sequence[str],
    alt: str,
    pixel_size: float,
    caption: str = "",
    limits: tuple[float, float] | None = None,
    zoom: int = 3,
    name: str = "frame",
    levels: int = 64,
    start: int = 0,
) -> None:
    """Movies side by side with a slider, which needs no kernel.

    It is plain HTML with all frames in one sheet: a range input, worked by mouse or arrow keys,
    shows one of them, and a button plays them; without scripts, and in print, the whole sheet is
    seen.

    Parameters
    ----------
    movies : mapping
        Title and (t, y, x) array of each movie, all of one shape.
    labels : sequence of str
        What to say of each frame, such as its time.
    alt : str
        What is to be seen.
    pixel_size : float
        [A].
    caption : str
        What is to be noticed.
    limits : (float, float), optional
        Values drawn black and white, the same for all.
    zoom : int
        Screen pixels for each pixel of the movies, where there is room.
    name : str
        What the slider goes through.
    levels : int
        Grey levels at most; noisy movies get fewer, down to 24, to take fewer bytes.
    start : int
        The frame that is shown first.
    """
    arrays = [np.asarray(m, dtype=float) for m in movies.values()]
    if len({a.shape for a in arrays}) != 1 or len(labels) != len(arrays[0]):
        raise ValueError(
            f"movies: expected one shape and one label a frame, got shapes "
            f"{[a.shape for a in arrays]} and {len(labels)} labels"
        )
    low, high = limits or grey_limits(arrays)
    labels = [typeset(label) for label in labels]
    gap = 4
    joined = np.concatenate(
        [np.pad(a, ((0, 0), (0, 0), (0, gap)), constant_values=high) for a in arrays], axis=2
    )
    grey = np.rint(np.clip((joined - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    count, height, width = grey.shape
    columns = min(count, max(1, round((count * height / width) ** 0.5)))
    rows = -(-count // columns)
    sheet = montage(grey, fill=255, grid_shape=(rows, columns))
    for fewer in sorted({min(levels, n) for n in (levels, 32, 24)}, reverse=True):
        png = few_colours(Image.fromarray(sheet), fewer)
        if len(png) < MOST_BYTES:
            break
    wide = arrays[0].shape[2]
    length, text = _bar_length(wide * pixel_size)
    bar = scale_html(length / pixel_size / wide, text)
    views = [
        f'<div class="insitu-tile" style="max-width:{wide * zoom}px">'
        f'<div style="text-align:center">{html.escape(typeset(title))}</div>'
        f'<div class="view" style="position:relative">{bar}</div></div>'
        for title in movies
    ]
    body = template("scrubber.html").substitute(
        sheet=data_address(png),
        alt=html.escape(alt, quote=True),
        titles=html.escape(" | ".join(movies)),
        views="".join(views),
        first=html.escape(labels[start]),
        start=start,
        name=html.escape(name),
        last=count - 1,
    )
    places = {"columns": columns, "rows": rows, "movies": len(arrays), "gap": gap, "wide": wide}
    told = json.dumps({"labels": labels, "high": height, **places})
    more = f' data-sheet="{html.escape(told, quote=True)}"'
    caption = typeset(caption)
    display(framed(body, alt=alt, caption=caption, kind="insitu-scrubber", more=more), raw=True)


def template(name: str) -> Template:
    """Return the HTML of that name beside this module, with `$name` where values go."""
    return Template((Path(__file__).parent / name).read_text("utf-8").rstrip())
