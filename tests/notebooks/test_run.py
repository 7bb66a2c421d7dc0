"""Every chapter runs: small, and on the reader's own data where it takes any; chapter 2 whole."""

import json
import os
import subprocess
import sys

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import papermill
import pytest
import tifffile
import trials
import zarr
from ase.build import bulk
from ase.io import write

from insitu import InputError, fetch
from insitu.book import cli, contents, prose, runs
from insitu.simulate.movie_files import shipped_movie
from insitu.tomography import phantoms

NOTEBOOKS = [c.path for c in contents.chapters()]

BY_NUMBER = {c.number: c.path for c in contents.chapters()}
CHAPTER_2 = BY_NUMBER["02"]


def own_image(folder):
    """An image, and a short training, for chapter 4."""
    counts = np.random.default_rng(0).poisson(0.5, (61, 75)).astype(np.uint8)
    tifffile.imwrite(folder / "mine.tif", counts)
    training = {"train": True, "steps": 10, "bank_structures": 10, "train_images": 16}
    return training | {"movie": "mine.tif", "movie_pixel_size": 0.1}


def own_movie(folder):
    """A movie of 14 frames for chapter 5."""
    y, x = np.mgrid[:37, :53]
    mean = 0.5 * (1 + 0.5 * np.cos(1.3 * x) * np.cos(1.2 * y)) * np.ones((14, 1, 1))
    counts = np.random.default_rng(0).poisson(mean).astype(np.uint8)
    tifffile.imwrite(folder / "mine.tif", counts)
    tifffile.imwrite(folder / "denoised.tif", mean.astype(np.float32))
    return {"movie": str(folder / "mine.tif"), "movie_pixel_size": 0.2, "movie_steps": 2}


def own_pair(folder):
    """The same movie, denoised, for chapter 7."""
    values = own_movie(folder)
    del values["movie_steps"]
    return values | {"denoised": str(folder / "denoised.tif")}


def own_particle(folder):
    """A part of the book's movie around its event, for chapter 8."""
    counts = shipped_movie(160).counts[56:84]
    tifffile.imwrite(folder / "mine.tif", counts)
    file = {"movie": str(folder / "mine.tif"), "movie_pixel_size": 0.24}
    return file | {"movie_frame_time": 1 / 75}


def own_series(folder):
    """An .npz of 12 tilts of a small particle, for chapter 10."""
    angles = phantoms.tilt_angles("golden", 12)
    particle = phantoms.Phantom("alloying rod", 20, np.linspace(0, 1, 12))
    series, _ = phantoms.record(particle, angles, rng=np.random.default_rng(0))
    np.savez(folder / "own.npz", projections=series.projections, angles=angles)
    return {"tilt_series": str(folder / "own.npz"), "tilt_contrast": 2.42}


def own_image_is_denoised(folder):
    """And a network is trained."""
    denoised = tifffile.imread(folder / "out" / "own" / "denoised.tif")
    assert denoised.shape == (61, 75)
    assert denoised.dtype == np.float32
    assert (folder / "out" / "pt_ceo2.safetensors").is_file()


def own_movie_is_denoised(folder):
    """By the network that it trains."""
    own = folder / "out" / "own"
    denoised = tifffile.imread(own / "denoised.tif")
    assert denoised.shape == (14, 37, 53)
    assert denoised.dtype == np.float32
    assert denoised.mean() == pytest.approx(0.5, rel=0.3)  # hardly trained
    prompt = tifffile.imread(own / "with_innovation.tif")
    assert prompt.shape == denoised.shape
    counts = tifffile.imread(folder / "mine.tif").astype(float)
    assert ((counts - prompt) ** 2).mean() < ((counts - denoised) ** 2).mean()
    assert not (own / "deviation.tif").exists()  # too few frames to tell


def own_movie_is_looked_at_denoised_and_judged(folder):
    """By one frame in five that was kept aside."""
    own = folder / "out" / "own"
    movie = tifffile.imread(own / "look" / "movie.tif")
    np.testing.assert_array_equal(movie, tifffile.imread(folder / "mine.tif"))
    denoised = tifffile.imread(own / "denoised" / "denoised.tif")
    assert denoised.shape == (14, 37, 53)
    results = json.loads((folder / "out" / "results.json").read_text())
    assert results["own_frames_aside"] == 3
    assert (own / "judged" / "card.json").is_file()
    assert (own / "denoised" / "film.mp4").stat().st_size > 10_000
    assert (own / "report.html").stat().st_size < 10e6


