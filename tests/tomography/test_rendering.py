"""A picture of a volume shows what is in it, from where one stands."""

import numpy as np
import pytest

from insitu import InputError
from insitu.tomography.rendering import rendered

SIZE, CONTRAST = 24, 2.4


def ball(x0, core=0.0):
    z, y, x = np.mgrid[:SIZE, :SIZE, :SIZE] - (SIZE - 1) / 2
    r = np.sqrt(z**2 + y**2 + (x - x0) ** 2)
    return (r < 7) * 1.0 + (r < core) * (CONTRAST - 1)


def test_gold_is_seen_through_silver_and_only_where_it_is():
    without, within = (rendered(ball(0, core), contrast=CONTRAST) for core in (0, 4))
    yellow = (within[..., 0] - within[..., 2]) - (without[..., 0] - without[..., 2])
    middle = slice(60, 68)
    assert yellow[middle, middle].mean() > 0.4
    assert np.abs(yellow[:, :30]).max() < 0.02


def test_more_gold_is_denser():
    deep = [rendered(ball(0, core), contrast=CONTRAST)[64, 64, 2] for core in (2, 4, 6)]
    assert deep[0] > deep[1] > deep[2]


def test_a_turn_is_that_of_the_volume():
    """By a quarter: what lay behind comes to the side, to the same as in a volume turned so."""
    volume = ball(4.0, 3).transpose(0, 2, 1)
    turned = rendered(volume, contrast=CONTRAST, turn=90, tip=0, pixels=48)
    right, wrong = (
        rendered(np.rot90(volume, k, (1, 2)), contrast=CONTRAST, tip=0, pixels=48) for k in (-1, 1)
    )
    assert np.abs(turned - right).mean() < 1e-3
    assert np.abs(turned - wrong).mean() > 1e-2


def test_it_lies_where_the_volume_has_it():
    picture = rendered(ball(4.0), contrast=CONTRAST, tip=0, pixels=48)
    rows, columns = np.nonzero(picture.mean(2) < 0.97)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(23.5 + 8, abs=0.6)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(23.5, abs=0.6)


@pytest.mark.parametrize(
    ("volume", "contrast", "said"),
    [(np.zeros((4, 4, 5)), 2.4, "equal sides"), (np.zeros((4, 4, 4)), 1.0, "contrast")],
)
def test_what_cannot_be_drawn_is_refused(volume, contrast, said):
    with pytest.raises(InputError, match=said):
        rendered(volume, contrast=contrast)
