"""What axes, units, colours, pieces and compressions mean."""

import hyperspy.api as hs
import numpy as np
import pytest
import tifffile
import writers
from PIL import Image

from insitu import InputError, files
from insitu.files.axes import ANGSTROM, SECONDS, in_units, plain, reciprocal

RNG = np.random.default_rng(0)
MOVIE = RNG.poisson(0.8, (12, 48, 64)).astype(np.uint8)
LONG = RNG.poisson(0.8, (40, 48, 64)).astype(np.uint8)
COLOURS = RNG.integers(0, 255, (12, 48, 64, 3)).astype(np.uint8)
GREY = np.repeat(MOVIE[..., None], 3, -1)
OPAQUE = np.full((48, 64, 1), 255, np.uint8)


@pytest.mark.parametrize(
    ("unit", "size"),
    [
        *[(u, 0.01) for u in ("pm", "picometer", "pm/px")],
        *[(u, 1.0) for u in ("A", "Å", "\u212b", "angstrom", "Angstroms", "\\u00C5")],
        *[(u, 10.0) for u in ("nm", "nanometre", "[n_m]", "nm/pixel", "nm per pixel", "nm\0")],
        *[(u, 1e4) for u in ("um", "µm", "μm", "micron", "Microns", "\\u00B5m", "micrometer")],
        *[(u, 1e10) for u in ("m", "meter", "metres")],
        *[("mm", 1e7), ("cm", 1e8), ("inch", 2.54e8)],
        *[(u, None) for u in ("", "px", "pixel", "<undefined>", None, "furlong", "1/nm")],
    ],
)
def test_one_table_of_lengths(unit, size):
    assert in_units(1.0, unit, ANGSTROM) == (None if size is None else pytest.approx(size))


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [("s", 1), ("sec", 1), ("ms", 1e-3), ("µs", 1e-6), ("us", 1e-6), ("min", 60), ("h", 3600)],
)
def test_one_table_of_times(unit, seconds):
    assert in_units(1.0, unit, SECONDS) == pytest.approx(seconds)


def test_units_of_diffraction_are_no_lengths():
    for unit in ("1/nm", "nm^-1", "1 / nm", "nm⁻¹", "mrad", "1/Å", "nm-1", "reciprocal nm"):
        assert reciprocal(unit), unit
    for unit in ("nm", "A", "s", "", "m"):
        assert not reciprocal(unit), unit
    assert plain("nm/px") == "nm"


def colour(shape, **options):
    """A writer of a tif in colours of that many samples."""
    data = RNG.integers(0, 255, shape).astype(np.uint8)
    return lambda path: tifffile.imwrite(path, data, photometric="rgb", **options)


def palette(path):
    table = RNG.integers(0, 65535, (3, 256)).astype(np.uint16)
    tifffile.imwrite(path, MOVIE[0], photometric="palette", colormap=table)


COLOURED = {
    "rgb.tif": colour((200, 200, 3)),
    "rgba.tif": colour((48, 64, 4), extrasamples=["unassalpha"]),
    "planar.tif": colour((3, 200, 200), planarconfig="separate"),
    "movie.tif": colour((12, 48, 64, 3)),
    "planar-movie.tif": colour((12, 3, 48, 64), planarconfig="separate"),
    "palette.tif": palette,
    "rgb.npy": lambda p: np.save(p, COLOURS[0]),
    "movie.npy": lambda p: np.save(p, COLOURS),
    "rgb.png": lambda p: Image.fromarray(COLOURS[0]).save(p),
    "palette.png": lambda p: Image.fromarray(COLOURS[0]).convert("P").save(p),
    "imagej.tif": lambda p: tifffile.imwrite(p, COLOURS, imagej=True, metadata={"axes": "TYXS"}),
}


@pytest.mark.parametrize("name", COLOURED)
def test_pictures_in_colour_are_refused_as_such(tmp_path, name):
    COLOURED[name](tmp_path / name)
    with pytest.raises(InputError, match=r"it is a picture in colour.* as grey values$"):
        files.open_movie(tmp_path / name).part()


