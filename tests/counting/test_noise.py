"""Facts about noise: what is left out stays out, white noise is white, bad movies are refused."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from insitu import InputError
from insitu.counting import diagnosis, noise
from insitu.counting.alias import AliasTable
from insitu.counting.poisson import Poisson

RNG = np.random.default_rng


def poisson_movie(shape=(30, 64, 64), mean=0.8, seed=0):
    return RNG(seed).poisson(mean, shape).astype(np.int32)


def test_a_pixel_is_not_in_its_own_mean():
    movie = poisson_movie((9, 32, 32)).astype(float)
    before = noise.leave_one_out_mean(movie, sigma=(1.0, 1.4))
    movie[4, 16, 16] += 1000
    after = noise.leave_one_out_mean(movie, sigma=(1.0, 1.4))
    change = np.abs(after - before)
    assert change[4, 16, 16] < 1e-3
    assert change[4, 16, 17] > 1
    assert change[5, 16, 16] > 1


@pytest.mark.parametrize("sigma", [(0.0, 1.4), (2.0, 0.0), (16.0, 1.4)])
def test_mean_of_a_constant_movie_is_that_constant_up_to_the_borders(sigma):
    mean = noise.leave_one_out_mean(np.full((12, 20, 24), 3.0), sigma=sigma)
    assert np.allclose(mean, 3, atol=1e-4)


def test_smoothing_that_leaves_nothing_is_refused():
    with pytest.raises(ValueError, match="no neighbours"):
        noise.leave_one_out_mean(poisson_movie(), sigma=(0.0, 0.1))


def test_fano_factor_of_poisson_counts_is_one():
    movie = poisson_movie((40, 96, 96), 0.5 + 0.5 * np.sin(np.arange(96) / 6) ** 2)
    mean, variance = noise.histogram_moments(
        noise.histogram_by_mean(movie, noise.leave_one_out_mean(movie))
    )
    assert np.allclose(variance / mean, 1, atol=0.03)


def test_histogram_counts_every_pixel_once():
    movie = poisson_movie()
    histogram = noise.histogram_by_mean(movie, noise.leave_one_out_mean(movie, sigma=(2.0, 1.0)))
    assert histogram.sum() == movie.size
    assert np.array_equal(histogram.sum(0), np.bincount(movie.ravel()))
    mean, variance = noise.histogram_moments(np.bincount(movie.ravel())[None])
    assert np.isclose(mean[0], movie.mean())
    assert np.isclose(variance[0], movie.var(ddof=1))


def test_white_noise_is_white_and_blurred_noise_is_not():
    movie = poisson_movie((40, 96, 96), 0.8)
    white = noise.autocorrelation(movie, reach=2)
    assert white[2, 2] == pytest.approx(1)
    white[2, 2] = 0
    assert np.abs(white).max() < 5 * np.sqrt(1.5 / movie[1:].size)
    blurred = noise.autocorrelation(ndimage.gaussian_filter(movie.astype(float), (0, 1, 1)))
    # a Gaussian of width 1 blurs noise to a correlation exp(-r^2 / 4)
    assert blurred[3, 4] == pytest.approx(np.exp(-1 / 4), abs=0.02)
    assert blurred[4, 4] == pytest.approx(np.exp(-2 / 4), abs=0.02)


def test_correlation_in_time():
    movie = poisson_movie((60, 64, 64)).astype(float)
    assert abs(noise.temporal_correlation(movie)) < 0.01
    lagging = movie[1:] + 0.5 * movie[:-1]  # neighbours share 0.5 / 1.25
    assert noise.temporal_correlation(lagging) == pytest.approx(0.4, abs=0.02)
    assert np.isnan(noise.temporal_correlation(movie[:2]))


def test_p_values_of_a_right_detector_are_uniform():
    p_values = []
    scene = np.linspace(0.4, 1.6, 4096).reshape(64, 64) * np.ones((10, 1, 1))
    for seed in range(200):
        histogram = noise.histogram_by_mean(RNG(seed).poisson(scene), scene)
        p_values.append(noise.g_test(histogram, Poisson()).p_value)
    shares = [np.mean(np.array(p_values) < level) for level in (0.1, 0.5, 0.9)]
    assert np.allclose(shares, (0.1, 0.5, 0.9), atol=0.12)


def test_vacuum_is_found():
    movie = poisson_movie((40, 64, 64), 0.8)
    movie[:, 30:] += RNG(1).poisson(np.sin(np.arange(64) / 2) ** 2, (40, 34, 64))
    rows, columns = noise.flattest_box(movie)
    assert rows.stop <= 31
    assert columns.stop - columns.start == rows.stop - rows.start == 16


@pytest.mark.parametrize(
    ("movie", "sentence"),
    [
        (np.ones((8, 8)), "three axes"),
        (np.ones((1, 32, 32)), "a single frame"),
        (np.ones((4, 8, 32)), "too small"),
        (np.full((4, 32, 32), np.nan), "NaN"),
        (np.full((4, 32, 32), -1), "never negative"),
        (np.full((4, 32, 32), 0.5), "not whole numbers"),
        (np.zeros((4, 32, 32)), "every value is 0"),
        (np.ones((4, 32, 32)), "every value is 1"),
        (np.arange(4 * 32 * 32).reshape(4, 32, 32) + 60_000, "grey levels"),
        (np.full((4, 32, 32), 1j), "expected numbers"),
        (np.pad(np.full((4, 1, 1), 9e4), ((0, 0), (7, 24), (3, 28))), r"pixel \(7, 3\).*hot"),
    ],
)
def test_bad_movies_are_refused_in_a_sentence(movie, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        noise.as_counts(movie)
    assert "\n" not in str(caught.value)


def answers(movie, **options):
    mean = noise.leave_one_out_mean(movie, sigma=(4.0, 1.4))
    return {f.question: f for f in diagnosis.diagnose(movie, mean, **options)}


def test_diagnosis_of_poisson_counts():
    found = answers(poisson_movie((40, 64, 64)), pixel_size=0.2)
    assert all(f.good for f in found.values())
    words = found["What is the dose in vacuum?"].answer.split()
    assert float(words[words.index("e-/A^2;") - 1]) == pytest.approx(20, abs=1)


def test_diagnosis_of_grey_levels_and_of_multiples():
    grey = 100 + 20 * poisson_movie((20, 64, 64), 30.0)
    assert not answers(grey)["Are these electron counts?"].good
    for scaled in (7 * poisson_movie(), 7 * poisson_movie() + 3):
        assert "steps of 7" in answers(scaled)["Are these electron counts?"].answer


def test_diagnosis_of_frames_that_share_noise():
    movie = poisson_movie((41, 64, 64), 2.0)
    found = answers(movie[1:] + movie[:-1])
    assert not found["Is it independent from frame to frame?"].good
    assert "electrons are missed" not in found["Is the noise Poisson?"].answer


def test_diagnosis_of_correlated_noise():
    movie = poisson_movie((20, 64, 64), 2.0)
    shared = movie + np.roll(movie, 1, 2)
    found = answers(shared)
    assert not found["Is the noise independent from pixel to pixel?"].good
    assert found["Is it independent from frame to frame?"].good


@pytest.mark.parametrize("blank", [[7], [0, 19]])
@pytest.mark.parametrize("dark", [0.0, 0.01])
def test_blank_frames_are_named_and_change_no_verdict(blank, dark):
    movie = poisson_movie((40, 64, 64), 0.6 + 0.4 * np.sin(np.arange(64) / 6) ** 2)
    with_blanks = movie.copy()
    with_blanks[blank] = RNG(1).poisson(dark, (len(blank), 64, 64))
    mean = noise.leave_one_out_mean(with_blanks)
    *found, last = diagnosis.diagnose(with_blanks, mean, pixel_size=0.2)
    without = np.delete(movie, blank, axis=0)
    mean = noise.leave_one_out_mean(without)
    assert found == diagnosis.diagnose(without, mean, pixel_size=0.2)
    assert all(f.good for f in found)
    assert last.question == "Are there blank frames?"
    assert f"{', '.join(map(str, blank))} (the first is 0)" in last.answer
    assert last.answer.count(".") == 1  # one sentence
    assert not last.good


def test_a_movie_that_is_dim_everywhere_has_no_blank_frames():
    for mean in (0.0005, 0.002, 0.02):
        movie = poisson_movie((200, 64, 64), mean)
        assert not len(noise.blank_frames(movie))
    assert len(answers(movie)) == 5
    fading = poisson_movie((40, 64, 64), np.linspace(1.0, 0.2, 40)[:, None, None])
    assert not len(noise.blank_frames(fading))


def test_a_movie_of_blank_frames_is_refused():
    assert not len(noise.blank_frames(np.zeros((4, 32, 32))))
    with pytest.raises(InputError, match="every value is 0"):
        noise.as_counts(np.zeros((4, 32, 32)))
    movie = poisson_movie((5, 32, 32))
    movie[1:] = 0
    with pytest.raises(InputError, match="4 of 5 frames are blank"):
        answers(movie)


def test_alias_table_draws_what_it_was_given():
    p = RNG(0).dirichlet(np.full(11, 0.3), 7)
    rows = torch.arange(7, dtype=torch.int32).repeat_interleave(300_000)
    drawn = AliasTable(p).draw(rows, torch.Generator().manual_seed(0)).reshape(7, -1).numpy()
    for row, expected in zip(drawn, p, strict=True):
        frequency = np.bincount(row, minlength=11) / row.size
        assert np.abs(frequency - expected).max() < 5 * np.sqrt(0.25 / row.size)
