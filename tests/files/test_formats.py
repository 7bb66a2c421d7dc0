"""The same counts from every format, in three layouts, with their axes and units."""

import shutil

import h5py
import hyperspy.api as hs
import mrcfile
import numpy as np
import pytest
import tifffile
import writers
import zarr
from PIL import Image

from insitu import InputError, files

MOVIE = np.random.default_rng(0).poisson(0.8, (12, 48, 64)).astype(np.uint8)
LONG = np.random.default_rng(1).poisson(0.8, (40, 48, 64)).astype(np.uint8)
PIXEL, TIME = 0.12, 0.02  # A, s


def signal(data, *, scale=0.012, units="nm", time=TIME):
    """A signal of HyperSpy with named axes."""
    made = hs.signals.Signal2D(data)
    for axis, name in zip(made.axes_manager.signal_axes, "xy", strict=True):
        axis.name, axis.units, axis.scale = name, units, scale
    for axis in made.axes_manager.navigation_axes:
        axis.name, axis.units, axis.scale = "time", "s", time
    return made


def contiguous(path):
    """A .hspy whose data are not in chunks, as h5py writes them by itself."""
    signal(MOVIE).save(path)
    with h5py.File(path, "r+") as file:
        group = next(iter(file["Experiments"].values()))
        data = group["data"][()]
        del group["data"]
        group["data"] = data


def ome_zarr(path):
    group = zarr.open_group(path, mode="w", zarr_format=2)
    scales = []
    for level, step in enumerate((1, 2)):
        group.create_array(str(level), data=MOVIE[:, ::step, ::step])
        change = {"type": "scale", "scale": [20.0, 0.012 * step, 0.012 * step]}
        scales.append({"path": str(level), "coordinateTransformations": [change]})
    units = ("millisecond", "nanometer", "nanometer")
    axes = [{"name": n, "unit": u} for n, u in zip("tyx", units, strict=True)]
    group.attrs["multiscales"] = [{"axes": axes, "datasets": scales}]


def pyramid(path):
    about = {"axes": "TYX", "PhysicalSizeX": 12.0, "PhysicalSizeY": 12.0}
    about |= {"PhysicalSizeXUnit": "pm", "PhysicalSizeYUnit": "pm"}
    about |= {"TimeIncrement": 20, "TimeIncrementUnit": "ms"}
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(MOVIE, subifds=1, tile=(16, 16), metadata=about)
        tif.write(MOVIE[:, ::2, ::2], subfiletype=1, tile=(16, 16))


def imagej(path):
    about = {"axes": "TYX", "unit": "nm", "finterval": TIME}
    tifffile.imwrite(path, MOVIE, imagej=True, resolution=(1 / 0.012,) * 2, metadata=about)


def dm(version, **change):
    given = {"data": MOVIE, "scales": (TIME, 0.012, 0.012), "units": ("s", "nm", "nm")} | change
    return lambda path: writers.write_dm(path, [given], version=version)


def velox(path):
    writers.write_velox(path, MOVIE.astype(np.uint16), metres=1.2e-11, seconds=TIME)


def last(path):
    """Time as the last axis, as the spectra of an image."""
    signal(MOVIE).as_signal1D("time").save(path)


def mrc(path):
    with mrcfile.new(path) as file:
        file.set_data(MOVIE.astype(np.int16))
        file.voxel_size = PIXEL


