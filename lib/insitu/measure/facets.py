"""The surface of a crystal by its lattice: which columns are of it, and on what facet.

In an fcc crystal seen along [110] columns have six neighbours: four along the <112> edges of
{111} planes, and two, 1.155 times as far, along those of {100}. Each pair of opposite steps is the
edge of a facet to either side.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from insitu import InputError
from insitu.measure.lattice import Array, neighbour_steps

OPEN = 130.0  # degrees without any neighbour, at a surface; as in `insitu.trust.regions`
FCC = (1.0, 1.0, 2 / np.sqrt(3))  # lengths of a, b and b - a of fcc along [110]
MISFIT = 0.06  # of these lengths, that is accepted


class Facet(NamedTuple):
    """A straight row of surface columns."""

    kind: str  # (111) or (100)
    normal: float  # direction outward, anticlockwise from right, as seen with y downward [degrees]
    columns: NDArray[np.int64]  # numbers of its columns, in their order along the edge


def surface(names: ArrayLike, vectors: ArrayLike) -> NDArray[np.bool_]:
    """Which columns have no lattice neighbour within an angle of 130 degrees.

    Parameters
    ----------
    names : (n, 2) array of int
        h and k of the columns that are there.
    vectors : (2, 2) array
        Lattice vectors a and b, each y and x [A].

    Examples
    --------
    A crystal of 4 x 5 columns has 6 inside:

    >>> names = np.stack(np.mgrid[:4, :5], -1).reshape(-1, 2)
    >>> int(surface(names, np.array([[2.0, 0.0], [0.0, 2.2]])).sum())
    14
    """
    there, v, steps = _prepared(names, vectors)
    angle = {s: float(np.arctan2(*(np.array(s) @ v))) for s in steps}
    answer = np.ones(len(there), bool)
    for number, (h, k) in enumerate(there):
        seen = sorted(angle[s] for s in steps if (h + s[0], k + s[1]) in there)
        if seen:
            gaps = np.diff([*seen, seen[0] + 2 * np.pi])
            answer[number] = gaps.max() >= np.deg2rad(OPEN)
    return answer


def facets(names: ArrayLike, vectors: ArrayLike, *, least: int = 3) -> list[Facet]:
    """Find the facets of an fcc crystal seen along [110], the longest first.

    A facet is a row of `least` columns or more along a lattice step, none of which has a
    neighbour on the outer side. A column at a corner may belong to two.

    Parameters
    ----------
    names, vectors
        As for `surface`.
    least : int
        Columns.

    Raises
    ------
    InputError
        If the lattice is none of fcc along [110].

    Examples
    --------
    A hexagon of {111} and {100} facets:

    >>> vectors = np.array([[-1.96, 1.386], [1.96, 1.386]])
    >>> names = [(h, k) for h in range(6) for k in range(6) if abs(h - k) < 4]
    >>> sorted((f.kind, round(f.normal), len(f.columns)) for f in facets(names, vectors))
    ... # doctest: +NORMALIZE_WHITESPACE
    [('(100)', -90, 3), ('(100)', 90, 3),
     ('(111)', -145, 4), ('(111)', -35, 4), ('(111)', 35, 4), ('(111)', 145, 4)]
    """
    there, v, steps = _prepared(names, vectors)
    lengths = sorted(np.linalg.norm(np.array(s) @ v) for s in steps)[::2]
    if len(lengths) != 3 or np.abs(np.array(lengths) / lengths[0] / FCC - 1).max() > MISFIT:
        told = ", ".join(f"{d:.2f}" for d in lengths)
        raise InputError(
            f"vectors: neighbours at {told} A; facets are named of fcc crystals along [110], whose "
            "neighbours are at d, d and 1.155 d"
        )
    longest = max(steps, key=lambda s: float(np.linalg.norm(np.array(s) @ v)))
    found = []
    for step in steps:
        along = np.array(step) @ v
        out = np.array([-along[1], along[0]])  # to the left of the step, as seen with y downward
        outward = [s for s in steps if np.array(s) @ v @ out > 1e-6]
        kind = "(100)" if step in (longest, (-longest[0], -longest[1])) else "(111)"
        bare = {
            name: number
            for name, number in there.items()
            if not any((name[0] + s[0], name[1] + s[1]) in there for s in outward)
        }
        for h, k in bare:
            if (h - step[0], k - step[1]) in bare:
                continue
            row = []
            while (h, k) in bare:
                row.append(bare[h, k])
                h, k = h + step[0], k + step[1]
            if len(row) >= least:
                normal = float(np.rad2deg(np.arctan2(-out[0], out[1])))
                found.append(Facet(kind, normal, np.array(row)))
    return sorted(found, key=lambda f: -len(f.columns))


def _prepared(
    names: ArrayLike, vectors: ArrayLike
) -> tuple[dict[tuple[int, int], int], Array, list[tuple[int, int]]]:
    """Numbers of the columns by name, the vectors, and the steps to neighbours."""
    v = np.asarray(vectors, np.float64)
    rows = np.asarray(names).reshape(-1, 2).tolist()
    return {(h, k): i for i, (h, k) in enumerate(rows)}, v, neighbour_steps(v)
