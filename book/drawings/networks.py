"""A convolution, a U-Net, a blind spot, and the sums that a denoiser of movies is shown."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import ndimage

from book.drawings import kit
from book.drawings.kit import BLUE, GREEN, GREY, ORANGE, SKY, words


def convolution() -> Axes:
    """Draw one weighted sum, and how far three layers of them see."""
    axes = kit.canvas(470)
    counts = np.random.default_rng(5).poisson(1.2, (5, 5))
    weights = np.outer((1, 2, 1), (1, 2, 1))
    answer = float((counts[1:4, 1:4] * weights).sum()) / 16
    words(axes, 96, 20, "counts", weight="bold")
    kit.grid(axes, counts, 16, 36, 32)
    kit.square(axes, 48, 68, 96, edgecolor=ORANGE, lw=3)
    words(axes, 204, 116, "×", 22)
    words(axes, 280, 20, "weights / 16", weight="bold")
    for row, line in enumerate(weights):
        for column, value in enumerate(line):
            x, y = 232 + 32 * column, 68 + 32 * row
            kit.square(axes, x, y, 32, facecolor="#fbe6d8", edgecolor="white", lw=1.2)
            words(axes, x + 16, y + 16, f"{value}", color="#9c3f00")
    kit.square(axes, 232, 68, 96, edgecolor=ORANGE, lw=3)
    words(axes, 358, 116, "=", 22)
    words(axes, 446, 20, "answer", weight="bold")
    kit.square(axes, 414, 84, 64, facecolor="#d5efe6", edgecolor=GREEN, lw=2)
    words(axes, 446, 116, f"{answer:.2f}", 18)
    words(axes, 446, 184, "the same weights\nat every pixel", color=GREY)
    words(axes, 16, 236, "layer upon layer, a pixel depends on more", ha="left", weight="bold")
    side, middle = 34, 330
    for level in range(4):
        y = 258 + 52 * level
        for k in range(-4, 5):
            inside = abs(k) <= level
            face = (GREEN if level == 0 else BLUE if level == 3 else SKY) if inside else "#f2f2f2"
            left = middle + side * k - side / 2
            kit.square(axes, left, y, side, facecolor=face, edgecolor="white", alpha=0.85, lw=2)
            if inside and level < 3:
                for step in (-1, 0, 1):
                    axes.plot(
                        [middle + side * k, middle + side * (k + step)],
                        [y + side, y + 52],
                        color=GREY,
                        lw=1.0,
                    )
        name = ("answer", "3 across", "5 across", "counts: 7")[level]
        words(axes, 16, y + side / 2, name, ha="left")
    return axes


def u_net() -> Axes:
    """Draw the scales of the network of the chapter, from the counts down and up again."""
    axes = kit.canvas(480)
    sides, channels = (84, 62, 46, 34), (40, 80, 160, 160)
    tops = (92, 206, 300, 382)
    for k, (side, top) in enumerate(zip(sides, tops, strict=True)):
        left, right = 96 + 46 * k - side / 2, 416 - 46 * k - side / 2
        for shift in (8, 4, 0):
            kit.square(axes, left + shift, top - shift, side, facecolor="#dcebf5", edgecolor=BLUE)
            if k < 3:
                kit.square(
                    axes, right + shift, top - shift, side, facecolor="#d9f0e7", edgecolor=GREEN
                )
        inner = 96 + 46 * k, 416 - 46 * k
        words(axes, inner[0], top + side / 2, str(channels[k]))
        if k == 3:
            kit.arrow(axes, (inner[0] + 28, top + 6), (inner[1] + 6, tops[2] + 50), GREEN)
            continue
        words(axes, inner[1], top + side / 2, str(channels[k]))
        start, end = inner[0] + side / 2 + 12, inner[1] - side / 2 - 4
        kit.arrow(axes, (start, top + side / 2), (end, top + side / 2), GREY, width=1.5)
        below = top + side + 3, tops[k + 1] - 11
        kit.arrow(axes, (inner[0] + 8, below[0]), (inner[0] + 38, below[1]), BLUE)
        if k < 2:
            kit.arrow(axes, (inner[1] - 38, below[1]), (inner[1] - 8, below[0] + 2), GREEN)
    words(axes, 256, tops[0] + 28, "added again")
    words(axes, 60, 250, "halved", color=BLUE)
    words(axes, 470, 250, "doubled", color=GREEN)
    words(axes, 16, 22, "counts, and two\nfiltered images", ha="left", weight="bold")
    kit.arrow(axes, (96, 48), (96, 80), BLUE)
    words(axes, 420, 24, "expected counts", weight="bold")
    kit.arrow(axes, (420, 82), (420, 40), GREEN)
    words(axes, 270, 446, "each scale sees twice as far at a quarter of the pixels")
    words(axes, 270, 468, "numbers: how many images at that scale", color=GREY)
    return axes


def blind_spot() -> Axes:
    """Draw a count that is hidden, and what the others say of it."""
    axes = kit.canvas(420)
    counts = np.random.default_rng(11).poisson(0.46, (3, 5, 5)).astype(float)
    hidden, counts[1, 2, 2] = counts[1, 2, 2], np.nan
    names = ("the frame before", "this frame", "the frame after")
    for k, name in enumerate(names):
        left = 20 + 186 * k
        words(axes, left + 65, 18, name, weight="bold")
        kit.grid(axes, counts[k], left, 36, 26)
        kit.arrow(axes, (left + 65, 172), (270 + 60 * (k - 1), 214), BLUE)
    kit.box(axes, (130, 216, 280, 54), "network: sees all but one", face="#dcebf5", edge=BLUE)
    kit.arrow(axes, (270, 271), (270, 304), BLUE)
    kit.box(axes, (170, 306, 200, 50), face="#d9f0e7", edge=GREEN)
    words(axes, 270, 331, f"expects {np.nanmean(counts):.2f}", 18)
    words(axes, 76, 331, f"hidden: {hidden:g}", 18, color=ORANGE, weight="bold")
    kit.arrow(axes, (136, 331), (166, 331), GREY, style="<|-|>")
    words(axes, 384, 331, "the mean of the\n74 other counts", ha="left", color=GREY)
    words(axes, 270, 396, "the chance in a count is its own: only the mean can be guessed")
    return axes


def _lattice(angle: float, size: int = 40) -> NDArray[np.float64]:
    """Expected electrons of a small particle that has turned by an angle [degrees]."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    turn = np.deg2rad(angle)
    expected = np.full((size, size), 4.0)
    for row in range(-3, 4):
        for column in range(-3, 4):
            cy, cx = 6.2 * 0.87 * row, 6.2 * (column + 0.5 * (row % 2))
            if np.hypot(cy, cx) < 16:
                py = cy * np.cos(turn) + cx * np.sin(turn)
                px = -cy * np.sin(turn) + cx * np.cos(turn)
                expected += 6.0 * np.exp(-((y - py) ** 2 + (x - px) ** 2) / (2 * 1.4**2))
    return expected


