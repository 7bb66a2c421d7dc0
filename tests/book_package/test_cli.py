"""The command line: names, values and files are checked before anything runs."""

import base64
import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys

import nbformat
import numpy as np
import papermill
import pytest
from dask.distributed import LocalCluster
from PIL import Image

from insitu import InputError, files, own
from insitu.book import cli, contents, doctor, runs


def call(*words):
    """Exit status of a call of `insitu`."""
    with pytest.raises(SystemExit) as caught:
        cli.main(list(words))
    return caught.value.code


def make_book(book):
    """A book of two tiny chapters; returns its folder of notebooks."""
    folder = book / "notebooks"
    (folder / "presets").mkdir(parents=True)
    (folder / "presets" / "smoke.yml").write_text("01-good:\n  size: 2\n")
    code = nbformat.v4.new_code_cell
    pages = (
        ("01-good", "", "x = size"),
        ("02-broken", "angle: float = 1.0  # of it; 0 to 9\n", "raise RuntimeError('a bug')"),
    )
    for name, more, body in pages:
        cells = [
            nbformat.v4.new_markdown_cell("# A page"),
            code(
                f'size: int = 5  # of it; 1 to 9\n{more}output_dir: str = ""  # where results go',
                metadata={"tags": ["parameters"]},
            ),
            code(f"from insitu.book import chapter\npage = chapter.start({name!r}, globals())"),
            code(body),
            code("page.finish({'size': size})"),
        ]
        notebook = nbformat.v4.new_notebook(cells=cells)
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nbformat.write(notebook, folder / f"{name}.ipynb")
    lines = [f"      - file: notebooks/{p.stem}\n" for p in sorted(folder.glob("*.ipynb"))]
    (folder.parent / "_toc.yml").write_text("  - caption: A part\n    chapters:\n" + "".join(lines))
    return folder


@pytest.fixture
def small_book(tmp_path, monkeypatch):
    monkeypatch.setattr(contents, "ROOT", tmp_path / "book")
    return make_book(tmp_path / "book")


@pytest.fixture(scope="module")
def both_run(tmp_path_factory):
    """What `insitu run all` leaves and says: its folder of notebooks, of results, out and err."""
    folder = tmp_path_factory.mktemp("both")
    out, said, complained = folder / "out", io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
    ):
        patch.setattr(contents, "ROOT", folder / "book")
        notebooks = make_book(folder / "book")
        assert call("run", "all", "-p", "size", "7", "-p", f"output_dir={out}") == 1
    return notebooks, out, said.getvalue(), complained.getvalue()


@pytest.mark.usefixtures("small_book")
def test_chapters_by_number_and_name():
    assert [p.stem for p in contents.find_chapters(["1", "02-broken"])] == ["01-good", "02-broken"]
    assert [p.stem for p in contents.find_chapters(["all", "01"])] == ["01-good", "02-broken"]
    for bad in ("7", "good", ""):
        with pytest.raises(InputError, match="known are 01-good, 02-broken"):
            contents.find_chapters([bad])


def test_a_chapter_of_two_pages_has_a_letter():
    names = [p.stem[:4] for p in contents.find_chapters(["10", "10b"])]
    assert names == ["10-4", "10b-"]
    assert [p.stem[:4] for p in contents.find_chapters(["10"])] == ["10-4"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-p", "size", "0"), "size: got 0; allowed: 1 to 9"),
        (("-p", "size=many"), "size: expected int, got 'many'"),
        (("-p", "seize", "3"), "unknown parameter seize; this chapter knows size, output_dir"),
        (("--preset", "huge"), "no preset 'huge'; known are smoke"),
        (("-f", "missing.yml"), "missing.yml cannot be read"),
        (("-p", "output_dir=NOTEBOOKS"), "holds the sources of the book"),
    ],
)
def test_bad_calls_are_refused_in_a_sentence(small_book, tmp_path, capsys, words, sentence):
    before = sorted(tmp_path.rglob("*"))
    status = call("run", "01", *(w.replace("NOTEBOOKS", str(small_book)) for w in words))
    assert status in (1, 2)
    errors = capsys.readouterr().err.strip().splitlines()
    assert sentence in errors[-1]
    assert "Traceback" not in "\n".join(errors)
    assert sorted(tmp_path.rglob("*")) == before