CALIBRATED = {  # with size and time
    "a.hspy": lambda p: signal(MOVIE).save(p),
    "contiguous.hspy": contiguous,
    "last.hspy": last,
    "renamed.hdf5": lambda p: (
        signal(MOVIE).save(p.with_suffix(".hspy")),
        shutil.move(p.with_suffix(".hspy"), p),
    ),
    "ncem.emd": lambda p: signal(MOVIE).save(p),
    "last.emd": last,
    "velox.emd": velox,
    "a.nxs": lambda p: signal(MOVIE).save(p),
    "a.rpl": lambda p: signal(MOVIE).save(p),
    "a.sur": lambda p: signal(MOVIE).save(p),
    "last.sur": last,
    "a.dm3": dm(3),
    "a.dm4": dm(4),
    "last.dm3": dm(
        3,
        data=MOVIE.transpose(1, 2, 0).copy(),
        scales=(0.012, 0.012, TIME),
        units=("nm", "nm", "s"),
    ),
    "negative.dm4": dm(4, scales=(TIME, -0.012, -0.012)),
    "um.dm3": dm(3, scales=(20.0, 1.2e-5, 1.2e-5), units=("ms", "µm", "µm")),
    "pyramid.ome.tif": pyramid,
    "imagej.tif": imagej,
    "ome.zarr": ome_zarr,
}
SIZED = {  # with the size alone
    "a.mrc": mrc,
    "rosetta.tif": lambda p: signal(MOVIE).save(p),
    "cm.tif": lambda p: tifffile.imwrite(
        p, MOVIE, resolution=(1 / 1.2e-9,) * 2, resolutionunit="CENTIMETER"
    ),
}
PLAIN = {  # with neither
    "a.npy": lambda p: np.save(p, MOVIE),
    "big-endian.npy": lambda p: np.save(p, MOVIE.astype(">u2")),
    "fortran.npy": lambda p: np.save(p, np.asfortranarray(MOVIE)),
    "a.npz": lambda p: np.savez_compressed(p, MOVIE),
    "a.prz": lambda p: signal(MOVIE).save(p),
    "big-endian.tif": lambda p: tifffile.imwrite(p, MOVIE.astype(">u2"), byteorder=">"),
    "bigtiff.tif": lambda p: tifffile.imwrite(p, MOVIE, bigtiff=True),
    "v2.zarr": lambda p: zarr.save_array(p, MOVIE, zarr_format=2),
    "v3.zarr": lambda p: zarr.save_array(p, MOVIE, zarr_format=3),
    "group.zarr": lambda p: zarr.open_group(p, mode="w").create_array("frames", data=MOVIE),
    "named.zarr": lambda p: zarr.create_array(
        p, data=MOVIE.transpose(1, 2, 0), dimension_names=["y", "x", "t"]
    ),
    "wrong-ending.mrc": lambda p: tifffile.imwrite(p, MOVIE),
    "wrong-ending.tif": lambda p: np.save(p.open("wb"), MOVIE),
}


@pytest.mark.parametrize("name", [*CALIBRATED, *SIZED, *PLAIN])
@pytest.mark.filterwarnings("ignore")
def test_a_movie_is_the_same_from_every_format(tmp_path, name):
    path = tmp_path / name
    (CALIBRATED | SIZED | PLAIN)[name](path)
    movie = files.open_movie(path)
    np.testing.assert_array_equal(movie.part(), MOVIE)
    part = movie.part("2:5", "10:30,14:40")
    np.testing.assert_array_equal(part, MOVIE[2:5, 10:30, 14:40])
    assert part.dtype.isnative
    sized, timed = name not in PLAIN, name in CALIBRATED
    assert movie.pixel_size == (pytest.approx(PIXEL, rel=1e-6) if sized else None)
    assert movie.frame_time == (pytest.approx(TIME, rel=1e-6) if timed else None)
    assert bool(movie.notes) == name.startswith("wrong")


SINGLE = ("hspy", "emd", "nxs", "rpl", "sur", "tif", "npy", "png", "prz")


@pytest.mark.parametrize("ending", SINGLE)
@pytest.mark.filterwarnings("ignore")
def test_an_image_is_a_movie_of_one_frame(tmp_path, ending):
    path = tmp_path / f"one.{ending}"
    signal(MOVIE[0]).save(path)
    movie = files.open_movie(path)
    np.testing.assert_array_equal(movie.part(), MOVIE[:1])
    assert movie.pixel_size in (None, pytest.approx(PIXEL))


@pytest.mark.filterwarnings("ignore")
def test_a_tvips_recording(tmp_path):
    signal(MOVIE).save(tmp_path / "a.tvips")
    movie = files.open_movie(tmp_path / "a_000.tvips")
    np.testing.assert_array_equal(movie.part(), MOVIE)
    assert movie.frame_time == pytest.approx(TIME)


def test_a_recording_of_a_merlin_camera(tmp_path):
    frames = np.random.default_rng(0).poisson(0.8, (6, 256, 256)).astype(np.uint8)
    writers.write_mib(tmp_path / "a.mib", frames)
    np.testing.assert_array_equal(files.open_movie(tmp_path / "a.mib").part(), frames)


def test_raw_electrons_of_an_eer_are_summed_as_asked(tmp_path):
    electrons = np.random.default_rng(0).random((12, 48, 64)) < 0.05
    writers.write_eer(tmp_path / "a.eer", electrons)
    with pytest.raises(InputError, match="12 raw frames with hardly an electron each; say how"):
        files.open_movie(tmp_path / "a.eer")
    movie = files.open_movie(tmp_path / "a.eer", sum_frames=3)
    np.testing.assert_array_equal(movie.part(), electrons.reshape(4, 3, 48, 64).sum(1))
    assert movie.pixel_size == pytest.approx(PIXEL)
    with pytest.warns(UserWarning, match="the last 2 frames do not fill a sum"):
        assert files.open_movie(tmp_path / "a.eer", sum_frames=5).shape == (2, 48, 64)
    with pytest.raises(InputError, match="sum_frames: got 13, allowed is 0 to 12"):
        files.open_movie(tmp_path / "a.eer", sum_frames=13)


