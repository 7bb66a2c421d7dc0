"""What can be mended of a movie before it is denoised: broken pixels, and drift."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import match_template

AROUND = 7  # pixels across, with whose median a pixel is compared
EXPECTED = 30.0  # electrons, in place of which none are no chance, were they half as many
MOST = 0.05  # of the pixels that may be broken; more are no accident
SAMPLE = 1_000_000  # values by which the width of their distribution is told
OFTEN = 0.25  # of the frames, in which a pixel that is hot is more than hit
FEWEST = 8  # frames by which pixels and drift are judged
GROUPS = 32  # sums of frames that are registered, at most
SMOOTH = 1.5  # standard deviation of what is registered [px]
STEP = 4  # largest step from one sum to the next [px]: a longer one finds the next column
ACROSS = 384  # pixels of the middle of the frame that are registered
UNSURE = 1.0  # error with which a drift is not told [px]
SHIFTED = 2.0  # of a drift that is undone [px]


class Broken(NamedTuple):
    """Pixels that do not tell what reached them."""

    hot: NDArray[np.bool_]  # (y, x) in every frame far more than around
    dead: NDArray[np.bool_]  # (y, x) the same value in every frame
    spikes: NDArray[np.bool_]  # (t, y, x) one frame alone, or no number

    @property
    def share(self) -> float:
        """Of all pixels that are hot or dead."""
        return float((self.hot | self.dead).mean())

    def in_words(self) -> str:
        """Which they are; empty if there are none."""
        parts = []
        for name, mask in (("hot", self.hot), ("dead", self.dead)):
            for line, axis in (("row", 1), ("column", 0)):
                whole = np.flatnonzero(mask.mean(axis) > 0.9)
                if len(whole):
                    some = ", ".join(map(str, whole[:8])) + (", ..." if len(whole) > 8 else "")
                    s = "s" if len(whole) > 1 else ""
                    parts.append(f"{name} {line}{s} {some}")
                    mask = mask & ~_lines(mask.shape, whole, axis)
            if count := int(mask.sum()):
                parts.append(f"{count} {name} pixel{'s' if count > 1 else ''}")
        if count := int(self.spikes.sum()):
            parts.append(f"{count} single value{'s' if count > 1 else ''} far beyond all others")
        return ", ".join(parts)


def _lines(shape: tuple[int, ...], numbers: NDArray[Any], axis: int) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask[(numbers, slice(None)) if axis else (slice(None), numbers)] = True
    return mask


def broken_pixels(frames: NDArray[Any]) -> Broken:
    """Find pixels that are hot, dead, or hit once: by a cosmic ray, or by what is no number.

    A *hot* one has on average thrice what its 7 x 7 neighbours have in the median, and is farther
    off than chance and structure do: 12 standard deviations of either. A *dead* one
    never changes, where its neighbours count 30 electrons or more, or is in a row
    or column that never does. A *spike* is beyond 20 times
    what the mean gives, with 5 of its standard deviations: what denoisers refuse.

    Parameters
    ----------
    frames : (t, y, x) array
        Without blank frames. Of fewer than 8 only spikes are told.
    """
    odd = ~np.isfinite(frames) if frames.dtype.kind == "f" else np.zeros(frames.shape, bool)
    good = np.where(odd, 0, frames)
    middle, low = float(good.mean(dtype=np.float64)), max(0.0, float(good.min()))
    few = good.ravel()[:: max(1, good.size // SAMPLE)]
    width = 1.4826 * float(np.median(np.abs(few - np.median(few))))
    spread = max(middle - low, width**2 / 20)
    far = good > middle + 20 * (spread + 5 * np.sqrt(spread) + 5)
    spikes = odd | (far & (far.mean(0) < OFTEN) if len(frames) >= FEWEST else far)
    hot = dead = np.zeros(frames.shape[1:], bool)
    if len(frames) >= FEWEST:
        good[spikes] = low
        mean = good.mean(0, dtype=np.float64)
        around = ndimage.median_filter(mean, AROUND, mode="reflect")
        off = mean - around
        chance = 1.4826 * float(np.median(np.abs(off - np.median(off))))
        chance = max(chance, float(np.sqrt(np.square(good[-1] - mean).mean() / len(good))))
        hot = off > np.maximum(12 * chance, 2 * around)
        dead = _dead(good, around - low) & ~hot
    return Broken(hot, dead, spikes & ~(hot | dead))


def _dead(frames: NDArray[Any], around: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels that never change, where electrons are expected, and rows and columns of them."""
    still: NDArray[np.bool_] = (frames == frames[:1]).all(0)
    if not still.any():
        return still
    # in electrons, whatever the gain is: their variance is their mean
    variance = float(np.square(np.diff(frames.astype(np.float32), axis=0)).mean()) / 2
    gain = variance / max(float(around.mean()), 1e-9)
    expected = around * len(frames) / max(gain, 1e-9)
    dead = still & (expected > EXPECTED)
    for axis in (0, 1):
        line = still.all(axis, keepdims=True) & (expected.sum(axis, keepdims=True) > EXPECTED)
        dead = dead | line
    return dead


