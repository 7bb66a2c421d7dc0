"""Clean images to learn from, with the truth of every pixel; some of them of no ceria at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor
from tqdm.auto import tqdm

from insitu.measure.occupancy_images import (
    DEFOCUS,
    TILT,
    Specimen,
    draw_optics,
    painted,
    slabs,
    views_of,
)
from insitu.measure.occupancy_network import PIXEL, UNITS


class Pool(NamedTuple):
    """Clean images, and what is true of every pixel and of every image."""

    clean: Tensor  # (n, y, x) half precision, vacuum = 1
    classes: Tensor  # (n, y, x) uint8, of `CLASSES`
    atoms: Tensor  # (n, y, x) uint8, 255 off the columns
    conditions: Tensor  # (n, 3), of `CONDITIONS`, in their UNITS
    inside: Tensor  # (n,) 1 where all are of the ranges, 0 where not, 2 for what is no ceria


def draw_pool(
    folder: Path,
    part: str,
    images: int,
    *,
    size: int = 128,
    strange: float = 0.12,
    seed: int = 0,
    progress: bool = False,
) -> Pool:
    """Draw clean images of the slabs of a part (train, validation or test).

    Parameters
    ----------
    folder : Path
        With blocks of waves.
    part : str
        `train`, `validation` or `test`.
    images : int
        How many, about, evenly of all slabs.
    size : int
        Their rows and columns, of 0.2 A each.
    strange : float
        Share of images that are no ceria, or have another pixel size.
    seed : int
        Of the draw.
    progress : bool
        Show a bar.
    """
    chosen = list(slabs(folder, part))
    each = max(1, round(images / len(chosen)))
    found: list[tuple[Any, ...]] = []
    for specimen in tqdm(chosen, "clean images", disable=not progress):
        rng = np.random.default_rng([seed, specimen.recipe.seed])
        if specimen.tilt <= TILT or rng.random() < 0.5:
            found += _drawn(specimen, each, size, rng)
    for k in range(round(strange * len(found))):
        found.append(_strange(np.random.default_rng([seed, k]), found, size))
    clean, classes, atoms, conditions, inside = (
        torch.from_numpy(np.stack(part)) for part in zip(*found, strict=True)
    )
    return Pool(clean, classes, atoms, conditions.float(), inside)


def _drawn(
    specimen: Specimen, images: int, size: int, rng: np.random.Generator
) -> list[tuple[Any, ...]]:
    """Images of one slab, each with its row of a pool."""
    optics = draw_optics(rng, images)
    views = views_of(
        specimen,
        optics,
        rotation=rng.uniform(0, 360, images),
        shift=rng.uniform(-0.5, 0.5, (images, 2)) * np.array(specimen.wave.extent) * [0.6, 1],
        size=size,
        focal_points=int(rng.choice([1, 1, 1, 7])),
    )
    rows = []
    for k, clean in enumerate(views.clean):
        defocus = float(torch.as_tensor(optics.defocus)[k])
        inside = DEFOCUS[0] <= defocus <= DEFOCUS[1] and specimen.tilt <= TILT
        told = np.array([defocus, specimen.tilt, specimen.thickness]) / UNITS
        maps = painted(specimen.columns, views, k, (size, size))
        rows.append((clean.half().numpy(), *maps, told, np.int64(inside)))
    return rows


def _strange(
    rng: np.random.Generator, found: Sequence[tuple[Any, ...]], size: int
) -> tuple[Any, ...]:
    """No crystal, another one, or a wrong pixel size."""
    kind = rng.choice(["empty", "carbon", "crystal", "scale"], p=[0.1, 0.15, 0.4, 0.35])
    clean: NDArray[Any] = np.ones((size, size))
    if kind == "scale":
        source = found[int(rng.integers(len(found)))][0].astype(np.float32)
        factor = float(np.exp(rng.choice([-1, 1]) * rng.uniform(0.22, 0.9)))
        clean = _scaled(source, factor)
    elif kind == "carbon":
        fy, fx = np.fft.fftfreq(size, PIXEL)[:, None], np.fft.fftfreq(size, PIXEL)
        q = np.hypot(fy, fx)
        wavy = np.sin(np.pi * 0.0197 * rng.uniform(-200, 200) * q**2)
        white = np.fft.fft2(rng.standard_normal((size, size)))
        noise = np.fft.ifft2(white * wavy * np.exp(-((q / 0.7) ** 2))).real
        clean = np.clip(1 + rng.uniform(0.05, 0.3) * noise / noise.std(), 0.05, None)
    elif kind == "crystal":
        clean = _lattice_image(rng, size)
    nothing = np.zeros((size, size), np.uint8)
    return clean.astype(np.float16), nothing, nothing + np.uint8(255), np.zeros(3), np.int64(2)


def _scaled(source: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """An image as if its pixels were of another size; one that becomes smaller is repeated."""
    side = source.shape[0]
    tiled = np.tile(source, (3, 3)) if factor < 1 else source
    part = zoom(tiled, factor, order=3, mode="wrap")
    return np.clip(part[:side, :side], 0, None)


def _lattice_image(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """A made-up crystal: any two-dimensional lattice, with one or two kinds of columns in it."""
    a, b = rng.uniform(1.9, 5.0, 2)
    angle, turn = np.deg2rad(rng.uniform(55, 90)), rng.uniform(0, 2 * np.pi)
    vectors = np.array([[np.cos(turn), np.sin(turn)], [np.cos(turn + angle), np.sin(turn + angle)]])
    vectors *= np.array([[a], [b]])
    reach = int(size * PIXEL / min(a, b)) + 3
    index = np.stack(np.meshgrid(*[np.arange(-reach, reach)] * 2), -1).reshape(-1, 2)
    edge = rng.uniform(-0.2, 0.5) * size * PIXEL
    clean = np.ones((size, size))
    width, height = rng.uniform(0.35, 0.6), rng.choice([-1, 1], p=[0.2, 0.8]) * rng.uniform(0.15, 1)
    for share in rng.random((rng.integers(1, 3), 2)):
        places = (index + share) @ vectors + size * PIXEL / 2
        seen = ((places > -2) & (places < size * PIXEL + 2)).all(1) & (places[:, 0] > edge)
        spots = np.zeros((size, size))
        for place in np.round(places[seen] / PIXEL).astype(int):
            if ((place >= 0) & (place < size)).all():
                spots[tuple(place)] += 1
        clean += height * gaussian_filter(spots, width / PIXEL) * 2 * np.pi * (width / PIXEL) ** 2
        height *= rng.uniform(0.2, 0.8)
    return np.clip(clean, 0.05, None)
