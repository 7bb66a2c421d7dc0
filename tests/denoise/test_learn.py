from copy import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from insitu import InputError, fetch
from insitu.counting.categorical import Categorical
from insitu.denoise import examples, learn
from insitu.denoise.examples import Batches, LongExposure, draw_pool
from insitu.denoise.networks import BiasFreeCNN
from insitu.denoise.saved import load_denoiser
from insitu.simulate.bank import PARTS, Bank

SMALL = {"channels": 4, "levels": 1, "fold": 2, "windows": [16]}
SHORT = replace(learn.SETTINGS, steps=4, validate_every=2, save_every=1, bfloat16=False)


@pytest.fixture(scope="module")
def bank():
    return Bank(fetch.shipped("exit_waves.zarr"))


@pytest.fixture(scope="module")
def pool(bank):
    return draw_pool(bank, "train", 16, size=40, conditions=learn.CONDITIONS)


@pytest.fixture(scope="module")
def detector():
    return Categorical.load(fetch.shipped("detector.json"))


@pytest.fixture
def few_images(monkeypatch):
    """Eight images where a training draws hundreds."""

    def draw(bank, part, _, **options):
        return draw_pool(bank, part, 8, **options)

    monkeypatch.setattr(learn, "draw_pool", draw)


def test_images_of_a_part_are_of_its_structures(bank):
    for part in ("train", "validation", "test"):
        drawn = draw_pool(bank, part, 16, size=16, conditions=learn.CONDITIONS)
        assert {PARTS[n % 10] for n in drawn.structure.tolist()} == {part}
        assert drawn.clean.shape == (16, 16, 16)
        assert drawn.pixel_size.min() >= 0.13
        assert drawn.pixel_size.max() <= 0.26
        assert torch.isfinite(drawn.clean).all()


def test_a_batch_depends_on_its_number_alone(pool):
    batches = Batches(pool, images=3, size=32, seed=4)
    first, other = batches(7), batches(8)
    again = Batches(pool, images=3, size=32, seed=4)(7)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.counts, other.counts)
    assert not torch.equal(first.counts, Batches(pool, images=3, size=32, seed=5)(7).counts)


def test_counts_have_the_dose_that_was_asked_for(pool):
    batch = Batches(pool, images=16, size=40, dose=(100.0, 100.001))(0)
    vacuum = batch.vacuum.flatten()
    assert float(batch.counts.mean() / batch.expected.mean()) == pytest.approx(1, rel=0.02)
    assert vacuum.min() >= 100 * 0.13**2 * 0.99
    assert vacuum.max() <= 100 * 0.26**2 * 1.01


@pytest.mark.parametrize("electrons", [0.5, 2.0, 40.0])
def test_summed_frames_keep_mean_and_variance_of_the_detector(detector, electrons):
    intensity = torch.full((1, 300, 300), electrons)
    counts = LongExposure(detector).sample(intensity, torch.Generator().manual_seed(0))
    frames = max(1, round(electrons / 0.45))
    each = detector.table([electrons / frames], 20)[0]
    k = np.arange(21)
    variance = frames * float((each * k**2).sum() - (each * k).sum() ** 2)
    assert float(counts.mean()) == pytest.approx(electrons, rel=0.01)
    assert float(counts.var()) == pytest.approx(variance, rel=0.03)
    assert torch.equal(counts, counts.round())


@pytest.mark.parametrize("loss", [examples.relative_squared, examples.decibels])
def test_losses_are_least_near_the_truth(pool, loss):
    batch = Batches(pool, images=8, size=40, dose=(2000.0, 4000.0))(0)
    right = loss(batch.expected, batch)
    assert right < loss(1.1 * batch.expected, batch)
    assert right < loss(0.9 * batch.expected, batch)


@pytest.mark.usefixtures("few_images")
def test_killed_and_resumed_gives_the_same_bits(bank, pool, tmp_path, monkeypatch):
    options = {
        "pool": pool._replace(clean=pool.clean.repeat(1, 4, 4)),
        "options": SMALL,
    }
    made, whole = learn.learn_pt_ceo2(bank, SHORT, **options)
    make = Batches.__call__

    def dies(self, number):
        if number == 3 and self.seed == 0:
            raise KeyboardInterrupt
        return make(self, number)

    monkeypatch.setattr(Batches, "__call__", dies)
    path = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        learn.learn_pt_ceo2(bank, SHORT, checkpoint=path, **options)
    monkeypatch.setattr(Batches, "__call__", make)
    _, resumed = learn.learn_pt_ceo2(bank, SHORT, checkpoint=path, **options)
    for a, b in zip(
        whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    saved = made.save(tmp_path / "d.safetensors", whole, seed=0)
    denoiser = load_denoiser(saved)
    assert (denoiser.pixel_size, denoiser.dose) == ((0.05, 0.26), learn.DOSES)
    counts = np.random.default_rng(0).poisson(3.0, (30, 31))
    np.testing.assert_allclose(denoiser(counts, 0.1), made(counts, 0.1), rtol=5e-3, atol=5e-3)


@pytest.mark.usefixtures("few_images")
def test_the_first_network_learns_too(bank, detector, monkeypatch):
    monkeypatch.setattr(learn, "BiasFreeCNN", partial(BiasFreeCNN, channels=8, layers=4))
    settings = replace(learn.BF_CNN_SETTINGS, steps=2, validate_every=2)
    denoiser, result = learn.learn_bf_cnn(bank, detector, settings, images=8)
    assert len(result.history) == 1
    assert not denoiser.binned


def test_a_bank_without_the_part_is_refused(bank):
    tiny = copy(bank)
    tiny.recipes = bank.recipes[:1]
    with pytest.raises(InputError, match="none is for validation"):
        draw_pool(tiny, "validation", 8)
