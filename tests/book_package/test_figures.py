"""Figures say what they show; the scrubber turns, and its frames are those of the movie."""

import base64
import io
import json
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from insitu.book import figures, png, tiles

MOVIE = np.arange(5 * 6 * 8).reshape(5, 6, 8) / 240.0
LABELS = [f"t = {t} s" for t in range(5)]


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(figures, "display", lambda *a, **k: outputs.append((a, k)))
    tiles.begin("")
    with plt.rc_context(figures.STYLE):
        yield outputs


def images(bundle):
    """The images of a figure, with their attributes."""
    found = BeautifulSoup(bundle["text/html"], "html.parser").find_all("img")
    return [(image, Image.open(io.BytesIO(decoded(image["src"])))) for image in found]


def decoded(address):
    return base64.b64decode(address.removeprefix("data:image/png;base64,"))


def test_show_keeps_the_text_with_the_picture(shown):
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    figures.show(figure, alt="A line that rises from one to two.", caption="At 8 e-/A^2 it rises.")
    (bundle,), _ = shown[0]
    (image, picture), *others = images(bundle)
    assert not others
    assert image["alt"].startswith("A line")
    assert picture.format == "PNG"
    assert (
        "<b>Figure 1.</b> At 8 e\u207b/\u00c5\u00b2 it rises.</figcaption>" in bundle["text/html"]
    )
    assert bundle["text/plain"] == "Figure 1. At 8 e\u207b/\u00c5\u00b2 it rises."
    assert not plt.fignum_exists(figure.number)


def test_figures_are_numbered_in_their_chapter_and_keep_their_number(shown):
    tiles.begin("5.")
    for name in ("first", "second", "first"):
        figures.show_panels({"a": MOVIE[0]}, pixel_size=1.0, alt=f"The picture that is {name}.")
    said = [bundle["text/plain"][:11] for (bundle,), _ in shown]
    assert said == ["Figure 5.1.", "Figure 5.2.", "Figure 5.1."]


def test_show_wants_a_sentence():
    with pytest.raises(ValueError, match="say in a sentence"):
        figures.show(plt.figure(), alt="plot")
    plt.close("all")


def test_same_figure_same_bytes(shown):
    for _ in range(2):
        figures.show(figures.panels({"a": MOVIE[0]}, pixel_size=0.2), alt="One frame of a movie.")
    assert shown[0][0][0]["text/html"] == shown[1][0][0]["text/html"]


def test_panels_keep_their_own_pixels_and_their_words_are_text(shown):
    pair = {"dark": MOVIE[0], "bright": MOVIE[4]}
    figures.show_panels(pair, pixel_size=0.25, limits=(0.0, 1.0), alt="Two frames of a movie.")
    page = BeautifulSoup(shown[0][0][0]["text/html"], "html.parser")
    for (image, picture), (title, frame) in zip(images(shown[0][0][0]), pair.items(), strict=True):
        drawn = np.asarray(picture.convert("L")) / 255
        assert np.allclose(drawn, frame, atol=0.51 / 63 + 1 / 255)
        assert image["data-pixels"] == "8"
        assert "data-letters" not in image.attrs
        assert title in image.find_parent(class_="insitu-tile").get_text()
    assert [bar.get_text() for bar in page.select(".insitu-bar")] == ["0.5 \u00c5"] * 2
    assert "width:25.00%" in page.select(".insitu-bar")[0]["style"]
    assert "electrons per pixel" in page.select_one(".insitu-colours").get_text()


def test_a_wide_plot_is_drawn_for_a_phone_too(shown):
    figure, axis = plt.subplots(figsize=(9, 3))
    axis.plot([1, 2], label="it")
    axis.legend(fontsize=8)
    figures.show(figure, alt="A line that rises from one to two.")
    page = BeautifulSoup(shown[0][0][0]["text/html"], "html.parser")
    image, picture = page.find("img"), page.find("picture")
    assert float(image["data-letters"]) * tiles.PHONE < tiles.LEAST
    assert float(picture["data-narrow"]) * tiles.PHONE >= 0.99 * tiles.LEAST
    narrow = Image.open(io.BytesIO(decoded(picture.find("source")["srcset"])))
    (_, wide), *_ = images(shown[0][0][0])
    assert narrow.width / narrow.height < 0.6 * wide.width / wide.height


