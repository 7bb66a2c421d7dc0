"""A figure as HTML: each of its axes a picture, so that they wrap on a phone.

Titles, scale bars and colour bars become text, which stays readable at any width, and an image
without anything on it keeps its own pixels. A plot whose letters would be too small on a phone is
drawn a second time, narrower.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar
from PIL import Image

from insitu.book.png import few_colours
from insitu.book.scales import colour_bars, scale_html, typeset

LEAST = 10.0  # CSS pixels: letters are not shown smaller
PHONE = 336.0  # CSS pixels that a screen 390 wide has for a figure
MOST_BYTES = 110_000  # of the pictures of a figure; all of a page's keep below 1.2 MB
# dots an inch and grey levels, best first: noise takes many bytes, and hides that it got fewer
_QUALITIES = ((150, 64), (120, 40), (100, 32), (100, 24))
_DONE: dict[str, str] = {}  # number of each figure that the page has shown, by its text
_CHAPTER = [""]


def begin(chapter: str) -> None:
    """Number the figures from 1 on, as those of a chapter: '5.' gives 'Figure 5.1'."""
    _DONE.clear()
    _CHAPTER[0] = chapter


def framed(body: str, *, alt: str, caption: str, kind: str = "", more: str = "") -> dict[str, str]:
    """Return a numbered figure with its caption, as HTML and as plain text.

    A cell that is run again keeps its number.

    Parameters
    ----------
    body : str
        HTML of what is seen.
    alt : str
        What is to be seen; figures are told apart by it.
    caption : str
        What stands below.
    kind : str
        Class of the figure, beside `insitu-figure`.
    more : str
        Further attributes.
    """
    number = _DONE.setdefault(alt, f"Figure {_CHAPTER[0]}{len(_DONE) + 1}")
    said = f"<b>{number}.</b> {html.escape(caption)}"
    page = (
        f'<figure class="insitu-figure {kind}" style="margin:0 0 1em"{more}>\n{body}\n'
        f'<figcaption style="max-width:50em">{said}</figcaption></figure>'
    )
    return {"text/html": page, "text/plain": f"{number}. {caption or alt}"}


def tiles(figure: Figure, alt: str) -> str:
    """Return the axes of a figure as HTML, row by row as they stand.

    Parameters
    ----------
    figure : Figure
        Its titles, scale bars and colour bars are taken out of it.
    alt : str
        What is to be seen.

    Raises
    ------
    ValueError
        If the figure has a text or a legend that belongs to none of its axes.
    """
    if figure.texts or figure.legends:
        raise ValueError("figure: expected texts and legends in its axes, not in the whole figure")
    bars = colour_bars(figure)
    axes = [a for a in figure.axes if a.axison or a.has_data() or a.texts]
    for axis in axes:
        _say_what_is_shared(axis)
    heads = {axis: _title(axis) for axis in axes}
    scales = {axis: _scale(axis) for axis in axes}
    figure.canvas.draw()
    places = {axis: _place(figure, axis) for axis in axes}
    rows = _rows(places)
    widest = max(sum(places[axis].width for axis in row) for row in rows)
    letters = {axis: _letters(axis) / places[axis].width for axis in axes}
    pictures = _pictures(figure, places, letters)
    halves = [a for a in axes if _bare(a)]  # that are two a row on a phone, if all can be
    if any(letters[a] * (PHONE / 2 - 4) < LEAST for a in halves if letters[a]):
        halves = []
    parts: list[str] = []
    for row in rows:
        beside = max(("".join(bars.get(axis, [])) for axis in row), key=len)
        if beside:  # room for it below the others too, so that pictures stand at one height
            beside = f'<div aria-hidden="true" style="visibility:hidden">{beside}</div>'
        for axis in row:
            share = f"flex:1 1 {100 * places[axis].width / widest - 1.5:.1f}%"
            wide = f"max-width:{max(places[axis].width, 170):.0f}px"
            if letters[axis]:  # on a wide screen too; a phone has another picture
                wide += f";min-width:min(100%,{LEAST / letters[axis]:.0f}px)"
            words = alt if not parts else f"Panel {len(parts) + 1} of the same figure"
            view = _view(pictures[axis], letters[axis], words, heads[axis], scales[axis])
            kind = "insitu-tile half" if axis in halves else "insitu-tile"
            head = heads[axis] or ("&nbsp;" if any(heads[a] for a in row) else "")
            head = f'<div style="text-align:center">{head}</div>' if head else ""
            own = "".join(bars.get(axis, [])) or beside
            parts.append(f'<div class="{kind}" style="{share};{wide}">{head}{view}{own}</div>')
        parts.append('<div class="insitu-row" style="flex:0 0 100%"></div>')
    shared = "".join(bars.get(None, []))
    return (
        '<div class="insitu-tiles" style="display:flex;flex-wrap:wrap;align-items:flex-end;'
        'gap:6px 1.4%">\n' + "\n".join(parts[:-1]) + f"</div>{shared}"
    )


def data_address(png: bytes) -> str:
    """Return a PNG as the address of an image."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _view(picture: Mapping[str, Any], letters: float, alt: str, head: str, scale: str) -> str:
    if head and alt.startswith("Panel"):
        alt = f"{alt}: {re.sub('<.*?>', '', head)}"
    look = "width:100%;display:block"
    look += ";image-rendering:pixelated" if "pixels" in picture else ""
    told = f' data-pixels="{picture["pixels"]}"' if "pixels" in picture else ""
    told += f' data-letters="{letters:.4f}"' if letters else ""
    image = (
        f'<img class="dark-light" alt="{html.escape(alt, quote=True)}"{told} style="{look}" '
        f'src="{data_address(picture["png"])}">'
    )
    if "narrow" in picture:
        image = (
            f'<picture data-narrow="{picture["letters"]:.4f}"><source media="(max-width: 600px)" '
            f'srcset="{data_address(picture["narrow"])}">{image}</picture>'
        )
    return f'<div class="insitu-view" style="position:relative">{image}{scale}</div>'


