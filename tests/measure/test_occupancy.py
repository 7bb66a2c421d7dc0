"""Atoms in columns: the network's parts, its calibration, the oracle, and what ships."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from insitu import InputError
from insitu.learning.training import Settings
from insitu.measure.occupancy import learning, learning_sites, slabs
from insitu.measure.occupancy.counter import load_counter, resampled
from insitu.measure.occupancy.frames import WINDOW, windows_at
from insitu.measure.occupancy.intervals import (
    LEAST,
    Calibration,
    bins_of,
    factors_of,
    moments_of,
)
from insitu.measure.occupancy.judging import HEATS, Judged, calibrate, estimates, judge
from insitu.measure.occupancy.network import UNITS, AtomCounter, expected_atoms, log_occupancy
from insitu.measure.occupancy.oracle import Responses, priors_of, responses, targets, told_all
from insitu.measure.occupancy.periods import lattices_in, share_of_lattice
from insitu.measure.occupancy.sites import columns_of, crystals_in
from insitu.measure.occupancy.slabs import specimen_of, views_of
from insitu.simulate.ceria import Slab, random_slab
from insitu.simulate.imaging import Optics

RECIPE = Slab("110", "111", 5, cerium=0.05, oxygen=0.1, emptied=0.2, tilt=(0.4, 0.2), seed=11)


@pytest.fixture(scope="module")
def specimen():
    return specimen_of(RECIPE)


@pytest.fixture(scope="module")
def counter():
    return load_counter()


def view(specimen, *, pixel_size=0.2, size=128, defocus=-60.0, turn=0.0):
    return views_of(
        specimen,
        Optics(defocus=defocus),
        rotation=np.array([turn]),
        shift=np.zeros((1, 2)),
        size=size,
        pixel_size=pixel_size,
        focal_points=1,
    )


def test_occupancy_is_a_distribution_and_its_mean():
    logits = torch.randn(50, 12, generator=torch.Generator().manual_seed(0)) * 3
    probability = log_occupancy(logits).exp()
    assert torch.allclose(probability.sum(1), torch.ones(50), atol=1e-5)
    mean = probability @ torch.arange(13.0)
    assert torch.allclose(mean, expected_atoms(logits), atol=1e-4)


def test_the_network_answers_every_dose_and_size():
    network = AtomCounter(8, (1, 1, 1)).eval()
    with torch.no_grad():
        for counts in (torch.zeros(1, 1, 32, 48), torch.full((2, 1, 40, 40), 400.0)):
            answer = network(counts)
            assert answer.classes.shape == (len(counts), 3, *counts.shape[2:])
            assert answer.atoms.shape == (len(counts), 12, *counts.shape[2:])
            assert all(torch.isfinite(part).all() for part in answer)


@pytest.mark.parametrize("pixel_size", [0.05, 0.125, 0.25])
def test_resampling_keeps_places_and_electrons(pixel_size):
    side = round(24 / pixel_size)
    y, x = np.mgrid[:side, :side] * pixel_size
    blob = 2 + np.exp(-((y - 9.0) ** 2 + (x - 14.0) ** 2) / (2 * 0.45**2))
    image, steps = resampled(blob * pixel_size**2, pixel_size)
    assert abs(image.mean() / steps.prod() / blob.mean() - 1) < 1e-5
    place = np.unravel_index(image.argmax(), image.shape)
    found = (np.array(place) + 0.5) * steps - pixel_size / 2
    assert np.abs(found - [9.0, 14.0]).max() < 0.15


@pytest.mark.parametrize("turn", [0.0, 20.0, 131.0])
@pytest.mark.parametrize("zone", ["110", "100"])
def test_columns_and_their_crystal_are_found_where_they_are(zone, turn):
    slab = Slab(zone, "001", 3, oxygen=0.1, emptied=0.2, tilt=(0.4, 0.2), seed=11)
    specimen = specimen_of(slab)
    views = view(specimen, turn=turn)
    classes, _ = slabs.painted(specimen.columns, views, 0, (128, 128))
    classes = 8 * torch.nn.functional.one_hot(torch.from_numpy(classes).long()).movedim(-1, 0)
    there = views.places[0][specimen.columns.atoms[views.column[0]] > 0]
    cation = specimen.columns.cation[views.column[0]][specimen.columns.atoms[views.column[0]] > 0]
    inner = ((there > 4) & (there < 123)).all(1)
    columns = columns_of(classes.float())
    distance, _ = cKDTree(columns.places).query(0.2 * there[inner])
    assert distance.max() < 0.2
    best = max(crystals_in(classes.float(), columns), key=lambda c: (c.zone == zone, c is not None))
    distance, nearest = cKDTree(best.places).query(there * 0.2)
    assert best.zone == zone
    assert distance.max() < 0.3
    assert (best.cation[nearest] == cation).all()


def test_no_crystal_where_there_are_no_columns():
    classes = torch.zeros(3, 128, 128)
    classes[0] = 6.0
    assert crystals_in(classes, columns_of(classes)) == []


@pytest.mark.parametrize("turn", [0.0, 33.0])
def test_a_lattice_too_faint_to_be_seen_stands_out_of_its_frequencies(specimen, turn):
    views = view(specimen, defocus=0.0, turn=turn)
    counts = drawn(views.clean[0], 120.0)
    vectors = dict(lattices_in(counts))["110"]
    cations = views.places[0][specimen.columns.cation[views.column[0]]] * 0.2
    cells = cations @ np.linalg.inv(vectors)
    for numbers in ([1, 1], [1, -1], [2, 0], [0, 2]):  # all cations scatter in phase
        assert abs(np.exp(2j * np.pi * cells @ numbers).mean()) > 0.95
    assert share_of_lattice(counts, "110", vectors) > 0.7
    assert share_of_lattice(counts, "110", vectors * 1.2) < 0.6
    noise = drawn(np.ones((128, 128)), 120.0)
    assert share_of_lattice(noise, "110", vectors) == 0.0


def test_windows_turn_with_the_crystal():
    y, x = np.mgrid[:96, :96] * 0.2
    place, angle = np.array([9.1, 10.3]), 0.6
    vectors = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * 4
    top = place + 0.3 * vectors[0] + 0.2 * vectors[1]
    image = np.exp(-((y - top[0]) ** 2 + (x - top[1]) ** 2) / 0.5)
    given = (image[None], place[None, None], vectors[None])
    (window,) = windows_at(*(torch.from_numpy(v).float() for v in given))
    row, column = divmod(int(window[0].argmax()), WINDOW)
    assert (row - WINDOW // 2, column - WINDOW // 2) == (3, 2)  # 1.2 A and 0.8 A in steps of 0.4


def test_images_show_the_columns_where_they_say(specimen):
    """Cation columns are bright: the image is brighter there than at a random place, turned too."""
    for turn in (0.0, 73.0):
        views = view(specimen, turn=turn)
        full = specimen.columns.cation & (specimen.columns.atoms == 5)
        y, x = np.rint(views.places[0][full[views.column[0]]]).astype(int).T
        inner = (y > 2) & (y < 125) & (x > 2) & (x < 125)
        assert views.clean[0][y[inner], x[inner]].mean() > views.clean[0].mean() + 0.2


def test_large_images_are_worked_on_in_tiles(counter):
    image = torch.from_numpy(np.random.default_rng(0).poisson(4.0, (400, 144)).astype(np.float32))
    classes = counter.classes(image)
    assert classes.shape == (3, 400, 144)
    assert torch.isfinite(classes).all()
    part = counter.classes(image[:256])
    assert (classes.argmax(0)[:200] == part.argmax(0)[:200]).float().mean() > 0.98


def test_waves_are_kept_and_images_drawn_of_them(tmp_path, monkeypatch):
    monkeypatch.setattr(slabs, "BLOCK", 10)
    (path,) = slabs.make_waves(tmp_path, 10)
    written = path.stat().st_mtime_ns
    slabs.make_waves(tmp_path, 10)
    assert path.stat().st_mtime_ns == written
    assert len(list(slabs.slabs(tmp_path, "train"))) == 8
    (kept,) = slabs.slabs(tmp_path, "test")
    made = specimen_of(kept.recipe)
    assert kept.recipe == random_slab(0, 9)
    assert np.array_equal(kept.columns.atoms, made.columns.atoms)
    assert np.allclose(kept.columns.x, made.columns.x, atol=1e-4)
    both = [view(s).clean for s in (kept, made)]
    assert float((both[0] - both[1]).abs().max()) < 0.01
    pool = learning.draw_pool(tmp_path, "train", 16, size=48)
    assert pool.clean.shape[1:] == pool.classes.shape[1:] == (48, 48)
    assert set(pool.inside.tolist()) <= {0, 1, 2}
    strange = pool.inside == 2
    assert strange.any()
    assert (pool.classes[strange] == 0).all()
    assert (pool.atoms[strange] == 255).all()
    on = pool.classes[~strange] > 0
    assert (pool.atoms[~strange][on] <= 12).all()
    assert (pool.atoms[~strange][on] > 0).all()
    sites = learning_sites.draw_sites(tmp_path, "train", 2, size=64)
    assert sites.clean.shape[1:] == (64, 64)
    held = sites.atoms < 255
    assert (sites.atoms[held] <= sites.possible[held]).all()
    assert ((sites.atoms > 0) & held).sum() > 0.3 * held.sum()
    middle = torch.tensor([place.mean() for place in sites.places[:, 0]])
    assert (middle < 64 * 0.2).all()
    with pytest.raises(InputError, match="has none; make them"):
        next(slabs.slabs(tmp_path / "empty", "train"))


def test_batches_repeat_and_a_killed_training_goes_on(tmp_path, specimen):
    rng = np.random.default_rng(0)
    rows = learning._drawn(specimen, 8, 64, rng)
    rows.append(learning._strange(rng, rows, 64))
    pool = learning.Pool(*(torch.from_numpy(np.stack(p)) for p in zip(*rows, strict=True)))
    pool = pool._replace(conditions=pool.conditions.float())
    one, two = (learning.make_batch(pool, 5, images=4) for _ in range(2))
    assert torch.equal(one.counts, two.counts)
    assert not torch.equal(one.counts, learning.make_batch(pool, 6, images=4).counts)
    settings = Settings(steps=6, learning_rate=1e-3, warm_up=1, validate_every=3, save_every=3)
    given = {"options": {"channels": 8, "blocks": [1, 1]}}
    whole = learning.learn_counter(pool, pool, settings, **given)
    assert whole.history[-1]["validation"] < whole.history[0]["validation"]

    class Killed(Exception):
        pass

    state, steps = tmp_path / "state.safetensors", []
    real = learning.loss_of

    def loss_of(answer, truth):
        steps.append(1)
        if len(steps) == 14:  # 3 steps, 8 of validation, and into the next
            raise Killed
        return real(answer, truth)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "loss_of", loss_of)
        with pytest.raises(Killed):
            learning.learn_counter(pool, pool, settings, checkpoint=state, **given)
    again = learning.learn_counter(pool, pool, settings, checkpoint=state, **given)
    for a, b in zip(whole.network.parameters(), again.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_network_of_sites_learns_and_its_batches_repeat(specimen, tmp_path, monkeypatch):
    monkeypatch.setattr(learning_sites, "slabs", lambda *_: iter([specimen]))
    pool = learning_sites.draw_sites(tmp_path, "train", 6, size=80)
    (one, truth), (two, _) = (learning_sites.make_looks(pool, 3, images=8) for _ in range(2))
    assert torch.equal(one.windows, two.windows)
    assert {0.0, 1.0} >= set(truth.fits.tolist())
    straight, told = learning_sites.make_looks(pool, 3, images=8, straight=True)
    bright = straight.windows[..., WINDOW**2 // 2]
    full, none = (told.atoms == 5) & told.cation, told.possible == 0
    assert bright[full].mean() > bright[none].mean() + 0.2  # the middles of cations are bright
    settings = Settings(steps=40, optimiser="adam", learning_rate=1e-3, warm_up=1)
    settings = replace(settings, validate_every=10)
    result = learning_sites.learn_columns(pool, pool, settings)
    assert result.history[-1]["validation"] < 0.8 * result.history[0]["validation"]


def made_up(columns=6000, images=40, seed=0, spread=0.7):
    """Columns whose logits are those of a Gaussian of the right width, and images of two doses."""
    rng = np.random.default_rng(seed)
    present = rng.integers(0, 9, columns)
    centre = present + spread * rng.standard_normal(columns)
    log_p = -0.5 * ((np.arange(13) - centre[:, None]) / spread) ** 2
    p = np.exp(log_p - log_p.max(1, keepdims=True))
    above = np.cumsum(p[:, ::-1], 1)[:, ::-1]
    ratio = np.clip(above[:, 1:] / above[:, :-1], 1e-6, 1 - 1e-6)
    cation = rng.random(columns) < 0.4
    told = np.tile([-60.0, 1.0, 8.0], (images, 1))
    return Judged(
        torch.from_numpy(np.log(ratio / (1 - ratio))).float(),
        cation,
        cation,
        present,
        np.full(columns, 8),
        rng.integers(0, images, columns),
        np.where(np.arange(images) < images // 2, 20.0, 200.0),
        told,
        told,
        np.full(images, 3.0),
        np.full(images, 3.0),
        np.ones((images, 3), int),
        np.abs(np.log(HEATS)),
        np.eye(3, dtype=int),
    )


def test_intervals_cover_in_every_bin():
    judged = made_up()
    wrong = judged.dose < 100  # what is said at the low dose is too sure of itself
    hot = judged._replace(
        atoms=judged.atoms
        * torch.from_numpy(np.where(wrong, 2.0, 1.0))[judged.image][:, None].float()
    )
    calibration = calibrate(hot)
    fresh = made_up(seed=1)
    fresh = fresh._replace(
        atoms=fresh.atoms
        * torch.from_numpy(np.where(wrong, 2.0, 1.0))[fresh.image][:, None].float()
    )
    mean, deviation, bins = estimates(fresh, calibration)
    covered = np.abs(fresh.present - mean) <= deviation * calibration.widths(bins)
    for column in bins.T:
        for number in np.unique(column):
            assert 0.87 <= covered[column == number].mean() <= 0.93
    factors = calibration.factors
    assert factors["dose 0"] > 1.2 * factors["dose 1"]


def test_widths_in_bins_of_one_dimension_are_those_of_crepes():
    crepes = pytest.importorskip("crepes")
    rng = np.random.default_rng(0)
    bins = np.zeros((4000, 5), int)
    bins[:, 1] = rng.integers(0, 3, 4000)
    residual = rng.standard_normal(4000) * (1 + bins[:, 1])
    deviation = rng.uniform(0.5, 2.0, 4000)
    factors = factors_of(np.abs(residual), bins)
    theirs = crepes.ConformalRegressor()
    theirs.fit(residual * deviation, sigmas=deviation, bins=bins[:, 1])
    limits = theirs.predict_int(np.zeros(3), sigmas=np.ones(3), bins=np.arange(3), confidence=0.9)
    width = Calibration(factors=factors).widths(np.eye(5, dtype=int)[1] * np.arange(3)[:, None])
    assert np.abs(width - limits[:, 1]).max() < 0.02


def test_a_hot_network_is_cooled():
    judged = made_up()
    hot = judged._replace(atoms=judged.atoms / 2.5)
    heat = np.array(calibrate(hot).atoms)
    assert np.abs(heat - np.array(calibrate(judged).atoms) / 2.5).max() < 0.05


def test_the_oracle_is_the_best_and_knows_its_bound():
    """One column, whose number of atoms adds a blob: all known in closed form."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:31, :31] - 15.0
    blob = 0.3 * np.exp(-(y**2 + x**2) / 8)
    images = [(1 + n * blob)[None].astype(np.float32) for n in range(6)]
    seen = Responses(np.array([0]), 1 + 3 * blob, images, [(slice(0, 31), slice(0, 31))], 0.2)
    prior = np.full(6, 1 / 6)
    squares = {"oracle": 0.0, "least_squares": 0.0, "centre": 0.0}
    for truth in range(6):
        counts = rng.poisson((1 + truth * blob) * 60 * 0.04, (300, 31, 31))
        told = told_all(seen, counts, 60.0, [prior])
        squares["oracle"] += ((told.oracle - truth) ** 2).mean() / 6
        squares["least_squares"] += ((told.least_squares - truth) ** 2).mean() / 6
        squares["centre"] += (2.5 - truth) ** 2 / 6
    assert squares["oracle"] < squares["least_squares"] < squares["centre"]
    mean = (1 + 5 * blob) * 60 * 0.04
    assert np.isclose(told.bound[0], ((60 * 0.04 * blob) ** 2 / mean).sum() ** -0.5, rtol=1e-4)


