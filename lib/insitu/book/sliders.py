"""A table of answers with a slider for each thing that they depend on, alive without a kernel."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from string import Template
from typing import Any

from IPython.display import display

from insitu.book.tiles import framed

_PAGE = Template("""\
<style>
@media screen {
.insitu-sliders.live .live-only { display: block !important; }
.insitu-sliders.live .insitu-table { display: none; }
.insitu-sliders label { display: flex; gap: 1em; align-items: center; flex-wrap: wrap; }
.insitu-sliders label span { flex: 0 0 9em; }
.insitu-sliders input { flex: 1 1 10em; min-height: 2em; }
.insitu-sliders label output { min-width: 12em; font-variant-numeric: tabular-nums; }
.insitu-sliders dl { display: grid; grid-template-columns: auto 1fr; gap: 0.2em 1.5em;
  margin: 0.6em 0; }
.insitu-sliders dt { font-weight: normal; }
.insitu-sliders dd { margin: 0; font-weight: bold; }
}
</style>
<div class="live-only" style="display:none">
$controls
<dl aria-live="polite">$answers</dl>
</div>
$table
<script>
(function () {
  document.querySelectorAll(".insitu-sliders:not(.live)").forEach(function (figure) {
    var sizes = JSON.parse(figure.dataset.sizes), labels = JSON.parse(figure.dataset.labels);
    var values = JSON.parse(figure.dataset.values);
    var inputs = Array.from(figure.querySelectorAll("input"));
    var answers = figure.querySelectorAll("dd");
    function turn() {
      var place = 0;
      inputs.forEach(function (input, axis) {
        var i = Number(input.value);
        place = place * sizes[axis] + i;
        input.setAttribute("aria-valuetext", labels[axis][i]);
        input.parentNode.querySelector("output").textContent = labels[axis][i];
      });
      answers.forEach(function (answer, k) { answer.textContent = values[k][place]; });
    }
    inputs.forEach(function (input) { input.addEventListener("input", turn); });
    inputs.forEach(function (input) { input.dataset.lmSuppressShortcuts = "true"; });
    figure.classList.add("live");
    turn();
  });
})();
</script>""")


def sliders(
    axes: Mapping[str, Mapping[str, Any]],
    answers: Mapping[str, Callable[..., str]],
    *,
    start: Sequence[int],
    caption: str,
) -> None:
    """Show what several functions answer, with a slider for each of their arguments.

    All answers are computed now and lie in the page: mouse, touch and arrow keys choose one.
    Without scripts and in print there is a table along the first slider, the others where they
    start.

    Parameters
    ----------
    axes : mapping
        Of each slider's name, its positions: what is said of one, and what it stands for.
    answers : mapping
        Of each answer's name, a function of one value of each axis, in order, that gives a text.
    start : sequence of int
        Where each slider starts.
    caption : str
        What is to be seen.
    """
    labels = [list(places) for places in axes.values()]
    combined = list(product(*(places.values() for places in axes.values())))
    values = [[answer(*some) for some in combined] for answer in answers.values()]
    controls = "".join(
        f'<label><span>{html.escape(name)}</span><input type="range" min="0" '
        f'max="{len(said) - 1}" value="{first}" step="1">'
        f"<output>{html.escape(said[first])}</output></label>"
        for name, said, first in zip(axes, labels, start, strict=True)
    )
    others = [list(places.values())[k] for places, k in zip(axes.values(), start, strict=True)][1:]
    (along, places), *rest = axes.items()
    fixed = ", ".join(
        f"{name}: {said[k]}" for (name, _), said, k in zip(rest, labels[1:], start[1:], strict=True)
    )
    rows = [
        [label, *(answer(value, *others) for answer in answers.values())]
        for label, value in places.items()
    ]
    told = {"sizes": [len(said) for said in labels], "labels": labels, "values": values}
    more = "".join(f' data-{name}="{_attribute(value)}"' for name, value in told.items())
    body = _PAGE.substitute(
        controls=controls,
        answers="".join(f"<dt>{html.escape(name)}</dt><dd></dd>" for name in answers),
        table=_table([along, *answers], rows, fixed),
    )
    bundle = framed(body, alt=caption, caption=caption, kind="insitu-sliders", more=more)
    lines = ["  ".join(row) for row in [[f"({fixed})"], [along, *answers], *rows]]
    bundle["text/plain"] = "\n".join([bundle["text/plain"], *lines])
    display(bundle, raw=True)


def _attribute(value: Any) -> str:
    return html.escape(json.dumps(value), quote=True)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    def row(kind: str, texts: Sequence[str]) -> str:
        cells = "".join(f"<{kind}>{html.escape(text)}</{kind}>" for text in texts)
        return f"<tr>{cells}</tr>"

    return (
        f'<table class="insitu-table"><caption>{html.escape(caption)}</caption>'
        f"<thead>{row('th', head)}</thead><tbody>{''.join(row('td', r) for r in rows)}</tbody>"
        "</table>"
    )
