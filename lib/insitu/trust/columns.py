"""Where the atomic columns are in an image, and how many of them are right.

Positions are (y, x) in angstrom from the middle of pixel (0, 0).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

Image = NDArray[Any]
Points = NDArray[np.float64]
REACH = 0.8  # A; farther away a column that was found is not the true one


class Columns(NamedTuple):
    """Blobs that were found in an image."""

    positions: Points  # (n, 2), y and x [A]
    strength: NDArray[np.float64]  # (n,) height of the blob, in the unit of the image


def find_columns(
    image: Image,
    pixel_size: float,
    *,
    radius: float = 0.75,
    threshold: float = 0.1,
    border: float = 0.0,
) -> Columns:
    """Find blobs by the Laplacian of a Gaussian, with positions finer than a pixel.

    Parameters
    ----------
    image : (y, x) array
        Intensity, such as relative to vacuum; minus it where columns are dark.
    pixel_size : float
        [A].
    radius : float
        Of a blob; the Gaussian has the width radius / sqrt(2) [A].
    threshold : float
        Least height, in the unit of the image: twice the filter's answer, which is the height
        of a Gaussian blob of this radius.
    border : float
        Blobs nearer to the edge are left out [A].

    Examples
    --------
    A blob of height 0.5 at (3, 4) A:

    >>> y, x = np.mgrid[:80, :80] * 0.1
    >>> image = 1 + 0.5 * np.exp(-((y - 3) ** 2 + (x - 4) ** 2) / 0.75**2)
    >>> found = find_columns(image, 0.1)
    >>> found.positions.round(2), found.strength.round(2)
    (array([[3., 4.]]), array([0.5]))
    """
    sigma = radius / np.sqrt(2) / pixel_size
    values = np.asarray(image, np.float64)
    answer = -2 * sigma**2 * ndimage.gaussian_laplace(values, sigma)
    peak = answer == ndimage.maximum_filter(answer, size=2 * max(1, round(sigma)) + 1)
    peak &= answer > threshold
    edge = max(1, round(border / pixel_size))
    inside = np.zeros_like(peak)
    inside[edge:-edge, edge:-edge] = True
    where = np.argwhere(peak & inside)
    shifts = np.empty((len(where), 2))
    for axis in (0, 1):
        step = np.eye(2, dtype=int)[axis]
        low, mid, high = (answer[tuple((where + k * step).T)] for k in (-1, 0, 1))
        shifts[:, axis] = np.clip(
            0.5 * (low - high) / np.minimum(low - 2 * mid + high, -1e-12), -0.5, 0.5
        )
    return Columns((where + shifts) * pixel_size, answer[tuple(where.T)])


def discs(
    positions: Points, radius: Points, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Windows around positions (n, 2) [px]: rows, columns, and which pixels are in the disc.

    Each (n, w, w), for the radius (n,) of each disc [px]. Where a window leaves the frame, its
    pixels are those of the edge, and in no disc.
    """
    where = np.asarray(positions, np.float64).reshape(-1, 2)
    reach = int(np.ceil(radius.max())) if len(radius) else 0
    steps = np.arange(-reach, reach + 1)
    rows, columns = (np.rint(where[:, k]).astype(int)[:, None] + steps for k in (0, 1))
    y, x = np.broadcast_arrays(rows[:, :, None], columns[:, None, :])
    top, left = y.clip(0, shape[0] - 1), x.clip(0, shape[1] - 1)
    distance = np.hypot(y - where[:, 0, None, None], x - where[:, 1, None, None])
    return top, left, (top == y) & (left == x) & (distance <= radius[:, None, None])


class Match(NamedTuple):
    """Columns that were found, against those that are there."""

    found: NDArray[np.intp]  # of each pair: the number among the found ones
    true: NDArray[np.intp]  # and among the true ones
    distance: NDArray[np.float64]  # of each pair [A]


def match(found: Points, true: Points, *, reach: float = REACH) -> Match:
    """Pair points that are each other's nearest and not farther than `reach` [A]."""
    if not len(found) or not len(true):
        none = np.zeros(0, np.intp)
        return Match(none, none, np.zeros(0))
    distance, nearest = cKDTree(true).query(found)
    _, back = cKDTree(found).query(true)
    mutual = (back[nearest] == np.arange(len(found))) & (distance <= reach)
    return Match(np.flatnonzero(mutual), nearest[mutual], distance[mutual])


class Score(NamedTuple):
    """How well a kind of columns was found."""

    true_positives: int
    found: int  # among these
    present: int  # of these

    @property
    def precision(self) -> float:
        """Share of what was found that is there."""
        return self.true_positives / self.found if self.found else 1.0

    @property
    def recall(self) -> float:
        """Share of what is there that was found."""
        return self.true_positives / self.present if self.present else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        total = self.found + self.present
        return 2 * self.true_positives / total if total else 1.0

    def __add__(self, other: Any) -> Score:
        return Score(*(a + b for a, b in zip(self, other, strict=True)))


def surface_score(found: Points, true: Points, surface: NDArray[np.bool_]) -> Score:
    """Score the surface columns among all columns of an image.

    What was found counts as a claim of a surface column unless it lies nearest to a column
    that is none, within 0.8 A.

    Parameters
    ----------
    found : (n, 2) array
        What was found [A].
    true : (m, 2) array
        All columns.
    surface : (m,) array of bool
        Which of them are of the surface.
    """
    pairs = match(found, true)
    hits = int(surface[pairs.true].sum())
    if not len(found):
        return Score(0, 0, int(surface.sum()))
    distance, nearest = cKDTree(true).query(found)
    elsewhere = (distance <= REACH) & ~surface[nearest]
    return Score(hits, int((~elsewhere).sum()), int(surface.sum()))
