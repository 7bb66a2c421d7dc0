"""From atoms to an image: exit waves by multislice (abTEM), images of them by the lens (torch).

A specimen is passed once by the electron wave, which costs a second; every setting of the lens
after that costs milliseconds, because just what passes the aperture has to be computed, for many
settings at once, on any device, and differentiably.

Arrays are (y, x), lengths in angstrom, angles of scattering in mrad, azimuths in degrees from x
towards y. Intensities are relative to vacuum = 1. A positive defocus is underfocus, as in abTEM:
with a spherical aberration of -13 um, atoms are white at a negative defocus.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from insitu import InputError

# root mean square displacement of an atom along one axis, about room temperature [A]
THERMAL = {"Pt": 0.07, "Ce": 0.06, "O": 0.08}
Mtf = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Wave:
    """Electron waves at the exit face of a specimen; vacuum has the amplitude 1.

    `values` is (configurations, y, x), complex: frozen phonons are averaged as intensities.
    """

    values: Tensor
    extent: tuple[float, float]  # of the field along y and x [A]
    energy: float = 300e3  # [eV]

    @property
    def wavelength(self) -> float:
        """Relativistic wavelength [A]."""
        return wavelength(self.energy)

    def to(self, device: torch.device | str) -> Wave:
        """Return the same wave on another device."""
        return replace(self, values=self.values.to(device))


@dataclass(frozen=True)
class Optics:
    """The lens and what blurs it. Every entry is a number, or a tensor with one for each image."""

    defocus: float | Tensor = 0.0  # [A]
    cs: float | Tensor = -13e4  # third-order spherical aberration [A]
    c5: float | Tensor = 5e7  # fifth-order spherical aberration [A]
    astigmatism: float | Tensor = 0.0  # two-fold [A]
    astigmatism_angle: float | Tensor = 0.0  # [degrees]
    coma: float | Tensor = 0.0  # [A]
    coma_angle: float | Tensor = 0.0
    trefoil: float | Tensor = 0.0  # three-fold astigmatism [A]
    trefoil_angle: float | Tensor = 0.0
    focal_spread: float | Tensor = 40.0  # 1/e width of the distribution of defocus [A]
    convergence: float | Tensor = 0.0  # standard deviation of the illumination's angles [mrad]
    vibration: float | Tensor = 0.25  # standard deviation of the image's movement, one axis [A]
    aperture: float = 32.0  # semiangle [mrad]

    def values(self) -> dict[str, float | Tensor]:
        """Return the entries by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def wavelength(energy: float) -> float:
    """Relativistic wavelength [A] of electrons of an energy [eV]."""
    rest = 510998.95
    return 12.398419843e3 / float(np.sqrt(energy * (2 * rest + energy)))


