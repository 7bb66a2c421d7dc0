"""Rows of dots, which say more at a glance than the rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

MARKS = "oDs^v<>"


def dots(
    axis: Axes,
    names: Sequence[str],
    values: Mapping[str, ArrayLike],
    *,
    errors: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Draw a row for each name, the first on top, and a mark for each set of values.

    Parameters
    ----------
    axis : Axes
    names : sequence of str
        Of the rows.
    values : mapping
        Label and one value a row, NaN where there is none, of each set.
    errors : mapping, optional
        Of a label: one error a row, or two, (2, rows), how far it reaches down and up.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> figure, axis = plt.subplots()
    >>> dots(axis, ["first", "second"], {"PSNR": [20.1, 24.3]}, errors={"PSNR": [0.4, 0.5]})
    """
    rows = np.arange(len(names))
    for number, (label, row) in enumerate(values.items()):
        reach = (errors or {}).get(label)
        mark = MARKS[number % len(MARKS)]
        axis.errorbar(np.asarray(row, float), rows, xerr=reach, fmt=mark, ms=6, lw=1.3, label=label)
    axis.set_yticks(rows, names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(axis="x", color="0.92")
    axis.set_axisbelow(True)