def _pictures(
    figure: Figure, places: Mapping[Axes, Any], letters: Mapping[Axes, float]
) -> dict[Axes, dict[str, Any]]:
    """Pictures of the axes, in as few bytes as they need."""
    raw = {axis: _own_pixels(axis) for axis in places}
    small = [a for a in places if 0 < letters[a] * PHONE < LEAST]
    found: dict[Axes, dict[str, Any]] = {}
    for dots, levels in _QUALITIES:
        drawn = _drawn(figure, dots)
        for axis, place in places.items():
            image = raw[axis]
            part = drawn.crop(_corners(place, drawn, dots)) if image is None else image
            found[axis] = {"png": few_colours(part, levels)}
            if image is not None:
                found[axis]["pixels"] = image.width
        if sum(len(picture["png"]) for picture in found.values()) < MOST_BYTES:
            break
    if small:
        drawn = _narrow(figure, small)
    for axis in small:
        place = _place(figure, axis)
        found[axis]["narrow"] = few_colours(drawn.crop(_corners(place, drawn, 144)), 24)
        found[axis]["letters"] = _letters(axis) / place.width
    return found


def _narrow(figure: Figure, axes: Sequence[Axes]) -> Image.Image:
    """Draw a figure so narrow that the letters of these axes can be read on a phone."""
    for _ in range(6):  # words keep their size, so that one step may not do
        least = min(_letters(axis) / _place(figure, axis).width for axis in axes)
        wide, high = figure.get_size_inches()
        if least * PHONE >= LEAST or wide < 3:
            break
        figure.set_size_inches(0.98 * wide * PHONE * least / LEAST, high)
        figure.canvas.draw()
    return _drawn(figure, 144)


def _drawn(figure: Figure, dots: int) -> Image.Image:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor="white", dpi=dots)
    return Image.open(stream).convert("RGB")


