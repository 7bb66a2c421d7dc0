"""Slabs of ceria, the waves behind them, and images with the truth of every pixel.

A slab costs a second of multislice, an image of it milliseconds: waves are computed once, in blocks
of fifty on the disk, and drawn from with random optics, turns and shifts (`insitu.simulate.bank`
does so for platinum). Slabs 8, 18, ... are for validation and calibration, 9, 19, ... for tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor
from tqdm import tqdm

from insitu import InputError
from insitu.checks import one_of
from insitu.files import whole
from insitu.measure.occupancy.network import PIXEL
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

    @property
    def tilt(self) -> float:
        """By how much it is tilted [degrees]."""
        return float(np.hypot(*self.recipe.tilt))

    @property
    def thickness(self) -> float:
        """Sites in a column of cerium, in the mean."""
        return float(self.columns.possible[self.columns.cation].mean())


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


def slabs(folder: Path, part: str) -> Iterator[Specimen]:
    """The slabs of a part (train, validation or test), from the blocks of waves in a folder.

    Raises
    ------
    InputError
        If there are no waves, or no such part.
    """
    one_of("part", part, dict.fromkeys(PARTS))
    paths = sorted(folder.glob("waves-*.npz"))
    if not paths:
        raise InputError(f"waves: {folder} has none; make them with `make_waves`")
    for path in paths:
        seed, begin = (int(number) for number in path.stem.split("-")[1:])
        with np.load(path) as block:
            spectra, extents, lengths = (block[k] for k in ("spectra", "extents", "lengths"))
            parts = np.split(block["columns"], np.cumsum(lengths)[:-1])
        for k, (spectrum, extent, truth) in enumerate(zip(spectra, extents, parts, strict=True)):
            if PARTS[(begin + k) % len(PARTS)] != part:
                continue
            packed = torch.from_numpy(spectrum).float().movedim(0, -1).contiguous() / _SCALE
            values = torch.fft.ifft2(torch.view_as_complex(packed), norm="forward") + 1
            y, x, cation, atoms, sites, surface = truth.T
            columns = Columns(y, x, cation > 0, atoms.astype(int), sites.astype(int), surface > 0)
            wave = Wave(values[None], (float(extent[0]), float(extent[1])))
            yield Specimen(random_slab(seed, begin + k), wave, columns)


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
    specimen: Specimen,
    optics: Optics,
    *,
    rotation: NDArray[np.float64],
    shift: NDArray[np.float64],
    size: int = 128,
    pixel_size: float = PIXEL,
    focal_points: int = 7,
) -> Views:
    """Images (one for each rotation [degrees] and shift (n, 2) [A]) with their columns."""
    wave, columns = specimen.wave, specimen.columns
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
