"""Rows of dots."""

import matplotlib.pyplot as plt
import numpy as np

from insitu.book import charts


def test_dots_stand_in_the_row_of_their_name_first_on_top():
    _, axis = plt.subplots()
    charts.dots(axis, ["a", "b", "c"], {"x": [3.0, np.nan, 1.0]}, errors={"x": [0.5, 0.1, 0.2]})
    (drawn,) = axis.containers
    places = dict(zip(drawn[0].get_ydata(), drawn[0].get_xdata(), strict=True))
    assert places[0] == 3.0
    assert places[2] == 1.0
    assert [t.get_text() for t in axis.get_yticklabels()] == ["a", "b", "c"]
    top, bottom = (axis.transData.transform((0, row))[1] for row in (0, 2))
    assert top > bottom
    (bars,) = drawn[2]
    assert bars.get_segments()[0][:, 0].tolist() == [2.5, 3.5]
    plt.close()
