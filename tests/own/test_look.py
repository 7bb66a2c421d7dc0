"""What a movie is: electrons or not, by counts whose history is known; and what is mended."""

import csv
import json
import re

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageSequence

from insitu import InputError, fetch, open_movie, own
from insitu.own import mending, values
from insitu.simulate.movie_files import shipped_movie

RNG = np.random.default_rng(0)
Y, X = np.mgrid[:64, :64]
MEAN = 0.8 * (1 + 0.5 * np.cos(X / 3) * np.cos(Y / 3)) * np.ones((20, 1, 1))
COUNTS = RNG.poisson(MEAN)
CAMERA = np.rint(RNG.poisson(30 * MEAN) * 12 + 100 + RNG.normal(0, 8, MEAN.shape))


def look(tmp_path, movie, **options):
    path = tmp_path / "mine.npy"
    np.save(path, movie)
    return own.look(path, tmp_path / "out", **{"pixel_size": 0.2} | options)


@pytest.mark.parametrize(
    ("gain", "offset", "rate"),
    [(32, 0, 1), (0.731, 0, 1), (7.1, 0, 0.03), (2.5, 0, 30), (57.7, 15, 1)],
)
def test_a_gain_is_undone(gain, offset, rate):
    counts = RNG.poisson(MEAN * rate)
    told = values.values_of(counts * gain + offset)
    assert told.kind == "scaled"
    assert told.step == pytest.approx(gain, rel=1e-3)
    assert told.offset == pytest.approx(offset, abs=0.01 * gain)
    np.testing.assert_array_equal(told.frames, counts)


def test_a_gain_of_each_pixel_is_undone():
    """Of 10 %, so that no step is common to all."""
    gain = 32.0 * (1 + 0.1 * RNG.standard_normal((64, 64)).clip(-2.5, 2.5))
    told = values.values_of(COUNTS * gain)
    assert told.kind == "scaled"
    np.testing.assert_array_equal(told.frames, COUNTS)
    assert "other from pixel to pixel" in told.finding.answer


def test_a_movie_that_was_normalised_is_counts_again():
    told = values.values_of((COUNTS - COUNTS.mean()) / COUNTS.std())
    assert told.step == pytest.approx(1 / COUNTS.std(), rel=1e-3)
    np.testing.assert_array_equal(told.frames, COUNTS)


def test_the_grey_levels_of_a_real_animation_are_its_counts():
    try:
        real = fetch.pt_ceo2_movie()
    except fetch.Unavailable as missing:
        pytest.skip(str(missing))
    with Image.open(fetch.recording("pt-ceo2-etem.gif")) as animation:
        grey = [np.asarray(f.convert("L"))[:, :100] for f in ImageSequence.Iterator(animation)]
    told = values.values_of(np.stack(grey[:40]))
    assert told.kind == "scaled"
    assert (told.frames == real.counts).mean() > 0.999


@pytest.mark.parametrize(
    ("name", "movie", "words"),
    [
        ("camera", CAMERA, "variance rises by"),
        ("low dose of a camera", COUNTS * 12 + 100 + RNG.normal(0, 8, MEAN.shape), "rises by"),
        ("rendered", (100 * MEAN + RNG.normal(0, 9, MEAN.shape)).astype(np.uint8), "not rise"),
        ("background subtracted", COUNTS - COUNTS.mean(0), "not rise"),
        ("clean", MEAN, "not rise"),
        ("exponential", RNG.exponential(10.0, MEAN.shape) * MEAN, "rises by"),
    ],
)
def test_grey_levels_are_told(name, movie, words):
    told = values.values_of(movie)
    assert told.kind == "grey", name
    assert words in told.finding.measured
    np.testing.assert_array_equal(told.frames, movie)


def test_what_an_electron_is_to_a_camera_is_told():
    """12 levels, from 100 on; read-out noise of 8 levels looks like an offset."""
    said = values.values_of(CAMERA).finding.measured
    slope, start = re.search(r"rises by ([\d.]+) for each level above ([\d.]+),", said).groups()
    assert float(slope) == pytest.approx(12, rel=0.03)
    assert float(start) == pytest.approx(100 - 8**2 / 12, abs=6)


