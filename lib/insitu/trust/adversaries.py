"""Movies that look denoised and are wrong, each in one known way: what a judge has to catch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from insitu.denoise.classical import GaussianInTime, tune
from insitu.trust.regions import DISC, WIDTH, near

Array = NDArray[np.float64]
WIDTHS = [(t, xy) for t in (1, 2, 4, 8, 16, 30) for xy in (0.6, 0.8, 1.0, 1.25, 1.5, 2.0)]


class Adversary(NamedTuple):
    """A movie, and the lines of the card of which one has to fail it."""

    movie: Array  # (t, y, x) [e-/px]
    caught_by: tuple[str, ...]  # (line/region); none for what has to pass


def adversaries(
    counts: Array, clean: Array, columns: Array, surface: Array, pixel_size: float, *, seed: int = 0
) -> dict[str, Adversary]:
    """Make wrong movies from counts and their truth.

    Parameters
    ----------
    counts, clean : (t, y, x) arrays
        [e-/px].
    columns, surface : (n, 2) and (m, 2) arrays
        y and x of all true columns and of those at the surface [px], without those outside.
    pixel_size : float
        [A].
    seed : int
        Of which columns are removed, and of where false ones stand.
    """
    rng = np.random.default_rng(seed)
    y, c = np.asarray(counts, float), np.asarray(clean, float)
    level = float(np.median(c))
    mean = c.mean((1, 2), keepdims=True)
    rim = near(surface, c.shape[1:], DISC / pixel_size)
    empty = ~near(columns, c.shape[1:], 5.0 / pixel_size)
    flat = ndimage.gaussian_filter(np.abs(c.mean(0) / level - 1), 3) < 0.02
    spots = rng.permutation(np.argwhere(empty & flat))[:20]
    inside = surface[((surface > 12) & (surface < np.array(c.shape[1:]) - 13)).all(1)]
    removed = inside[rng.permutation(len(inside))[:5]]
    rows, across = np.mgrid[: c.shape[1], : c.shape[2]] * pixel_size
    lattice = np.cos(2 * np.pi * across / 2.4) * np.cos(2 * np.pi * rows / 2.77)
    soft = ndimage.gaussian_filter((empty & flat).astype(float), 2)
    faint = np.where(rim, 0.5 * (c + c[:, rim].mean(1)[:, None, None]), c)
    middle = tuple(slice(max(0, n // 2 - 48), n // 2 + 48) for n in c.shape[1:])
    part = y[:, *middle][None], c[:, *middle][None]  # best by the truth, of the middle
    smooth = tune([GaussianInTime(xy, frames=t) for t, xy in WIDTHS], *part, pixel_size)
    blurred = np.asarray(smooth(y, pixel_size), float)
    has_seen, lost = ("residual/all",), ("contrast/bulk", "slope/bulk")
    rubbed_out = ("contrast/surface", "slope/surface")
    moves = ("motion/all", "changes/bulk", "timing/all")
    return {
        "the truth": Adversary(c, ()),
        "raw as denoised": Adversary(y, has_seen),
        "raw mean in every frame": Adversary(np.broadcast_to(y.mean(0), y.shape), ("average/all",)),
        "a constant": Adversary(np.full(c.shape, y.mean()), lost),
        "the best Gaussian": Adversary(blurred, rubbed_out),
        "mean of five frames": Adversary(ndimage.uniform_filter1d(y, 5, axis=0), has_seen),
        "1 % too dark": Adversary(0.99 * c, ()),
        "moved by one pixel": Adversary(np.roll(c, 1, axis=2), ("registration_x/all",)),
        "in reverse": Adversary(c[::-1], moves),
        "a tenth of the contrast lost": Adversary(mean + 0.9 * (c - mean), lost),
        "two fifths of the contrast lost": Adversary(mean + 0.6 * (c - mean), lost),
        "half of the surface lost": Adversary(faint, ("contrast/surface",)),
        "five columns removed": Adversary(_without(c, removed, pixel_size), ("missing/all",)),
        "twenty false atoms": Adversary(
            c + 0.3 * level * _blobs(spots, c.shape[1:], 1.3 * WIDTH / pixel_size), ("extra/all",)
        ),
        "a lattice in the vacuum": Adversary(c * (1 + 0.05 * soft * lattice), ("invented/vacuum",)),
    }


def _blobs(positions: Iterable[Array], shape: tuple[int, ...], width: float) -> Array:
    rows, across = np.mgrid[: shape[0], : shape[1]]
    total = np.zeros(shape)
    for y, x in positions:
        total += np.exp(-((rows - y) ** 2 + (across - x) ** 2) / (2 * width**2))
    return total


def _without(clean: Array, positions: Array, pixel_size: float) -> Array:
    """The movie with discs of 1.4 A filled with the mean of the ring around them."""
    movie = clean.copy()
    for place in positions:
        disc, wide = (near(place[None], clean.shape[1:], r / pixel_size) for r in (1.4, 2.0))
        movie[:, disc] = clean[:, wide & ~disc].mean(1)[:, None]
    return movie
