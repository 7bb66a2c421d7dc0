"""The microscope, one pixel's counts, and the flow of the book."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, Polygon
from scipy import stats

from book.drawings import kit
from book.drawings.kit import BLUE, GOLD, GREEN, GREY, ORANGE, SKY, words

MEAN = 0.46  # electrons a pixel and frame, of vacuum in the movies of this book
OBJECT, LENS, FOCUS, IMAGE = 96.0, 176.0, 228.6, 330.0  # heights [px]


def microscope() -> Axes:
    """Draw the rays of an image: those of a thin lens, at scale."""
    axes = kit.canvas(440)
    middle, focal, apart = 130.0, FOCUS - LENS, 22.0
    larger = (IMAGE - LENS) / (LENS - OBJECT)  # of the image
    rays = (0.0, 0.30, -0.30)  # slopes: not scattered, and into a lattice's two first orders
    for slope, colour in zip(rays, (BLUE, ORANGE, ORANGE), strict=True):
        for x in (-apart, 0.0, apart):
            at_lens = x + slope * (LENS - OBJECT)
            heights = (OBJECT, LENS, FOCUS, IMAGE)
            places = (x, at_lens, slope * focal, -larger * x)
            axes.plot([middle + p for p in places], heights, color=colour, lw=1.3, alpha=0.8)
    for x in (-apart, 0.0, apart):
        kit.arrow(axes, (middle + x, 34), (middle + x, OBJECT - 12), BLUE, width=1.3, head=8)
    for k in range(5):
        kit.dot(
            axes,
            middle + 14 * (k - 2),
            OBJECT - 6,
            5.6,
            facecolor=kit.SILVER,
            edgecolor=GREY,
            lw=0.8,
            zorder=4,
        )
        kit.dot(
            axes,
            middle + 14 * (k - 2),
            OBJECT + 3,
            4.4,
            facecolor=GOLD,
            edgecolor=GREY,
            lw=0.8,
            zorder=3,
        )
    lens = Ellipse((middle, LENS), 150, 20, facecolor=kit.SILVER, edgecolor=GREY, alpha=0.85)
    axes.add_patch(lens)
    axes.plot([middle - 80, middle + 80], [FOCUS] * 2, color=GREY, lw=1.0, ls=(0, (3, 3)))
    rng = np.random.default_rng(3)
    axes.plot([middle - 90, middle + 90], [IMAGE + 4] * 2, color=kit.BLACK, lw=1.5)
    along = (np.arange(36) - 17.5) * 5
    shown = MEAN * (1 + 0.6 * np.cos(2 * np.pi * along / (14 * larger)))
    for place, count in zip(along, rng.poisson(shown), strict=True):
        for n in range(count):
            kit.dot(axes, middle + place, IMAGE + 12 + 6 * n, 2.2, color=kit.BLACK)
    said = {
        "electrons, 300 kV": (20, BLUE, "one at a time, a plane wave"),
        "specimen": (OBJECT, GREY, "its atoms delay and bend the wave"),
        "objective lens": (LENS - 6, GREY, "turns delay into bright and dark"),
        "focal plane": (FOCUS, ORANGE, "a spot for each set of planes"),
        "detector": (IMAGE + 8, kit.BLACK, "counts: chance decides where\neach electron arrives"),
    }
    for name, (y, colour, text) in said.items():
        words(axes, 246, y, name, ha="left", color=colour, weight="bold")
        words(axes, 246, y + 12, text, ha="left", va="top")
    words(axes, middle, 20, "beam", color=BLUE)
    words(axes, middle, 408, "one frame: 0.46 electrons\nin a pixel of vacuum")
    return axes


def counts() -> Axes:
    """Draw one pixel in successive frames, and how often it counts how many electrons."""
    axes = kit.canvas(400)
    drawn = np.random.default_rng(7).poisson(MEAN, 20)
    words(axes, 20, 20, "one pixel, twenty frames", ha="left", weight="bold")
    for k, count in enumerate(drawn):
        kit.square(axes, 20 + 25 * k, 40, 23, facecolor="#f4f6f8")
        for n in range(count):
            shift = (n - (count - 1) / 2) * 8
            kit.dot(axes, 31.5 + 25 * k + shift, 51.5, 3.4, color=BLUE)
    words(
        axes,
        20,
        84,
        f"{drawn.sum()} electrons; {20 * MEAN:.1f} are expected",
        ha="left",
        color=GREY,
    )
    words(axes, 20, 128, "one frame", ha="left", weight="bold")
    words(axes, 20, 150, "mean 0.46, scatter $\\pm$0.68", ha="left")
    chances = stats.poisson.pmf(np.arange(4), MEAN)
    floor, tall = 346.0, 250.0
    for n, chance in enumerate(chances):
        left = 24 + 54 * n
        axes.bar(left + 21, -tall * chance, 42, floor, color=BLUE)
        high = floor - tall * chance - 12
        words(axes, left + 21, high, f"{chance:.0%}", color=BLUE)
        words(axes, left + 21, floor + 16, str(n))
    words(axes, 128, floor + 38, "electrons in the pixel", color=GREY)
    words(axes, 290, 128, "forty frames added", ha="left", weight="bold")
    words(axes, 290, 150, "mean 18.4, scatter $\\pm$4.3", ha="left")
    many = np.arange(0, 37)
    chances = stats.poisson.pmf(many, 40 * MEAN)
    axes.bar(290 + 6.3 * many, -1400 * chances, 5.2, floor, color=GREEN)
    for n in (0, 9, 18, 27, 36):
        words(axes, 290 + 6.3 * n, floor + 16, str(n))
    words(axes, 404, floor + 38, "electrons in the pixel", color=GREY)
    axes.plot([20, 238], [floor] * 2, color=GREY, lw=1)
    axes.plot([284, 522], [floor] * 2, color=GREY, lw=1)
    return axes


def flow() -> Axes:
    """Draw what the parts of the book do, in the order in which data flow."""
    axes = kit.canvas(470)
    parts = [
        ("Simulate", "01 to 03", "atoms, wave, counts:\na movie whose truth is known", SKY),
        ("Denoise", "04, 05", "from counts\nto expected counts", BLUE),
        ("Trust", "06, 07", "is it in the data,\nor in the network?", ORANGE),
        ("Measure", "08, 09", "where are columns,\nof how many atoms, and when?", GREEN),
        ("Volumes", "10, 10b", "a shape for every moment\nof a tilt series", GOLD),
        ("Your data", "11, 12", "all of it on one file,\nor on a terabyte", GREY),
    ]
    for k, (name, pages, text, colour) in enumerate(parts):
        top = 12 + 76 * k
        kit.box(axes, (128, top, 400, 62), face="white", edge=colour)
        edge = [(128, top + 8), (128, top + 54), (136, top + 62), (240, top + 62)]
        edge += [(240, top), (136, top)]
        axes.add_patch(Polygon(edge, closed=True, color=colour, alpha=0.22, lw=0))
        words(axes, 185, top + 21, name, weight="bold")
        words(axes, 185, top + 43, pages)
        words(axes, 252, top + 31, text, ha="left")
        if k < 3:
            kit.arrow(axes, (328, top + 63), (328, top + 75), colour, head=9)
    words(axes, 52, 43, "truth", color=SKY, weight="bold")
    axes.plot([52, 52], [56, 347], color=SKY, lw=2.2)
    for top, say in ((119, "trains"), (195, "judges"), (271, "judges"), (347, "judges")):
        kit.arrow(axes, (51, top), (126, top), SKY, width=2.2)
        words(axes, 88, top - 13, say, color=GREY)
    return axes
