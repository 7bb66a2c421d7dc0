"""The public address of the book, and what is made from it.

The address is one line of pyproject.toml, `[tool.insitu] address = "https://github.com/..."`.
From it come the badges of the README, the citation's links, and the cell by which a page
installs the library on Colab. While it is empty, these are left out.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import nbformat

from insitu import InputError

_BEGIN, _END = "<!-- badges -->", "<!-- end of badges -->"


def address(root: Path) -> str:
    """Return the public address, or "" while it is not decided.

    Raises
    ------
    InputError
        If it is not the address of a GitHub repository, which Binder and Colab need.
    """
    settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    value = str(settings.get("tool", {}).get("insitu", {}).get("address", "")).rstrip("/")
    if value and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", value):
        raise InputError(
            f"pyproject.toml, [tool.insitu] address: expected https://github.com/owner/name or "
            f"nothing, got {value!r}"
        )
    return value


def sync(root: Path, *, write: bool) -> list[Path]:
    """Bring README, citation and notebooks in step with the public address.

    Returns
    -------
    list of Path
        The files that were not in step (and now are, with `write`).
    """
    url = address(root)
    changed = []
    for path, text in [
        (root / "README.md", _readme((root / "README.md").read_text("utf-8"), url)),
        (root / "CITATION.cff", _citation((root / "CITATION.cff").read_text("utf-8"), url)),
    ]:
        if text != path.read_text("utf-8"):
            changed.append(path)
            if write:
                path.write_text(text, "utf-8")
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if _set_colab_cell(notebook, url):
            changed.append(path)
            if write:
                nbformat.write(notebook, path)
    return changed


def _readme(text: str, url: str) -> str:
    badges = ""
    if url:
        repository = url.removeprefix("https://github.com/")
        badges = (
            f"[![Binder](https://mybinder.org/badge_logo.svg)]"
            f"(https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/notebooks)\n"
            f"[![Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
            f"(https://colab.research.google.com/github/{repository}/blob/main/notebooks/"
            f"02-electron-counting.ipynb)\n"
        )
    before, _, rest = text.partition(_BEGIN + "\n")
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{badges}{_END}{after}"


def _citation(text: str, url: str) -> str:
    lines = [
        line for line in text.splitlines() if not line.startswith(("url:", "repository-code:"))
    ]
    if url:
        lines += [f'url: "{url}"', f'repository-code: "{url}"']
    return "\n".join(lines) + "\n"


def _set_colab_cell(notebook: Any, url: str) -> bool:
    """Put the Colab cell behind the parameters cell, or take it out; whether that was needed."""
    present = [c for c in notebook.cells if "colab" in c.metadata.get("tags", [])]
    source = (
        "# On Colab: get the book and install its library; torch and numpy stay as they are.\n"
        "from importlib import metadata, util\n\n"
        'if util.find_spec("insitu") is None:\n'
        '    with open("keep.txt", "w") as keep:\n'
        '        keep.writelines(f"{p}=={metadata.version(p)}\\n" for p in ("torch", "numpy"))\n'
        f"    !git clone -q --depth 1 {url} insitu-book\n"
        "    !pip install -q -c keep.txt -e ./insitu-book\n"
        "    import sys\n\n"
        '    sys.path.insert(0, "insitu-book/lib")'
    )
    wanted = [source] if url else []
    if [c.source for c in present] == wanted:
        return False
    notebook.cells = [c for c in notebook.cells if "colab" not in c.metadata.get("tags", [])]
    if url:
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["colab", "remove-cell"]})
        cell.id = "colab"
        notebook.cells.insert(2, cell)
    return True
