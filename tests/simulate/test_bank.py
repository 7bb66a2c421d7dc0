import json
import shutil

import numpy as np
import pytest
import torch
import zarr

from insitu import InputError, fetch
from insitu.simulate import bank as banks
from insitu.simulate import specimens, waves
from insitu.simulate.imaging import Optics, image


@pytest.fixture(scope="module")
def shipped():
    return banks.Bank(fetch.shipped("exit_waves.zarr"))


@pytest.fixture
def _quick(monkeypatch):
    """Banks of tiny specimens on coarse grids."""

    def recipe(seed, index):
        rng = np.random.default_rng([seed, index])
        return specimens.Recipe(
            diameter=rng.uniform(9, 12), thickness=8.0, trilayers=1, field=20.0, seed=index
        )

    monkeypatch.setattr(banks, "random_recipe", recipe)
    monkeypatch.setattr(banks, "FIELD", 20.0)


def stored(path):
    return zarr.open_group(path, mode="r")["waves"][:]


@pytest.mark.usefixtures("_quick")
def test_same_bits_whatever_the_workers_and_the_size(tmp_path):
    one = stored(banks.make_bank(tmp_path / "one", 3, seed=5, workers=1))
    two = stored(banks.make_bank(tmp_path / "two", 4, seed=5, workers=2))
    assert np.array_equal(one, two[:3])
    other = stored(banks.make_bank(tmp_path / "other", 1, seed=6, workers=1))
    assert not np.array_equal(one[0], other[0])


@pytest.mark.usefixtures("_quick")
def test_goes_on_after_an_interruption(tmp_path, monkeypatch):
    whole = stored(banks.make_bank(tmp_path / "whole", 4, workers=1))
    calls = []

    def dies_at_the_third(recipe, packed_wave=banks.packed_wave):
        calls.append(recipe)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return packed_wave(recipe)

    monkeypatch.setattr(banks, "packed_wave", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        banks.make_bank(tmp_path / "bank", 4, workers=1)
    assert not (tmp_path / "bank").exists()
    with pytest.raises(InputError, match="belongs to another bank"):
        banks.make_bank(tmp_path / "bank", 4, seed=1, workers=1)
    calls.clear()
    calls.extend([None] * 3)
    banks.make_bank(tmp_path / "bank", 4, workers=1)
    assert len(calls) - 3 < 4  # not all were made again
    assert np.array_equal(stored(tmp_path / "bank"), whole)
    with pytest.raises(InputError, match="exists"):
        banks.make_bank(tmp_path / "bank", 4)


@pytest.mark.usefixtures("_quick")
def test_full_disk_is_told_before_work(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match="the bank needs"):
        banks.make_bank(tmp_path / "bank", 3)
    assert not list(tmp_path.iterdir())


def test_shipped_waves_are_those_of_their_recipes(shipped):
    """Half precision and the aperture cost less than 0.2 % of the contrast."""
    assert len(shipped) == 40
    assert [len(shipped.part(p)) for p in ("train", "validation", "test")] == [32, 4, 4]
    assert shipped.recipes[3] == banks.random_recipe(0, 3)
    fresh = waves.exit_wave(specimens.build(shipped.recipes[3]))
    optics = Optics(defocus=-80.0, aperture=30.0)
    a, b = (image(w, optics, pixel_size=0.2)[0] for w in (fresh, shipped.wave(3)))
    assert float((a - b).norm() / (a - a.mean()).norm()) < 2e-3


def test_samples_are_endless_and_reproducible(shipped):
    train = shipped.part("train")
    first, second, again = (
        banks.sample(shipped, train, n, images=4, size=64, seed=3) for n in (0, 1, 1)
    )
    assert torch.equal(second.clean, again.clean)
    assert not torch.equal(first.clean, second.clean)
    assert second.structure in train
    for sample in (first, second):
        assert sample.clean.shape == (4, 64, 64)
        assert torch.isfinite(sample.clean).all()


def test_samples_are_images_of_their_optics(shipped):
    sample = banks.sample(shipped, shipped.part("test"), 0, images=2, size=48, seed=1)
    one = {k: v[1:2] if torch.is_tensor(v) else v for k, v in vars(sample.optics).items()}
    candidates = [
        image(
            shipped.wave(sample.structure),
            Optics(**one),
            pixel_size=sample.pixel_size,
            shape=(48, 48),
            rotation=sample.rotation[1:2],
            shift=tuple(s[1:2] for s in sample.shift),
            focal_points=points,
        )[0]
        for points in (1, 7)
    ]
    assert min(float((c - sample.clean[1]).abs().max()) for c in candidates) < 1e-4


@pytest.mark.usefixtures("_quick")
def test_an_unfinished_folder_that_is_no_bank_is_left_alone(tmp_path):
    (tmp_path / "bank.part").mkdir()
    (tmp_path / "bank.part" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is no bank that could go on"):
        banks.make_bank(tmp_path / "bank", 1)
    assert (tmp_path / "bank.part" / "mine.txt").is_file()


def test_foreign_folders_are_refused(tmp_path, shipped):
    with pytest.raises(InputError, match="is no bank"):
        banks.Bank(tmp_path)
    zarr.create_group(tmp_path / "other", attributes={"a": 1})
    with pytest.raises(InputError, match="is no bank"):
        banks.Bank(tmp_path / "other")
    with pytest.raises(InputError, match="part: got 'all'"):
        shipped.part("all")
    record = json.loads((fetch.ROOT / "data" / "exit_waves.zarr" / "zarr.json").read_text())
    assert record["attributes"]["licence"] == "CC-BY-4.0"
