"""The deep image prior: fitted, held back, resumed, streamed, and its error bars."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from insitu import InputError, fetch
from insitu.tomography import ensembles, needle, phantoms, volumes
from insitu.tomography.algebraic import sirt
from insitu.tomography.prior import FreeChange, FreeSpecimen, Generator, Shape
from insitu.tomography.projection import Projector
from insitu.tomography.series import tilt_series

SMALL = Shape(width=16, together=8, hidden=32)
FREE = FreeChange(shape=SMALL)
SHORT = replace(volumes.SETTINGS, steps=50, validate_every=50, save_every=50)


@pytest.fixture(scope="module")
def phantom():
    return phantoms.Phantom("alloying rod", 16, np.linspace(0, 1, 30))


@pytest.fixture(scope="module")
def truth(phantom):
    return phantom.truth()


@pytest.fixture(scope="module")
def data(phantom):
    angles = phantoms.tilt_angles("golden", 30)
    return phantoms.record(phantom, angles, rng=np.random.default_rng(0))[0]


@pytest.fixture
def dies_at(monkeypatch):
    """Kill a fit at its n-th judgement; gives the list of those that took place."""
    judged = FreeSpecimen.judged

    def arm(number):
        calls = []

        def counted(self, tilts):
            calls.append(1)
            if len(calls) == number:
                raise KeyboardInterrupt
            return judged(self, tilts)

        monkeypatch.setattr(FreeSpecimen, "judged", counted)
        return calls

    return arm


@pytest.mark.slow
def test_a_fit_finds_what_changes(data, truth):
    """Better than what takes the specimen to be at rest, and with error bars that fit."""
    settings = replace(SHORT, steps=200)
    fits = ensembles.fit_members(data, FREE, settings, members=2, hold_every=6)
    found, bar = ensembles.mean_and_deviation(fits, spread=ensembles.spread_of(fits))
    at_rest = sirt(Projector(data.angles, 16), data.projections)
    assert ((found - truth) ** 2).mean() < 0.7 * ((at_rest - truth) ** 2).mean()
    assert found.shape == bar.shape == truth.shape
    assert found.min() >= 0
    solid = truth.mean(0) > 0.5
    covered = (abs(found - truth) < bar)[:, solid].mean()
    assert 0.55 < covered < 0.85
    assert fits[0].held_error() < 0.1


def test_an_ensemble_that_was_killed_goes_on_to_the_same_bits(data, tmp_path, dies_at):
    settings = replace(SHORT, steps=6, validate_every=3, save_every=2)
    fit = partial(ensembles.fit_members, data, FREE, members=3, hold_every=6)
    whole = fit(settings, folder=tmp_path / "whole")
    dies_at(4)  # the second validation of the second member
    with pytest.raises(KeyboardInterrupt):
        fit(settings, folder=tmp_path)
    kept = {p.name for p in tmp_path.glob("*.safetensors")}
    assert kept == {"member_0.safetensors", "member_1.part.safetensors"}
    calls = dies_at(0)
    again = fit(settings, folder=tmp_path)
    assert len(calls) == 1 + 2  # of the second member's last step, and of the third's
    assert [f.history[-1]["step"] for f in again] == [6, 6, 6]
    for a, b in zip(whole, again, strict=True):
        np.testing.assert_array_equal(b.volumes([4]), a.volumes([4]))
    other = fit(replace(settings, steps=4), folder=tmp_path)
    assert other[0].history[-1]["step"] == 4
    darker = replace(data, projections=0.5 * data.projections)
    elsewhere = ensembles.fit_members(
        darker, FREE, settings, members=1, hold_every=6, folder=tmp_path
    )
    assert elsewhere[0].volumes([4]).max() < again[0].volumes([4]).max()


@pytest.mark.slow
def test_the_shipped_ensemble_is_as_good_as_told():
    particle = phantoms.Phantom("alloying rod", 64, np.linspace(0, 1, 100))
    angles = phantoms.tilt_angles("golden", 100)
    data, _ = phantoms.record(particle, angles, rng=np.random.default_rng([0, 1]))
    fits = ensembles.load(fetch.shipped("checkpoints/rod.safetensors"), data)
    moments = [0, 33, 66, 99]
    found, bar = ensembles.mean_and_deviation(fits, moments, spread=1.9)
    there = particle.truth()[moments]
    decibels = 10 * np.log10(particle.contrast**2 / ((found - there) ** 2).mean((1, 2, 3)))
    assert decibels.min() > 31  # the first tilt, where the edge of the core is sharp
    assert decibels.mean() > 39
    assert np.isfinite(bar).all()


def test_filtered_differences_find_edges_sooner(data, truth):
    errors = []
    for sharpness in (0.0, 1.0):
        model = replace(FREE, sharpness=sharpness)
        found = volumes.fit(data, model, SHORT, hold_every=6).volumes()
        errors.append(((found - truth) ** 2).mean())
    assert errors[1] < 0.9 * errors[0]


def test_tilts_held_back_are_not_seen(data):
    """What is in them changes no weight."""
    other = replace(data, projections=data.projections.copy())
    held, _ = volumes.held_back(30, 6, 2)
    other.projections[held] = 5.0
    settings = replace(SHORT, steps=4, validate_every=4, average=0.0)
    one, two = (volumes.fit(d, FREE, settings, hold_every=6, hold_first=2) for d in (data, other))
    np.testing.assert_allclose(one.specimen.scale, two.specimen.scale)
    np.testing.assert_array_equal(one.volumes([3]), two.volumes([3]))
    assert one.held_error() != two.held_error()


def test_killed_and_resumed_gives_the_same_bits_but_not_of_another_run(data, tmp_path, dies_at):
    settings = replace(SHORT, steps=8, validate_every=4, save_every=4)
    path = tmp_path / "c.safetensors"
    whole = volumes.fit(data, FREE, settings).volumes([0])
    dies_at(2)
    with pytest.raises(KeyboardInterrupt):
        volumes.fit(data, FREE, settings, checkpoint=path)
    darker = replace(data, projections=0.5 * data.projections)
    for series, change in (
        (darker, {}),
        (data, {"gains": True}),
        (data, {"sharpness": 0.5}),
        (data, {"offset": 1.0}),
    ):
        with pytest.raises(InputError, match="another run"):
            volumes.fit(series, replace(FREE, **change), settings, checkpoint=path)
    dies_at(0)
    again = volumes.fit(data, FREE, settings, checkpoint=path)
    np.testing.assert_array_equal(again.volumes([0]), whole)


def test_a_slice_depends_on_its_place_and_time_alone():
    generator = Generator(20, 16, SMALL)
    block, time = torch.tensor([0, 1, 1]), torch.tensor([0.1, 0.5, 0.9])
    angle = torch.zeros(3)
    together = generator(block, time, angle)
    assert together.shape == (3, 8, 20, 20)
    torch.testing.assert_close(together[1:2], generator(block[1:2], time[1:2], angle[1:2]))
    assert not torch.allclose(together[1], together[2])
    assert bool((together >= 0).all())
    shown = Generator(20, 16, replace(SMALL, angle=True))
    a, b = (shown(block, time, torch.full((3,), x)) for x in (0.0, 60.0))
    assert not torch.allclose(a, b)


def test_an_ensemble_is_kept_and_belongs_to_its_series(data, tmp_path):
    fits = ensembles.fit_members(data, FREE, replace(SHORT, steps=6), members=2, hold_every=6)
    path = ensembles.save(fits, tmp_path / "e.safetensors", {"made_by": "a test"})
    rounded = replace(data, projections=data.projections * np.float32(1 + 1e-6))
    again = ensembles.load(path, rounded)
    assert [f.held.tolist() for f in again] == [f.held.tolist() for f in fits]
    np.testing.assert_allclose(again[1].volumes([7]), fits[1].volumes([7]), atol=0.02)
    noise = 0.01 * data.projections.max() * np.random.default_rng(9).normal(size=(30, 16, 16))
    for other in (
        replace(data, projections=data.projections + noise.astype(np.float32)),
        replace(data, angles=data.angles[::-1]),
        data.until(20),
    ):
        with pytest.raises(InputError, match="another tilt series"):
            ensembles.load(path, other)


@pytest.mark.parametrize(("size", "depth"), [(17, 1), (37, 5), (48, 1)])
def test_any_size_goes(size, depth):
    angles = phantoms.tilt_angles("golden", 8)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    ball = (np.hypot(x, y) < size / 4).astype(np.float32)
    p = Projector(angles, size)(np.repeat(ball[None], depth, 0))
    settings = replace(SHORT, steps=3, validate_every=3)
    one = volumes.fit(tilt_series(p, angles), FREE, settings, hold_every=0)
    assert one.volumes().shape == (8, depth, size, size)


@pytest.mark.slow
def test_shifts_are_fitted_up_to_a_common_one(phantom, truth):
    rng = np.random.default_rng(0)
    shifts = np.where(np.arange(30) % 2, 1.5, -1.5)
    angles = phantoms.tilt_angles("golden", 30)
    data, _ = phantoms.record(phantom, angles, shifts=shifts, rng=rng)
    settings = replace(SHORT, steps=150, validate_every=150)
    one, without = (
        volumes.fit(data, replace(FREE, shifts=fitted), settings, hold_every=0)
        for fitted in (True, False)
    )
    found = one.specimen.shifts.detach().numpy()[0]
    assert np.corrcoef(found, shifts)[0, 1] > 0.8
    off, off_without = (((f.volumes() - truth) ** 2).mean() for f in (one, without))
    assert off < 0.7 * off_without


def test_the_axis_is_found_by_the_centres_of_mass(phantom):
    angles = phantoms.tilt_angles("golden", 30)
    rng = np.random.default_rng(0)
    data, _ = phantoms.record(phantom, angles, shifts=np.full(30, 1.2), rng=rng)
    assert volumes.axis_offset(data) == pytest.approx(1.2, abs=0.1)


def test_a_stream_gives_a_volume_a_tilt_and_knows_nothing_of_the_next(data):
    settings = replace(SHORT, steps=10, validate_every=10)
    stream = partial(volumes.stream, model=FREE, opening=settings, first=10)
    seen = [(n, f.volumes([n])) for n, f in stream(data.until(12))]
    assert [n for n, _ in seen] == [9, 10, 11]
    other = replace(data, projections=data.projections.copy())
    other.projections[11] = 0.0
    again = [(n, f.volumes([n])) for n, f in stream(other.until(12))]
    np.testing.assert_array_equal(seen[1][1], again[1][1])
    assert not np.array_equal(seen[2][1], again[2][1])


def test_too_few_tilts_are_refused(data):
    with pytest.raises(InputError, match="held back"):
        volumes.fit(data.until(3), FREE, SHORT, hold_every=1)
    one = volumes.fit(data, FREE, replace(SHORT, steps=1), hold_every=0)
    with pytest.raises(InputError, match="two fits or more"):
        ensembles.spread_of([one])


@pytest.fixture(scope="module")
def layered():
    """A layered cylinder that is recorded as the needle is: 77 tilts, 256 pixels."""
    angles = np.arange(-76.0, 77.0, 2.0)
    y, x = np.mgrid[:96, :96] - 47.5
    slices = (np.hypot(x - 6, y + 9) < 25)[None] * (1 + (np.arange(256) // 20 % 2))[:, None, None]
    p = np.zeros((77, 256, 256), np.float32)
    p[:, :, 80:176] = Projector(angles, 96)(slices.astype(np.float32))
    return tilt_series(p, angles)


def test_the_needle_scores_its_own_reference_at_its_floor(layered):
    walked = needle.walked_along(layered, "golden")
    assert walked.data.projections.shape == (77, 1, 48)
    psnr, held = walked.score(walked.reference + 1e-3 * walked.reference.max())
    assert psnr == pytest.approx(60, abs=0.1)
    assert held < 0.03
    assert walked.score(1.2 * walked.reference)[1] == pytest.approx(0.2, abs=0.03)
    shown = walked.shown[5]
    np.testing.assert_array_equal(walked.everything[5, shown], walked.data.projections[5, 0])
    assert needle.walked_along(layered, "incremental").shown[3] == 3
    with pytest.raises(InputError, match="order"):
        needle.walked_along(layered, "random")


def test_the_total_variation_is_that_of_edges():
    u = torch.zeros(1, 2, 33, 33)
    u[..., 16:, :] = 2.0  # one edge of height 2 across 32 x 32 differences
    assert float(volumes.edge_length(u)) == pytest.approx(2 / 32, abs=0.004)


def test_total_variation_makes_even_patches(data):
    rough = []
    for variation in (0.0, 20.0):
        found = volumes.fit(data, replace(FREE, variation=variation), SHORT).volumes([15])
        rough.append(float(volumes.edge_length(torch.tensor(found))))
    assert rough[1] < 0.92 * rough[0]


def test_windows_are_told_axis_gains_and_sizes(layered):
    """A needle that only becomes dimmer and smaller is at rest for a window that is told so."""
    real = needle.walked_along(layered, "golden")
    A = Projector(real.angles[real.shown], 48, shifts=np.full(77, real.offset))
    place = np.arange(48) - 23.5
    gains, sizes = np.linspace(1.2, 0.6, 77), np.linspace(1.2, 0.8, 77)
    radius = np.hypot(place[:, None], place[None])
    truth = np.stack([g * (radius < 12 * s) for g, s in zip(gains, sizes, strict=True)])
    seen = A(truth.astype(np.float32))[np.arange(77), np.arange(77)]
    data = replace(real.data, projections=seen[:, None])
    walk = partial(needle.windowed, replace(real, data=data), sirt, reach=20, tilts=[10, 66])
    off = [float(((u - truth[[10, 66]]) ** 2).mean()) for u in (walk(), walk(gains=gains))]
    told = float(((walk(gains=gains, sizes=sizes) - truth[[10, 66]]) ** 2).mean())
    assert told < 0.8 * off[1] < 0.8 * off[0]
