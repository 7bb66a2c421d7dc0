"""A small particle in vacuum, of which everything is known."""

from types import SimpleNamespace

import numpy as np
import pytest

SIZE = 0.25  # A
SHAPE = (112, 112)
LEVEL = 2.0  # of the vacuum [e-/px]
GRID = np.arange(6) * 11.0 + 28  # px, 2.75 A apart
PLACES = np.array([(a, b) for a in GRID for b in GRID])


def columns(places):
    """Gaussian columns with dark rings, of the height 1, whose sum is 0."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    shown = np.zeros(SHAPE)
    for a, b in places:
        square = ((y - a) ** 2 + (x - b) ** 2) / (0.4 / SIZE) ** 2
        shown += np.exp(-square / 2) - 0.5 * np.exp(-square / 4)
    return shown


def movie(places=PLACES, frames=40, there=None):
    """Expected counts (t, y, x) of columns that drift by a pixel in all.

    `there` tells of the number of a column and of a frame whether it is in it.
    """
    shown = []
    for t in range(frames):
        present = [
            p + t / frames for n, p in enumerate(np.array(places)) if not there or there(n, t)
        ]
        shown.append(LEVEL * (1 + 2 * columns(present)))
    return np.stack(shown)


@pytest.fixture(scope="session")
def still():
    """Movie in which nothing but a drift happens."""
    clean = movie()
    return SimpleNamespace(
        clean=clean,
        counts=np.random.default_rng(0).poisson(clean),
        movie=movie,
        places=PLACES,
        size=SIZE,
    )


@pytest.fixture(scope="session")
def events():
    """Movie in which every other column appears, and every fourth goes."""
    clean = movie(there=lambda n, t: not (n % 2 and t < 13) and not (n % 4 == 2 and t >= 25))
    return SimpleNamespace(
        clean=clean, counts=np.random.default_rng(1).poisson(clean), size=SIZE, places=PLACES
    )