def own_pair_is_judged(folder):
    yours = folder / "out" / "own"
    lines = (yours / "candidates.csv").read_text().splitlines()
    assert lines[0] == "y_angstrom,x_angstrom,sign,electrons,expected_without,score"
    assert (yours / "likelihood_map.png").stat().st_size > 1000
    card = json.loads((yours / "card.json").read_text())
    assert {line["verdict"] for line in card} <= {"pass", "fail", "unknown"}


def own_events_are_told(folder):
    """And columns, in two tables."""
    events, columns = (
        (folder / "out" / "own" / f"{name}.csv").read_text().splitlines()
        for name in ("events", "columns")
    )
    assert events[0] == "time_s,earliest_s,latest_s,y_angstrom,x_angstrom,column,kind,probability"
    assert {row.split(",")[6] for row in events[1:]} <= {"appears", "vanishes"}
    assert len(columns) > 28 * 100


def own_series_gives_volumes(folder):
    group = zarr.open_group(folder / "out" / "own" / "volumes.zarr", mode="r")
    assert group["volumes"].shape == group["deviation"].shape == (12, 20, 20, 20)
    assert (folder / "out" / "own" / "report.html").stat().st_size > 1000


# what a reader gives to a chapter, and what comes of it
OWN = {
    "04": (own_image, own_image_is_denoised),
    "05": (own_movie, own_movie_is_denoised),
    "07": (own_pair, own_pair_is_judged),
    "08": (own_particle, own_events_are_told),
    "10": (own_series, own_series_gives_volumes),
    "11": (own_movie, own_movie_is_looked_at_denoised_and_judged),
}


@pytest.mark.parametrize("number", BY_NUMBER)
def test_a_small_run_on_ones_own_data(tmp_path, number):
    """With the smoke preset, and files of one's own in addition to what the page does anyway.

    What it does without them, every run of `insitu refresh` shows. Its checks are tried, too.
    """
    path = trials.with_trials(BY_NUMBER[number], tmp_path / "book")
    give, look = OWN.get(number, (lambda _: {}, lambda _: None))
    values = runs.chapter_values(BY_NUMBER[number], "smoke") | give(tmp_path)
    values |= {"output_dir": str(tmp_path / "out")}
    record = runs.run_chapter(path, values, progress=False)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert all(isinstance(v, float) for v in results.values())
    assert record["chapter"] == path.stem
    assert record["peak_memory_mb"] < 1500
    executed = nbformat.read(record["notebook"], as_version=4)
    text = "\n".join(c.source for c in executed.cells if c.cell_type == "markdown")
    told = list(prose.numbers_in(text))
    assert told
    for number, name, form in told:
        assert number == (prose.written(results[name], form) if name in results else prose.MISSING)
    # of a recording that cannot be had, or of a specimen without columns
    excused = ("edge_", "needle_", "real_", "surface_", "vacuum_") if record["incomplete"] else ()
    missing = {name for _, name, _ in told} - set(results)
    assert not [name for name in missing if not name.startswith(excused)]
    look(tmp_path)


