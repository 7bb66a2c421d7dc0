"""States and events: probabilities that come true, and tables that say when."""

import itertools

import numpy as np
import pytest

from insitu import InputError
from insitu.counting.categorical import Categorical
from insitu.measure import events, states
from insitu.measure.states import Rates

RATES = Rates(0.01, 0.02, 0.4)


def chains(rates, series, frames, rng):
    """States drawn from the model."""
    now = rng.random(series) < rates.present
    shown = [now]
    for _ in range(frames - 1):
        chance = rng.random(series)
        now = np.where(now, chance >= rates.vanishes, chance < rates.appears)
        shown.append(now)
    return np.array(shown).T


def observed(present, rng, absent=0.46, with_atom=0.58, pixels=20):
    counts = rng.poisson(np.where(present, with_atom, absent) * pixels)
    return states.disc_evidence(counts, pixels, absent, with_atom)


def test_states_are_those_of_all_paths():
    evidence = np.random.default_rng(0).normal(0, 2, (3, 6))
    evidence[1, 2] = np.nan
    found = states.smoothed(evidence, RATES)
    for n, told in enumerate(np.nan_to_num(evidence)):
        weights, paths = [], list(itertools.product((0, 1), repeat=6))
        for path in paths:
            p = RATES.present if path[0] else 1 - RATES.present
            for a, b in itertools.pairwise(path):
                change = (RATES.appears, RATES.vanishes)[a]
                p *= change if a != b else 1 - change
            weights.append(p * np.exp(np.dot(path, told)))
        share = np.array(weights) / np.sum(weights)
        paths = np.array(paths)
        np.testing.assert_allclose(found.present[n], share @ paths, atol=1e-12)
        comes = share @ ((paths[:, 1:] == 1) & (paths[:, :-1] == 0))
        np.testing.assert_allclose(found.appears[n, 1:], comes, atol=1e-12)
        goes = share @ ((paths[:, 1:] == 0) & (paths[:, :-1] == 1))
        np.testing.assert_allclose(found.vanishes[n, 1:], goes, atol=1e-12)
    assert not found.appears[:, 0].any()


@pytest.fixture(scope="module")
def drawn():
    rng = np.random.default_rng(1)
    present = chains(RATES, 300, 400, rng)
    return present, observed(present, rng)


def test_rates_are_learned(drawn):
    rates = states.learn_rates(drawn[1])
    assert rates.appears == pytest.approx(RATES.appears, rel=0.15)
    assert rates.vanishes == pytest.approx(RATES.vanishes, rel=0.15)
    assert rates.present == pytest.approx(RATES.present, abs=0.1)


def test_probabilities_come_true(drawn):
    present, evidence = drawn
    p = states.smoothed(evidence, states.learn_rates(evidence)).present
    sure, right = np.maximum(p, 1 - p), (p > 0.5) == present
    for low, high in ((0.5, 0.6), (0.6, 0.8), (0.8, 0.95), (0.88, 0.92), (0.95, 0.99)):
        part = (sure >= low) & (sure < high)
        assert right[part].mean() == pytest.approx(sure[part].mean(), abs=0.03)


def test_events_come_true_and_lie_in_their_interval(drawn):
    present, evidence = drawn
    found = events.appearances(states.smoothed(evidence, RATES), level=0.9)
    number = found.column.astype(int)
    right, inside = [], []
    for n, early, late, kind in zip(number, found.earliest, found.latest, found.kind, strict=True):
        changes = np.diff(present[n].astype(int), prepend=int(present[n, 0]))
        wanted = np.flatnonzero(changes == (1 if kind == "appears" else -1))
        inside.append(((wanted >= early) & (wanted <= late)).any())
        right.append(((wanted >= early - 40) & (wanted <= late + 40)).any())
    right, inside, p = np.array(right), np.array(inside), found.probability
    for low, high in ((0.5, 0.85), (0.85, 0.99), (0.99, 1.0)):
        part = (p >= low) & (p <= high)
        assert right[part].mean() > p[part].mean() - 0.05
    assert inside[p > 0.95].mean() == pytest.approx(0.92, abs=0.05)
    told = events.claimed(p, 0.05)
    assert 1 - right[told].mean() < 0.05 + 0.02
    assert told.sum() > 0.5 * (np.diff(present.astype(int)) != 0).sum()


def test_a_stream_gives_the_same_answer(drawn):
    evidence = drawn[1][:20, :60].copy()
    evidence[3, 5:9] = np.nan
    odds, _ = states.filtered(evidence, RATES)
    state, shown = None, []
    for frame in evidence.T:
        now, state = states.filtered(frame[:, None], RATES, state=state)
        shown.append(now)
    np.testing.assert_array_equal(np.concatenate(shown, 1), odds)


def test_evidence_is_the_likelihood_ratio():
    rng = np.random.default_rng(3)
    for detector in (None, Categorical(np.log([1.0, 1.0, 0.73, 0.34, 0.083]))):
        counts = rng.integers(0, 3, (4, 50, 20))
        got = states.disc_evidence(counts.sum(2), 20, 0.4, 0.6, detector)
        if detector is None:
            expected = counts.sum(2) * np.log(1.5) - 20 * 0.2
        else:
            log_p = np.log(detector.table([0.4, 0.6], 2))
            expected = (log_p[1] - log_p[0])[counts].sum(2)
        np.testing.assert_allclose(got, expected, atol=1e-4)


def test_lost_frames_empty_series_and_one_frame():
    evidence = np.full((2, 30), np.nan)
    np.testing.assert_allclose(states.smoothed(evidence, Rates(0.1, 0.1)).present, 0.5)
    assert not len(events.appearances(states.smoothed(evidence, Rates())).time)
    for shape in ((0, 5), (3, 0), (3, 1), (0, 0)):
        found = states.smoothed(np.zeros(shape), RATES)
        assert found.present.shape == found.appears.shape == shape
        assert len(events.appearances(found).column) == 0
    step = np.repeat([[-2.0, 2.0]], 10, axis=1)
    gap = np.insert(step, 10, [[np.nan]] * 4, axis=1)
    found = events.appearances(states.smoothed(gap, RATES))
    assert found.kind.tolist() == ["appears"]
    assert found.earliest[0] <= 11
    assert found.latest[0] >= 13  # anywhere in the gap
    assert not len(events.claimed([]))


def test_wrong_input_is_told_in_one_sentence():
    posterior = states.smoothed(np.zeros((2, 5)), RATES)
    for call in (
        lambda: states.smoothed(np.zeros(5), RATES),
        lambda: states.smoothed([[np.inf, 0]], RATES),
        lambda: states.smoothed(np.zeros((2, 5)), Rates(0, 0.1)),
        lambda: states.learn_rates(np.zeros((2, 1))),
        lambda: states.learn_rates(np.zeros((0, 9))),
        lambda: states.disc_evidence([[-1.0]], 20, 0.4, 0.5),
        lambda: states.disc_evidence([[1.0]], 20, 0, 0.5),
        lambda: states.filtered([[1.0]], RATES, state=np.zeros(3)),
        lambda: events.appearances(posterior, positions=np.zeros((3, 2))),
        lambda: events.appearances(posterior, names=["a"]),
        lambda: events.appearances(posterior, frame_time=0),
        lambda: events.claimed([np.nan]),
    ):
        with pytest.raises(InputError, match=r"^\w+(, \w+)*: [^\n]*$"):
            call()
