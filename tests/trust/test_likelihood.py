import numpy as np
import pytest
from scipy import stats

from insitu import InputError
from insitu.counting.categorical import Categorical
from insitu.counting.poisson import Poisson
from insitu.trust import likelihood

FOUR = Categorical.sub_frames(4)


def draw(detector, mean, shape, rng):
    """Counts by the detector's own table, so that numpy's generator is the only luck."""
    p = detector.table([mean], 40)[0]
    return rng.choice(len(p), size=shape, p=p / p.sum())


def grid(side, apart):
    line = np.arange(apart, side - apart + 1, 2 * apart, dtype=float)
    return np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)


@pytest.mark.parametrize("detector", [Poisson(), FOUR], ids=["poisson", "categorical"])
@pytest.mark.parametrize("vacuum", [0.1, 0.46, 2.0])
def test_p_values_without_an_atom_are_uniform(detector, vacuum):
    rng = np.random.default_rng(int(100 * vacuum))
    places = grid(1400, 7)
    counts = draw(detector, vacuum, (1400, 1400), rng)
    verdicts = likelihood.ratio_test(
        counts, places, 6, 1.3 * vacuum, vacuum, detector, generator=rng
    )
    assert len(places) >= 9_000
    assert stats.kstest(verdicts.p_value, "uniform").pvalue > 0.01
    assert not likelihood.discoveries(verdicts.p_value).sum() > 3


def test_without_spreading_ties_the_test_is_cautious():
    rng = np.random.default_rng(0)
    places = grid(1400, 7)
    verdicts = likelihood.ratio_test(rng.poisson(0.1, (1400, 1400)), places, 3, 0.2, 0.1)
    for rate in (0.3, 0.1, 0.01):
        assert (verdicts.p_value <= rate).mean() <= rate + 3 * np.sqrt(rate / len(places))


@pytest.mark.parametrize("frames", [1, 4])
def test_power_is_that_of_the_theory(frames):
    """Vacuum 0.45, atom 0.55, about 600 px."""
    rng = np.random.default_rng(1)
    radius = np.sqrt(600 / np.pi)
    places = grid(1500, 15)
    counts = rng.poisson(0.55, (frames, 1500, 1500))
    pixels = likelihood.ratio_test(counts[0], places, radius, 0.55, 0.45).expected[0] / 0.45
    shift = likelihood.d_prime(0.45, 0.55, round(pixels), frames)
    if frames == 1:
        assert likelihood.d_prime(0.45, 0.55, 600) == pytest.approx(3.65, abs=0.005)
    verdicts = likelihood.ratio_test(counts, places, radius, 0.55, 0.45, generator=rng)
    z = stats.norm.isf(verdicts.p_value.clip(1e-300))
    assert z.mean() == pytest.approx(shift, rel=0.05)
    rate = 1e-3
    expected = likelihood.power(0.45, 0.55, round(pixels), rate, frames)
    assert (verdicts.p_value < rate).mean() == pytest.approx(expected, abs=0.03)
    assert expected == pytest.approx(stats.norm.sf(stats.norm.isf(rate) - shift), abs=0.06)


def test_the_ratio_is_that_of_the_counts():
    rng = np.random.default_rng(2)
    for detector in (Poisson(), FOUR):
        counts = draw(detector, 0.6, (40, 40), rng)
        verdict = likelihood.ratio_test(counts, [[20, 20]], 5, 0.7, 0.5, detector)
        yy, xx = np.mgrid[:40, :40]
        disc = counts[np.hypot(yy - 20, xx - 20) <= 5]
        p = detector.table([0.7, 0.5], 10)
        direct = np.log(p[0, disc] / p[1, disc]).sum()
        assert verdict.ratio[0] == pytest.approx(direct, rel=1e-6, abs=1e-6)
        assert verdict.electrons[0] == disc.sum()
        assert verdict.intensity[0] == pytest.approx(disc.mean())


def test_the_published_map_double_dips_and_the_test_does_not():
    """Blobs of smoothed noise, where there is no atom at all."""
    from scipy import ndimage

    rng = np.random.default_rng(3)
    first, second = rng.poisson(0.45, (2, 400, 400))
    smooth = ndimage.gaussian_filter(first.astype(float), 4.0)
    blobs = likelihood.published_map(first, smooth, 0.45, sigmas=(3, 6), threshold=0.005)
    assert len(blobs.score) > 100
    assert (blobs.score > 0).mean() > 0.7  # the same electrons: most blobs are atoms
    again = likelihood.published_map(second, smooth, 0.45, sigmas=(3, 6), threshold=0.005)
    assert (again.score > 0).mean() < 0.55
    inside = ((blobs.positions > 8) & (blobs.positions < 391)).all(1)
    where = blobs.positions[inside]
    same, other = (
        likelihood.ratio_test(counts, where, 6, 0.5, 0.45, generator=rng).p_value
        for counts in (first, second)
    )
    assert stats.kstest(same, "uniform").pvalue < 1e-6
    assert stats.kstest(other, "uniform").pvalue > 0.01


