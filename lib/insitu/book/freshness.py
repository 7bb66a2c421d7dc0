"""Whether the outputs of a page are those of its present code and data.

A run records what it was made from, the modules of the library that were loaded at its end and
the data that it read; its stamp holds one hash over these, the code cells and the outputs.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from insitu import InputError, fetch

LIBRARY = Path(__file__).resolve().parents[2]  # the folder that holds the package
_BAR = re.compile(r"\| *\d+/\d+ \[|\d+it \[")  # as tqdm draws them
_KEPT = ("parameters", "device", "seconds", "peak_memory_mb", "peak_tree_mb", "versions", "data")


def modules_now() -> dict[str, str]:
    """Modules of the library that this process has loaded, with the hash of their code."""
    names = [n for n in sys.modules if n.split(".")[0] == "insitu"]
    return {name: module_hash(name) for name in sorted(names)}


def module_hash(name: str, library: Path = LIBRARY) -> str:
    """Hash of a module without its comments, docstrings and layout; "missing" if it is gone.

    The HTML files of a package count with its `__init__`.
    """
    base = library.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            pages = [p.read_text("utf-8") for p in sorted(base.glob("*.html"))]
            return _hash(_bare_code(path.read_text("utf-8")) + "".join(pages))
    return "missing"


def page_hash(notebook: Any, modules: Mapping[str, str], data: Mapping[str, str]) -> str:
    """One hash of all that a page's outputs come from, and of the outputs.

    Parameters
    ----------
    notebook : NotebookNode
        Its code cells, the parameters cell among them, and their outputs; its text does not
        count.
    modules : mapping
        Name and hash of each module of the library that its run loaded.
    data : mapping
        Name and sha256 of each file that its run read.
    """
    cells = [
        [cell.source.strip(), cell.outputs] for cell in notebook.cells if cell.cell_type == "code"
    ]
    return _hash(json.dumps([cells, dict(modules), dict(data)], sort_keys=True))


def is_fresh(path: Path, library: Path = LIBRARY) -> bool:
    """Whether a notebook's stamp fits its code and outputs, the library and the data."""
    notebook = nbformat.read(path, as_version=4)
    stamp = notebook.metadata.get("insitu", {})
    modules = {name: module_hash(name, library) for name in stamp.get("modules", [])}
    data = {name: _current_hash(name) for name in stamp.get("data", {})}
    return bool(stamp) and stamp.get("hash") == page_hash(notebook, modules, data)


def was_run(path: Path) -> bool:
    """Whether a notebook is there, and is one that `insitu run` wrote."""
    try:
        return "insitu_run" in json.loads(path.read_text("utf-8"))["metadata"]
    except (OSError, ValueError, KeyError):
        return False


def stamp_page(notebook: Any, run: Mapping[str, Any]) -> None:
    """Write the stamp of a run into a notebook's metadata, and remove what must not be kept.

    Raises
    ------
    InputError
        If the run did without something that the page is about, such as a recording.
    """
    if run["incomplete"]:
        raise InputError(f"{run['chapter']} is left as it was: {run['incomplete']}")
    number = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        kept: dict[str, Any] = {"tags": tags} if tags else {}
        if cell.cell_type == "code" and {"hide-input", "solution"} & set(tags):
            kept["jupyter"] = {"source_hidden": True}  # folded in JupyterLab as in the book
            if "solution" in tags:
                kept["jupyter"]["outputs_hidden"] = True
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type != "code":
            continue
        if cell.source.strip():
            number += 1
            cell.execution_count = number
        cell.outputs = _joined_streams(_without_bars(_joined_streams(cell.outputs)))
    stamp = {key: run[key] for key in _KEPT} | {
        "modules": sorted(run["modules"]),
        "hash": page_hash(notebook, run["modules"], run["data"]),
    }
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    # as its kernel told: JupyterLab takes a page whose kernel tells something else for changed
    language = notebook.metadata["language_info"]
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": kernel, "language_info": language, "insitu": stamp}
    )


def _joined_streams(outputs: list[Any]) -> list[Any]:
    """Printed text that arrived in pieces, in one piece."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == "stream" and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _without_bars(outputs: list[Any]) -> list[Any]:
    """Outputs without progress bars, which are lines that are written over."""
    kept: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            lines = [line.rpartition("\r")[2] for line in output.text.split("\n")]
            output.text = "\n".join(line for line in lines if not _BAR.search(line))
            if not output.text.strip():
                continue
        kept.append(output)
    return kept


def _bare_code(source: str) -> str:
    """Python code without comments, docstrings and layout."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return json.dumps(_form(tree))


def _form(node: Any) -> Any:
    """A syntax tree as lists; the same for every version of Python, as `ast.dump` is not."""
    if isinstance(node, list):
        return [_form(n) for n in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [[name, _form(v)] for name, v in ast.iter_fields(node) if v not in (None, [])]
    return [type(node).__name__, *fields]


def _current_hash(name: str) -> str:
    """The checksum of a file as it is now."""
    if name in fetch.RECORDINGS:
        return fetch.RECORDINGS[name].sha256
    path = fetch.ROOT / "data" / name
    return fetch.file_hash(path) if path.exists() else "missing"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
