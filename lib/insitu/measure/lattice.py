"""Crystals among the columns of a frame, and the names (h, k) that they give.

A column of a crystal lies at p = o + h a + k b, with the lattice vectors a and b. A particle and
its support have different ones, so that they are told apart by what fits.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from insitu import InputError

Array = NDArray[np.float64]
Names = NDArray[np.int64]
TOLERANCE = 0.2  # of the shorter lattice vector: farther from its site a column is no member
INNER = 6  # columns with neighbours on all four sides that make a crystal
NOWHERE = np.iinfo(np.int64).min  # name of what is no member


class Crystal(NamedTuple):
    """A lattice p = origin + h a + k b of a frame, and the columns on it."""

    origin: Array  # (2,) y and x of (0, 0) [A]
    vectors: Array  # (2, 2) rows a and b, each y and x [A]
    names: Names  # (n, 2) h and k of all columns of the frame; NOWHERE for others
    member: NDArray[np.bool_]  # (n,)
    covariance: Array  # (2, 3, 3) of origin, a and b: their parts along y, and those along x


def crystals(positions: ArrayLike) -> list[Crystal]:
    """Find the crystals of a frame, the one with most columns first.

    Differences between columns that recur, to both sides of a column, are candidates of lattice
    vectors; a lattice grows from the place where two of them fit as far as it fits.

    Parameters
    ----------
    positions : (n, 2) array
        Columns of a frame, y and x [A].

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> places = np.stack(np.mgrid[:5, :6], -1).reshape(-1, 2) * [2.0, 2.4] + [3, 4]
    >>> (found,) = crystals(places)
    >>> found.vectors.round(3), int(found.member.sum())
    (array([[2. , 0. ],
           [0. , 2.4]]), 30)
    """
    places = np.asarray(positions, np.float64).reshape(-1, 2)
    left = np.arange(len(places))
    found: list[Crystal] = []
    while len(left) >= 9:
        grown = _largest(places[left])
        if grown is None:
            break
        names = np.full((len(places), 2), NOWHERE)
        names[left[grown.member]] = grown.names[grown.member]
        member = names[:, 0] != NOWHERE
        found.append(grown._replace(names=names, member=member))
        left = np.flatnonzero(~np.any([c.member for c in found], 0))
    if not found:
        raise InputError(
            f"positions: {len(places)} columns of which no {INNER} have lattice neighbours on "
            "all sides; there is no crystal in this frame"
        )
    return sorted(found, key=lambda c: -int(c.member.sum()))


def _largest(places: Array) -> Crystal | None:
    """The lattice that most columns fit, if any."""
    tree = cKDTree(places)
    nearest = np.median(tree.query(places, 2)[0][:, 1])
    candidates, support = _differences(places, tree, 2.3 * nearest, 0.12 * nearest)
    best, most = None, (0, 0.0)
    for i, j in combinations(range(len(candidates)), 2):
        a, b = candidates[i], candidates[j]
        lengths = np.linalg.norm(a), np.linalg.norm(b)
        area = abs(a[0] * b[1] - a[1] * b[0])
        if area < 0.5 * lengths[0] * lengths[1]:
            continue
        seed = places[support[i] & support[j]]
        if not len(seed):
            continue
        start = seed[np.argmin(np.linalg.norm(seed - np.median(seed, 0), axis=1))]
        grown = grow(places, start, reduced(np.stack([a, b])))
        inner = int(_inner(grown.names[grown.member]).sum())
        if inner >= INNER and (int(grown.member.sum()), -area) > most:
            best, most = grown, (int(grown.member.sum()), -area)
    return best


def _differences(
    places: Array, tree: cKDTree, reach: float, close: float
) -> tuple[Array, NDArray[np.bool_]]:
    """Differences (c, 2) that recur most, and which columns (c, n) have them on both sides."""
    pairs = tree.query_pairs(reach, output_type="ndarray")
    apart = places[pairs[:, 1]] - places[pairs[:, 0]]
    apart = np.concatenate([apart, -apart])
    edges = np.arange(-reach - close, reach + 2 * close, close / 2)
    pile, _, _ = np.histogram2d(apart[:, 0], apart[:, 1], bins=[edges, edges])
    pile = ndimage.gaussian_filter(pile, 1.0)
    top = np.argwhere((pile == ndimage.maximum_filter(pile, 5)) & (pile > 0))
    found: list[Array] = []
    for i, j in top[np.argsort(-pile[top[:, 0], top[:, 1]], kind="stable")]:
        if len(found) == 8:
            break
        near = np.linalg.norm(apart - edges[[i, j]] - close / 4, axis=1) < close
        v = apart[near].mean(0) if near.any() else edges[[i, j]]
        if all(min(np.linalg.norm(v - u), np.linalg.norm(v + u)) > 2.5 * close for u in found):
            found.append(v)
    both = [
        (tree.query(places + v)[0] < 2 * close) & (tree.query(places - v)[0] < 2 * close)
        for v in found
    ]
    return np.array(found).reshape(-1, 2), np.array(both, bool).reshape(len(found), -1)


def grow(places: Array, origin: Array, vectors: Array) -> Crystal:
    """Fit a lattice to columns, from around its origin outward."""
    away = np.linalg.norm(places - origin, axis=1)
    radius = 2.2 * np.linalg.norm(vectors, axis=1).max()
    covariance = np.full((2, 3, 3), np.nan)
    rounds = 4
    while rounds:
        names, member = _members(places, origin, vectors, away <= radius)
        if member.sum() < 5 or np.linalg.matrix_rank(names[member] - names[member][0]) < 2:
            return Crystal(origin, vectors, names, np.zeros(len(places), bool), covariance)
        origin, vectors, covariance = fit_lattice(places[member], names[member])
        if radius >= away.max():
            rounds -= 1
        radius = radius * 1.25
    return Crystal(origin, vectors, names, member, covariance)


def fit_lattice(
    positions: ArrayLike, names: ArrayLike, errors: ArrayLike | None = None
) -> tuple[Array, Array, Array]:
    """Origin, vectors (2, 2) and their covariance, from columns (n, 2) [A] of known names.

    With the standard `errors` (n, 2) [A] of the columns each counts by 1 / error^2, and columns
    that are NaN are left out; the covariance is theirs. Without, it follows from what is left. Its
    shape is (2, 3, 3): of origin, a and b, along y and along x.

    Raises
    ------
    InputError
        If fewer than four columns, or columns in one row alone, are left.

    Examples
    --------
    >>> origin, vectors, _ = fit_lattice([[1, 1], [1, 4], [3, 1], [3, 4]], [[0, 0], [0, 1],
    ...     [1, 0], [1, 1]])
    >>> origin.round(6), vectors.round(6) + 0.0
    (array([1., 1.]), array([[2., 0.],
           [0., 3.]]))
    """
    places, rows = np.asarray(positions, np.float64), np.asarray(names, np.float64)
    weight = np.ones_like(places) if errors is None else 1 / np.asarray(errors, np.float64) ** 2
    good = np.isfinite(places).all(1) & np.isfinite(weight).all(1)
    rows = np.concatenate([np.ones((len(rows), 1)), rows], 1)[good]
    if good.sum() < 4 or np.linalg.matrix_rank(rows) < 3:
        raise InputError(
            f"positions: {good.sum()} columns that can be used; a lattice needs four, not in a row"
        )
    fitted, covariance = np.empty((3, 2)), np.empty((2, 3, 3))
    for axis in (0, 1):
        w, y = weight[good, axis], places[good, axis]
        covariance[axis] = np.linalg.inv((rows.T * w) @ rows)
        fitted[:, axis] = covariance[axis] @ (rows.T @ (w * y))
        if errors is None:
            covariance[axis] *= ((y - rows @ fitted[:, axis]) ** 2).sum() / max(1, len(y) - 3)
    return fitted[0], fitted[1:], covariance


def _members(
    places: Array, origin: Array, vectors: Array, near: NDArray[np.bool_]
) -> tuple[Names, NDArray[np.bool_]]:
    """Names of columns that lie on sites, one for each, and have two such neighbours or more."""
    exact = (places - origin) @ np.linalg.inv(vectors)
    names = np.rint(exact).astype(np.int64)
    miss = np.linalg.norm((exact - names) @ vectors, axis=1)
    shortest = float(np.linalg.norm(vectors, axis=1).min())
    member = near & (miss < TOLERANCE * shortest)
    order = np.lexsort((miss, names[:, 1], names[:, 0]))
    order = order[member[order]]
    first = np.ones(len(order), bool)
    first[1:] = (np.diff(names[order], axis=0) != 0).any(1)
    member[order[~first]] = False
    steps = neighbour_steps(vectors)
    for _ in range(3):
        there = {tuple(n) for n in names[member].tolist()}
        beside = [sum((h + u, k + v) in there for u, v in steps) for h, k in names.tolist()]
        member &= np.array(beside, int) >= 2
    names[~member] = NOWHERE
    return names, member


def _inner(names: Names) -> NDArray[np.bool_]:
    """Which columns have neighbours at both sides along a and along b."""
    there = {tuple(n) for n in names.tolist()}
    sides = ((1, 0), (-1, 0), (0, 1), (0, -1))
    return np.array([all((h + u, k + v) in there for u, v in sides) for h, k in names.tolist()])


def reduced(vectors: Array) -> Array:
    """The two shortest vectors of a lattice, a to the right of or below b, the angle acute."""
    a, b = vectors
    for _ in range(20):
        if a @ a > b @ b:
            a, b = b, a
        b = b - np.rint((a @ b) / (a @ a)) * a
        if a @ a <= b @ b + 1e-9:
            break
    b = b if a @ b >= 0 else -b
    a, b = sorted((a, b), key=lambda v: abs(v[1]))
    return np.stack([a, b]) * (1 if b[1] > 0 else -1)


def neighbour_steps(vectors: Array) -> list[tuple[int, int]]:
    """Steps (h, k) to the nearest neighbours: no longer than 1.3 of the shortest vector."""
    steps = [(h, k) for h in (-1, 0, 1) for k in (-1, 0, 1) if (h, k) != (0, 0)]
    lengths = np.linalg.norm(np.array(steps) @ vectors, axis=1)
    return [s for s, d in zip(steps, lengths, strict=True) if d < 1.3 * lengths.min()]
