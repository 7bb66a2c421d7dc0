"""A text file of tilt angles, in the ways in which people and programs write numbers."""

from __future__ import annotations

import codecs
import csv
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu import InputError

_MARKS = (  # of byte order, longest first
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MEANINGS = {
    "angle": ("angle", "angles", "tilt", "tilts", "alpha", "theta", "degree", "degrees", "deg"),
    "time": ("time", "times", "t", "second", "seconds", "s", "sec", "minute", "minutes", "min"),
    "index": ("index", "number", "no", "nr", "n", "i", "frame", "slice", "image", "view", "id"),
}
_DECIMAL = re.compile(r"[-+]?\d+,\d+")


class Tilts(NamedTuple):
    """Angles [degrees], and times where the file has them."""

    angles: NDArray[np.float64]
    times: NDArray[np.float64] | None


def read_angles(path: Path) -> Tilts:
    r"""Read an angle a line, with an index before it or a time behind it, or the .mdoc of SerialEM.

    Columns are separated by blanks, tabs, semicolons or commas; decimals have a point or a comma.
    What can be read in two ways is refused.

    Raises
    ------
    InputError
        In one sentence, if it cannot be read, or in two ways.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mine.tlt"
    ...     _ = path.write_text("-54,9719\n-51,9702\n-48,9755\n")
    ...     read_angles(path).angles
    array([-54.9719, -51.9702, -48.9755])
    """
    try:
        text = _decoded(path.read_bytes())
        if re.search(r"^\s*TiltAngle\s*=", text, re.M):
            found = re.findall(r"^\s*TiltAngle\s*=\s*(\S+)", text, re.M)
            return Tilts(np.array([float(n) for n in found]), None)
        heads, rows = _rows(path.name, text)
        return _columns(path.name, heads, np.array(rows, float))
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(
            f"tilt_angles: {path.name} cannot be read ({str(error)[:100]}); give a text file with "
            "an angle a line"
        ) from None


def _decoded(raw: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    return raw.decode(encoding, "strict" if encoding != "utf-8" else "replace")


def _rows(name: str, text: str) -> tuple[list[str], list[list[float]]]:
    """Names of the columns, where there are any, and the numbers of each line."""
    text = text.replace("\u2212", "-").replace("\u00b0", "")
    lines = [re.split(r"#|//|%", line)[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    heads: list[str] = []
    while lines and not re.match(r"[\"']?[-+.]?\d", lines[0]):
        if not (words := re.findall(r"[A-Za-z]+", lines[0])) or len(heads) > 0:
            break
        heads = [w.lower() for w in re.split(r"[\t;,]+|\s{2,}", lines[0]) if w.strip()]
        heads = heads if len(heads) > 1 else [w.lower() for w in words]
        if len(lines) == 1:
            raise ValueError("it holds no numbers")
        lines = lines[1:]
    if not lines:
        raise ValueError("it holds no numbers")
    cells = _cells(name, lines)
    widths = {len(row) for row in cells}
    if len(widths) > 1:
        raise ValueError(f"its lines hold {min(widths)} to {max(widths)} numbers")
    return heads, [[float(cell) for cell in row] for row in cells]


def _cells(name: str, lines: list[str]) -> list[list[str]]:
    """Split lines into numbers with decimal points."""
    quoted = any('"' in line for line in lines)
    if quoted:
        rows = [[c.strip() for c in row] for row in csv.reader(lines, skipinitialspace=True)]
    elif any(";" in line for line in lines):
        rows = [[c.strip() for c in line.rstrip(";").split(";")] for line in lines]
    elif any("\t" in line for line in lines):
        rows = [[c.strip(" ,") for c in line.split("\t") if c.strip(" ,")] for line in lines]
    else:
        rows = [re.sub(r"\s*,\s+|\s+,\s*", " ", line).rstrip(",").split() for line in lines]
    cells = [cell for row in rows for cell in row]
    if not any("," in cell for cell in cells):
        return rows
    if any("." in cell for cell in cells) or any(cell.count(",") > 1 for cell in cells):
        return [[c for cell in row for c in cell.split(",") if c] for row in rows]
    decimal = [[cell.replace(",", ".") for cell in row] for row in rows]
    alone = all(len(row) == 1 for row in rows)  # nothing else separates columns
    if not alone or not all(_DECIMAL.fullmatch(cell) for cell in cells):
        return decimal
    pairs = [cell.split(",") for cell in cells]
    if not _may_be_times([time for _, time in pairs]):
        return decimal
    if _even([float(a) for a, _ in pairs]) and not _even([float(row[0]) for row in decimal]):
        return pairs
    if _even([float(row[0]) for row in decimal]) and not _even([float(a) for a, _ in pairs]):
        return decimal
    raise InputError(
        f"tilt_angles: {name} can be read in two ways, as {lines[0]!r} is an angle of "
        f"{decimal[0][0]} degrees, or one of {pairs[0][0]} and a time of {pairs[0][1]}; write "
        "decimal points, or a semicolon between the columns"
    )


def _may_be_times(texts: list[str]) -> bool:
    """Whether digits behind a comma may count: rising, or a shuffled row of even steps."""
    if any(len(t) > 1 and t[0] == "0" for t in texts):
        return False
    times = np.array([int(t) for t in texts])
    return len(set(texts)) == len(texts) and (
        bool((np.diff(times) > 0).all()) or _even(sorted(times))
    )


def _even(values: object) -> bool:
    """Whether steps are all alike, as those of a planned series."""
    steps = np.diff(np.asarray(values, float))
    return len(steps) > 0 and bool(np.ptp(steps) <= 0.02 * max(abs(steps).max(), 1e-9))


def _columns(name: str, heads: list[str], table: NDArray[np.float64]) -> Tilts:
    """Which column is the angle, and which the time."""
    count = table.shape[1]
    if len(heads) == count:
        meant = [_meaning(head) for head in heads]
        if meant.count("angle") == 1:
            times = table[:, meant.index("time")] if meant.count("time") == 1 else None
            return Tilts(table[:, meant.index("angle")], times)
    if count == 1:
        return Tilts(table[:, 0], None)
    if count > 3:
        raise InputError(
            f"tilt_angles: {name} has {count} columns; give an angle a line, and a time behind it "
            "where there are times"
        )
    first_counts = _counts(table[:, 0])
    if count == 3:
        if first_counts:
            return Tilts(table[:, 1], table[:, 2])
        raise InputError(
            f"tilt_angles: {name} has three columns, the first of which does not count; give an "
            "angle a line, and a time behind it where there are times"
        )
    one, two = table.T
    if not first_counts:
        return Tilts(one, two)
    if two.min() < 0 or not (np.diff(two) > 0).all():
        if abs(two).max() > 180:
            return Tilts(one, two)
        return Tilts(two, None)
    if two.max() > 180:  # no angle
        return Tilts(one, two)
    raise InputError(
        f"tilt_angles: {name} can be read in two ways, as numbers and angles ({one[-1]:g} and "
        f"{two[-1]:g} degrees in the last line) or as angles and times; leave the numbers out, or "
        "write 'angle' and 'time' above the columns"
    )


def _meaning(head: str) -> str:
    words = re.findall(r"[a-z]+", head)
    return next((m for w in words for m, names in _MEANINGS.items() if w in names), "")


def _counts(values: NDArray[np.float64]) -> bool:
    return len(values) > 1 and values[0] in (0, 1) and bool((np.diff(values) == 1).all())
