import numpy as np
import pytest
from scipy import ndimage

from insitu import InputError
from insitu.counting.categorical import Categorical
from insitu.counting.poisson import Poisson
from insitu.trust import averaging, without_truth

FOUR = Categorical.sub_frames(4)


def scene(frames=16, side=48):
    y, x = np.mgrid[:side, :side]
    return 0.6 * (1 + 0.7 * np.cos(0.5 * x) * np.cos(0.4 * y)) * np.ones((frames, 1, 1))


def blur(movie):
    """Mean of the frames 1 and 2 away, blurred: it has seen neither its own count nor 3 to 5."""
    n = len(movie)
    near = [[k for k in (t - 2, t - 1, t + 1, t + 2) if 0 <= k < n] for t in range(n)]
    return ndimage.gaussian_filter(np.stack([movie[k].mean(0) for k in near]), (0, 2.0, 2.0))


def counted(detector, clean, seed):
    rng = np.random.default_rng(seed)
    if detector is None:
        return rng.poisson(clean)
    grid = np.linspace(0.0, 1.5, 301)
    table = detector.table(grid, 4).cumsum(1)[np.rint(clean / 0.005).astype(int)]
    return (rng.random(clean.shape)[..., None] > table[..., :-1]).sum(-1)


@pytest.mark.parametrize("detector", [None, FOUR], ids=["poisson", "categorical"])
def test_unbiased_routes_hold_the_truth_as_often_as_they_say(detector):
    clean = scene()
    if detector is not None:
        clean = np.rint(clean / 0.005) * 0.005

    held = {"copies": 0, "other frames": 0, "own count": 0}
    repeats = 60
    for seed in range(repeats):
        y = counted(detector, clean, seed).astype(float)
        a, b, c = (counted(detector, clean, [seed, k]).astype(float) for k in (1, 2, 3))
        f = blur(y)
        true = ((f - clean) ** 2).mean()
        inner = ((f - clean)[5:-5] ** 2).mean()
        held["copies"] += true in without_truth.from_copies(f, a, b, c, seed=seed)
        held["other frames"] += inner in without_truth.from_other_frames(f, y, seed=seed)
        own = without_truth.from_own_count(f, y, detector=detector, seed=seed)
        held["own count"] += true in own
    for name, count in held.items():
        assert 0.85 <= count / repeats <= 1.0, (name, count / repeats)


def test_the_noise_is_told_by_the_counts():
    np.testing.assert_allclose(
        without_truth.noise_of_counts(Poisson(), 1.2, 6)[:7], np.arange(7.0), atol=1e-4
    )
    g = without_truth.noise_of_counts(FOUR, 1.2, 4)[:5]
    means = np.array([0.1, 0.5, 1.0])
    np.testing.assert_allclose(FOUR.table(means, 4) @ g, means * (1 - means / 4), rtol=0.01)


def test_a_prediction_that_has_seen_its_count_is_found_out():
    clean = scene()
    y = counted(None, clean, 0).astype(float)
    seeing = ndimage.uniform_filter1d(y, 5, axis=0)
    error = without_truth.from_own_count(seeing, y)
    assert error.high < 0
    assert np.isnan(error.psnr())


def test_of_one_block_nothing_is_known():
    error = without_truth.bootstrap_mean(np.ones((4, 8, 8)))
    assert error.mse == 1
    assert error.high == -error.low == np.inf


def test_motion_and_magnification_are_biases():
    moving = np.stack([np.roll(f, t, 1) for t, f in enumerate(scene())])
    y = counted(None, moving, 1).astype(float)
    f = blur(y)
    true = ((f - moving)[5:-5] ** 2).mean()
    assert without_truth.from_other_frames(f, y).mse > 1.2 * true
    thinned = without_truth.from_thinning(y, blur, share=0.5)
    assert thinned.mse > ((f - moving) ** 2).mean()
    assert without_truth.from_blocks(y, blur).mse > true


def test_thinning_sees_the_error_with_fewer_electrons():
    clean = scene(40, 64)
    y = counted(None, clean, 2)
    fewer = np.random.default_rng(3).poisson(0.9 * clean)
    true = ((blur(fewer) / 0.9 - clean) ** 2).mean()
    assert without_truth.from_thinning(y, blur, share=0.9).mse == pytest.approx(true, rel=0.25)
    with pytest.raises(InputError, match="share: got 1"):
        without_truth.from_thinning(y, blur, share=1.0)


def test_agreement_with_the_mean_is_counting_noise():
    clean = scene(40, 64)
    y = counted(None, clean, 4)
    right = averaging.agreement(y, clean)
    assert abs(right.mean) < 0.05
    assert right.deviation == pytest.approx(1, abs=0.04)
    bright = averaging.agreement(y, 1.1 * clean)
    assert bright.mean > 0.3
    smooth = averaging.agreement(y, np.full(clean.shape, clean.mean()))
    assert smooth.deviation > 2
    held = averaging.over_frames(y, 1.02 * clean, [5, 40])
    assert held[1].mean > 2 * held[0].mean > 0
    assert [h.frames for h in held] == [5, 40]


def test_agreement_knows_the_detector():
    clean = np.rint(scene(40, 64) / 0.005) * 0.005
    y = counted(FOUR, clean, 5)
    assert averaging.agreement(y, clean).deviation < 0.95
    assert averaging.agreement(y, clean, detector=FOUR).deviation == pytest.approx(1, abs=0.04)
    with pytest.raises(InputError, match="one shape"):
        averaging.agreement(y, clean[:, :5])
    clean[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="denoised: 1 values are NaN"):
        averaging.agreement(y, clean)


def test_ring_correlation_of_equal_and_of_unrelated_images():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 128, 128))
    frequency, same = without_truth.ring_correlation(a, a)
    np.testing.assert_allclose(same, 1.0)
    assert frequency.max() < 0.5
    assert abs(without_truth.ring_correlation(a, b)[1][5:]).max() < 0.3
    lattice = np.cos(0.8 * np.arange(128)) * np.ones((128, 1))
    shared = without_truth.ring_correlation(a + 3 * lattice, b + 3 * lattice)[1]
    assert shared[int(0.8 / 2 / np.pi / 0.5 * 40)] > 0.7
