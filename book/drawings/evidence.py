"""Counts that are held back, and choosing what to test on the data by which one tests."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from scipy import ndimage, stats

from book.drawings import kit
from book.drawings.kit import BLUE, GREEN, GREY, ORANGE, words


def held_back() -> Axes:
    """Draw counts that are never learned from, and a fit that is judged by them."""
    axes = kit.canvas(420)
    rng = np.random.default_rng(4)
    image = rng.poisson(1.0, (40, 40)).astype(float)
    kit.picture(axes, image, (20, 44, 200, 200), (0, 4))
    words(axes, 120, 20, "one frame", weight="bold")
    patches = rng.permutation(100)[:10]  # one in ten, each of 4 x 4 pixels
    for patch in patches:
        left, top = 20 + 20 * (patch % 10), 44 + 20 * (patch // 10)
        kit.square(axes, left, top, 20, facecolor=ORANGE, edgecolor=ORANGE, zorder=4)
    words(axes, 120, 264, "learned from", color=BLUE)
    words(axes, 120, 286, "held back: one in ten", color=ORANGE)
    steps, learned, held = _fit()
    low, high = min(learned.min(), held.min()), max(learned[0], held[0])

    def place(values: np.ndarray) -> np.ndarray:
        y = 60 + 200 * (1 - (values - low) / (high - low))
        return np.where(y < 44, np.nan, y)

    across = 290 + 230 * np.log(steps / steps[0]) / np.log(steps[-1] / steps[0])
    axes.plot(across, place(learned), color=BLUE, lw=2.2)
    axes.plot(across, place(held), color=ORANGE, lw=2.2)
    best = int(held.argmin())
    axes.plot([across[best]] * 2, [place(held)[best] + 4, 276], color=GREEN, lw=1.6, ls="--")
    kit.dot(axes, across[best], place(held)[best], 5, color=GREEN)
    kit.arrow(axes, (280, 276), (528, 276), GREY, width=1.4, head=9)
    kit.arrow(axes, (280, 276), (280, 44), GREY, width=1.4, head=9)
    words(axes, 286, 20, "surprise at a count", ha="left", weight="bold")
    words(axes, 526, 296, "steps of training", ha="right")
    words(axes, across[best], 318, "keep this one", color=GREEN, weight="bold")
    words(axes, 270, 366, "who learns by heart does ever better on what was learned,")
    words(axes, 270, 390, "and worse on what was not")
    return axes


def _fit() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit many waves to a row of counts: the mean surprise of those learned and held back."""
    rng = np.random.default_rng(1)
    n = 200
    x = np.arange(n) / n
    counts = rng.poisson(2.0 * np.exp(0.8 * np.cos(2 * np.pi * 3 * x)))
    held = np.zeros(n, bool)
    for start in rng.permutation(n // 4)[:15]:
        held[4 * start : 4 * start + 4] = True
    orders = np.arange(1, 46)
    waves = [np.ones(n)] + [f(2 * np.pi * k * x) for k in orders for f in (np.cos, np.sin)]
    design = np.stack(waves, 1)
    weights = np.zeros(design.shape[1])
    steps = np.unique(np.round(np.geomspace(2, 3000, 60)).astype(int))
    told: list[tuple[float, float]] = []
    for step in range(1, steps[-1] + 1):
        expected = np.exp(design @ weights)
        gradient = design[~held].T @ (counts - expected)[~held] / (~held).sum()
        weights += 0.04 * gradient
        if step in steps:
            surprise = np.exp(design @ weights) - counts * (design @ weights)
            told.append((float(surprise[~held].mean()), float(surprise[held].mean())))
    learned, judged = np.array(told).T
    return steps, learned, judged


def double_dipping() -> Axes:
    """Draw the brightest place of pure noise, judged by the same electrons and by others."""
    axes = kit.canvas(430)
    rng = np.random.default_rng(8)
    size, mean, radius = 64, 0.46, 2.6
    chosen, others = rng.poisson(mean, (2, size, size))
    smooth = ndimage.gaussian_filter(chosen.astype(float), 1.5)
    inner = smooth[6:-6, 6:-6]
    y, x = np.array(np.unravel_index(inner.argmax(), inner.shape)) + 6
    yy, xx = np.mgrid[:size, :size]
    disc = np.hypot(yy - y, xx - x) < radius
    expected = mean * disc.sum()
    side = 156
    shown = {"counts": (chosen, (0, 3)), "smoothed": (smooth, (0.2, 0.9))}
    for n, (name, (image, limits)) in enumerate(shown.items()):
        left = 20 + 172 * n
        kit.picture(axes, image, (left, 36, side, side), limits)
        words(axes, left + side / 2, 18, name, weight="bold")
        _ring(axes, left, 36, side / size, y, x)
    words(axes, 358, 44, "vacuum:\nno atom anywhere", ha="left", va="top", weight="bold")
    words(
        axes, 358, 106, "The ring is put\nwhere electrons\nhappen to be many.", ha="left", va="top"
    )
    for n, (image, name) in enumerate(((chosen, "the same"), (others, "other"))):
        left, colour = 20 + 264 * n, (ORANGE, GREEN)[n]
        found = int(image[disc].sum())
        chance = float(stats.poisson.sf(found - 1, expected))
        kit.box(axes, (left, 218, 240, 196), edge=colour)
        words(axes, left + 120, 240, f"{name} electrons judge", color=colour)
        kit.picture(axes, image[y - 6 : y + 7, x - 6 : x + 7], (left + 14, 262, 104, 104), (0, 3))
        _ring(axes, left + 14, 262, 8, 6, 6)
        words(axes, left + 130, 290, f"{found} counted", ha="left")
        words(axes, left + 130, 314, f"{expected:.1f} expected", ha="left")
        words(axes, left + 130, 340, f"p = {chance:.1g}", ha="left")
        words(axes, left + 120, 390, ("'an atom!'", "nothing")[n], color=colour, weight="bold")
    return axes


def _ring(axes: Axes, left: float, top: float, pixel: float, y: float, x: float) -> None:
    place = left + pixel * (x + 0.5), top + pixel * (y + 0.5)
    kit.dot(axes, *place, 2.6 * pixel, facecolor="none", edgecolor=ORANGE, lw=2.4, zorder=4)
