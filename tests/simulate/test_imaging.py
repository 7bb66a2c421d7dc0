"""Waves and images against abTEM, Kirkland's book, and theory."""

import abtem
import numpy as np
import pytest
import torch
from ase import Atoms

from insitu import InputError
from insitu.simulate import imaging, lattice, resampling, specimens, waves
from insitu.simulate.imaging import Optics, image

SMALL = {"diameter": 12.0, "field": 22.0, "thickness": 16.0, "trilayers": 1}


@pytest.fixture(scope="module")
def wave():
    return waves.exit_wave(specimens.build(specimens.Recipe(**SMALL)), pixels=270)


def random_optics(rng):
    drawn = {
        "defocus": rng.uniform(-200, 200),
        "cs": rng.uniform(-20e4, 20e4),
        "c5": rng.uniform(-1e8, 1e8),
        "astigmatism": rng.uniform(0, 60),
        "coma": rng.uniform(0, 1000),
        "trefoil": rng.uniform(0, 1000),
        "focal_spread": rng.uniform(10, 60),
        "convergence": rng.uniform(0, 0.5),
        "aperture": rng.uniform(15, 35),
    }
    angles = {f"{n}_angle": rng.uniform(0, 360) for n in ("astigmatism", "coma", "trefoil")}
    return Optics(**drawn, **angles, vibration=0.0)


def by_abtem(wave, optics):
    transfer = abtem.CTF(
        energy=wave.energy,
        semiangle_cutoff=optics.aperture,
        defocus=optics.defocus,
        Cs=optics.cs,
        C5=optics.c5,
        C12=optics.astigmatism,
        C21=optics.coma,
        C23=optics.trefoil,
        phi12=np.deg2rad(optics.astigmatism_angle),
        phi21=np.deg2rad(optics.coma_angle),
        phi23=np.deg2rad(optics.trefoil_angle),
        focal_spread=optics.focal_spread,
        angular_spread=optics.convergence,
    )
    array = np.ascontiguousarray(wave.values[0].numpy().T)
    waves_there = abtem.Waves(array, energy=wave.energy, extent=wave.extent[::-1])
    return waves_there.apply_ctf(transfer).intensity().compute(progress_bar=False).array.T


def test_agrees_with_abtem_for_fifty_lenses(wave):
    rng = np.random.default_rng(0)
    n = wave.values.shape[-1]
    errors = []
    for _ in range(50):
        optics = random_optics(rng)
        theirs = by_abtem(wave, optics)
        ours = image(wave, optics, pixel_size=wave.extent[0] / n, shape=(n, n))[0].numpy()
        off = np.linalg.norm(ours - theirs)
        errors.append((off / np.linalg.norm(theirs), off / np.linalg.norm(theirs - theirs.mean())))
    of_image, of_contrast = np.max(errors, axis=0)
    assert of_image < 1e-4
    assert of_contrast < 3e-4  # abTEM computes the lens's phase in single precision


def test_a_batch_is_its_images_one_by_one(wave):
    many = image(wave, Optics(defocus=torch.tensor([-80.0, 0.0, 60.0])), pixel_size=0.2)
    for defocus, together in zip((-80.0, 0.0, 60.0), many, strict=True):
        alone = image(wave, Optics(defocus=defocus), pixel_size=0.2)[0]
        assert torch.allclose(together, alone, atol=1e-5)


def test_band_limit_and_coarser_pixels_lose_nothing(wave):
    optics = Optics(defocus=-80.0)
    fine = image(wave, optics, pixel_size=0.1, shape=(240, 240))
    cut = image(waves.band_limited(wave, 33.0), optics, pixel_size=0.1, shape=(240, 240))
    assert torch.allclose(fine, cut, atol=1e-5)
    whole = image(wave, optics)  # the coarsest grid that holds everything
    step = wave.extent[0] / whole.shape[-1]
    again = resampling.resample(whole, wave.extent, pixel_size=0.1, shape=(240, 240))
    assert step > 0.14
    assert torch.allclose(fine, again, atol=2e-4)


