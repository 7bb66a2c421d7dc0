"""The counts regressed on a denoised movie: values, and the errors that they claim."""

import numpy as np
import pytest
from scipy import ndimage

from insitu.trust import regression
from insitu.trust.regions import find_regions


def flat(*movies):
    return [m.reshape(len(m), -1) for m in movies]


@pytest.fixture(scope="module")
def seen():
    """A hundred recordings of a movie (30, 16, 16) with waves that come and go."""
    t, y, x = np.mgrid[:30, :16, :16]
    clean = 1 + 0.4 * np.cos(0.8 * x) * np.cos(0.7 * y) * np.cos(0.4 * t)
    return clean, np.random.default_rng(0).poisson(clean, (100, *clean.shape))


@pytest.mark.parametrize(
    ("name", "truth"), [("slope", 1), ("invented", 0), ("lag", 0), ("down", 0), ("right", 0)]
)
def test_the_truth_is_right_within_the_error_that_is_told(seen, name, truth):
    """Over a hundred recordings values scatter as their errors say."""
    clean, recordings = seen
    down, right = np.gradient(clean, axis=1), np.gradient(clean, axis=2)

    def measure(y):
        if name == "down":
            return regression.shift(y, clean, clean, down, right)[0]
        if name == "right":
            return regression.shift(y, clean, clean, down, right)[1]
        return getattr(regression, name)(*flat(y, clean, clean))

    values, errors = np.array([measure(y) for y in recordings.astype(float)]).T
    z = (values - truth) / errors
    assert abs(z.mean()) < 0.35
    if name != "lag":  # whose error holds what the median frame changes by, too
        assert 0.8 < z.std() < 1.2
    assert z.std() < 1.2


def test_kept_is_one_for_the_truth_and_zero_for_none(seen):
    clean, _ = seen
    steady = np.repeat(clean[:1], 30, 0)
    found = []
    for y in np.random.default_rng(1).poisson(steady, (50, *clean.shape)).astype(float):
        others = regression.others(y, 0.8).within(np.ones(y.shape[1:], bool))
        args = (*flat(y, steady, steady), others)
        found.append(regression.kept(*args))
        assert regression.kept(args[0], args[1] * 0 + 1, *args[2:]).value == pytest.approx(0)
    values, errors = np.array(found).T
    assert values.mean() == pytest.approx(1, abs=0.04)  # the smaller of two: a little below
    assert values.std() < 1.3 * errors.mean()


def test_what_has_seen_the_frames_near_by_is_not_flattered(seen):
    """A Gaussian over four frames: its noise is that of frames up to twelve away."""
    steady = np.repeat(1 + 0.3 * (seen[0][:1] - 1), 40, 0)
    told, true = [], []
    for y in np.random.default_rng(2).poisson(steady, (20, *steady.shape)).astype(float):
        f = ndimage.gaussian_filter(y, (4, 1, 1), truncate=3.0)
        others = regression.others(y, 0.8).within(np.ones(y.shape[1:], bool))
        told.append(regression.kept(*flat(y, f, f), others).value)
        a, b = (m - m.mean((1, 2), keepdims=True) for m in (f, steady))
        true.append((a * b).sum() / (b * b).sum())
    assert np.mean(told) == pytest.approx(np.mean(true), abs=0.08)


def test_slope_and_invented_see_the_same_from_two_sides(seen):
    clean, recordings = seen
    y, f, v = flat(recordings[0].astype(float), clean, clean)
    half = f.mean(1, keepdims=True) + 0.5 * (f - f.mean(1, keepdims=True))
    found = regression.slope(y, half, v)
    assert found.value == pytest.approx(2, abs=4 * found.error)
    assert found.value > 1 + 4 * found.error
    assert regression.invented(y, half, v).value < 0
    noise = f + 0.2 * np.random.default_rng(2).standard_normal(f.shape)
    assert regression.slope(y, noise, v).value < 0.8
    assert regression.invented(y, noise, v).value > 0.05
    assert regression.invented(y, 0 * f + 1, v).value == 0


