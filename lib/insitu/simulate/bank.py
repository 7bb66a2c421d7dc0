"""The exit-wave bank, and training images made of it on the fly, without end.

A bank is a zarr v3 store of electron waves behind many specimens. Every wave is kept as its
Fourier coefficients within an aperture, in half precision, 0.1 MB each; its specimen can be
built again from the recipe that stands beside it. Clean images are drawn from the waves with
random optics, pixel size and orientation, faster than they could be read from a disk; a detector
(`insitu.counting`) makes counts of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from insitu import InputError
from insitu.checks import one_of
from insitu.simulate import specimens
from insitu.simulate.imaging import Optics, image
from insitu.simulate.specimens import Recipe
from insitu.simulate.waves import Wave, band_limited, exit_wave, in_threads, wavelength

SEMIANGLE = 32.0  # what is kept of a wave [mrad]; at 300 kV this is 0.62 A
FIELD = 51.0  # [A]
PARTS = ("train",) * 8 + ("validation", "test")  # of every ten structures
_SCALE = 256.0  # keeps weak coefficients out of the subnormal numbers of half precision


def random_recipe(seed: int, index: int) -> Recipe:
    """Specimen number `index` of the bank with this seed: the same whatever the bank's size."""
    rng = np.random.default_rng([seed, index])
    for _ in range(100):
        diameter = rng.uniform(14, 38)
        tilt = rng.uniform(0, 4) * rng.choice([-1, 1]) * (rng.random() < 0.75)
        recipe = Recipe(
            diameter=diameter,
            truncation=rng.uniform(0.95, 1.74),
            sunk=rng.uniform(0, 0.8),
            defect=str(rng.choice(list(specimens.DEFECTS))),
            thickness=rng.uniform(30, 60),
            trilayers=int(rng.integers(2, 6)),
            tilt=(tilt, 0.0) if rng.random() < 0.5 else (0.0, tilt),
            oxygen_vacancies=int(rng.integers(0, 6)),
            cerium_vacancies=int(rng.integers(0, 3)),
            roughness=rng.uniform(0, 0.12),
            field=FIELD,
            seed=int(rng.integers(2**31)),
        )
        try:
            specimens.build(recipe)
        except InputError:  # it does not fit into the field
            continue
        return recipe
    raise RuntimeError(f"no specimen fits into {FIELD} A")


def packed_wave(recipe: Recipe) -> NDArray[np.float16]:
    """Fourier coefficients of what the specimen of a recipe does to a wave, (2, ky, kx)."""
    wave = band_limited(exit_wave(specimens.build(recipe)), SEMIANGLE)
    spectrum = torch.fft.fft2(wave.values[0] - 1, norm="forward") * _SCALE
    ky, kx = (torch.fft.fftfreq(n) * n for n in spectrum.shape)
    limit = SEMIANGLE * 1e-3 / wave.wavelength * wave.extent[0] + 1
    spectrum[torch.hypot(ky[:, None], kx) > limit] = 0
    return torch.view_as_real(spectrum).movedim(-1, 0).numpy().astype(np.float16)