def sums() -> Axes:
    """Draw frames of a particle that turns, their plain sum, and their sum along the motion."""
    axes = kit.canvas(480)
    angles = 7.0 * np.arange(-4, 5)
    rng = np.random.default_rng(2)
    frames = [rng.poisson(_lattice(angle)) for angle in angles]
    along = np.mean(
        [
            ndimage.rotate(f.astype(float), a, reshape=False, order=1, mode="nearest")
            for f, a in zip(frames, angles, strict=True)
        ],
        axis=0,
    )
    limits = (1.5, 10.0)
    words(axes, 20, 18, "nine frames of a particle that turns: counts", ha="left", weight="bold")
    for n, k in enumerate((0, 2, 4, 6, 8)):
        edge = ORANGE if k == 4 else GREY
        kit.picture(axes, frames[k], (20 + 101 * n, 34, 96, 96), limits, edge=edge)
        name = "this one" if k == 4 else f"{k - 4:+d}".replace("-", "−")
        words(axes, 68 + 101 * n, 146, name, color=edge)
    shown = {
        "this frame\nalone": frames[4],
        "all nine,\nplain": np.mean(frames, axis=0),
        "all nine,\nalong the motion": along,
    }
    for n, (name, image) in enumerate(shown.items()):
        left = 20 + 172 * n
        kit.picture(axes, image, (left, 190, 156, 156), limits)
        words(axes, left + 78, 370, name, weight="bold")
    said = ("sharp, noisy", "blurred", "sharp, little noise")
    for n, text in enumerate(said):
        words(axes, 98 + 172 * n, 410, text, color=GREY)
    words(axes, 270, 452, "the network is shown all of these, and chooses place by place")
    return axes
