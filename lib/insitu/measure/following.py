"""The lattice is the linker: a particle is followed, and its columns keep their names.

A column that vanishes and comes back has its old name (h, k); so have those of a particle that
drifts farther than half of its spacing, because it is followed as a rigid body first. What the
lattice vectors of a frame do against those of a reference is the turn and the strain [1]_.

.. [1] M. J. Hÿtch, E. Snoeck, R. Kilaas, Ultramicroscopy 74 (1998) 131.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import polar

from insitu import InputError
from insitu.measure.lattice import NOWHERE, TOLERANCE, Array, Crystal, Names, crystals, grow
from insitu.measure.motion import rigid_motion, turning

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
