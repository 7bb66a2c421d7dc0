"""What learns from halves of a movie's electrons."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from insitu import InputError
from insitu.denoise import halves
from insitu.denoise.halves import CHOOSE, RESTORE, Dealt, are_electrons, dealt, learn_halves
from insitu.denoise.saved import load_denoiser

SHORT = replace(RESTORE, steps=6, validate_every=3, save_every=2, warm_up=2)
SMALL = {"channels": 4, "choosing": 4}


@pytest.fixture(scope="module")
def clean():
    """A lattice that begins to move in the middle."""
    t, y, x = np.mgrid[:20, :64, :64].astype(float)
    x = x - 0.4 * np.clip(t - 8, 0, 4)
    return 0.5 * (1 + 0.7 * np.cos(1.0 * x + 0.2 * y) * np.cos(0.9 * y))


@pytest.fixture(scope="module")
def counts(clean):
    return np.random.default_rng(0).poisson(clean).astype(np.uint8)


def test_halves_share_no_noise():
    mean = torch.full((400, 400), 0.8)
    counts = torch.poisson(mean, generator=torch.Generator().manual_seed(0))
    shown = dealt(counts, 0.7, np.random.default_rng(0))
    hidden = counts - shown
    assert shown.mean() == pytest.approx(0.56, rel=0.02)
    assert hidden.var() == pytest.approx(0.24, rel=0.02)
    assert float(((shown - 0.56) * (hidden - 0.24)).mean()) == pytest.approx(0, abs=0.004)


def test_what_are_electrons(counts):
    assert are_electrons(counts)
    rng = np.random.default_rng(1)
    assert not are_electrons(2 * counts)
    assert not are_electrons(counts + 0.5)
    assert not are_electrons(counts[:1])
    spread = rng.poisson(0.5, (8, 65, 64))
    assert not are_electrons(spread[:, 1:] + spread[:, :-1])


@pytest.mark.parametrize("factor", [1, 2])
def test_frames_that_are_held_back_are_not_learned_from(counts, factor):
    other = counts.copy()
    movie = Dealt(counts * factor, 1.0, factor == 1, 0)
    other[movie.held] = 200
    changed = Dealt(other * factor, 1.0, factor == 1, 0)
    for number in range(20):
        for a, b in zip(movie.sum(number), changed.sum(number), strict=True):
            assert torch.equal(a, b)
    assert set(movie.held) | set(movie.learned) == set(range(20))


def test_it_learns_to_restore(clean, counts):
    settings = replace(RESTORE, steps=40, warm_up=10, average=0.9)
    small = {"channels": 8, "choosing": 8}
    denoiser, result = learn_halves(
        counts, 0.2, settings, choosing=replace(settings, steps=20), options=small
    )
    answer = denoiser(counts, 0.2)
    error = ((answer - clean) ** 2).mean()
    assert error < 0.1 * ((counts - clean) ** 2).mean()
    assert error < 0.5 * ((counts.mean(0) - clean) ** 2).mean()  # it moves
    assert result.history[-1]["step"] == 20


def test_whole_frames_where_values_are_no_electrons(counts):
    denoiser, _ = learn_halves(2 * counts[:5], 0.2, SHORT, choosing=SHORT, options=SMALL)
    assert denoiser(2 * counts[:5], 0.2).shape == (5, 64, 64)
    with pytest.raises(InputError, match="negative"):
        learn_halves(counts - 1.0, 0.2, SHORT, options=SMALL)


def test_what_is_saved_is_loaded(counts, tmp_path):
    denoiser, result = learn_halves(counts[:5], 0.2, SHORT, choosing=SHORT, options=SMALL)
    path = denoiser.save(tmp_path / "mine.safetensors", result)
    again = load_denoiser(path)
    assert isinstance(again, halves.HalvesRestorer)
    np.testing.assert_allclose(again(counts, 0.2), denoiser(counts, 0.2), atol=0.02)


@pytest.mark.parametrize("killed", ["restoring", "choosing"])
def test_killed_it_goes_on(counts, tmp_path, monkeypatch, killed):
    settings = {"choosing": replace(SHORT, learning_rate=CHOOSE.learning_rate), "options": SMALL}
    whole, _ = learn_halves(counts[:5], 0.2, SHORT, **settings)
    kind, name = {
        "restoring": (halves.Dealt, "sum"),
        "choosing": (halves.Choices, "batch"),
    }[killed]
    original, seen = getattr(kind, name), []

    def dies(self, number):
        seen.append(number)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return original(self, number)

    path = tmp_path / "training.safetensors"
    monkeypatch.setattr(kind, name, dies)
    with pytest.raises(KeyboardInterrupt):
        learn_halves(counts[:5], 0.2, SHORT, checkpoint=path, **settings)
    monkeypatch.undo()
    learned = []
    monkeypatch.setattr(
        halves.Dealt, "sum", lambda self, n, f=halves.Dealt.sum: learned.append(n) or f(self, n)
    )
    again, _ = learn_halves(counts[:5], 0.2, SHORT, checkpoint=path, **settings)
    assert learned == ([4, 5] if killed == "restoring" else [])
    np.testing.assert_array_equal(again(counts[:5], 0.2), whole(counts[:5], 0.2))
    assert not list(tmp_path.iterdir())
