"""The number that answers an exercise, checked: right, or a hint at the likely mistake.

`Page.check` stands in a cell below an exercise. What it should be is computed by the function of
`insitu.book.answers` that has the exercise's name, when a number is given and not before.
"""

from __future__ import annotations

import html
import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from IPython.display import display

from insitu import InputError

ASKED = "Type your number in place of ... and run this cell."
_NO_NUMBER = "That is no number. Type one, such as 12 or 1.5e3, in place of ... and run this cell."
_COLOURS = {"open": "#808080", "right": "#009E73", "hint": "#E69F00"}


class Expected(NamedTuple):
    """What the answer to an exercise should be."""

    value: float
    within: float  # how far from it is still right
    mistakes: Mapping[str, float]  # of each hint, what one finds who made that mistake


def expect(value: float, *mistakes: tuple[float, str], within: float | None = None) -> Expected:
    """Within 3 % of the value is right, if nothing else is said."""
    close = 0.03 * abs(float(value)) if within is None else within
    return Expected(float(value), close, {words: float(wrong) for wrong, words in mistakes})


_FACTORS = {  # by which an answer has to be multiplied to be right
    "The size is right; look at the sign.": (-1,),
    "You are off by a factor of two: is something counted twice, or by half?": (2, 1 / 2),
    "You are off by a factor of a hundred: per cent, or a fraction?": (100, 1 / 100),
    "You are off by a power of ten: look at the prefix of the unit.": (10, 1 / 10, 1000, 1 / 1000),
    "Degrees, or radians?": (math.pi / 180, 180 / math.pi),
}
_SQUARE = "A square is missing, or a root: what adds up here, deviations or variances?"


def hint(answer: float, expected: Expected) -> str:
    """What may have gone wrong; nothing if the answer is right.

    Mistakes that the exercise expects come first, then those that are made everywhere.

    >>> hint(3.0, Expected(9.0, 0.1, {"Square it.": 3.0}))
    'Square it.'
    >>> hint(9.05, Expected(9.0, 0.1, {}))
    ''
    """
    if abs(answer - expected.value) <= expected.within:
        return ""
    near = {words: abs(answer - x) - 0.02 * abs(x) for words, x in expected.mistakes.items()}
    if near and min(near.values()) <= 0:
        return min(near, key=lambda words: near[words])
    mended = {words: [answer * factor for factor in some] for words, some in _FACTORS.items()}
    mended[_SQUARE] = [answer * answer, abs(answer) ** 0.5]
    for words, several in mended.items():
        if any(abs(x - expected.value) <= expected.within for x in several):
            return words
    side = "large" if answer > expected.value else "small"
    return f"Too {side}. Read the line *Check yourself* again."


def verdict(label: str, answer: Any, namespace: Mapping[str, Any]) -> tuple[str, str]:
    """What is said of an answer: 'open', 'right' or 'hint', and the words.

    Parameters
    ----------
    label : str
        Of the exercise, as "exercise-dose".
    answer : object
        A finite number; `...` while there is none.
    namespace : mapping
        Of the page, in which the names are found that the expected answer is computed from.

    Raises
    ------
    InputError
        If there is no such exercise, or the page has not computed what it takes.
    """
    if answer is ...:
        return "open", ASKED
    number = _number(answer)
    if number is None:
        return "open", _NO_NUMBER
    from insitu.book import answers

    find = getattr(answers, label.removeprefix("exercise-"), None)
    if find is None:
        raise InputError(f"there is no check for {label!r}; see insitu.book.answers")
    wanted = inspect.signature(find).parameters
    if missing := [name for name in wanted if name not in namespace]:
        raise InputError(f"run the cells above first: {', '.join(missing)} is not there yet")
    expected = find(**{name: namespace[name] for name in wanted})
    if words := hint(number, expected):
        return "hint", f"Not yet. {words}"
    return "right", f"Right, to within ±{expected.within:.2g}." if expected.within else "Right."


def check(label: str, answer: Any, namespace: Mapping[str, Any]) -> None:
    """Show what is said of an answer; see `verdict`."""
    kind, words = verdict(label, answer, namespace)
    page = (
        f'<p class="insitu-check" style="border-left: 4px solid {_COLOURS[kind]}; '
        f'padding: 0.2em 0.8em; margin: 0.4em 0">{html.escape(words)}</p>'
    )
    display({"text/html": page, "text/plain": words}, raw=True)


def _number(answer: Any) -> float | None:
    """A finite number; none for text, true or false, several numbers, and the like."""
    if isinstance(answer, str | bytes | bool):
        return None
    try:
        number = float(answer)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # the last is torch's
        return None
    return number if math.isfinite(number) else None
