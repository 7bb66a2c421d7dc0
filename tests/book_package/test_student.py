"""The book for a class: every exercise is there, no solution is, and the rest is as it was."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

from insitu import InputError
from insitu.book import contents, student


@pytest.mark.parametrize("chapter", contents.chapters(), ids=lambda c: c.name)
def test_exercises_stay_and_solutions_go(chapter):
    page = nbformat.read(chapter.path, as_version=4)
    given = student.without_solutions(page)
    before, after = ("\n".join(c.source for c in p.cells) for p in (page, given))
    assert after.count("```{exercise}") == before.count("```{exercise}") >= 2
    assert after.count(student.ASKED) == before.count("{solution-start}")
    assert "{solution-" not in after
    assert not [c for c in given.cells if "solution" in c.metadata.get("tags", [])]
    checks = [c for c in given.cells if "check" in c.metadata.get("tags", [])]
    assert checks == [c for c in page.cells if "check" in c.metadata.get("tags", [])] != []
    for check in checks:  # exercise, answer, check
        exercise, answer = given.cells[(i := given.cells.index(check)) - 2 : i]
        (label,) = re.findall(r'"(exercise-\w+)"', check.source)
        assert f":label: {label}\n" in exercise.source.split("```{exercise}")[-1]
        assert answer.source == student.ASKED
    assert "## Summary" in after
    nbformat.validate(given)


def test_a_folder_of_ones_own_is_not_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="name another"):
        student.write_student(tmp_path)
    assert (tmp_path / "mine.txt").is_file()


@pytest.mark.parametrize("address", ["", "github.com/a/b", "https://github.com/a b", "https://a/b"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(InputError, match="expected https"):
        student.with_buttons("", address, "main")


@pytest.fixture(scope="module")
def with_buttons(tmp_path_factory):
    """Folder of the HTML of a book with the pages and the buttons of ours, but empty pages."""
    book = tmp_path_factory.mktemp("buttons")
    config = (contents.ROOT / "_config.yml").read_text("utf-8")
    config = student.with_buttons(config, "https://github.com/someone/her-class", "autumn")
    kept = ("title", "only_build_toc_files", "execute", "repository", "launch_buttons")
    told = yaml.safe_load(config)
    (book / "_config.yml").write_text(yaml.safe_dump({key: told[key] for key in kept}))
    (book / "_toc.yml").write_text((contents.ROOT / "_toc.yml").read_text("utf-8"))
    (book / "book").mkdir()
    (book / "notebooks").mkdir()
    for file in (contents.ROOT / "book").glob("*.md"):
        (book / "book" / file.name).write_text("# A page\n")
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    for chapter in contents.chapters():
        page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A page")])
        page.metadata["kernelspec"] = kernel
        nbformat.write(page, book / "notebooks" / chapter.path.name)
    command = [Path(sys.executable).with_name("jupyter-book"), "build", book, "-q"]
    subprocess.run(command, check=True, capture_output=True)
    return book / "_build" / "html"


@pytest.mark.slow
@pytest.mark.parametrize("chapter", contents.chapters(), ids=lambda c: c.name)
def test_buttons_open_the_page_in_the_repository(with_buttons, chapter):
    built = (with_buttons / "notebooks" / f"{chapter.name}.html").read_text("utf-8")
    page = BeautifulSoup(built, "html.parser")
    links = [urlsplit(a["href"]) for a in page.select("a.dropdown-item, a.btn") if a.get("href")]
    (binder,) = (link for link in links if link.hostname == "mybinder.org")
    (colab,) = (link for link in links if link.hostname == "colab.research.google.com")
    assert binder.path == "/v2/gh/someone/her-class/autumn"
    (place,) = parse_qs(binder.query)["urlpath"]
    start = "/github/someone/her-class/blob/autumn/"
    assert place.startswith("lab/tree/")
    assert colab.path.startswith(start)
    for file in (place.removeprefix("lab/tree/"), colab.path.removeprefix(start)):
        assert contents.ROOT / file == chapter.path
