"""All that chapter 11 does, by one call, on movies that suit it and on those that do not."""

import json
from functools import partial

import numpy as np
import pytest
import tifffile

from insitu import InputError, open_movie, own
from insitu.book import cli
from insitu.denoise import unsupervised
from insitu.own import denoising
from insitu.simulate.movie_files import shipped_movie

RNG = np.random.default_rng(0)
Y, X = np.mgrid[:40, :44]
MEAN = 0.6 * (1 + 0.6 * np.cos(1.3 * X) * np.cos(1.1 * Y)) * np.ones((20, 1, 1))
COUNTS = RNG.poisson(MEAN).astype(np.uint8)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Training that takes a second."""
    learn = unsupervised.learn_movie

    def quick(*given, **options):
        return learn(*given, **options | {"options": {"channels": 4, "levels": 1, "reach": 4}})

    monkeypatch.setattr(unsupervised, "learn_movie", quick)


def everything(tmp_path, movie, **options):
    path = tmp_path / "mine.npy"
    np.save(path, movie)
    given = {"pixel_size": 0.2, "steps": 4, "device": "cpu", "progress": False}
    return own.everything(path, tmp_path / "out", **given | options)


def folders(tmp_path):
    return {p.name for p in (tmp_path / "out").iterdir() if p.is_dir()}


def test_a_movie_of_counts(tmp_path):
    numbers = everything(tmp_path, COUNTS)
    out = tmp_path / "out"
    assert json.loads((out / "results.json").read_text()) == numbers
    assert numbers["denoised_frames"] == 20
    assert numbers["judged_frames"] == 16
    assert "judged_candidates_supported" in numbers or numbers["judged_candidates"] == 0
    for form in ("tif", "zarr", "hspy"):
        movie = open_movie(out / "denoised" / f"denoised.{form}")
        assert movie.shape == COUNTS.shape
        assert movie.pixel_size == pytest.approx(0.2)
    same = [open_movie(out / "denoised" / f"denoised.{f}").part() for f in ("tif", "zarr", "hspy")]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_array_equal(same[0], same[2])
    seen, aside = (open_movie(out / "frames" / f"{n}.tif").part() for n in ("seen", "aside"))
    np.testing.assert_array_equal(aside, COUNTS[2::5])
    np.testing.assert_array_equal(seen, np.delete(COUNTS, np.s_[2::5], axis=0))
    report = (out / "report.html").read_text()
    assert (out / "report.html").stat().st_size < 10e6
    for words in ("What it is", "Denoised", "Judged", "Columns were not named", "video/mp4"):
        assert words in report


def test_what_is_denoised_with_evidence_kept_aside_was_not_learned_from_it(tmp_path):
    """The frames aside may be anything: what was learned does not change."""
    other = COUNTS.copy()
    other[2::5] = RNG.poisson(MEAN[2::5])
    weights = []
    for name, movie in (("a", COUNTS), ("b", other)):
        (tmp_path / name).mkdir()
        everything(tmp_path / name, movie)
        weights.append((tmp_path / name / "out" / "learned" / "denoised.tif").read_bytes())
    assert weights[0] == weights[1]


def test_a_particle_with_simulation_has_columns_and_events(tmp_path):
    """A part of the book's movie around its event, as chapter 8 has it."""
    movie = shipped_movie(160).counts[56:84]
    numbers = everything(tmp_path, movie, pixel_size=0.24, with_simulation=True)
    assert numbers["measured_columns_named"] > 100
    assert numbers["judged_candidates_supported"] > 30
    assert {"columns.csv", "events.csv"} <= {
        p.name for p in (tmp_path / "out" / "measured").iterdir()
    }
    report = (tmp_path / "out" / "report.html").read_text()
    assert "times are in frames, not in seconds" in report


def bad_rows():
    movie = COUNTS.copy()
    movie[:, 11] = 0
    movie[:, 25, 25] = 200
    return movie


