"""Parameters are declared in one place and checked; results are whole or absent."""

import json
import math
import platform

import psutil
import pytest
from IPython.core.interactiveshell import InteractiveShell

from insitu import InputError
from insitu.book import chapter, parameters

CELL = """\
dose: float = 8.0  # electrons per square angstrom [e-/A^2]; 0.01 to 1e4
frames: int = 10  # how many; 0 takes all; 0 to 500
movie: str = ""  # your own movie
train: bool = False  # learn anew
output_dir: str = ""  # where results go
device: str = "auto"  # where to compute; one of auto, cpu, cuda
seed: int = 0  # of every random number; 0 to 1000
"""


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(chapter, "display", lambda *a, **k: outputs.append((a, k)))
    return outputs


def start(shown, injected="", **values):  # noqa: ARG001 - keeps the display quiet
    namespace = {}
    exec(CELL, namespace)
    history = ["", CELL]
    if injected:
        history.append("# Parameters\n" + injected)
        exec(injected, namespace)
    namespace |= values | {"In": history}
    return chapter.start("02-test", namespace), namespace


def test_declarations_are_read():
    declared = parameters.parse_parameters(CELL)
    assert list(declared) == ["dose", "frames", "movie", "train", "output_dir", "device", "seed"]
    dose = declared["dose"]
    assert (dose.type, dose.default, dose.span) == ("float", 8.0, (0.01, 1e4))
    assert declared["frames"].help == "how many; 0 takes all"
    assert declared["frames"].allowed == "0 to 500"
    assert declared["device"].choices == ("auto", "cpu", "cuda")
    assert declared["movie"].allowed == "any text"


@pytest.mark.parametrize(
    "line",
    ["dose = 8.0  # no type", "dose: float = 8.0", "x: int | None = 3  # union", "f(3)  # a call"],
)
def test_other_lines_are_no_declarations(line):
    with pytest.raises(ValueError, match="line 1 of the parameters cell"):
        parameters.parse_parameters(line)


def test_good_values_pass(shown):
    page, namespace = start(shown, "dose = 4\nframes = 20")
    assert namespace["dose"] == 4.0
    assert isinstance(namespace["dose"], float)
    assert page.values["frames"] == 20
    card = shown[0][0][0].data
    assert "papermill notebooks/02-test.ipynb out.ipynb -p dose 4.0 -p frames 20" in card
    assert "0.01 to 10000" in card


@pytest.mark.parametrize(
    ("injected", "sentence"),
    [
        ("dose = 0", "dose: got 0.0; allowed: 0.01 to 10000"),
        ("dose = -3.0", "dose: got -3.0"),
        ("dose = float('nan')", "dose: got nan"),
        ("dose = 'high'", "dose: expected float, got 'high'"),
        ("dose = True", "dose: expected float, got True"),
        ("frames = 2.5", "frames: expected int, got 2.5"),
        ("frames = 501", "frames: got 501; allowed: 0 to 500"),
        ("train = 1", "train: expected bool, got 1"),
        ("movie = 3", "movie: expected str, got 3"),
        ("device = 'tpu'", "device: got 'tpu'; allowed: one of auto, cpu, cuda"),
        ("dosis = 3", "unknown parameter dosis; this chapter knows dose, frames"),
    ],
)
def test_bad_values_stop_the_chapter(shown, injected, sentence):
    with pytest.raises(InputError) as caught:
        start(shown, injected)
    assert str(caught.value).startswith(sentence)
    assert caught.value._render_traceback_() == [f"InputError: {caught.value}"]


def test_without_parameters_cell(shown):  # noqa: ARG001
    with pytest.raises(InputError, match="run the parameters cell first"):
        chapter.start("02-electron-counting", {"In": [""]})
    with pytest.raises(InputError, match="cannot be read as a notebook"):
        chapter.start("99-nothing", {"In": [""]})


def test_values_from_the_command_line():
    declared = parameters.parse_parameters(CELL)
    assert declared["dose"].parse("4") == 4.0
    assert declared["frames"].parse("7") == 7
    assert declared["train"].parse("true") is True
    assert declared["movie"].parse("007.tif") == "007.tif"
    for name, text in (("dose", "much"), ("frames", "2.5"), ("train", "maybe"), ("dose", "0")):
        with pytest.raises(InputError, match=name):
            declared[name].parse(text)


def test_same_seed_same_numbers(shown):
    first, _ = start(shown)
    again, _ = start(shown)
    other, _ = start(shown, "seed = 1")
    draw = [p.rng.integers(1 << 30) for p in (first, again, other)]
    assert draw[0] == draw[1] != draw[2]


def test_results_are_written_whole(shown, tmp_path):
    page, _ = start(shown, f"output_dir = {str(tmp_path / 'out')!r}")
    assert not (tmp_path / "out").exists()
    page.write("a/b.txt", lambda p: p.write_text("x"))
    page.finish({"psnr_db": 31.5})
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == {"psnr_db": 31.5}
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["peak_memory_mb"] > 10
    assert run["parameters"]["dose"] == 8.0
    assert not list((tmp_path / "out").rglob(".part*"))
    ((bundle,), _) = shown[-1]
    assert bundle["text/plain"] == "psnr_db 31.5"
    assert "<code>psnr_db</code></td><td>31.5<" in bundle["text/html"]
    with pytest.raises(ValueError, match="no finite numbers: ssim"):
        page.finish({"ssim": math.nan})


def test_nothing_is_written_outside(shown, tmp_path):
    page, _ = start(shown, f"output_dir = {str(tmp_path / 'out')!r}")
    for name in ("../x.txt", "/tmp/x.txt", "."):
        with pytest.raises(InputError, match="outside of output_dir"):
            page.write(name, lambda p: p.write_text("x"))
    assert not (tmp_path / "x.txt").exists()


def test_full_disk_leaves_the_old_file(shown, tmp_path):
    page, _ = start(shown, f"output_dir = {str(tmp_path)!r}")
    page.write("r.txt", lambda p: p.write_text("old"))

    def full(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"No space left on device.*free some space"):
        page.write("r.txt", full)
    assert (tmp_path / "r.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["r.txt"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_freed_arrays_are_given_back_after_a_cell(monkeypatch):
    """Also when something small that stays lies between them."""
    shell = InteractiveShell()
    monkeypatch.setattr(chapter, "get_ipython", lambda: shell)
    chapter.give_memory_back()
    chapter.give_memory_back()
    before = psutil.Process().memory_info().rss
    cell = """
import numpy as np
large = np.ones(3 << 20)
del large  # glibc keeps arrays of such a size from now on
between = [(np.ones(1 << 20), bytes(100_000)) for _ in range(20)]
kept = [small for _, small in between]
del between
"""
    assert shell.run_cell(cell).success
    assert len(shell.user_ns["kept"]) == 20
    assert psutil.Process().memory_info().rss - before < 20e6
