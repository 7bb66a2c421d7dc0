"""Answers that lie in the page, and the same ones in a plain table."""

import html
import json
import re

import pytest

from insitu.book import sliders

AXES = {"frames": {"ten": 10, "a hundred": 100}, "side": {"<1>": 1, "2": 2, "3": 3}}
ANSWERS = {
    "pixels": lambda frames, side: str(frames * side**2),
    "edges": lambda frames, side: f"{4 * frames * side} & more",
}


@pytest.fixture
def page(monkeypatch):
    shown = []
    monkeypatch.setattr(sliders, "display", lambda bundle, **_: shown.append(bundle))
    sliders.sliders(AXES, ANSWERS, start=(1, 2), caption="what a movie holds")
    return shown[0]


def kept(page, name):
    return json.loads(html.unescape(re.search(f'data-{name}="(.*?)"', page)[1]))


def test_every_place_of_the_sliders_has_its_answers(page):
    text = page["text/html"]
    assert kept(text, "labels") == [["ten", "a hundred"], ["<1>", "2", "3"]]
    sizes, values = kept(text, "sizes"), kept(text, "values")
    for i, frames in enumerate(AXES["frames"].values()):
        for j, side in enumerate(AXES["side"].values()):
            place = i * sizes[1] + j  # as the page's script has it
            assert [v[place] for v in values] == [a(frames, side) for a in ANSWERS.values()]


def test_without_scripts_there_is_a_table_along_the_first_slider(page):
    text = page["text/html"]
    assert "<caption>side: 3</caption>" in text
    assert "<tr><td>ten</td><td>90</td><td>120 &amp; more</td></tr>" in text
    assert "a hundred  900  1200 & more" in page["text/plain"]


def test_sliders_start_where_they_are_told(page):
    inputs = re.findall(r'max="(\d)" value="(\d)"', page["text/html"])
    assert inputs == [("1", "1"), ("2", "2")]
    assert "<output>a hundred</output>" in page["text/html"]
