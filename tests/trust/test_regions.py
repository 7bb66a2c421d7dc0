"""Vacuum, bulk, surface and support, of means of two movies."""

import numpy as np
import pytest

from insitu.trust.regions import find_regions


def regions(still, raw, denoised=None):
    shown = raw if denoised is None else denoised
    return find_regions(raw, shown, np.maximum(shown, 0.01) / 40, still.size)


def kinds(found):
    return dict(
        zip(*map(np.ndarray.tolist, np.unique(found.kind, return_counts=True)), strict=True)
    )


def mean(still, places):
    return still.movie(places, frames=1)[0]


def test_a_square_of_six_columns_has_twenty_at_its_surface(still):
    found = regions(still, still.counts.mean(0), still.clean.mean(0))
    assert kinds(found) == {"bulk": 16, "surface": 20}
    first = still.places.min()
    last = still.places.max()
    outer = ((still.places == first) | (still.places == last)).any(1)
    for place, kind in zip(found.positions, found.kind, strict=True):
        nearest = np.hypot(*(still.places + 0.5 - place).T)
        assert nearest.min() < 0.6
        assert (kind == "surface") == outer[nearest.argmin()]


def test_masks_do_not_overlap_and_vacuum_is_far(still):
    found = regions(still, mean(still, still.places))
    assert list(found.masks) == ["vacuum", "bulk", "surface"]
    assert np.sum(list(found.masks.values()), axis=0).max() == 1
    y, x = np.nonzero(found.masks["vacuum"])
    away = np.hypot(y[:, None] - still.places[:, 0], x[:, None] - still.places[:, 1]).min(1)
    assert 3.5 < away.min() * still.size < 3.8


def test_dark_columns_are_columns(still):
    bright = mean(still, still.places)
    found = regions(still, bright.max() + bright.min() - bright)
    assert kinds(found) == {"bulk": 16, "surface": 20}


def test_a_column_that_was_erased_is_judged_as_well(still):
    without = np.delete(still.places, 3, 0)
    found = regions(still, still.counts.mean(0), still.movie(without).mean(0))
    assert len(found.positions) == len(still.places)
    assert found.shown == len(without)
    assert np.hypot(*(found.positions[-1] - still.places[3] - 0.5)) < 0.6
    assert np.hypot(*(found.vacant - still.places[3] - 0.5).T).min() < 1.5


def test_columns_from_side_to_side_along_an_edge_are_a_support(still):
    across = np.arange(-1, 12) * 11.0 - 1
    support = [(y, x) for y in (97.0, 108.0) for x in across]
    particle = [p for p in still.places if p[0] < 70]
    found = regions(still, mean(still, [*particle, *support]))
    low = found.positions[:, 0] > 90
    assert set(found.kind[low]) == {"support"}
    assert set(found.kind[~low]) == {"bulk", "surface"}
    assert not (found.masks["vacuum"] & found.masks["support"]).any()


def test_where_columns_fill_the_frame_there_is_neither_vacuum_nor_support(still):
    everywhere = np.arange(-1, 12) * 11.0
    found = regions(still, mean(still, [(y, x) for y in everywhere for x in everywhere]))
    assert list(found.masks) == ["bulk"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (8, 8), (40, 40)])
def test_nothing_is_found_in_nothing(still, shape):
    for level in (0.0, 1.0):
        found = regions(still, np.full(shape, level))
        assert len(found.positions) == found.shown == len(found.vacant) == 0
        assert list(found.masks) == ["vacuum"]
        assert found.masks["vacuum"].all()
