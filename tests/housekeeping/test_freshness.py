"""A change of code makes exactly the pages stale that use it."""

import shutil
from pathlib import Path

import nbformat
import pytest

from insitu.book import freshness
from insitu.book.freshness import LIBRARY

RUN = {
    "parameters": {},
    "device": "CPU",
    "seconds": 1.0,
    "peak_memory_mb": 1,
    "versions": {},
    "data": {"pt_ceo2_clean.tif": freshness._current_hash("pt_ceo2_clean.tif")},
}


@pytest.fixture
def library(tmp_path):
    shutil.copytree(LIBRARY / "insitu", tmp_path / "lib" / "insitu")
    return tmp_path / "lib"


@pytest.fixture
def pages(tmp_path, library):
    """Three stamped pages: one uses the detectors, one figures alone, one nothing."""
    sources = {
        "detectors": "from insitu.simulate import detector\n%matplotlib inline",
        "figures": "import insitu.book.figures as figures\n!ls",
        "nothing": "1 + 1",
    }
    paths = {}
    for name, source in sources.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        freshness.stamp_page(notebook, RUN, library)
        paths[name] = tmp_path / f"{name}.ipynb"
        nbformat.write(notebook, paths[name])
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
        ("simulate/detector.py", "_POISSON_STEP = 1 / 32", "_POISSON_STEP = 1 / 64", {"detectors"}),
        # imported by the detectors, not by the page itself
        ("simulate/alias.py", "columns - 1", "columns - 2", {"detectors"}),
        ("simulate/__init__.py", '"""', 'x = 1\n"""', {"detectors"}),
        ("figures.py", "zoom: int = 3", "zoom: int = 2", {"figures"}),
        (
            "__init__.py",
            "class InputError",
            "y = 2\n\n\nclass InputError",
            {"detectors", "figures"},
        ),
        # not imported by any of them
        ("cli.py", "import json", "import json\nimport csv", set()),
        # comments, docstrings and layout change no output
        ("simulate/alias.py", "# 31 random bits", "# thirty-one bits", set()),
        ("simulate/alias.py", "One sample (int32)", "A sample (int32)", set()),
        ("figures.py", "zoom: int = 3", "zoom:   int = 3", set()),
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


def test_text_and_the_colab_cell_do_not(pages, library):
    notebook = nbformat.read(pages["nothing"], as_version=4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("words"))
    notebook.cells.append(nbformat.v4.new_code_cell("!pip", metadata={"tags": ["colab"]}))
    nbformat.write(notebook, pages["nothing"])
    assert stale(pages, library) == set()


def test_changed_data_make_a_page_stale(pages, library, monkeypatch):
    monkeypatch.setattr(freshness, "_current_hash", lambda name: f"other {name}")
    assert stale(pages, library) == {"detectors", "figures", "nothing"}


def test_a_page_that_was_never_run_is_stale(tmp_path):
    path = tmp_path / "new.ipynb"
    nbformat.write(nbformat.v4.new_notebook(), path)
    assert not freshness.is_fresh(path)


def test_relative_imports_are_followed(library):
    (library / "insitu" / "simulate" / "extra.py").write_text("from . import noise\n")
    found = freshness.imported_modules(["from insitu.simulate import extra"], library)
    assert library / "insitu" / "simulate" / "noise.py" in found