def mended(frames: NDArray[Any], broken: Broken) -> NDArray[Any]:
    """Give each broken pixel the value of the nearest good one: a count stays one.

    Of a pixel that is always broken it is that of another frame, half the movie away, so that no
    two pixels of a frame share their noise; where it was hit once, that of the same frame.
    """
    result = np.array(frames)
    always = broken.hot | broken.dead
    if always.any():
        rows, columns = _nearest(always)
        other = np.roll(np.arange(len(frames)), len(frames) // 2)
        result[:, always] = result[other][:, rows[always], columns[always]]
    for t in np.flatnonzero(broken.spikes.any((1, 2))):
        bad = broken.spikes[t]
        rows, columns = _nearest(bad | always)
        result[t, bad] = result[t, rows[bad], columns[bad]]
    return result


def _nearest(bad: NDArray[np.bool_]) -> NDArray[Any]:
    """Rows and columns of the nearest good pixel of each."""
    return np.asarray(
        ndimage.distance_transform_edt(bad, return_distances=False, return_indices=True)
    )


class Drift(NamedTuple):
    """How a specimen moved as a whole."""

    shifts: NDArray[np.float64]  # (t, 2) of each frame against the first, y and x [px]
    error: float  # root mean square, from two halves of the frames [px]

    @property
    def length(self) -> float:
        """Largest distance from where it began, or from anywhere to anywhere [px]."""
        return float(np.linalg.norm(np.ptp(self.shifts, axis=0)))

    @property
    def sure(self) -> bool:
        """Whether it is there, and known to a pixel and to a fifth of itself."""
        return self.error < UNSURE and self.length > 5 * self.error


def drift_of(frames: NDArray[Any]) -> Drift | None:
    """Tell the drift of a movie, twice, by its frames of even and of odd number.

    Sums of consecutive frames, smoothed and without their borders, are looked for in what was
    summed of those before, by normalised cross-correlation [1]_ within 4 pixels of the last place.
    The two halves share no electron: half of their difference is the error of their mean. What
    moves faster, or turns, is not told. None for fewer than 8 frames.

    .. [1] J. P. Lewis, Fast template matching, Vision Interface 1995, 120.

    Parameters
    ----------
    frames : (t, y, x) array

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y, x = np.mgrid[:64, :64]
    >>> place = 0.25 * np.arange(40)[:, None, None]
    >>> mean = 1 + 4 * np.exp(-((y - 24 - place) ** 2 + (x - 32) ** 2) / 50)
    >>> drift = drift_of(rng.poisson(mean))
    >>> drift.shifts[-1].round(), drift.sure
    (array([10.,  0.]), True)
    """
    if len(frames) < FEWEST:
        return None
    halves = [_drift(frames[first::2]) for first in (0, 1)]
    number = np.arange(len(frames))
    curves = [
        np.stack([np.interp(number, first + 2 * at, way[:, k]) for k in (0, 1)], 1)
        for first, (at, way) in enumerate(halves)
    ]
    shifts = (curves[0] + curves[1]) / 2
    apart = curves[0] - curves[1]
    apart = apart - apart.mean(0)
    error = float(np.sqrt(np.square(apart).sum(1).mean()) / 2)
    return Drift(shifts - shifts[0], error)


def _drift(frames: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middles of groups of frames, and their shifts."""
    parts = np.array_split(np.arange(len(frames)), min(GROUPS, len(frames) // 2))
    y, x = (slice(max(0, n - ACROSS) // 2, (n + ACROSS) // 2) for n in frames.shape[1:])
    images = [
        ndimage.gaussian_filter(frames[part, y, x].mean(0, dtype=np.float64), SMOOTH)
        for part in parts
    ]
    edge = [min(STEP, n // 4) for n in images[0].shape]
    inner = tuple(slice(e, n - e) for e, n in zip(edge, images[0].shape, strict=True))
    shifts = np.zeros((len(images), 2))
    known = images[0]
    for k, image in enumerate(images[1:], 1):
        guess = np.rint(shifts[k - 1])
        seen = ndimage.shift(image, -guess, order=0, mode="nearest")
        score = match_template(seen, known[inner])
        shifts[k] = guess + np.unravel_index(score.argmax(), score.shape) - edge
        placed = ndimage.shift(image, -shifts[k], order=1, mode="nearest")
        known = known + (placed - known) / (k + 1)
    return np.array([part.mean() for part in parts]), shifts


def undrifted(frames: NDArray[Any], drift: Drift) -> NDArray[Any]:
    """Undo a drift by whole pixels, so that counts stay counts, and cut to what all frames show."""
    steps = np.rint(drift.shifts).astype(int)
    low, high = steps.min(0), steps.max(0)
    rows, columns = (n - (b - a) for n, a, b in zip(frames.shape[1:], low, high, strict=True))
    if min(rows, columns) < 16:
        return frames
    begin = steps - low
    return np.stack(
        [f[y : y + rows, x : x + columns] for f, (y, x) in zip(frames, begin, strict=True)]
    )
