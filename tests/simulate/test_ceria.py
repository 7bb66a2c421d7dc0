from collections import Counter

import numpy as np
import pytest
from scipy.spatial import cKDTree

from insitu import InputError
from insitu.simulate.ceria import FRAMES, THICKNESS, Slab, build_slab, random_slab
from insitu.simulate.lattice import CEO2
from insitu.simulate.specimens import nearest_distance

FULL = {"surface": "flat", "thickness": 5}


@pytest.mark.parametrize(("zone", "normal"), FRAMES)
def test_columns_are_those_of_fluorite(zone, normal):
    _, columns = build_slab(Slab(zone, normal, **FULL))
    places = np.stack([columns.x, columns.y], 1)
    cations, anions = places[columns.cation], places[~columns.cation]
    inner = (cations[:, 0] > 6) & (cations[:, 0] < 30)
    distance, _ = cKDTree(anions).query(cations[inner])
    apart = {"110": CEO2 / 4, "100": CEO2 / 4 * np.sqrt(2)}[zone]
    middle = np.median(distance)
    assert abs(middle - apart) < 1e-6
    sites = Counter(columns.possible[~columns.cation].tolist())
    assert set(sites) == {{"110": 5, "100": 10}[zone]}
    assert set(columns.possible[columns.cation].tolist()) == {5}


def test_the_atoms_are_those_that_the_columns_tell():
    recipe = Slab("110", "111", 6, wedge=2, cerium=0.1, oxygen=0.2, emptied=0.2, surface="stepped")
    specimen, columns = build_slab(recipe)
    cations = np.asarray(specimen.symbols == "Ce")
    for kind in (True, False):
        own = columns.cation == kind
        tree = cKDTree(np.stack([columns.x, columns.y], 1)[own])
        distance, column = tree.query(specimen.positions[cations == kind][:, :2])
        assert distance.max() < 0.01
        assert (np.bincount(column, minlength=own.sum()) == columns.atoms[own]).all()
    assert (columns.atoms < columns.possible).any()
    assert len(set(columns.possible.tolist())) > 1  # the wedge


def test_random_slabs_are_possible_and_the_same_each_time():
    zones = set()
    for number in range(25):
        recipe = random_slab(3, number)
        specimen, columns = build_slab(recipe)
        assert recipe == random_slab(3, number)
        assert np.array_equal(specimen.positions, build_slab(recipe)[0].positions)
        assert nearest_distance(specimen) > 1.5
        assert columns.possible.max() <= 12
        assert (columns.atoms <= columns.possible).all()
        low, high = THICKNESS[recipe.zone]
        assert low <= recipe.thickness <= high
        zones.add(recipe.zone)
    assert zones == {"110", "100"}


def test_a_column_can_be_held_at_any_number():
    recipe = Slab(**FULL, oxygen=0.2, seed=5)
    specimen, columns = build_slab(recipe)
    number = int(np.flatnonzero(columns.atoms == 5)[3])
    fewer, told = build_slab(recipe, {number: 2})
    other, _ = build_slab(recipe, {number: 2}, arrangement=1)
    assert len(specimen) - len(fewer) == 3
    assert told.atoms[number] == 2
    changed = told.atoms != columns.atoms
    assert changed.sum() == 1
    assert len(other) == len(fewer)
    assert not np.array_equal(other.positions, fewer.positions)


def test_a_tilt_leaves_the_middle_of_a_column_where_it_is():
    straight, tilted = (build_slab(Slab(**FULL, tilt=t))[1] for t in ((0, 0), (3.0, -2.0)))
    inner = (straight.x > 3) & (straight.x < 35)
    # columns begin half a repeat apart along the beam, which the tilt shows
    assert np.abs(straight.x - tilted.x)[inner].max() < 3.83 * np.tan(np.deg2rad(3))
    assert np.abs(straight.x - tilted.x)[inner].max() > 0.01


def test_vacancies_move_their_neighbours_as_far_as_told():
    still, moved = (build_slab(Slab(**FULL, oxygen=0.05, relaxation=r))[0] for r in (0.0, 0.1))
    shift = still.positions - moved.positions
    shift = np.linalg.norm(shift - np.median(shift, axis=0), axis=1)
    some = shift[(shift > 1e-6) & (shift < 1)]
    assert len(some) > 50
    assert abs(np.median(some) - 0.1) < 0.02


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"zone": "111"}, "zone: got '111'"),
        ({"zone": "100", "normal": "111"}, "normal: got '111'"),
        ({"oxygen": 1.5}, "oxygen: got 1.5, allowed is 0 to 1"),
        ({"wedge": 6}, "wedge: got 6, allowed is 0 to 5"),
        ({"platinum": 10.0, "surface": "stepped"}, "platinum: it stands on flat"),
        ({"tilt": (0.0, 20.0)}, "tilt: got 20"),
    ],
)
def test_what_cannot_be_built_is_refused(options, complaint):
    with pytest.raises(InputError, match=complaint):
        Slab(**options)
