"""Lattices of ceria in the power spectrum of counts, where no column can be seen by itself.

Near zero defocus a column is fainter than the noise of its pixels; the crystal is not, because
its few spatial frequencies gather the electrons of the whole image. They tell turn and spacing;
where in its cell the crystal lies is then for a network to say that looks at the mean column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from insitu.measure.occupancy.network import PIXEL
from insitu.measure.occupancy.sites import ZONES, Zone, turned

Array = NDArray[np.float64]

BAND = (0.22, 0.72)  # of frequencies that tell of a lattice [1/A]
SMOOTH = 8.0  # standard deviation of what is taken off before [px]
LOBE = 1.6  # radius of a reflection, in frequencies of the image
SEEN = 8.0  # standard deviations of the noise by which a lattice stands out, at least
SIZES = np.linspace(0.98, 1.02, 9)  # of a cell
APART = 0.45  # between two origins that are tried [A]


def spectrum_of(counts: NDArray[np.floating], pad: int = 1) -> NDArray[np.complex128]:
    """Fourier transform of an image.

    Shot noise has a mean square of 1; phases are about its middle.

    Parameters
    ----------
    counts : (y, x) array
        Electrons in pixels of 0.2 A.
    pad : int
        How much finer than usual frequencies are sampled.
    """
    part = counts.astype(np.float64)
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in part.shape))
    noise = max(float((window**2 * part).sum()), 1e-9)
    middle = np.array(part.shape) // 2
    away = (part - ndimage.gaussian_filter(part, SMOOTH, mode="nearest")) * window
    side = pad * max(part.shape)
    padded = np.pad(away, [(0, side - n) for n in part.shape])
    return np.asarray(fft.fft2(np.roll(padded, -middle, (0, 1))) / np.sqrt(noise))


def reflections(zone: Zone) -> Array:
    """Numbers (n, 2) of a zone's reflections within the band, one of each pair."""
    most = [int(BAND[1] * side) for side in zone.sides]
    index = np.array([(h, k) for h in range(most[0] + 1) for k in range(-most[1], most[1] + 1)])
    index = index[(index[:, 0] > 0) | (index[:, 1] > 0)]
    length = np.linalg.norm(index / np.array(zone.sides), axis=1)
    phases = np.abs(np.exp(2j * np.pi * index @ zone.cations.T).mean(1))
    return np.asarray(index[(length < BAND[1]) & (length > BAND[0]) & (phases > 0.5)])


def lattices_in(counts: NDArray[np.floating]) -> list[tuple[str, Array]]:
    """The best sides of a cell (2, 2) [A] for each zone.

    The sum of log(1 + power) over all reflections, in units of the shot noise, is largest: so
    many of them count as there are, not one that is strong.
    """
    pad = 4
    spectrum = spectrum_of(counts, pad)
    side = len(spectrum)
    found = []
    for name, zone in ZONES.items():
        index = reflections(zone) / np.array(zone.sides)

        def score(turn: float, size: float = 1.0, index: Array = index) -> float:
            at = (index @ turned(turn) / size).T * PIXEL * side
            real, imaginary = (
                ndimage.map_coordinates(part, at, order=1, mode="grid-wrap")
                for part in (spectrum.real, spectrum.imag)
            )
            return float(np.log1p(real**2 + imaginary**2).sum())

        step = 0.475 * pad / (PIXEL * side)
        turns = np.arange(0, np.deg2rad(zone.turns), step)
        first = turns[int(np.argmax([score(turn) for turn in turns]))]
        near = [(t, s) for t in first + step * np.linspace(-1.2, 1.2, 13) for s in SIZES]
        turn, size = max(near, key=lambda pair: score(*pair))
        found.append((name, np.diag(zone.sides) @ turned(turn) * size))
    return found


def origins_of(zone: str, vectors: Array, middle: Array) -> Array:
    """Places (n, 2) in the cell at the middle [A] at which a cation may lie, 0.45 A apart."""
    numbers = [max(1, round(side / APART)) for side in ZONES[zone].sides]
    shares = np.stack(np.meshgrid(*(np.arange(n) / n for n in numbers), indexing="ij"), -1)
    shares = shares.reshape(-1, 2)
    if zone == "110":  # the cell is centred
        shares = shares[shares[:, 0] < 0.5]
    return np.asarray(middle + shares @ vectors)


def share_of_lattice(counts: NDArray[np.floating], zone: str, vectors: Array) -> float:
    """Share of the power in the band that lies on the reflections of a lattice, without noise.

    0 where the lattice does not stand out of the noise by 8 standard deviations.
    """
    spectrum = spectrum_of(counts)
    power = spectrum.real**2 + spectrum.imag**2 - 1
    lines = fft.fftfreq(len(spectrum), PIXEL)
    frequency = np.stack(np.meshgrid(lines, lines, indexing="ij"), -1)
    length = np.linalg.norm(frequency, axis=-1)
    band = (length > BAND[0]) & (length < BAND[1])
    number = frequency @ vectors.T
    nearest = np.rint(number)
    away = np.linalg.norm((number - nearest) @ np.linalg.inv(vectors).T, axis=-1)
    on = band & (away < LOBE / (PIXEL * min(counts.shape)))
    if zone == "110":
        on &= nearest.sum(-1) % 2 == 0
    own = power[on].sum()
    if own < SEEN * np.sqrt(on.sum()):
        return 0.0
    return float(own / max(power[band].sum(), own))
