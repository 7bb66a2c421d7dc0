"""What a class finds on each page: the idea, a guess, the core of ten minutes, and minutes."""

import re

import nbformat
import pytest
import trials

from insitu.book import answers, contents
from insitu.book.contents import ROOT

TEMPLATE = ROOT / "notebooks" / "template" / "NN-title.ipynb"
PAGES = [TEMPLATE, *(chapter.path for chapter in contents.chapters())]


def text_of(path):
    cells = nbformat.read(path, as_version=4).cells
    return [c.source for c in cells if c.cell_type == "markdown"]


def headings(path):
    return set(re.findall(r"(?m)^##+ (.+?)\s*$", "\n\n".join(text_of(path))))


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_a_page_has_an_idea_a_guess_and_a_core(path):
    cells = text_of(path)
    (place,) = (i for i, source in enumerate(cells) if "**Key idea.**" in source)
    assert not [source for source in cells[:place] if re.search("(?m)^##", source)], "too late"
    idea, guess, core = re.fullmatch(
        r":::\{admonition\} The idea, and a guess\n:class: tip\n\n\*\*Key idea\.\*\* (.+)\n\n"
        r"\*\*Guess first\.\*\* (.+)\n\n\*\*Ten minutes\?\*\* (.+)\n:::",
        cells[place],
    ).groups()
    assert len(re.findall(r"[.!?](?:\s|$)", idea)) <= 3
    assert "?" in guess
    sections = headings(path)
    (answer,) = re.findall(r"You will see in \*([^*]+)\*\.$", guess)
    assert answer in sections
    named = re.findall(r"\*([^*]+)\*", core)
    assert set(named) <= sections
    minutes = contents.class_minutes(path)
    assert sum(minutes.get(name, 0) for name in named) <= 15


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_exercises_have_minutes_and_a_check(path):
    exercises = re.findall(r"```\{exercise\} (.*?)\n```", "\n".join(text_of(path)), re.S)
    assert len(exercises) >= 2
    asked = r".+ \(\d+ min\)\n:label: exercise-\w+\n\n.+\n\n\*Check yourself\.\* .+"
    assert not [text for text in exercises if not re.fullmatch(asked, text, re.S)]


def test_checks_stand_below_their_exercises_and_are_open():
    """One or two a page, seen by the reader; each function of `answers` has its exercise."""
    found = []
    for chapter in contents.chapters():
        cells = nbformat.read(chapter.path, as_version=4).cells
        checks = [k for k, c in enumerate(cells) if "check" in c.metadata.get("tags", [])]
        assert 1 <= len(checks) <= 2, chapter.name
        for k in checks:
            assert cells[k].metadata == {"tags": ["check"]}
            said = re.fullmatch(
                r'# Check: \S.+\npage\.check\("exercise-(\w+)", \.\.\.\)', cells[k].source
            )
            label = f"exercise-{said[1]}\n"
            assert f":label: {label}" in cells[k - 1].source.split("```{exercise}")[-1]
            assert cells[k + 1].source.startswith(f"````{{solution-start}} {label}")
            found.append(said[1])
    functions = [
        n for n, f in vars(answers).items() if getattr(f, "__module__", "") == answers.__name__
    ]
    assert sorted(found) == sorted(n for n in functions if not n.startswith("_"))
    assert sorted(found) == sorted(trials.FOUND)


def test_the_guide_for_teachers_names_sections_that_are_there():
    text = (ROOT / "book" / "instructors.md").read_text("utf-8")
    by_number = {chapter.name[:2]: headings(chapter.path) for chapter in contents.chapters()}
    named = re.findall(r"\b(\d\d), ((?:\*[^*]+\*(?:, | and )?)+)", text)
    assert len(named) > 20
    told = [(number, s) for number, some in named for s in re.findall(r"\*([^*]+)\*", some)]
    assert not [(number, s) for number, s in told if s not in by_number[number]]


def test_minutes_of_a_class(tmp_path):
    """Words by 130, a figure one and a half, exercises as they say; folded tables do not count."""
    words = "word " * 260
    exercise = f"## Exercises\n\n```{{exercise}} Do it (7 min)\n:label: x\n\n{words}\n```\n"
    solution = f"````{{solution-start}} x\n````\n\n{words}\n\n````{{solution-end}}\n````\n"
    png, folded = {"image/png": ""}, {"text/html": "<details><table></table></details>"}
    code = nbformat.v4.new_code_cell
    shown = [nbformat.v4.new_output("display_data", data) for data in (png, png, folded)]
    cells = [
        nbformat.v4.new_markdown_cell(f"# Title\n\n{words}"),
        nbformat.v4.new_markdown_cell(f"## One\n\n{words}"),
        code("x = 1", outputs=shown),
        nbformat.v4.new_markdown_cell(exercise + solution),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "x.ipynb")
    minutes = contents.class_minutes(tmp_path / "x.ipynb")
    assert minutes == {"the beginning": 2, "One": 5, "Exercises": 7}
