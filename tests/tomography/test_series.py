"""Tilt series: read, checked, written; every bad input in one sentence."""

import mrcfile
import numpy as np
import pytest
import tifffile
import zarr

from insitu import InputError, fetch
from insitu.tomography import needle
from insitu.tomography.algebraic import sirt
from insitu.tomography.projection import Projector
from insitu.tomography.series import open_tilt_series, tilt_series, write_mrc, write_volumes
from insitu.tomography.volumes import axis_offset


@pytest.fixture
def series():
    """Ten tilts of an off-centre rod along z: (projections, angles, times)."""
    angles = np.linspace(-60, 60, 10)
    y, x = np.mgrid[:20, :20] - 9.5
    slices = np.stack([(np.hypot(x - 4, y + 2) < 3.0 + 0.1 * z) * 1.0 for z in range(12)])
    return Projector(angles, 20)(slices.astype(np.float32)), angles, np.arange(10.0)


def test_tilts_are_put_in_the_order_of_their_times(series):
    p, a, t = series
    shuffled = np.random.default_rng(0).permutation(10)
    found = tilt_series(p[shuffled], a[shuffled], t[shuffled])
    np.testing.assert_array_equal(found.angles, a)
    np.testing.assert_array_equal(found.projections, p.astype(np.float32))
    assert found.moments[0] == 0
    assert found.moments[-1] == 1
    assert found.until(5).moments[-1] == pytest.approx(4 / 9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, a, t: (p, a[:-1], t), "10 projections, 9 angles and 10 times"),
        (lambda p, a, t: (p, a, np.where(t == 4, 3, t)), "times: 3 comes more than once"),
        (lambda p, a, t: (p.transpose(0, 2, 1), a, t), "tilt axis runs in the other direction"),
        (lambda p, a, t: (np.where(p > 5, np.nan, p), a, t), "NaN or infinite"),
        (lambda p, a, t: (p, np.where(t == 2, np.nan, a), t), "angles: 1 values are NaN"),
        (lambda p, a, t: (p - 3, a, t), "far below 0"),
        (lambda p, a, t: (p[:1], a[:1], t[:1]), "1 tilts"),
        (lambda p, a, t: (p[0], a, t), "three axes"),
        (lambda p, a, t: (0 * p, a, t), "above 0"),
        (lambda p, a, t: (p, 100 * a, t), "degrees"),
        (lambda p, _, t: (p, np.zeros(len(t)), t), "all tilts are at"),
        (lambda p, a, t: (p, a / 60, t), "if they are radians"),
        (lambda p, a, t: (p * (t != 3)[:, None, None], a, t), "nothing is in tilt 3"),
        (lambda p, _, t: (p, np.array(["x"] * 10), t), "numbers"),
    ],
)
def test_what_cannot_be_right_is_refused_in_a_sentence(series, change, words):
    with pytest.raises(InputError, match=words):
        tilt_series(*change(*series))


def test_the_axis_is_found_where_it_can_be(series):
    p, a, _ = series
    turned = tilt_series(p.transpose(0, 2, 1), a, axis="auto")
    np.testing.assert_array_equal(turned.projections, p.astype(np.float32))
    np.testing.assert_array_equal(tilt_series(p, a, axis="auto").projections, turned.projections)
    ball = np.ones((10, 12, 12)) * np.hanning(12) * np.hanning(12)[:, None]
    with pytest.raises(InputError, match="too alike to tell"):
        tilt_series(ball, a, axis="auto")


def test_a_noisy_series_may_be_a_little_below_0(series):
    p, a, t = series
    noisy = p + 0.3 * np.random.default_rng(0).standard_normal(p.shape)
    assert tilt_series(noisy, a, t).projections.min() < 0


def test_binning_keeps_what_is_there(series):
    found = tilt_series(*series)
    small = found.binned(2)
    assert small.projections.shape == (10, 6, 10)
    # half as many slices of a quarter of the pixels, of the same intensity
    assert small.projections.sum() * 8 == pytest.approx(found.projections.sum(), rel=1e-5)


