import pytest
import torch

from insitu.learning.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5), (1, 30), (30, 1)])
def test_singular_values_come_near_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix))
    assert values.max() < 1.3
    assert values.min() > 0.3
    # the same singular vectors
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    turned = u.mT @ orthogonal(matrix) @ v.mT
    assert (turned - torch.diag(turned.diagonal())).abs().max() < 1e-4


def test_finds_the_least_of_a_narrow_valley():
    torch.manual_seed(0)
    target, scale = torch.randn(6, 4, 3, 3), torch.logspace(-2, 0, 6)[:, None, None, None]
    weight = torch.nn.Parameter(torch.zeros_like(target))
    gain = torch.nn.Parameter(torch.zeros(5))
    optimiser = Muon([weight, gain], lr=0.05)
    for step in range(400):
        loss = (scale * (weight - target) ** 2).sum() + (gain - 2).square().sum()
        optimiser.zero_grad()
        loss.backward()
        for group in optimiser.param_groups:
            group["lr"] = 0.05 * (1 - step / 400)
        optimiser.step()
    assert (weight - target).abs().max() < 0.05
    assert (gain - 2).abs().max() < 0.05
