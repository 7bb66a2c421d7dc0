"""Error bars by region: what is where, what is covered, and factors that mend it."""

import numpy as np
import pytest

from insitu.tomography import errorbars
from insitu.tomography.phantoms import Phantom


@pytest.fixture(scope="module")
def truth():
    return Phantom("alloying rod", 32, np.linspace(0, 1, 3)).truth()


def test_regions_are_where_they_are_said_to_be(truth):
    region = errorbars.regions(truth, contrast=2.42)
    assert (region[:, 0, 0, 0] == -1).all()
    assert (region[0] == 3).any()
    assert not (region[0] == 2).any()
    assert not (region[1:] == 3).any()
    at_edge = truth[0][region[0] == 3]
    assert at_edge.min() < 0.5 * 3.42 < at_edge.max()
    shell = region[0] == 1
    assert 0.5 < truth[0][shell].mean() < truth[0][region[0] == 0].mean()


def test_factors_learned_on_one_cover_another(truth):
    """Bars are too short in one region and too long in another, alike in both cases."""
    region = errorbars.regions(truth, contrast=2.42)
    wrong = np.array([0.5, 2.0, 1.0, 4.0, 0.0])[region]  # 0 outside, at -1
    cases = []
    for seed in (0, 1):
        noise = np.random.default_rng(seed).standard_normal(truth.shape)
        cases.append((truth + 0.1 * wrong * noise).astype(np.float32))
    bars = np.full(truth.shape, 0.1, np.float32)
    factors = errorbars.learned_factors(cases[0], bars, truth, region)
    assert factors == pytest.approx([0.5, 2, 1, 4], rel=0.25)
    judged = (cases[1], bars, truth, region)
    assert errorbars.coverage(*judged)[3] < 0.35
    assert errorbars.coverage(*judged, factors=factors) == pytest.approx([0.68] * 4, abs=0.12)
    nowhere = errorbars.coverage(*judged[:3], np.full(region.shape, -1, np.int8))
    assert (nowhere == 0).all()
