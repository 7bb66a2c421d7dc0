"""How figures and formulas become HTML.

A figure's alt text, given by `insitu.book.figures.show`, is carried to its image. Formulas become
MathML when the book is built, and the scripts of thebe are left out, so that a page needs nothing
from elsewhere.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from myst_nb.core.render import NbElementRenderer
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number


def _render_image_with_alt(self: NbElementRenderer, data: Any) -> list[nodes.Element]:
    images = _render_image(self, data)
    alt = data.output_metadata.get(data.mime_type, {}).get("alt")
    for image in images:
        if alt:
            image["alt"] = alt
    return images


_render_image = NbElementRenderer.render_image


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
    NbElementRenderer.render_image = _render_image_with_alt
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.connect("html-page-context", _without_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