def test_names_that_take_room_are_drawn_narrower_still(shown):
    figure, axis = plt.subplots(figsize=(7.6, 3))
    axis.barh(["a name that takes much room", "another"], [1, 2])
    axis.tick_params(labelsize=8)
    figures.show(figure, alt="Two bars with long names beside them.")
    picture = BeautifulSoup(shown[0][0][0]["text/html"], "html.parser").find("picture")
    assert float(picture["data-narrow"]) * tiles.PHONE >= 0.99 * tiles.LEAST


@pytest.mark.usefixtures("shown")
def test_axes_that_share_a_scale_each_say_it():
    figure, axes = plt.subplots(1, 2, sharey=True)
    axes[0].set_ylabel("PSNR [dB]")
    figures.show(figure, alt="Two empty diagrams with one scale.")
    assert axes[1].get_ylabel() == "PSNR [dB]"
    assert axes[1].yaxis.get_tick_params()["labelleft"]


def test_a_text_of_the_whole_figure_is_refused():
    figure, axis = plt.subplots()
    axis.plot([1, 2])
    figure.suptitle("for all")
    with pytest.raises(ValueError, match="not in the whole figure"):
        figures.show(figure, alt="A line that rises from one to two.")
    plt.close("all")


def test_a_colour_bar_is_text(shown):
    figure, axis = plt.subplots()
    drawn = axis.imshow(10 ** np.linspace(0, 2, 48).reshape(6, 8), norm="log")
    axis.axis("off")
    figure.colorbar(drawn, label="dose [e\u207b/px]", extend="max")
    figures.show(figure, alt="A picture that grows brighter.")
    bar = BeautifulSoup(shown[0][0][0]["text/html"], "html.parser").select_one(".insitu-colours")
    assert [tick.decode_contents() for tick in bar.find_all("span")] == [
        f"10<sup>{n}</sup>" for n in range(3)
    ]
    assert "dose [e\u207b/px]" in bar.get_text()
    assert "97% 0,100% 50%" in str(bar)


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


def test_static_scrubber_holds_every_frame(shown):
    figures.scrubber(
        {"a": MOVIE, "b": MOVIE},
        labels=LABELS,
        alt='A "movie" that brightens.',
        pixel_size=0.2,
        limits=(0.0, 1.0),
    )
    bundle = shown[0][0][0]
    assert set(bundle) == {"text/html", "text/plain"}  # no widget, which would need a kernel
    assert 'alt="A &quot;movie&quot; that brightens."' in bundle["text/html"]
    ((image, sheet),) = images(shown[0][0][0])
    sheet = np.asarray(sheet.convert("L")).astype(float) / 255
    told = json.loads(image.find_parent("figure")["data-sheet"])
    columns, width = told["columns"], 2 * (8 + 4)
    for t in range(5):
        row, column = divmod(t, columns)
        tile = sheet[row * 6 : row * 6 + 6, column * width : column * width + width]
        assert np.allclose(tile[:, :8], MOVIE[t], atol=0.51 / 63 + 1 / 255)
        assert np.allclose(tile[:, 12:20], MOVIE[t], atol=0.51 / 63 + 1 / 255)


def test_scrubber_wants_one_label_a_frame():
    with pytest.raises(ValueError, match="one label a frame"):
        figures.scrubber({"a": MOVIE}, labels=["x"], alt="", pixel_size=1.0)


def test_a_folded_table_shows_its_numbers_on_a_click_only(shown):
    figures.table([{"name": "one", "value": 0.125}], folded="all <numbers>")
    (bundle,), _ = shown[0]
    before, _, behind = bundle["text/html"].partition("</summary>")
    assert before.startswith("<details")
    assert "all &lt;numbers&gt;" in before
    assert "0.125" not in before
    assert "0.125" in behind
    assert bundle["text/plain"] == "all <numbers>"


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
    assert bundle["text/plain"].endswith(". One frame of a movie.")


def test_a_figure_is_small_and_keeps_its_greys_and_colours(shown):
    """Noise takes few bytes; smooth greys stay within half a level, lines keep their colour."""
    noise = np.random.default_rng(0).normal(size=(4, 276, 276))
    figures.show_panels(
        {str(n): a for n, a in enumerate(noise)}, pixel_size=0.1, alt="Four pictures of noise."
    )
    assert len(shown[0][0][0]["text/html"]) < 300_000
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