def exit_wave(
    specimen: object,
    *,
    pixels: int = 512,
    slice_thickness: float = 2.0,
    thermal: str = "envelope",
    phonons: int = 8,
    seed: int = 0,
    energy: float = 300e3,
    device: str = "cpu",
) -> Wave:
    """Send a plane wave through a specimen, slice by slice.

    Parameters
    ----------
    specimen : Atoms
        In an orthogonal cell with the beam along z.
    pixels : int
        Of the wave, along the longer side of the cell.
    slice_thickness : float
        [A].
    thermal : str
        `envelope` smears the potential of every atom (Debye-Waller factor), `phonons` averages
        over displaced copies of the specimen, `none` holds the atoms still.
    phonons : int
        Copies of the specimen.
    seed : int
        Of their displacements.
    energy : float
        [eV].
    device : str
        `cpu`, or `gpu` where cupy is installed.

    Raises
    ------
    InputError
        If the specimen has no atoms or one without a potential, if it is too coarsely sampled,
        or if a value is not allowed.

    References
    ----------
    J. Madsen, T. Susi, Open Research Europe 1 (2021) 24.
    E. J. Kirkland, Advanced Computing in Electron Microscopy, 3rd ed., ch. 6.
    """
    import abtem  # takes seconds, and is not needed to use a wave that exists
    from abtem.integrals import ScatteringFactorProjectionIntegrals
    from abtem.parametrizations import LobatoParametrization
    from ase import Atoms

    if not isinstance(specimen, Atoms) or len(specimen) == 0:
        raise InputError("the specimen: it has no atoms")
    for name, value, low, high in (
        ("pixels", pixels, 32, 8192), ("slice_thickness", slice_thickness, 0.1, 20.0),
        ("phonons", phonons, 1, 1000), ("energy", energy, 1e4, 2e6),
    ):  # fmt: skip
        if not low <= value <= high:
            raise InputError(f"{name}: got {value:g}, allowed is {low:g} to {high:g}")
    if thermal not in ("envelope", "phonons", "none"):
        raise InputError(f"thermal: got {thermal!r}, allowed is one of envelope, phonons, none")
    unknown = set(specimen.get_chemical_symbols()) - set(LobatoParametrization().parameters)
    if unknown:
        raise InputError(f"the specimen: no potential is known for {', '.join(sorted(unknown))}")
    width, height, _ = specimen.cell.lengths()
    sampling = max(width, height) / pixels
    if sampling > 0.25:
        raise InputError(
            f"pixels: {pixels} over {max(width, height):.0f} A is {sampling:.2f} A a pixel; the "
            f"wave needs 0.25 A or less, take {int(np.ceil(max(width, height) / 0.2))} pixels"
        )
    sigmas = {s: THERMAL.get(s, 0.08) for s in set(specimen.get_chemical_symbols())}
    potential_of = LobatoParametrization(sigmas=sigmas if thermal == "envelope" else {})
    atoms = specimen.copy()
    atoms.pbc = True
    frozen = abtem.FrozenPhonons(atoms, num_configs=phonons, sigmas=sigmas, seed=seed)
    gpts = tuple(2 * round(side / sampling / 2) for side in (width, height))
    with abtem.config.set({"local_diagnostics.progress_bar": False, "device": device}):
        potential = abtem.Potential(
            frozen if thermal == "phonons" else atoms,
            gpts=gpts,
            slice_thickness=slice_thickness,
            integrator=ScatteringFactorProjectionIntegrals(potential_of),
        )
        wave: Any = abtem.PlaneWave(energy=energy).multislice(potential)
        array = wave.compute(scheduler="single-threaded", progress_bar=False).to_cpu().array
    values = torch.from_numpy(np.ascontiguousarray(np.swapaxes(array, -1, -2)))  # abTEM has (x, y)
    return Wave(values.reshape(-1, *values.shape[-2:]), (float(height), float(width)), energy)


def band_limited(wave: Wave, semiangle: float) -> Wave:
    """Keep what an aperture [mrad] can pass, on a grid just large enough for it."""
    limit = semiangle * 1e-3 / wave.wavelength
    sizes = [
        min(n, 2 * int(np.ceil(limit * length)) + 2)
        for n, length in zip(wave.values.shape[-2:], wave.extent, strict=True)
    ]
    spectrum = torch.fft.fft2(wave.values, norm="forward")
    return replace(wave, values=torch.fft.ifft2(_resized(spectrum, sizes), norm="forward"))


