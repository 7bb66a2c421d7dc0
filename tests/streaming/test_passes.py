"""A pass over blocks says what numpy says of the whole movie."""

import numpy as np
import pytest

from insitu import InputError
from insitu.denoise.binning import tiles
from insitu.denoise.saved import load_denoiser
from insitu.denoise.unsupervised import MovieSettings, learn_movie
from insitu.files import open_movie
from insitu.streaming import Costs, measure, open_store, record
from insitu.streaming.alarms import Watch, cell_sums
from insitu.streaming.costs import Run
from insitu.streaming.recording import to_hyperspy
from insitu.trust.averaging import agreement

PIXEL = 0.2


@pytest.fixture(scope="module")
def counts():
    """A lattice that drifts by 3 and -4 pixels, and a square that brightens in frame 90."""
    rng = np.random.default_rng(0)
    frames = []
    y, x = np.mgrid[:150, :170]
    for t in range(112):
        dy, dx = 3 * (t >= 56), -4 * (t >= 56)
        mean = 0.5 + 0.4 * np.cos((y - dy) / 3.1) * np.cos((x - dx) / 2.7)
        mean *= np.exp(-(((y - dy - 70) / 40) ** 2 + ((x - dx - 80) / 40) ** 2)) + 0.3
        mean[96:112, 16:32] *= 1 + 0.9 * (t >= 90)
        frames.append(rng.poisson(mean))
    return np.array(frames, np.uint8)