def test_responses_of_far_columns_do_not_mix(specimen):
    chosen = targets(specimen, np.random.default_rng(0))
    places = np.stack([specimen.columns.y, specimen.columns.x], 1)[chosen]
    distance, _ = cKDTree(places).query(places, k=2)
    assert distance[:, 1].min() >= 8
    chosen = chosen[:2]
    seen = responses(specimen, Optics(defocus=-40.0), chosen, arrangements=1)
    first = int(specimen.columns.atoms[chosen[0]])
    alone = specimen_of(RECIPE, {int(chosen[0]): max(first - 2, 0)})
    one = responses(alone, Optics(defocus=-40.0), chosen[:1], arrangements=1)
    other = seen.windows[1]
    change = np.abs(one.truth - seen.truth)
    assert change[other].max() < 0.1 * change[seen.windows[0]].max()


def test_priors_are_probabilities():
    for (_, possible), prior in priors_of(8).items():
        assert prior.shape == (possible + 1,)
        assert abs(prior.sum() - 1) < 1e-9


def test_bins_and_moments():
    probability = np.zeros((1, 13))
    probability[0, [4, 6]] = 0.5
    mean, deviation = moments_of(probability)
    assert mean[0] == 5
    assert abs(deviation[0] - np.hypot(1, LEAST)) < 1e-12
    assert bins_of(mean, np.array([True]), 50.0, np.array([0.0, 0.0, 5.0])).tolist() == [
        [1, 0, 0, 2, 1]
    ]


