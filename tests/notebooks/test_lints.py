"""Every notebook of the book keeps the contract of a page; so does the template."""

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import lints
import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

from insitu.book import contents, freshness, parameters
from insitu.book.contents import ROOT


@pytest.mark.parametrize("lint", [*lints.WRITTEN, *lints.RUN], ids=lambda f: f.__name__)
def test_pages(page, lint):
    lint(*page)


def test_pages_are_fresh(page):
    path, _ = page
    assert freshness.is_fresh(path), f"{path.stem} is stale: run `insitu refresh`"


def test_other_pages_have_the_numbers_of_the_chapters():
    results = {}
    for chapter in contents.chapters():
        told = lints.results_of(nbformat.read(chapter.path, as_version=4))
        results |= {f"{chapter.number}:{name}": value for name, value in told.items()}
    for path in (ROOT / "book").glob("*.md"):
        lints.agree(path.read_text("utf-8").replace("`0.61<!--vacuum_snr:.2f-->`", ""), results)


def test_one_vocabulary():
    """A name that stands in two chapters has one type, and the same words for its meaning."""
    meanings = defaultdict(lambda: defaultdict(list))
    for chapter in contents.chapters():
        for name, p in parameters.declared_in(chapter.path).items():
            meanings[name][p.type, p.help].append(chapter.number)
    several = {name: dict(said) for name, said in meanings.items() if len(said) > 1}
    assert not several


def test_presets_name_chapters_and_parameters():
    for path in (ROOT / "notebooks" / "presets").glob("*.yml"):
        for name, values in yaml.safe_load(path.read_text()).items():
            declared = parameters.declared_in(ROOT / "notebooks" / f"{name}.ipynb")
            for key, value in values.items():
                if (key, value) != ("device", "cuda"):
                    declared[key].check(value)


@pytest.fixture(scope="module")
def new_book(tmp_path_factory):
    """A book whose one chapter was made from the template, as CONTRIBUTING.md says, and run."""
    book = tmp_path_factory.mktemp("book")
    for name in ("_config.yml", "LICENSE"):
        shutil.copy(ROOT / name, book)
    shutil.copytree(ROOT / "lib", book / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    (book / "book" / "_static").mkdir(parents=True)
    (book / "notebooks").mkdir()
    text = (ROOT / "notebooks" / "template" / "NN-title.ipynb").read_text()
    page = book / "notebooks" / "98-new-page.ipynb"
    page.write_text(text.replace("NN-title", page.stem))
    toc = (ROOT / "_toc.yml").read_text().splitlines()
    others = [line for line in toc if "file: notebooks/" not in line]
    others.insert(
        others.index("  - caption: Using the book"), f"      - file: notebooks/{page.stem}"
    )
    (book / "_toc.yml").write_text("\n".join(others) + "\n")
    command = [sys.executable, "-m", "insitu.book.cli", "refresh"]
    done = subprocess.run(
        command,
        cwd=book,
        env=os.environ | {"PYTHONPATH": str(book / "lib")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return book, page, done.stdout


def test_a_page_from_the_template_keeps_the_contract(new_book):
    book, page, said = new_book
    assert "running 98-new-page" in said
    assert "1 pages refreshed" in said
    notebook = nbformat.read(page, as_version=4)
    for lint in [*lints.WRITTEN, *lints.RUN]:
        lint(page, notebook)
    assert freshness.is_fresh(page, book / "lib")


def test_a_page_from_the_template_is_in_every_list(new_book):
    book, page, _ = new_book
    chapters = contents.chapters(book)
    assert [c.path for c in chapters] == [page]
    assert chapters[0].title_and_question()[0] == "Title of the chapter"
    assert (book / "book" / "_static" / "98-new-page.png").is_file()


def test_the_template_itself():
    path = ROOT / "notebooks" / "template" / "NN-title.ipynb"
    for lint in lints.WRITTEN:
        lint(path, nbformat.read(path, as_version=4))


def edit(notebook, old, new):
    """Replace what stands in a cell."""
    cell = next(c for c in notebook.cells if old in c.source)
    cell.source = cell.source.replace(old, new)


@pytest.mark.parametrize(
    ("lint", "spoil", "complaint"),
    [
        (lints.cells, lambda n: n.cells[2].update(source="x = 1\n" * 41), "41 lines in the cell"),
        (
            lints.cells,
            lambda n: [c.metadata.update(tags=["hide-input"]) for c in n.cells],
            "hidden",
        ),
        (lints.shape, lambda n: n.cells[0].update(source="# Title\n\nNo question."), "in bold"),
        (
            lints.declarations,
            lambda n: n.cells[1].update(source=n.cells[1].source.replace("; 16 to 512", "")),
            "size: no range",
        ),
        (lints.captions, lambda n: edit(n, "caption=", "said="), "no caption"),
        (lints.folded_code_is_named, lambda n: edit(n, "# I", "i = 0  # i"), "begins with"),
        (lints.drawn_units, lambda n: edit(n, "figures.table(", "x(xlabel='[A]')("), "A"),
        (lints.results_by_hand, lambda n: edit(n, "## The idea", "It gains 3.1 dB."), "3.1 dB"),
        (lints.results_by_hand, lambda n: edit(n, "## The idea", "It is 7.7 Å wide."), "7.7 Å"),
    ],
)
def test_lints_can_fail(lint, spoil, complaint):
    path = ROOT / "notebooks" / "template" / "NN-title.ipynb"
    notebook = nbformat.read(path, as_version=4)
    spoil(notebook)
    with pytest.raises(AssertionError, match=complaint):
        lint(path, notebook)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Ours gains 3.1 dB.", ["3.1 dB"]),
        ("Ours gains 3.1<!--gain:.1f--> dB, 0.02<!--error_nat:.2f--> nat.", []),
        ("They report 3.1 dB [(Mohan et al., 2022)](../book/bibliography.md#mohan2022).", []),
        ("A disc of 0.6 Å, at a level of 5 %.", []),  # of the code; a level that is asked for
        ("A disc of 0.7 Å, and 96 % of it.", ["96 %", "0.7 Å"]),
        ("About 0.07 Å<!--from: the Debye-Waller factor--> each.", []),
        ("$x = 3$ dB and `4 dB` are no text.", []),
    ],
)
def test_numbers_by_hand_are_found(text, found):
    assert list(lints.by_hand(text, {0.6})) == found


def test_a_figure_without_a_caption_is_found():
    page = '<figure><img alt="a line that rises"{}><figcaption>{}</figcaption></figure>'
    for letters, said, complaint in (
        ("", "Figure 5.1. ", "Figure 5.1"),
        (' data-letters="0.02"', "Figure 5.1. A line.", "6.7 px"),
    ):
        figure = BeautifulSoup(page.format(letters, said), "html.parser").figure
        with pytest.raises(AssertionError, match=complaint):
            lints.readable(figure)
    good = page.format(' data-letters="0.03"', "Figure 5.1. A line.")
    lints.readable(BeautifulSoup(good, "html.parser").figure)


def test_every_notebook_is_a_chapter():
    there = {p.resolve() for p in Path(ROOT / "notebooks").glob("*.ipynb")}
    assert there == {c.path.resolve() for c in contents.chapters()}


def test_the_readme_lists_the_chapters():
    wanted = []
    for chapter in contents.chapters():
        title, question = chapter.title_and_question()
        number = chapter.number
        wanted.append(f"| [{number} {title}](notebooks/{chapter.name}.ipynb) | {question} |")
    lines = (ROOT / "README.md").read_text().splitlines()
    assert [line for line in lines if "](notebooks/" in line] == wanted
