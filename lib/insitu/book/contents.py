"""The chapters of the book, as `_toc.yml` lists them, and where their results go.

A chapter is one notebook and one line of `_toc.yml`; every list of chapters is made from these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from insitu import InputError

ROOT = Path(__file__).resolve().parents[3]  # the book's folder: this file is lib/insitu/book/...
_WORDS_A_MINUTE, _MINUTES_A_FIGURE = 130, 1.5  # said and explained, not read
_SOLUTION = re.compile(r"`{3,}\{solution-start\}.*?`{3,}\{solution-end\}", re.S)
_EXERCISE = re.compile(r"```\{exercise\}.*?\((\d+) min\)\n.*?```", re.S)


@dataclass(frozen=True)
class Chapter:
    """A line of the table of contents."""

    part: str
    path: Path  # of its notebook

    @property
    def name(self) -> str:
        """The notebook's name without its ending, such as 02-electron-counting."""
        return self.path.stem

    @property
    def number(self) -> str:
        """What its name begins with, such as 02, or 10b."""
        return self.name.partition("-")[0]

    def title_and_question(self) -> tuple[str, str]:
        """What its first cell says: the heading, and the question in bold."""
        first = "".join(json.loads(self.path.read_text("utf-8"))["cells"][0]["source"])
        found = re.match(r"# (.+?)\n+\*\*(.+?\?)\*\*", first)
        if not found:
            raise ValueError(f"{self.path.name}: the first cell is a title and a question in bold")
        return found[1], found[2]


def chapters(root: Path | None = None) -> list[Chapter]:
    """Return the chapters in the order of the book.

    Raises
    ------
    InputError
        If there is no book around the library, as when it was installed without.
    """
    root = root or ROOT
    try:
        lines = (root / "_toc.yml").read_text("utf-8").splitlines()
    except OSError:
        raise InputError(f"no book in {root}; run this from a clone of the book") from None
    part, found = "", []
    for line in lines:
        if caption := re.match(r"\s*- caption: (.+)", line):
            part = caption[1].strip()
        if file := re.match(r"\s*- file: (notebooks/\S+)", line):
            found.append(Chapter(part, root / f"{file[1].removesuffix('.ipynb')}.ipynb"))
    return found


def find_chapters(names: Iterable[str]) -> list[Path]:
    """Paths of chapters given by number ('2', '02', '10b'), name, or 'all'.

    Raises
    ------
    InputError
        With the known chapters.
    """
    known = chapters()
    found: list[Path] = []
    for name in names:
        number = name.zfill(2)
        hits = [c.path for c in known if name in ("all", c.name, c.path.name) or number == c.number]
        if not hits:
            raise InputError(f"no chapter {name!r}; known are {', '.join(c.name for c in known)}")
        found += [p for p in hits if p not in found]
    return found


def output_folder(name: str, output_dir: str = "") -> Path:
    """Where a chapter writes: `output_dir`, or _results/<chapter> in the book's folder."""
    if output_dir:
        return Path(output_dir).expanduser()
    base = ROOT if (ROOT / "notebooks").is_dir() else Path.cwd()
    return base / "_results" / name


def class_minutes(path: Path) -> dict[str, int]:
    """Minutes that a class needs for each section of a page, reckoned from what is in it.

    130 words of text take a minute, a figure or a table one and a half, an exercise what its title
    says. Solutions take nothing; what stands before the first heading is called "the beginning".

    Parameters
    ----------
    path : Path
        Of a notebook that was run.

    Returns
    -------
    dict
        Of each heading of the second level, its minutes.
    """
    text = ""
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            text += "\n\n" + "".join(cell["source"])
        else:
            text += "\nFIGURE" * sum(_is_seen(output) for output in cell["outputs"])
    sections = re.split(r"(?m)^## (.+)$", "## the beginning\n" + _SOLUTION.sub("", text))[1:]
    return {
        title.strip(): max(1, round(_minutes(body)))
        for title, body in zip(sections[::2], sections[1::2], strict=True)
    }


def _is_seen(output: dict[str, Any]) -> bool:
    """Whether an output is a figure or a table, and not folded away."""
    data = output.get("data", {})
    page = "".join(data.get("text/html", ""))
    seen = "<figure" in page or ("<table" in page and "<details" not in page)
    return seen or "image/png" in data


def _minutes(text: str) -> float:
    """Of a part of a page."""
    asked = sum(int(minutes) for minutes in _EXERCISE.findall(text))
    plain = re.sub(r"\$\$.*?\$\$|<!--.*?-->|\]\([^)]*\)", " ", _EXERCISE.sub("", text), flags=re.S)
    figures = len(re.findall(r"\bFIGURE\b", plain))
    words = len(re.findall(r"\w{2,}", plain)) - figures
    return words / _WORDS_A_MINUTE + figures * _MINUTES_A_FIGURE + asked
