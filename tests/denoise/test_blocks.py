from dataclasses import replace

import numpy as np
import pytest
import torch

from insitu import InputError
from insitu.counting.poisson import Poisson
from insitu.denoise import blocks, movies
from insitu.denoise.binning import BinnedMovie
from insitu.denoise.blind_networks import UDVD, BlindVideoUNet
from insitu.denoise.movies import MovieDenoiser
from insitu.denoise.surroundings import FAR, FIVE, Surroundings, weighted
from insitu.denoise.unsupervised import MovieSettings, learn_movie
from insitu.learning import checkpoints

PIXEL = 0.2  # not binned
SMALL = replace(FAR, windows=(8, 16))
QUICK = MovieSettings(
    steps=6, warm_up=2, average=0.9, validate_every=3, save_every=2, batch=2, side=32
)
OPTIONS = {"channels": 4, "levels": 1, "reach": 4}


def movie(frames=24, rows=37, columns=53, seed=0, mean=0.6):
    """Stripes that stand still, counted."""
    y, x = np.mgrid[:rows, :columns]
    clean = mean * (1 + 0.6 * np.cos(1.3 * x) * np.cos(1.1 * y)) * np.ones((frames, 1, 1))
    return np.random.default_rng(seed).poisson(clean).astype(np.uint8), clean.astype(np.float32)


def network(surroundings, blind=1, seed=0):
    make = BlindVideoUNet.for_surroundings
    return checkpoints.seeded(make, seed, shown=surroundings, blind=blind, **OPTIONS)


@pytest.mark.parametrize("blind", [1, 3])
@pytest.mark.parametrize("place", [(0, 0, 0), (12, 18, 26), (23, 36, 52), (7, 3, 51), (12, 19, 27)])
def test_a_count_never_reaches_its_own_prediction(blind, place):
    """The whole way from the movie to the answer, filters included, to the last bit."""
    counts, _ = movie()
    t, y, x = place
    other = counts.copy()
    other[t, y, x] += 9
    shown = replace(SMALL, blind=blind)
    denoiser = MovieDenoiser(network(shown, blind), shown, mean=0.6)
    before, after = (denoiser(values, PIXEL, [t])[0] for values in (counts, other))
    half = blind // 2
    box = (slice(max(0, y - half), y + half + 1), slice(max(0, x - half), x + half + 1))
    assert before[y, x] == after[y, x]
    changed = before != after
    assert changed.any()
    # what is hidden of (y, x) is hidden of all pixels of the square around it
    assert not changed[box].any()


def test_own_images_are_blind_and_the_frame_is_first():
    counts, _ = movie()
    box = (slice(0, 37), slice(0, 53))
    before = SMALL.around(counts, 9, box)
    assert before.shape == (1 + SMALL.others + SMALL.filtered_own + SMALL.averaged, 37, 53)
    np.testing.assert_array_equal(before[0], counts[9])
    counts[9, 20, 30] += 5
    after = SMALL.around(counts, 9, box)
    changed = (before != after).numpy()
    assert not changed[1 : 1 + SMALL.others].any()
    own = changed[1 + SMALL.others :]
    assert not own[:, 20, 30].any()
    assert own.any((1, 2)).all()


def test_frames_that_judge_are_not_looked_at():
    counts, _ = movie()
    box = (slice(0, 37), slice(0, 53))
    before = FAR.around(counts, 12, box)
    for away in (3, 4, 5):
        counts[12 - away] = 0
        counts[12 + away] = 0
    assert torch.equal(FAR.around(counts, 12, box), before)
    counts[13] = 0
    assert not torch.equal(FAR.around(counts, 12, box), before)


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 9])
def test_short_movies_have_all_images(frames):
    counts, _ = movie(frames)
    for t in range(frames):
        shown = SMALL.around(counts, t, (slice(0, 37), slice(0, 53)))
        assert torch.isfinite(shown).all()


def test_backwards_in_time_is_the_order_of_a_reversed_movie():
    counts, _ = movie()
    box = (slice(0, 37), slice(0, 53))
    forward = SMALL.around(counts, 12, box)
    backward = SMALL.around(counts[::-1], 11, box)
    torch.testing.assert_close(forward[SMALL.backwards()], backward)


def test_weights_go_to_the_prediction_that_is_right():
    _, clean = movie(1, 64, 64)
    counts = torch.from_numpy(np.random.default_rng(1).poisson(clean[0])).float()
    right = torch.from_numpy(clean[0])
    wrong = right.roll(2, 1)
    weights, best = weighted(counts, torch.stack([wrong, right]), right, 1, 64)
    torch.testing.assert_close(weights.sum(0), torch.ones(64, 64))
    assert weights[1].mean() > 0.95
    assert (best - right).square().mean() < 0.02 * (wrong - right).square().mean()


def test_learns_from_one_movie_and_tells_without_truth():
    counts, clean = movie(24, 48, 48)
    settings = replace(QUICK, steps=40, warm_up=5, validate_every=20, save_every=100, batch=4)
    denoiser, _ = learn_movie(counts, PIXEL, settings, options=OPTIONS | {"channels": 8})
    answer = denoiser(counts, PIXEL)
    error = ((answer - clean) ** 2).mean()
    five = np.stack([counts[max(0, t - 2) : t + 3].mean(0) for t in range(24)])
    assert error < 0.2 * ((five - clean) ** 2).mean()
    assert abs(answer.mean() / counts.mean() - 1) < 0.02
    assert answer.dtype == np.float32


