"""Fine pixels are binned for a network, and large images are cut into tiles.

A lens resolves no more than about 0.8 A. Counts of finer pixels than 0.13 A are therefore summed
without a loss, and the answer is interpolated back; one denoiser serves every magnification.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from scipy import fft

FINEST = 0.13  # pixels below this are binned until they reach it [A]

Box = tuple[slice, ...]  # rows and columns


class Frames(Protocol):
    """Anything that is cut like an array (t, y, x): numpy's, a memory map, zarr's."""

    shape: tuple[int, ...]

    def __getitem__(self, key: Any) -> Any: ...


def binning(pixel_size: float) -> int:
    """How many pixels across are binned for a network.

    >>> [binning(pixel_size) for pixel_size in (0.062, 0.12, 0.24)]
    [3, 2, 1]
    """
    return max(1, int(np.ceil(FINEST / pixel_size - 1e-6)))


def binned(image: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Sum blocks of an image; one that they do not fill is continued by its mirror image.

    >>> binned(np.ones((4, 6)), 2)
    array([[4., 4., 4.],
           [4., 4., 4.]], dtype=float32)
    """
    if factor > 1:
        image = np.pad(image, [(0, -n % factor) for n in image.shape], mode="symmetric")
    rows, columns = (n // factor for n in image.shape)
    blocks = image.reshape(rows, factor, columns, factor)
    return cast("NDArray[np.float32]", blocks.sum((1, 3), dtype=np.float32))


def unbinned(
    image: NDArray[np.float32], factor: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Undo `binned` for an image without detail finer than two blocks, exactly.

    The cosine series of the sums, each term divided by what the sum over a block made of it:
    sin(pi k / 2n) / sin(pi k / 2nb) for n blocks of b.
    """
    if factor == 1:
        return np.ascontiguousarray(image[: shape[0], : shape[1]])
    for axis in (0, 1):
        n = image.shape[axis]
        k = np.arange(n)
        gain = np.full(n, factor, np.float64)
        gain[1:] = np.sin(np.pi * k[1:] / (2 * n)) / np.sin(np.pi * k[1:] / (2 * n * factor))
        terms = fft.dct(image, axis=axis, norm="forward")
        terms /= gain[:, None] if axis == 0 else gain
        room = [(0, 0), (0, 0)]
        room[axis] = (0, n * (factor - 1))
        image = fft.idct(np.pad(terms, room), axis=axis, norm="forward").astype(np.float32)
    return np.ascontiguousarray(image[: shape[0], : shape[1]])


class BinnedMovie:
    """A movie whose pixels are binned when it is cut: lens and detector differ in resolution.

    Parameters
    ----------
    movie : (t, y, x) array
        Counts.
    factor : int
        Pixels across that are summed.
    """

    def __init__(self, movie: Frames, factor: int) -> None:
        self.movie, self.factor = movie, factor
        self.shape = (movie.shape[0], *(-(-n // factor) for n in movie.shape[1:]))

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        times, *box = key
        rows, columns = (slice(s.start * self.factor, s.stop * self.factor) for s in box)
        frames = np.asarray(self.movie[times, rows, columns])
        if self.factor == 1:
            return frames
        return np.stack([binned(frame, self.factor) for frame in frames])


class Tile(NamedTuple):
    """A part of an image that is worked on at once."""

    place: Box  # in the image
    seen: Box  # the place and the halo around it, in the image
    inner: Box  # the place, in what is seen


def tiles(shape: Sequence[int], side: int, halo: int) -> Iterator[Tile]:
    """Cut an image of rows and columns into tiles, each seen with a halo of so many pixels.

    >>> [tile.seen[1] for tile in tiles((8, 20), side=10, halo=3)]
    [slice(0, 13, None), slice(7, 20, None)]
    """
    for corner in product(*(range(0, n, side) for n in shape)):
        place = tuple(slice(k, min(n, k + side)) for k, n in zip(corner, shape, strict=True))
        yield Tile(place, *widened(place, shape, halo))


def widened(place: Box, shape: Sequence[int], halo: int) -> tuple[Box, Box]:
    """A box with a halo around it that stays in the image, and where the box lies in that."""
    seen = tuple(
        slice(max(0, s.start - halo), min(n, s.stop + halo))
        for s, n in zip(place, shape, strict=True)
    )
    inner = tuple(
        slice(s.start - around.start, s.stop - around.start)
        for s, around in zip(place, seen, strict=True)
    )
    return seen, inner
