import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from insitu import InputError
from insitu.denoise.networks import BiasFreeCNN
from insitu.learning import checkpoints, training
from insitu.learning.training import Settings

MUON = Settings(steps=12, validate_every=4, save_every=3, warm_up=2, optimiser="muon")
SETTINGS = Settings(steps=12, validate_every=4, save_every=3, warm_up=2, learning_rate=3e-3)


def batch(step):
    generator = torch.Generator().manual_seed(step)
    clean = 1 + torch.rand(4, 1, 1, 1, generator=generator).expand(4, 1, 12, 12)
    return clean, torch.poisson(clean, generator=generator)


def loss(network, step):
    clean, counts = batch(step)
    return ((network(counts) - clean) ** 2).mean()


def validate(network):
    with torch.no_grad():
        return float(loss(network, 10_000))


def network(seed=0):
    return checkpoints.seeded(BiasFreeCNN, seed, layers=4, channels=6)


def same(a, b):
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_learns_and_keeps_the_best():
    before = validate(network().eval())
    result = training.train(network(), loss, validate, Settings(steps=60, validate_every=10))
    scores = [h["validation"] for h in result.history]
    assert min(scores) < 0.5 * before
    assert validate(result.network) == min(scores)
    assert result.history[scores.index(min(scores))]["step"] == result.best_step


@pytest.mark.parametrize("settings", [SETTINGS, MUON, replace(MUON, bfloat16=True)])
@pytest.mark.parametrize("killed_at", [4, 7, 11])
def test_killed_and_resumed_gives_the_same_bits(tmp_path, killed_at, settings):
    whole = training.train(network(), loss, validate, settings)
    path = tmp_path / "state.safetensors"

    def dies(net, step):
        if step == killed_at and torch.is_grad_enabled():
            raise KeyboardInterrupt
        return loss(net, step)

    with pytest.raises(KeyboardInterrupt):
        training.train(network(), dies, validate, settings, checkpoint=path)
    assert path.is_file()
    steps = []

    def counted(net, step):
        steps.append(step)
        return loss(net, step)

    resumed = training.train(network(5), counted, validate, settings, checkpoint=path)
    assert steps[0] == killed_at // 3 * 3
    assert same(whole.network, resumed.network)
    assert [h["training"] for h in whole.history] == [h["training"] for h in resumed.history]
    assert not list(tmp_path.iterdir())


def test_another_run_is_not_resumed(tmp_path):
    path = tmp_path / "state.safetensors"

    def dies(net, step):
        if step == 5:
            raise KeyboardInterrupt
        return loss(net, step)

    with pytest.raises(KeyboardInterrupt):
        training.train(network(), dies, validate, SETTINGS, checkpoint=path)
    with pytest.raises(InputError, match="belongs to another run"):
        training.train(network(), loss, validate, Settings(steps=9), checkpoint=path)
    with pytest.raises(InputError, match="belongs to another run"):
        training.train(network(), loss, validate, SETTINGS, checkpoint=path, about={"seed": 1})
    other = checkpoints.seeded(BiasFreeCNN, 0, layers=5, channels=6)
    with pytest.raises(InputError, match="belongs to another architecture"):
        training.train(other, loss, validate, SETTINGS, checkpoint=path)


def test_unknown_optimiser():
    with pytest.raises(InputError, match="allowed is one of adam, muon"):
        training.train(network(), loss, validate, Settings(optimiser="sgd"))


def test_a_loss_that_explodes_is_told():
    with pytest.raises(InputError, match="the loss was nan at step 0"):
        training.train(network(), lambda n, s: loss(n, s) * float("nan"), validate, SETTINGS)


@pytest.fixture
def saved(tmp_path):
    return checkpoints.save(tmp_path / "net.safetensors", network().state_dict(), {"seed": 0})


def test_checkpoint_read_back(saved):
    tensors, record = checkpoints.load(saved)
    assert record["seed"] == 0
    assert same(checkpoints.fill(network(9), tensors, "net"), network())


def test_bad_checkpoints_bring_a_sentence(saved, tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        checkpoints.load(tmp_path / "missing.safetensors")
    with (tmp_path / "net.pkl").open("wb") as stream:
        pickle.dump({"weights": [1.0]}, stream)
    with pytest.raises(InputError, match="pickles are not opened"):
        checkpoints.load(tmp_path / "net.pkl")
    changed = bytearray(saved.read_bytes())
    changed[-3] ^= 1
    saved.write_bytes(bytes(changed))
    with pytest.raises(InputError, match="was changed or is incomplete"):
        checkpoints.load(saved)
    # a pickle under the right name
    saved.write_bytes((tmp_path / "net.pkl").read_bytes())
    with pytest.raises(InputError, match="is no whole"):
        checkpoints.load(saved)
    save_file({"weight": torch.ones(3)}, saved)  # somebody else's
    with pytest.raises(InputError, match="no record of what it is"):
        checkpoints.load(saved)


def fill_from(path):
    tensors, _ = checkpoints.load(path)
    checkpoints.fill(network(), tensors, path.name)


@pytest.mark.parametrize("part", ["header", "record", "weights"])
def test_any_changed_byte_is_seen(saved, part):
    content = bytearray(saved.read_bytes())
    header = int.from_bytes(content[:8], "little")
    places = {
        "header": range(8, 8 + header, 7),
        "record": range(content.index(b"seed"), content.index(b"seed") + 10),
        "weights": range(8 + header, len(content), 97),
    }[part]
    for place in places:
        changed = content.copy()
        changed[place] ^= 4
        saved.write_bytes(bytes(changed))
        with pytest.raises(InputError, match=r"checkpoint: net\.safetensors"):
            fill_from(saved)


def test_the_record_to_read(tmp_path):
    path = checkpoints.save(tmp_path / "a.safetensors", {}, {"seed": 3}, readable=True)
    assert json.loads(path.with_suffix(".json").read_text())["seed"] == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.safetensors"]


def test_another_architecture_is_refused(saved):
    tensors, _ = checkpoints.load(saved)
    other = checkpoints.seeded(BiasFreeCNN, 0, layers=4, channels=8)
    with pytest.raises(InputError, match="belongs to another architecture"):
        checkpoints.fill(other, tensors, "net.safetensors")


def test_a_validation_that_is_no_number_is_told():
    with pytest.raises(InputError, match="the validation gave nan at step 4"):
        training.train(network(), loss, lambda _: float("nan"), SETTINGS)


def test_the_learning_rate_rises_and_falls():
    settings = Settings(steps=40, warm_up=10)
    rates = [training._schedule(step, settings) for step in range(40)]
    assert rates[:9] == sorted(rates[:9])
    assert rates[9] > 0.8
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[39] < 0.02


def test_half_the_bits_are_taken_only_where_the_processor_computes_with_them(monkeypatch):
    seen = []

    def watched(model, step):
        if torch.is_grad_enabled():
            seen.append(torch.is_autocast_enabled("cpu"))
        return loss(model, step)

    for able in (False, True):
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda able=able: {"amx_bf16": able}, raising=False
        )
        training.train(network(), watched, validate, replace(SETTINGS, steps=1, bfloat16=True))
    assert seen == [False, True]
