"""How many atoms are in each column of an image: a table, two maps, and when not to believe them.

`load_counter()` opens two networks with their calibration. One says of every pixel whether it is
of a column (`insitu.measure.occupancy.network`); from its maps follows where the crystal lies
(`sites`), and the other one counts at the sites (`frames`). Intervals hold 90 % within bins of
species, dose, thickness, defocus and occupancy. An image unlike those that were taught is refused
in a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import fft
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn import functional

from insitu import InputError, checks
from insitu.denoise.binning import tiles
from insitu.denoise.local_wiener import mirrored
from insitu.learning import checkpoints
from insitu.measure.occupancy.frames import ColumnCounter, Looks, Told, windows_at
from insitu.measure.occupancy.intervals import Calibration
from insitu.measure.occupancy.network import (
    CLASSES,
    CONDITIONS,
    MOST,
    PIXEL,
    UNITS,
    AtomCounter,
)
from insitu.measure.occupancy.periods import APART, lattices_in, origins_of, share_of_lattice
from insitu.measure.occupancy.sites import (
    ZONES,
    Crystal,
    agreement_of,
    columns_of,
    crystals_in,
    elsewhere,
    everywhere,
    foreground_at,
    sites_in,
)

Array = NDArray[np.float64]

TILE, HALO = 256, 32  # pixels, of large images
BLOCK, MARGIN = 36.0, 9.0  # of sites that are looked at together, and what is around them [A]
SURE = 0.7  # agreement above which no lattice is looked for in the counts
CROP, STRIDE = 180, 20  # pixels in which its place is looked for, and between such parts
ORIGINS = 4  # places of such a lattice that are looked at closely
OTHERS = 2  # crystals whose cations are tried at each other centre of symmetry
FAINT = 0.3  # probability of a column, at least, where columns are too faint to be seen
AROUND = 40  # sites next to one that tell whether it lies in vacuum,
EMPTY = 0.2  # where less of a column is seen than this share of what is seen elsewhere
NONE = -20.0  # logit of an atom there: far from all columns the network was taught nothing
DISC = 0.6  # radius of a column in the map of atoms [A]
DOSES, PIXELS = (20.0, 10_000.0), (0.04, 0.26)  # what it may be shown [e-/A^2], [A]


class Sites(NamedTuple):
    """What is said of the n sites of the crystal that fits best, and of the image."""

    crystal: Crystal
    atoms: Tensor  # (n, 12) logits of one atom more
    conditions: Array  # of CONDITIONS: [A], [degrees], [atoms]
    inside: float  # logits
    evidence: float = 0.0  # log-odds of the sites being where they are said to be


@dataclass(frozen=True)
class Counted:
    """The columns of an image, arrays (n,), and maps of it."""

    y: Array  # [A] from the middle of pixel (0, 0)
    x: Array
    cation: NDArray[np.bool_]
    presence: Array  # probability of one atom or more
    probability: Array  # (n, 13) of 0 to 12 atoms
    low: Array  # limits of the 90 % interval of the number of atoms
    high: Array
    classes: NDArray[np.float32]  # (3, y, x) probabilities of CLASSES, pixel by pixel
    labels: NDArray[np.uint8]  # (y, x) 1 where the table has a cation, 2 an anion, else 0
    atoms: NDArray[np.float32]  # (y, x) expected atoms of the column there, NaN off the columns
    pixel_size: float  # of the maps [A]
    conditions: dict[str, float]  # CONDITIONS [A], [degrees], [atoms]
    abstains: str  # why it should not be believed; empty where it may be

    @property
    def mean(self) -> Array:
        """Expected number of atoms (n,)."""
        return np.asarray(self.probability @ np.arange(MOST + 1))

    def rows(self) -> list[dict[str, Any]]:
        """One row for each column, for a csv file."""
        names = np.where(self.cation, "cation", "anion")
        values = (self.y, self.x, names, self.presence, self.mean, self.low, self.high)
        keys = ("y_angstrom", "x_angstrom", "species", "presence", "atoms", "low_90", "high_90")
        return [dict(zip(keys, row, strict=True)) for row in zip(*values, strict=True)]


@dataclass
class OccupancyCounter:
    """Two networks and their calibration: from counts to a table of columns.

    Examples
    --------
    >>> counter = load_counter()
    >>> noise = np.random.default_rng(0).poisson(4.0, (128, 128))
    >>> bool(counter(noise, pixel_size=0.2).abstains)  # in a sentence
    True
    """

    network: AtomCounter
    columns: ColumnCounter
    calibration: Calibration

    def __call__(self, counts: ArrayLike, pixel_size: float) -> Counted:
        """Count the atoms in every column of an image.

        Parameters
        ----------
        counts : (y, x) array
            Electrons per pixel.
        pixel_size : float
            [A].

        Raises
        ------
        InputError
            If the counts are no image, NaN or negative, or show less than 10 A.
        """
        image = np.asarray(counts)
        checks.positive("pixel_size", pixel_size, "A")
        if image.ndim != 2 or min(image.shape) * pixel_size < 10:
            raise InputError(
                f"counts: expected an image (y, x) of at least 10 A, got shape {image.shape} with "
                f"pixels of {pixel_size:g} A"
            )
        checks.finite("counts", image)
        checks.not_negative("counts", image)
        dose = float(image.mean(dtype=np.float64)) / pixel_size**2
        canonical, steps = resampled(image, pixel_size)
        classes = self.classes(torch.from_numpy(canonical))
        seen = self.sites(canonical, classes, dose)
        shown = (classes / self.calibration.classes).softmax(0).numpy()
        if seen is None:
            told = np.full(len(CONDITIONS), np.nan)
            places, cation, probability = np.zeros((0, 2)), np.zeros(0, bool), np.zeros((0, 13))
        else:
            told, cation = seen.conditions, seen.crystal.cation
            probability = self.calibration.probability(seen.atoms, cation)
            kept = probability[:, 0] < 0.5
            places, cation = seen.crystal.places[kept], cation[kept]
            probability = probability[kept]
        low, high = self.calibration.interval(probability, cation, dose, told)
        mean = probability @ np.arange(MOST + 1)
        at = (places / PIXEL + 0.5) * steps - pixel_size / 2
        maps = [
            _painted(places / PIXEL, v, canonical.shape) for v in (np.where(cation, 1, 2), mean)
        ]
        return Counted(
            at[:, 0],
            at[:, 1],
            cation,
            1 - probability[:, 0],
            probability,
            low,
            high,
            shown,
            np.nan_to_num(maps[0]).astype(np.uint8),
            maps[1],
            steps[0],
            dict(zip(CONDITIONS, told.tolist(), strict=True)),
            self._why(dose, pixel_size, seen),
        )

    @torch.no_grad()
    def classes(self, image: Tensor) -> Tensor:
        """Logits of CLASSES (3, y, x) of an image in pixels of 0.2 A, in tiles if it is large."""
        device = next(self.network.parameters()).device
        rows, columns = image.shape
        unit = self.network.unit
        whole = mirrored(image[None, None], (0, -rows % unit), (0, -columns % unit))
        side = TILE if max(whole.shape) > TILE + 2 * HALO else max(whole.shape)
        maps = torch.empty(len(CLASSES), *whole.shape[2:])
        for place, seen, inner in tiles(whole.shape[2:], side, HALO):
            part = whole[:, :, seen[0], seen[1]].to(device)
            some = self.network(part.contiguous(memory_format=torch.channels_last)).classes
            maps[:, place[0], place[1]] = some[0, :, inner[0], inner[1]].cpu()
        return maps[:, :rows, :columns]

    def sites(self, canonical: NDArray[np.float32], classes: Tensor, dose: float) -> Sites | None:
        """Sites of the crystal for which most speaks, None where there is no ceria.

        Parameters
        ----------
        canonical : (y, x) array
            Counts in pixels of 0.2 A.
        classes : (3, y, x) tensor
            Logits of CLASSES.
        dose : float
            [e-/A^2].
        """
        part, corner = _fullest(classes)
        crystals, facts = self.candidates(canonical[part], classes[:, *part], dose)
        if not crystals:
            return None
        odds = facts @ self.calibration.evidence
        best = crystals[int(odds.argmax())]
        if canonical.size > canonical[part].size:
            best = everywhere(best, corner, classes)
        seen = self.looked_at(canonical, best, foreground_at(classes, best.places), dose)
        return seen._replace(evidence=float(odds.max()))

    def candidates(
        self, canonical: NDArray[np.float32], classes: Tensor, dose: float
    ) -> tuple[list[Crystal], Array]:
        """Ways in which ceria may lie in a small image, and what speaks for each.

        Returns
        -------
        list of n Crystal, (n, 5) array
            What the network says of sites weighted by what is seen there, and of all alike
            [logits]; the share of columns seen that agree, the share of the power that is the
            lattice's; and 1. `Calibration.evidence` weighs them.
        """
        columns = columns_of(classes)
        crystals = crystals_in(classes, columns)
        if max((agreement_of(crystal, columns) for crystal in crystals), default=0) < SURE:
            for zone, vectors in lattices_in(canonical):
                crystals += self.placed(canonical, classes, zone, vectors, dose)
        away = _away(canonical)

        def facts_of(crystal: Crystal) -> tuple[float, ...]:
            weight = foreground_at(classes, crystal.places)
            told = self.told(away, crystal, np.stack([weight, np.ones_like(weight)]), dose)
            agreed = agreement_of(crystal, columns)
            share = share_of_lattice(canonical, crystal.zone, crystal.vectors)
            return (*told.fits.tolist(), agreed, share, 1.0)

        facts = list(map(facts_of, crystals))
        odds = np.array(facts) @ self.calibration.evidence if facts else np.zeros(0)
        for best in np.argsort(-odds)[:OTHERS]:
            others = elsewhere(crystals[best], canonical.shape)
            crystals, facts = crystals + others, facts + list(map(facts_of, others))
        return crystals, np.array(facts)

    def placed(
        self,
        canonical: NDArray[np.float32],
        classes: Tensor,
        zone: str,
        vectors: Array,
        dose: float,
    ) -> list[Crystal]:
        """Crystals with these sides that fit best, of all places that their cell may have."""
        away, shape = _away(canonical), canonical.shape

        def at(origin: Array) -> Crystal:
            return Crystal(zone, vectors, *sites_in(ZONES[zone], origin, vectors, shape))

        def fits(origin: Array) -> float:
            crystal = at(origin)
            weight = np.minimum(foreground_at(classes, crystal.places) + FAINT, 1)
            return float(self.told(away, crystal, weight[None], dose).fits)

        origins = origins_of(zone, vectors, np.array(shape) // 2 * PIXEL)
        steps = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]) * APART / 2
        best = sorted(origins, key=fits, reverse=True)[:ORIGINS]
        return [at(max(first + steps, key=fits)) for first in best]

    @torch.no_grad()
    def told(self, away: Tensor, crystal: Crystal, weight: Array, dose: float) -> Told:
        """What the network says of the sites of a crystal, and of the first of them alone.

        Parameters
        ----------
        away : (1, y, x) tensor
            Counts over their mean, less one.
        crystal : Crystal
            And its n sites.
        weight : (k, n) array
            Probabilities that there is a column, k times.
        dose : float
            [e-/A^2].
        """
        first = torch.zeros(len(weight), 1, dtype=torch.long)
        return self.columns(_looks(away, crystal, weight, dose), first)

    @torch.no_grad()
    def looked_at(
        self, canonical: NDArray[np.float32], crystal: Crystal, weight: Array, dose: float
    ) -> Sites:
        """What the network says of the sites of a crystal, block by block.

        Parameters
        ----------
        canonical : (y, x) array
            Counts in pixels of 0.2 A.
        crystal : Crystal
            And its sites.
        weight : (n,) array
            Probability that there is a column.
        dose : float
            [e-/A^2].
        """
        away, blocks = _away(canonical), np.floor(crystal.places / BLOCK).astype(int)
        atoms = torch.empty(len(crystal.places), MOST)
        told, shares = [], []
        for block in np.unique(blocks, axis=0):
            own = np.flatnonzero((blocks == block).all(1))
            low, high = block * BLOCK - MARGIN, (block + 1) * BLOCK + MARGIN
            near = np.flatnonzero(((crystal.places >= low) & (crystal.places < high)).all(1))
            asked = torch.from_numpy(np.searchsorted(near, own))[None]
            some = self.columns(_looks(away, crystal.some(near), weight[None, near], dose), asked)
            atoms[own] = some.atoms[0]
            told.append(np.concatenate([some.conditions[0], some.inside]))
            shares.append(weight[own].sum() + 1e-3)
        around = weight[cKDTree(crystal.places).query(crystal.places, min(AROUND, len(weight)))[1]]
        around = around.reshape(len(weight), -1).mean(1)
        atoms[torch.from_numpy(around < EMPTY * around.max())] = NONE
        *conditions, inside = np.average(told, axis=0, weights=shares)
        return Sites(crystal, atoms, np.array(conditions) * UNITS, float(inside))

    def _why(self, dose: float, pixel_size: float, seen: Sites | None) -> str:
        if not PIXELS[0] <= pixel_size <= PIXELS[1]:
            return (
                f"pixels of {pixel_size:g} A are outside of {PIXELS[0]:g} to {PIXELS[1]:g} A, for "
                "which the networks were taught"
            )
        if not DOSES[0] <= dose <= DOSES[1]:
            return (
                f"{dose:.3g} e-/A^2 are outside of {DOSES[0]:g} to {DOSES[1]:g} e-/A^2, for which "
                "the networks were taught; sum frames"
            )
        if seen is None:
            return (
                "no ceria was found: there is no crystal in this image that the networks were "
                "taught"
            )
        worst = self.calibration
        if seen.evidence < worst.fits:
            return (
                "no lattice of ceria along [110] or [100] fits the image: check pixel size and "
                "crystal"
            )
        if seen.inside < worst.inside:
            return (
                "the image looks as if taken with another lens or tilt than was taught: at a "
                f"defocus of {seen.conditions[0]:.0f} A and {seen.conditions[1]:.1f} degrees, "
                "where -120 to 20 A and 0 to 4 degrees are known"
            )
        return ""


def load_counter(
    name: str | Path = "occupancy",
    sites: str | Path = "occupancy_sites",
    *,
    device: torch.device | str = "cpu",
) -> OccupancyCounter:
    """Open the counter that ships, or one from two .safetensors files, of pixels and of sites.

    Raises
    ------
    InputError
        If there is no such checkpoint, or it is not that of a counter.
    """
    paths = [checkpoints.find(n) for n in (name, sites)]
    opened = []
    for path, kind in zip(paths, (AtomCounter, ColumnCounter), strict=True):
        tensors, record = checkpoints.load(path)
        try:
            network = kind(**record["options"])
        except (KeyError, TypeError, ValueError):
            raise InputError(
                f"checkpoint: {path.name} is not that of an occupancy counter"
            ) from None
        checkpoints.fill(network, {k: v.float() for k, v in tensors.items()}, path.name)
        opened.append(network.eval())
    kept = record.get("calibration", {})
    pairs = {name: tuple(kept[name]) for name in ("atoms", "evidence") if name in kept}
    calibration = Calibration(**{**kept, **pairs})
    pixels = opened[0].to(device, memory_format=torch.channels_last)
    return OccupancyCounter(pixels, opened[1], calibration)


def _away(counts: NDArray[np.float32]) -> Tensor:
    """Counts (y, x) over their mean, less one: (1, y, x)."""
    return torch.from_numpy(counts / max(float(counts.mean()), 1e-3) - 1)[None]


def _fullest(classes: Tensor) -> tuple[tuple[slice, slice], Array]:
    """The part of an image with most columns, where its lattice is looked for; its corner [A]."""
    rows, columns = (min(CROP, n) for n in classes.shape[1:])
    share = functional.avg_pool2d(1 - classes.softmax(0)[:1], (rows, columns), STRIDE)[0]
    y, x = (STRIDE * int(k) for k in np.unravel_index(int(share.argmax()), share.shape))
    return (slice(y, y + rows), slice(x, x + columns)), np.array([y, x]) * PIXEL


def _looks(away: Tensor, crystal: Crystal, weight: Array, dose: float) -> Looks:
    """The n sites of a crystal, k times, with weights (k, n)."""
    k = len(weight)
    places = torch.from_numpy(crystal.places).float()[None]
    vectors = torch.from_numpy(crystal.vectors).float()[None]
    return Looks(
        windows_at(away, places, vectors).expand(k, -1, -1),
        torch.from_numpy(weight).float(),
        torch.from_numpy(crystal.cation)[None].expand(k, -1),
        places.expand(k, -1, -1),
        torch.tensor([float(crystal.zone == "110")]).expand(k),
        torch.tensor([dose]).float().clamp(DOSES[0] / 4, DOSES[1]).expand(k),
    )


def _painted(places: Array, values: Array, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A map (y, x) with discs of 0.6 A of values (n,) at places (n, 2) [px], NaN elsewhere."""
    if not len(places):
        return np.full(shape, np.nan, np.float32)
    grid = np.moveaxis(np.indices(shape), 0, -1)
    distance, nearest = cKDTree(places).query(grid, distance_upper_bound=DISC / PIXEL)
    padded = np.append(values, np.nan)  # what is near no column has the number of their end
    return np.where(np.isfinite(distance), padded[nearest], np.nan).astype(np.float32)


def resampled(image: NDArray[Any], pixel_size: float) -> tuple[NDArray[np.float32], Array]:
    """Counts in pixels of about 0.2 A, by cosine series, and the sides of these pixels [A].

    Frequencies that one of the two grids cannot hold are left out; white noise stays white.

    >>> coarse, steps = resampled(np.full((128, 64), 2.0), 0.1)
    >>> coarse.shape, steps.tolist(), float(coarse.mean().round(3))
    ((64, 32), [0.2, 0.2], 8.0)
    """
    sides = [max(1, round(n * pixel_size / PIXEL)) for n in image.shape]
    terms = fft.dctn(image.astype(np.float64), norm="forward")
    kept = [min(n, m) for n, m in zip(image.shape, sides, strict=True)]
    room = [(0, m - k) for m, k in zip(sides, kept, strict=True)]
    steps = np.array([n * pixel_size / m for n, m in zip(image.shape, sides, strict=True)])
    coarse = fft.idctn(np.pad(terms[: kept[0], : kept[1]], room), norm="forward")
    return (coarse * steps.prod() / pixel_size**2).astype(np.float32), steps