def image(
    wave: Wave,
    optics: Optics,
    *,
    pixel_size: float | None = None,
    shape: tuple[int, int] | None = None,
    rotation: float | Tensor = 0.0,
    shift: tuple[float | Tensor, float | Tensor] = (0.0, 0.0),
    mtf: Mtf | None = None,
) -> Tensor:
    """Images of a wave, one for each entry of the optics.

    Parameters
    ----------
    wave : Wave
        The wave behind the specimen.
    optics : Optics
        Numbers, or tensors of shape (n,) for n images.
    pixel_size : float, optional
        [A]. By default the coarsest that holds everything that passes the aperture, for the
        whole field.
    shape : (int, int), optional
        Rows and columns; by default as many as fill the field. Pixel (0, 0) of an image that is
        smaller than the field lies so that both have the same middle.
    rotation : float or Tensor
        By which the specimen appears turned, from x towards y, about the middle [degrees].
    shift : (float or Tensor, float or Tensor)
        By which it appears moved along y and x [A].
    mtf : callable, optional
        The detector's transfer of the frequencies (fy, fx) in cycles per pixel.

    Returns
    -------
    Tensor
        (n, y, x) intensities, float32. Frequencies that the pixels cannot hold are cut off.

    Raises
    ------
    InputError
        If a value is not finite, or the pixel size not positive.

    Notes
    -----
    The wave's Fourier coefficients psi(k) within the aperture are multiplied by

        T(k) = exp(-i chi(k)) exp(-(pi lambda D k^2 / 2)^2) exp(-(s / 2)^2 |grad chi|^2),

    with the focal spread D and the convergence s; then I = |psi|^2, averaged over frozen
    phonons, is filtered by exp(-2 (pi v f)^2) for a vibration v. This quasi-coherent treatment of
    the spread is exact for the interference of each beam with the unscattered one [1]_.

    References
    ----------
    .. [1] E. J. Kirkland, Advanced Computing in Electron Microscopy, 3rd ed., sec. 3.2.
    """
    _check(optics, pixel_size)
    limit = optics.aperture * 1e-3 / wave.wavelength  # largest frequency of the wave [1/A]
    if pixel_size is None:
        sides = [2 * int(np.ceil(2 * limit * length)) for length in wave.extent]
        steps = [length / side for length, side in zip(wave.extent, sides, strict=True)]
        held = 2 * limit
    else:
        sides = [max(1, round(length / pixel_size)) for length in wave.extent]
        steps, held = [pixel_size] * 2, min(2 * limit, 0.5 / pixel_size)
    sides = list(shape or sides)
    spectrum = _intensity_spectrum(wave, optics, limit, held)
    reach = spectrum.shape[1] // 2, spectrum.shape[2] - 1
    fy = torch.arange(-reach[0], reach[0] + 1, device=spectrum.device) / wave.extent[0]
    fx = torch.arange(reach[1] + 1, device=spectrum.device) / wave.extent[1]
    width = _column(optics.vibration, spectrum)
    spectrum = spectrum * torch.exp(-2 * (torch.pi * width) ** 2 * (fy[:, None] ** 2 + fx**2))
    if mtf is not None:
        spectrum = spectrum * mtf(fy[:, None] * steps[0], fx * steps[1])
    rows, columns = (
        (torch.arange(n, device=spectrum.device) - (n - 1) / 2) * step
        for n, step in zip(sides, steps, strict=True)
    )
    middle = [(length - step) / 2 for length, step in zip(wave.extent, steps, strict=True)]
    offsets = [torch.as_tensor(s, device=spectrum.device, dtype=torch.float32) for s in shift]
    turn = torch.deg2rad(torch.as_tensor(rotation, device=spectrum.device, dtype=torch.float32))
    if bool((turn == 0).all()):
        y = rows + middle[0] - offsets[0].reshape(-1, 1)
        x = columns + middle[1] - offsets[1].reshape(-1, 1)
        return _at_grid(spectrum, fy, fx, y, x)
    return _at_turned_grid(spectrum, wave.extent, rows, columns, middle, offsets, turn)