@pytest.mark.parametrize(
    ("counts", "pixel_size", "complaint"),
    [
        (np.ones((4, 64, 64)), 0.2, "expected an image"),
        (np.ones((20, 20)), 0.2, "of at least 10 A"),
        (np.full((64, 64), np.nan), 0.2, "NaN"),
        (-np.ones((64, 64)), 0.2, "counts are never negative"),
        (np.ones((64, 64)), 0.0, "pixel_size: got 0"),
    ],
)
def test_what_is_no_image_is_refused(counter, counts, pixel_size, complaint):
    with pytest.raises(InputError, match=complaint):
        counter(counts, pixel_size)


def test_other_weights_are_refused():
    for names in (("rod",), ("occupancy", "occupancy"), ("occupancy", "rod")):
        with pytest.raises(InputError, match="not that of an occupancy counter"):
            load_counter(*names)


def drawn(clean, dose, pixel_size=0.2, seed=0):
    return np.random.default_rng(seed).poisson(np.asarray(clean) * dose * pixel_size**2)


def test_it_counts_a_slab_that_it_never_saw(specimen, counter):
    found = counter(drawn(view(specimen).clean[0], 1000.0), 0.2)
    assert found.abstains == ""
    there = view(specimen).places[0] * 0.2
    columns = specimen.columns
    number = view(specimen).column[0]
    distance, nearest = cKDTree(np.stack([found.y, found.x], 1)).query(there)
    inner = ((there > 1) & (there < 24.6)).all(1) & (columns.atoms[number] > 0)
    seen = inner & (distance < 0.5)
    assert seen.sum() / inner.sum() > 0.9
    assert (found.cation[nearest[seen]] == columns.cation[number[seen]]).mean() > 0.97
    full = np.sqrt(((columns.possible - columns.atoms)[number[seen]] ** 2).mean())
    error = found.mean[nearest[seen]] - columns.atoms[number[seen]]
    assert np.sqrt((error**2).mean()) < full
    assert abs(found.conditions["defocus"] + 60) < 40
    assert (found.low <= found.mean).all()
    assert (found.mean <= found.high).all()
    assert len(found.rows()) == len(found.y)


