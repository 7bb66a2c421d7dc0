import pytest
import torch

from insitu import InputError
from insitu.denoise.blind_networks import UDVD, BlindVideoUNet
from insitu.learning import checkpoints

NETWORKS = {
    "UDVD": lambda blind: UDVD(6, blind),
    "ours": lambda blind: BlindVideoUNet(4, 2, 3, channels=4, levels=1, blind=blind, reach=4),
}


def positive(network):
    """No path is cut by a rectifier, so that what can be seen is seen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(0.05 + 0.1 * torch.rand(weight.shape, generator=generator))
    return network.double().eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("blind", [1, 3])
@pytest.mark.parametrize("shape", [(32, 32), (37, 53), (24, 29)])
def test_hidden_counts_have_no_gradient_and_the_others_have(name, blind, shape):
    network = positive(NETWORKS[name](blind))
    rows, columns = shape
    images = torch.rand(1, network.images, *shape, dtype=torch.float64).requires_grad_(True)
    answer = network(images)
    assert answer.shape == (1, 1, *shape)
    half = blind // 2
    for y, x in [
        (0, 0),
        (rows - 1, columns - 1),
        (rows // 2, columns // 2),
        (3, columns - 2),
        (rows // 2 + 1, columns // 2),
        (rows - 2, 1),
    ]:
        (gradient,) = torch.autograd.grad(answer[0, 0, y, x], images, retain_graph=True)
        frame = gradient[0, 0]
        box = (slice(max(0, y - half), y + half + 1), slice(max(0, x - half), x + half + 1))
        assert (frame[box] == 0).all()
        near = torch.zeros(shape, dtype=torch.bool)
        near[max(0, y - half - 1) : y + half + 2, max(0, x - half - 1) : x + half + 2] = True
        near[box] = False
        if name == "ours" or blind == 1:
            assert (frame[near] != 0).all()
        assert (frame[near] != 0).any()
        if name == "ours":  # all pixels of the other frames, the one at the place itself, too
            others = gradient[0, 1:5, max(0, y - 3) : y + 4, max(0, x - 3) : x + 4]
            assert (others != 0).all()
            assert (gradient[0, 5:, y, x] != 0).all()
            assert (gradient[0, 5:][:, box[0], box[1]] != 0).sum() == 5
            assert (gradient[0, 7:] != 0).sum() == 3  # averages: the place itself alone
            away = gradient[0, 5:7].nonzero()[:, 1:] - torch.tensor([y, x])
            assert (away % (blind + 1) == 0).all()  # places that are predicted with it
        else:  # the published network hides the place in all frames
            assert (gradient[0, :, y, x] == 0).all()


def test_udvd_has_the_published_number_of_weights():
    assert sum(p.numel() for p in UDVD().parameters()) == 2_123_664


@pytest.mark.parametrize("name", NETWORKS)
def test_twice_the_counts_give_twice_the_answer(name):
    network = checkpoints.seeded(NETWORKS[name], 0, blind=1).eval()
    images = torch.rand(2, network.images, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(network(3 * images), 3 * network(images), rtol=1e-4, atol=1e-5)


def test_ours_begins_as_the_last_image():
    network = BlindVideoUNet(4, 2, channels=4, levels=1)
    with torch.no_grad():
        network.mix[2].weight.zero_()
        images = torch.rand(1, 7, 37, 53)
        torch.testing.assert_close(network(images)[:, 0], images[:, -1])


def test_other_squares_are_refused():
    for make in NETWORKS.values():
        with pytest.raises(InputError, match="blind: got 2, allowed is one of 1, 3"):
            make(2)