def _intensity_spectrum(wave: Wave, optics: Optics, limit: float, held: float) -> Tensor:
    """Fourier coefficients of |psi|^2 within +-held [1/A], centred, (n, fy, fx)."""
    values = wave.values
    waves = torch.fft.fft2(values, norm="forward")
    steps = [1 / length for length in wave.extent]
    ky, kx = (_wave_frequencies(n, s, values.device)
              for n, s in zip(values.shape[-2:], steps, strict=True))  # fmt: skip
    mesh = torch.meshgrid(ky, kx, indexing="ij")
    radius = torch.hypot(*mesh)
    chosen = radius < limit + max(steps)
    k_y, k_x = mesh[0][chosen], mesh[1][chosen]
    transfer = contrast_transfer(optics, k_y, k_x, wave.wavelength, steps)
    passed = waves[:, None, chosen] * transfer  # (configurations, n, coefficients)
    # |psi|^2 reaches 2 limit; on this grid what folds back stays beyond `held`
    grid = [_fast(int(np.ceil((2 * (limit + s) + held) / s)) + 1) for s in steps]
    row, column = (
        torch.round(k / s).long() % n for k, s, n in zip((k_y, k_x), steps, grid, strict=True)
    )
    n_configurations, n_images, _ = passed.shape
    intensity: Tensor | float = 0.0
    for configuration in passed:
        spread = torch.zeros(n_images, grid[0] * grid[1], dtype=passed.dtype, device=passed.device)
        spread = spread.index_copy(1, row * grid[1] + column, configuration)
        psi = torch.fft.ifft2(spread.reshape(n_images, *grid), norm="forward")
        intensity = intensity + (psi.real**2 + psi.imag**2) / n_configurations
    assert isinstance(intensity, Tensor)
    half = torch.fft.rfft2(intensity, norm="forward")
    reach = [min(int(held / s + 1e-6), (n - 1) // 2) for s, n in zip(steps, grid, strict=True)]
    kept = torch.cat(
        [half[:, -reach[0] :] if reach[0] else half[:, :0], half[:, : reach[0] + 1]], 1
    )
    return kept[:, :, : reach[1] + 1]  # fx from 0 upwards: the rest is its conjugate


def contrast_transfer(
    optics: Optics, ky: Tensor, kx: Tensor, wavelength: float, steps: list[float] | None = None
) -> Tensor:
    """Transfer of the frequencies (ky, kx) [1/A] of a wave, (n, frequencies), complex64.

    `steps` are the distances of frequencies along y and x; with them the aperture's edge is one
    step soft, as in abTEM.
    """
    f64 = torch.float64
    ky, kx = ky.to(f64), kx.to(f64)
    alpha, phi = wavelength * torch.hypot(ky, kx), torch.atan2(ky, kx)
    value = {
        name: torch.as_tensor(v, dtype=f64, device=ky.device).reshape(-1, 1)
        for name, v in optics.values().items()
    }

    def wavy(amplitude: str, order: int) -> tuple[Tensor, Tensor]:
        angle = order * (phi - torch.deg2rad(value[f"{amplitude}_angle"]))
        return value[amplitude] * torch.cos(angle), -order * value[amplitude] * torch.sin(angle)

    still = torch.zeros_like(alpha)
    terms = [
        (2, -value["defocus"], still),
        (4, value["cs"], still),
        (6, value["c5"], still),
        (2, *wavy("astigmatism", 2)),
        (3, *wavy("coma", 1)),
        (3, *wavy("trefoil", 3)),
    ]
    chi: Tensor = torch.zeros_like(alpha)
    radial, azimuthal = torch.zeros_like(alpha), torch.zeros_like(alpha)
    for power, amplitude, derivative in terms:
        chi = chi + amplitude * alpha**power / power
        radial = radial + amplitude * alpha ** (power - 1)
        azimuthal = azimuthal + derivative * alpha ** (power - 1) / power
    wave_number = 2 * torch.pi / wavelength
    damping = (torch.pi / 2 / wavelength * value["focal_spread"] * alpha**2) ** 2
    damping = damping + (value["convergence"] * 1e-3 / 2 * wave_number) ** 2 * (
        radial**2 + azimuthal**2
    )
    edge = value["aperture"] * 1e-3 - alpha
    if steps is None:
        window = (edge >= 0).to(f64)
    else:
        soft = wavelength * torch.hypot(torch.cos(phi) * steps[1], torch.sin(phi) * steps[0])
        window = torch.clip(edge / soft + 0.5, 0, 1)
    return torch.polar(window * torch.exp(-damping), -wave_number * chi).to(torch.complex64)


def _at_grid(spectrum: Tensor, fy: Tensor, fx: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Evaluate a Fourier series exactly at the points of a grid, by two matrix products."""
    ey, ex = (torch.exp(2j * torch.pi * p[..., None].double() * f.double()).to(torch.complex64)
              for p, f in ((y, fy), (x, fx)))  # fmt: skip
    ex = ex * torch.where(fx > 0, 2.0, 1.0)  # for the conjugate half
    half = torch.matmul(ey, spectrum)
    return torch.matmul(half.real, ex.real.mT) - torch.matmul(half.imag, ex.imag.mT)


def _at_turned_grid(
    spectrum: Tensor, extent: tuple[float, float], rows: Tensor, columns: Tensor,
    middle: list[float], offsets: list[Tensor], turn: Tensor,
) -> Tensor:  # fmt: skip
    """Evaluate at the points of a turned grid: cubic B-splines on a finer one, [1]_.

    .. [1] P. Thevenaz, T. Blu, M. Unser, IEEE Trans. Med. Imaging 19 (2000) 739. The splines'
       coefficients come from the spectrum itself; the error is below 1e-3 of the contrast.
    """
    n, reach = spectrum.shape[0], (spectrum.shape[1] // 2, spectrum.shape[2] - 1)
    fine = [_fast(5 * r + 2) for r in reach]
    full = torch.zeros(n, fine[0], fine[1] // 2 + 1, dtype=spectrum.dtype, device=spectrum.device)
    full[:, : reach[0] + 1, : reach[1] + 1] = spectrum[:, reach[0] :]
    if reach[0]:
        full[:, -reach[0] :, : reach[1] + 1] = spectrum[:, : reach[0]]
    smooth = [(2 + torch.cos(2 * torch.pi * torch.arange(k, device=full.device) / m)) / 3
              for k, m in zip(full.shape[-2:], fine, strict=True)]  # fmt: skip
    dense = torch.fft.irfft2(full / (smooth[0][:, None] * smooth[1]), s=fine, norm="forward")
    pad = 3  # the field repeats itself
    dense = functional.pad(dense[:, None], (pad, pad, pad, pad), mode="circular")
    turn, dy, dx = (t.reshape(-1, 1, 1) for t in (turn, *offsets))
    v, u = rows[:, None] - dy, columns - dx
    y = (torch.cos(turn) * v - torch.sin(turn) * u + middle[0]) / extent[0] * fine[0]
    x = (torch.cos(turn) * u + torch.sin(turn) * v + middle[1]) / extent[1] * fine[1]
    images = max(n, len(y))
    total: Tensor | float = 0.0
    for weight_y, at_y in _spline(y % fine[0]):  # two linear interpolations make a cubic spline
        for weight_x, at_x in _spline(x % fine[1]):
            grid = torch.stack(
                [
                    2 * (at_x + pad + 0.5) / (fine[1] + 2 * pad) - 1,
                    2 * (at_y + pad + 0.5) / (fine[0] + 2 * pad) - 1,
                ],
                dim=-1,
            )
            part = functional.grid_sample(
                dense.expand(images, -1, -1, -1), grid.expand(images, -1, -1, -1),
                align_corners=False,
            )  # fmt: skip
            total = total + weight_y * weight_x * part[:, 0]
    assert isinstance(total, Tensor)
    return total


def _spline(position: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Weights and places at which linear interpolation makes a cubic B-spline."""
    whole = torch.floor(position)
    t = position - whole
    last, first = t**3 / 6, (1 - t) ** 3 / 6
    second = 2 / 3 - t**2 * (1 - t / 2)
    low = first + second
    return [(low, whole - 1 + second / low), (1 - low, whole + 1 + last / (1 - low))]


def pixel_mtf(fy: Tensor, fx: Tensor) -> Tensor:
    """Transfer of square pixels that collect over their whole area."""
    return torch.sinc(fy) * torch.sinc(fx)


def focal_series(wave: Wave, optics: Optics, *, points: int = 9, **options: Any) -> Tensor:
    """Average over the distribution of defocus explicitly, (n, y, x), by Gauss-Hermite points."""
    nodes, weights = np.polynomial.hermite.hermgauss(points)
    spread, still = optics.focal_spread, replace(optics, focal_spread=0.0)
    return torch.stack([
        float(w) / np.sqrt(np.pi)
        * image(wave, replace(still, defocus=optics.defocus + float(node) * spread), **options)
        for node, w in zip(nodes, weights, strict=True)
    ]).sum(0)  # fmt: skip


def _check(optics: Optics, pixel_size: float | None) -> None:
    for name, value in optics.values().items():
        if isinstance(value, str) or not bool(torch.isfinite(torch.as_tensor(value)).all()):
            raise InputError(f"{name}: got {value!r}, allowed is a finite number")
    for name in ("focal_spread", "convergence", "vibration"):
        if bool((torch.as_tensor(getattr(optics, name)) < 0).any()):
            raise InputError(f"{name}: got a negative value, allowed is 0 or more")
    if not 1 <= optics.aperture <= 80:
        raise InputError(f"aperture: got {optics.aperture:g}, allowed is 1 to 80 mrad")
    if pixel_size is not None and not 0.005 <= pixel_size <= 10:
        raise InputError(f"pixel_size: got {pixel_size:g}, allowed is 0.005 to 10 A")


def _column(value: float | Tensor, like: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float32, device=like.device).reshape(-1, 1, 1)


def _wave_frequencies(n: int, step: float, device: torch.device) -> Tensor:
    return torch.fft.fftfreq(n, device=device, dtype=torch.float64) * n * step


def _fast(n: int) -> int:
    """Return the next even number whose factors are 2, 3 and 5."""
    n += n % 2
    while True:
        rest = n
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return n
        n += 2


def _resized(spectrum: Tensor, sizes: list[int]) -> Tensor:
    for axis, size in zip((-2, -1), sizes, strict=True):
        n = spectrum.shape[axis]
        if size < n:
            front = spectrum.narrow(axis, 0, size // 2)
            spectrum = torch.cat([front, spectrum.narrow(axis, n - size // 2, size // 2)], axis)
    return spectrum
