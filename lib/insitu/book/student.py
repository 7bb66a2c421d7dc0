"""The book without the solutions of its exercises, for a class."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat

from insitu import InputError
from insitu.book.contents import ROOT

_LEFT = (".git", ".venv", ".*_cache", "__pycache__", "*.egg-info", "_build", "_results", "tests")
_START, _END = (
    re.compile(r"`{3,}\{solution-start\}.*", re.S),
    re.compile(r"`{3,}\{solution-end\}\n`{3,}\n*"),
)
ASKED = "# your answer"


def without_solutions(notebook: Any) -> Any:
    """Return a copy of a notebook with room for answers where its solutions were."""
    page = copy.deepcopy(notebook)
    kept: list[Any] = []
    inside = False
    for cell in page.cells:
        code = cell.cell_type == "code"
        if inside and not code and (end := _END.search(cell.source)):
            cell.source = cell.source[end.end() :]
            inside = False
        if inside or (code and "solution" in cell.metadata.get("tags", [])):
            continue
        if not code and _START.search(cell.source):
            cell.source = _START.sub("", cell.source).rstrip()
            if cell.source:
                kept.append(cell)
            check_comes_last = "check" in kept[-1].metadata.get("tags", [])
            answer = nbformat.v4.new_code_cell(ASKED, id=f"answer-{len(kept)}")
            kept.insert(len(kept) - check_comes_last, answer)
            inside = True
        elif cell.source.strip():
            kept.append(cell)
    page.cells = kept
    return page


def with_buttons(config: str, repository: str, branch: str) -> str:
    """Return `_config.yml` with launch buttons that open the notebooks of a repository.

    The lines for it are there already, behind a `#`.

    Raises
    ------
    InputError
        If the address is not one of a repository.
    """
    if not re.fullmatch(r"https://[\w.-]+/[\w.-]+/[\w./-]*\w", repository):
        raise InputError(f"repository: expected https://HOST/OWNER/NAME, got {repository!r}")
    lines = re.sub(r"(?m)^# (?=repository:|launch_buttons:|  )", "", config)
    lines = lines.replace("https://github.com/OWNER/NAME", repository.removesuffix(".git"))
    return lines.replace("branch: main", f"branch: {branch}")


def write_student(folder: Path, repository: str = "", branch: str = "main") -> Path:
    """Copy the book into a folder, without solutions.

    Parameters
    ----------
    folder : Path
        Where it goes; a copy that was made before is replaced.
    repository, branch : str
        What the launch buttons of its pages open: where this folder will be published, so that
        no button leads to the solutions. Without one the pages have none.

    Raises
    ------
    InputError
        If there is something in the folder that is no such copy.
    """
    config = (ROOT / "_config.yml").read_text("utf-8")
    if repository:
        config = with_buttons(config, repository, branch)
    mark = folder / "STUDENT"
    if folder.exists() and not mark.is_file():
        raise InputError(f"{folder} is there already, and is no book for students; name another")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*_LEFT, folder.name))
    (folder / "_config.yml").write_text(config, "utf-8")
    for path in (folder / "notebooks").glob("*.ipynb"):
        nbformat.write(without_solutions(nbformat.read(path, as_version=4)), path)
    mark.write_text("made by `insitu student`: the book without its solutions\n", "utf-8")
    return folder
