from itertools import pairwise, product

import numpy as np
import pytest

from insitu import InputError
from insitu.measure.hops import RATES, likelihood, rates, smoothed


def chain(hop, states):
    move = np.diag(np.full(states, 1 - hop))
    for k in range(states):
        for other in (k - 1, k + 1):
            move[k, min(max(other, 0), states - 1)] += hop / 2
    return move


def test_the_posterior_is_that_of_all_paths():
    told = np.random.default_rng(0).normal(size=(2, 4, 3)) * 2
    found = smoothed(told, 0.1)
    move = chain(0.1, 3)
    for n in range(2):
        total = np.zeros((4, 3))
        for path in product(range(3), repeat=4):
            chance = np.exp(sum(told[n, t, k] for t, k in enumerate(path)))
            chance *= np.prod([move[a, b] for a, b in pairwise(path)])
            for t, k in enumerate(path):
                total[t, k] += chance
        assert np.allclose(found[n], total / total.sum(1, keepdims=True))


def test_frames_that_say_nothing_leave_the_neighbours_word():
    told = np.zeros((1, 9, 13))
    told[0, 4, 7] = 20
    found = smoothed(told, 0.02)[0]
    assert (found.argmax(1) == 7).all()
    assert found[0, 7] < found[3, 7] < found[4, 7]


def test_intervals_of_rates_hold_the_truth():
    rng = np.random.default_rng(1)
    inside, wide = [], []
    for hop in np.repeat([0.01, 0.03, 0.1], 40):
        steps = np.where(rng.random(200) < hop, rng.choice([-1, 1], 200), 0)
        atoms = np.clip(6 + np.cumsum(steps), 0, 12)
        seen = atoms + 0.4 * rng.standard_normal(200)
        found = rates(-0.5 * ((np.arange(13) - seen[:, None]) / 0.4)[None] ** 2)
        inside.append(found.low[0] <= hop <= found.high[0])
        wide.append(found.high[0] / found.low[0])
    assert 0.82 <= np.mean(inside) <= 0.98
    assert np.median(wide) < 20


def test_without_a_word_the_interval_is_the_priors():
    found = rates(np.zeros((2, 50, 13)))
    assert np.allclose(
        np.log(found.low), np.log(RATES[0]) + 0.05 * np.log(RATES[-1] / RATES[0]), atol=0.3
    )
    assert (found.high > 0.2).all()


def test_the_prior_is_taken_off_a_posterior():
    prior = np.array([[0.7, 0.2, 0.1]])
    assert np.allclose(likelihood(prior[:, None], prior), 0)
    assert np.allclose(likelihood(prior[:, None] ** 2, prior, trust=0.5), 0.5 * np.log(prior))


def test_shapes_are_refused_in_a_sentence():
    with pytest.raises(InputError, match="expected \\(columns, frames, states\\)"):
        rates(np.zeros((3, 4)))
    with pytest.raises(InputError, match="a prior \\(columns, states\\)"):
        likelihood(np.ones((2, 3, 4)), np.ones((2, 3)))
