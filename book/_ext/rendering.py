"""How folded code and formulas become HTML.

The bar over folded code says what the code does, by its first line, a comment; JupyterLab shows
the same line. Formulas become MathML when the book is built, and the scripts of thebe are left
out, so that a page needs nothing from elsewhere.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number


def _name_folded_code(app: Sphinx, document: nodes.document) -> None:
    for cell in document.findall(nodes.container):
        code = next(cell.findall(nodes.literal_block), None) if "prompt_show" in cell else None
        first = code.astext().partition("\n")[0] if code else ""
        if first.startswith("# "):
            cell["prompt_show"] = f"{app.config.nb_code_prompt_show}: {first[2:]}"


def _mathml(tex: str, *, block: bool) -> str:
    markup = tex2mathml(tex.strip(), as_block=block)
    return re.sub(r"\s*\n\s*", "", markup)


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(f'<span class="math">{_mathml(node.astext(), block=False)}</span>')
    raise nodes.SkipNode


def _display(self: Any, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math-block"))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})</span>')
    self.body.append(_mathml(node.astext(), block=True) + "</div>\n")
    raise nodes.SkipNode


def _without_thebe(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    del app, pagename, templatename, doctree
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script} {getattr(script, 'attributes', {})}".lower()
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderers."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.connect("doctree-read", _name_folded_code)
    app.connect("html-page-context", _without_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
