"""A reader's file, denoised: what is written, how it goes on after a kill, what is refused."""

import json
import subprocess
import sys
from subprocess import PIPE

import numpy as np
import pytest
import tifffile
import torch

from insitu import InputError, own
from insitu.denoise import unsupervised
from insitu.denoise.blocks import Blocks
from insitu.files import open_movie
from insitu.learning import checkpoints
from insitu.own import denoising

PIXEL = 0.2


@pytest.fixture(scope="module")
def counts():
    y, x = np.mgrid[:24, :28]
    mean = 0.6 * (1 + 0.6 * np.cos(1.3 * x) * np.cos(1.1 * y)) * np.ones((24, 1, 1))
    return np.random.default_rng(0).poisson(mean).astype(np.uint8)


@pytest.fixture
def path(tmp_path, counts):
    tifffile.imwrite(tmp_path / "mine.tif", counts)
    return tmp_path / "mine.tif"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Training that takes a second."""
    learn = unsupervised.learn_movie

    def quick(*given, **options):
        return learn(*given, **options | {"options": {"channels": 4, "levels": 1, "reach": 4}})

    monkeypatch.setattr(unsupervised, "learn_movie", quick)


def denoise(path, output, **options):
    given = {"pixel_size": PIXEL, "steps": 4, "device": "cpu", "progress": False}
    return own.denoise(path, output, **given | options)


def test_a_movie_alone(path, tmp_path, counts):
    numbers = denoise(path, tmp_path / "out", frame_time=0.5)
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == numbers
    assert numbers["frames"] == 24
    assert numbers["mean_electrons"] == pytest.approx(counts.mean())
    assert numbers["mean_denoised_electrons"] == pytest.approx(
        counts.mean(), rel=0.4
    )  # hardly trained
    written = tifffile.imread(tmp_path / "out" / "denoised.tif")
    assert (written.shape, written.dtype) == (counts.shape, np.float32)
    movie = open_movie(tmp_path / "out" / "denoised.tif")
    assert movie.pixel_size == pytest.approx(PIXEL, rel=1e-4)
    assert movie.frame_time == pytest.approx(0.5)
    names = {p.name for p in (tmp_path / "out").iterdir()} - {".lock", "deviation.tif"}
    assert names == {
        "denoised.tif",
        "denoiser.json",
        "denoiser.safetensors",
        "film.mp4",
        "report.html",
        "results.json",
        "with_innovation.tif",
    }
    told = (tmp_path / "out" / "deviation.tif").exists()
    assert told == ("mean_deviation_electrons" in numbers)
    report = (tmp_path / "out" / "report.html").read_text()
    assert told != ("There is no deviation.tif" in report)


def test_a_part_of_it(path, tmp_path, counts):
    denoise(path, tmp_path / "out", frames="2:20", crop="0:20,4:28")
    written = tifffile.imread(tmp_path / "out" / "denoised.tif")
    assert written.shape == counts[2:20, :20, 4:28].shape
    assert not (tmp_path / "out" / "deviation.tif").exists()
    report = (tmp_path / "out" / "report.html").read_text()
    assert "8 frames have 5 on both sides, 12 are needed" in report


def test_a_blank_frame_is_named_and_nothing_is_learned_of_it(tmp_path, counts):
    shut = counts.copy()
    shut[9] = 0
    np.save(tmp_path / "shut.npy", shut)
    numbers = denoise(tmp_path / "shut.npy", tmp_path / "out", frames="2:24")
    assert numbers["frames"] == 21
    written = tifffile.imread(tmp_path / "out" / "denoised.tif")
    assert written.shape == shut[2:].shape
    assert not written[7].any()
    np.save(tmp_path / "open.npy", np.delete(shut[2:], 7, axis=0))
    assert denoise(tmp_path / "open.npy", tmp_path / "other") == numbers
    open_only = tifffile.imread(tmp_path / "other" / "denoised.tif")
    np.testing.assert_array_equal(np.delete(written, 7, axis=0), open_only)
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Frame 9 (the first is 0) is blank, as behind a closed shutter" in report


def test_frames_are_summed_as_asked_and_what_was_left_is_told(tmp_path, counts):
    np.save(tmp_path / "fine.npy", counts[:23])
    with pytest.warns(UserWarning, match="the last 1 frames do not fill a sum"):
        numbers = denoise(tmp_path / "fine.npy", tmp_path / "out", sum_frames=2)
    assert numbers["frames"] == 11
    assert numbers["mean_electrons"] == pytest.approx(2 * counts[:22].mean())
    assert "do not fill a sum" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("shape", [(6, 48, 50), (3, 30, 34), (30, 34)])
def test_with_simulation_also_an_image(tmp_path, shape):
    counts = np.random.default_rng(0).poisson(2.0, shape).astype(np.uint8)
    np.save(tmp_path / "mine.npy", counts)
    numbers = denoise(tmp_path / "mine.npy", tmp_path / "out", with_simulation=True)
    written = tifffile.imread(tmp_path / "out" / "denoised.tif")
    assert written.shape == shape
    assert written.mean() == pytest.approx(counts.mean(), rel=0.02)
    assert "best_step" not in numbers
    assert not (tmp_path / "out" / "denoiser.safetensors").exists()


def test_a_dose_that_no_network_was_trained_for_is_told(tmp_path):
    np.save(tmp_path / "dim.npy", np.random.default_rng(0).poisson(0.001, (2, 64, 64)))
    with pytest.warns(UserWarning, match="dose: .* do not trust its answer"):
        denoise(tmp_path / "dim.npy", tmp_path / "out", with_simulation=True)
    assert "do not trust its answer" in (tmp_path / "out" / "report.html").read_text()


def test_by_halves(path, tmp_path, counts):
    numbers = denoise(path, tmp_path / "out", halves=True)
    assert (numbers["steps"], numbers["best_step"]) == (4, 1)
    written = tifffile.imread(tmp_path / "out" / "denoised.tif")
    assert written.shape == counts.shape
    assert written.mean() == pytest.approx(counts.mean(), rel=0.4)  # hardly trained
    report = (tmp_path / "out" / "report.html").read_text()
    assert "learned from halves" in report
    assert "still learning" in report
    assert not list((tmp_path / "out").glob("training*"))


@pytest.mark.parametrize("killed", ["training", "denoising"])
def test_killed_it_goes_on(path, tmp_path, monkeypatch, killed):
    whole = denoise(path, tmp_path / "whole", steps=60)
    batch, answers = Blocks.batch, denoising._beside
    learned = []

    def dies(self, number, *given):
        learned.append(number)
        if killed == "training" and len(learned) == 56:
            raise KeyboardInterrupt
        return batch(self, number, *given)

    def dies_later(*given):
        if killed == "denoising" and len(learned) == 60:
            raise KeyboardInterrupt
        return answers(*given)

    monkeypatch.setattr(Blocks, "batch", dies)
    monkeypatch.setattr(denoising, "_beside", dies_later)
    with pytest.raises(KeyboardInterrupt):
        denoise(path, tmp_path / "out", steps=60)
    learned.append(-1)
    again = denoise(path, tmp_path / "out", steps=60)
    first = learned.index(-1) + 1
    assert learned[first:] == (list(range(50, 60)) if killed == "training" else [])
    assert again == whole
    a, b = (tifffile.imread(tmp_path / n / "denoised.tif") for n in ("whole", "out"))
    np.testing.assert_array_equal(a, b)


def test_another_movie_is_learned_anew(path, tmp_path, counts):
    denoise(path, tmp_path / "out")
    before = checkpoints.load(tmp_path / "out" / "denoiser.safetensors")[1]
    tifffile.imwrite(path, counts[::-1])
    denoise(path, tmp_path / "out")
    after = checkpoints.load(tmp_path / "out" / "denoiser.safetensors")[1]
    assert before["movie"] != after["movie"]
    assert before["history"][-1]["training"] != after["history"][-1]["training"]


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (None, {}, "there is no file"),
        (np.ones((40, 40)), {}, "take --with-simulation"),
        (np.ones((1, 40, 40)), {}, "take --with-simulation"),
        (np.ones((4, 8, 40)), {}, "too small"),
        (np.full((4, 40, 40), 3.0), {}, "nothing to learn"),
        (np.full((4, 40, 40), np.nan), {}, "NaN"),
        (np.full((4, 40, 40), np.nan), {"with_simulation": True}, "NaN"),
        (np.arange(6400).reshape(4, 40, 40) - 1, {"with_simulation": True}, "never negative"),
        (np.ones((4, 40, 40)), {"pixel_size": 0.0}, "movie_pixel_size: bad.npy does not tell"),
        (np.ones((4, 40, 40)), {"pixel_size": 0.012}, "finer than .*in nm, give 0.12"),
        (np.ones((4, 40, 40)), {"sum_frames": 5}, "sum_frames: got 5, allowed is 0 to 4"),
        (np.ones((4, 40, 40)), {"pixel_size": -1.0}, "movie_pixel_size: got -1, allowed"),
        (np.ones((4, 40, 40)), {"frames": "3:2"}, "movie_frames"),
        (np.ones((4, 40, 40)), {"crop": "0:99,0:40"}, "movie_crop"),
        (np.ones((4, 40, 40)), {"device": "tpu"}, "device: got 'tpu'"),
        (np.ones((4, 40, 40)), {"steps": -1}, "movie_steps: got -1"),
        (np.ones((4, 40, 40)), {"halves": True, "with_simulation": True}, "leave out"),
        (np.arange(6400).reshape(4, 40, 40) - 1, {"halves": True}, "never negative"),
    ],
)
def test_bad_input_stops_before_any_work(tmp_path, values, options, words):
    if values is not None:
        np.save(tmp_path / "bad.npy", values)
    with pytest.raises(InputError, match=words):
        denoise(tmp_path / "bad.npy", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_one_run_a_folder(path, tmp_path):
    code = (
        "import sys; from insitu.files import ResultsFolder; "
        "mine = ResultsFolder(sys.argv[1]); mine.lock(); print('locked', flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(InputError, match="another run is writing"):
            denoise(path, tmp_path / "out")
        other.communicate("end\n")
    denoise(path, tmp_path / "out", device=torch.device("cpu"))