def test_values_come_from_preset_file_and_command_line(small_book, tmp_path):
    (tmp_path / "v.yml").write_text("size: 3\n")
    path = small_book / "01-good.ipynb"
    assert runs.chapter_values(path, "smoke") == {"size": 2}
    assert runs.chapter_values(path, "smoke", [str(tmp_path / "v.yml")]) == {"size": 3}
    given = (("size", "4"),)
    assert runs.chapter_values(path, "smoke", [str(tmp_path / "v.yml")], given) == {"size": 4}
    (tmp_path / "v.yml").write_text("\ufeffsize: '4'\n", "utf-8")  # by a Windows editor
    assert runs.chapter_values(path, "smoke", [str(tmp_path / "v.yml")]) == {"size": 4}
    (tmp_path / "v.yml").write_text("size: [3]\n")
    with pytest.raises(InputError, match=r"size: expected int, got \['3'\]"):
        runs.chapter_values(path, None, [str(tmp_path / "v.yml")])
    (tmp_path / "v.yml").write_text("- 3\n")
    with pytest.raises(InputError, match="expected lines of"):
        runs.chapter_values(path, None, [str(tmp_path / "v.yml")])


@pytest.mark.parametrize(
    ("declared", "written", "value"),
    [
        ("a: float = 1.0  # of it; 0 to 9", "1e-1", 0.1),
        ("a: float = 1.0  # of it; 0 to 9", "5", 5.0),
        ("a: float = 1.0  # of it; 0 to 9", ".5e+0", 0.5),
        ('a: str = ""  # frames', "10:50", "10:50"),
        ('a: str = ""  # frames', "0:20,0:100", "0:20,0:100"),
        ('a: str = ""  # a date', "2024-01-01", "2024-01-01"),
        ('a: str = "z"  # axis; one of z, no', "no", "no"),
        ("a: bool = False  # whether", "yes", True),
        ("a: bool = True  # whether", "False", False),
        ("a: int = 5  # of it; 1 to 9000", "1_000", 1000),
    ],
)
def test_a_file_says_what_is_written_in_it(small_book, tmp_path, declared, written, value):
    """YAML alone takes 1e-1 for a word, 10:50 for 650 and no for false."""
    page = small_book / "01-good.ipynb"
    notebook = nbformat.read(page, as_version=4)
    notebook.cells[1].source = declared
    nbformat.write(notebook, page)
    (tmp_path / "v.yml").write_text(f"a: {written}\n")
    assert runs.chapter_values(page, None, [str(tmp_path / "v.yml")]) == {"a": value}


def test_one_file_serves_every_chapter(small_book, tmp_path):
    """A name that only another chapter knows is passed over, one that nobody knows is not."""
    values = tmp_path / "v.yml"
    values.write_text("size: 3\nangle: 2\n")
    assert runs.chapter_values(small_book / "01-good.ipynb", None, [str(values)]) == {"size": 3}
    of_both = runs.chapter_values(small_book / "02-broken.ipynb", None, [str(values)])
    assert of_both == {"size": 3, "angle": 2.0}
    values.write_text("size: 3\nangel: 2\n")
    with pytest.raises(InputError, match="unknown parameter angel"):
        runs.chapter_values(small_book / "01-good.ipynb", None, [str(values)])


def test_run_writes_results_and_a_table(both_run):
    notebooks, out, said, _ = both_run
    mine = out / "01-good"
    assert json.loads((mine / "results.json").read_text()) == {"size": 7.0}
    table = said.splitlines()
    assert table[0].split() == ["chapter", "seconds", "peak", "MB", "device", "result"]
    assert table[1].startswith("01-good")
    assert sorted(p.name for p in mine.iterdir()) == ["01-good.ipynb", "results.json", "run.json"]
    assert nbformat.read(notebooks / "01-good.ipynb", as_version=4).cells[3].outputs == []
    record = json.loads((mine / "run.json").read_text())
    assert record["peak_tree_mb"] >= record["peak_memory_mb"] > 10
    assert record["run"] != ""


def test_a_chapter_that_fails(both_run):
    _, out, said, complained = both_run
    assert "failed with RuntimeError: a bug" in complained
    assert [p.name for p in (out / "02-broken").iterdir()] == ["02-broken.failed.ipynb"]
    assert "02-broken" in said


def test_several_chapters_get_a_folder_each(both_run):
    _, out, _, _ = both_run
    assert sorted(p.name for p in out.iterdir()) == ["01-good", "02-broken"]