@pytest.mark.parametrize("rate", [0.01, 0.3, 3, 40])
def test_counts_are_counts_at_every_dose(rate):
    counts = RNG.poisson(MEAN * rate)
    assert values.values_of(counts).kind == "counts"
    assert values.values_of(counts.astype(float)).kind == "counts"


def test_broken_pixels_are_found_and_filled_with_counts():
    movie = RNG.poisson(3 * MEAN)
    bad = movie.astype(float)
    bad[:, 20] = bad[:, 21] = 0
    bad[:, :, 40] = 0
    bad[:, 50, 50] = 90
    bad[:, 7, 9] = 0
    bad[5, 30, 30], bad[6, 33, 33] = 400, np.nan
    found = mending.broken_pixels(bad)
    assert found.in_words() == (
        "1 hot pixel, dead rows 20, 21, dead column 40, 1 dead pixel, "
        "2 single values far beyond all others"
    )
    filled = mending.mended(bad, found)
    good = ~(found.hot | found.dead | found.spikes.any(0))
    np.testing.assert_array_equal(filled[:, good], movie[:, good])
    assert filled.max() <= movie.max()
    beside = np.arange(64) != 40
    moved = np.roll(filled[:, 19], 10, axis=0)
    np.testing.assert_array_equal(filled[:, 20, beside], moved[:, beside])
    assert all(finding.good for finding in values.whiteness(filled))


@pytest.mark.parametrize("gain", [0.001, 1, 300])
def test_dead_rows_are_found_whatever_the_gain(gain):
    bad = RNG.poisson(3 * MEAN) * gain
    bad[:, 20] = 0
    bad[:, 7, 9] = 0
    assert mending.broken_pixels(bad).in_words() == "dead row 20, 1 dead pixel"
    dark = RNG.poisson(MEAN * 0.1) * gain  # of which many pixels never count
    assert mending.broken_pixels(dark).in_words() == ""


def test_in_few_frames_what_was_hit_is_filled():
    image = COUNTS[:1].copy()
    image[0, 30, 30] = 3000
    found = mending.broken_pixels(image)
    assert found.in_words() == "1 single value far beyond all others"
    assert mending.mended(image, found).max() <= COUNTS.max()


@pytest.mark.parametrize("rate", [0.02, 0.5, 20])
def test_no_pixel_of_a_good_movie_is_broken(rate):
    assert mending.broken_pixels(RNG.poisson(MEAN * rate)).in_words() == ""
    crystal = shipped_movie(160).counts[:40]
    assert mending.broken_pixels(crystal).in_words() == ""


def drifting(speed):
    """A window that moves over the movie that ships, so many pixels a frame."""
    movie = shipped_movie(256).counts[:40]
    at = np.rint(np.arange(40) * speed).astype(int)
    return np.stack([f[k : k + 192, 20:212] for f, k in zip(movie, at, strict=True)])


@pytest.mark.parametrize("speed", [0.0, 0.25, 0.5])
def test_drift_of_a_crystal_is_told_and_undone(speed):
    """At half a pixel a frame it moves two columns far, and not to the next one."""
    movie = drifting(speed)
    drift = mending.drift_of(movie)
    assert drift.shifts[-1, 0] == pytest.approx(-39 * speed, abs=2.5)
    assert abs(drift.shifts[-1, 1]) < 2.5
    assert drift.error < 0.5
    still = mending.undrifted(movie, drift)
    assert mending.drift_of(still).length <= max(2.5, drift.length / 5)
    assert still.dtype == movie.dtype
    assert still.shape[1] == pytest.approx(192 - drift.length, abs=3)


def test_a_drift_that_cannot_be_told_is_not_undone(tmp_path):
    noise = RNG.poisson(1.0, (40, 96, 96))
    assert not mending.drift_of(noise).sure
    assert open_movie(look(tmp_path, noise).movie).shape == noise.shape
    assert mending.drift_of(noise[:7]) is None


