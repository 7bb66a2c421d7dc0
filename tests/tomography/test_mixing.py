"""The law of mixing, and fits of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from insitu import InputError
from insitu.learning import checkpoints
from insitu.tomography import ensembles, mixing, phantoms, volumes
from insitu.tomography.mixing import Mixing
from insitu.tomography.prior import FreeChange, Shape

SMALL = Shape(width=16, hidden=32, together=8)
SETTINGS = replace(volumes.SETTINGS, steps=6, validate_every=3, save_every=3)
CONTRAST = 2.42
LAW = Mixing(CONTRAST, shape=SMALL)


@pytest.fixture(scope="module")
def phantom():
    return phantoms.Phantom("alloying rod", 24, np.linspace(0, 1, 30))


@pytest.fixture(scope="module")
def data(phantom):
    angles = phantoms.tilt_angles("incremental", 30)
    return phantoms.record(phantom, angles, rng=np.random.default_rng(0))[0]


@pytest.fixture
def particle():
    rng = np.random.default_rng(0)
    solid = (rng.random((7, 9, 8)) < 0.7).astype(np.float32)
    return solid, rng.random(solid.shape).astype(np.float32) * solid


@pytest.mark.parametrize("amount", [0.05, 1.0, 8.0])
def test_it_diffuses_as_many_small_explicit_steps_do(amount):
    z, y, x = np.mgrid[-10:11, -10:11, -10:11]
    solid = (z**2 + y**2 + x**2 < 90).astype(np.float32)
    share = expected = ((z - 2) ** 2 + y**2 + x**2 < 30).astype(np.float32)
    for _ in range(100):
        expected = phantoms.diffuse(expected, solid > 0, amount / 100)
    found = mixing.advance(*map(torch.tensor, (share, solid, amount))).numpy()
    error = (found - expected)[solid > 0]
    assert abs(error).max() < 0.05
    assert error.std() < 0.01
    assert abs(expected - share).max() > (0.3 if amount >= 1 else 0.05)


def test_nothing_is_lost_where_voxels_are_partly_vacuum(particle):
    _, share = particle
    solid = np.random.default_rng(1).random(share.shape).astype(np.float32)
    found = mixing.advance(*map(torch.tensor, (share, solid, 2.0))).numpy()
    assert (found * solid).sum() == pytest.approx((share * solid).sum(), rel=1e-5)
    assert share.min() - 1e-3 <= found.min()
    assert found.max() <= share.max() + 1e-3
    assert found[solid > 0.3].std() < share[solid > 0.3].std()


def test_an_even_share_stays(particle):
    solid = torch.tensor(particle[0])
    found = mixing.advance(torch.full_like(solid, 0.3), solid, torch.tensor(4.0))
    np.testing.assert_allclose(found, 0.3, rtol=1e-5)


def test_the_diffusivity_has_a_gradient(particle):
    solid, share = map(torch.tensor, particle)

    def spread(amount):
        return (mixing.advance(share, solid, amount) ** 2).sum()

    amount = torch.tensor(0.2, requires_grad=True)  # one step, of as many stages on both sides
    (gradient,) = torch.autograd.grad(spread(amount), amount)
    ahead, behind = (spread(torch.tensor(0.2 + k)) for k in (0.01, -0.01))
    assert float(gradient) == pytest.approx(float(ahead - behind) / 0.02, rel=0.02)


@pytest.mark.slow
def test_a_law_finds_what_incremental_tilts_hide(phantom, data):
    """Better than a specimen at rest, and better than a network that knows of no law."""
    truth = phantom.truth()
    settings = replace(SETTINGS, steps=300, validate_every=100, learning_rate=2e-2)
    one = volumes.fit(data, LAW, settings)
    free = volumes.fit(data, FreeChange(shape=SMALL, steady=100.0), settings)
    by_law, without = (((f.volumes() - truth) ** 2).mean() for f in (one, free))
    assert by_law < 0.5 * without
    still = np.broadcast_to(truth[15], truth.shape)
    assert by_law < ((still - truth) ** 2).mean()
    assert 0.5 < one.specimen.diffusivity / (phantom.diffusivity * 24**2) < 2


def test_moments_can_be_asked_for_alone(data):
    one = volumes.fit(data, LAW, SETTINGS)
    every = one.volumes()
    assert every.shape == (30, 24, 24, 24)
    assert abs(one.volumes([3, 20]) - every[[3, 20]]).mean() < 2e-3 * every.mean()
    mass = every.sum((1, 2, 3))
    np.testing.assert_allclose(mass, mass[0], rtol=1e-3)


def test_killed_and_resumed_gives_the_same_bits(data, tmp_path, monkeypatch):
    whole = volumes.fit(data, LAW, SETTINGS).specimen
    path, calls, real = tmp_path / "c.safetensors", [], mixing.project

    def dies(*args, **more):
        calls.append(0)
        if len(calls) == 6:  # after the state of step 3 was kept
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(mixing, "project", dies)
    with pytest.raises(KeyboardInterrupt):
        volumes.fit(data, LAW, SETTINGS, checkpoint=path)
    monkeypatch.undo()
    assert path.is_file()
    with pytest.raises(InputError, match="belongs to another run"):
        volumes.fit(data, replace(LAW, contrast=2.0), SETTINGS, checkpoint=path)
    again = volumes.fit(data, LAW, SETTINGS, checkpoint=path).specimen
    np.testing.assert_array_equal(whole.share, again.share)
    assert whole.diffusivity == again.diffusivity


def test_an_ensemble_is_kept_and_known_by_its_series(data, tmp_path):
    law = replace(LAW, offset=0.5)
    fits = ensembles.fit_members(data, law, SETTINGS, members=2, folder=tmp_path)
    path = ensembles.save(fits, tmp_path / "m.safetensors", {"made_by": "a test"})
    again = ensembles.load(path, data)
    np.testing.assert_allclose(fits[1].volumes([9]), again[1].volumes([9]), atol=2e-3)
    assert float(again[1].specimen.places(torch.tensor([3]))) == 0.5
    assert ensembles.spread_of(again) >= 1
    other = replace(data, projections=data.projections * np.linspace(1, 2, 30)[:, None, None])
    with pytest.raises(InputError, match="another tilt series"):
        ensembles.load(path, other)
    foreign = checkpoints.save(tmp_path / "f.safetensors", {}, {"what": "nothing"})
    with pytest.raises(InputError, match="not that of an ensemble"):
        ensembles.load(foreign, data)


@pytest.mark.parametrize("contrast", [1.0, 0.5, float("nan"), float("inf")])
def test_a_contrast_that_is_none_is_refused(contrast):
    with pytest.raises(InputError, match="contrast: got"):
        Mixing(contrast)
