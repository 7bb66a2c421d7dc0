from dataclasses import replace

import numpy as np
import pytest

from insitu import InputError
from insitu.denoise import blocks
from insitu.denoise.saved import load_denoiser
from insitu.denoise.unsupervised import MovieSettings, learn_movie

QUICK = MovieSettings(
    steps=4, warm_up=2, average=0.9, validate_every=2, save_every=2, batch=2, side=32
)
SMALL = {"options": {"channels": 4, "levels": 1, "reach": 4}}
PIXEL = 0.2  # not binned


def movie(shape=(12, 37, 53), mean=0.5):
    return np.random.default_rng(0).poisson(mean, shape).astype(np.uint8)


@pytest.mark.parametrize("shape", [(12, 37, 53), (2, 20, 24), (5, 16, 16)])
def test_odd_sizes_and_short_movies(shape):
    counts = movie(shape)
    denoiser, _ = learn_movie(counts, PIXEL, QUICK, **SMALL)
    answer = denoiser(counts, PIXEL)
    assert answer.shape == shape
    assert np.isfinite(answer).all()
    assert answer.min() >= 0
    assert abs(answer.mean() / counts.mean() - 1) < 0.2


def test_saved_and_loaded_gives_the_same(tmp_path):
    counts = movie()
    denoiser, result = learn_movie(counts, 0.12, QUICK, **SMALL)
    path = denoiser.save(tmp_path / "mine.safetensors", result, seed=0)
    again = load_denoiser(path)
    a, b = (d(counts, 0.12, [3]) for d in (denoiser, again))
    away = a - b  # weights in float16, products in bfloat16
    assert np.abs(away).max() < 0.02
    assert np.sqrt(np.square(away).mean()) < 0.004
    assert again.surroundings == denoiser.surroundings


def test_a_start_is_gone_on_with_and_left_as_it_is():
    first, _ = learn_movie(movie(), PIXEL, QUICK, **SMALL)
    before = first(movie(), PIXEL, [3])
    other = movie((10, 40, 40))
    still = replace(QUICK, steps=1, learning_rate=0.0, validate_every=1, average=0.0)
    same, _ = learn_movie(other, PIXEL, still, start=first, **SMALL)
    pairs = zip(first.network.parameters(), same.network.parameters(), strict=True)
    assert all((a == b).all() for a, b in pairs)
    learn_movie(other, PIXEL, QUICK, start=first, **SMALL)
    np.testing.assert_array_equal(first(movie(), PIXEL, [3]), before)


@pytest.mark.parametrize(("shape", "blind"), [((10, 16, 20), 1), ((10, 40, 40), 3)])
def test_a_start_that_sees_otherwise_is_refused(shape, blind):
    first, _ = learn_movie(movie((12, 36, 53)), PIXEL, replace(QUICK, blind=1), **SMALL)
    with pytest.raises(InputError, match="start: it hides 1 pixels"):
        learn_movie(movie(shape), PIXEL, replace(QUICK, blind=blind), start=first, **SMALL)


def test_what_a_network_begins_with_has_not_seen_the_count():
    denoiser = load_denoiser("movie_ours")
    assert denoiser.surroundings.own
    counts = movie((9, 120, 120))
    changed = counts.copy()
    changed[4, 37, 50] += 7
    (a,), (b,) = (denoiser.first_guess(c, PIXEL, [4]) for c in (counts, changed))
    assert a[37, 50] == b[37, 50]
    assert (a != b).any()  # it has seen the frame's other counts
    assert denoiser.first_guess(counts, 0.12, [4, 5]).shape == (2, 120, 120)


def test_a_network_without_filtered_images_begins_with_nothing():
    with pytest.raises(InputError, match="begins with nothing"):
        load_denoiser("movie_udvd").first_guess(movie(), PIXEL, [3])


@pytest.mark.parametrize("name", ["movie_ours", "movie_udvd"])
def test_shipped_networks_open(name):
    denoiser = load_denoiser(name)
    counts = movie((6, 64, 64))
    answer = denoiser(counts, PIXEL, [2])
    assert abs(answer.mean() / counts.mean() - 1) < 0.2


def test_some_frames_are_those_of_the_whole():
    denoiser, _ = learn_movie(movie(), PIXEL, QUICK, **SMALL)
    whole = denoiser(movie(), 0.12)
    np.testing.assert_array_equal(denoiser(movie(), 0.12, [2, 7]), whole[[2, 7]])
    with pytest.raises(InputError, match="expected a movie"):
        denoiser(movie()[0], PIXEL)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (np.ones((1, 32, 32)), "a single frame"),
        (np.ones((32, 32)), "got the shape"),
        (np.ones((4, 8, 32)), "too small"),
        (np.full((4, 32, 32), 3.0), "nothing to learn"),
        (np.where(np.arange(4096).reshape(4, 32, 32) == 7, np.nan, 1.0), "NaN"),
    ],
)
def test_bad_movies_give_a_sentence(bad, words):
    with pytest.raises(InputError, match=words):
        learn_movie(bad, PIXEL, QUICK, **SMALL)


def test_what_is_no_count_is_learned_by_squares():
    values = movie((8, 32, 32)) - 0.5
    denoiser, result = learn_movie(values, PIXEL, QUICK, **SMALL)
    assert np.isfinite(result.history[-1]["validation"])
    assert blocks.measure_for(values) is blocks.squares
    answer = denoiser(values, PIXEL)
    assert abs(answer.mean() - values.mean()) < 0.1
    assert denoiser.least == -np.inf


def test_checkpoint_of_another_movie_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"

    def stop(_denoiser):
        raise KeyboardInterrupt

    late = replace(QUICK, validate_every=4)
    with pytest.raises(KeyboardInterrupt):  # after step 2 was saved
        learn_movie(movie(), PIXEL, late, checkpoint=path, watch=stop, **SMALL)
    assert path.is_file()
    with pytest.raises(InputError, match="belongs to another run"):
        learn_movie(movie(), PIXEL, late, checkpoint=path, seed=1, **SMALL)
    for other in ({"batch": 3}, {"squares": True}, {"side": 24}):
        with pytest.raises(InputError, match="belongs to another run"):
            learn_movie(movie(), PIXEL, replace(late, **other), checkpoint=path, **SMALL)
    with pytest.raises(InputError, match="belongs to another run"):
        learn_movie(movie()[::-1], PIXEL, late, checkpoint=path, **SMALL)
