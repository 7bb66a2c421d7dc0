"""Slabs of ceria, the waves behind them, and images with the truth of every pixel.

A slab costs a second of multislice, an image of it milliseconds: waves are computed once, in blocks
of fifty on the disk, and drawn from with random optics, turns and shifts (`insitu.simulate.bank`
does so for platinum). Slabs 8, 18, ... are for validation and calibration, 9, 19, ... for tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial import cKDTree
from torch import Tensor
from tqdm.auto import tqdm

from insitu import InputError
from insitu.checks import one_of
from insitu.files import whole
from insitu.measure.occupancy_network import PIXEL, UNITS
from insitu.simulate.ceria import Columns, Slab, build_slab, random_slab
from insitu.simulate.imaging import Optics, image
from insitu.simulate.waves import Wave, band_limited, exit_wave, wavelength

DEFOCUS = (-120.0, 20.0)  # from 12 nm overfocus to 2 nm underfocus [A]
TILT = 4.0  # [degrees]
DISC = 0.6  # radius of a column in the maps [A]
BLOCK = 50
SEMIANGLE = 32.0  # what is kept of a wave [mrad]
PARTS = ("train",) * 8 + ("validation", "test")  # of every ten slabs
SIDE = 2 * int(np.ceil(SEMIANGLE * 1e-3 / wavelength(300e3) * 42.0)) + 2
_SCALE = 256.0  # keeps weak coefficients out of the subnormal numbers of half precision


class Specimen(NamedTuple):
    """A slab, the wave behind it and its columns."""

    recipe: Slab
    wave: Wave
    columns: Columns


def specimen_of(
    recipe: Slab, held: Mapping[int, int] | None = None, *, arrangement: int = 0
) -> Specimen:
    """Build a slab and send the wave through it, one slice for each plane of atoms or so."""
    atoms, columns = build_slab(recipe, held, arrangement=arrangement)
    wave = exit_wave(atoms, pixels=320, slice_thickness=1.92)
    return Specimen(recipe, band_limited(wave, SEMIANGLE), columns)


def make_waves(folder: Path, count: int, *, seed: int = 0, progress: bool = False) -> list[Path]:
    """Write waves behind so many random slabs, or go on with what is there; a block a file."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for begin in tqdm(range(0, count, BLOCK), "waves", disable=not progress):
        paths.append(folder / f"waves-{seed}-{begin:05d}.npz")
        if paths[-1].is_file():
            continue
        spectra = np.zeros((BLOCK, 2, SIDE, SIDE), np.float16)
        extents, truths = [], []
        for k in range(BLOCK):
            _, wave, columns = specimen_of(random_slab(seed, begin + k))
            values = torch.fft.fft2(wave.values[0] - 1, norm="forward") * _SCALE
            ky, kx = (torch.fft.fftfreq(n, 1 / n).long() for n in values.shape)
            packed = torch.zeros(SIDE, SIDE, dtype=values.dtype)
            packed[ky[:, None], kx] = values
            spectra[k] = torch.view_as_real(packed).movedim(-1, 0).numpy()
            extents.append(wave.extent)
            truths.append(np.stack([np.asarray(c, np.float32) for c in columns], 1))
        with whole(paths[-1]) as unfinished, unfinished.open("wb") as file:
            np.savez(
                file,
                spectra=spectra,
                extents=np.array(extents),
                columns=np.concatenate(truths),
                lengths=np.array([len(t) for t in truths]),
            )
    return paths


class Pool(NamedTuple):
    """Clean images, and what is true of every pixel and of every image."""

    clean: Tensor  # (n, y, x) half precision, vacuum = 1
    classes: Tensor  # (n, y, x) uint8, of `occupancy.CLASSES`
    atoms: Tensor  # (n, y, x) uint8, 255 off the columns
    conditions: Tensor  # (n, 3), of `occupancy.CONDITIONS`, in their units
    inside: Tensor  # (n,) 1 where all are of the ranges, 0 where not, 2 for what is no ceria
    slab: Tensor  # (n,) number of the slab, -1 for what is no ceria


