"""The lattice is the linker: columns get their name from the crystal, and keep it.

Each column of a crystal is a row (h, k) of p = o + h a + k b, with the lattice vectors a and b of
its frame. A column that vanishes and comes back has its old name; a particle that drifts farther
than half of its spacing, too, because it is followed as a rigid body first. What the vectors of a
frame do against those of a reference is the turn and the strain of the particle [1]_.

.. [1] M. J. Hÿtch, E. Snoeck, R. Kilaas, Ultramicroscopy 74 (1998) 131, for the strain tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import polar
from scipy.spatial import cKDTree

from insitu import InputError
from insitu.measure.motion import rigid_motion, turning

Array = NDArray[np.float64]
Names = NDArray[np.int64]
TOLERANCE = 0.2  # of the shorter lattice vector: farther from its site a column is no member
INNER = 6  # columns with neighbours on all four sides that make a crystal
MATCHED = 0.5  # of a particle's columns; with fewer matched a frame is lost
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
    flip = (apart[:, 1] < -1e-9) | ((np.abs(apart[:, 1]) <= 1e-9) & (apart[:, 0] < 0))
    apart = np.where(flip[:, None], -apart, apart)
    cloud = cKDTree(np.concatenate([apart, -apart]))
    votes = cloud.query_ball_point(apart, close, return_length=True)
    found: list[Array] = []
    for index in np.argsort(-votes, kind="stable"):
        if len(found) == 8:
            break
        v = cloud.data[cloud.query_ball_point(apart[index], close)].mean(0)
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


class Track(NamedTuple):
    """A particle through the frames (t), and its columns (m) by name."""

    names: Names  # (m, 2) h and k
    index: NDArray[np.int64]  # (t, m) number of the column among those of the frame, -1 if absent
    positions: Array  # (t, m, 2) [A], NaN where absent
    origin: Array  # (t, 2) of (h, k) = (0, 0) [A]
    vectors: Array  # (t, 2, 2) rows a and b [A]
    angle: Array  # (t,) against the reference, anticlockwise as seen with y downward [degrees]
    angle_error: Array  # (t,) of the frame's own lattice
    strain: Array  # (t, 2, 2) yy, yx, xy, xx in the axes of the reference
    strain_error: Array
    lost: NDArray[np.bool_]  # (t,) frames in which the particle was not found; all above is NaN

    def sites(self, frame: int) -> Array:
        """Where the lattice has all columns (m, 2) in a frame [A], there or not."""
        return np.asarray(self.origin[frame] + self.names @ self.vectors[frame])


def follow(
    positions: Sequence[ArrayLike],
    *,
    particle: ArrayLike | None = None,
    reference: ArrayLike | None = None,
    turn: float = 4.0,
    reach: float = 6.0,
) -> Track:
    """Follow a particle by its lattice, and name its columns.

    Parameters
    ----------
    positions : sequence of (n_t, 2) arrays
        Columns of each frame, y and x [A]; none in a frame that was lost.
    particle : (y, x), optional
        A place in the particle in its first frame [A]; by default the crystal of most columns.
    reference : (2, 2) array, optional
        Lattice vectors a and b against which turn and strain are told; by default those of the
        first frame with a crystal.
    turn, reach : float
        Largest turn [degrees] and shift [A] from one frame to the next.

    Raises
    ------
    InputError
        If no frame has a crystal.

    Examples
    --------
    >>> places = np.stack(np.mgrid[:6, :6], -1).reshape(-1, 2) * 2.4 + 20
    >>> frames = [(places - 26) @ turning(2 * t) + 26 + [1.2 * t, 0] for t in range(4)]
    >>> track = follow(frames)
    >>> track.angle.round(2), len(track.names), bool((track.index >= 0).all())
    (array([0., 2., 4., 6.]), 36, True)
    """
    frames = [np.asarray(p, np.float64).reshape(-1, 2) for p in positions]
    first, crystal = _first(frames, particle)
    found: dict[int, Crystal] = {first: crystal}
    body, last, before = frames[first][crystal.member], crystal, first
    for t in range(first + 1, len(frames)):
        if len(frames[t]) < 9:
            continue
        motion = rigid_motion(body, frames[t], turn=turn * (t - before), reach=reach)
        if motion.matched < MATCHED:
            continue
        turned = last.vectors @ turning(motion.angle)
        grown = _anchored(frames[t], motion(last.origin[None])[0], turned)
        if grown.member.sum() < MATCHED * len(body):
            continue
        found[t], last, before = grown, grown, t
        body = frames[t][grown.member]
    base = crystal.vectors if reference is None else np.asarray(reference, np.float64)
    return _told(frames, found, base)


def _first(frames: list[Array], particle: ArrayLike | None) -> tuple[int, Crystal]:
    for t, places in enumerate(frames):
        if len(places) < 9:
            continue
        try:
            all_of_them = crystals(places)
        except InputError:
            continue
        if particle is None:
            return t, all_of_them[0]
        where = np.asarray(particle, np.float64)
        near = [np.linalg.norm(places[c.member] - where, axis=1).min() for c in all_of_them]
        return t, all_of_them[int(np.argmin(near))]
    raise InputError(
        f"positions: none of the {len(frames)} frames has a crystal; look at the columns that "
        "were found, or take frames in which a lattice is seen"
    )


def _anchored(places: Array, origin: Array, vectors: Array) -> Crystal:
    """The lattice in a frame, with the names that it had: a and b are not chosen anew."""
    exact = (places - origin) @ np.linalg.inv(vectors)
    names = np.rint(exact)
    miss = np.linalg.norm((exact - names) @ vectors, axis=1)
    on = miss < 1.5 * TOLERANCE * np.linalg.norm(vectors, axis=1).min()
    middle = names[on].mean(0).round() if on.any() else np.zeros(2)
    centre = origin + middle @ vectors
    grown = grow(places, centre, vectors)
    names = np.where(grown.member[:, None], grown.names + middle.astype(np.int64), NOWHERE)
    return grown._replace(origin=grown.origin - middle @ grown.vectors, names=names)


def _told(frames: list[Array], found: dict[int, Crystal], reference: Array) -> Track:
    """All crystals as arrays over frames and names."""
    t = len(frames)
    names = np.unique(np.concatenate([c.names[c.member] for c in found.values()]), axis=0)
    number = {tuple(name): i for i, name in enumerate(names.tolist())}
    index = np.full((t, len(names)), -1)
    places, origin = np.full((t, len(names), 2), np.nan), np.full((t, 2), np.nan)
    vectors, strain, strain_error = (np.full((t, 2, 2), np.nan) for _ in range(3))
    angle, angle_error = np.full(t, np.nan), np.full(t, np.nan)
    for frame, c in found.items():
        members = np.flatnonzero(c.member)
        at = [number[tuple(name)] for name in c.names[members].tolist()]
        index[frame, at], places[frame, at] = members, frames[frame][members]
        origin[frame], vectors[frame] = c.origin, c.vectors
        told = turn_and_strain(c.vectors, reference, c.covariance[:, 1:, 1:])
        angle[frame], strain[frame], angle_error[frame], strain_error[frame] = told
    lost = np.isnan(angle)
    return Track(
        names, index, places, origin, vectors, angle, angle_error, strain, strain_error, lost
    )


def turn_and_strain(
    vectors: Array, reference: Array, covariance: Array
) -> tuple[float, Array, float, Array]:
    """Turn [degrees] and strain (2, 2) of lattice vectors against those of a reference, and errors.

    The rows of `vectors` are those of `reference` times D, and D = (1 + e) R: first the strain e,
    which is symmetric, then the turn R. `covariance` (2, 2, 2) is that of a and b along y and x.

    >>> base = np.array([[2.0, 0.0], [0.0, 2.4]])
    >>> stretched = base @ np.diag([1.01, 1.0]) @ turning(3)
    >>> angle, strain, _, _ = turn_and_strain(stretched, base, np.zeros((2, 2, 2)))
    >>> round(angle, 6), strain.round(6) + 0.0
    (3.0, array([[0.01, 0.  ],
           [0.  , 0.  ]]))
    """

    def split(v: Array) -> Array:
        turn, stretch = polar(np.linalg.solve(reference, v), side="left")
        angle = np.rad2deg(np.arctan2(turn[0, 1] - turn[1, 0], turn[0, 0] + turn[1, 1]))
        return np.concatenate([[angle], (stretch - np.eye(2)).ravel()])

    slopes = np.zeros((5, 2, 2))  # of angle and strain by part q of vector v
    for v in (0, 1):
        for q in (0, 1):
            step = np.zeros((2, 2))
            step[v, q] = 1e-5
            slopes[:, v, q] = (split(vectors + step) - split(vectors - step)) / 2e-5
    variance = np.einsum("pvq,qvw,pwq->p", slopes, covariance, slopes)
    error, told = np.sqrt(variance.clip(min=0)), split(vectors)
    return float(told[0]), told[1:].reshape(2, 2), float(error[0]), error[1:].reshape(2, 2)