def test_counts_that_drift_stay_counts(tmp_path):
    looked = look(tmp_path, drifting(0.5), pixel_size=0.24)
    assert looked.kind == "counts"
    answers = {f.question: f for f in looked.findings}
    assert "It is undone" in answers["Does it drift?"].answer
    assert answers["Is the noise Poisson?"].good
    movie = open_movie(looked.movie)
    assert movie.shape[1] < 180
    assert movie.part().dtype == np.uint8
    with (tmp_path / "out" / "drift.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["y_px"]) == pytest.approx(-19.5, abs=2.5)


def test_what_is_written_goes_on_as_it_is(tmp_path):
    looked = look(tmp_path, COUNTS * 32.0, frame_time=0.5)
    movie = open_movie(looked.movie)
    np.testing.assert_array_equal(movie.part(), COUNTS)
    assert movie.pixel_size == pytest.approx(0.2)
    assert movie.frame_time == 0.5
    told = json.loads((tmp_path / "out" / "findings.json").read_text())
    assert told[0]["question"] == "Are these electron counts?"
    assert "steps of 32, one for each electron" in told[0]["answer"]
    assert [a.applies for a in looked.advice] == [True] * 5


@pytest.mark.parametrize(
    ("movie", "options", "method", "why"),
    [
        (COUNTS[:1], {}, "movie alone", "a single frame cannot tell its noise"),
        (CAMERA, {}, "judge", "grey levels do not tell how many electrons"),
        (CAMERA, {}, "simulation", "it takes electrons"),
        (COUNTS, {"pixel_size": 0.0}, "movie alone", "give the pixel size"),
        (COUNTS, {"pixel_size": 0.7}, "columns", "wider than 0.5 A"),
        (COUNTS, {"pixel_size": 0.4}, "simulation", "for pixels of 0.05 to 0.26 A, not 0.4"),
        (COUNTS * 0 + RNG.poisson(40, COUNTS.shape), {}, "simulation", "mean doses of 2 to 200"),
        (COUNTS[:4], {}, "columns", "events need 5 frames"),
        (COUNTS[:8], {}, "atoms", "8 frames are too few to keep some aside"),
        (np.add(COUNTS[1:], COUNTS[:-1]), {}, "movie alone", "frames share noise"),
        (np.add(COUNTS[1:], COUNTS[:-1]), {}, "judge", "frames share noise"),
    ],
)
def test_what_does_not_apply_has_a_reason(tmp_path, movie, options, method, why):
    looked = look(tmp_path, movie, **options)
    assert not looked.applies(method)
    assert why in looked.why(method)
    assert why in (tmp_path / "out" / "report.html").read_text()


def test_blank_frames_are_named_and_stay(tmp_path):
    shut = COUNTS.copy()
    shut[4] = 0
    looked = look(tmp_path, shut)
    assert looked.frames == 19
    np.testing.assert_array_equal(open_movie(looked.movie).part(), shut)
    said = next(f for f in looked.findings if "blank" in f.question)
    assert said.answer.startswith("Frame 4 (the first is 0) is blank")
    assert said.answer in (tmp_path / "out" / "report.html").read_text()


def test_what_was_subtracted_from_has_no_blank_frames_but_those_without_noise(tmp_path):
    below = COUNTS - COUNTS.mean()
    assert look(tmp_path, below).frames == 20
    below[7] = -0.01
    looked = look(tmp_path, below - COUNTS.mean(0))
    assert looked.frames == 20
    below[7] = 0
    assert look(tmp_path, below).frames == 19


def test_of_a_large_movie_the_middle_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(own.looking, "MOST", 10 * 64 * 64)
    looked = look(tmp_path, COUNTS)
    np.testing.assert_array_equal(open_movie(looked.movie).part(), COUNTS[5:15])
    assert "Of 20 frames 10 in the middle" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("movie", "sentence"),
    [
        (np.zeros((5, 20, 20)), "every value of mine.npy is 0; nothing was recorded"),
        (np.full((5, 20, 20), np.nan), "holds no number"),
        (COUNTS[:, :9], "frames of .9, 64. are too small"),
        (np.where(RNG.random(COUNTS.shape) < 0.1, np.nan, COUNTS), "values are NaN or infinite"),
    ],
)
def test_refused(tmp_path, movie, sentence):
    with pytest.raises(InputError, match=sentence):
        look(tmp_path, movie)
    assert not (tmp_path / "out").exists()


def test_colours_are_refused_by_the_reader(tmp_path):
    picture = RNG.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "rgb.tif", picture, photometric="rgb")
    with pytest.raises(InputError, match="colour"):
        own.look(tmp_path / "rgb.tif", tmp_path / "out")
