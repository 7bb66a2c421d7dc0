"""Phantoms: what stays, what changes, how it is recorded."""

import numpy as np
import pytest

from insitu import InputError
from insitu.tomography.phantoms import SHAPES, Phantom, diffuse, record, tilt_angles

THREE = np.linspace(0, 1, 3)


@pytest.mark.parametrize("kind", SHAPES)
def test_every_particle_changes_and_its_control_does_not(kind):
    moving = Phantom(kind, size=24, moments=THREE).truth()
    still = Phantom(kind, size=24, moments=THREE, still=True).truth()
    assert moving.shape == (3, 24, 24, 24)
    assert abs(moving[2] - moving[0]).max() > 0.2
    assert (still[0] == still[2]).all()
    assert moving[:, 0].max() == moving[:, :, 0].max() == moving[..., 0].max() == 0


def test_alloying_and_rounding_keep_what_they_should():
    alloy = Phantom("alloying rod", 32, THREE).truth()
    assert np.ptp(alloy.sum((1, 2, 3))) < 0.003 * alloy[0].sum()  # gold and silver stay
    assert ((alloy[0] > 0.5) != (alloy[2] > 0.5)).sum() < 0.04 * (alloy[0] > 0.5).sum()
    rounded = Phantom("rounding", size=32, moments=THREE).truth().sum((1, 2, 3))
    assert np.ptp(rounded) < 0.003 * rounded[0]


def test_diffusion_in_a_box_is_that_of_the_equation():
    """A cosine with no flux at the walls decays as exp(-D k^2 t)."""
    inside = np.zeros((6, 6, 44), bool)
    inside[1:5, 1:5, 2:42] = True
    x = np.arange(40) + 0.5
    share = np.zeros(inside.shape, np.float32)
    share[1:5, 1:5, 2:42] = 0.5 + 0.4 * np.cos(np.pi * x / 40)
    amount = 100.0
    later = diffuse(share, inside, amount)
    expected = 0.5 + 0.4 * np.exp(-amount * (np.pi / 40) ** 2) * np.cos(np.pi * x / 40)
    np.testing.assert_allclose(later[3, 3, 2:42], expected, atol=1e-3)
    assert later.sum() == pytest.approx(share.sum(), rel=1e-5)
    assert (later[~inside] == 0).all()


@pytest.mark.parametrize("order", ["incremental", "golden", "binary", "interleaved"])
def test_orders_of_tilts_cover_the_range(order):
    angles = tilt_angles(order, 50)
    assert len(set(np.round(angles, 6))) == 50
    assert abs(angles).max() <= 70
    assert np.diff(np.sort(angles)).max() < 8
    if order == "incremental":
        assert (np.diff(angles) > 0).all()
    else:  # the first ten see much of it already
        assert np.ptp(angles[:10]) > 90


def test_a_record_has_the_noise_that_it_says():
    phantom = Phantom("alloying rod", 24, THREE)
    angles = [0.0, 30.0, -60.0]
    clean, none = record(phantom, angles, noise=0.0, rng=np.random.default_rng(0))
    noisy, deviation = record(phantom, angles, noise=0.02, rng=np.random.default_rng(0))
    clean, noisy = clean.projections, noisy.projections
    assert none == 0
    assert (noisy - clean).std() == pytest.approx(deviation, rel=0.05)
    assert deviation == pytest.approx(0.02 * clean.max())
    np.testing.assert_allclose(clean.sum((1, 2)), phantom.truth().sum((1, 2, 3)), rtol=0.01)
    moved, _ = record(phantom, angles, noise=0.0, shifts=[0, 2, 0], rng=np.random.default_rng(0))
    place = np.arange(24)
    centres = [(q[1].sum(0) * place).sum() / q[1].sum() for q in (clean, moved.projections)]
    assert centres[1] - centres[0] == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Phantom("cloud", 24, THREE), "kind"),
        (lambda: Phantom("rounding", 24, np.array([0.5, 0.2])), "moments"),
        (lambda: tilt_angles("random", 10), "order"),
        (lambda: tilt_angles("golden", 1), "angles"),
        (lambda: record(Phantom("rounding", 8, THREE), [0.0], rng=None), "3 moments"),
    ],
)
def test_what_makes_no_sense_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_gold_is_drawn_and_diffuses_at_twice_the_resolution():
    """No voxel of the fine grid repeats its neighbour, and the truth is their mean."""
    phantom = Phantom("alloying rod", 24, THREE)
    for fine, coarse in zip(phantom.volumes(), phantom.truth(), strict=True):
        assert fine.shape == (48, 48, 48)
        means = fine.reshape(24, 2, 24, 2, 24, 2).mean((1, 3, 5))
        np.testing.assert_allclose(means, coarse, atol=1e-5)
    start = next(phantom.volumes())
    middle = start[24, 24]
    edge = np.abs(np.diff(middle)).max()
    assert edge > 0.6 * (phantom.contrast - 1)  # the core's edge is one fine voxel wide
