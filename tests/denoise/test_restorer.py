"""The denoiser that restores sums of frames."""

import numpy as np
import pytest
import torch

from insitu import InputError
from insitu.denoise import learn_movies
from insitu.denoise.networks import BiasFreeUNet
from insitu.denoise.restorer import MovieRestorer
from insitu.denoise.saved import load_denoiser
from insitu.learning import checkpoints
from insitu.learning.training import Settings
from insitu.simulate.restless import film, restless_scene, still_scene
from insitu.simulate.waves import Wave


@pytest.fixture(scope="module")
def restorer():
    network = checkpoints.seeded(BiasFreeUNet, 0, channels=8, levels=2, fold=2, inputs=24)
    return MovieRestorer(network.eval(), (0.05, 0.26), (2.0, 200.0))


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(0).poisson(0.5, (12, 60, 50))


def test_an_answer_has_the_shape_and_the_unit_of_its_movie(restorer, counts):
    once, thrice = restorer(counts, 0.24), restorer(3 * counts, 0.24)
    assert once.shape == counts.shape
    assert once.dtype == np.float32
    assert np.allclose(thrice, 3 * once, rtol=1e-3, atol=1e-4)
    assert restorer(counts, 0.1).shape == counts.shape
    assert np.allclose(restorer(counts, 0.24, [7, 2]), once[[7, 2]], atol=1e-5)
    assert restorer(counts[:1], 0.24).shape == (1, 60, 50)
    with pytest.warns(UserWarning, match="dose: 0"):
        assert not restorer(0 * counts, 0.24).any()


def test_the_mean_of_eight_symmetries_turns_with_the_movie(restorer):
    counts = np.random.default_rng(1).poisson(0.5, (3, 64, 64))  # whole windows on either side
    mean, plain = (
        restorer(counts, 0.24, along=False, symmetric=symmetric) for symmetric in (True, False)
    )
    for turn in (lambda a: np.rot90(a, 1, (1, 2)), lambda a: a[:, :, ::-1]):
        changes = [
            restorer(turn(counts).copy(), 0.24, along=False, symmetric=symmetric) - turn(answer)
            for answer, symmetric in ((mean, True), (plain, False))
        ]
        assert changes[0].std() < 0.02 * mean.std()  # it computes with 16 bits
        assert changes[1].std() > 0.2 * plain.std()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.ones((8, 8)), "expected a movie"),
        (np.full((3, 40, 40), np.nan), "NaN"),
        (np.full((3, 40, 40), -1.0), "negative"),
    ],
)
def test_no_movie_of_counts_is_refused(restorer, values, words):
    with pytest.raises(InputError, match=words):
        restorer(values, 0.24)


def test_what_is_saved_is_loaded(restorer, counts, tmp_path):
    result = learn_movies.train(
        restorer.network,
        lambda network, _: network(torch.ones(1, 24, 16, 16)).square().mean(),
        lambda _: 0.0,
        Settings(steps=1, validate_every=1),
    )
    path = restorer.save(tmp_path / "own.safetensors", result)
    again = load_denoiser(path)
    assert isinstance(again, MovieRestorer)
    kept = MovieRestorer(result.network, (0.05, 0.26), (2.0, 200.0))
    # weights are kept in 16 bits, and where the processor can it computes with as many
    first, second = again(counts, 0.24), kept(counts, 0.24)
    assert np.sqrt(np.mean((first - second) ** 2)) < 0.02 * np.sqrt(np.mean(second**2))


def test_scenes_without_end_are_the_same_each_time_and_change():
    one, again, other = (restless_scene(0, k, frames=40) for k in (3, 3, 4))
    assert np.array_equal(one.weights, again.weights)
    both = zip(one.specimens, again.specimens, strict=True)
    assert all((a.positions == b.positions).all() for a, b in both)
    assert len(one.specimens) != len(other.specimens) or one.busy.sum() != other.busy.sum()
    assert one.busy.any()
    assert not one.busy.all()
    assert np.allclose(one.weights.sum(1), 1)


def test_a_film_is_counted_as_it_says():
    generator = torch.Generator().manual_seed(0)
    values = 1 + 0.1 * torch.randn(1, 64, 64, generator=generator, dtype=torch.complex64)
    rng = np.random.default_rng(0)
    movie = film([Wave(values, (20.0, 20.0), 300e3)], still_scene(rng, turns=True), rng, size=64)
    assert movie.clean.shape == (66, 64, 64)
    assert float(movie.clean.float().mean()) == pytest.approx(1, abs=0.1)
    examples = learn_movies.Examples([movie], seed=0)
    seen, clean = examples.batch(0)
    side = min(learn_movies.SIDE, 64)
    assert seen.shape == (learn_movies.BATCH, 24, side, side)
    assert clean.shape == (learn_movies.BATCH, 1, side, side)
    assert float(seen.mean()) == pytest.approx(float(clean.mean()), rel=0.1)


def test_columns_are_added_and_taken_away():
    clean = torch.ones(8, 96, 96)
    clean[:, 30:70:3, 30:70:3] = 1.8
    made = [learn_movies.changed(clean, 0.2, np.random.default_rng(k)) for k in range(20)]
    assert all((m >= 0).all() for m in made)
    assert max(float((m - clean).max()) for m in made) > 0.2
    assert min(float((m - clean).min()) for m in made) < -0.3
    assert any(len({float((m[t] - clean[t]).abs().sum()) for t in range(8)}) > 1 for m in made)
    assert float(clean.max()) == pytest.approx(1.8)  # the film itself stays as it is


def test_errors_weigh_a_faint_place_as_a_bright_one():
    clean = torch.ones(1, 1, 64, 64)
    clean[..., ::4, :32] += 1.0
    clean[..., ::4, 32:] += 0.1
    bright, faint = clean.clone(), clean.clone()
    bright[..., 20, 8] += 0.3
    faint[..., 20, 56] += 0.3
    assert learn_movies.errors(faint, clean) > learn_movies.errors(bright, clean)
