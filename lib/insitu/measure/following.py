"""The lattice is the linker: a particle is followed, and its columns keep their names.

A column that vanishes and comes back has its old name (h, k); so have those of a particle that
drifts farther than half of its spacing, because it is followed as a rigid body first. What the
lattice vectors of a frame do against those of a reference is the turn and the strain [1]_.

Nearest columns tell nothing where a particle moved by half a spacing. Over all pairs of columns the
differences pile up at the true shift, and because a particle ends somewhere, a shift by a lattice
vector more piles up less. The best pile over shifts and turns starts least squares of matched
pairs [2]_, [3]_.

.. [1] M. J. Hÿtch, E. Snoeck, R. Kilaas, Ultramicroscopy 74 (1998) 131.
.. [2] P. J. Besl, N. D. McKay, IEEE Trans. Pattern Anal. Mach. Intell. 14 (1992) 239.
.. [3] P. H. Schönemann, Psychometrika 31 (1966) 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.linalg import polar
from scipy.spatial import cKDTree

from insitu import InputError
from insitu.measure.lattice import NOWHERE, TOLERANCE, Array, Crystal, Names, crystals, grow
from insitu.trust.columns import match

BIN = 0.25  # of the histogram of differences [A]
BLUR = 0.35  # of its bins: standard deviation [A]
TRIED = 12  # piles from which least squares starts
CLOSE = 0.9  # pairs that are matched at first [A]; half of it in the end
MATCHED = 0.5  # of a particle's columns; with fewer matched a frame is lost


class Track(NamedTuple):
    """A particle through the frames (t), and its columns (m) by name."""

    names: Names  # (m, 2) h and k
    column: NDArray[np.int64]  # (t, m) number of the column among those of the frame, -1 if absent
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
    >>> track.angle[1:].round(2), len(track.names), bool((track.column >= 0).all())
    (array([2., 4., 6.]), 36, True)
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
    column = np.full((t, len(names)), -1)
    places, origin = np.full((t, len(names), 2), np.nan), np.full((t, 2), np.nan)
    vectors, strain, strain_error = (np.full((t, 2, 2), np.nan) for _ in range(3))
    angle, angle_error = np.full(t, np.nan), np.full(t, np.nan)
    for frame, c in found.items():
        members = np.flatnonzero(c.member)
        at = [number[tuple(name)] for name in c.names[members].tolist()]
        column[frame, at], places[frame, at] = members, frames[frame][members]
        origin[frame], vectors[frame] = c.origin, c.vectors
        told = turn_and_strain(c.vectors, reference, c.covariance[:, 1:, 1:])
        angle[frame], strain[frame], angle_error[frame], strain_error[frame] = told
    lost = np.isnan(angle)
    return Track(
        names, column, places, origin, vectors, angle, angle_error, strain, strain_error, lost
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


def turn_between(track: Track, before: slice, after: slice) -> tuple[float, float]:
    """Turn [degrees] from frames at rest to later ones, and its standard error.

    The difference of the mean angles. Of denoised frames the errors of those near by are alike,
    and larger than what the lattice of one frame tells: the error is the scatter of the angles on
    both sides, as if all frames of a side shared theirs. Leave out the frames next to a turn, into
    which a denoiser mixes what comes behind it.

    Raises
    ------
    InputError
        If a side has fewer than three frames in which the particle was found.

    Examples
    --------
    >>> places = np.stack(np.mgrid[:6, :6], -1).reshape(-1, 2) * 2.4 + 20
    >>> noise = 0.05 * np.random.default_rng(0).standard_normal((10, 36, 2))
    >>> turned = [places @ turning(5.0 * (t > 4)) + noise[t] for t in range(10)]
    >>> np.round(turn_between(follow(turned, turn=8, reach=20), slice(0, 5), slice(5, 10)), 1)
    array([4.9, 0.1])
    """
    sides = [track.angle[side][~track.lost[side]] for side in (before, after)]
    if min(map(len, sides)) < 3:
        raise InputError(
            f"before, after: the particle was found in {len(sides[0])} and {len(sides[1])} frames; "
            "a turn needs three on each side"
        )
    error = float(np.hypot(*(side.std(ddof=1) for side in sides)))
    return float(sides[1].mean() - sides[0].mean()), error


def lattice_sites(
    track: Track, places: Sequence[ArrayLike], shape: tuple[int, int], pixel_size: float
) -> tuple[Names, Array]:
    """Sites of the particle that can be asked about, whether a column is seen there or not.

    Names (n, 2) that were seen in 3 % of the frames or more, and where the lattice of each frame,
    or of the nearest one that was not lost, has them (t, n, 2) [A]: everywhere 1 A inside of the
    image, and in the first and last frame 3 A away from all columns of other crystals, such as
    the support.

    Parameters
    ----------
    track : Track
        Of the particle.
    places : sequence of (n_t, 2) arrays
        All columns of each frame [A], as they were given to `follow`.
    shape : (y, x)
        Of the image [pixels].
    pixel_size : float
        [A].
    """
    often = np.isfinite(track.positions[..., 0]).mean(0) > 0.03
    held = np.flatnonzero(~track.lost)
    near = held[np.abs(held[:, None] - np.arange(len(track.lost))).argmin(0)]
    sites = np.stack([track.sites(t)[often] for t in near])
    limit = (np.array(shape) - 1) * pixel_size - 1.0
    good = ((sites > 1.0) & (sites < limit)).all((0, 2))
    for t in held[[0, -1]]:
        foreign = np.delete(np.asarray(places[t]), track.column[t][track.column[t] >= 0], axis=0)
        if len(foreign):
            good &= cKDTree(foreign).query(sites[t])[0] > 3.0
    return track.names[often][good], sites[:, good]


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
