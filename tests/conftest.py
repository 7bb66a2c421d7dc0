"""What several tests share."""

import os

import nbformat
import pytest

from insitu import fetch
from insitu.book import contents

NOTEBOOKS = [c.path for c in contents.chapters()]

os.environ.setdefault("MPLBACKEND", "agg")


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.stem)
def page(request):
    """Each notebook of the book: its path and its content."""
    return request.param, nbformat.read(request.param, as_version=4)


@pytest.fixture(scope="session")
def real_movie():
    """The real Pt/CeO2 movie; the test is skipped where it cannot be had."""
    try:
        return fetch.pt_ceo2_movie()
    except fetch.Unavailable as missing:
        pytest.skip(str(missing))


@pytest.fixture(autouse=True)
def _results_elsewhere(tmp_path, monkeypatch):
    """Let nothing that a test does touch the book's own folder."""
    monkeypatch.chdir(tmp_path)
