"""mrc: bytes with and without a sign, 4 bits, byte orders, old headers, every mode."""

import numpy as np
import pytest
import writers

from insitu import InputError, files
from insitu.tomography.series import open_tilt_series

RNG = np.random.default_rng(0)
MOVIE = RNG.poisson(0.8, (12, 48, 64)).astype(np.uint8)
BYTES = RNG.integers(0, 256, (12, 48, 64)).astype(np.uint8)
SIGNED = BYTES.view(np.int8)


@pytest.mark.parametrize(
    ("told", "right"),
    [
        ({"flags": 1}, SIGNED),
        ({"flags": 0}, BYTES),
        ({"flags": 0, "range": (-128, 127)}, BYTES),  # the stamp decides
        ({"flags": 1, "range": (0, 255)}, SIGNED),
        ({"range": (-128, 127)}, SIGNED),
        ({"range": (0, 255)}, BYTES),
        ({"range": (-128, 127), "order": ">"}, SIGNED),
        ({"flags": 1, "order": ">"}, SIGNED),
    ],
)
def test_bytes_have_a_sign_or_not(tmp_path, told, right):
    writers.write_mrc(tmp_path / "a.mrc", BYTES, 0, **told)
    np.testing.assert_array_equal(files.open_movie(tmp_path / "a.mrc").part(), right)


@pytest.mark.parametrize("told", [{}, {"range": (0, 100)}, {"range": (0, -1)}])
def test_bytes_that_mean_two_things_are_refused_with_both(tmp_path, told):
    writers.write_mrc(tmp_path / "a.mrc", BYTES, 0, **told)
    words = r"a\.mrc: its bytes may be unsigned, up to 255, or signed, from -128, and the header"
    with pytest.raises(InputError, match=words):
        files.open_movie(tmp_path / "a.mrc").part()
    writers.write_mrc(tmp_path / "a.mrc", MOVIE, 0, **told)
    np.testing.assert_array_equal(files.open_movie(tmp_path / "a.mrc").part(), MOVIE)


def test_a_large_byte_in_a_later_frame_is_found(tmp_path):
    late = MOVIE.copy()
    late[9, 1, 2] = 200
    writers.write_mrc(tmp_path / "a.mrc", late, 0)
    with pytest.raises(InputError, match="unsigned, up to 200, or signed, from -56"):
        files.open_movie(tmp_path / "a.mrc").part()


@pytest.mark.parametrize(("flags", "sign"), [(0, 1), (1, -1)])
def test_a_tilt_series_reads_bytes_as_a_movie_does(tmp_path, flags, sign):
    disc = np.hypot(*np.mgrid[-10:10, -16:16]) < 8
    tilts = np.where(disc, 200, 5) * np.ones((7, 1, 1))
    writers.write_mrc(tmp_path / "a.mrc", tilts.astype(np.uint8), 0, flags=flags)
    np.savetxt(tmp_path / "a.tlt", np.linspace(-60, 60, 7))
    if sign > 0:
        series = open_tilt_series(tmp_path / "a.mrc", axis="z")
        np.testing.assert_array_equal(series.projections, tilts)
    else:
        with pytest.raises(InputError, match="the lowest value is -56"):
            open_tilt_series(tmp_path / "a.mrc", axis="z")


@pytest.mark.parametrize("columns", [64, 63])
@pytest.mark.parametrize("order", "<>")
def test_four_bits_a_pixel(tmp_path, columns, order):
    movie = MOVIE[:, :, :columns]
    told = {"shape": movie.shape, "order": order}
    writers.write_mrc(tmp_path / "a.mrc", writers.packed(movie), 101, **told)
    found = files.open_movie(tmp_path / "a.mrc")
    np.testing.assert_array_equal(found.part(), movie)
    np.testing.assert_array_equal(found.part("2:5", "10:30,15:40"), movie[2:5, 10:30, 15:40])


def test_four_bits_in_half_as_many_bytes(tmp_path):
    told = {"flags": 16, "shape": (12, 48, 32), "pixel_size": (0.12, 0.24)}
    writers.write_mrc(tmp_path / "a.mrc", writers.packed(MOVIE), 0, **told)
    found = files.open_movie(tmp_path / "a.mrc")
    np.testing.assert_array_equal(found.part(), MOVIE)
    assert found.pixel_size == pytest.approx(0.12)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("mode", "kind"), [(1, "i2"), (2, "f4"), (6, "u2"), (7, "i4"), (12, "f2")])
def test_every_mode_in_either_byte_order(tmp_path, mode, kind, order, old):
    writers.write_mrc(tmp_path / "a.mrc", MOVIE.astype(kind), mode, order=order, old=old)
    movie = files.open_movie(tmp_path / "a.mrc")
    part = movie.part()
    np.testing.assert_array_equal(part, MOVIE)
    assert part.dtype.isnative
    assert part.dtype != np.float16
    assert movie.pixel_size == pytest.approx(0.12)


@pytest.mark.parametrize("ending", [".mrcs", ".st", ".ali", ".rec", ".map", ".dat"])
@pytest.mark.filterwarnings("ignore")
def test_other_endings(tmp_path, ending):
    writers.write_mrc(tmp_path / f"a{ending}", MOVIE.astype("i2"), 1)
    np.testing.assert_array_equal(files.open_movie(tmp_path / f"a{ending}").part(), MOVIE)


def test_pixels_by_the_cell(tmp_path):
    writers.write_mrc(tmp_path / "a.mrc", MOVIE.astype("i2"), 1, pixel_size=(-0.12, -0.12))
    assert files.open_movie(tmp_path / "a.mrc").pixel_size == pytest.approx(0.12)
    for unknown in (0.0, 1.0):
        size = (unknown, unknown)
        writers.write_mrc(tmp_path / "a.mrc", MOVIE.astype("i2"), 1, pixel_size=size)
        assert files.open_movie(tmp_path / "a.mrc").pixel_size is None
    writers.write_mrc(tmp_path / "a.mrc", MOVIE.astype("i2"), 1, pixel_size=(0.12, 0.3))
    with pytest.warns(UserWarning, match="not square"):
        assert files.open_movie(tmp_path / "a.mrc").pixel_size is None


def test_what_an_mrc_cannot_be(tmp_path):
    path = tmp_path / "a.mrc"
    writers.write_mrc(path, MOVIE.astype("c8"), 4)
    with pytest.raises(InputError, match="it holds complex numbers"):
        files.open_movie(path)
    writers.write_mrc(path, MOVIE.astype("i4"), 3)
    with pytest.raises(InputError, match="mode 3 of mrc holds no intensities"):
        files.open_movie(path)
    writers.write_mrc(path, MOVIE.astype("i2"), 1, shape=(13, 48, 64))
    with pytest.raises(InputError, match="truncated, 13 frames of 48 x 64 pixels are"):
        files.open_movie(path)
    writers.write_mrc(path, MOVIE.astype("i2"), 1, shape=(10, 48, 64))
    with pytest.warns(UserWarning, match="long enough for 2 more; is its head right"):
        assert files.open_movie(path).shape == (10, 48, 64)