def test_it_abstains_in_a_sentence(specimen, counter):
    clean = view(specimen).clean[0]
    assert "e-/A^2 are outside" in counter(drawn(clean, 4.0), 0.2).abstains
    assert counter(drawn(np.ones((128, 128)), 120.0), 0.2).abstains
    assert counter(drawn(clean, 480.0), 0.1).abstains  # it is of 0.2 A
    y, x = np.mgrid[:128, :128] * 0.2
    other = 1 + 0.4 * np.cos(2 * np.pi * y / 4.1) * np.cos(2 * np.pi * x / 2.3)
    assert counter(drawn(other, 120.0), 0.2).abstains
    assert "pixels of 0.4 A" in counter(drawn(clean, 120.0), 0.4).abstains


def test_a_crystal_in_the_corner_of_a_large_image(specimen, counter):
    clean = np.ones((420, 400), np.float32)
    clean[-128:, -128:] = view(specimen).clean[0]
    found = counter(drawn(clean, 800.0), 0.2)
    assert not found.abstains
    outside = (found.y < 57) | (found.x < 53)
    assert len(found.y) > 100
    assert outside.mean() < 0.05


def test_judging_a_counter(specimen, counter):
    tilted = replace(RECIPE, tilt=(0.0, 6.0))
    judged = judge(counter, [specimen], images=2, doses=(300, 600), seed=1)
    assert len(judged.dose) == 2
    assert judged.in_range.all()
    assert judged.f1() > 0.8
    assert judged.confusion.sum() == 2 * 128**2
    assert (judged.true[:, 2] == 5).all()
    assert np.abs(judged.told - judged.true)[:, 2].max() < 3
    assert len(judged.told[0]) == len(UNITS)
    outside = judge(counter, [specimen_of(tilted)], images=1, beyond=1.0, seed=1)
    assert not outside.in_range.any()
