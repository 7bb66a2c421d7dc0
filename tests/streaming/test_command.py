"""`insitu stream`: says what it will take, then does it, and what it writes is right."""

import csv
import json

import numpy as np
import pytest
import tifffile

from insitu import InputError
from insitu.book import cli
from insitu.streaming import Costs, open_store, trial
from insitu.streaming.command import workers_of
from insitu.streaming.costs import Run

PIXEL, TIME = 0.24, 0.02


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """A square of 16 pixels brightens in frame 60."""
    counts = np.random.default_rng(0).poisson(0.5, (96, 80, 96)).astype(np.uint8)
    more = np.random.default_rng(1).poisson(0.4, (36, 16, 16)).astype(np.uint8)
    counts[60:, 32:48, 48:64] += more
    path = tmp_path_factory.mktemp("movie") / "counts.tif"
    tifffile.imwrite(path, counts)
    return path, counts


def call(*words):
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    return end.value.code


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_movie_is_measured(movie, tmp_path, capsys):
    path, counts = movie
    words = ("stream", path, "--output", tmp_path / "out", "--baseline", 40, "--compressed")
    assert call(*words, "--pixel-size", PIXEL, "--frame-time", TIME) == 0
    said = capsys.readouterr().out
    assert "96 frames of 80 x 96 pixels" in said
    assert said.index("of memory a worker") < said.index("results are in")
    out = tmp_path / "out"
    numbers = json.loads((out / "results.json").read_text())
    assert numbers["electrons_per_pixel"] == pytest.approx(counts.mean())
    assert numbers["electrons_per_square_angstrom"] == pytest.approx(counts.mean() / PIXEL**2)
    assert numbers["fano"] == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(tifffile.imread(out / "mean.tif"), counts.mean(0), rtol=1e-6)
    told = rows(out / "frames.csv")
    assert float(told[7]["electrons_per_pixel"]) == pytest.approx(counts[7].mean(), rel=1e-5)
    assert float(told[7]["time_s"]) == pytest.approx(7 * TIME)
    (first, *_) = [r for r in rows(out / "alarms.csv") if r["change"] == "more"]
    assert (first["y_pixel"], first["x_pixel"]) == ("32", "48")
    assert 60 <= int(first["frame"]) < 65
    assert open_store(out / "counts.zarr").pixel_size == PIXEL
    assert "alarms in each square" in (out / "report.html").read_text()


def test_a_plan_writes_nothing_and_denoising_is_planned_for(movie, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--denoiser", "pt_ceo2", "--pixel-size", PIXEL, "--plan")
    assert call("stream", movie[0], *words) == 0
    assert "of denoised frames, if they are kept" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_workers_of_a_cluster_do_it_and_say_the_same(movie, tmp_path, capsys):
    from dask.distributed import LocalCluster

    options = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": "ERROR"}
    with LocalCluster(n_workers=2, **options) as cluster:
        words = ("--cluster", cluster.scheduler_address, "--baseline", 40)
        assert call("stream", movie[0], "--output", tmp_path / "two", *words) == 0
    assert "for each of 2 workers" in capsys.readouterr().out
    assert call("stream", movie[0], "--output", tmp_path / "one", "--baseline", 40) == 0
    for name in ("mean.tif", "frames.csv", "alarms.csv", "drift.csv", "results.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("none.tif",), "there is no file"),
        (("MOVIE", "--block", "20"), "multiple of 16"),
        (("MOVIE", "--denoiser", "restorer"), "pixel_size: the movie does not tell it"),
        (("MOVIE", "--workers", "0"), "workers: got 0"),
    ],
)
def test_bad_calls_are_one_sentence_before_any_work(movie, tmp_path, capsys, words, sentence):
    words = [movie[0] if word == "MOVIE" else word for word in words]
    assert call("stream", *words, "--output", tmp_path / "out") == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_scheduler_that_does_not_answer_is_refused(monkeypatch):
    monkeypatch.setattr("insitu.streaming.command.PATIENCE", 0.3)
    with pytest.raises(InputError, match="no dask scheduler answers"):
        workers_of(cluster="tcp://127.0.0.1:9").__enter__()


def test_trials_are_short_runs_on_parts_of_the_movie(movie):
    runs = trial(movie[1])
    assert [run.shape for run in runs] == [(64, 80, 96), (96, 80, 96)] * 2
    assert all(0 < run.seconds < 60 and 1e7 < run.memory < 1e10 for run in runs)
    costs = Costs.fit(runs)
    small, large = (Run((n, 80, 96), 64, 1) for n in (1_000, 100_000))
    assert 0 < costs.seconds(small) < costs.seconds(large)
