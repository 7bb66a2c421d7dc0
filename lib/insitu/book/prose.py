"""Numbers in the text of a page, written anew by each run.

A page's text has numbers of its results as `34.5<!--rest_db:.1f-->`: the number, and behind it a
comment that names the result and says how to write it. Whatever shows Markdown, shows the number
and hides the comment. Other pages of the book have `34.5<!--05:rest_db:.1f-->`, with the chapter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from insitu.files import whole

MISSING = "\u2013"  # of a page that did without a recording
_NUMBER = re.compile(
    r"(?P<number>[-\u2212+]?\d[\d.,]*(?:e[-+]?\d+)?%?|\u2013|)<!--(?P<name>(?:\d\d[a-z]?:)?\w+):(?P<form>[^\s<>]*)-->"
)


def written(value: float, form: str) -> str:
    """A number as it stands in the text.

    >>> written(-0.1234, ".2f"), written(0.93, ".0%")
    ('−0.12', '93%')
    """
    text = format(value, form)
    return f"\u2212{text[1:]}" if text.startswith("-") else text


def numbers_in(text: str) -> Iterator[tuple[str, str, str]]:
    """What is written of each number, the name of its result, and its form.

    >>> list(numbers_in("of 34.5<!--rest_db:.1f--> dB"))
    [('34.5', 'rest_db', '.1f')]
    """
    for found in _NUMBER.finditer(text):
        yield found["number"], found["name"], found["form"]


def write_numbers(notebook: Any, results: Mapping[str, float]) -> None:
    """Write the results of a run into the text of its notebook; those it did without are dashes."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _NUMBER.sub(partial(_anew, results=results), cell.source)


def write_elsewhere(folder: Path, number: str, results: Mapping[str, float]) -> None:
    """Write the results of a chapter into the Markdown pages of a folder."""
    known = {f"{number}:{name}": value for name, value in results.items()}
    anew = partial(_anew, results=known, only=f"{number}:")
    for path in folder.glob("*.md"):
        before = path.read_text("utf-8")
        if (after := _NUMBER.sub(anew, before)) != before:
            with whole(path) as unfinished:
                unfinished.write_text(after, "utf-8")


def _anew(found: re.Match[str], results: Mapping[str, float], only: str = "") -> str:
    name, form = found["name"], found["form"]
    if not name.startswith(only):
        return found[0]
    number = written(results[name], form) if name in results else MISSING
    return f"{number}<!--{name}:{form}-->"
