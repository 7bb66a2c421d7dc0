"""Columns that are too many or too few, at a rate of false ones that is kept."""

import numpy as np
import pytest

from insitu.trust import missing

WIDTH = 1.6


def test_z_is_standard_normal_and_chance_gives_no_peak():
    """Of 300 maps of pure noise at most a few in a thousand may have a peak."""
    rng = np.random.default_rng(0)
    flat = np.full((8, 48, 48), 0.6)
    found, z = 0, []
    for number in range(150):
        y = rng.poisson(flat)
        for ring in (True, False):
            map_ = missing.difference(y, flat, flat, WIDTH, ring=ring)
            found += len(map_.peaks(1)) + len(map_.peaks(-1))
            if number < 20:
                z.append(map_.z[8:-8, 8:-8])
    assert found <= 2
    assert np.mean(z) == pytest.approx(0, abs=0.05)
    assert np.std(z) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("ring", [True, False])
def test_columns_are_found_where_they_are(still, ring):
    without = still.movie(np.delete(still.places, 14, 0))
    with_it = still.movie(np.concatenate([still.places, [(28.0, 94.0)]]))
    for shown, sign, place in ((without, -1, still.places[14]), (with_it, 1, (28.0, 94.0))):
        found = missing.difference(still.counts, shown, shown, WIDTH, ring=ring)
        (peak,) = found.peaks(sign)
        assert np.hypot(*(peak - np.array(place) - 0.5)) < 1.5
        assert not len(found.peaks(-sign))  # its lobes are none
        assert found.amplitude[tuple(peak)] * sign > 1  # of a height of 4


def test_a_faint_bias_is_no_column():
    """However many frames there are, and however sure it is."""
    flat = np.full((4, 48, 48), 1e6)
    shown = flat.copy()
    shown[:, 24, 24] *= 1.01
    found = missing.difference(np.random.default_rng(0).poisson(flat), shown, flat, WIDTH)
    assert found.z.max() > 5
    assert not len(found.peaks(1))
    assert (found.at(np.array([(24, 24)]), 1) == 0).all()


def test_sites_need_less_than_the_whole_map():
    rng = np.random.default_rng(1)
    assert not missing.clear(rng.standard_normal(10_000)).any()
    z = np.concatenate([rng.standard_normal(50), [4.5]])
    assert missing.clear(z).nonzero()[0].tolist() == [50]
    assert missing.clear(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 1), (12, 3, 5)])
def test_small_frames_have_no_peak_and_no_warning(shape):
    for value in (1e-6, 0.5):
        with np.errstate(all="raise", under="ignore"):
            flat = np.full(shape, value)
            found = missing.difference(flat, flat, flat, WIDTH)
            assert not len(found.peaks(1)) + len(found.peaks(-1))
            assert np.isfinite(found.z).all()
