"""Numbers of two metals, from volumes that are known."""

import numpy as np
import pytest

from insitu import InputError
from insitu.tomography import alloying
from insitu.tomography.phantoms import Phantom

MOMENTS = np.linspace(0, 1, 6)
CONTRAST = 2.42


@pytest.fixture(scope="module")
def particle():
    return Phantom("alloying rod", 40, MOMENTS, diffusivity=0.006)


@pytest.fixture(scope="module")
def volumes(particle):
    return particle.truth()


def test_the_diffusivity_is_found_again(particle, volumes):
    region = alloying.inside(volumes.mean(0), margin=0)
    rate, misfit = alloying.fitted_diffusivity(volumes, MOMENTS, contrast=CONTRAST, region=region)
    assert rate == pytest.approx(particle.diffusivity * 40**2, rel=0.06)
    assert misfit < 0.05


def test_the_index_rises_and_the_volume_stays(volumes):
    region = alloying.inside(volumes.mean(0))
    index = alloying.alloying_index(volumes, region, contrast=CONTRAST)
    assert 0 < index[0] < 0.3  # voxels at the core's edge hold both
    assert (np.diff(index) > 0).all()
    assert 0.6 < index[-1] < 1
    sizes = [alloying.volume(v) for v in volumes]
    assert np.ptp(sizes) < 0.03 * sizes[0]
    radius, half = 0.24 * 40, 0.21 * 40
    drawn = np.pi * radius**2 * 2 * half + 4 / 3 * np.pi * radius**3
    assert sizes[0] == pytest.approx(drawn, rel=0.02)


def test_segregation_of_two_halves_is_1_and_of_a_mixture_0():
    halves = np.ones((4, 4, 4), np.float32)
    halves[:2] = CONTRAST
    everywhere = np.ones(halves.shape, bool)
    volumes = np.stack((halves, np.full_like(halves, 1.5)))
    index = alloying.alloying_index(volumes, everywhere, contrast=CONTRAST)
    assert index == pytest.approx([0, 1], abs=1e-6)
    with pytest.raises(InputError, match="contrast"):
        alloying.alloying_index(volumes, everywhere, contrast=1.2)
