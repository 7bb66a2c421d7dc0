"""Nanoparticles that change while they are tilted, and the tilt series recorded of them.

A phantom is drawn, and its metals diffuse, on a grid of twice the resolution of the truth that a
reconstruction is held against. Its projections are made there, by a projector of their own
(`projection.Projector`), and then binned; so is the truth. A reconstruction that repeats the
simulation's errors would look too good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from insitu import InputError, checks
from insitu.tomography.projection import Projector
from insitu.tomography.series import TiltSeries, tilt_series

Array = NDArray[np.float32]
GOLDEN = (5**0.5 - 1) / 2
SHAPES = {
    "alloying rod": "a core of gold in a rod of silver; the two mix",
    "alloying sphere": "a core of gold in a sphere of silver; the two mix",
    "alloying wire": "a core of gold in a long, thin rod of silver; the two mix",
    "rounding": "a rod becomes shorter and thicker; its volume stays",
}


@dataclass(frozen=True)
class Phantom:
    """A particle in a cube of `size` pixels, at moments between 0 and 1 of the experiment.

    Intensities are those of {term}`HAADF`: silver is 1, gold `contrast`. An atomic number Z counts
    as Z^p with p from 1.6 to 2, so that gold is 2.3 to 2.8 {cite}`pennycook1989`.

    Examples
    --------
    >>> rod = Phantom("alloying rod", size=16, moments=np.linspace(0, 1, 4))
    >>> rod.truth().shape
    (4, 16, 16, 16)
    >>> series, deviation = record(rod, [0, 40, -40, 70], rng=np.random.default_rng(0))
    >>> series.projections.shape
    (4, 16, 16)
    """

    kind: str
    size: int
    moments: NDArray[np.float64]  # (t,), rising
    diffusivity: float = 0.008  # of gold in silver [size^2 per whole experiment]
    contrast: float = 2.42  # (79/47)^1.7
    still: bool = False  # a control: nothing changes, all moments are the middle one

    def __post_init__(self) -> None:
        checks.one_of("kind", self.kind, SHAPES)
        moments = np.asarray(self.moments)
        if np.any(np.diff(moments) < 0) or moments.min() < 0 or moments.max() > 1:
            raise InputError("moments: they have to rise from 0 to 1 at most")
        object.__setattr__(self, "moments", np.full_like(moments, 0.5) if self.still else moments)

    def volumes(self) -> Iterator[Array]:
        """Yield one (2 z, 2 y, 2 x) volume a moment: two voxels a pixel, each way."""
        n = 2 * self.size
        grid = _grid(n)
        if not self.kind.startswith("alloying"):
            yield from (_density(_distance(self.kind, grid, m), n) for m in self.moments.tolist())
            return
        surface = _distance(self.kind, grid, 0.0)
        inside, solid = surface < 0, _density(surface, n)
        nearest = ndimage.distance_transform_edt(
            ~inside, return_distances=False, return_indices=True
        )
        rim = (solid > 0) & ~inside  # partly particle: of the composition next to it
        beside = tuple(index[rim] for index in nearest)
        gold = _density(_distance(self.kind + " core", grid, 0.0), n) * inside
        before = 0.0
        for moment in self.moments.tolist():
            gold = diffuse(gold, inside, self.diffusivity * n**2 * (moment - before))
            before = moment
            gold[rim] = gold[beside]
            yield solid * (1 + np.float32(self.contrast - 1) * gold)

    def truth(self) -> Array:
        """All moments, (t, z, y, x), each voxel the mean of eight."""
        return np.stack([_halved(v, (0, 1, 2)) for v in self.volumes()])


def diffuse(share: Array, inside: NDArray[np.bool_], amount: float) -> Array:
    """Let a share diffuse inside a particle, with no flux through its surface.

    Explicit finite volumes: what leaves a voxel arrives in its neighbour, so that the total stays.

    Parameters
    ----------
    share : array
        (z, y, x).
    inside : array of bool
        (z, y, x), the particle.
    amount : float
        Diffusivity times time [pixels^2].
    """
    steps = int(np.ceil(amount / 0.16))  # below the 1/6 at which it becomes unstable
    if steps == 0:
        return share
    box = ndimage.find_objects(inside.astype(np.int8))[0]
    part = share[box].astype(np.float32)
    faces = []  # their two sides, and how much goes through them
    for axis, (low, high) in enumerate(
        (
            (np.s_[:-1], np.s_[1:]),
            (np.s_[:, :-1], np.s_[:, 1:]),
            (np.s_[..., :-1], np.s_[..., 1:]),
        )
    ):
        is_open = inside[box][low] & inside[box][high]
        faces.append((axis, low, high, is_open * np.float32(amount / steps)))
    for _ in range(steps):
        fluxes = [np.diff(part, axis=axis) * through for axis, _, _, through in faces]
        for flux, (_, low, high, _) in zip(fluxes, faces, strict=True):
            part[low] += flux
            part[high] -= flux
    result = share.copy()
    result[box] = part
    return result


def _grid(n: int) -> list[Array]:
    """Places of n voxels along z, y and x, from -1/2 to 1/2."""
    across = ((np.arange(n) + 0.5) / n - 0.5).astype(np.float32)
    return list(np.meshgrid(across, across, across, indexing="ij", sparse=True))


def _distance(kind: str, grid: list[Array], moment: float) -> Array:
    """Distance from the surface in units of the cube, negative inside."""
    z, y, x = grid
    # the particle lies askew to the tilt axis and to the beam
    a, b = np.deg2rad(35.0), np.deg2rad(25.0)
    u = np.cos(a) * z + np.sin(a) * (np.cos(b) * x + np.sin(b) * y)
    v = -np.sin(a) * z + np.cos(a) * (np.cos(b) * x + np.sin(b) * y)
    w = -np.sin(b) * x + np.cos(b) * y
    if kind == "alloying rod":
        return _rod(u, v, w, 0.21, 0.24)
    if kind == "alloying rod core":
        return _rod(u - 0.06, v, w, 0.1, 0.155)
    if kind == "alloying sphere":
        return _rod(u, v, w, 0.0, 0.28)
    if kind == "alloying sphere core":
        return _rod(u - 0.04, v, w, 0.0, 0.15)
    if kind == "alloying wire":
        return _rod(u, v, w, 0.26, 0.16)
    if kind == "alloying wire core":
        return _rod(u + 0.08, v, w, 0.12, 0.1)
    first, last = 0.12, 0.19  # radii of a capsule that is rounding; its volume stays
    radius = first + (last - first) * moment
    start = np.pi * first**2 * 0.5 + 4 / 3 * np.pi * first**3
    return _rod(u, v, w, (start - 4 / 3 * np.pi * radius**3) / (2 * np.pi * radius**2), radius)


def _rod(u: Array, v: Array, w: Array, half: float, radius: float) -> Array:
    beyond = np.maximum(abs(u) - np.float32(half), 0)
    return np.sqrt(beyond**2 + v**2 + w**2) - np.float32(radius)


def _density(distance: Array, n: int) -> Array:
    """1 inside, 0 outside, and between over one voxel."""
    return np.clip(0.5 - distance * n, 0, 1).astype(np.float32)


def _halved(array: Array, axes: tuple[int, ...]) -> Array:
    """Mean of pairs along the axes."""
    for axis in axes:
        shape = (*array.shape[:axis], array.shape[axis] // 2, 2, *array.shape[axis + 1 :])
        array = array.reshape(shape).mean(axis + 1, dtype=np.float32)
    return array


def tilt_angles(order: str, number: int) -> NDArray[np.float64]:
    """Tilt angles from -70 to 70 degrees, in the order in which they are recorded.

    incremental: from one end to the other. golden: each a golden section of the range further,
    so that any few in a row cover it {cite}`kohler2004`. binary: the range halved again
    and again. interleaved: five sweeps, each between the tilts of the others.

    >>> tilt_angles("golden", 4).round(1)
    array([  0. , -53.5,  33. , -20.4])
    """
    checks.one_of("order", order, ("incremental", "golden", "binary", "interleaved"))
    if number < 2:
        raise InputError(f"angles: got {number}; give 2 or more")
    if order == "incremental":
        share = np.linspace(0, 1, number)
    elif order == "golden":
        share = np.asarray((np.arange(number) * GOLDEN + 0.5) % 1, np.float64)
    elif order == "binary":
        bits = [int(f"{k:b}"[::-1], 2) / 2 ** len(f"{k:b}") for k in range(number)]
        share = np.argsort(np.argsort(bits)) / (number - 1)
    else:
        share = np.concatenate([np.arange(k, number, 5)[:: 1 - 2 * (k % 2)] for k in range(5)])
        share = np.asarray(share / (number - 1), np.float64)
    return (2 * share - 1) * 70.0


def record(
    phantom: Phantom,
    angles: ArrayLike,
    *,
    noise: float = 0.01,
    shifts: ArrayLike | None = None,
    rng: np.random.Generator,
) -> tuple[TiltSeries, float]:
    """Record one projection of the phantom at each moment.

    Parameters
    ----------
    phantom : Phantom
        With as many moments as there are angles.
    angles : array_like
        (t,) [degrees].
    noise : float
        Standard deviation of Gaussian noise, as a share of the brightest pixel.
    shifts : array_like, optional
        (t,) of the tilt axis on the detector, by drift and jitter [pixels].
    rng : Generator
        Of the noise.

    Returns
    -------
    series : TiltSeries
        Projections are intensity times pixels; times are the numbers of the tilts.
    deviation : float
        Standard deviation of the noise, in the same unit.

    Raises
    ------
    InputError
        If there are not as many angles as moments.
    """
    angles = np.asarray(angles, dtype=float)
    if len(angles) != len(phantom.moments):
        raise InputError(f"angles: {len(angles)} for {len(phantom.moments)} moments; give one each")
    offsets = np.zeros(len(angles)) if shifts is None else np.asarray(shifts, dtype=float)
    projections = np.empty((len(angles), phantom.size, phantom.size), np.float32)
    for k, volume in enumerate(phantom.volumes()):
        A = Projector(angles[k], 2 * phantom.size, shifts=2 * offsets[k : k + 1])
        fine = A(_halved(volume, (0,)))[0]
        projections[k] = 0.5 * _halved(fine, (1,))  # lengths in pixels of the truth
    deviation = noise * float(projections.max())
    noisy = projections + deviation * rng.standard_normal(projections.shape)
    return tilt_series(noisy, angles), deviation
