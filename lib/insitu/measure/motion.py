"""How a set of columns moved as a rigid body from one frame to another.

Nearest columns tell nothing where a particle moved by half a spacing. Over all pairs of columns the
differences pile up at the true shift, and because a particle ends somewhere, a shift by a lattice
vector more piles up less. The best pile over shifts and turns starts least squares of matched
pairs [1]_, [2]_.

.. [1] P. J. Besl, N. D. McKay, IEEE Trans. Pattern Anal. Mach. Intell. 14 (1992) 239.
.. [2] P. H. Schönemann, Psychometrika 31 (1966) 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from insitu import InputError
from insitu.trust.columns import match

Array = NDArray[np.float64]
BIN = 0.25  # of the histogram of differences [A]
BLUR = 0.35  # of its bins: standard deviation [A]
TRIED = 12  # piles from which least squares starts
CLOSE = 0.9  # pairs that are matched at first [A]; half of it in the end


class Motion(NamedTuple):
    """A rigid motion p -> p R + shift of places (y, x), and how well it fits."""

    angle: float  # anticlockwise, as seen with y downward [degrees]
    shift: Array  # (2,) [A]
    matched: float  # share of the columns that have a partner afterwards
    error: float  # of the angle, from what is left [degrees]

    def __call__(self, places: Array) -> Array:
        """Move places (n, 2)."""
        return np.asarray(places @ turning(self.angle) + self.shift)


def turning(angle: float) -> Array:
    """Matrix R that turns row vectors (y, x) anticlockwise, as seen with y downward [degrees].

    >>> (np.array([[0.0, 1.0]]) @ turning(90)).round()  # what pointed right points up
    array([[-1.,  0.]])
    """
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return np.array([[cos, sin], [-sin, cos]])


def rigid_motion(
    before: ArrayLike, after: ArrayLike, *, turn: float = 4.0, reach: float = 6.0
) -> Motion:
    """Find the rigid motion of columns between two frames.

    Parameters
    ----------
    before : (n, 2) array
        Columns of the body, y and x [A].
    after : (m, 2) array
        Columns of the later frame; others than the body's may be among them [A].
    turn : float
        Largest turn that is searched, either way [degrees].
    reach : float
        Largest shift of the middle of the body that is searched, along y and x [A].

    Raises
    ------
    InputError
        If a frame has fewer than three columns.

    Examples
    --------
    A crystal of 5 x 8 columns that moves by more than half of its spacing:

    >>> body = np.stack(np.mgrid[:5, :8], -1).reshape(-1, 2) * 2.4 + 5
    >>> found = rigid_motion(body, body @ turning(2) + [1.3, -0.9])
    >>> round(found.angle, 3), found.shift.round(3), found.matched
    (2.0, array([ 1.3, -0.9]), 1.0)
    """
    first, second = (np.asarray(p, np.float64).reshape(-1, 2) for p in (before, after))
    if min(len(first), len(second)) < 3:
        raise InputError(
            f"before, after: {len(first)} and {len(second)} columns; a motion needs three in each"
        )
    middle = first.mean(0)
    away = first - middle
    size = max(1.0, float(np.sqrt((away**2).sum(1).max())))
    angles = np.linspace(-turn, turn, 2 * int(np.ceil(turn * size / 20)) + 1) if turn else [0.0]
    edges = np.arange(-reach, reach + BIN, BIN)
    piles = []
    for angle in angles:
        apart = (second[None] - middle - (away @ turning(angle))[:, None]).reshape(-1, 2)
        pile, _, _ = np.histogram2d(apart[:, 0], apart[:, 1], bins=[edges, edges])
        pile = ndimage.gaussian_filter(pile, BLUR / BIN, mode="constant")
        top = np.argwhere((pile == ndimage.maximum_filter(pile, 5)) & (pile > 0.5 * pile.max()))
        piles += [(float(pile[i, j]), float(angle), edges[[i, j]] + BIN / 2) for i, j in top]
    piles.sort(key=lambda p: -p[0])
    tried = [_matched(away, second - middle, angle, shift) for _, angle, shift in piles[:TRIED]]
    best = max(
        tried, key=lambda m: (m.matched, -m.error), default=Motion(0, np.zeros(2), 0, np.inf)
    )
    return best._replace(shift=best.shift + middle - middle @ turning(best.angle))


def _matched(first: Array, second: Array, angle: float, shift: Array) -> Motion:
    """Least squares of matched pairs, from a start; about the origin."""
    pairs, rest = match(first, second, reach=0.0), np.zeros(0)
    for limit in np.linspace(CLOSE, CLOSE / 2, 6):
        found = match(first @ turning(angle) + shift, second, reach=limit)
        if len(found.found) < 3:
            break
        pairs = found
        angle, shift, rest = _procrustes(first[pairs.found], second[pairs.true])
    lever = ((first[pairs.found] - first[pairs.found].mean(0)) ** 2).sum() if rest.size else 0.0
    error = np.rad2deg(np.sqrt(rest.var() / lever)) if lever else np.inf
    return Motion(angle, shift, len(pairs.found) / len(first), float(error))


def _procrustes(a: Array, b: Array) -> tuple[float, Array, Array]:
    """Turn and shift that take a to b best by squares, and what is left."""
    at, to = a - a.mean(0), b - b.mean(0)
    (yy, yx), (xy, xx) = at.T @ to
    angle = float(np.rad2deg(np.arctan2(yx - xy, yy + xx)))
    shift = b.mean(0) - a.mean(0) @ turning(angle)
    return angle, shift, b - a @ turning(angle) - shift
