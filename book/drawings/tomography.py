"""How a tilt series is recorded, what it cannot see, and in which order."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Wedge
from scipy import ndimage

from book.drawings import kit
from book.drawings.kit import BLUE, GREY, ORANGE, SILVER, words
from insitu.tomography.algebraic import sirt
from insitu.tomography.phantoms import tilt_angles
from insitu.tomography.projection import Projector

SIZE = 64


def _slice() -> np.ndarray:
    """A rounded square of silver with a core of gold and a thin gap across the beam."""
    y, x = np.mgrid[: 4 * SIZE, : 4 * SIZE] / (4 * SIZE / 2) - 1
    body = (np.abs(x) ** 4 + np.abs(y) ** 4) < 0.62**4
    core = np.hypot(x - 0.1, y + 0.12) < 0.27
    fine = body * 1.0 + core * 1.4
    return fine.reshape(SIZE, 4, SIZE, 4).mean((1, 3))


def tilts() -> Axes:
    """Draw two projections of a slice, where they lie in Fourier space, and what is missing."""
    axes = kit.canvas(560)
    truth = _slice()
    for n, angle in enumerate((0.0, 50.0)):
        left = 20 + 132 * n
        seen = ndimage.rotate(truth, angle, reshape=False, order=1)
        kit.picture(axes, seen, (left, 74, 112, 112), (0, 2.4), cmap="gray_r", edge="white")
        for k in range(4):
            x = left + 20 + 24 * k
            kit.arrow(axes, (x, 40), (x, 72), BLUE, width=1.4, head=8)
        profile = seen.sum(0)
        across = left + 112 * (np.arange(SIZE) + 0.5) / SIZE
        axes.fill_between(across, 236, 236 - 34 * profile / 90, color=BLUE, alpha=0.35, lw=0)
        axes.plot([left, left + 112], [236, 236], color=GREY, lw=1.2)
        words(axes, left + 56, 20, f"tilt {angle:g}°", weight="bold")
    words(axes, 142, 258, "sums along the beam", color=GREY)
    centre, radius = (410.0, 148.0), 88.0
    words(axes, 410, 20, "the Fourier plane", weight="bold")
    for angle in np.arange(-70, 70.1, 10):
        turn = np.deg2rad(angle)
        step = np.array([np.cos(turn), np.sin(turn)]) * radius
        (x0, y0), (x1, y1) = centre - step, centre + step
        chosen = angle in (0.0, 50.0)
        axes.plot([x0, x1], [y0, y1], color=BLUE, lw=2.6 if chosen else 1.0, zorder=3 + chosen)
    for start in (70, 250):
        axes.add_patch(Wedge(centre, radius, start, start + 40, color=ORANGE, alpha=0.3, lw=0))
    words(axes, 410, 258, "a line for each tilt", color=GREY)
    words(axes, 410, 46, "missing", color="#9c3f00")
    degrees = np.linspace(-70, 70, 71)
    pictures = {"the slice": truth}
    for name, angles in (("tilts of ±90°", np.linspace(-90, 88, 90)), ("tilts of ±70°", degrees)):
        operator = Projector(angles, SIZE)
        volume = np.broadcast_to(truth, (len(angles), 1, SIZE, SIZE))
        pictures[name] = np.asarray(sirt(operator, operator(volume), 150))[0]
    for n, (name, image) in enumerate(pictures.items()):
        left = 20 + 168 * n
        words(axes, left + 78, 300, name, weight="bold")
        kit.picture(axes, image, (left, 318, 156, 156), (0, 2.4), cmap="gray_r")
    words(axes, 270, 500, "what lies in the wedge was never measured:")
    words(axes, 270, 524, "edges across the beam are lost, and shapes reach along it")
    kit.arrow(axes, (526, 350), (526, 440), BLUE, width=1.4, head=8)
    return axes


def orders() -> Axes:
    """Draw the tilts in four orders, and the eight that are recorded in the middle."""
    axes = kit.canvas(470)
    number = 40
    some = slice(16, 24)
    said = {
        "incremental": "eight in a row: one view",
        "interleaved": "eight in a row: a sweep",
        "golden": "eight in a row: all around",
        "binary": "eight in a row: all around",
    }
    for n, (order, text) in enumerate(said.items()):
        left, top = 54 + 274 * (n % 2), 46 + 222 * (n // 2)
        angles = tilt_angles(order, number)
        x = left + 200 * (np.arange(number) + 0.5) / number
        y = top + 65 - 60 * angles / 70
        axes.fill_between(
            [x[16] - 2.5, x[23] + 2.5], top, top + 130, color=ORANGE, alpha=0.18, lw=0
        )
        axes.plot(x, y, color=SILVER, lw=0.8, zorder=1)
        axes.scatter(x, y, s=16, color=BLUE, lw=0, zorder=2)
        axes.scatter(x[some], y[some], s=30, color=ORANGE, lw=0, zorder=3)
        axes.plot([left, left], [top, top + 130], color=GREY, lw=1)
        axes.plot([left, left + 202], [top + 130] * 2, color=GREY, lw=1)
        words(axes, left + 101, top - 20, order, weight="bold")
        for angle in (-70, 0, 70):
            sign = f"{angle:+d}°".replace("-", "−") if angle else "0°"
            words(axes, left - 6, top + 65 - 60 * angle / 70, sign, ha="right")
        words(axes, left + 101, top + 146, text, color="#9c3f00")
    words(axes, 270, 456, "from left to right: the forty tilts, as they are recorded", color=GREY)
    return axes