ALIKE = {
    "rgb.tif": (lambda p: tifffile.imwrite(p, GREY[0], photometric="rgb"), 1),
    "rgba.tif": (
        lambda p: tifffile.imwrite(
            p, np.dstack([GREY[0], OPAQUE]), photometric="rgb", extrasamples=["unassalpha"]
        ),
        1,
    ),
    "planar.tif": (
        lambda p: tifffile.imwrite(
            p, np.moveaxis(GREY[0], -1, 0), photometric="rgb", planarconfig="separate"
        ),
        1,
    ),
    "movie.tif": (lambda p: tifffile.imwrite(p, GREY, photometric="rgb"), 12),
    "movie.npy": (lambda p: np.save(p, GREY), 12),
    "rgb.png": (lambda p: Image.fromarray(GREY[0]).save(p), 1),
}


@pytest.mark.parametrize("name", ALIKE)
def test_grey_values_that_were_saved_as_colours_are_read(tmp_path, name):
    write, count = ALIKE[name]
    write(tmp_path / name)
    with pytest.warns(UserWarning, match="its colours are all alike"):
        movie = files.open_movie(tmp_path / name)
    np.testing.assert_array_equal(movie.part(), MOVIE[:count])


def test_an_image_of_one_channel_is_an_image(tmp_path):
    np.save(tmp_path / "a.npy", MOVIE[0][..., None])
    np.testing.assert_array_equal(files.open_movie(tmp_path / "a.npy").part(), MOVIE[:1])


def test_a_colour_in_a_later_frame_is_found(tmp_path):
    late = GREY.copy()
    late[7, 3, 3, 0] += 1
    tifffile.imwrite(tmp_path / "late.tif", late, photometric="rgb")
    with pytest.warns(UserWarning, match="alike"):
        movie = files.open_movie(tmp_path / "late.tif")
    with pytest.raises(InputError, match=r"late\.tif: it is a picture in colour"):
        movie.part()


@pytest.mark.parametrize(
    ("axes", "data", "words"),
    [
        ("TCYX", np.stack([MOVIE, MOVIE], 1), "it holds 2 channels; save the one that counts"),
        ("TZYX", np.stack([MOVIE, MOVIE], 1), r"the shape \(12, 2, 48, 64\) \(T, Z, Y, X\); a"),
    ],
)
def test_channels_and_volumes_are_refused_by_name(tmp_path, axes, data, words):
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": axes})
    with pytest.raises(InputError, match=words):
        files.open_movie(tmp_path / "a.tif")


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("names", [("time", "y", "x"), ("", "", ""), ("t", "height", "width")])
def test_time_is_found_wherever_it_is(tmp_path, at, names):
    """By its unit, or by its name."""
    made = hs.signals.BaseSignal(np.moveaxis(LONG, 0, at))
    order = [names[1], names[2]]
    order.insert(at, names[0])
    for n, (axis, name) in enumerate(zip(made.axes_manager._axes, order, strict=True)):
        axis.name, axis.units, axis.scale = name, "s" if n == at else "nm", 0.02
    made.save(tmp_path / "a.hspy")
    movie = files.open_movie(tmp_path / "a.hspy")
    np.testing.assert_array_equal(movie.part(), LONG)
    assert movie.frame_time == pytest.approx(0.02)
    assert movie.pixel_size == pytest.approx(0.2)


def test_time_without_a_unit_and_pixels_without_names(tmp_path):
    made = hs.signals.Signal2D(LONG)
    made.axes_manager.navigation_axes[0].name = "time"
    made.as_signal1D("time").save(tmp_path / "a.hspy")
    np.testing.assert_array_equal(files.open_movie(tmp_path / "a.hspy").part(), LONG)


