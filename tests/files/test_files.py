"""Movies are read from any file, and bad files are told in a sentence."""

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile

from insitu import InputError, fetch, files

MOVIE = np.random.default_rng(0).poisson(0.8, (12, 40, 48)).astype(np.uint8)


def test_same_movie_from_every_format(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", MOVIE)
    tifffile.imwrite(tmp_path / "packed.tif", MOVIE, compression="zlib")
    tifffile.imwrite(
        tmp_path / "imagej.tif",
        MOVIE,
        imagej=True,
        resolution=(1 / 0.012, 1 / 0.012),
        metadata={"unit": "nm", "axes": "TYX", "finterval": 0.02},
    )
    np.save(tmp_path / "b.npy", MOVIE)
    for name in ("a.tif", "packed.tif", "imagej.tif", "b.npy"):
        movie = files.open_movie(tmp_path / name)
        assert movie.shape == (12, 40, 48)
        assert np.array_equal(movie.part(), MOVIE)
        assert np.array_equal(movie.part("2:5", "10:30,14:40"), MOVIE[2:5, 10:30, 14:40])
    calibrated, plain = (files.open_movie(tmp_path / n) for n in ("imagej.tif", "a.tif"))
    assert calibrated.pixel_size == pytest.approx(0.12)
    assert calibrated.frame_time == pytest.approx(0.02)
    assert plain.pixel_size is plain.frame_time is None


def test_pixel_size_and_vacuum_of_a_part(tmp_path):
    np.save(tmp_path / "b.npy", MOVIE)
    movie = files.open_movie(tmp_path / "b.npy")
    assert movie.pixel_size_or(0.2) == 0.2
    with pytest.raises(InputError, match=r"movie_pixel_size: b.npy does not tell it; give it in"):
        movie.pixel_size_or(0.0)
    assert movie.vacuum("") is None
    assert movie.vacuum("0:20, 4:48") == (slice(0, 20), slice(4, 48))
    assert movie.vacuum("10:30,10:20", crop="10:40,5:45") == (slice(0, 20), slice(5, 15))
    with pytest.raises(InputError, match=r"movie_vacuum.*a larger crop"):
        movie.vacuum("0:20,10:20", crop="10:40,5:45")
    for bad in ("5", "0:2,0:48", "0:20,0:49", "a:b,c:d", "20:0,0:48"):
        with pytest.raises(InputError, match="movie_vacuum: "):
            movie.vacuum(bad)
        with pytest.raises(InputError, match="movie_crop: "):
            movie.part(crop=bad)


def test_hyperspy_file_with_its_pixel_size(tmp_path):
    with h5py.File(tmp_path / "c.hspy", "w") as f:
        f.attrs["file_format"], f.attrs["file_format_version"] = "HyperSpy", "3.3"
        group = f.create_group("Experiments/movie")
        group.create_dataset("data", data=MOVIE, chunks=True)
        for n, (name, scale) in enumerate((("t", 1.0), ("y", 0.024), ("x", 0.024))):
            axis = group.create_group(f"axis-{n}")
            axis.attrs.update(
                {
                    "name": name,
                    "scale": scale if n else 40.0,
                    "offset": 0.0,
                    "units": "nm" if n else "ms",
                    "size": MOVIE.shape[n],
                    "navigate": n == 0,
                    "_type": "UniformDataAxis",
                }
            )
        for extra in ("metadata", "original_metadata"):
            group.create_group(extra)
    movie = files.open_movie(tmp_path / "c.hspy")
    assert movie.pixel_size == pytest.approx(0.24)
    assert movie.frame_time == pytest.approx(0.04)
    assert np.array_equal(movie.part(), MOVIE)


def test_mrc_with_its_pixel_size(tmp_path):
    with mrcfile.new(tmp_path / "d.mrc") as file:
        file.set_data(MOVIE.astype(np.int16))
        file.voxel_size = 0.24
    movie = files.open_movie(tmp_path / "d.mrc")
    assert movie.pixel_size == pytest.approx(0.24)
    assert np.array_equal(movie.part(), MOVIE)
    whole = (tmp_path / "d.mrc").read_bytes()
    (tmp_path / "cut.mrc").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"damaged or truncated|cannot be read"):
        files.open_movie(tmp_path / "cut.mrc").part()


