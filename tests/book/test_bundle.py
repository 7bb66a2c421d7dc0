"""The bundle for a room without network: what is in it, and its pages opened from the disk."""

import zipfile

import pytest

from insitu import InputError, fetch
from insitu.book import bundle, contents

TEXT = {".html", ".js", ".css", ".py", ".md", ".yml", ".toml", ".txt", ".json", ".cff", ".ipynb"}
HELD = (
    "START.md",
    "html/index.html",
    "html/search.html",
    "lib/insitu/__init__.py",
    "lib/insitu/book/scrubber.html",
    "data/pt_ceo2_clean.tif",
    "data/recordings.LICENSE",
    "data/pt_ceo2_movie.zarr/zarr.json",
    "notebooks/presets/smoke.yml",
    "constraints.txt",
    "pyproject.toml",
)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory, html):
    """Folder into which the bundle of the built book was unpacked, and its names."""
    del html
    folder = tmp_path_factory.mktemp("bundle")
    try:
        path = bundle.write_bundle(folder / "class.zip")
    except fetch.Unavailable as missing:
        pytest.skip(str(missing))
    assert path.stat().st_size < 150e6
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        archive.extractall(folder)
    return folder / "insitu-book", names


def test_it_holds_all_that_a_class_needs(unpacked):
    folder, names = unpacked
    assert len(names) == len(set(names))
    assert all(name.startswith("insitu-book/") and ".." not in name for name in names)
    chapters = contents.chapters()
    wanted = [*HELD, *(f"notebooks/{c.path.name}" for c in chapters)]
    wanted += [f"html/notebooks/{c.name}.html" for c in chapters]
    wanted += [f"data/checkpoints/{p.name}" for p in (contents.ROOT / "data/checkpoints").iterdir()]
    missing = [name for name in wanted if not (folder / name).stat().st_size]
    assert not missing
    for name, source in fetch.RECORDINGS.items():
        assert fetch.file_hash(folder / "recordings" / name) == source.sha256
    assert not [n for n in names if "__pycache__" in n or ".egg-info" in n or "/tests/" in n]


def test_no_path_of_this_machine_is_in_it(unpacked):
    folder, _ = unpacked
    here = str(contents.ROOT).encode()
    texts = [p for p in folder.rglob("*") if p.is_file() and p.suffix in TEXT]
    assert len(texts) > 100
    assert not [p for p in texts if here in p.read_bytes()]


@pytest.mark.parametrize("name", ["book/intro", "notebooks/03-in-situ-movie"])
def test_pages_open_from_the_disk(browser, unpacked, name):
    """No console error, no request that leaves the folder, pictures that are there."""
    folder, _ = unpacked
    page = browser.new_page()
    wrong = []
    page.on("console", lambda m: m.type == "error" and wrong.append(m.text))
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or wrong.append(r.url))
    page.goto((folder / "html" / f"{name}.html").as_uri())
    shown = "[...document.querySelectorAll('article img')].filter(i => !i.naturalWidth).length"
    assert page.evaluate(shown) == 0
    assert not wrong
    page.close()


def test_a_book_that_is_not_built_is_refused(tmp_path):
    with pytest.raises(InputError, match="make html"):
        bundle.write_bundle(tmp_path / "class.zip", tmp_path)
    assert not list(tmp_path.iterdir())