def drifting():
    movie = shipped_movie(160).counts[:24]
    return np.stack([f[t // 2 : t // 2 + 100, 20:120] for t, f in enumerate(movie)])


def blank():
    movie = COUNTS.copy()
    movie[[3, 9]] = 0
    return movie


MATRIX = {
    "counts": (lambda: COUNTS, {"look", "frames", "learned", "denoised", "judged"}, ""),
    "gain-corrected": (
        lambda: COUNTS * 32.0 * (1 + 0.1 * RNG.standard_normal((40, 44)).clip(-2, 2)),
        {"look", "frames", "learned", "denoised", "judged"},
        "other from pixel to pixel, one for each electron",
    ),
    "16-bit camera": (
        lambda: np.rint(RNG.poisson(30 * MEAN) * 12 + 100 + RNG.normal(0, 8, MEAN.shape)).astype(
            np.uint16
        ),
        {"look", "denoised"},
        "grey levels do not tell how many electrons",
    ),
    "drift": (
        drifting,
        {"look", "frames", "learned", "denoised", "judged"},
        "It is undone by whole pixels",
    ),
    "dead row": (
        bad_rows,
        {"look", "frames", "learned", "denoised", "judged"},
        "1 hot pixel, dead row 11",
    ),
    "blank frames": (
        blank,
        {"look", "frames", "learned", "denoised", "judged"},
        "Frames 3, 9 (the first is 0) are blank",
    ),
    "one frame": (
        lambda: COUNTS[:1] + RNG.poisson(2, (1, 40, 44)).astype(np.uint8),
        {"look", "denoised", "judged"},
        "a single frame cannot tell its noise from its specimen",
    ),
    "ten dead rows": (
        lambda: np.where(np.arange(40)[:, None] % 4 == 0, 0, COUNTS),
        {"look", "frames", "learned", "denoised", "judged"},
        "Too many to be an accident: dead rows 0, 4, 8, 12, 16, 20, 24, 28, ...",
    ),
    "one frame, no pixel size": (lambda: COUNTS[:1], {"look"}, "It was not denoised."),
    "averaged frames": (
        lambda: COUNTS[1:] + COUNTS[:-1],
        {"look"},
        "frames share noise",
    ),
}


@pytest.mark.parametrize("name", MATRIX)
def test_problem_movies_are_right_or_a_sentence(tmp_path, name):
    movie, done, words = MATRIX[name]
    everything(tmp_path, movie(), pixel_size=0.0 if "no pixel" in name else 0.24)
    assert folders(tmp_path) - {"measured"} == done
    assert words in (tmp_path / "out" / "report.html").read_text()


def test_a_gain_changes_nothing(tmp_path):
    """What is learned of counts times a gain is what is learned of the counts."""
    for name, movie in (("a", COUNTS), ("b", COUNTS * 32.0)):
        (tmp_path / name).mkdir()
        everything(tmp_path / name, movie)
    a, b = ((tmp_path / n / "out" / "denoised" / "denoised.tif").read_bytes() for n in "ab")
    assert a == b


def test_colours_are_a_sentence(tmp_path):
    path = tmp_path / "rgb.tif"
    tifffile.imwrite(path, RNG.integers(0, 255, (9, 40, 40, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="colour"):
        own.everything(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["look", "everything"])
def test_the_commands_do_it(tmp_path, capsys, command):
    np.save(tmp_path / "mine.npy", COUNTS[:1])
    out = tmp_path / "out"
    words = [command, str(tmp_path / "mine.npy"), "--pixel-size", "0.4", "--output", str(out)]
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 0
    assert f"{out / 'report.html'} shows them" in capsys.readouterr().out
    assert "a single frame cannot tell its noise" in (out / "report.html").read_text()


@pytest.fixture
def denoise(tmp_path):
    np.save(tmp_path / "mine.npy", COUNTS)
    given = {"pixel_size": 0.2, "steps": 4, "device": "cpu", "progress": False}
    return partial(own.denoise, tmp_path / "mine.npy", **given)


def test_a_network_that_learned_before_is_taken(tmp_path, denoise):
    denoise(tmp_path / "first")
    denoise(tmp_path / "again", network=tmp_path / "first" / "denoiser.safetensors", also="hspy")
    first, again = ((tmp_path / n / "denoised.tif").read_bytes() for n in ("first", "again"))
    assert first == again
    assert (tmp_path / "again" / "denoised.hspy").is_file()
    assert "learned before" in (tmp_path / "again" / "report.html").read_text()
    assert not (tmp_path / "again" / "denoiser.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"network": "none.safetensors"}, "none.safetensors"),
        ({"network": "a", "halves": True}, "network: it has learned"),
        ({"also": "png"}, "also: got 'png', allowed is one of tif, zarr, hspy"),
    ],
)
def test_what_is_refused_before_any_work(tmp_path, denoise, options, words):
    with pytest.raises(InputError, match=words):
        denoise(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("movie", "dealt"), [(COUNTS, "electrons"), (COUNTS * 0.5, "frames")])
def test_what_the_halves_were_is_said(tmp_path, monkeypatch, denoise, movie, dealt):
    monkeypatch.setattr(denoising, "FEW", 10**9)
    np.save(tmp_path / "mine.npy", movie)
    denoise(tmp_path / "out", halves=True)
    report = (tmp_path / "out" / "report.html").read_text()
    assert ("halves of the movie&#x27;s electrons" in report) == (dealt == "electrons")
    assert ("whole frames" in report) == (dealt == "frames")