def test_changes_in_reverse_and_none(seen):
    clean, recordings = seen
    y, f, v = flat(recordings[0].astype(float), clean, clean)
    right = regression.changes(y, f, v)
    assert right.slope.value == pytest.approx(1, abs=4 * right.slope.error)
    assert right.slope.error < 0.1
    assert abs(right.invented.value) < 4 * right.invented.error < 0.1
    wrong = regression.changes(y, f.mean() * 2 - f, v)
    assert wrong.slope.value == pytest.approx(-right.slope.value)
    assert wrong.invented.value > 0.5
    none = regression.changes(y, np.repeat(f[:1], 30, 0), v)
    assert np.isnan(none.slope.value)
    assert none.kept.value == pytest.approx(0)


@pytest.mark.parametrize("late", [-2, -1, 1, 2])
def test_lag_has_the_sign_of_what_is_late(events, late):
    """Of sudden events it sees no more than a frame."""
    shown = events.clean[np.clip(np.arange(40) - late, 0, 39)]
    found = regression.lag(*flat(events.counts.astype(float), shown, shown))
    assert found.value == pytest.approx(np.sign(late), abs=0.4)


def test_a_drift_is_no_lag(still):
    """A movie to the side changes like one that is late; that it does so evenly is seen."""
    shown = np.roll(still.clean, 1, 2)
    found = regression.lag(*flat(still.counts.astype(float), shown, shown))
    assert abs(found.value) < 4 * found.error


def test_shift_and_wander_in_pixels(still):
    y = still.counts.astype(float)
    shown = still.clean.copy()
    shown[20:] = np.roll(shown[20:], 1, 1)
    steps = np.gradient(shown, axis=1), np.gradient(shown, axis=2)
    values, errors = regression.wander(y, shown, shown, *steps)
    assert values.shape == errors.shape == (8, 2)
    assert abs(values[:, 0]) == pytest.approx(0.5, abs=0.15)
    assert np.sign(values[0, 0]) != np.sign(values[-1, 0])
    assert abs(values[:, 1]).max() < 4 * errors.max()
    shown = np.roll(still.clean, 1, 2)
    steps = np.gradient(shown, axis=1), np.gradient(shown, axis=2)
    down, right = regression.shift(y, shown, shown, *steps)
    assert abs(down.value) < 4 * down.error
    assert abs(right.value) == pytest.approx(1, abs=0.1)


def test_columns_one_by_one(still):
    """A column that is half as strong as it ought to be has the slope 2, its neighbours 1."""
    y, mean = still.counts.astype(float), still.clean.mean(0)
    places = find_regions(mean, mean, mean / 40, still.size).positions
    rows, cols = np.mgrid[:112, :112]
    weak = np.hypot(rows - places[7, 0], cols - places[7, 1]) < 5.5
    shown = np.where(weak, (still.clean + 2) / 2, still.clean)
    found = regression.by_column(y, shown, shown, places, 1.3 / still.size, 0.2 / still.size)
    assert found.slope.shape == (36,)
    assert found.slope[7] == pytest.approx(2, abs=4 * found.slope_error[7])
    assert found.kept[7] == pytest.approx(0.5, abs=4 * found.kept_error[7])
    others = np.arange(36) != 7
    assert (abs(found.slope - 1) < 4 * found.slope_error)[others].all()
    none = regression.by_column(y, shown, shown, np.zeros((0, 2)), 5.0, 1.0)
    assert none.slope.shape == none.kept_error.shape == (0,)


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_too_little_is_not_a_number_without_a_warning(frames):
    for y, f in ((np.ones((frames, 9)), np.ones((frames, 9))), (np.zeros((frames, 9)),) * 2):
        with np.errstate(all="raise"):
            assert np.isnan(regression.slope(y, f, f + 1).value)
            assert np.isnan(regression.lag(y, f, f + 1).value)
            assert np.isnan(regression.shift(y, f, f + 1, 0 * f, 0 * f)[0].value)
            others = regression.others(y.reshape(frames, 3, 3), 1.0)
            others = others.within(np.ones((3, 3), bool))
            assert np.isnan(regression.kept(y, f, f + 1, others).value)