def test_an_npz_is_read_and_a_broken_one_is_not(tmp_path, series):
    p, a, t = series
    np.savez(tmp_path / "own.npz", projections=p, angles=a, times=t)
    np.testing.assert_array_equal(open_tilt_series(tmp_path / "own.npz").angles, a)
    one = p[:, 5:6]
    np.savez(tmp_path / "one.npz", projections=one, angles=a)
    assert open_tilt_series(tmp_path / "one.npz").projections.shape == (10, 1, 20)
    np.savez(tmp_path / "few.npz", projections=p)
    np.savez(tmp_path / "objects.npz", projections=np.array([{}], object), angles=a)
    (tmp_path / "broken.npz").write_bytes((tmp_path / "own.npz").read_bytes()[:900])
    for name, words in (
        ("few", "no angles"),
        ("objects", "cannot be read"),
        ("broken", "cannot be read"),
        ("none", "no file"),
    ):
        with pytest.raises(InputError, match=words):
            open_tilt_series(tmp_path / f"{name}.npz")


def test_a_tif_or_mrc_takes_its_angles_from_beside_it(tmp_path, series):
    p, a, t = series
    tifffile.imwrite(tmp_path / "own.tif", p.astype(np.float32))
    with pytest.raises(InputError, match=r"own\.rawtlt"):
        open_tilt_series(tmp_path / "own.tif")
    order = np.argsort(-t)
    np.savetxt(tmp_path / "own.rawtlt", np.stack((a, t), 1)[order])
    tifffile.imwrite(tmp_path / "own.tif", p[order].astype(np.float32))
    np.testing.assert_allclose(open_tilt_series(tmp_path / "own.tif").angles, a)
    with mrcfile.new(tmp_path / "own.mrc") as file:
        file.set_data(p.astype(np.float32))
    np.savetxt(tmp_path / "angles.csv", a)
    found = open_tilt_series(tmp_path / "own.mrc", angles=str(tmp_path / "angles.csv"))
    np.testing.assert_allclose(found.projections, p, rtol=1e-6)
    (tmp_path / "half.mrc").write_bytes((tmp_path / "own.mrc").read_bytes()[:3000])
    with pytest.raises(InputError, match="cannot be read as"):
        open_tilt_series(tmp_path / "half.mrc", angles=str(tmp_path / "angles.csv"))
    (tmp_path / "angles.csv").write_text("minus ten\n")
    with pytest.raises(InputError, match="an angle a line"):
        open_tilt_series(tmp_path / "own.mrc", angles=str(tmp_path / "angles.csv"))


def test_the_needle_is_read_with_its_angles_and_its_axis():
    try:
        path = fetch.recording(needle.NAME)
    except fetch.Unavailable as missing:
        pytest.skip(str(missing))
    whole = open_tilt_series(path)
    assert whole.projections.shape == (77, 256, 256)
    np.testing.assert_allclose(whole.angles, np.arange(-76, 77, 2))
    assert whole.pixel_size == pytest.approx(33.6, rel=1e-3)
    small = whole.binned(4)
    offset = axis_offset(small)
    assert 0.05 < offset < 0.3  # about half a pixel of the detector
    A, p = Projector(small.angles, 64, shifts=[offset] * 77), small.projections[:, 24:40]
    assert np.linalg.norm(A(sirt(A, p)) - p) < 0.05 * np.linalg.norm(p)


def test_volumes_are_written_to_be_read_again(tmp_path):
    u = np.random.default_rng(0).random((3, 4, 5, 5)).astype(np.float32)
    series = tilt_series(np.ones((3, 4, 5)), [-30, 0, 30], pixel_size=7.0)
    write_volumes(tmp_path / "v.zarr", u, 0.1 * u, series)
    group = zarr.open_group(tmp_path / "v.zarr", mode="r")
    np.testing.assert_array_equal(group["volumes"][:], u)
    np.testing.assert_array_equal(group["deviation"][:], 0.1 * u)
    assert group.attrs["axes"] == ["t", "z", "y", "x"]
    assert group.attrs["times"] == [0, 1, 2]
    assert group.attrs["pixel_size_angstrom"] == 7.0
    write_mrc(tmp_path / "v.mrc", u[1], pixel_size=7.0)
    with mrcfile.open(tmp_path / "v.mrc") as file:
        np.testing.assert_array_equal(file.data, u[1])
        assert file.voxel_size.x == pytest.approx(7.0)