def test_rotation_shift_and_pixels(wave):
    optics = Optics(defocus=-80.0)
    plain = image(wave, optics, pixel_size=0.2, shape=(100, 100))[0]
    turned = image(wave, optics, pixel_size=0.2, shape=(100, 100), rotation=90.0)[0]
    assert torch.allclose(torch.rot90(plain, -1), turned, atol=2e-4)  # x towards y
    full = image(wave, optics, pixel_size=0.2, shape=(100, 100), rotation=360.0)[0]
    assert torch.allclose(plain, full, atol=2e-4)
    moved = image(wave, optics, pixel_size=0.2, shape=(100, 100), shift=(0.4, -0.6))[0]
    assert torch.allclose(plain[10:80, 10:80], moved[12:82, 7:77], atol=1e-5)


def test_is_differentiable(wave):
    defocus = torch.tensor(-80.0, requires_grad=True)
    image(wave, Optics(defocus=defocus), pixel_size=0.25).var().backward()
    step = 0.5
    up, down = (
        float(image(wave, Optics(defocus=-80.0 + s), pixel_size=0.25).var()) for s in (step, -step)
    )
    assert float(defocus.grad) == pytest.approx((up - down) / 2 / step, rel=0.05)


def test_kirklands_five_atoms():
    row = Atoms("CSiCuAuU", [(x, 25.0, 2.0) for x in (5, 15, 25, 35, 45)], cell=[50, 50, 4])
    wave = waves.exit_wave(row, thermal="none", energy=200e3, slice_thickness=4.0)
    lens = Optics(defocus=700.0, cs=1.3e7, c5=0.0, focal_spread=0.0, vibration=0.0, aperture=10.37)
    shown = image(wave, lens, pixel_size=0.05)
    assert float(shown.min()) == pytest.approx(0.72, abs=0.01)
    assert float(shown.max()) == pytest.approx(1.03, abs=0.01)


@pytest.mark.parametrize(
    ("name", "repeats", "expected"),
    [
        ("Pt", 14, {"Pt": (2.54, 0.11)}),
        ("CeO2", 10, {"Ce": (0.52, 0.97), "O": (1.94, 0.32)}),
    ],
)
def test_negative_cs_contrast_of_slabs(name, repeats, expected):
    """Slabs of 38 A: at -60 A of defocus platinum and oxygen are white, at +60 A black."""
    crystal = lattice.oriented(name, {"Pt": 3.92, "CeO2": 5.411}[name]).repeat((2, 2, repeats))
    wave = waves.exit_wave(crystal, pixels=200, thermal="none")
    step = 0.05
    for which, defocus in enumerate((-60.0, 60.0)):
        shown = image(wave, Optics(defocus=defocus, vibration=0.0), pixel_size=step)[0].numpy()
        rest = [(wave.extent[k] - shown.shape[k] * step) / 2 for k in (0, 1)]
        for symbol, values in expected.items():
            places = crystal.positions[crystal.symbols == symbol]
            rows = np.round((places[:, 1] - rest[0]) / step).astype(int) % shown.shape[0]
            columns = np.round((places[:, 0] - rest[1]) / step).astype(int) % shown.shape[1]
            assert shown[rows, columns].mean() == pytest.approx(values[which], rel=0.1, abs=0.1)


def test_a_lens_that_only_focuses_conserves_electrons(wave):
    lens = Optics(defocus=-60.0, focal_spread=0.0, vibration=0.0, aperture=70.0)
    expected = float((wave.values.abs() ** 2).mean())
    assert float(image(wave, lens).mean()) == pytest.approx(expected, abs=5e-4)
    assert expected == pytest.approx(1, abs=0.01)


