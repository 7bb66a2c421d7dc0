"""What the network that counts at sites learns from, and how it is taught.

Clean images of slabs with the sites of their crystal and the atoms at each; sites beyond the
surface hold none. Of a part of the images the sites are said to be where they are not, so that the
network learns to tell; windows are turned over by what leaves the crystal as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from insitu.counting.poisson import Poisson
from insitu.learning import checkpoints
from insitu.learning.training import Result, Settings, train
from insitu.measure.occupancy.frames import ColumnCounter, Looks, Told, windows_at
from insitu.measure.occupancy.learning import DOSES
from insitu.measure.occupancy.network import MOST, PIXEL, UNITS, log_occupancy
from insitu.measure.occupancy.sites import ZONES, refined, sites_in
from insitu.measure.occupancy.slabs import DEFOCUS, TILT, draw_optics, slabs, views_of
from insitu.simulate.ceria import FRAMES, Slab

Array = NDArray[np.float64]

SETTINGS = Settings(
    steps=40_000,
    optimiser="adam",
    learning_rate=1e-3,
    warm_up=100,
    average=0.998,
    bfloat16=True,
    validate_every=1000,
    save_every=1000,
)
ASKED = 64  # sites of an image in a step
LAME = 0.3  # share of images whose sites are said to be elsewhere
AXES = {"110": ([0.0, 0.0, 1.0], [1.0, 1.0, 0.0]), "100": ([0.0, 0.0, 1.0], [0.0, 1.0, 0.0])}


class SitePool(NamedTuple):
    """Clean images, and their sites, padded to equal numbers."""

    clean: Tensor  # (n, y, x) half precision, vacuum = 1
    zone: Tensor  # (n,) 1 for [110], 0 for [100]
    vectors: Tensor  # (n, 2, 2) sides of the cell [A]
    places: Tensor  # (n, sites, 2) [A]
    cation: Tensor  # (n, sites) bool
    atoms: Tensor  # (n, sites) uint8, 255 is padding
    possible: Tensor  # (n, sites) uint8, 0 beyond the slab
    conditions: Tensor  # (n, 3), in UNITS
    inside: Tensor  # (n,) 1 where all are of the ranges, 0 where not
    fits: Tensor  # (n,) 1 where the sites are where they are said to be


def draw_sites(
    folder: Path, part: str, images: int, *, size: int = 128, seed: int = 0, progress: bool = False
) -> SitePool:
    """Draw clean images of the slabs of a part, with the sites of their crystals.

    Parameters
    ----------
    folder : Path
        With blocks of waves.
    part : str
        `train`, `validation` or `test`.
    images : int
        Of each slab.
    size : int
        Their rows and columns, of 0.2 A each.
    seed : int
        Of the draw.
    progress : bool
        Show a bar.
    """
    rows: list[tuple[Any, ...]] = []
    for specimen in tqdm(list(slabs(folder, part)), "images of sites", disable=not progress):
        rng = np.random.default_rng([seed, specimen.recipe.seed])
        optics = draw_optics(rng, images)
        turns = rng.uniform(0, 360, images)
        shift = rng.uniform(-0.5, 0.5, (images, 2)) * np.array(specimen.wave.extent) * [0.6, 1]
        focal_points = int(rng.choice([1, 1, 7]))
        views = views_of(
            specimen, optics, rotation=turns, shift=shift, size=size, focal_points=focal_points
        )
        columns, recipe = specimen.columns, specimen.recipe
        for k, turn in enumerate(turns):
            places, number = views.places[k] * PIXEL, views.column[k]
            found = _sites_of(recipe, float(turn), places, columns.cation[number], size)
            if found is None:
                continue
            vectors, sites, kind = found
            distance, nearest = cKDTree(places).query(sites)
            here = number[nearest]
            some = (distance < 0.7) & (columns.cation[here] == kind)
            held = [np.where(some, v[here], 0) for v in (columns.atoms, columns.possible)]
            defocus = float(torch.as_tensor(optics.defocus)[k])
            inside = DEFOCUS[0] <= defocus <= DEFOCUS[1] and specimen.tilt <= TILT
            told = np.array([defocus, specimen.tilt, specimen.thickness]) / UNITS
            image = views.clean[k].half().numpy()
            zone = float(recipe.zone == "110")
            rows.append((image, zone, vectors, sites, kind, *held, told, float(inside)))
    return _padded(rows)


def _padded(rows: list[tuple[Any, ...]]) -> SitePool:
    most = max(len(row[3]) for row in rows)
    fills = {3: 0, 4: 0, 5: 255, 6: 0}
    parts = []
    for k in range(len(rows[0])):
        column = [np.asarray(row[k]) for row in rows]
        if k in fills:
            column = [
                np.pad(
                    c,
                    [(0, most - len(c))] + [(0, 0)] * (c.ndim - 1),
                    constant_values=fills[k],
                )
                for c in column
            ]
        parts.append(torch.from_numpy(np.stack(column)))
    clean, zone, vectors, places, cation, atoms, possible, told, inside = parts
    return SitePool(
        clean,
        zone.float(),
        vectors.float(),
        places.float(),
        cation,
        atoms.to(torch.uint8),
        possible.to(torch.uint8),
        told.float(),
        inside.float(),
        torch.ones(len(rows)),
    )


def _sites_of(
    recipe: Slab, turn: float, places: Array, cation: NDArray[np.bool_], size: int
) -> tuple[Array, Array, NDArray[np.bool_]] | None:
    """Vectors of the cell, sites and kinds in an image of a slab whose columns are known."""
    if cation.sum() < 6:
        return None
    rows = np.array(FRAMES[recipe.zone, recipe.normal], float)
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    zone, angle = ZONES[recipe.zone], np.deg2rad(turn)
    vectors = np.empty((2, 2))
    for k, axis in enumerate(AXES[recipe.zone]):
        along = np.array(axis) / np.linalg.norm(axis)
        y, x = -along @ rows[1], along @ rows[0]
        turned = (np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y)
        vectors[k] = np.array(turned) * zone.sides[k]
    origin = places[cation][0]
    for _ in range(3):
        sites, kind = sites_in(zone, origin, vectors, (size, size))
        better = refined(origin, vectors, sites, kind, places, cation, 0.8)
        if better is None:
            return None
        origin, vectors = better
    return (vectors, *sites_in(zone, origin, vectors, (size, size)))


def make_looks(
    pool: SitePool, number: int, *, images: int = 24, seed: int = 0, straight: bool = False
) -> tuple[Looks, SitePool]:
    """Batch `number` of an endless series, and its truth: the same whenever it is asked for.

    With `straight` all sites are where they are, and none is turned over.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    chosen = torch.randint(len(pool.clean), (images,), generator=generator)
    truth = SitePool(*(part[chosen] for part in pool))
    low, high = np.log(DOSES)
    dose = torch.exp(low + (high - low) * torch.rand(images, generator=generator))
    counts = Poisson().sample(truth.clean.float() * dose[:, None, None] * PIXEL**2, generator)
    away = counts / counts.mean((1, 2), keepdim=True).clamp(min=1e-3) - 1
    lame = torch.ones(images)
    vectors = truth.vectors
    if not straight:
        truth, lame = _misplaced(truth, generator)
        signs = torch.randint(2, (images, 2, 1), generator=generator) * 2 - 1
        swapped = (torch.rand(images, generator=generator) < 0.5) & (truth.zone == 0)
        vectors = truth.vectors * signs
        vectors = torch.where(swapped[:, None, None], vectors.flip(1), vectors)
        vectors = vectors + 0.04 * torch.randn(images, 2, 2, generator=generator)
        away_by = 0.07 * torch.randn(images, 1, 2, generator=generator)
        truth = truth._replace(places=truth.places + away_by)
    there = (truth.atoms > 0) & (truth.atoms < 255)
    even = torch.rand(there.shape, generator=generator)
    weight = torch.where(there, 0.6 + 0.4 * even, 0.12 * even) * (truth.atoms < 255)
    windows = windows_at(away, truth.places, vectors)
    looks = Looks(
        windows, weight * lame[:, None], truth.cation, truth.places, truth.zone, dose.float()
    )
    return looks, truth


