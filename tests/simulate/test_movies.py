"""The movie's truth is true."""

import errno

import numpy as np
import pytest
import zarr

from insitu import InputError, fetch
from insitu.simulate import movie_files, movies, scenes, specimens
from insitu.simulate.movies import Plan

SHORT = {
    "frames": 14,
    "size": 96,
    "event": 4,
    "duration": 5,
    "hops": ((1, 1), (11.5, 1.5)),
    "samples": 1,
    "diameter": 24.0,
    "drift": 0.0,
    "jitter": 0.0,
}


@pytest.fixture(scope="module")
def shipped():
    return movie_files.load(fetch.shipped("pt_ceo2_movie.zarr"))


@pytest.fixture(scope="module")
def short():
    return movies.make_movie(Plan(**SHORT))


def test_shipped_part_and_its_truth(shipped):
    part = movie_files.shipped_movie(100)
    assert np.array_equal(part.counts, shipped.counts[:, 78:178, 78:178])
    assert np.allclose(part.clean, shipped.clean()[:, 78:178, 78:178] * part.vacuum)
    columns = part.truth(20)
    y, x = (np.rint(columns[axis] / part.pixel_size).astype(int) for axis in ("y", "x"))
    inside = (y >= 0) & (y < 100) & (x >= 0) & (x < 100)
    assert inside.sum() > 20
    assert part.clean[20, y[inside], x[inside]].mean() > 1.3 * part.vacuum  # columns are white
    with pytest.raises(InputError, match="size: got 300, allowed is 1 to 256"):
        movie_files.shipped_movie(300)


def migrated(movie):
    return {c for e in movie.events if e["kind"] == "migration" for c in e["columns"]}


def rotation(movie, start, stop):
    """Least-squares rotation of the columns that are in one place, anticlockwise [degrees]."""
    there = []
    for t in (start, stop):
        rows = movie.truth(t)
        rows = rows[(rows["occupancy"] > 0.99) & ~np.isin(rows["label"], list(migrated(movie)))]
        there.append({r["label"]: np.array([r["x"], r["y"]]) for r in rows})
    common = sorted(set(there[0]) & set(there[1]))
    a, b = (np.array([p[c] for c in common]) for p in there)
    a, b = a - a.mean(0), b - b.mean(0)
    cross = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()
    return -np.rad2deg(np.arctan2(cross, (a * b).sum())), len(common)


def test_shipped_movie(shipped):
    plan = shipped.plan
    assert plan == Plan()
    assert shipped.counts.shape == (128, 256, 256)
    assert shipped.counts.dtype == np.uint8
    empty = shipped.counts[:, :40]
    error = np.sqrt(plan.vacuum / empty.size)
    assert abs(empty.mean() - plan.vacuum) < 5 * error
    assert empty.var() == pytest.approx(empty.mean(), rel=0.01)  # Poisson
    assert plan.vacuum == pytest.approx(0.46, abs=0.002)


def test_the_particle_turns_by_ten_degrees_in_nine_frames(shipped):
    angle, columns = rotation(shipped, 64, 72)
    assert columns > 100
    assert angle == pytest.approx(10.0, abs=0.1)
    assert shipped.angles[64] == 0
    assert shipped.angles[72] == 10
    assert (np.diff(shipped.angles[64:73]) > 0).all()


def test_atoms_are_conserved_in_every_specimen(shipped):
    rows = shipped.columns
    totals = {
        rows["atoms"][(rows["exposure"] == e) & (rows["specimen"] == s)].sum()
        for e, s in np.unique(rows[["exposure", "specimen"]])
    }
    assert len(totals) == 1
    for t in (0, 51, 66, 68, 127):
        there = shipped.truth(t)
        assert (there["atoms"] * there["occupancy"]).sum() == pytest.approx(max(totals), rel=1e-4)


def test_counts_are_those_of_the_clean_frames(shipped):
    """Chi-square of sums over blocks of pixels and frames, in all places of the movie."""
    expected = shipped.clean().clip(0) * shipped.plan.vacuum
    shape = (8, 16, 32, 8, 32, 8)
    observed = shipped.counts.astype(float).reshape(shape).sum((1, 3, 5))
    wanted = expected.reshape(shape).sum((1, 3, 5))
    z = (observed - wanted) / np.sqrt(wanted)
    assert abs(z.mean()) < 5 / np.sqrt(z.size)
    assert z.std() == pytest.approx(1, abs=0.05)


def test_columns_are_where_the_image_says(shipped):
    """Columns are white: the centre of intensity around each lies at the truth."""
    clean = shipped.clean()[20]
    rows = shipped.truth(20)
    yy, xx = np.mgrid[: clean.shape[0], : clean.shape[1]] * shipped.plan.pixel_size
    offsets = []
    for r in rows[~rows["surface"]]:
        near = np.hypot(yy - r["y"], xx - r["x"]) < 0.9
        weight = clean[near] - clean[near].min()
        offsets.append(
            [
                (weight * yy[near]).sum() / weight.sum() - r["y"],
                (weight * xx[near]).sum() / weight.sum() - r["x"],
            ]
        )
    assert len(offsets) > 50
    assert np.abs(np.median(offsets, axis=0)).max() < 0.02