@pytest.mark.parametrize(("block", "side"), [(16, 64), (32, 128), (112, 1024)])
@pytest.mark.parametrize("kind", ["uint8", "int32", "float32"])
def test_sums_are_those_of_the_whole_movie(counts, block, side, kind, tmp_path):
    movie = counts.astype(kind)
    found = measure(movie, tmp_path, block=block, side=side, baseline=40)
    whole = counts.astype(float)
    np.testing.assert_array_equal(found.electrons, whole.sum((1, 2)))
    np.testing.assert_allclose(found.mean, whole.mean(0), rtol=1e-12)
    variance = (np.diff(whole, axis=0) ** 2).sum(0) / (2 * 111)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-12)
    assert found.fano == pytest.approx(variance.sum() / whole.mean(0).sum())
    assert np.isnan(found.entropy) == (kind == "float32")
    watch = Watch(baseline=40)
    for one, two in zip(watch.push(cell_sums(counts, 16)), found.alarms, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_fano_factor_is_that_of_the_noise_alone(tmp_path):
    """A movie whose mean doubles slowly: the variance over all frames would be far too large."""
    rate = np.linspace(1, 3, 200)[:, None, None]
    movie = np.random.default_rng(0).poisson(rate * np.ones((1, 64, 64))).astype(np.uint8)
    assert movie.var(0).mean() / movie.mean() > 1.05
    assert measure(movie, tmp_path, block=32).fano == pytest.approx(1, abs=0.01)


def test_drift_and_the_event_are_found(counts, tmp_path):
    found = measure(counts, tmp_path, block=16, baseline=40)
    np.testing.assert_allclose(found.drift[0], [7.5, 0, 0])
    np.testing.assert_allclose(found.drift[-1, 1:], [3, -4], atol=0.3)
    event = (found.alarms.cell == [6, 1]).all(1) & (found.alarms.frame >= 90)
    assert found.alarms.rises[event].all()
    assert 90 <= found.alarms.frame[event].min() < 94


def test_false_alarms_are_as_many_as_allowed():
    """Of a thousand cells, whose means are not known better than 200 frames tell them."""
    watch = Watch(baseline=200, false_alarms=1e4)
    told = watch.push(np.random.default_rng(0).poisson(118, (2200, 32, 32)))
    assert 8 < len(told.frame) < 34  # 20 are expected


def test_entropy_is_that_of_the_counts(tmp_path):
    movie = np.random.default_rng(0).poisson(0.46, (64, 128, 128)).astype(np.uint8)
    found = measure(record(movie, tmp_path / "counts.zarr"), tmp_path / "out", asked=())
    k = np.arange(20)
    p = np.exp(-0.46) * np.cumprod(np.append(1.0, 0.46 / k[1:]))
    assert found.entropy == pytest.approx(-(p * np.log2(p)).sum(), abs=0.01)
    store = open_store(tmp_path / "counts.zarr")
    assert found.entropy < 8 * store.files() / movie.size < 1.3 * found.entropy


@pytest.fixture(scope="module")
def small_network(counts, tmp_path_factory):
    """A network that hardly learned anything, with a reach of 6 frames."""
    settings = MovieSettings(steps=2, batch=2, side=32, validate_every=2)
    options = {"channels": 4, "levels": 1, "reach": 6}
    made, result = learn_movie(counts[:24, :64, :64], PIXEL, settings, options=options)
    return made.save(tmp_path_factory.mktemp("network") / "small.safetensors", result)


def test_a_denoised_movie_is_that_of_all_frames_at_once(counts, small_network, tmp_path):
    some = counts[:48]
    found = measure(
        some, tmp_path, denoiser=str(small_network), pixel_size=PIXEL, block=16, columns=True
    )
    whole = load_denoiser(small_network)(some, PIXEL)
    kept = open_store(tmp_path / "denoised.zarr")
    np.testing.assert_allclose(kept[:], whole, atol=1e-5)
    np.testing.assert_allclose(found.denoised, whole.mean(0), atol=1e-5)
    judged = agreement(some, whole)
    np.testing.assert_allclose(found.z, judged.z, atol=1e-3)
    assert found.z.std() == pytest.approx(judged.deviation, abs=1e-4)
    assert set(found.columns[:, 0]) == {7.5, 23.5, 39.5}
    assert found.columns[:, 1].max() < 150 * PIXEL


def test_tiles_of_a_large_frame_agree_with_the_whole(counts, small_network, tmp_path):
    """To within what the halo cuts off, far less than an error of denoising."""
    wide = np.concatenate([counts[:16], counts[:16, ::-1]], 1)
    wide = np.concatenate([wide, wide], 1)  # 600 rows
    options = {"denoiser": str(small_network), "pixel_size": PIXEL, "block": 16}
    measure(wide, tmp_path / "tiles", side=256, **options)
    measure(wide, tmp_path / "whole", **options)
    one, two = (open_store(tmp_path / k / "denoised.zarr") for k in ("tiles", "whole"))
    assert one.array.chunks == (16, 256, 170)
    assert len(list(tiles(wide.shape[1:], 256, 0))) == 3
    np.testing.assert_allclose(one[:], two[:], atol=1e-4)


def test_a_pass_goes_on_only_with_the_same(counts, tmp_path):
    measure(counts, tmp_path, baseline=40)
    again = measure(counts, tmp_path, baseline=60)  # alarms come after all, from what is kept
    assert again.seconds < 60
    for movie, options in ((counts, {"block": 32}), (counts[:, ::-1], {}), (counts[:80], {})):
        with pytest.raises(InputError, match="holds a run of another movie"):
            measure(movie, tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block": 20}, "multiple of 16"),
        ({"side": 100}, "power of two"),
        ({"asked": ("median",)}, "allowed is one of mean, fano, drift, alarms"),
        ({"denoiser": "restorer"}, "pixel_size: the movie does not tell it"),
        ({"columns": True, "pixel_size": 0.2}, "name a denoiser"),
        ({"baseline": 3}, "baseline: got 3"),
    ],
)
def test_settings_are_refused_before_any_work(counts, options, words, tmp_path):
    with pytest.raises(InputError, match=words):
        measure(counts, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_what_is_no_movie_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected a file, a store"):
        measure([1, 2, 3], tmp_path)
    with pytest.raises(InputError, match="there is no file"):
        record(tmp_path / "none.tif", tmp_path / "out")
    frames = np.ones((20, 32, 32), np.float32)
    frames[17, 3, 3] = np.nan
    with pytest.raises(InputError, match="1 values are NaN"):
        record(frames, tmp_path / "out")
    with pytest.raises(InputError, match="holds another movie"):
        record(np.zeros((20, 32, 32), np.float32), tmp_path / "out")


def test_hyperspy_signals_come_in_and_go_out(counts, tmp_path):
    store = record(counts, tmp_path / "a.zarr", pixel_size=0.24, frame_time=1 / 75)
    signal = to_hyperspy(store)
    assert signal._lazy
    np.testing.assert_array_equal(signal.inav[10:20].data.compute(), counts[10:20])
    again = record(signal, tmp_path / "b.zarr")
    np.testing.assert_array_equal(again[:], counts)
    assert again.pixel_size == pytest.approx(0.24)
    assert again.frame_time == pytest.approx(1 / 75)
    signal.save(tmp_path / "movie.hspy")
    assert open_movie(tmp_path / "movie.hspy").shape == counts.shape
    np.testing.assert_array_equal(record(tmp_path / "movie.hspy", tmp_path / "c.zarr")[:], counts)


def test_costs_are_learned_from_runs():
    def took(run):
        return 2 + run.rounds * (0.1 + 3e-9 * 64 * 1024**2)

    sizes = [(n, w) for n in (64, 128, 512) for w in (1, 2)]
    runs = [Run((n, 1024, 1024), 64, w, memory=4e8) for n, w in sizes]
    costs = Costs.fit([run._replace(seconds=took(run)) for run in runs])
    assert costs.error < 1e-6
    large = Run((40_000, 1024, 1024), 64, 8, memory=0)
    assert costs.seconds(large) == pytest.approx(took(large), rel=1e-6)
    assert costs.memory(large) == pytest.approx(4e8)
    said = costs.plan(large)
    assert "41.9 GB of counts" in said
    assert "625 blocks of 64 frames, 79 for each of 8 workers" in said
    with pytest.raises(InputError, match="NaN"):
        Costs.fit(runs)
