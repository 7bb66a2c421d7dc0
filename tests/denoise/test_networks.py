import pytest
import torch
from torch.nn import functional

from insitu import InputError
from insitu.denoise.networks import BiasFreeCNN, BiasFreeUNet, receptive_field, with_constants
from insitu.learning import checkpoints

SMALL = [
    lambda: checkpoints.seeded(BiasFreeCNN, 1, layers=5, channels=8),
    lambda: checkpoints.seeded(BiasFreeUNet, 1, channels=8, levels=2),
    lambda: checkpoints.seeded(BiasFreeUNet, 1, channels=8, levels=1, fold=2, windows=[16, 32]),
]


@pytest.mark.parametrize("make", SMALL)
def test_twice_the_input_is_twice_the_output(make):
    network = make().eval()
    counts = torch.poisson(
        torch.full((2, 1, 32, 36), 0.5), generator=torch.Generator().manual_seed(0)
    )
    once = network(counts)
    assert once.abs().max() > 0
    for factor in (0.01, 2.0, 100.0):
        error = (network(factor * counts) / factor - once).abs().max()
        assert error < 3e-5 * once.abs().max()
    assert torch.equal(network(0 * counts), 0 * once)


@pytest.mark.parametrize("make", SMALL)
def test_there_is_nothing_to_add(make):
    for name, _ in [*make().named_parameters(), *make().named_buffers()]:
        assert name.endswith(("weight", "gain", "running_deviation"))


@pytest.mark.parametrize("make", SMALL)
@pytest.mark.parametrize("shape", [(16, 16), (37, 53), (24, 31)])
def test_any_size(make, shape):
    counts = torch.rand(1, 1, *shape)
    assert make().eval()(counts).shape == counts.shape


def test_equal_inputs_are_shown_once():
    network = checkpoints.seeded(BiasFreeUNet, 1, channels=8, levels=1, fold=2, inputs=6).eval()
    images = torch.rand(2, 2, 30, 32, generator=torch.Generator().manual_seed(0))
    expected = network(images.repeat_interleave(3, 1))
    assert torch.allclose(network(images, copies=3), expected, atol=1e-5)
    folded = network.first(functional.pixel_unshuffle(images.repeat_interleave(3, 1), 2))
    assert torch.allclose(network.folded(images, 3), folded, atol=1e-5)


def test_the_published_size():
    network = BiasFreeCNN()
    convolutions = sum(p.numel() for n, p in network.named_parameters() if n.endswith("weight"))
    gains = sum(p.numel() for n, p in network.named_parameters() if n.endswith("gain"))
    assert (convolutions, gains) == (664_704, 18 * 64)
    assert receptive_field(BiasFreeCNN(layers=20, channels=4)) == 41


def test_the_pyramid_sees_further():
    assert receptive_field(BiasFreeUNet(channels=4, levels=3)) > 80
    plain, windows = ({"channels": 4, "levels": 1, "windows": w} for w in ([], [32]))
    seen = [receptive_field(BiasFreeUNet(**options)) for options in (plain, windows)]
    assert seen[1] >= seen[0] + 40


def test_signals_neither_die_nor_explode():
    counts = torch.poisson(
        torch.full((4, 1, 64, 64), 1.0), generator=torch.Generator().manual_seed(0)
    )
    for make in (BiasFreeCNN, BiasFreeUNet):
        output = checkpoints.seeded(make, 0).train()(counts)
        assert 0.01 < output.std() < 100


def test_norm_keeps_the_running_deviation():
    network = checkpoints.seeded(BiasFreeCNN, 0, layers=3, channels=4)
    image = torch.rand(2, 1, 16, 16)
    before = network.body[3].running_deviation.clone()
    network.train()(image)
    changed = network.body[3].running_deviation
    assert not torch.equal(before, changed)
    kept = changed.clone()
    network.eval()(image)
    assert torch.equal(kept, network.body[3].running_deviation)


def test_constants_break_the_proportion():
    network = with_constants(checkpoints.seeded(BiasFreeUNet, 1, channels=8, levels=1)).eval()
    counts = torch.rand(1, 1, 16, 16)
    assert torch.allclose(network(2 * counts), 2 * network(counts), rtol=1e-3)  # zeros at first
    for part in network.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.constant_(part.bias, 0.1)
    assert not torch.allclose(network(2 * counts), 2 * network(counts), rtol=1e-2)


def test_blocks_are_told_for_every_level():
    assert BiasFreeUNet(4, 2, [1, 2, 1]).options["blocks"] == [1, 2, 1]
    with pytest.raises(InputError, match="blocks: got 2 numbers, allowed are 3"):
        BiasFreeUNet(4, 2, [1, 2])
