import numpy as np
import pytest

from insitu import InputError
from insitu.simulate import specimens
from insitu.simulate.bank import random_recipe
from insitu.simulate.lattice import CEO2, PT
from insitu.simulate.specimens import Recipe, build

KINDS = [
    *({"defect": d} for d in specimens.DEFECTS),
    {"truncation": 1.74, "diameter": 20.0},
    {"sunk": 0.0},
    {"roughness": 0.1, "seed": 5},
    {"tilt": (4.0, 0.0)},
    {"tilt": (0.0, -4.0)},
    {"diameter": 15.0, "thickness": 60.0},
    {"diameter": 50.0, "field": 80.0, "trilayers": 3},
    {"oxygen_vacancies": 3, "cerium_vacancies": 2},
]


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_is_physical(options):
    recipe = Recipe(**options)
    specimen = build(recipe)
    counts = {s: int((specimen.symbols == s).sum()) for s in ("Pt", "Ce", "O")}
    missing = {v["symbol"]: v["missing"] for v in specimen.info["vacancies"]}
    assert counts["O"] + missing.get("O", 0) == 2 * (counts["Ce"] + missing.get("Ce", 0))
    assert counts["Pt"] >= 10
    if not any(recipe.tilt):
        assert specimens.nearest_distance(specimen) > 1.5
    scaled = specimen.get_scaled_positions(wrap=False)
    assert (scaled >= 0).all()
    assert (scaled < 1).all()


def test_cube_on_cube():
    """Both crystals have [1-10] along the beam and [111] upwards: the planes tell."""
    specimen = build(Recipe())
    for symbol, parameter in (("Pt", PT), ("Ce", CEO2)):
        positions = specimen.positions[specimen.symbols == symbol]
        heights = np.unique(positions[:, 1].round(3))
        assert np.allclose(np.diff(heights), parameter / np.sqrt(3), atol=2e-3)
        along = np.unique(positions[:, 2].round(3))
        assert np.allclose(np.diff(along), parameter / np.sqrt(8), atol=2e-3)
    top = specimen.positions[specimen.symbols == "O", 1].min()
    bottom = specimen.positions[specimen.symbols == "Pt", 1].max()
    assert top - bottom == pytest.approx(specimens.GAP)


def test_same_recipe_same_atoms_and_the_seed_matters():
    a, b, c = (build(Recipe(seed=s, roughness=0.1)) for s in (1, 1, 2))
    assert np.array_equal(a.positions, b.positions)
    assert len(a) != len(c) or not np.array_equal(a.positions, c.positions)


def test_defects_do_what_they_say():
    def platinum(defect):
        found = specimens.columns(build(Recipe(defect=defect, seed=4)))
        metal = found["symbol"] == "Pt"
        return {key: found[key][metal] for key in ("atoms", "x", "y")}

    perfect = platinum("D0")
    columns, atoms = len(perfect["atoms"]), perfect["atoms"].sum()
    assert len(platinum("D1")["atoms"]) == columns - 1
    assert len(platinum("D2")["atoms"]) == columns - 2
    assert len(platinum("Dh")["atoms"]) == columns
    assert platinum("Dh")["atoms"].sum() < atoms
    assert platinum("Ds")["atoms"].min() == 1
    assert platinum("Da")["atoms"].sum() == atoms + 3
    assert platinum("Dl")["y"].min() < perfect["y"].min() - 2


def test_columns_and_surface():
    specimen = build(Recipe(seed=3))
    found = specimens.columns(specimen)
    assert found["atoms"].sum() == len(specimen)
    metal = found["symbol"] == "Pt"
    assert 0 < found["surface"][metal].sum() < metal.sum()
    assert not found["surface"][~metal].any()
    top = found["y"][metal].min()
    assert found["surface"][metal][found["y"][metal] < top + 0.1].all()


def test_tilt_smears_columns_but_keeps_their_atoms():
    level, leaning = (build(Recipe(tilt=t, thickness=40.0)) for t in ((0, 0), (0, 3.0)))
    assert np.array_equal(level.arrays["column"], leaning.arrays["column"])
    column = leaning.arrays["column"] == np.bincount(leaning.arrays["column"]).argmax()
    length = np.ptp(leaning.positions[column, 2])
    assert np.ptp(leaning.positions[column, 0]) == pytest.approx(
        length * np.tan(np.deg2rad(3)), rel=1e-6
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"diameter": 60.0}, "does not fit into a cell"),
        ({"thickness": -3.0}, "thickness: got -3, allowed is"),
        ({"defect": "D9"}, "defect: got 'D9', allowed is one of D0"),
        ({"tilt": (20.0, 0.0)}, "tilt: got"),
        ({"oxygen_vacancies": 50}, "a column has"),
        ({"diameter": float("nan")}, "diameter: got nan"),
    ],
)
def test_refuses_what_cannot_be(options, sentence):
    with pytest.raises(InputError, match=sentence):
        build(Recipe(**options))


def test_random_recipes_are_reproducible_and_differ():
    recipes = [random_recipe(7, i) for i in range(4)]
    assert recipes == [random_recipe(7, i) for i in range(4)]
    assert len({r.diameter for r in recipes}) == 4
