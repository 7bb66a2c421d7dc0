"""Numbers and pictures of a run, as JSON and as one page that opens offline."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from insitu.files import ResultsFolder

REPORT = ("results.json", "report.html")
WIDE = 640  # pixels across, up to which a picture is shown as it is
FILM = 3_000_000  # bytes of a film that is shown within the page
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{border:1px solid #aaa;padding:.2em .6em;text-align:left}"
    "figure{display:inline-block;margin:.5em}img{max-width:100%;image-rendering:pixelated}"
)


def write_report(
    results: ResultsFolder,
    title: str,
    numbers: Mapping[str, float],
    *,
    text: Sequence[str] = (),
    table: Sequence[Mapping[str, Any]] = (),
    pictures: Mapping[str, ArrayLike] | None = None,
    maps: Mapping[str, ArrayLike] | None = None,
    film: Path | None = None,
    parts: Mapping[str, Path] | None = None,
) -> None:
    """Write results.json and report.html, which holds all that it shows and opens offline.

    Pictures wider than 640 pixels are shown in means over squares of pixels, and a film above 3 MB
    is named only, so that the page stays below 10 MB.

    Parameters
    ----------
    results : ResultsFolder
        Locked by this run.
    title : str
        Of the report.
    numbers : mapping
        Finite numbers by name, with a unit in the name.
    text : sequence of str
        Paragraphs.
    table : sequence of mappings
        Rows with the same keys.
    pictures : mapping
        Caption and (y, x) array; all have the same grey levels.
    maps : mapping
        Others, each with grey levels of its own, or (y, x, 3) of colours.
    film : Path, optional
        An mp4 that is shown.
    parts : mapping, optional
        Heading, and the folder of another report whose content is put at the end.
    """
    bad = [key for key, value in numbers.items() if not math.isfinite(value)]
    if bad:
        raise ValueError(f"results that are no finite numbers: {', '.join(bad)}")
    results.write_json("results.json", {key: float(value) for key, value in numbers.items()})
    shown = [f"<h1>{html.escape(title)}</h1>", *(f"<p>{html.escape(t)}</p>" for t in text)]
    if film is not None:
        shown.append(_film(film))
    alone = [{caption: image} for caption, image in (maps or {}).items()]
    shown += [_pictures(group) for group in (pictures, *alone) if group]
    shown.append(_table(table))
    shown.append(_table([{"number": k, "value": float(v)} for k, v in numbers.items()]))
    for heading, folder in (parts or {}).items():
        body = (folder / "report.html").read_text("utf-8").split("<body>")[1].split("</body>")[0]
        shown.append(f"<h2>{html.escape(heading)}</h2>{body.replace('h1>', 'h3>')}")
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<body>{''.join(shown)}</body></html>"
    )
    results.write("report.html", lambda path: path.write_text(page, "utf-8"))


def _film(path: Path) -> str:
    """A film, within the page if it is not too long for that."""
    name = html.escape(path.name)
    if path.stat().st_size > FILM:
        return f"<p>The film is {name}, beside this page.</p>"
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><video controls loop muted playsinline style="max-width:100%" '
        f'src="data:video/mp4;base64,{data}"></video><figcaption>{name}</figcaption></figure>'
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(str(key))}</th>" for key in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(_in_words(v))}</td>" for v in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _in_words(value: Any) -> str:
    if value is None:
        return "not known"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _reduced(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over squares of pixels, if it is wide."""
    factor = -(-max(image.shape[:2]) // WIDE)
    rows, columns = (n // factor for n in image.shape[:2])
    whole = image[: rows * factor, : columns * factor]
    return whole.reshape(rows, factor, columns, factor, *image.shape[2:]).mean((1, 3))


def _pictures(pictures: Mapping[str, ArrayLike]) -> str:
    arrays = {caption: _reduced(np.asarray(image, float)) for caption, image in pictures.items()}
    values = np.concatenate([a.ravel() for a in arrays.values()])
    low, high = float(values.min()), float(np.percentile(values, 99.5))
    drawn = ""
    for caption, image in arrays.items():
        if image.ndim == 2:  # in grey
            image = np.clip((image - low) / max(high - low, 1e-12), 0, 1) * 255
        stream = io.BytesIO()
        Image.fromarray(image.astype(np.uint8)).save(stream, "PNG", optimize=True)
        source = base64.b64encode(stream.getvalue()).decode()
        words = html.escape(caption, quote=True)
        drawn += (
            f'<figure><img alt="{words}" width="{max(240, image.shape[1])}" '
            f'src="data:image/png;base64,{source}"><figcaption>{words}</figcaption></figure>'
        )
    return drawn
