"""Whether the outputs of a page are those of its present code and data."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat

from insitu import fetch

LIBRARY = Path(__file__).resolve().parents[2]  # the folder that holds the package
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def page_hash(notebook: Any, data: Mapping[str, str], library: Path = LIBRARY) -> str:
    """One hash of all that a page's outputs come from.

    Parameters
    ----------
    notebook : NotebookNode
        Its code cells count, the parameters cell among them; the text does not.
    data : mapping
        Name and sha256 of each file that the page reads.
    library : Path
        Folder of the package; modules imported directly or indirectly count, without their
        comments, docstrings and layout.
    """
    digest = hashlib.sha256()
    for source in code_cells(notebook):
        digest.update(b"cell\0" + source.strip().encode())
    for path in imported_modules(code_cells(notebook), library):
        digest.update(b"module\0" + path.relative_to(library).as_posix().encode())
        digest.update(_bare_code(path.read_text("utf-8")).encode())
    for name, sha256 in sorted(data.items()):
        digest.update(f"data\0{name}\0{sha256}".encode())
    return digest.hexdigest()


def is_fresh(path: Path, library: Path = LIBRARY) -> bool:
    """Whether a notebook carries a stamp that fits its code, the library and the data."""
    notebook = nbformat.read(path, as_version=4)
    stamp = notebook.metadata.get("insitu", {})
    data = {name: _current_hash(name) for name in stamp.get("data", {})}
    return bool(stamp) and stamp.get("hash") == page_hash(notebook, data, library)


def stamp_page(notebook: Any, run: Mapping[str, Any], library: Path = LIBRARY) -> None:
    """Write the stamp of a run into a notebook's metadata, and remove what must not be kept."""
    kept = ("parameters", "device", "seconds", "peak_memory_mb", "versions", "data")
    stamp = {key: run[key] for key in kept}
    stamp["hash"] = page_hash(notebook, run["data"], library)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {
                "display_name": "Python 3 (ipykernel)",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
            "insitu": stamp,
        }
    )
    number = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        )
        if cell.cell_type != "code":
            continue
        if cell.source.strip():
            number += 1
            cell.execution_count = number
        cell.outputs = _joined_streams([o for o in cell.outputs if not _is_progress(o)])
        for output in cell.outputs:
            output.get("data", {}).pop(WIDGET_VIEW, None)  # its kernel is gone, the HTML stays


def _is_progress(output: Any) -> bool:
    """Whether an output is a progress bar: a widget without HTML, or a line written over."""
    if output.output_type == "stream":
        return output.name == "stderr" and "\r" in output.text
    data = output.get("data", {})
    return WIDGET_VIEW in data and "text/html" not in data


def _joined_streams(outputs: list[Any]) -> list[Any]:
    """Printed text that arrived in pieces, in one piece."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and last.output_type == output.output_type == "stream" and last.name == output.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def code_cells(notebook: Any) -> list[str]:
    """Sources of the code cells whose outputs matter."""
    return [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "colab" not in cell.metadata.get("tags", [])
    ]


def imported_modules(sources: list[str], library: Path = LIBRARY) -> list[Path]:
    """Files of the package that the sources import, directly or through one another."""
    found: set[Path] = set()
    waiting = [(source, "") for source in sources]
    while waiting:
        source, package = waiting.pop()
        for name in _imports(source, package):
            for path in _module_files(name, library):
                if path not in found:
                    found.add(path)
                    inside = path.relative_to(library).parent
                    waiting.append((path.read_text("utf-8"), ".".join(inside.parts)))
    return sorted(found)


def _imports(source: str, package: str) -> set[str]:
    """Dotted names that a source may import; `package` resolves relative imports."""
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n")]
    names: set[str] = set()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            names.add(base)
            names.update(f"{base}.{alias.name}" for alias in node.names)
    return names


def _module_files(name: str, library: Path) -> list[Path]:
    """Files of a dotted name and of the packages around it; none if it is not of this library."""
    parts = name.split(".")
    if parts[0] != "insitu":
        return []
    files = []
    for n in range(1, len(parts) + 1):
        base = library.joinpath(*parts[:n])
        files += [p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()]
    return files


def _bare_code(source: str) -> str:
    """Python code without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            node.body = body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _current_hash(name: str) -> str:
    """The checksum of a file as it is now."""
    if name in fetch.RECORDINGS:
        return fetch.RECORDINGS[name].sha256
    path = fetch.ROOT / "data" / name
    return fetch.file_hash(path) if path.exists() else "missing"
