"""Terms and citations of a notebook, written as links that any program can show.

`[Fano factor](../book/glossary.md#Fano_factor)` becomes the reference to a term, and
`[(Mohan et al., 2022)](../book/bibliography.md#mohan2022)` a citation, with `t:` before the key
one in the text.
"""

from __future__ import annotations

from typing import Any, cast

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinxcontrib.bibtex.domain import BibtexDomain
from sphinxcontrib.bibtex.roles import CitationRef, parse_citation_targets


def _rewrite(app: Sphinx, document: nodes.document) -> None:
    for link in document.findall(pending_xref):
        page, part = link.get("reftarget"), link.get("reftargetid")
        if link.get("refdomain") != "doc" or not part:
            continue
        if page == "book/glossary":
            told: dict[str, Any] = {"refdomain": "std", "reftype": "term"}
            link.attributes |= told | {"reftarget": part.replace("_", " "), "refwarn": True}
        elif page == "book/bibliography":
            kind, _, keys = f"p:{part}".rpartition(":")
            told = {"refdomain": "cite", "reftype": kind.removeprefix("p:"), "reftarget": keys}
            link.attributes |= told | {"refexplicit": False, "refwarn": True}
            document.note_explicit_target(link, link)
            known = cast(BibtexDomain, app.env.get_domain("cite"))
            targets = list(parse_citation_targets(keys))
            line = link.line or 0
            known.citation_refs.append(CitationRef(link["ids"][0], app.env.docname, line, targets))


def setup(app: Sphinx) -> dict[str, bool]:
    """Rewrite the links of each page when it has been read."""
    app.connect("doctree-read", _rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