def blocks_of(folder: Path) -> list[Path]:
    """Blocks of waves in a folder, in their order."""
    paths = sorted(folder.glob("waves-*.npz"))
    if not paths:
        raise InputError(f"waves: {folder} has none; make them with `make_waves`")
    return paths


def specimens_of(path: Path) -> Iterator[tuple[int, Wave, Columns]]:
    """Number, wave and columns of each slab of a block."""
    begin = int(path.stem.split("-")[-1])
    with np.load(path) as block:
        spectra, extents, lengths = (block[k] for k in ("spectra", "extents", "lengths"))
        parts = np.split(block["columns"], np.cumsum(lengths)[:-1])
    for k, (spectrum, extent, part) in enumerate(zip(spectra, extents, parts, strict=True)):
        packed = torch.from_numpy(spectrum).float().movedim(0, -1).contiguous() / _SCALE
        values = torch.fft.ifft2(torch.view_as_complex(packed), norm="forward") + 1
        y, x, cation, atoms, possible, surface = part.T
        columns = Columns(y, x, cation > 0, atoms.astype(int), possible.astype(int), surface > 0)
        yield begin + k, Wave(values[None], (float(extent[0]), float(extent[1]))), columns


def draw_optics(rng: np.random.Generator, images: int, *, beyond: float = 0.25) -> Optics:
    """Optics at random; so large a share has a defocus up to 5 nm outside of the range."""
    low, high = DEFOCUS
    defocus = rng.uniform(low, high, images)
    out = rng.random(images) < beyond
    outside = np.where(rng.random(images) < 0.5, low - rng.uniform(0, 60, images), 0)
    outside = np.where(outside, outside, high + rng.uniform(0, 60, images))
    defocus = np.where(out, outside, defocus)
    drawn: dict[str, Any] = {
        "defocus": defocus,
        "cs": rng.choice([-13e4, -9e4], images) * rng.uniform(0.97, 1.03, images),
        "c5": rng.uniform(2e7, 7e7, images),
        "astigmatism": rng.uniform(0, 12, images),
        "coma": rng.uniform(0, 150, images),
        "trefoil": rng.uniform(0, 150, images),
        "focal_spread": rng.uniform(30, 50, images),
        "vibration": rng.uniform(0.1, 0.4, images),
    }
    turned = ("astigmatism", "coma", "trefoil")
    drawn |= {f"{name}_angle": rng.uniform(0, 360, images) for name in turned}
    tensors: dict[str, Any] = {k: torch.tensor(v, dtype=torch.float32) for k, v in drawn.items()}
    return Optics(**tensors)


class Views(NamedTuple):
    """Images of a specimen, and where its columns are in them."""

    clean: Tensor  # (n, y, x), vacuum = 1
    column: list[NDArray[np.int64]]  # of each image: numbers of the columns that it shows
    places: list[NDArray[np.float64]]  # and where they are, (columns, 2) y and x [px]


def views_of(
    wave: Wave,
    columns: Columns,
    optics: Optics,
    *,
    rotation: NDArray[np.float64],
    shift: NDArray[np.float64],
    size: int = 128,
    pixel_size: float = PIXEL,
    focal_points: int = 7,
) -> Views:
    """Images (one for each rotation [degrees] and shift (n, 2) [A]) with their columns."""
    clean = image(
        wave,
        optics,
        pixel_size=pixel_size,
        shape=(size, size),
        rotation=torch.tensor(rotation, dtype=torch.float32),
        shift=(torch.tensor(shift[:, 0]).float(), torch.tensor(shift[:, 1]).float()),
        focal_points=focal_points,
    ).clamp_(min=0)
    repeats = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    middle = [(length - pixel_size) / 2 for length in wave.extent]
    away = [
        np.concatenate([values + n[axis] * wave.extent[axis] - middle[axis] for n in repeats])
        for axis, values in enumerate((columns.y, columns.x))
    ]
    number = np.tile(np.arange(len(columns.y)), len(repeats))
    shown, places = [], []
    for turn, (dy, dx) in zip(np.deg2rad(rotation), shift, strict=True):
        y = np.cos(turn) * away[0] + np.sin(turn) * away[1] + dy
        x = np.cos(turn) * away[1] - np.sin(turn) * away[0] + dx
        place = np.stack([y, x], 1) / pixel_size + (size - 1) / 2
        seen = ((place > -0.5) & (place < size - 0.5)).all(1)
        shown.append(number[seen])
        places.append(place[seen])
    return Views(clean, shown, places)


