"""Lists of all chapters, and what each cost, from the stamp of its run.

Below the title of every notebook stands its measured cost, and at its end the whole stamp. Of all
chapters of `_toc.yml` the directive `chapter-list` makes a gallery, `chapter-costs` a table of
what they cost, `class-minutes` one of what they take in a class; `model-facts` tells what the
record of a checkpoint says.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from insitu.book.contents import chapters, class_minutes


def _stamp(path: Path) -> dict[str, Any]:
    if path.suffix != ".ipynb":
        return {}
    stamp: dict[str, Any] = json.loads(path.read_text("utf-8"))["metadata"].get("insitu", {})
    return stamp


def _cost(stamp: dict[str, Any]) -> str:
    megabytes = stamp.get("peak_tree_mb", stamp["peak_memory_mb"])
    return f"{stamp['seconds']:.0f} s, {megabytes / 1000:.1f} GB"


def _machine(stamp: dict[str, Any]) -> str:
    return f"{stamp['device']}, {stamp['gflops']:.0f} Gflop/s" if stamp else ""


def _add_stamp(app: Sphinx, doctree: nodes.document) -> None:
    stamp = _stamp(Path(app.env.doc2path(app.env.docname)))
    title = next(iter(doctree.findall(nodes.title)), None)
    if not stamp or title is None or title.parent is None:
        return
    badge = (
        f'<p class="insitu-cost" title="measured when this page was last run">'
        f"Runs in <b>{_cost(stamp)}</b> of memory <span>on {html.escape(_machine(stamp))}</span>"
        "</p>"
    )
    section = title.parent
    section.insert(section.index(title) + 1, nodes.raw("", badge, format="html"))
    rows = {
        "parameters": ", ".join(f"{k} = {v!r}" for k, v in stamp["parameters"].items()),
        "device": _machine(stamp),
        "seconds": stamp["seconds"],
        "peak memory": f"{stamp['peak_memory_mb']} MB; with all that belongs to the run "
        f"{stamp.get('peak_tree_mb', '-')} MB",
        "versions": ", ".join(f"{k} {v}" for k, v in stamp["versions"].items()),
        "data": ", ".join(f"{k} ({v[:12]})" for k, v in stamp["data"].items()),
        "hash of code, data and outputs": stamp["hash"][:16],
    }
    table = "".join(
        f"<tr><th>{k}</th><td>{html.escape(str(v), quote=False)}</td></tr>" for k, v in rows.items()
    )
    details = (
        f'<details class="insitu-stamp"><summary>How this page was run</summary>'
        f"<table>{table}</table></details>"
    )
    section.append(nodes.raw("", details, format="html"))


class ChapterList(SphinxDirective):
    """A gallery of the chapters: picture, question, and what each takes."""

    def run(self) -> list[nodes.Node]:
        """Build the cards."""
        lines = ["`````{grid} 1 2 2 3", ":gutter: 3"]
        for chapter in chapters(Path(self.env.srcdir)):
            self.env.note_dependency(str(chapter.path))
            title, question = chapter.title_and_question()
            stamp = _stamp(chapter.path)
            lines += [
                f"````{{grid-item-card}} {title}",
                f":link: ../notebooks/{chapter.path.stem}",
                ":link-type: doc",
                f":img-top: _static/{chapter.path.stem}.png",
                f":img-alt: The first picture of {chapter.number}",
                ":class-img-top: dark-light insitu-thumb",
                question,
                "```{card-footer}",
                f"{chapter.part}, {_cost(stamp)}" if stamp else chapter.part,
                "```",
                "````",
            ]
        box = nodes.container()
        self.state.nested_parse(StringList([*lines, "`````"], source=""), 0, box)
        return list(box.children)


class ChapterCosts(SphinxDirective):
    """A table of the measured cost of each chapter."""

    def run(self) -> list[nodes.Node]:
        """Build the table, a line for each chapter."""
        lines = ["| chapter | time and memory | measured on |", "|---|---|---|"]
        for chapter in chapters(Path(self.env.srcdir)):
            self.env.note_dependency(str(chapter.path))
            stamp = _stamp(chapter.path)
            cost = (_cost(stamp), _machine(stamp)) if stamp else ("not run yet", "")
            lines.append(f"| [](../notebooks/{chapter.path.name}) | {' | '.join(cost)} |")
        box = nodes.container()
        self.state.nested_parse(StringList(lines, source=""), 0, box)
        return list(box.children)


class ClassMinutes(SphinxDirective):
    """A table of the minutes that a class needs for each section of each chapter."""

    def run(self) -> list[nodes.Node]:
        """Build the table, a line for each chapter."""
        lines = ["| chapter | its sections, in minutes | in all |", "|---|---|---|"]
        for chapter in chapters(Path(self.env.srcdir)):
            self.env.note_dependency(str(chapter.path))
            minutes = class_minutes(chapter.path)
            told = ", ".join(f"{title} **{number}**" for title, number in minutes.items())
            lines.append(
                f"| [](../notebooks/{chapter.path.name}) | {told} | {sum(minutes.values())} |"
            )
        box = nodes.container()
        self.state.nested_parse(StringList(lines, source=""), 0, box)
        return list(box.children)


class ModelFacts(SphinxDirective):
    """What the record of a checkpoint says: `{model-facts} restorer`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Build a table of two columns."""
        weights = (
            Path(self.env.srcdir) / "data" / "checkpoints" / f"{self.arguments[0]}.safetensors"
        )
        record = weights.with_suffix(".json")
        self.env.note_dependency(str(record))
        told = json.loads(record.read_text("utf-8"))
        rows = {
            "file": f"`data/checkpoints/{weights.name}`, {weights.stat().st_size / 1e6:.1f} MB",
            "sha256": f"`{told['sha256'][:16]}`…",
            "made by": f"`{told['made_by']}`" if "made_by" in told else told.get("protocol", ""),
            "on": told.get("device", ""),
        }
        for name, unit in (("pixel_size", "Å"), ("dose", "e⁻/Å² a frame")):
            if limits := told.get("trained_for", {}).get(name):
                low, high = (f"{limit:,.4g}" for limit in limits)
                rows[f"trained for {name.replace('_', ' ')}"] = f"{low} to {high} {unit}"
        rows |= {"note": told["note"]} if "note" in told else {}
        lines = ["| | |", "|---|---|", *(f"| {name} | {said} |" for name, said in rows.items())]
        box = nodes.container()
        self.state.nested_parse(StringList(lines, source=""), 0, box)
        return list(box.children)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives and the stamp."""
    app.add_directive("chapter-list", ChapterList)
    app.add_directive("chapter-costs", ChapterCosts)
    app.add_directive("class-minutes", ClassMinutes)
    app.add_directive("model-facts", ModelFacts)
    app.connect("doctree-read", _add_stamp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