def _misplaced(truth: SitePool, generator: torch.Generator) -> tuple[SitePool, Tensor]:
    """Some images with the sites of another one, or moved; weights of all.

    Half of those that are moved are moved to another centre of symmetry of the cell, where an image
    looks most alike; the others by 0.8 to 2.2 A.
    """
    images = len(truth.clean)
    drawn = torch.rand(images, generator=generator)
    other, moved = drawn < 0.2 * LAME, (drawn >= 0.2 * LAME) & (drawn < LAME)
    order = torch.randperm(images, generator=generator)
    parts = truth._asdict()
    for name in ("zone", "vectors", "places", "cation", "atoms"):
        part = parts[name]
        parts[name] = torch.where(other.view(-1, *[1] * (part.ndim - 1)), part[order], part)
    angle = 2 * np.pi * torch.rand(images, generator=generator)
    far = 0.8 + 1.4 * torch.rand(images, generator=generator)
    step = torch.stack([angle.cos(), angle.sin()], 1) * far[:, None]
    centres = {name: torch.from_numpy(zone.centres).float() for name, zone in ZONES.items()}
    number = torch.randint(12, (images,), generator=generator)
    shares = {name: some[number % len(some)] for name, some in centres.items()}
    share = torch.where(truth.zone[:, None] > 0, shares["110"], shares["100"])
    alike = torch.einsum("nk,nkx->nx", share, parts["vectors"])
    step = torch.where(torch.rand(images, 1, generator=generator) < 0.5, alike, step)
    parts["places"] = parts["places"] + (step * moved[:, None])[:, None]
    parts["fits"] = (~other & ~moved).float()
    weight = torch.where(other | moved, 0.3 + 0.7 * torch.rand(images, generator=generator), 1.0)
    return SitePool(**parts), weight