def test_nbval_strict_on_chapter_2(tmp_path, real_movie):
    """The committed outputs, text and tables, come again, numbers to ten decimals."""
    assert real_movie.counts.any()
    sanitize = tmp_path / "sanitize.cfg"
    sanitize.write_text(
        "[pictures]\nregex: base64,[A-Za-z0-9+/=]+\nreplace: PICTURE\n"
        "[chance]\nregex: p 0\\.\\d+\nreplace: P\n"
        "[rounding]\nregex: (\\d\\.\\d{10})\\d+\nreplace: \\1\n"
    )
    copy = tmp_path / CHAPTER_2.name
    notebook = nbformat.read(CHAPTER_2, as_version=4)
    nbformat.write(notebook, copy)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval"]
    command += ["--nbval-current-env", "--nbval-cell-timeout=300", f"--rootdir={tmp_path}"]
    command += [f"--nbval-sanitize-with={sanitize}", str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def bad_movies(folder):
    """Files that cannot be a movie of counts, and the sentence that each should bring."""
    good = np.random.default_rng(0).poisson(0.8, (6, 40, 40))
    tifffile.imwrite(folder / "good.tif", good.astype(np.uint8))
    whole = (folder / "good.tif").read_bytes()
    (folder / "truncated.tif").write_bytes(whole[: len(whole) // 2])
    (folder / "text.tif").write_text("frames of a movie, in words\n" * 50)
    np.save(folder / "nan.npy", np.where(good > 3, np.nan, good))
    np.save(folder / "negative.npy", good - 1)
    np.save(folder / "fraction.npy", good * 0.37)
    np.save(folder / "single.npy", good[:1])
    np.save(folder / "three.npy", good[:3])
    hot = good.copy()
    hot[:, 5, 6] = 3000
    np.save(folder / "hot.npy", hot)
    np.save(folder / "zero.npy", good * 0)
    np.save(folder / "grey.npy", 1000 + 40 * good)
    return {
        "missing.tif": "there is no file",
        "text.tif": "cannot be read as .tif",
        "truncated.tif": "truncated",
        "nan.npy": "are NaN or infinite",
        "negative.npy": "counts are never negative",
        "fraction.npy": "not whole numbers",
        "single.npy": "a single frame",
        "three.npy": "3 frames; a fit to one half",
        "hot.npy": "that is a hot pixel",
        "zero.npy": "every value is 0",
        "grey.npy": "no electron counts",
    }


def refused(number, values, folder):
    """The sentence with which a page stops; its cells are run in this process."""
    notebook = nbformat.read(BY_NUMBER[number], as_version=4)
    declared, *cells = [c.source for c in notebook.cells if c.cell_type == "code"]
    values = runs.chapter_values(BY_NUMBER[number], "smoke") | values
    values |= {"output_dir": str(folder / "out")}
    given = "\n".join(["# Parameters", *(f"{k} = {v!r}" for k, v in values.items())])
    namespace = {"In": ["", declared, given]}
    with plt.rc_context(), pytest.raises(InputError) as caught:
        exec("\n".join([declared, given, *cells]), namespace)
    if "page" in namespace:
        namespace["page"].results.unlock()
    assert not (folder / "out").exists()
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_bad_movies_are_refused_and_nothing_is_written(tmp_path):
    for name, sentence in bad_movies(tmp_path).items():
        assert sentence in refused("02", {"movie": str(tmp_path / name)}, tmp_path), name


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    out = tmp_path / "out"
    bad_movies(tmp_path)
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", "02", "-p", f"movie={tmp_path / 'nan.npy'}", "-p", f"output_dir={out}"])
    assert caught.value.code == 1
    errors = capsys.readouterr().err
    lines = [line for line in errors.splitlines() if line.startswith("02-electron")]
    assert len(lines) == 1, errors
    assert "are NaN or infinite" in lines[0]
    assert "Traceback" not in errors
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [("dose", 0.0, "dose: got 0.0; allowed"), ("dosis", 4, "unknown parameter dosis")],
)
def test_plain_papermill_stops_before_any_work(tmp_path, name, value, sentence):
    out = tmp_path / "out"
    values = {name: value, "output_dir": str(out)}
    with pytest.raises(papermill.PapermillExecutionError) as caught:
        papermill.execute_notebook(CHAPTER_2, tmp_path / "o.ipynb", values, progress_bar=False)
    assert caught.value.ename == "InputError"
    assert sentence in caught.value.evalue
    assert caught.value.exec_count <= 3
    assert not out.exists()


def printed(path):
    """What a page says in words: printed lines, and tables as text."""
    cells = nbformat.read(path, as_version=4).cells
    outputs = [o for c in cells for o in c.get("outputs", [])]
    return "".join(o.get("text") or o.get("data", {}).get("text/plain", "") for o in outputs)


def test_own_movie_and_its_verdict(tmp_path):
    """A Poisson movie, given from another folder, is told to be one."""
    scene = 0.8 + 0.3 * np.sin(np.arange(64) / 4)
    movie = np.random.default_rng(0).poisson(scene, (30, 64, 64)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "mine.tif", movie)
    values = {"movie": "mine.tif", "movie_pixel_size": 0.2, "movie_vacuum": "0:64,0:20"}
    values |= {"repeats": 4, "output_dir": str(tmp_path / "out")}
    record = runs.run_chapter(CHAPTER_2, values, progress=False)
    text = printed(record["notebook"])
    assert "Yes, as far as a denoiser is concerned." in text
    assert "Yes: a blind spot of one pixel is enough." in text
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["vacuum_counted"] == pytest.approx(movie[:, :, :20].mean())
    assert results["movie_dose"] == pytest.approx(movie[:, :, :20].mean() / 0.04)
    assert abs(results["gain_nat"]) < 0.002
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "02-electron-counting.ipynb",
        "results.json",
        "run.json",
        "detector.json",
        "counted.tif",
        "counts_by_mean.csv",
    }


def test_without_network_it_says_so_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("INSITU_DATA_CACHE", str(tmp_path / "empty"))
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nothing listens there
    values = runs.chapter_values(CHAPTER_2, "smoke") | {"output_dir": str(tmp_path / "out")}
    record = runs.run_chapter(CHAPTER_2, values, progress=False)
    text = printed(record["notebook"])
    assert fetch.RECORDINGS["pt-ceo2-etem.gif"].url in text
    assert "goes on with a simulated movie" in text
    assert "pt-ceo2-etem.gif" in record["incomplete"]
    assert "pt-ceo2-etem.gif" not in record["data"]


def test_with_the_cache_it_uses_it(real_movie):
    assert real_movie.counts.shape == (40, 100, 100)
    notebook = nbformat.read(CHAPTER_2, as_version=4)
    assert "pt-ceo2-etem.gif" in notebook.metadata["insitu"]["data"]
    assert "the real movie: frames, rows, columns (40, 100, 100)" in printed(CHAPTER_2)


def test_doctor_tells_what_runs(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for word in ("memory", "GPU", "disk", "data cache", "works", "02-electron-counting: will run"):
        assert word in text
    assert os.fspath(contents.output_folder("x")).startswith(str(fetch.ROOT))


@pytest.mark.parametrize(
    ("value", "sentence"),
    [("thickness=-3", "thickness: got -3.0; allowed"), ("defocus=far", "defocus: expected float")],
)
def test_values_are_checked_before_a_page_runs(tmp_path, capsys, value, sentence):
    """One sentence, an exit status that is not 0, nothing written."""
    with pytest.raises(SystemExit) as caught:
        cli.main(["run", "01", "-p", value, "-p", f"output_dir={tmp_path / 'out'}"])
    assert caught.value.code in (1, 2)
    errors = capsys.readouterr().err
    assert sentence in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("number", "values", "sentence"),
    [
        ("01", {"structure": "none.xyz"}, "there is no file"),
        ("03", {"size": 400}, "more than the 66 A of the simulated field"),
        ("03", {"hops": "44-1"}, "expected start+duration"),
        ("03", {"frames": 128, "event": 125}, "do not lie within 128 frames"),
        ("05", {"movie": "nothing.tif"}, "there is no file"),
        ("06", {"denoised": "only.tif"}, "give the movie of counts"),
        ("07", {"denoised": "only.tif"}, "give the movie of counts"),
        ("07", {"evidence": "only.tif"}, "give the movie of counts"),
        ("10", {"tilt_angles": "a.txt"}, "give the tilt series, too, as tilt_series"),
    ],
)
def test_bad_values_stop_before_any_work(tmp_path, number, values, sentence):
    assert sentence in refused(number, values, tmp_path)


def test_own_structure(tmp_path):
    """A reader's xyz goes through the whole of chapter 1."""
    write(tmp_path / "mine.xyz", bulk("Au", cubic=True).repeat((3, 3, 2)))
    values = runs.chapter_values(NOTEBOOKS[0], "smoke") | {"structure": "mine.xyz"}
    out = tmp_path / "out"
    record = runs.run_chapter(NOTEBOOKS[0], values | {"output_dir": str(out)}, progress=False)
    assert "atoms: {'Au': 72}" in printed(record["notebook"])
    assert {p.name for p in out.iterdir()} >= {"clean.tif", "through_focus.tif", "specimen.xyz"}


def bad_images(folder):
    """Files that cannot be an image of counts, and the sentence that each should bring."""
    good = np.random.default_rng(0).poisson(0.8, (40, 40))
    np.save(folder / "nan.npy", np.where(good > 3, np.nan, good))
    np.save(folder / "negative.npy", good - 1)
    np.save(folder / "line.npy", good[0])
    (folder / "text.tif").write_text("an image in words\n" * 50)
    np.save(folder / "good.npy", good)
    return {
        "missing.tif": "there is no file",
        "nan.npy": "are NaN or infinite",
        "negative.npy": "never negative",
        "line.npy": "a movie has three axes",
        "text.tif": "cannot be read as .tif",
    }


def test_bad_images_are_refused_before_any_work(tmp_path):
    cases = [(name, 0.1, text) for name, text in bad_images(tmp_path).items()]
    cases.append(("good.npy", 0.0, "movie_pixel_size: good.npy does not"))
    for name, pixel_size, sentence in cases:
        values = {"movie": str(tmp_path / name), "movie_pixel_size": pixel_size}
        assert sentence in refused("04", values, tmp_path), name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"angles": np.arange(5.0)}, "12 projections, 5 angles"),
        ({"times": np.zeros(12)}, "comes more than once"),
        ({"projections": np.full((12, 20, 20), np.nan)}, "NaN or infinite"),
        ({"projections": np.full((12, 20, 20), -5.0)}, "above 0"),
    ],
)
def test_bad_tilt_series_stop_before_any_work(tmp_path, change, words):
    own_series(tmp_path)
    whole = dict(np.load(tmp_path / "own.npz"))
    np.savez(tmp_path / "bad.npz", **(whole | change))
    assert words in refused("10", {"tilt_series": str(tmp_path / "bad.npz")}, tmp_path)