def test_frames_of_a_detector_are_joined(tmp_path):
    with h5py.File(tmp_path / "x_master.h5", "w") as file:
        for n in range(4):
            file[f"entry/data/data_{n + 1:06d}"] = LONG[10 * n : 10 * n + 10]
    np.testing.assert_array_equal(files.open_movie(tmp_path / "x_master.h5").part(), LONG)


@pytest.mark.filterwarnings("ignore")
def test_a_gif_tells_its_frames_and_their_time(tmp_path):
    frames = [Image.fromarray(frame * 20) for frame in MOVIE]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=40)
    movie = files.open_movie(tmp_path / "a.gif")
    np.testing.assert_array_equal(movie.part(), MOVIE * 20)
    assert movie.frame_time == pytest.approx(0.04)


def test_a_folder_of_frames_in_the_order_of_counting(tmp_path):
    for n, frame in enumerate(MOVIE):
        tifffile.imwrite(tmp_path / f"frame_{n}.tif", frame)
    np.testing.assert_array_equal(files.open_movie(tmp_path).part(), MOVIE)
    tifffile.imwrite(tmp_path / "thumbnail.tif", MOVIE[0, ::2, ::2])
    np.save(tmp_path / "other.npy", MOVIE)
    with pytest.warns(UserWarning, match=r"12 files \.tif were taken; left out: 1 \.npy, thumb"):
        np.testing.assert_array_equal(files.open_movie(tmp_path).part(), MOVIE)


def test_a_folder_of_an_in_situ_camera(tmp_path):
    for n, frame in enumerate(MOVIE):
        folder = tmp_path / f"Hour_00/Minute_00/Second_{n // 5:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        one = {"data": frame, "scales": (0.012, 0.012), "units": ("nm", "nm")}
        writers.write_dm(folder / f"a_Frame_{n:04d}.dm4", [one], version=4)
    movie = files.open_movie(tmp_path)
    np.testing.assert_array_equal(movie.part(), MOVIE)
    assert movie.pixel_size == pytest.approx(PIXEL)


def test_a_folder_of_pieces(tmp_path):
    for n in range(4):
        tifffile.imwrite(tmp_path / f"{n}.tif", LONG[10 * n : 10 * n + 10])
    np.testing.assert_array_equal(files.open_movie(tmp_path).part(), LONG)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.gtg", b"gtg" * 99, r"a\.gtg: raw Gatan K2-IS files are read by LiberTEM alone"),
        ("a.seq", b"\xed\xfe\0\0" * 99, r"a\.seq: Norpix \.seq files are read by LiberTEM alone"),
        ("a.mp4", b"x" * 99, "a video is made for the eye"),
        ("a.mrc.gz", b"\x1f\x8b" * 99, "is packed by gzip or bzip2; unpack it first"),
        ("a.mrcz", b"x" * 2000, "a.mrcz: files ending in .mrcz are not known|needs the package"),
    ],
)
def test_what_to_export_instead(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        files.open_movie(tmp_path / name)


@pytest.mark.filterwarnings("error")
def test_blocks_that_are_not_there_are_counted(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=MOVIE + 1, chunks=(1, 48, 64))
    assert files.open_movie(tmp_path / "a.zarr").notes == ()
    for n in (3, 8):
        (tmp_path / "a.zarr" / "c" / str(n) / "0" / "0").unlink()
    with pytest.warns(UserWarning, match="2 of 12 blocks are not on the disk and read as 0"):
        files.open_movie(tmp_path / "a.zarr")


def test_opening_takes_no_memory(tmp_path):
    """A movie of 4 GB, most of which is not on the disk, is opened and a part of it read."""
    path = tmp_path / "large.mrc"
    writers.write_mrc(path, np.zeros((1, 1024, 1024), np.uint16), 6, shape=(2048, 1024, 1024))
    with path.open("r+b") as file:
        file.truncate(1024 + 2048 * 1024 * 1024 * 2)
    import tracemalloc

    tracemalloc.start()
    movie = files.open_movie(path)
    assert movie.part("7:9", "0:50,0:60").shape == (2, 50, 60)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert movie.shape == (2048, 1024, 1024)
    assert held < 60e6
