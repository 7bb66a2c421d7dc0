"""Badges, citation and the Colab cell come from one address, and go with it."""

import shutil

import nbformat
import pytest
import yaml

from insitu import InputError, fetch
from insitu.book import publish

URL = "https://github.com/somebody/insitu-book"


@pytest.fixture
def book(tmp_path):
    for name in ("README.md", "CITATION.cff", "pyproject.toml"):
        shutil.copy(fetch.ROOT / name, tmp_path)
    (tmp_path / "notebooks").mkdir()
    for path in (fetch.ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, tmp_path / "notebooks")
    return tmp_path


def set_address(book, url):
    text = (book / "pyproject.toml").read_text()
    old = f'address = "{publish.address(fetch.ROOT)}"'
    assert old in text
    (book / "pyproject.toml").write_text(text.replace(old, f'address = "{url}"'))


def test_the_book_is_in_step():
    assert publish.sync(fetch.ROOT, write=False) == []


def test_address_goes_everywhere_and_away_again(book):
    set_address(book, URL)
    assert {p.name for p in publish.sync(book, write=True)} >= {"README.md", "CITATION.cff"}
    readme = (book / "README.md").read_text()
    assert f"mybinder.org/v2/gh/{URL[19:]}/main" in readme
    assert f"colab.research.google.com/github/{URL[19:]}/blob/main" in readme
    citation = yaml.safe_load((book / "CITATION.cff").read_text())
    assert citation["repository-code"] == URL
    for path in (book / "notebooks").glob("*.ipynb"):
        cell = nbformat.read(path, as_version=4).cells[2]
        assert "colab" in cell.metadata.tags
        assert URL in cell.source
        assert "find_spec" in cell.source
        assert '("torch", "numpy")' in cell.source
    assert publish.sync(book, write=True) == []
    shutil.copy(fetch.ROOT / "pyproject.toml", book)
    publish.sync(book, write=True)
    for name in ("README.md", "CITATION.cff"):
        assert (book / name).read_text() == (fetch.ROOT / name).read_text()


@pytest.mark.parametrize("bad", ["http://github.com/a/b", "https://gitlab.com/a/b", "a/b"])
def test_other_addresses_are_refused(book, bad):
    set_address(book, bad)
    with pytest.raises(InputError, match=r"expected https://github.com/owner/name"):
        publish.sync(book, write=True)
