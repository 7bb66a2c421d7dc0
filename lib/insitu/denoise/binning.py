"""Fine pixels are summed for a network, and its answer is spread over them again."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from insitu.denoise.surroundings import Frames

FINEST = 0.13  # pixels below this are summed until they reach it [A]


def binning(pixel_size: float) -> int:
    """How many pixels across are summed for the network."""
    return max(1, int(np.ceil(FINEST / pixel_size - 1e-6)))


def summed(image: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Sum blocks of an image; one that they do not fill is continued by its mirror image."""
    if factor > 1:
        image = np.pad(image, [(0, -n % factor) for n in image.shape], mode="symmetric")
    rows, columns = (n // factor for n in image.shape)
    blocks = image.reshape(rows, factor, columns, factor)
    return cast("NDArray[np.float32]", blocks.sum((1, 3), dtype=np.float32))


def spread(image: NDArray[np.float32], factor: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Undo `summed` for an image without detail finer than two blocks, exactly.

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


class Binned:
    """A movie whose pixels are summed when it is cut: lens and detector differ in resolution.

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

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[np.float32]:
        times, *box = key
        fine = [
            slice(*(None if n is None else n * self.factor for n in (s.start, s.stop))) for s in box
        ]
        frames = np.asarray(self.movie[times, fine[0], fine[1]])
        return np.stack([summed(frame, self.factor) for frame in frames])