def test_averaged_focal_spread(wave):
    """It conserves electrons, damping does not; both agree where scattering is weak."""
    lens = Optics(defocus=-60.0)
    quick = image(wave, lens, pixel_size=0.2)
    honest, exact = (image(wave, lens, pixel_size=0.2, focal_points=n) for n in (9, 31))
    assert float((honest - exact).norm() / (exact - exact.mean()).norm()) < 0.01
    assert float(quick.mean()) < float(exact.mean()) - 0.005
    carbon = waves.exit_wave(Atoms("C", [(8, 8, 1)], cell=[16, 16, 2]), pixels=160)
    weak = [image(carbon, lens, pixel_size=0.2, focal_points=n)[0] - 1 for n in (1, 9)]
    assert float((weak[0] - weak[1]).abs().max() / weak[1].abs().max()) < 0.05


def test_weak_phase_limit():
    wave = waves.exit_wave(Atoms("C", [(10, 10, 1)], cell=[20, 20, 2]), pixels=200, thermal="none")
    lens = Optics(defocus=-60.0, c5=0.0, focal_spread=0.0, vibration=0.0, aperture=30.0)
    frequency = torch.fft.fftfreq(200, 0.1)
    ky, kx = (a.ravel() for a in torch.meshgrid(frequency, frequency, indexing="ij"))
    sine = -imaging.contrast_transfer(lens, ky, kx, wave.wavelength)[0].imag.reshape(200, 200)
    delay = torch.fft.fft2(torch.angle(wave.values[0])) * 2 * sine
    delay[0, 0] = 0
    linear = torch.fft.ifft2(delay).real
    exact = image(wave, lens, pixel_size=0.1)[0] - 1
    assert float((exact - linear).abs().max() / linear.abs().max()) < 0.05


def test_smeared_atoms_are_the_average_of_shaken_ones():
    atoms = specimens.build(specimens.Recipe(**SMALL))
    lens = Optics(defocus=-80.0)

    def shown(**how):
        return image(waves.exit_wave(atoms, pixels=220, **how), lens, pixel_size=0.2)[0]

    shaken = shown(thermal="phonons", phonons=12)
    contrast = (shaken - shaken.mean()).norm()
    smeared, still = ((shown(thermal=t) - shaken).norm() / contrast for t in ("envelope", "none"))
    assert smeared < 0.5 * still


def test_potential_does_not_depend_on_where_between_pixels_an_atom_lies():
    peaks = []
    for offset in (0.0, 0.025, 0.05):
        atom = Atoms("Pt", [(5 + offset, 5, 1)], cell=[10, 10, 2])
        spectrum = np.abs(np.fft.fft2(waves.projected_potential(atom)))
        peaks.append(spectrum[:20, :20])
    assert np.allclose(peaks[0], peaks[1], rtol=1e-4)
    assert np.allclose(peaks[0], peaks[2], rtol=1e-4)


def test_vibration_blurs_and_keeps_the_mean(wave):
    still, shaken = (image(wave, Optics(vibration=v), pixel_size=0.4) for v in (0.0, 0.5))
    assert shaken.std() < still.std()
    assert float(shaken.mean()) == pytest.approx(float(still.mean()), abs=1e-3)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda w: image(w, Optics(defocus="far")), "defocus: got 'far'"),
        (lambda w: image(w, Optics(defocus=float("nan"))), "defocus: got nan"),
        (lambda w: image(w, Optics(focal_spread=-1.0)), "focal_spread: got a negative value"),
        (lambda w: image(w, Optics(), pixel_size=-0.1), "pixel_size: got -0.1"),
        (lambda w: image(w, Optics(aperture=500.0)), "aperture: got 500"),
        (lambda _: waves.exit_wave(Atoms(cell=[5, 5, 5])), "it has no atoms"),
        (lambda _: waves.exit_wave(Atoms("X", cell=[9, 9, 9])), "no potential is known for X"),
        (lambda _: waves.exit_wave(Atoms("C", cell=[9, 9, 9]), pixels=32), "pixels: 32 over 9 A"),
        (
            lambda _: waves.exit_wave(Atoms("C", cell=[5, 5, 5]), slice_thickness=-1.0),
            "slice_thick",
        ),
        (
            lambda _: waves.exit_wave(Atoms("C", cell=[5, 5, 5]), thermal="hot"),
            "thermal: got 'hot'",
        ),
    ],
)
def test_bad_values_bring_a_sentence(wave, call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(wave)