def test_single_image_is_a_movie_of_one_frame(tmp_path):
    np.save(tmp_path / "one.npy", MOVIE[0])
    assert files.open_movie(tmp_path / "one.npy").shape == (1, 40, 48)


def test_more_than_memory_holds_is_refused(tmp_path):
    np.save(tmp_path / "long.npy", np.zeros((2000, 200, 200), np.uint8))
    movie = files.open_movie(tmp_path / "long.npy")
    with pytest.raises(InputError, match=r"80 million values.*give movie_frames or movie_crop"):
        movie.part()
    assert movie.part("0:500").shape == (500, 200, 200)


def truncated(path):
    tifffile.imwrite(path, np.tile(MOVIE, (20, 1, 1)))
    path.write_bytes(path.read_bytes()[:100_000])


def truncated_packed(path):
    tifffile.imwrite(path, np.tile(MOVIE, (20, 1, 1)), compression="zlib")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BAD = {
    "missing.tif": (lambda _: None, "there is no file"),
    "folder.tif": (lambda p: p.mkdir(), "there is no file"),
    "empty.tif": (lambda p: p.write_bytes(b""), "is empty"),
    "text.tif": (lambda p: p.write_text("not an image\n" * 99), "cannot be read as .tif"),
    "text.npy": (lambda p: p.write_text("not an array\n" * 99), "cannot be read as .npy"),
    "text.mrc": (lambda p: p.write_text("not a movie\n" * 99), "cannot be read as .mrc"),
    "text.hspy": (lambda p: p.write_text("not a movie\n" * 99), "cannot be read as .hspy"),
    "cut.tif": (truncated, "truncated"),
    "cut_packed.tif": (truncated_packed, "truncated"),
    "cut.npy": (
        lambda p: (np.save(p, MOVIE), p.write_bytes(p.read_bytes()[:9000])),
        "cannot be read as .npy",
    ),
    "pickle.npy": (
        lambda p: np.save(p, np.array([{}], dtype=object), allow_pickle=True),
        "cannot be read as .npy",
    ),
    "colour.npy": (lambda p: np.save(p, np.zeros((2, 9, 9, 3))), "three axes"),
    "movie.mp4": (lambda p: p.write_bytes(b"x" * 99), "cannot be read as .mp4|are not known"),
    "movie.xyz": (lambda p: p.write_bytes(b"x" * 99), "are not known"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_a_sentence(tmp_path, name):
    make, sentence = BAD[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=sentence) as caught:
        files.open_movie(tmp_path / name).part()
    assert "\n" not in str(caught.value)


def test_recording_is_checked_and_its_absence_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("INSITU_DATA_CACHE", str(tmp_path))

    def no_network(*_args, **_kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(fetch.pooch, "retrieve", no_network)
    for content in (None, b"another file"):
        if content:
            (tmp_path / "pt-ceo2-etem.gif").write_bytes(content)
        with pytest.raises(fetch.Unavailable, match=r"can be had from https.*belongs into"):
            fetch.pt_ceo2_movie()


def test_real_movie_is_decoded_exactly(real_movie):
    assert real_movie.counts.shape == real_movie.denoised.shape == (40, 100, 100)
    known = [164425, 163544, 61175, 10167, 689]
    assert np.bincount(real_movie.counts.ravel()).tolist() == known


def test_shipped_files():
    assert fetch.shipped("pt_ceo2_clean.tif").is_file()
    assert "pt_ceo2_clean.tif" in fetch.files_read()
    with pytest.raises(InputError, match="is missing"):
        fetch.shipped("nothing.tif")