def test_exposures_integrate_over_what_moves(short):
    """A hop of half a frame leaves a mixture, and its shares add up."""
    assert np.allclose(short.weights.sum(1), 1)
    mixed = short.truth(11)
    assert set(np.round(np.unique(mixed["occupancy"]), 3)) == {0.5}
    clean = short.clean()
    assert np.allclose(clean[11], 0.5 * (clean[10] + clean[12]), atol=1e-3)
    assert np.abs(clean[10] - clean[12]).max() > 0.1
    amid = short.truth(6)
    assert len(amid) == len(short.truth(0))


def test_same_plan_same_movie_and_read_back(short, tmp_path):
    again = movies.make_movie(Plan(**SHORT))
    assert np.array_equal(short.counts, again.counts)
    assert np.array_equal(short.exposures, again.exposures)
    back = movie_files.load(movie_files.save(short, tmp_path / "movie.zarr"))
    assert back.plan == short.plan
    for name in ("counts", "exposures", "weights", "drift", "angles", "columns"):
        assert np.array_equal(getattr(back, name), getattr(short, name))
    assert back.events == short.events
    assert np.array_equal(back.clean(), short.clean())
    with pytest.raises(InputError, match="exists"):
        movie_files.save(short, tmp_path / "movie.zarr")


def test_hyperspy_signal(short, tmp_path):
    hs = pytest.importorskip("hyperspy.api")
    movie_files.to_hyperspy(short).save(tmp_path / "movie.hspy")
    signal = hs.load(tmp_path / "movie.hspy")
    assert np.array_equal(signal.data, short.counts)
    time, x, y = signal.axes_manager["time"], *signal.axes_manager.signal_axes
    assert time.scale == pytest.approx(1 / 75)
    assert (x.scale, y.scale) == (0.24, 0.24)
    assert (time.units, x.units) == ("s", "Å")


def test_pair():
    scene = scenes.pair_of_particles(Plan(scene="pair", frames=20, event=8, samples=2))
    made = [s for e in scene.exposures for s in e.specimens]
    assert min(specimens.nearest_distance(s[s.symbols == "Pt"]) for s in made) > 2.59
    counts = {int((s.symbols == "Pt").sum()) for s in made}
    assert len(counts) == 1
    first, last = (scene.exposures[i].specimens[0] for i in (0, 1))
    moved = np.linalg.norm(first.positions - last.positions, axis=1) > 1
    assert 0 < moved.sum() < 0.2 * counts.pop()


@pytest.mark.parametrize("diameter", [20.0, 26.0, 30.0, 38.0])
@pytest.mark.parametrize("turn", [-10.0, 10.0])
def test_scenes_are_physical(diameter, turn):
    moved = {"event": 5, "duration": 6, "hops": ((2, 1),), "samples": 2, "seed": 1}
    scene = scenes.turning_particle(Plan(frames=20, diameter=diameter, turn=turn, **moved))
    made = [s for e in scene.exposures for s in e.specimens]
    assert min(specimens.nearest_distance(s) for s in made) > 1.5
    assert min(specimens.nearest_distance(s[s.symbols == "Pt"]) for s in made) > 2.59
    assert len({int((s.symbols == "Pt").sum()) for s in made}) == 1
    assert np.allclose(scene.weights.sum(1), 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 300}, "more than the 66 A of the simulated field"),
        ({"dose": -1.0}, "dose: got -1"),
        ({"scene": "fire"}, "scene: got 'fire'"),
        ({"detector": "film"}, "detector: got 'film'"),
        ({"event": 200}, "do not lie within 128 frames"),
        ({"hops": ((66, 1),)}, "outside of the movie or in the event"),
        ({"hops": ((20, 3), (22, 1))}, "overlaps another one"),
        ({"diameter": 60.0}, "does not fit"),
        ({"diameter": 9.0}, "too small"),
    ],
)
def test_bad_plans_bring_a_sentence(options, sentence):
    with pytest.raises(InputError, match=sentence):
        movies.make_movie(Plan(**options))


def test_hops_are_read():
    assert movies.parse_hops("44+1 50.5+3.5") == ((44, 1), (50.5, 3.5))
    assert movies.parse_hops("") == ()


@pytest.mark.parametrize("text", ["44", "a+1", "44+", "44+-1", "1+nan", "1+2+3", "inf+1"])
def test_bad_hops_bring_a_sentence(text):
    with pytest.raises(InputError, match="expected start\\+duration"):
        movies.parse_hops(text)


def test_a_full_disk_leaves_nothing(short, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr.Group, "create_array", full)
    with pytest.raises(InputError, match="No space left on device"):
        movie_files.save(short, tmp_path / "movie.zarr")
    assert not list(tmp_path.iterdir())


def test_foreign_stores_are_refused(tmp_path):
    with pytest.raises(InputError, match="is no movie"):
        movie_files.load(tmp_path)
    zarr.create_group(tmp_path / "other", attributes={"plan": {}})
    with pytest.raises(InputError, match="is no movie"):
        movie_files.load(tmp_path / "other")