@pytest.mark.parametrize("at", [0, 2])
@pytest.mark.parametrize("ending", ["hspy", "emd"])
def test_angles_of_a_tilt_axis(tmp_path, at, ending):
    made = hs.signals.BaseSignal(np.moveaxis(MOVIE, 0, at))
    axis = made.axes_manager._axes[at]
    axis.name, axis.units, axis.scale, axis.offset = "tilt", "degrees", 10.0, -60.0
    made.save(tmp_path / f"a.{ending}")
    movie = files.open_movie(tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(movie.part(), MOVIE)
    np.testing.assert_allclose(movie.angles, np.arange(-60, 60, 10))


def test_time_is_found_in_the_axes_of_a_tif(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(LONG, 0, 2), metadata={"axes": "YXT"})
    np.testing.assert_array_equal(files.open_movie(tmp_path / "a.tif").part(), LONG)


def pieces(*arrays):
    def write(path):
        for array in arrays:
            tifffile.imwrite(path, array, append=True, photometric="minisblack")

    return write


@pytest.mark.parametrize(
    ("write", "left"),
    [
        (pieces(*(LONG[i : i + 10] for i in range(0, 40, 10))), ""),
        (pieces(*LONG), ""),
        (pieces(LONG[:15], LONG[15:30], LONG[30:]), ""),
        (pieces(LONG[:10], LONG[10:]), "40 frames of 48 x 64 pixels were taken, of 2 pieces"),
        (pieces(MOVIE[0, ::2, ::2], LONG), "left out: an image of 24 x 32 pixels, uint8"),
        (pieces(MOVIE[0, ::2, ::2], *LONG), "of 40 pieces.*left out: an image of 24 x 32"),
        (pieces(LONG, LONG.mean(0).astype(np.float32)), "left out: an image of 48 x 64.*float32"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_pieces_that_fit_are_joined_and_others_named(tmp_path, write, left):
    write(tmp_path / "a.tif")
    movie = files.open_movie(tmp_path / "a.tif")
    np.testing.assert_array_equal(movie.part(), LONG)
    np.testing.assert_array_equal(movie.part("8:12"), LONG[8:12])
    if left:
        with pytest.warns(UserWarning, match=left):
            files.open_movie(tmp_path / "a.tif")
    else:
        assert movie.notes == ()


@pytest.mark.parametrize("shape", [(32, 32), (48, 64), (512, 600)])
@pytest.mark.parametrize("version", [3, 4])
def test_a_survey_image_is_left_out(tmp_path, shape, version):
    survey = {"data": np.ones(shape, np.uint8), "units": ("nm", "nm"), "name": "survey"}
    movie = {"data": MOVIE, "scales": (0.02, 0.012, 0.012), "units": ("s", "nm", "nm")}
    path = tmp_path / f"a.dm{version}"
    writers.write_dm(path, [survey, movie], version=version)
    with pytest.warns(UserWarning, match=r"12 frames .* left out: an image of .* survey"):
        found = files.open_movie(path)
    np.testing.assert_array_equal(found.part(), MOVIE)
    assert found.pixel_size == pytest.approx(0.12)


def test_electrons_of_a_value_are_told(tmp_path):
    one = {"data": MOVIE.astype("f4"), "gain": 0.25, "counts": "e-"}
    writers.write_dm(tmp_path / "a.dm3", [one])
    with pytest.warns(UserWarning, match=r"by the file a value of 1 is 0\.25 electrons"):
        files.open_movie(tmp_path / "a.dm3")


@pytest.mark.parametrize("how", ["lzw", "zlib", "zstd", "packbits", "lzma", "png", "jpegxl"])
@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"rowsperstrip": 7}])
def test_every_compression_is_read(tmp_path, how, options):
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "a.tif", MOVIE, compression=how, **options)
    movie = files.open_movie(tmp_path / "a.tif")
    np.testing.assert_array_equal(movie.part(), MOVIE)
    np.testing.assert_array_equal(movie.part("2:5", "10:30,14:40"), MOVIE[2:5, 10:30, 14:40])


