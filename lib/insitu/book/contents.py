"""The chapters of the book, as `_toc.yml` lists them, and where their results go.

A chapter is one notebook and one line of `_toc.yml`; every list of chapters is made from these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from insitu import InputError

ROOT = Path(__file__).resolve().parents[3]  # the book's folder: this file is lib/insitu/book/...


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