@pytest.mark.slow
def test_a_notebook_stands_beside_its_own_results_alone(both_run, tmp_path):
    """Plain papermill takes away what an earlier `insitu run` left, results and notebook."""
    notebooks, earlier, _, _ = both_run
    out = shutil.copytree(earlier / "01-good", tmp_path / "out")
    papermill.execute_notebook(
        notebooks / "01-good.ipynb",
        tmp_path / "mine.ipynb",
        {"size": 3, "output_dir": str(out)},
        progress_bar=False,
    )
    assert sorted(p.name for p in out.iterdir()) == ["results.json", "run.json"]
    assert json.loads((out / "results.json").read_text()) == {"size": 3.0}


@pytest.mark.slow
def test_two_runs_do_not_write_into_one_folder(small_book, tmp_path):
    out = tmp_path / "out"
    holder = (
        "import sys; from insitu.files import ResultsFolder\n"
        f"results = ResultsFolder({str(out)!r})\nresults.lock()\n"
        "print('locked', flush=True)\nsys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", holder], stdin=pipe, stdout=pipe) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match="another run is writing into"):
            runs.run_chapter(small_book / "01-good.ipynb", {"output_dir": str(out)})
        other.stdin.close()
    assert not out.exists()
    results = files.ResultsFolder(out)
    results.lock()  # since the other one has ended
    results.unlock()


@pytest.mark.slow
def test_a_kernel_that_is_killed_is_one_sentence_and_the_next_chapter_runs(
    small_book, tmp_path, capsys
):
    page = small_book / "01-good.ipynb"
    killed = "import os, signal\\nos.kill(os.getpid(), signal.SIGKILL)"
    page.write_text(page.read_text().replace('"x = size"', f'"{killed}"'))
    out = tmp_path / "out"
    (out / "01-good").mkdir(parents=True)
    (out / "01-good" / ".part-movie.npy").write_text("half of it")
    assert call("run", "all", "-p", f"output_dir={out}") == 1
    said = capsys.readouterr()
    assert "01-good: its kernel was killed, as where memory runs out" in said.err
    assert "02-broken: failed with RuntimeError: a bug" in said.err
    assert [line.split()[0] for line in said.out.splitlines()] == [
        "chapter",
        "01-good",
        "02-broken",
    ]
    assert not list(out.rglob(".part-*"))


@pytest.mark.usefixtures("small_book")
def test_a_full_disk_is_one_sentence_and_the_table_is_printed(tmp_path, monkeypatch, capsys):
    calls = []

    def full(source, *_, **__):
        calls.append(source.name)
        raise OSError(28, "No space left on device", "a.ipynb")

    monkeypatch.setattr(papermill, "execute_notebook", full)
    assert call("run", "all", "-p", f"output_dir={tmp_path / 'out'}") == 1
    said = capsys.readouterr()
    assert calls == ["01-good.ipynb", "02-broken.ipynb"]
    assert said.err.count("No space left on device: a.ipynb); free some space") == 2
    assert "Traceback" not in said.err
    assert "02-broken" in said.out


