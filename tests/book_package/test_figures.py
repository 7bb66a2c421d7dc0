"""Figures say what they show; the scrubber turns, and its frames are those of the movie."""

import base64
import io
import re
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from insitu.book import figures, png

MOVIE = np.arange(5 * 6 * 8).reshape(5, 6, 8) / 240.0
LABELS = [f"t = {t} s" for t in range(5)]


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(figures, "display", lambda *a, **k: outputs.append((a, k)))
    return outputs


def test_show_keeps_the_text_with_the_picture(shown):
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    figures.show(figure, alt="A line that rises from one to two.")
    (bundle,), options = shown[0]
    assert options["metadata"]["image/png"]["alt"].startswith("A line")
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert not plt.fignum_exists(figure.number)


def test_show_wants_a_sentence():
    with pytest.raises(ValueError, match="say in a sentence"):
        figures.show(plt.figure(), alt="plot")
    plt.close("all")


def test_same_figure_same_bytes(shown):
    for _ in range(2):
        figures.show(figures.panels({"a": MOVIE[0]}, pixel_size=0.2), alt="One frame of a movie.")
    assert shown[0][0][0]["image/png"] == shown[1][0][0]["image/png"]


def test_panels_share_their_grey_levels():
    figure = figures.panels({"dark": MOVIE[0], "bright": MOVIE[4]}, pixel_size=0.2)
    limits = {image.get_clim() for axis in figure.axes for image in axis.images}
    assert len(limits) == 1
    plt.close(figure)


@pytest.mark.parametrize(
    ("field", "expected"), [(12.0, "2 \u00c5"), (24.0, "5 \u00c5"), (61.44, "1 nm"), (900, "20 nm")]
)
def test_scale_bar_is_round(field, expected):
    length, text = figures._bar_length(field)
    assert text == expected
    assert field / 10 <= length <= field / 4 * 1.001


def test_live_slider_turns_the_picture():
    frames = np.rint(MOVIE * 255).astype(np.uint8)
    live = figures.live_slider(frames, ["movie"], LABELS, zoom=2, name="time")
    _, picture, slider, note = live.children
    before = picture.value
    slider.value = 3
    assert picture.value != before
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture.value))), frames[3])
    assert note.value == "t = 3 s"


def test_scrubber_is_alive_and_static_in_one_output(shown):
    figures.scrubber({"movie": MOVIE}, labels=LABELS, alt="A movie that brightens.", pixel_size=0.2)
    (bundle,), _ = shown[0]
    assert {"text/html", "text/plain", "application/vnd.jupyter.widget-view+json"} <= set(bundle)


def test_static_scrubber_holds_every_frame(shown):
    figures.scrubber(
        {"a": MOVIE, "b": MOVIE},
        labels=LABELS,
        alt='A "movie" that brightens.',
        pixel_size=0.2,
        limits=(0.0, 1.0),
    )
    page = shown[0][0][0]["text/html"]
    assert 'alt="A &quot;movie&quot; that brightens."' in page
    sheet_png = base64.b64decode(re.search(r"base64,([^\"]+)", page)[1])
    sheet = np.asarray(Image.open(io.BytesIO(sheet_png)).convert("L")).astype(float) / 255
    columns = int(re.search(r'data-columns="(\d+)"', page)[1])
    width = 2 * 8 + 4
    for t in range(5):
        row, column = divmod(t, columns)
        tile = sheet[row * 6 : row * 6 + 6, column * width : column * width + width]
        assert np.allclose(tile[:, :8], MOVIE[t], atol=0.51 / 63 + 1 / 255)
        assert np.allclose(tile[:, 12:], MOVIE[t], atol=0.51 / 63 + 1 / 255)


def test_scrubber_wants_one_label_a_frame():
    with pytest.raises(ValueError, match="one label a frame"):
        figures.scrubber({"a": MOVIE}, labels=["x"], alt="", pixel_size=1.0)


def test_table_is_html_and_text(shown):
    rows = [
        {"method": "a <b>", "psnr_db": 31.23456, "n": 12},
        {"method": "c", "psnr_db": 9, "n": 3},
    ]
    figures.table(rows, digits=3, caption="What each does")
    (bundle,), _ = shown[0]
    assert '<table class="insitu-table"><caption>What each does</caption>' in bundle["text/html"]
    assert "<td>a &lt;b&gt;</td>" in bundle["text/html"]
    assert '<td class="number">31.2</td>' in bundle["text/html"]
    assert bundle["text/plain"].splitlines() == [
        "What each does",
        "method  psnr_db   n",
        "a <b>      31.2  12",
        "c             9   3",
    ]


def test_show_panels_is_show_of_panels(shown):
    figures.show_panels({"a": MOVIE[0]}, pixel_size=0.2, columns=2, alt="One frame of a movie.")
    (bundle,), _ = shown[0]
    assert bundle["text/plain"] == "One frame of a movie."


def test_a_figure_is_small_and_keeps_its_greys_and_colours(shown):
    """Noise takes few bytes; smooth greys stay within half a level, lines keep their colour."""
    noise = np.random.default_rng(0).normal(size=(4, 276, 276))
    figures.show_panels(
        {str(n): a for n, a in enumerate(noise)}, pixel_size=0.1, alt="Four pictures of noise."
    )
    assert len(base64.b64decode(shown[0][0][0]["image/png"])) < 200_000
    ramp = np.linspace(0, 255, 300).astype(np.uint8)[None].repeat(20, 0)
    drawn = Image.fromarray(ramp).convert("RGB")
    line = np.array(drawn)
    line[10] = (0, 114, 178)
    again = Image.open(io.BytesIO(png.few_colours(Image.fromarray(line), 64))).convert("RGB")
    again = np.asarray(again).astype(int)
    assert np.abs(again[10] - (0, 114, 178)).max() <= 1
    assert np.abs(again[:10] - line[:10]).max() <= 2


def test_importing_figures_changes_nothing_of_the_callers():
    code = (
        "import matplotlib as m; before = dict(m.rcParams); from insitu.book import figures;"
        "after = dict(m.rcParams); assert before == after;"
        "figures.style(); assert m.rcParams['image.cmap'] == 'gray'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
