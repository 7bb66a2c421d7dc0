import numpy as np
import pytest

from insitu.simulate import views
from insitu.simulate.bank import PARTS
from insitu.simulate.imaging import Optics
from insitu.simulate.specimens import Recipe
from insitu.trust.columns import find_columns, match


@pytest.fixture(scope="module")
def specimen():
    return views.specimen(Recipe(diameter=18, field=40, thickness=30, trilayers=2))


def test_numbers_are_of_the_test_part():
    numbers = views.fresh_numbers(5)
    assert len(numbers) == 5
    assert all(PARTS[n % 10] == "test" for n in numbers)
    assert min(numbers) >= 40  # beyond the bank that ships


@pytest.mark.parametrize(("pixel", "size"), [(0.062, 400), (0.15, 170)])
def test_columns_are_where_the_image_shows_them(specimen, pixel, size):
    taken = views.view(specimen, Optics(defocus=-80.0), pixel_size=pixel, size=size)
    found = find_columns(taken.clean, pixel, threshold=0.3, border=1.5)
    pairs = match(found.positions, taken.positions[taken.platinum], reach=0.5)
    assert len(pairs.found) >= 20
    assert np.median(pairs.distance) < 0.1


def test_the_chosen_place_comes_into_the_middle(specimen):
    at = specimen.atoms.positions[specimen.atoms.symbols == "Pt"][0, 1::-1]
    taken = views.view(specimen, Optics(), size=200, centre=at)
    middle = np.full(2, (200 - 1) / 2 * 0.062)
    assert np.linalg.norm(taken.positions - middle, axis=1).min() < 0.1
