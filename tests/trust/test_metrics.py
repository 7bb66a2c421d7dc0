import numpy as np
import pytest

from insitu import InputError
from insitu.trust import metrics


def test_psnr_is_what_it_says():
    truth = np.random.default_rng(0).random((50, 60))
    assert metrics.psnr(truth + 0.1, truth) == pytest.approx(20.0)
    assert metrics.psnr(truth + 0.1, truth, peak=10) == pytest.approx(40.0)
    assert metrics.psnr(truth, truth) == float("inf")


def test_raw_counts_have_the_psnr_of_their_variance():
    counts = np.random.default_rng(0).poisson(0.45, (800, 800))
    assert metrics.psnr(counts, np.full(counts.shape, 0.45)) == pytest.approx(3.47, abs=0.03)


def test_ssim_knows_equal_images_and_noise():
    truth = np.random.default_rng(0).random((50, 60))
    noise = np.random.default_rng(1).random((50, 60))
    assert metrics.ssim(truth, truth) == pytest.approx(1)
    assert metrics.ssim(noise, truth) < 0.2


def test_profile_averages_across():
    image = np.tile(np.arange(40.0), (30, 1))
    line = metrics.profile(image, (15, 5), (15, 25))
    np.testing.assert_allclose(line, np.arange(5, 26))


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match="its shape is"):
        metrics.psnr(np.ones((3, 4)), np.ones((4, 3)))
