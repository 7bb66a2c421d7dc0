"""Files that microscopes wrote, where `python tests/files/foreign.py` has fetched them."""

import hyperspy.api as hs
import numpy as np
import pytest
from foreign import NAMES

from insitu import fetch, files

KNOWN = {  # shape, pixel size [A]
    NAMES[0]: ((1, 1024, 1024), 0.126953125),
    NAMES[1]: ((1, 2048, 2048), 0.0749840149),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_file_is_read_as_hyperspy_reads_it(name):
    path = fetch.data_cache() / "foreign" / name
    if not path.is_file():
        pytest.skip(f"{name} is not there; run python tests/files/foreign.py")
    movie = files.open_movie(path)
    shape, size = KNOWN[name]
    assert movie.shape == shape
    assert movie.pixel_size == pytest.approx(size, rel=1e-6)
    signal = hs.load(path)
    signal = signal[0] if isinstance(signal, list) else signal
    np.testing.assert_array_equal(movie.part()[0], signal.data)
    axis = signal.axes_manager.signal_axes[0]
    assert movie.pixel_size == pytest.approx(axis.scale * {"nm": 10, "pm": 0.01}[axis.units])