@pytest.mark.usefixtures("small_book")
def test_a_stopped_run_prints_what_was_done(tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(papermill, "execute_notebook", stop)
    assert call("run", "all", "-p", f"output_dir={tmp_path / 'out'}") == 130
    said = capsys.readouterr()
    assert "insitu: stopped" in said.err
    assert said.out.splitlines()[1].split()[0::3] == ["01-good", "-"]
    assert "02-broken" not in said.out


def test_a_missing_record_is_one_sentence(small_book, tmp_path, monkeypatch):
    monkeypatch.setattr(papermill, "execute_notebook", lambda a, b, **_: shutil.copy(a, b))
    with pytest.raises(InputError, match=r"the record run\.json in .* is missing or broken"):
        runs.run_chapter(small_book / "01-good.ipynb", {"output_dir": str(tmp_path / "out")})


def test_a_folder_that_cannot_be_written_into_is_refused_first(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="cannot be written into"):
        files.ResultsFolder(tmp_path / "file" / "out").lock()

    def full(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.results.tempfile, "TemporaryFile", full)
    with pytest.raises(InputError, match=r"cannot be written into \(No space left on device\)"):
        files.ResultsFolder(tmp_path / "out").lock()
    assert not (tmp_path / "out").exists()


def test_what_a_killed_run_left_half_written_goes(tmp_path):
    (tmp_path / "mrc").mkdir()
    for name in (".part-denoised.tif", "mrc/.part-volume.mrc"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".part-volumes.zarr").mkdir()
    results = files.ResultsFolder(tmp_path)
    results.lock()
    results.unlock()
    assert [p.name for p in tmp_path.rglob("*")] == ["mrc"]


def test_results_of_another_run_are_not_taken_for_ones_own(small_book, tmp_path, monkeypatch):
    """A run that finds the record of another one says so and leaves no notebook."""
    out = tmp_path / "out"

    def meanwhile(source, executed, **_):
        shutil.copy(source, executed)
        out.mkdir()
        (out / "run.json").write_text('{"run": "of another"}')

    monkeypatch.setattr(papermill, "execute_notebook", meanwhile)
    with pytest.raises(InputError, match="another run has written into"):
        runs.run_chapter(small_book / "01-good.ipynb", {"output_dir": str(out)})
    assert not (out / "01-good.ipynb").exists()


def test_refresh_tells_which_figures_changed():
    def page(**figures):
        outputs = [
            nbformat.v4.new_output("display_data", {"text/html": html, "text/plain": words})
            for words, html in figures.items()
        ]
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])

    drawn = page(a="<figure>1</figure>", b="<figure>2</figure>", c="<table></table>")
    assert runs.pictures(drawn) == {"a": "<figure>1</figure>", "b": "<figure>2</figure>"}


def test_the_picture_of_a_chapter_is_made_of_the_first_panels():
    stream = io.BytesIO()
    Image.new("L", (6, 3), 100).save(stream, "PNG")
    image = f'<img src="data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}">'
    picture = runs.thumbnail(image * 3, wide=124, high=30)
    assert picture.size == (124, 30)
    assert picture.getpixel((0, 0)) == picture.getpixel((123, 29)) == (100, 100, 100)
    assert picture.getpixel((62, 10)) == (255, 255, 255)
    assert runs.thumbnail(image, wide=124, high=30).getpixel((62, 10)) == (100, 100, 100)


def test_help_names_the_commands(capsys):
    assert call("--help") == 0
    text = capsys.readouterr().out
    names = ("run", "refresh", "doctor", "bank", "denoise", "judge", "measure", "reconstruct")
    names += ("student", "stream")
    assert all(re.search(rf"^  {name} ", text, re.M) for name in names)
    assert call("denoise", "--help") == 0
    assert "--pixel-size A" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("denoise", "a.tif", "--pixel-size", "0.2", "--steps", "7", "--with-simulation"),
            ("denoise", "a.tif", "_results/denoise", {"pixel_size": 0.2, "steps": 7}),
        ),
        (
            ("measure", "a.tif", "--denoised", "b.tif", "--frame-time", "0.1"),
            ("measure", "a.tif", "_results/measure", {"denoised": "b.tif", "frame_time": 0.1}),
        ),
        (
            ("judge", "a.tif", "b.tif", "--output", "o", "--vacuum", "0:9,0:9"),
            ("judge", "a.tif", "b.tif", "o", {"vacuum": "0:9,0:9", "device": "auto", "seed": 0}),
        ),
        (
            ("reconstruct", "s.mrc", "--angles", "t.txt", "--bins", "2"),
            ("reconstruct", "s.mrc", "_results/reconstruct", {"angles": "t.txt", "bins": 2}),
        ),
    ],
)
def test_commands_for_ones_own_files(monkeypatch, capsys, words, expected):
    calls = []
    task, *files, options = expected
    monkeypatch.setattr(own, task, lambda *a, **k: calls.append((a, k)), raising=False)
    assert call(*words) == 0
    ((given, named),) = calls
    assert list(given) == files
    assert options.items() <= named.items()
    assert f"results are in {files[-1]}" in capsys.readouterr().out


@pytest.mark.parametrize("page", ["README.md", "book/how-to-run.md", "CONTRIBUTING.md"])
def test_printed_commands_are_understood(page):
    text = (contents.ROOT / page).read_text()
    lines = re.findall(r"(?:`|    )(?:\.venv/bin/)?insitu (\w.*?)(?:`|  +#|\n)", text)
    assert lines
    for line in lines:
        name, *words = cli.split_values(shlex.split(line))
        command = cli.group.commands[name]
        if words:
            command.make_context(name, words)


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (InputError("movie: got nothing"), 2, "insitu: movie: got nothing"),
        (KeyboardInterrupt(), 130, "insitu: stopped; the same command goes on or begins again"),
    ],
)
def test_errors_of_ones_own_files_are_one_sentence(monkeypatch, capsys, error, status, sentence):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(own, "denoise", fail, raising=False)
    assert call("denoise", "a.tif") == status
    assert capsys.readouterr().err.strip().splitlines() == [sentence]


