"""What is checked of values that a reader gives: each sentence, once.

Every check names the value and says what is allowed; all raise `insitu.InputError`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from insitu import InputError


def within(name: str, value: float, low: float, high: float, unit: str = "") -> float:
    """Return the value if low <= value <= high; NaN is outside.

    >>> within("gain", 0.5, 0, 1)
    0.5
    >>> within("gain", 2.0, 0, 1)
    Traceback (most recent call last):
    insitu.InputError: gain: got 2, allowed is 0 to 1
    """
    if not low <= value <= high:
        unit = f" {unit}" if unit else ""
        raise InputError(f"{name}: got {value:g}, allowed is {low:g} to {high:g}{unit}")
    return value


def positive(name: str, value: float, unit: str = "") -> float:
    """Return the value if it is above 0 and finite.

    >>> positive("pixel_size", 0.24, "A")
    0.24
    """
    if not 0 < value < float("inf"):
        unit = f" of {unit}" if unit else ""
        raise InputError(f"{name}: got {value:g}, allowed is a positive number{unit}")
    return value


def one_of(name: str, value: Any, allowed: Collection[Any]) -> Any:
    """Return the value if it is among those allowed.

    >>> one_of("axis", "z", ("auto", "z", "x"))
    'z'
    """
    if value not in allowed:
        words = ", ".join(map(str, allowed))
        raise InputError(f"{name}: got {value!r}, allowed is one of {words}")
    return value


def finite(name: str, values: ArrayLike) -> None:
    """Refuse NaN and infinite values.

    >>> finite("movie", [1.0, float("nan")])
    Traceback (most recent call last):
    insitu.InputError: movie: 1 values are NaN or infinite; replace or crop them
    """
    bad = int((~np.isfinite(np.asarray(values))).sum())
    if bad:
        raise InputError(f"{name}: {bad} values are NaN or infinite; replace or crop them")


def not_negative(name: str, values: ArrayLike) -> None:
    """Refuse values below 0.

    >>> not_negative("counts", [0.0, 1.5])
    """
    array = np.asarray(values)
    if array.size and array.min() < 0:
        raise InputError(
            f"{name}: the smallest value is {array.min():g}, but counts are never negative; "
            "undo the background subtraction or gain correction"
        )


def whole_numbers(name: str, values: ArrayLike) -> None:
    """Refuse values that are no counts: below 0, or not whole.

    >>> whole_numbers("counts", [0, 1, 2])
    """
    array = np.asarray(values)
    not_negative(name, array)
    if array.dtype.kind == "f" and (array != np.rint(array)).any():
        raise InputError(
            f"{name}: values are not whole numbers, so they are not electron counts; "
            "give the counted frames, or divide by the gain and round where that is exact"
        )


def box(
    name: str, text: str, shape: tuple[int, int], *, least: int = 4
) -> tuple[slice, slice] | None:
    """Read a box 'y0:y1,x0:x1' of pixels of frames of that shape; None for an empty text.

    >>> box("movie_vacuum", "0:20,0:100", (100, 100))
    (slice(0, 20, None), slice(0, 100, None))
    """
    if not text.strip():
        return None
    try:
        (y0, y1), (x0, x1) = ([int(n) for n in part.split(":")] for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{name}: got {text!r}; give a box as y0:y1,x0:x1 in pixels, such as 0:20,0:100"
        ) from None
    if not (0 <= y0 <= y1 - least and y1 <= shape[0] and 0 <= x0 <= x1 - least and x1 <= shape[1]):
        raise InputError(
            f"{name}: {text!r} is no box of at least {least} x {least} pixels within the frames of "
            f"{shape[0]} x {shape[1]} pixels; choose another"
        )
    return slice(y0, y1), slice(x0, x1)


def span(name: str, text: str, length: int, *, least: int = 1) -> slice:
    """Read 'first:last' of `length` frames, the last one left out; all for an empty text.

    >>> span("movie_frames", "10:50", 128), span("movie_frames", "", 128)
    (slice(10, 50, None), slice(0, 128, None))
    """
    if not text.strip():
        return slice(0, length)
    try:
        begin, end = text.split(":")
        first, last = int(begin or 0), min(int(end or length), length)
    except ValueError:
        raise InputError(f"{name}: got {text!r}; give frames as first:last, such as 0:60") from None
    if not 0 <= first <= last - least:
        raise InputError(
            f"{name}: {text!r} leaves fewer than {least} of the {length} frames; choose others"
        )
    return slice(first, last)
