"""The directive `library-map`: the modules of the library, as the packages list them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

LIBRARY = Path(__file__).resolve().parents[2] / "lib" / "insitu"


def listed(path: Path) -> dict[str, str]:
    """Return what the lines "- `name`: what it is for" of a module's docstring say, if any."""
    if not path.is_file():
        return {}
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    items = re.findall(r"^- `([\w.]+)`: (.+(?:\n +\S.*)*)", text, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", words) for name, words in items}


class LibraryMap(SphinxDirective):
    """A table for each package, in the order in which data flow."""

    def run(self) -> list[nodes.Node]:
        """Build the tables."""
        lines: list[str] = []
        for name, words in listed(LIBRARY / "__init__.py").items():
            package = LIBRARY / name.removeprefix("insitu.") / "__init__.py"
            lines += [f"**`{name}`**: {words}", ""]
            if package.is_file():
                self.env.note_dependency(str(package))
                rows = []
                for module, what in listed(package).items():
                    rows.append(f"| `{name}.{module}` | {what} |")
                    inner = listed(package.parent / module / "__init__.py")
                    rows += [f"| `{name}.{module}.{m}` | {w} |" for m, w in inner.items()]
                lines += ["| module | what it is for |", "|---|---|", *rows, ""] if rows else []
        box = nodes.container()
        self.state.nested_parse(StringList(lines, source=""), 0, box)
        return list(box.children)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("library-map", LibraryMap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
