"""Units, scale bars and colour bars of a figure, as text."""

from __future__ import annotations

import html
import re
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

_UNITS = (
    (r"\be-", "e\u207b"),
    (r"\+-", "\u00b1"),
    (r"(?<=[\[/(])A\b|(?<=\d )A\b", "\u00c5"),
    (r"\u00c5\^2", "\u00c5\u00b2"),
    (r"(?<![\w)\]\-.])-(?=\d)", "\u2212"),
)


def typeset(text: str) -> str:
    """Units and signs as they are printed: a program's text has no letters beyond ASCII.

    >>> typeset("dose [e-/A^2], 28 A +- 1, -80 A")
    'dose [e⁻/Å²], 28 Å ± 1, −80 Å'
    """
    for plain, printed in _UNITS:
        text = re.sub(plain, printed, text)
    return text


def scale_html(share: float, text: str) -> str:
    """Return a scale bar that covers a share of the picture below it."""
    return (
        '<div class="insitu-bar" style="position:absolute;left:2%;bottom:2%;'
        f"width:{100 * share:.2f}%;border-top:3px solid #000;color:#000;"
        'filter:drop-shadow(0 0 1px #fff);font:11px/1.3 sans-serif"><span style="background:#fffc;'
        f'white-space:nowrap;padding:0 2px">{text}</span></div>'
    )


def colour_bars(figure: Figure) -> dict[Axes | None, list[str]]:
    """Take the colour bars out of a figure.

    Returns
    -------
    dict
        HTML of each bar, by the axis that it belongs to, or by None where it serves several.
    """
    found: dict[Axes | None, list[str]] = {}
    bars = [axis._colorbar for axis in figure.axes if hasattr(axis, "_colorbar")]
    left = len(figure.axes) - len(bars)
    for bar in bars:
        parents = getattr(bar.ax, "_colorbar_info", {}).get("parents", [bar.mappable.axes])
        axis = parents[0] if len(parents) == 1 and left > 1 else None
        found.setdefault(axis, []).append(_colour_bar(bar))
        bar.remove()
    return found


def _colour_bar(bar: Any) -> str:
    stops = ",".join(to_hex(bar.cmap(k / 8)) for k in range(9))
    long = bar.ax.yaxis if bar.orientation == "vertical" else bar.ax.xaxis
    labels = [
        (float(bar.norm(t.get_position()[bar.orientation == "vertical"])), t.get_text())
        for t in long.get_ticklabels()
    ]
    inside = [(place, text) for place, text in labels if -1e-6 <= place <= 1 + 1e-6 and text]
    inside = inside[:: -(-len(inside) // 6) or 1]
    ticks = "".join(
        f'<span style="position:absolute;left:{100 * place:.1f}%;width:4em;margin-left:-2em;'
        f'text-align:center">{_formula(text)}</span>'
        for place, text in inside
    )
    first = "0 50%,3% 0" if bar.extend in ("min", "both") else "0 0"
    last = "97% 0,100% 50%,97% 100%" if bar.extend in ("max", "both") else "100% 0,100% 100%"
    end = "3% 100%" if bar.extend in ("min", "both") else "0 100%"
    return (
        '<div class="insitu-colours" style="width:80%;max-width:340px;margin:6px auto 0;'
        'font-size:12px;text-align:center;line-height:1.3">'
        f'<div style="height:12px;background:linear-gradient(to right,{stops});'
        f'clip-path:polygon({first},{last},{end})"></div>'
        f'<div style="position:relative;height:1.3em">{ticks}</div>'
        f"{_formula(long.label.get_text())}</div>"
    )


def _formula(text: str) -> str:
    """The powers of a label as HTML."""
    text = html.escape(re.sub(r"\\mathdefault|\$", "", text))
    return re.sub(r"\^\{?([^{}]+)\}?", r"<sup>\1</sup>", text).strip("{}")
