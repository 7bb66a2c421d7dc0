"""A reader's tilt series: volumes for others to open, the same after a kill, bad input refused."""

import json

import mrcfile
import numpy as np
import pytest
import zarr

from insitu import InputError, own
from insitu.tomography import phantoms
from insitu.tomography.prior import FreeSpecimen

BRIEF = {"steps": 4, "members": 2, "device": "cpu", "progress": False}


@pytest.fixture
def mine(tmp_path):
    """An .npz of 12 tilts of a small particle."""
    angles = phantoms.tilt_angles("golden", 12)
    particle = phantoms.Phantom("alloying rod", 20, np.linspace(0, 1, 12))
    series, _ = phantoms.record(particle, angles, rng=np.random.default_rng(0))
    np.savez(tmp_path / "mine.npz", projections=series.projections, angles=angles)
    return tmp_path / "mine.npz"


@pytest.mark.parametrize("contrast", [0.0, 2.42])  # without a law, and with one
def test_volumes_are_written_for_others_to_open(tmp_path, mine, contrast):
    out = tmp_path / "out"
    numbers = own.reconstruct(mine, out, contrast=contrast, **BRIEF)
    group = zarr.open_group(out / "volumes.zarr", mode="r")
    assert group["volumes"].shape == group["deviation"].shape == (12, 20, 20, 20)
    assert float(group["deviation"][:].max()) > 0
    written = sorted((out / "mrc").iterdir())
    assert len(written) == 12
    with mrcfile.open(written[3]) as file:
        np.testing.assert_array_equal(file.data, group["volumes"][3])
    assert json.loads((out / "results.json").read_text()) == numbers
    assert numbers["tilts"] == 12
    assert ("diffusivity_px2_per_series" in numbers) == bool(contrast)
    report = (out / "report.html").read_text()
    assert report.count("<img") == 6
    assert "mine.npz" in report


def test_killed_and_run_again_it_gives_the_same_bits(tmp_path, mine, monkeypatch):
    own.reconstruct(mine, tmp_path / "whole", **BRIEF)
    turn, calls = FreeSpecimen.turn, []

    def dies(self, *step):
        calls.append(1)
        if len(calls) == 6:  # the second step of the second member
            raise KeyboardInterrupt
        return turn(self, *step)

    monkeypatch.setattr(FreeSpecimen, "turn", dies)
    with pytest.raises(KeyboardInterrupt):
        own.reconstruct(mine, tmp_path / "out", **BRIEF)
    assert not (tmp_path / "out" / "results.json").exists()
    calls.clear()
    own.reconstruct(mine, tmp_path / "out", **BRIEF)
    assert len(calls) == 4  # the first member was not fitted again
    a, b = (
        zarr.open_group(tmp_path / n / "volumes.zarr", mode="r")["volumes"][:]
        for n in ("whole", "out")
    )
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"angles": np.arange(5.0)}, {}, "12 projections, 5 angles"),
        ({"times": np.zeros(12)}, {}, "comes more than once"),
        ({"projections": np.full((12, 20, 20), np.nan)}, {}, "NaN or infinite"),
        ({"projections": np.full((12, 20, 20), -5.0)}, {}, "above 0"),
        ({"projections": np.ones((12, 1, 300))}, {}, "tilt_bins: 300 pixels across"),
        ({"projections": np.ones((4, 2, 9)), "angles": [-9, 0, 5, 9]}, {}, "4 tilts; 5 are"),
        ({}, {"contrast": 0.5}, "tilt_contrast: got 0.5, allowed is 0 or above 1"),
        ({}, {"members": 1}, "members: got 1, allowed is 2 to 20"),
        ({}, {"steady": -1.0}, "tilt_steady: got -1"),
        ({}, {"bins": 0}, "tilt_bins: got 0, allowed is 1 to 64"),
        ({}, {"angles": "mine.txt"}, "tilt_angles: bad.npz holds its own"),
        ({}, {"device": "gpu"}, "device: got 'gpu', allowed is one of auto"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(tmp_path, mine, change, options, words):
    np.savez(tmp_path / "bad.npz", **(dict(np.load(mine)) | change))
    with pytest.raises(InputError, match=words):
        own.reconstruct(tmp_path / "bad.npz", tmp_path / "out", **BRIEF | options)
    assert not (tmp_path / "out").exists()