def _corners(place: Any, drawn: Image.Image, dots: int) -> tuple[int, int, int, int]:
    """Corners of a place [CSS pixels, y upwards] in a drawn figure."""
    x0, y0, x1, y1 = place.extents * dots / 96
    left, top = max(0, int(x0)), max(0, int(drawn.height - y1))
    return left, top, min(drawn.width, int(x1) + 1), min(drawn.height, int(drawn.height - y0) + 1)


def _place(figure: Figure, axis: Axes) -> Any:
    """Where an axis and its words are [CSS pixels], a Bbox."""
    box: Any = axis.get_window_extent() if _bare(axis) else axis.get_tightbbox()
    return Bbox(np.reshape(box.extents, (2, 2)) * 96 / figure.dpi).padded(0 if _bare(axis) else 3)


def _rows(places: Mapping[Axes, Any]) -> list[list[Axes]]:
    """Axes in the order of reading: those are in one row whose middles are at one height."""
    rows: list[list[Axes]] = []
    for axis in sorted(places, key=lambda a: -places[a].y1):
        middle = (places[axis].y0 + places[axis].y1) / 2
        if rows and places[rows[-1][0]].y0 < middle:
            rows[-1].append(axis)
        else:
            rows.append([axis])
    return [sorted(row, key=lambda a: places[a].x0) for row in rows]


def _bare(axis: Axes) -> bool:
    """Whether an axis has neither ticks nor names: a picture."""
    return not axis.axison or not (
        len(axis.get_xticks()) or len(axis.get_yticks()) or axis.get_xlabel() or axis.get_ylabel()
    )


def _letters(axis: Axes) -> float:
    """Height of the smallest letters in an axis [CSS pixels], 0 without any."""
    words: list[Any] = list(axis.texts)
    if legend := axis.get_legend():
        words += legend.findobj(Text)
    if not _bare(axis):
        words = axis.findobj(Text)
    sizes = [w.get_fontsize() for w in words if w.get_visible() and w.get_text().strip()]
    return min(sizes, default=0.0) * 96 / 72


def _own_pixels(axis: Axes) -> Image.Image | None:
    """The image of an axis in its own pixels, if there is nothing else to be seen in it."""
    others = [*axis.lines, *axis.collections, *axis.patches, *axis.texts, *axis.artists]
    if not _bare(axis) or len(axis.images) != 1 or others or axis.get_legend():
        return None
    image = axis.images[0]
    left, right, bottom, top = image.get_extent()
    if (*axis.get_xlim(), *axis.get_ylim()) != (left, right, bottom, top):
        return None
    values = np.asarray(image.to_rgba(np.ma.asarray(image.get_array()), bytes=True))
    return Image.fromarray(values[..., :3] if image.origin == "upper" else values[::-1, :, :3])


def _say_what_is_shared(axis: Axes) -> None:
    """Give an axis that shares its scale with others the numbers and names that only they have."""
    for along, name, side in (("y", "ylabel", "left"), ("x", "xlabel", "bottom")):
        others = getattr(axis, f"get_shared_{along}_axes")().get_siblings(axis)
        names = [getattr(other, f"get_{name}")() for other in others]
        if len(others) > 1 and not _bare(axis):
            told: Any = {f"label{side}": True}
            axis.tick_params(**told)
            axis.set(**{name: getattr(axis, f"get_{name}")() or max(names)})


def _title(axis: Axes) -> str:
    """Take the title out of an axis, as HTML; one with a formula stays."""
    words = html.escape(typeset(" ".join(axis.get_title().split())))
    words = re.sub(r"\$(\w)\$", r"<i>\1</i>", words)
    if "$" in words:
        return ""
    axis.set_title("")
    return words


def _scale(axis: Axes) -> str:
    """Take the scale bar out of a picture, as HTML."""
    bar = next((a for a in axis.artists if isinstance(a, AnchoredSizeBar)), None)
    if bar is None or not _bare(axis):
        return ""
    bar.remove()
    left, right = axis.get_xlim()
    length = bar.size_bar.get_children()[0].get_width()
    return scale_html(length / abs(right - left), bar.txt_label.get_text())
