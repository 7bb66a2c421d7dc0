"""What is said of an answer to an exercise: nothing yet, right, or a hint; never the solution."""

import math

import numpy as np
import pytest
import torch

from insitu import InputError
from insitu.book import answers, exercises
from insitu.book.exercises import Expected, hint, verdict

NINE = Expected(9.0, 0.1, {"Square it.": 3.0, "Twice.": 3.1})


@pytest.mark.parametrize("answer", [156.25, 157, np.float32(156.2), torch.tensor(156.3)])
def test_right_within_what_is_stated(answer):
    """An SNR of 3 takes 9 electrons on 0.0576 square angstroms."""
    assert verdict("exercise-dose", answer, {}) == ("right", "Right, to within ±4.7.")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (52.1, "square it"),
        (9, "number of electrons in a pixel"),
        (37.5, "the side of a pixel"),
        (-156.25, "look at the sign"),
        (312.5, "a factor of two"),
        (15625, "a factor of a hundred"),
        (0.15625, "prefix of the unit"),
        (12.5, "A square is missing, or a root"),
        (1000, "Too large"),
        (-3, "Too small"),
        (1e300, "Too large"),
    ],
)
def test_a_wrong_answer_brings_a_hint(answer, words):
    kind, said = verdict("exercise-dose", answer, {})
    assert kind == "hint"
    assert said.startswith("Not yet. ")
    assert words in said
    assert "156" not in said


def test_the_nearest_mistake_is_named():
    assert hint(3.04, NINE) == "Square it."
    assert hint(3.07, NINE) == "Twice."
    assert hint(math.degrees(9), NINE) == "Degrees, or radians?"
    assert hint(9.1, NINE) == ""


@pytest.mark.parametrize(
    "answer", ["156.25", "", b"1", None, True, math.nan, -math.inf, 1j, [1.0, 2.0], {}, 10**400]
)
def test_what_is_no_number_is_asked_for_again(answer):
    kind, words = verdict("exercise-dose", answer, {})
    assert kind == "open"
    assert words.startswith("That is no number.")


def test_a_cell_without_an_answer_computes_nothing(monkeypatch):
    monkeypatch.delattr(answers, "dose")
    assert verdict("exercise-dose", ..., {}) == ("open", exercises.ASKED)


def test_a_page_that_was_not_run_is_to_be_run_first():
    with pytest.raises(InputError, match="run the cells above first: frames"):
        verdict("exercise-blocks", 15, {})
    with pytest.raises(InputError, match="no check for 'exercise-none'"):
        verdict("exercise-none", 15, {})


def test_what_is_shown(capsys):
    exercises.check("exercise-blocks", 16, {"frames": 512})
    assert "Behind the last block there is no other." in capsys.readouterr().out
