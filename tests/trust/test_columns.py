import numpy as np
import pytest

from insitu.trust.columns import Score, find_columns, match, surface_score


def blobs(places, heights, size=200, pixel=0.1, width=0.53):
    y, x = np.mgrid[:size, :size] * pixel
    image = np.ones((size, size))
    for (py, px), h in zip(places, heights, strict=True):
        image += h * np.exp(-((y - py) ** 2 + (x - px) ** 2) / (2 * width**2))
    return image


PLACES = np.array([[4.03, 5.27], [4.0, 8.0], [10.11, 9.94], [15.55, 3.21]])


def test_blobs_are_found_where_they_are():
    found = find_columns(blobs(PLACES, [1, 0.5, 0.3, 0.2]), 0.1)
    pairs = match(found.positions, PLACES)
    assert len(pairs.found) == len(found.positions) == 4
    assert pairs.distance.max() < 0.03  # their tails overlap
    heights = found.strength[np.argsort(pairs.true)]
    np.testing.assert_allclose(heights, [1, 0.5, 0.3, 0.2], rtol=0.03)


@pytest.mark.parametrize("pixel", [0.05, 0.12, 0.2])
def test_whatever_the_pixels(pixel):
    image = blobs(PLACES, [1] * 4, size=round(20 / pixel), pixel=pixel)
    found = find_columns(image, pixel)
    assert match(found.positions, PLACES, reach=0.05).distance.size == 4


def test_dark_blobs_thresholds_and_borders():
    dark = -blobs(PLACES, [-0.5, 0.5, -0.05, -0.5])
    assert len(find_columns(dark, 0.1, threshold=0.2).positions) == 2
    assert len(find_columns(dark, 0.1, threshold=0.2, border=3.5).positions) == 1
    assert len(find_columns(np.ones((50, 50)), 0.1).positions) == 0


def test_pairs_are_one_to_one():
    pairs = match(np.array([[0, 0], [0.3, 0], [9, 9]]), np.array([[0.1, 0], [5, 5]]))
    assert pairs.found.tolist() == [0]
    assert pairs.true.tolist() == [0]
    assert match(np.zeros((0, 2)), PLACES).found.size == 0


def test_surface_score_counts_claims():
    surface = np.array([True, True, False, False])
    claims = np.array([[4.0, 5.3], [10.1, 9.9], [1.0, 1.0]])  # one right, one bulk, one false
    score = surface_score(claims, PLACES, surface)
    assert score == Score(1, 2, 2)
    assert (score.precision, score.recall, score.f1) == (0.5, 0.5, 0.5)
    assert score + score == Score(2, 4, 4)
    assert surface_score(np.zeros((0, 2)), PLACES, surface).recall == 0