def test_the_published_score_is_the_mean_log_likelihood_ratio():
    rng = np.random.default_rng(4)
    yy, xx = np.mgrid[:60, :60]
    image = 0.45 + 0.3 * np.exp(-((yy - 30) ** 2 + (xx - 30) ** 2) / 50)
    counts = rng.poisson(image)
    blobs = likelihood.published_map(counts, image, 0.45, sigmas=(2, 8), threshold=0.02)
    best = int(np.argmax(blobs.intensity))
    y, x = blobs.positions[best]
    inside = np.hypot(yy - y, xx - x) <= blobs.radius[best]
    m = image[inside].mean()
    log_p = stats.poisson.logpmf(counts[inside], m) - stats.poisson.logpmf(counts[inside], 0.45)
    assert blobs.score[best] == pytest.approx(log_p.mean(), rel=1e-9)


def test_dark_atoms():
    rng = np.random.default_rng(5)
    counts = rng.poisson(0.3, (60, 60))
    bright, dark = (
        likelihood.ratio_test(counts, [[30, 30]], 8, m, 0.5, dark=d).p_value[0]
        for m, d in ((0.7, False), (0.3, True))
    )
    assert dark < 1e-3
    assert bright > 0.9


def test_atoms_are_supported_and_forgeries_are_not():
    yy, xx = np.mgrid[:120, :120]
    places = grid(120, 12)
    blobs = [np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / 40) for y, x in places[::2]]
    clean = 0.45 * (1 + 0.5 * np.sum(blobs, axis=0))
    counts = np.random.default_rng(6).poisson(clean, (40, 120, 120))
    good, found = likelihood.supported(counts, places, 0.1)
    assert good[::2].all()
    assert not good[1::2].any()
    assert found.p_value[1::2].min() > 1e-4
    assert (found.electrons > found.expected)[::2].all()
    dark, _ = likelihood.supported(counts.max() - counts, places, 0.1, dark=True)
    assert dark[::2].mean() > 0.9
    assert likelihood.supported(counts, np.zeros((0, 2)), 0.1)[0].size == 0


@pytest.mark.parametrize("detector", [Poisson(), FOUR], ids=["poisson", "categorical"])
@pytest.mark.parametrize("frames", [1, 20])
def test_a_disc_is_like_its_ring_where_there_is_no_atom(detector, frames):
    """Places that noise chose, in counts of their own and in others; whatever the intensity."""
    from scipy import ndimage

    rng = np.random.default_rng([7, frames])
    low = 0
    for _ in range(5):
        counts = draw(detector, 0.46, (frames, 300, 300), rng)
        smooth = ndimage.gaussian_filter(rng.poisson(0.46, (300, 300)).astype(float), 2.5)
        peaks = np.argwhere(smooth == ndimage.maximum_filter(smooth, size=9))
        peaks = peaks[((peaks > 9) & (peaks < 290)).all(1)]
        assert len(peaks) >= 300
        p = likelihood.ring_test(counts, peaks, 0.24, detector, generator=rng).p_value
        low += stats.kstest(p, "uniform").pvalue < 0.01
        assert likelihood.discoveries(p, 0.02).sum() < 3
        cautious = likelihood.ring_test(counts, peaks, 0.24, detector).p_value
        assert (cautious <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 / len(peaks))
    assert low <= 1


def test_a_level_that_differs_from_place_to_place_makes_no_atoms():
    """Only disc against ring counts: bright and dark fields, no denoised picture."""
    rng = np.random.default_rng(8)
    level = np.repeat(np.repeat(rng.uniform(0.1, 2, (12, 12)), 25, 0), 25, 1)
    counts = rng.poisson(level, (10, 300, 300))
    middles = np.stack(np.meshgrid(*[np.arange(12, 300, 25.0)] * 2, indexing="ij"), -1)
    p = likelihood.ring_test(counts, middles.reshape(-1, 2), 0.2, generator=rng).p_value
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_bad_candidates_give_a_sentence():
    counts = np.ones((20, 20), int)
    for positions, present, absent, words in (
        ([[5, 30]], 0.5, 0.4, "outside"),
        ([[5, 5]], 0.5, 0.0, "positive"),
    ):
        with pytest.raises(InputError, match=words):
            likelihood.ratio_test(counts, positions, 3, present, absent)
    with pytest.raises(InputError, match="one shape"):
        likelihood.published_map(counts, np.ones((4, 4)), 0.4, sigmas=(2, 8))
    assert likelihood.discoveries([]).size == 0
    nothing = likelihood.ratio_test(counts, np.zeros((0, 2)), 3, 0.5, 0.4)
    assert nothing.p_value.size == 0
    assert likelihood.ratio_test(counts, np.zeros((0, 2)), 3, 0.5, 0.4, FOUR).p_value.size == 0
    with pytest.raises(InputError, match="NaN"):
        likelihood.ratio_test(np.full((20, 20), np.nan), [[5, 5]], 3, 0.5, 0.4)


def test_tails_of_a_detector_that_is_skewed_to_the_left():
    """Four reads at three electrons: the sum of 20 counts, exactly by convolution."""
    p = FOUR.table([3.0], 4)[0]
    exact = np.array([1.0])
    for _ in range(20):
        exact = np.convolve(exact, p)
    counts = np.zeros((3, 3))
    for total in (48, 72):
        counts[1, 1] = total / 20
        movie = np.repeat(counts[None], 20, axis=0)
        bright, dark = (
            likelihood.ratio_test(movie, [[1, 1]], 0.5, 3.2, 3.0, FOUR, dark=d).p_value[0]
            for d in (False, True)
        )
        assert bright == pytest.approx(exact[total:].sum(), rel=0.3, abs=1e-6)
        assert dark == pytest.approx(exact[: total + 1].sum(), rel=0.3, abs=1e-6)
