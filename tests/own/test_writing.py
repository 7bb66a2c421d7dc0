"""Movies for other programs, and films and reports for a browser."""

import html.parser

import av
import numpy as np
import pytest

from insitu import InputError, open_movie
from insitu.files import ResultsFolder
from insitu.own.reports import write_report
from insitu.own.writing import FORMATS, GAP, TITLE, write_film, write_movie

RNG = np.random.default_rng(0)
MOVIE = RNG.poisson(0.8, (7, 20, 31)).astype(np.float32)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("frames", [7, 1])
def test_what_is_written_reads_back(tmp_path, form, frames):
    path = tmp_path / f"mine.{form}"
    write_movie(path, MOVIE[:frames], form, pixel_size=0.21, frame_time=0.5)
    movie = open_movie(path)
    np.testing.assert_array_equal(movie.part(), MOVIE[:frames])
    assert movie.pixel_size == pytest.approx(0.21, rel=1e-4)
    assert movie.frame_time == (0.5 if frames > 1 else None)


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_not_known_is_not_said(tmp_path, form):
    path = tmp_path / f"mine.{form}"
    write_movie(path, MOVIE, form, pixel_size=0.0)
    movie = open_movie(path)
    np.testing.assert_array_equal(movie.part(), MOVIE)
    assert movie.pixel_size is None
    assert movie.frame_time is None


def test_hyperspy_has_its_axes(tmp_path):
    hs = pytest.importorskip("hyperspy.api")
    write_movie(tmp_path / "a.hspy", MOVIE, "hspy", pixel_size=0.21, frame_time=0.5)
    signal = hs.load(tmp_path / "a.hspy")
    time, x, y = signal.axes_manager._axes[0], *signal.axes_manager.signal_axes
    assert (time.name, time.units, time.scale) == ("time", "s", 0.5)
    assert (x.name, x.units, x.scale, y.scale) == ("x", "angstrom", 0.21, 0.21)


def test_an_unknown_format_is_a_sentence(tmp_path):
    with pytest.raises(InputError, match="format: got 'png', allowed is one of tif, zarr, hspy"):
        write_movie(tmp_path / "a.png", MOVIE, "png", pixel_size=0.2)


def decoded(path):
    with av.open(path) as file:
        (stream,) = file.streams.video
        frames = [frame.to_ndarray(format="gray") for frame in file.decode(stream)]
        return stream, np.stack(frames).astype(float)


def test_a_film_shows_each_pixel_as_a_square(tmp_path):
    """Side by side, enlarged by a whole number, black and white where they are."""
    left = np.zeros((9, 20, 31))
    left[4, 3, 5] = left[4, 12, 20] = 1.0
    right = np.linspace(0, 1, 31) * np.ones((9, 20, 1))
    write_film(tmp_path / "film.mp4", {"counts": left, "denoised": right}, rate=5)
    stream, seen = decoded(tmp_path / "film.mp4")
    zoom = 960 // (2 * 31 + GAP)
    assert len(seen) == 9
    assert stream.average_rate == 5
    assert stream.codec_context.pix_fmt == "yuv420p"
    assert stream.width % 2 == stream.height % 2 == 0
    assert stream.height - TITLE - 20 * zoom in (0, 1)

    def pixel(t, y, x):
        rows, columns = TITLE + y * zoom, x * zoom
        return seen[t, rows + 2 : rows + zoom - 2, columns + 2 : columns + zoom - 2]

    for y, x in ((3, 5), (12, 20)):
        assert pixel(4, y, x).min() > 215
        assert pixel(4, y, x + 1).max() < 35
        assert pixel(3, y, x).max() < 35
    ramp = [pixel(4, 10, 31 + GAP + x).mean() for x in range(31)]
    assert np.all(np.diff(ramp) > 3)
    assert seen[0, :TITLE].max() > 200  # their names


@pytest.mark.parametrize(
    ("movies", "rate", "words"),
    [
        ({"a": MOVIE, "b": MOVIE[:3]}, 10, "their shapes differ"),
        ({"a": MOVIE}, 0, "rate: got 0, allowed is 0.1 to 120"),
    ],
)
def test_a_film_that_cannot_be_made(tmp_path, movies, rate, words):
    with pytest.raises(InputError, match=words):
        write_film(tmp_path / "film.mp4", movies, rate=rate)


class Page(html.parser.HTMLParser):
    """Sources and open tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.sources += [v for k, v in attrs if k in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_report_of_large_pictures_is_one_file_below_10_mb(tmp_path):
    """Of 14 noisy pictures of 1000 x 1000, as many as chapter 11 shows, and of two parts."""
    pictures = {str(k): RNG.random((1000, 1001)) for k in range(7)}
    parts = {}
    for name in ("one", "two"):
        folder = ResultsFolder(tmp_path / name)
        write_report(folder, f"title of {name}", {"psnr_db": 3.0}, text=["<&>"], maps=pictures)
        parts[f"part {name}"] = folder.path
    film = tmp_path / "film.mp4"
    film.write_bytes(bytes(2_900_000))
    write_report(ResultsFolder(tmp_path / "all"), "all", {}, film=film, parts=parts)
    path = tmp_path / "all" / "report.html"
    assert path.stat().st_size < 10e6
    page = Page(path.read_text("utf-8"))
    assert not page.open
    assert len(page.sources) == 15
    assert all(source.startswith("data:") for source in page.sources)
    text = path.read_text("utf-8")
    assert [text.count(word) for word in ("<h1>", "<h2>part", "<h3>title", "&lt;&amp;&gt;")] == [
        1,
        2,
        2,
        2,
    ]


def test_a_long_film_is_named(tmp_path):
    film = tmp_path / "film.mp4"
    film.write_bytes(bytes(3_100_000))
    write_report(ResultsFolder(tmp_path / "all"), "all", {}, film=film)
    text = (tmp_path / "all" / "report.html").read_text("utf-8")
    assert len(text) < 5000
    assert "The film is film.mp4, beside this page." in text
