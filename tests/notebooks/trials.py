"""Each check of a page tried within its run, by what the solution below it found."""

import math
import re
from inspect import signature
from pathlib import Path

import nbformat

from insitu.book import answers, exercises

# what the solution of each exercise calls the number that is asked for
FOUND = {
    "column": "frames_needed",
    "black": "darkest",
    "dose": "needed",
    "binning": "summed",
    "rate": "needed",
    "average": "min(best, key=best.get)",
    "vacuum": "metrics.psnr(answer[near], view.clean[near] * vacuum)",
    "hole": "true - told",
    "logarithm": "of_mean",
    "publish": "row",
    "half": "half / whole",
    "short": "many",
    "forget": "needed",
    "vacancy": "needed",
    "thickness": "rms(after)",
    "wedge": '100 * kept_gap["across the beam"]',
    "mass": "100 * scatter / mass.mean()",
    "eight": 'widest["golden"]',
    "shifted": "spread",
    "electron": "np.roots(np.polyfit(levels_read.mean((0, 1)), levels_read.var((0, 1)), 1))[0]",
    "fast": "times",
    "blocks": "len(range(32, frames, 32))",
}
NONSENSE = ("12", "", b"3", None, True, math.nan, math.inf, 1j, [1.0, 2.0], {}, 10**400)


def with_trials(path, folder):
    """Write a copy of a notebook with a trial behind the solution of each exercise."""
    page = nbformat.read(path, as_version=4)
    asked, cells = [], []
    for cell in page.cells:
        cells.append(cell)
        asked += re.findall(r'(?m)^page\.check\("exercise-(\w+)", \.\.\.\)$', cell.source)
        if "solution" in cell.metadata.get("tags", []) and "solution-end" in following(page, cell):
            for name in asked:
                call = f'trials.trial("exercise-{name}", {FOUND[name]}, globals())'
                here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})"
                cells.append(nbformat.v4.new_code_cell(f"{here}; import trials\n{call}"))
            asked = []
    assert not asked
    page.cells = cells
    folder.mkdir()
    nbformat.write(page, folder / path.name)
    return folder / path.name


def following(page, cell):
    """Text of the cell behind a cell."""
    return page.cells[page.cells.index(cell) + 1].source


def trial(label, found, namespace):
    """Right is what the solution found; mistakes bring hints, and what is no number nothing."""

    def said(answer):
        return exercises.verdict(label, answer, namespace)

    assert said(found)[0] == "right", (label, found, said(found), expected_of(label, namespace))
    assert said(...) == ("open", exercises.ASKED)
    assert {said(nonsense)[0] for nonsense in NONSENSE} == {"open"}
    expected = expected_of(label, namespace)
    told = {words: said(answer)[1] for words, answer in expected.mistakes.items()}
    assert [words for words in told if told[words] == f"Not yet. {words}"], told
    general = (2 * expected.value, -expected.value, 7.3 * expected.value + 5)
    for answer in (*general, *expected.mistakes.values()):
        kind, words = said(answer)
        if abs(answer - expected.value) <= expected.within:
            assert kind == "right"
            continue
        assert kind == "hint"
        digits = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", words)]
        assert not [n for n in digits if abs(n - expected.value) <= expected.within], words


def expected_of(label, namespace):
    """What the book expects."""
    find = getattr(answers, label.removeprefix("exercise-"))
    return find(**{name: namespace[name] for name in signature(find).parameters})