def make_bank(path: Path | str, count: int, *, seed: int = 0, workers: int | None = None) -> Path:
    """Simulate a bank, or go on with one that was interrupted.

    Parameters
    ----------
    path : Path
        Folder of the store. While it is not whole it is called `<path>.part`.
    count : int
        Number of structures.
    seed : int
        Of the structures. Wave i depends on the seed and on i alone.
    workers : int, optional
        Threads; by default one for each core.

    Raises
    ------
    InputError
        If the path exists or cannot be written, the unfinished bank beside it is another one, or
        the disk is full.
    """
    path = Path(path)
    if count < 1:
        raise InputError(f"count: got {count}, allowed is 1 or more")
    if path.exists():
        raise InputError(f"{path} exists; choose another name, or remove it")
    unfinished = path.with_name(path.name + ".part")
    recipes = [random_recipe(seed, i) for i in tqdm(range(count), "structures", leave=False)]
    width = specimens.periods(FIELD) * specimens.PERIOD
    side = 2 * int(np.ceil(SEMIANGLE * 1e-3 / wavelength(300e3) * width)) + 2
    need = count * side**2 * 4
    about = {
        "what": "electron waves behind Pt on CeO2, coefficients within the aperture, x 256",
        "seed": seed,
        "extent": [width, width],
        "energy": 300e3,
        "semiangle_mrad": SEMIANGLE,
        "recipes": [asdict(r) for r in recipes],
        "licence": "CC-BY-4.0",
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(path.parent).free < 1.1 * need:
            raise InputError(f"{path.parent}: the bank needs {need / 1e6:.0f} MB, less are free")
        if unfinished.exists():
            if not (unfinished / "done" / "zarr.json").is_file():  # killed before it had begun
                raise InputError(f"{unfinished} is no bank that could go on; remove it")
            store: Any = zarr.open_group(unfinished, mode="r+")
            if json.dumps(dict(store.attrs)) != json.dumps(about):
                raise InputError(f"{unfinished} belongs to another bank; remove it")
        else:
            store = zarr.create_group(unfinished, attributes=about)
            store.create_array(
                "waves", shape=(count, 2, side, side), chunks=(1, 2, side, side), dtype="float16"
            )
            store.create_array("done", shape=(count,), chunks=(count,), dtype="bool")
        done = store["done"][:]
        missing = np.flatnonzero(~done).tolist()
        waves = in_threads(packed_wave, [recipes[i] for i in missing], workers)
        for index, wave in tqdm(zip(missing, waves, strict=True), "exit waves", len(missing)):
            store["waves"][index] = wave
            done[index] = True
            store["done"][:] = done
        unfinished.replace(path)
    except OSError as error:
        raise InputError(
            f"{unfinished} could not be written ({error.strerror or error}); free some space and "
            "start again, what is there will be used"
        ) from None
    return path


class Bank:
    """A bank that was opened: its waves in memory, its recipes, its parts.

    Structures 8, 18, ... are for validation, 9, 19, ... for tests, all others for training.
    """

    def __init__(self, path: Path | str) -> None:
        try:
            store: Any = zarr.open_group(path, mode="r")
            about = dict(store.attrs)
            self.recipes = [Recipe(**{**r, "tilt": tuple(r["tilt"])}) for r in about["recipes"]]
            self.extent = (float(about["extent"][0]), float(about["extent"][1]))
            self.energy = float(about["energy"])
            packed_waves = store["waves"][:]
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise InputError(f"{path} is no bank of exit waves ({error})") from None
        if len(packed_waves) != len(self.recipes) or not np.isfinite(packed_waves).all():
            raise InputError(f"{path} is damaged; make it again")
        self.packed = torch.from_numpy(packed_waves)

    def __len__(self) -> int:
        return len(self.recipes)

    def wave(self, index: int) -> Wave:
        """Return the wave behind structure `index`."""
        spectrum = torch.view_as_complex(
            (self.packed[index].float() / _SCALE).movedim(0, -1).contiguous()
        )
        values = torch.fft.ifft2(spectrum, norm="forward") + 1
        return Wave(values[None], self.extent, self.energy)

    def part(self, name: str) -> list[int]:
        """Return the numbers of the structures of a part: train, validation or test."""
        one_of("part", name, dict.fromkeys(PARTS))
        return [i for i in range(len(self)) if PARTS[i % len(PARTS)] == name]


@dataclass(frozen=True)
class Conditions:
    """Ranges from which the conditions of an image are drawn, evenly."""

    pixel_size: tuple[float, float] = (0.05, 0.25)  # [A]
    defocus: tuple[float, float] = (-150.0, 200.0)  # [A]
    cs: tuple[float, float] = (-15e4, -10e4)  # [A]
    c5: tuple[float, float] = (2e7, 7e7)  # [A]
    astigmatism: tuple[float, float] = (0.0, 15.0)  # [A]
    coma: tuple[float, float] = (0.0, 200.0)  # [A]
    trefoil: tuple[float, float] = (0.0, 200.0)  # [A]
    focal_spread: tuple[float, float] = (30.0, 50.0)  # [A]
    vibration: tuple[float, float] = (0.1, 0.4)  # [A]
    rotation: tuple[float, float] = (0.0, 360.0)  # [degrees]
    focal_points: Sequence[int] = (1, 7)  # how the focal spread is treated, see `image`


class Sample(NamedTuple):
    """Clean images of one structure, and how they were taken."""

    clean: Tensor  # (n, y, x), vacuum = 1
    pixel_size: float  # [A]
    structure: int  # its number in the bank
    optics: Optics
    rotation: Tensor  # (n,) [degrees]
    shift: tuple[Tensor, Tensor]  # (n,) each [A]


def sample(
    bank: Bank,
    structures: Sequence[int],
    number: int,
    *,
    images: int = 8,
    size: int = 128,
    conditions: Conditions | None = None,
    seed: int = 0,
) -> Sample:
    """Make sample `number` of an endless series: the same for the same seed.

    Parameters
    ----------
    bank : Bank
        Where the waves come from.
    structures : sequence of int
        From which to choose one, such as `bank.part("train")`.
    number : int
        Which sample.
    images : int
        How many, of one structure and pixel size; all else differs.
    size : int
        Their rows and columns.
    conditions : Conditions, optional
        The ranges of everything that is drawn.
    seed : int
        Of the series.
    """
    conditions = conditions or Conditions()
    rng = np.random.default_rng([seed, number])

    def draw(limits: tuple[float, float]) -> Tensor:
        values = rng.uniform(*limits, size=images)
        return torch.tensor(values, dtype=torch.float32)

    structure = int(rng.choice(np.asarray(structures)))
    pixel_size = float(rng.uniform(*conditions.pixel_size))
    names = ("defocus", "cs", "c5", "astigmatism", "coma", "trefoil", "focal_spread", "vibration")
    drawn: dict[str, Any] = {name: draw(getattr(conditions, name)) for name in names}
    drawn |= {f"{name}_angle": draw((0, 360)) for name in ("astigmatism", "coma", "trefoil")}
    optics = Optics(**drawn)
    rotation = draw(conditions.rotation)
    # aim at a point of the specimen, or near it: the middle of the field holds the particle
    aim_y, aim_x = (draw((-0.42 * length, 0.42 * length)) for length in bank.extent)
    turn = torch.deg2rad(rotation)
    shift = (
        -(torch.cos(turn) * aim_y + torch.sin(turn) * aim_x),
        -(torch.cos(turn) * aim_x - torch.sin(turn) * aim_y),
    )
    clean = image(
        bank.wave(structure),
        optics,
        pixel_size=pixel_size,
        shape=(size, size),
        rotation=rotation,
        shift=shift,
        focal_points=int(rng.choice(np.asarray(conditions.focal_points))),
    ).clamp_(min=0)
    return Sample(clean, pixel_size, structure, optics, rotation, shift)