def test_memory_limits_of_a_container_are_seen(tmp_path):
    group = tmp_path / "fs" / "job" / "step"
    group.mkdir(parents=True)
    (tmp_path / "own").write_text("0::/job/step\n")
    for folder, limit in ((group, "max"), (group.parent, "2000"), (tmp_path / "fs", "3000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("500\n")
    assert sorted(doctor._limits(tmp_path / "fs", tmp_path / "own")) == [(2000, 500), (3000, 500)]
    old = tmp_path / "old" / "memory" / "job"
    old.mkdir(parents=True)
    (tmp_path / "own").write_text("4:memory:/job\n1:cpu:/job\n")
    (old / "memory.limit_in_bytes").write_text("1000\n")
    (old / "memory.usage_in_bytes").write_text("10\n")
    assert list(doctor._limits(tmp_path / "old", tmp_path / "own")) == [(1000, 10)]


def test_outlook_goes_by_the_whole_tree():
    stamp = {"peak_memory_mb": 900, "peak_tree_mb": 1100, "seconds": 9.0, "gflops": 100.0}
    assert doctor.outlook(stamp, 1.2e9, 1e9, 50.0) == "will run: needs 1100 MB and about 18 s"
    assert doctor.outlook(stamp, 1.0e9, 1e9, 50.0).startswith("will not run")
    assert "the disk is almost full" in doctor.outlook(stamp, 1.2e9, 1e8, 50.0)


def test_bank_is_made_and_not_overwritten(tmp_path, capsys):
    path = tmp_path / "waves.zarr"
    with pytest.raises(SystemExit) as caught:
        cli.main(["bank", str(path), "--count", "1"])
    assert caught.value.code == 0
    assert (path / "zarr.json").is_file()
    assert call("bank", str(path)) == 2
    assert f"{path} exists" in capsys.readouterr().err
    assert call("bank", str(tmp_path / "x"), "--count", "0") == 2
    assert "count: got 0" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_sweep_is_gathered(small_book, tmp_path, workers):
    """Here, or by the workers of a dask cluster: the same table."""
    page = small_book / "01-good.ipynb"
    page.write_text(page.read_text().replace("{'size': size}", "{'size': size, 'area': size**2}"))
    out, more = tmp_path / "out", contextlib.nullcontext()
    if workers:
        more = LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", memory_limit=0
        )
    with more as cluster:
        on = ("--cluster", cluster.scheduler_address) if workers else ()
        assert call("run", "01", "--sweep", "size=2,4,8", "-p", f"output_dir={out}", *on) == 0
    lines = (out / "sweep.csv").read_text().splitlines()
    assert lines == ["size,area", "2,4.0", "4,16.0", "8,64.0"]
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "size=4" / "results.json").read_text())["area"] == 16


@pytest.mark.usefixtures("small_book")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("01", "--sweep", "size=2,40"), "size: got 40; allowed: 1 to 9"),
        (("01", "--sweep", "seize=2"), "unknown parameter seize"),
        (("01", "--sweep", "size"), "values as name=a,b,c"),
        (("all", "--sweep", "size=2,3"), "give one chapter"),
        (("01", "--sweep", "size=2,2"), "take different values"),
        (("01", "--cluster", "tcp://nowhere:1"), "is for a sweep"),
    ],
)
def test_a_sweep_is_refused_in_a_sentence(words, sentence, capsys):
    assert call("run", *words) == 2
    assert sentence in capsys.readouterr().err


def test_look_says_what_it_found(tmp_path, capsys):
    counts = np.random.default_rng(0).poisson(0.8, (20, 64, 64)).astype(np.uint8)
    np.save(tmp_path / "mine.npy", counts)
    assert call("look", str(tmp_path / "mine.npy"), "--output", str(tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "Are these electron counts?\n    Yes" in said
    assert "\n    yes  judge: the variance of counts is known\n" in said
    assert said.splitlines()[-1].startswith("results are in")