def test_bits_and_lossy_compression(tmp_path):
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "four.tif", MOVIE, bitspersample=4)
    np.testing.assert_array_equal(files.open_movie(tmp_path / "four.tif").part(), MOVIE)
    Image.fromarray(MOVIE[0] > 0).save(tmp_path / "fax.tif", compression="group4")
    np.testing.assert_array_equal(files.open_movie(tmp_path / "fax.tif").part(), MOVIE[:1] > 0)
    tifffile.imwrite(tmp_path / "lossy.tif", MOVIE * 20, compression="jpeg")
    with pytest.warns(UserWarning, match="JPEG, changes the values; they are no counts"):
        assert files.open_movie(tmp_path / "lossy.tif").part().shape == MOVIE.shape


def test_a_missing_decoder_is_not_the_fault_of_the_file(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", MOVIE, compression="zlib")
    movie = files.open_movie(tmp_path / "a.tif")

    class Data:
        shape = MOVIE.shape

        def __getitem__(self, region):
            raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    object.__setattr__(movie, "data", Data())
    with pytest.raises(InputError, match="needs the package imagecodecs; install") as caught:
        movie.part()
    assert "copy the file again" not in str(caught.value)


def calibrated(path, y, x, units="nm"):
    one = {"data": MOVIE, "scales": (0.02, y, x), "units": ("s", units, units)}
    writers.write_dm(path, [one])
    return path


def test_pixels_that_are_not_square_have_no_size(tmp_path):
    path = calibrated(tmp_path / "a.dm3", 0.012, 0.024)
    with pytest.warns(UserWarning, match=r"0\.12 A high and 0\.24 A wide, not square; resample"):
        movie = files.open_movie(path)
    assert movie.pixel_size is None
    for ask in (movie.pixel_size_or, movie.pixel_size_if_known):
        with pytest.raises(InputError, match=r"movie_pixel_size: a\.dm3 has none to be used.*not"):
            ask(0.0)
    nearly = files.open_movie(calibrated(tmp_path / "b.dm3", 0.012, 0.01201))
    assert nearly.pixel_size == pytest.approx(0.12, rel=1e-3)


def test_diffraction_has_no_size_of_a_pixel(tmp_path):
    path = calibrated(tmp_path / "a.dm3", 0.1, 0.1, "1/nm")
    with pytest.warns(UserWarning, match="as those of a diffraction pattern"):
        movie = files.open_movie(path)
    with pytest.raises(InputError, match=r"movie_pixel_size: .*diffraction"):
        movie.pixel_size_or(0.0)


def test_nanometres_given_for_angstrom_are_noticed(tmp_path):
    movie = files.open_movie(calibrated(tmp_path / "a.dm3", 0.012, 0.012))
    assert movie.pixel_size_or(0.0) == pytest.approx(0.12)
    assert movie.pixel_size_or(0.15) == 0.15
    for given in (0.012, 1.2):
        with pytest.raises(InputError, match=r"tells 0\.12 A, ten times as .*1 nm is 10 A"):
            movie.pixel_size_or(given)
    np.save(tmp_path / "a.npy", MOVIE)
    plain_movie = files.open_movie(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"finer than any microscope's.*in nm, give 0\.12$"):
        plain_movie.pixel_size_or(0.012)
    assert plain_movie.pixel_size_if_known(0.0) == 0.0


def test_the_resolution_of_a_print_is_no_size_of_a_pixel(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", MOVIE, resolution=(72, 72), resolutionunit="INCH")
    assert files.open_movie(tmp_path / "a.tif").pixel_size is None


def test_complex_values_and_spectra_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.fft.fft2(MOVIE))
    with pytest.raises(InputError, match=r"a\.npy: it holds complex numbers"):
        files.open_movie(tmp_path / "a.npy")
    made = hs.signals.Signal1D(MOVIE.astype(float))
    made.axes_manager.signal_axes[0].units = "eV"
    made.save(tmp_path / "a.hspy")
    with pytest.raises(InputError, match=r"a\.hspy: it holds spectra"):
        files.open_movie(tmp_path / "a.hspy")
