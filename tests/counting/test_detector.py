"""Facts about detectors: moments, agreement of sampling and probability, recovery by fit."""

import numpy as np
import pytest
import torch
from scipy import stats

from insitu import InputError
from insitu.counting import noise
from insitu.counting.categorical import Categorical
from insitu.counting.detector import moments
from insitu.counting.poisson import Poisson
from insitu.counting.weighted_poisson import extended, gauge

REAL_WEIGHTS = np.log([1, 1, 0.73, 0.345, 0.085])
DETECTORS = {
    "poisson": Poisson(),
    "categorical": Categorical(REAL_WEIGHTS),
    "four parts": Categorical.sub_frames(4),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("mean", [0.0, 0.013, 0.46, 0.79, 1.7, 3.3])
def test_frequencies_are_the_probabilities(name, mean):
    detector, draws = DETECTORS[name], 2_000_000
    counts = detector.sample(torch.full((draws,), mean), generator())
    observed = np.bincount(counts.int().numpy(), minlength=32)
    k = torch.arange(32.0)
    expected = draws * detector.log_prob(k, torch.full((32,), mean)).exp().double().numpy()
    assert observed.sum() == draws
    assert not observed[expected == 0].any()
    common = expected > 10
    rest = abs(observed[~common].sum() - expected[~common].sum())
    assert rest <= 5 * np.sqrt(expected[~common].sum() + 1)
    if common.sum() > 1:
        share = expected[common] / expected[common].sum() * observed[common].sum()
        assert stats.chisquare(observed[common], share).pvalue > 1e-4


@pytest.mark.parametrize("mean", [5.0, 15.99, 31.2, 80.0])
def test_poisson_at_larger_means(mean):
    counts = Poisson().sample(torch.full((1_000_000,), mean), generator()).double()
    assert abs(counts.mean() - mean) < 5 * np.sqrt(mean / 1e6)
    assert abs(counts.var() / mean - 1) < 5 * np.sqrt((2 + 1 / mean) / 1e6)


def test_poisson_log_prob_is_that_of_scipy():
    k, m = torch.arange(200.0), torch.linspace(0.01, 150, 200)
    expected = stats.poisson.logpmf(k.numpy(), m.double().numpy())
    assert np.allclose(Poisson().log_prob(k, m), expected, rtol=2e-5, atol=2e-5)
    assert Poisson().log_prob(torch.zeros(1), torch.zeros(1)) == 0


@pytest.mark.parametrize("name", DETECTORS)
def test_probabilities_add_up_and_keep_the_mean(name):
    detector = DETECTORS[name]
    k = torch.arange(60.0)
    for mean in (0.001, 0.3, 0.46, 1.0, 2.717, 3.7):
        p = detector.log_prob(k, torch.full((60,), mean)).exp().double()
        assert abs(p.sum() - 1) < 1e-5
        assert abs((p * k).sum() - mean) < 1e-5 * max(1, mean)


def test_weights_of_one_are_poisson():
    table = Categorical(np.zeros(4)).table([0.2, 3.0, 7.5], 20)
    assert np.allclose(table, Poisson().table([0.2, 3.0, 7.5], 20), atol=1e-12)


def test_four_parts_are_binomial():
    k = np.arange(5)
    for mean in (0.1, 0.8, 2.5):
        table = Categorical.sub_frames(4).table(mean, 4)[0]
        assert np.allclose(table, stats.binom.pmf(k, 4, mean / 4), atol=1e-9)


def test_moments_are_those_of_poisson_and_of_the_binomial():
    means = np.array([[0.0, 0.3], [0.8, 3.5]])
    poisson = moments(Poisson(), means)
    assert np.allclose(poisson.mean, means)
    assert np.allclose(poisson.variance, means)
    assert np.allclose(poisson.third, means)
    four, p = moments(DETECTORS["four parts"], means), means / 4
    assert np.allclose(four.mean, means)
    assert np.allclose(four.variance, means * (1 - p))
    assert np.allclose(four.third, means * (1 - p) * (1 - 2 * p))


def test_categorical_is_monotone_and_smooth_in_the_mean():
    means = np.linspace(0.01, 7.9, 400)
    table = Categorical(REAL_WEIGHTS).table(means, 30)
    above = 1 - table.cumsum(1)
    assert (np.diff(above, axis=0) > -1e-12).all()
    assert np.abs(np.diff(table, n=2, axis=0)).max() < 1e-3
    fano = moments(Categorical(REAL_WEIGHTS), means).variance / means
    assert (np.diff(fano) < 0).all()
    assert fano.min() > 0


def test_weights_beyond_the_measured_go_on_smoothly():
    weights = extended(REAL_WEIGHTS, 12)
    assert np.allclose(weights[:5], gauge(REAL_WEIGHTS))
    assert np.allclose(np.diff(weights, 2)[3:], np.diff(REAL_WEIGHTS, 2)[-1])
    assert np.allclose(extended(np.zeros(3), 9), 0)


@pytest.mark.parametrize("name", DETECTORS)
def test_same_seed_same_bits_and_float32(name):
    mean = torch.rand(37, 53, generator=generator(1)) * 3
    first, again = (DETECTORS[name].sample(mean, generator(2)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.dtype == torch.float32
    assert first.shape == mean.shape
    assert not torch.equal(first, DETECTORS[name].sample(mean, generator(3)))
    assert DETECTORS[name].log_prob(first, mean).dtype == torch.float32
    double = DETECTORS[name].sample(mean.double(), generator(2))
    assert double.dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", DETECTORS)
def test_gpu_agrees_with_cpu(name):
    mean = torch.full((1000, 1000), 0.79, device="cuda")
    counts = DETECTORS[name].sample(mean, torch.Generator("cuda").manual_seed(0))
    assert counts.device.type == "cuda"
    assert abs(float(counts.mean()) - 0.79) < 0.005
    on_cpu = DETECTORS[name].log_prob(counts.cpu(), mean.cpu())
    assert torch.allclose(DETECTORS[name].log_prob(counts, mean).cpu(), on_cpu, atol=1e-5)


@pytest.mark.parametrize("name", DETECTORS)
def test_log_prob_has_the_gradient_of_the_likelihood(name):
    """d log P / d m = (k - m) / Var(k), as in every exponential family."""
    detector = DETECTORS[name]
    mean = torch.tensor([0.4605, 0.8003, 1.7041], requires_grad=True)
    k = torch.tensor([0.0, 1.0, 3.0])
    detector.log_prob(k, mean).sum().backward()
    m = mean.detach().double().numpy()
    variance = moments(detector, m).variance
    assert np.allclose(mean.grad, (k.numpy() - m) / variance, rtol=0.03)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_bad_intensity_is_refused(name, bad):
    with pytest.raises(ValueError, match="intensity"):
        DETECTORS[name].sample(torch.tensor([0.5, bad]), generator())


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("bad", [-1.0, 0.5, float("nan")])
def test_bad_counts_are_refused(name, bad):
    with pytest.raises(ValueError, match="counts"):
        DETECTORS[name].log_prob(torch.tensor([bad]), torch.tensor([0.5]))


def test_too_bright_for_a_categorical_is_refused():
    with pytest.raises(ValueError, match="at most 8"):
        Categorical(REAL_WEIGHTS).sample(torch.tensor([9.0]))


def test_impossible_counts_have_no_probability():
    log_p = Categorical.sub_frames(4).log_prob(torch.arange(4.0, 9.0), torch.full((5,), 0.79))
    assert torch.isfinite(log_p[0])
    assert torch.isinf(log_p[1:]).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_fit_finds_the_weights(name):
    truth = DETECTORS[name]
    y, x = np.mgrid[:96, :96]
    scene = torch.tensor(0.8 + 0.35 * np.sin(y / 5) * np.sin(x / 6)).expand(60, -1, -1)
    counts = truth.sample(scene, generator(4)).numpy()
    fitted = Categorical.fit(counts)
    known = getattr(truth, "log_weights", np.zeros(5))
    assert np.allclose(np.exp(fitted.log_weights[2:4]), np.exp(known[2:4]), atol=0.04)
    low, high = fitted.mean_range
    assert 0.4 < low < high < 1.2


def test_fit_keeps_every_mean_and_every_total():
    counts = DETECTORS["categorical"].sample(torch.rand(40, 64, 64) * 2, generator(5)).numpy()
    bins = np.digitize(np.random.default_rng(0).random(counts.shape), [0.3, 0.6]) + 1.0
    histogram = noise.histogram_by_mean(counts, bins)
    assert len(histogram) == 3
    fitted = Categorical.fit(counts, mean=bins)
    expected = histogram.sum(1) @ fitted.table(
        noise.histogram_moments(histogram)[0], histogram.shape[1] - 1
    )
    common = histogram.sum(0) >= 50
    assert np.allclose(expected[common], histogram.sum(0)[common], rtol=1e-3)


def test_fit_that_does_not_converge_says_so():
    """Two parts a frame: beyond the count 2 the weights cannot go on smoothly."""
    scene = torch.linspace(0.4, 1.2, 64).expand(30, 64, 64)
    counts = Categorical.sub_frames(2).sample(scene, generator(10)).numpy()
    with pytest.raises(InputError, match="no detector of this family gives the counts 0 to 2"):
        Categorical.fit(counts, mean=scene)


def test_fit_of_too_few_counts_says_so():
    frames = np.zeros((3, 32, 32))
    frames[0, 0, 0] = 1
    with pytest.raises(InputError, match="three are needed to fit"):
        Categorical.fit(frames)


def test_saved_detector_is_the_same(tmp_path):
    for detector in (DETECTORS["categorical"], DETECTORS["four parts"]):
        detector.save(tmp_path / "d.json", source="a test")
        again = Categorical.load(tmp_path / "d.json")
        assert repr(again) == repr(detector)
        assert np.array_equal(again.table(1.3, 6), detector.table(1.3, 6))
    (tmp_path / "d.json").write_text('{"weights": 3}')
    with pytest.raises(ValueError, match="no saved Categorical"):
        Categorical.load(tmp_path / "d.json")


# P(k | mean) of the real movie, as measured before this library existed, from pixels sorted
# into bins by their mean; tens of thousands of pixels in each.
PUBLISHED = {
    0.645: (0.4945, 0.3810, 0.1105, 0.0133, 0.0007),
    0.791: (0.4110, 0.4133, 0.1507, 0.0238, 0.0013),
    0.976: (0.3257, 0.4234, 0.2043, 0.0427, 0.0039),
}


def test_fit_of_the_real_movie_gives_the_known_table(real_movie):
    fitted = Categorical.fit(real_movie.counts)
    for mean, known in PUBLISHED.items():
        error = np.sqrt(np.array(known) * (1 - np.array(known)) / 40_000)
        assert (np.abs(fitted.table(mean, 4)[0] - known) < 3 * error).all(), mean


def test_categorical_beats_poisson_on_frames_not_fitted(real_movie):
    counts = noise.as_counts(real_movie.counts)
    for fit, held in ((slice(20), slice(20, 40)), (slice(20, 40), slice(20))):
        fitted = Categorical.fit(counts[fit])
        mean = noise.leave_one_out_mean(counts[held])
        k, m = torch.tensor(counts[held]), torch.tensor(mean)
        gain = fitted.log_prob(k, m).mean() - Poisson().log_prob(k, m).mean()
        assert gain > 0.010
        histogram = noise.histogram_by_mean(counts[held], mean)
        assert noise.g_test(histogram, fitted).p_value > 0.01
        assert noise.g_test(histogram, Poisson()).p_value < 1e-6


@pytest.mark.parametrize("name", DETECTORS)
def test_a_movie_against_one_intensity(name):
    """Counts (t, y, x) and an intensity (y, x) are broadcast, as everywhere in torch."""
    intensity = torch.rand(8, 9, generator=generator(6)) + 0.2
    movie = DETECTORS[name].sample(intensity.expand(5, -1, -1), generator(7))
    together = DETECTORS[name].log_prob(movie, intensity)
    each = torch.stack([DETECTORS[name].log_prob(frame, intensity) for frame in movie])
    assert torch.equal(together, each)


def test_fit_where_the_tails_are_thin():
    """Counts beyond the first rare one are left out, on both sides."""
    counts = torch.poisson(torch.full((12, 48, 48), 30.0), generator=generator(8)).numpy()
    fitted = Categorical.fit(counts, mean=np.full(counts.shape, 30.0) + np.arange(48) * 1e-3)
    assert abs(fitted.table(30.0, 120)[0] @ np.arange(121) - 30) < 1e-6
    variance = fitted.table(30.0, 120)[0] @ (np.arange(121) - 30.0) ** 2
    assert 0.9 < variance / counts.var() < 1.1


def test_too_bright_to_fit_says_so():
    counts = torch.poisson(torch.full((6, 32, 32), 90.0), generator=generator(9)).numpy()
    with pytest.raises(InputError, match="for up to 60"):
        Categorical.fit(counts, mean=np.full(counts.shape, 90.0))


@pytest.mark.parametrize("parts", [3, 4])
def test_fit_of_a_detector_that_counts_no_further_has_its_variance(parts):
    """No count above the number of parts is possible; weights that go on would expect some."""
    truth = Categorical.sub_frames(parts)
    scene = torch.linspace(0.4, 1.2, 96).expand(60, 96, 96)
    for seed in range(3):
        fitted = Categorical.fit(truth.sample(scene, generator(seed)).numpy())
        means = np.linspace(0.5, 1.1, 7)
        ratio = moments(fitted, means).variance / moments(truth, means).variance
        assert ratio.mean() == pytest.approx(1, abs=0.01)
        assert fitted.table(0.8, parts + 3)[0, parts + 1 :].sum() < 1e-5
