import copy

import numpy as np
import pytest
import torch

from insitu import InputError
from insitu.denoise.adapt import gain_tuned, thinned
from insitu.denoise.networks import BiasFreeUNet
from insitu.denoise.supervised import Denoiser
from insitu.learning import checkpoints


@pytest.fixture
def denoiser():
    network = checkpoints.seeded(BiasFreeUNet, 0, channels=8, levels=1, fold=2, windows=[16])
    return Denoiser(network.eval(), (0.05, 0.26), (1, 10_000))


def test_gains_alone_are_changed_and_the_original_is_not(denoiser):
    counts = np.random.default_rng(0).poisson(0.5, (96, 96))
    before = copy.deepcopy(denoiser.network.state_dict())
    tuned = gain_tuned(denoiser, counts, 0.062, steps=3)
    for name, value in tuned.network.state_dict().items():
        assert torch.equal(before[name], denoiser.network.state_dict()[name])
        assert torch.equal(value, before[name]) == (not name.endswith("gain"))


def test_what_it_predicts_becomes_likelier(denoiser):
    y, x = np.mgrid[:120, :120] * 0.062
    clean = 0.5 * (1 + 0.6 * np.cos(2 * np.pi * x / 2.8) * np.cos(2 * np.pi * y / 2.3))
    rng = np.random.default_rng(0)
    counts, others = rng.poisson(clean), rng.poisson(clean)

    def misfit(d):
        mean = np.maximum(d(counts, 0.062), 1e-3)
        return (mean - others * np.log(mean)).mean()

    assert misfit(gain_tuned(denoiser, counts, 0.062, steps=40)) < misfit(denoiser)


def test_the_same_seed_gives_the_same_gains(denoiser):
    counts = np.random.default_rng(0).poisson(0.5, (2, 64, 64))
    tuned = [gain_tuned(denoiser, counts, 0.13, steps=2, seed=s).network for s in (1, 1, 2)]
    gains = [
        torch.cat([p.flatten() for n, p in t.named_parameters() if n.endswith("gain")])
        for t in tuned
    ]
    assert torch.equal(gains[0], gains[1])
    assert not torch.equal(gains[0], gains[2])


def test_thinning_divides_electrons():
    counts = torch.poisson(torch.full((400, 400), 2.0))
    part = thinned(counts, 0.8, torch.Generator().manual_seed(0))
    rest = counts - part
    assert (rest >= 0).all()
    assert float(part.mean()) == pytest.approx(1.6, rel=0.01)
    assert abs(float(((part - part.mean()) * (rest - rest.mean())).mean())) < 0.01


def test_fractions_of_electrons_are_refused(denoiser):
    with pytest.raises(InputError, match="whole numbers"):
        gain_tuned(denoiser, np.full((32, 32), 0.5), 0.062)