def loss_of(told: Told, truth: SitePool) -> Tensor:
    """Negative log-likelihood of atoms, conditions, of being inside, and of the sites' fit."""
    likelihood = log_occupancy(told.atoms.flatten(0, 1))
    atoms = truth.atoms.long().clamp(max=MOST).flatten()
    nll = -likelihood.gather(1, atoms[:, None])[:, 0].view(truth.atoms.shape)
    weight = (truth.atoms < 255) * torch.where(truth.possible > 0, 1.0, 0.15)
    weight = weight * (torch.where(truth.inside > 0, 1.0, 0.3) * truth.fits)[:, None]
    away = (truth.conditions - told.conditions) * torch.exp(-told.spread)
    conditions = ((0.5 * away**2 + told.spread).mean(1) * truth.fits).mean()
    entropy = functional.binary_cross_entropy_with_logits
    inside = entropy(told.inside, truth.inside, weight=truth.fits)
    fits = entropy(told.fits, truth.fits)
    sites: Tensor = (nll * weight).sum() / weight.sum().clamp(min=1)
    return sites + 0.3 * conditions + 0.2 * inside + 0.2 * fits


def learn_columns(
    learned: SitePool,
    judged: SitePool,
    settings: Settings = SETTINGS,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Result:
    """Train the network that counts at sites.

    Parameters
    ----------
    learned, judged : SitePool
        Of the slabs for training and for validation.
    settings : Settings
        How long and how fast.
    seed : int
        Of the first weights and of the batches.
    checkpoint : Path, optional
        Where the state is kept, from which a run that was killed goes on.
    device : device
        Where to train.
    progress : bool
        Show a bar.
    """
    network = checkpoints.seeded(ColumnCounter, seed).to(device)

    def moved(looks: Looks, truth: SitePool) -> tuple[Looks, SitePool]:
        return Looks(*(p.to(device) for p in looks)), SitePool(*(p.to(device) for p in truth))

    held = [moved(*make_looks(judged, k, seed=7)) for k in range(12)]

    def loss(net: nn.Module, step: int) -> Tensor:
        looks, truth = moved(*make_looks(learned, step, seed=seed))
        generator = torch.Generator().manual_seed(step)
        asked = torch.randint(truth.atoms.shape[1], (len(truth.atoms), ASKED), generator=generator)
        row, asked = torch.arange(len(asked), device=device)[:, None], asked.to(device)
        some = truth._replace(atoms=truth.atoms[row, asked], possible=truth.possible[row, asked])
        return loss_of(net(looks, asked), some)

    def validate(net: nn.Module) -> float:
        return float(np.mean([float(loss_of(net(looks), truth)) for looks, truth in held]))

    about = {"seed": seed, "images": len(learned.clean), "options": dict(network.options)}
    return train(
        network, loss, validate, settings, checkpoint=checkpoint, about=about, progress=progress
    )
