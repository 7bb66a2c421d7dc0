"""A change of code makes exactly the pages stale that use it."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from insitu import InputError, fetch
from insitu.book import freshness
from insitu.book.freshness import LIBRARY

RUN = {
    "chapter": "02-test",
    "parameters": {},
    "device": "CPU",
    "seconds": 1.0,
    "peak_memory_mb": 1,
    "peak_tree_mb": 1,
    "versions": {},
    "data": {"pt_ceo2_clean.tif": freshness._current_hash("pt_ceo2_clean.tif")},
    "incomplete": "",
}
MODULES = {
    "detectors": ["insitu", "insitu.counting", "insitu.counting.categorical"],
    "figures": ["insitu", "insitu.book", "insitu.book.figures"],
    "nothing": [],
}


@pytest.fixture
def library(tmp_path):
    shutil.copytree(LIBRARY / "insitu", tmp_path / "lib" / "insitu")
    return tmp_path / "lib"


def new_page(path, run):
    outputs = [nbformat.v4.new_output("stream", name="stdout", text="2\n")]
    cell = nbformat.v4.new_code_cell("print(1 + 1)", outputs=outputs)
    told = {"language_info": {"name": "python", "version": "3.11.7"}}
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata=told)
    freshness.stamp_page(notebook, run)
    nbformat.write(notebook, path)


@pytest.fixture
def pages(tmp_path):
    """Three stamped pages: one used the detectors, one figures alone, one nothing."""
    paths = {}
    for name, modules in MODULES.items():
        paths[name] = tmp_path / f"{name}.ipynb"
        hashes = {module: freshness.module_hash(module) for module in modules}
        new_page(paths[name], RUN | {"modules": hashes})
    return paths


def stale(pages, library):
    return {name for name, path in pages.items() if not freshness.is_fresh(path, library)}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_stamped_pages_are_fresh(pages, library):
    assert stale(pages, library) == set()


@pytest.mark.parametrize(
    ("module", "old", "new", "expected"),
    [
        ("counting/categorical.py", "annotations\n", "annotations\nx = 1\n", {"detectors"}),
        ("counting/__init__.py", '"""', 'x = 1\n"""', {"detectors"}),
        ("book/figures.py", "zoom: int = 3", "zoom: int = 2", {"figures"}),
        ("book/scrubber.html", "</script>", "</script><p>", {"figures"}),
        (
            "__init__.py",
            "class InputError",
            "y = 2\n\n\nclass InputError",
            {"detectors", "figures"},
        ),
        # loaded by none of them
        ("book/cli.py", "import sys", "import sys\nimport csv", set()),
        # comments, docstrings and layout change no output
        ("book/tiles.py", "# CSS pixels", "# pixels", set()),
        ("book/figures.py", '"""Figures of a page', '"""The figures of a page', set()),
        ("book/figures.py", "zoom: int = 3", "zoom:   int = 3", set()),
    ],
)
def test_edits_make_the_right_pages_stale(pages, library, module, old, new, expected):
    edit(library / "insitu" / module, old, new)
    assert stale(pages, library) == expected


def test_a_changed_cell_makes_its_page_stale(pages, library):
    notebook = nbformat.read(pages["nothing"], as_version=4)
    notebook.cells[0].source = "1 + 2"
    nbformat.write(notebook, pages["nothing"])
    assert stale(pages, library) == {"nothing"}


def test_changed_outputs_make_a_page_stale(pages, library):
    """As when a page was run in JupyterLab with other values and saved."""
    notebook = nbformat.read(pages["nothing"], as_version=4)
    notebook.cells[0].outputs[0].text = "3\n"
    nbformat.write(notebook, pages["nothing"])
    assert stale(pages, library) == {"nothing"}


def test_text_does_not(pages, library):
    notebook = nbformat.read(pages["nothing"], as_version=4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("words"))
    nbformat.write(notebook, pages["nothing"])
    assert stale(pages, library) == set()


def test_a_page_without_its_recording_gets_no_stamp(tmp_path):
    run = RUN | {"modules": {}, "incomplete": "a.gif could not be fetched"}
    with pytest.raises(InputError, match=r"02-test is left as it was: a\.gif could not"):
        new_page(tmp_path / "x.ipynb", run)


def test_a_run_tells_what_it_did_without(tmp_path, monkeypatch):
    monkeypatch.setenv("INSITU_DATA_CACHE", str(tmp_path))
    monkeypatch.setattr(fetch, "_not_to_be_had", {})
    monkeypatch.setattr(fetch.pooch, "retrieve", fail)
    with pytest.raises(fetch.Unavailable):
        fetch.recording("pt-ceo2-etem.gif")
    assert fetch.not_to_be_had()[0].startswith("pt-ceo2-etem.gif could not be fetched (OSError)")


def fail(*_, **__):
    raise OSError("no network")


def test_a_module_that_is_gone_makes_a_page_stale(pages, library):
    (library / "insitu" / "counting" / "categorical.py").unlink()
    assert stale(pages, library) == {"detectors"}


def test_the_modules_of_a_process_are_those_it_loaded():
    loaded = freshness.modules_now()
    assert loaded["insitu.book.freshness"] == freshness.module_hash("insitu.book.freshness")
    assert "insitu.book.freshness.nothing" not in loaded


def test_changed_data_make_a_page_stale(pages, library, monkeypatch):
    monkeypatch.setattr(freshness, "_current_hash", lambda name: f"other {name}")
    assert stale(pages, library) == {"detectors", "figures", "nothing"}


def test_a_page_that_was_never_run_is_stale(tmp_path):
    path = tmp_path / "new.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    assert not freshness.is_fresh(path)


@pytest.mark.slow
def test_progress_bars_leave_no_trace():
    """Not those that stay, nor those that go; warnings and what was printed are kept."""
    code = (
        "import sys\n"
        "from tqdm import tqdm\n"
        "for leave in (True, False):\n"
        "    list(tqdm(range(3), 'a bar', leave=leave))\n"
        "    print('printed', flush=True)\n"
        "print('a warning', file=sys.stderr)\n"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3").execute()
    assert any("a bar" in output.text for output in notebook.cells[0].outputs)
    freshness.stamp_page(notebook, RUN | {"modules": {}})
    told = [(output.name, output.text) for output in notebook.cells[0].outputs]
    assert sorted(told) == [("stderr", "a warning\n"), ("stdout", "printed\nprinted\n")]