@pytest.mark.parametrize("squares", [True, False])
def test_killed_and_resumed_gives_the_same_bits(tmp_path, monkeypatch, squares):
    counts, _ = movie(8, 32, 32)
    settings = replace(QUICK, squares=squares)
    _, whole = learn_movie(counts, PIXEL, settings, options=OPTIONS)
    path = tmp_path / "state.safetensors"
    numbers = []
    make = blocks.Blocks.batch

    def dies(self, number, *given):
        numbers.append(number)
        if numbers == [0, 1, 2, 3]:
            raise KeyboardInterrupt
        return make(self, number, *given)

    monkeypatch.setattr(blocks.Blocks, "batch", dies)
    with pytest.raises(KeyboardInterrupt):
        learn_movie(counts, PIXEL, settings, options=OPTIONS, checkpoint=path)
    assert path.is_file()
    _, resumed = learn_movie(counts, PIXEL, settings, options=OPTIONS, checkpoint=path)
    assert numbers[4:] == [2, 3, 4, 5]
    for a, b in zip(
        whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def test_udvd_learns_by_the_same_loop():
    counts, _ = movie(8, 32, 32)
    settings = replace(QUICK, squares=True)
    denoiser, result = learn_movie(counts, PIXEL, settings, network=UDVD, options={"width": 6})
    assert denoiser.surroundings.groups == FIVE.groups
    assert denoiser(counts, PIXEL).shape == counts.shape
    assert result.history[-1]["validation"] < result.history[0]["validation"]


def test_tiles_agree_with_the_whole(monkeypatch):
    counts, _ = movie(6, 300, 300)
    shown = Surroundings(FIVE.groups, windows=(8,), filtered=(4,), own=True)
    denoiser = MovieDenoiser(network(shown), shown, mean=0.6)
    whole = denoiser(counts, PIXEL, [3])
    monkeypatch.setattr(movies, "TILE", 128)
    tiled = denoiser(counts, PIXEL, [3])
    # the filter's noise and the experts' level are means of what a tile sees
    assert 0 < np.abs(whole - tiled).max() < 0.05 * whole.max()
    assert np.abs(whole - tiled).mean() < 0.002 * whole.mean()


def test_long_movies_are_sampled(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 32)
    counts, _ = movie(40, 64, 64)
    made = blocks.cut(counts, FIVE, megabytes=0.2)
    assert len(made.images) == int(0.2e6 / (2 * 5 * 32 * 32))
    assert made.images.shape[1:] == (5, 32, 32)
    assert 0.0 < made.held.float().mean() < 0.5


def test_held_back_in_one_block_is_held_back_in_all(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 32)
    monkeypatch.setattr(blocks, "HELD", 0.3)
    counts = np.arange(2 * 40 * 72, dtype=np.float32).reshape(2, 40, 72)  # each tells its place
    made = blocks.cut(counts, FIVE)
    assert len(made.images) == 2 * 2 * 3  # they overlap
    held, learned = (
        set(made.images[:, :1][mask].int().tolist()) for mask in (made.held, ~made.held)
    )
    assert held
    assert learned
    assert not held & learned


@pytest.mark.parametrize("shape", [(5, 16, 16), (2, 20, 24)])
@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_movies_hold_something_back(shape, seed):
    counts, _ = movie(*shape)
    made = blocks.cut(counts, FIVE, seed=seed)
    assert made.held.any()
    assert not made.held.all()
    settings = replace(QUICK, squares=True, side=16, judged=1)
    _, result = learn_movie(counts, PIXEL, settings, network=UDVD, options={"width": 6}, seed=seed)
    assert result.history[-1]["validation"] > 0


def test_binned_movies_are_summed_lazily():
    counts, _ = movie(6, 37, 53)
    binned = BinnedMovie(counts, 2)
    assert binned.shape == (6, 19, 27)
    part = binned[1:3, 2:5, 0:4]
    np.testing.assert_array_equal(part[0], counts[1, 4:10, 0:8].reshape(3, 2, 4, 2).sum((1, 3)))


def test_the_loss_fits_the_movie():
    counts, clean = movie(12, 48, 48)
    assert blocks.measure_for(counts - 0.5) is blocks.squares
    bright = counts.astype(np.int32) + 60
    k, m = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([0.5, 0.5, 0.5])
    poisson = blocks.surprise(Poisson())(k, m)
    torch.testing.assert_close(blocks.measure_for(bright)(k, m), poisson)
    own = np.random.default_rng(0).binomial(4, clean / 4)  # a detector that misses some
    assert blocks.measure_for(own)(k, m)[2] > poisson[2] + 0.3
    sparse = np.minimum(counts, 1)  # tells of no detector
    torch.testing.assert_close(blocks.measure_for(sparse)(k, m), poisson)
    for bad, words in (
        (np.full((4, 32, 32), 2.0), "nothing to learn"),
        (np.full((4, 32, 32), np.nan), "NaN"),
    ):
        with pytest.raises(InputError, match=words):
            blocks.measure_for(bad)
    hot = counts.copy().astype(np.int32)
    hot[3, 4, 5] = 60_000
    with pytest.raises(InputError, match="hot pixel"):
        blocks.measure_for(hot)


def test_correlated_noise_asks_for_a_larger_square():
    counts, _ = movie(20, 64, 64, mean=2.0)
    assert blocks.hidden_square(counts) == 1
    spilled = counts.astype(np.int32)
    spilled[:, :, 1:] += counts[:, :, :-1]
    assert blocks.hidden_square(spilled) == 3