def painted(
    columns: Columns, views: Views, k: int, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Classes and atoms of every pixel of image k: discs of 0.6 A about the columns."""
    grid = np.mgrid[: shape[0], : shape[1]].reshape(2, -1).T
    if not len(views.places[k]):
        return np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)
    distance, nearest = cKDTree(views.places[k]).query(grid)
    number = views.column[k][nearest]
    on = distance < DISC / PIXEL
    classes = np.where(on & (columns.atoms[number] > 0), np.where(columns.cation[number], 1, 2), 0)
    atoms = np.where(on, columns.atoms[number], 255)
    return tuple(v.astype(np.uint8).reshape(shape) for v in (classes, atoms))  # type: ignore[return-value]


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
    one_of("part", part, dict.fromkeys(PARTS))
    paths = blocks_of(folder)
    each = max(1, round(images / (len(paths) * BLOCK * PARTS.count(part) / len(PARTS))))
    found: list[tuple[Any, ...]] = []
    for path in tqdm(paths, "clean images", disable=not progress):
        for number, wave, columns in specimens_of(path):
            if PARTS[number % len(PARTS)] != part:
                continue
            rng = np.random.default_rng([seed, number])
            tilt = float(np.hypot(*random_slab(0, number).tilt))
            if tilt > TILT and rng.random() < 0.5:
                continue
            found += _drawn(number, wave, columns, tilt, each, size, rng)
    for k in range(round(strange * len(found))):
        rng = np.random.default_rng([seed, k, 1])
        found.append(_strange(rng, found, size))
    parts = [torch.from_numpy(np.stack(p)) for p in zip(*found, strict=True)]
    clean, classes, atoms, conditions, inside, slab = parts
    return Pool(clean, classes, atoms, conditions.float(), inside, slab)


def _drawn(
    number: int,
    wave: Wave,
    columns: Columns,
    tilt: float,
    images: int,
    size: int,
    rng: np.random.Generator,
) -> list[tuple[Any, ...]]:
    optics = draw_optics(rng, images)
    rotation = rng.uniform(0, 360, images)
    shift = rng.uniform(-0.5, 0.5, (images, 2)) * np.array(wave.extent) * [0.6, 1]
    views = views_of(
        wave,
        columns,
        optics,
        rotation=rotation,
        shift=shift,
        size=size,
        focal_points=int(rng.choice([1, 1, 1, 7])),
    )
    rows = []
    for k, clean in enumerate(views.clean):
        classes, atoms = painted(columns, views, k, (size, size))
        defocus = float(torch.as_tensor(optics.defocus)[k])
        thickness = float(columns.possible[columns.cation].mean())
        inside = DEFOCUS[0] <= defocus <= DEFOCUS[1] and tilt <= TILT
        told = np.array([defocus, tilt, thickness]) / UNITS
        rows.append(
            (clean.half().numpy(), classes, atoms, told, np.int64(inside), np.int64(number))
        )
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
        transfer = np.sin(np.pi * (0.0197 * rng.uniform(-200, 200) * q**2)) * np.exp(
            -((q / 0.7) ** 2)
        )
        noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((size, size))) * transfer).real
        clean = np.clip(1 + rng.uniform(0.05, 0.3) * noise / noise.std(), 0.05, None)
    elif kind == "crystal":
        clean = _lattice_image(rng, size)
    nothing = np.zeros((size, size), np.uint8)
    return (
        clean.astype(np.float16),
        nothing,
        nothing + np.uint8(255),
        np.zeros(3),
        np.int64(2),
        np.int64(-1),
    )


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
