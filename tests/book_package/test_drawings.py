"""The drawings of concepts: large enough for a phone, nothing over the edge, each on a page."""

import re
from itertools import combinations

import matplotlib.pyplot as plt
import nbformat
import pytest

from book.drawings import kit
from book.drawings.__main__ import DRAWINGS
from insitu.book import contents

FOLDER = contents.ROOT / "book" / "drawings"
PHONE = 350  # pixels of a page's width on a phone of 390


@pytest.fixture(params=DRAWINGS, ids=str, scope="module")
def drawn(request):
    axes = DRAWINGS[request.param]()
    yield request.param, axes
    plt.close(axes.get_figure())


def test_what_ships_is_what_is_drawn(drawn, tmp_path):
    """But for the last digits, and the bytes of its pictures."""
    name, axes = drawn
    kit.save(axes, tmp_path / "anew.svg")
    shipped, anew = (
        _outline(folder / file)
        for folder, file in ((FOLDER, f"{name}.svg"), (tmp_path, "anew.svg"))
    )
    assert shipped == anew, "draw it anew: python -m book.drawings"


def _outline(path):
    """Letters, colours and pictures in their order."""
    return re.findall(r'<use xlink:href="#\S+"|fill: #\w+|stroke: #\w+|<image', path.read_text())


def test_words_can_be_read_on_a_phone_and_stay_inside(drawn):
    _, axes = drawn
    figure = axes.get_figure()
    figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    places = []
    for text in axes.texts:
        pixels = text.get_fontsize() / 0.75
        assert pixels * PHONE / kit.WIDTH >= 10, text.get_text()
        place = text.get_window_extent()
        assert place.x0 >= 0, text.get_text()
        assert place.x1 <= width, text.get_text()
        assert min(place.y0, height - place.y1) >= 0, text.get_text()
        places.append((text.get_text(), place))
    for (one, a), (other, b) in combinations(places, 2):
        assert not a.overlaps(b), f"{one!r} lies over {other!r}"


def test_each_stands_on_a_page_with_words_for_those_who_cannot_see_it():
    pages = [nbformat.read(c.path, as_version=4) for c in contents.chapters()]
    texts = [c.source for page in pages for c in page.cells if c.cell_type == "markdown"]
    texts.append((contents.ROOT / "book" / "intro.md").read_text("utf-8"))
    images = re.findall(r"!\[([^\]]+)\]\(\S*drawings/([\w-]+)\.svg\)", "\n".join(texts))
    shown = {name: alt for alt, name in images}
    assert shown.keys() == DRAWINGS.keys()
    assert min(len(alt.split()) for alt in shown.values()) >= 12
