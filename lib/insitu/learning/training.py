"""The one training loop.

A batch is made from its number, so that a run that was killed goes on where it stood, with the
same bits on a CPU as one that was not.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from insitu import InputError, checks, files
from insitu.learning import checkpoints
from insitu.learning.muon import Muon


@dataclass(frozen=True)
class Settings:
    """How a network is trained."""

    steps: int = 1000
    optimiser: str = "adam"  # or muon, which needs half the steps or fewer
    learning_rate: float = 1e-3  # of muon about 6e-3
    warm_up: int = 50  # steps in which the learning rate rises to its full value
    bfloat16: bool = False  # convolutions in half the bits, where the processor computes with them
    average: float = 0.995  # decay of the running average of the weights, which is what is kept
    clip: float = 1.0  # largest norm of the gradient
    validate_every: int = 100
    save_every: int = 100


@dataclass
class Result:
    """What training gave: the averaged network of the best validation, and the way there."""

    network: nn.Module
    history: list[dict[str, float]]  # step, seconds, training loss, validation loss
    best_step: int
    settings: Settings

    def save(self, path: Path, **record: Any) -> Path:
        """Write the network in half precision, with all that is known of its making.

        Parameters
        ----------
        path : Path
            Ends in .safetensors; the record is written beside it, too, as .json.
        **record
            What is told of the network and its origin, besides what training knows.
        """
        network: Any = self.network
        known = {
            "network": type(network).__name__,
            "options": network.options,
            "settings": asdict(self.settings),
            "best_step": self.best_step,
            "history": self.history,
            "versions": {p: metadata.version(p) for p in ("numpy", "torch")},
            "licence": "CC-BY-4.0",
        }
        tensors = {k: v.half() for k, v in network.state_dict().items()}
        return checkpoints.save(path, tensors, known | record, readable=True)


def train(
    network: nn.Module,
    loss: Callable[[nn.Module, int], Tensor],
    validate: Callable[[nn.Module], float],
    settings: Settings,
    *,
    checkpoint: Path | None = None,
    about: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Result:
    """Train a network.

    Parameters
    ----------
    network : Module
        On the device where it is to be trained.
    loss : callable
        (network, step) to the loss of that step's batch; the same step gives the same batch.
    validate : callable
        Network to a number that is to become small, on data that training never sees.
    settings : Settings
        How.
    checkpoint : Path, optional
        A .safetensors file in which the state is kept, and from which a run that was killed goes
        on; it is removed at the end.
    about : mapping, optional
        What else makes this run, such as its seed; a checkpoint of another one is refused.
    progress : bool
        Show a bar with the time that is left.

    Raises
    ------
    InputError
        If the checkpoint belongs to another run, or loss or validation are no longer finite.

    Examples
    --------
    A line through points with noise:

    >>> x = torch.linspace(-1, 1, 64)[:, None]
    >>> y = 2 * x + 0.1 * torch.randn(64, 1, generator=torch.Generator().manual_seed(0))
    >>> def loss(line, step):
    ...     return (line(x) - y).square().mean()
    >>> line = checkpoints.seeded(nn.Linear, 0, in_features=1, out_features=1)
    >>> settings = Settings(steps=200, learning_rate=0.05, average=0.9)
    >>> result = train(line, loss, lambda net: float(loss(net, 0)), settings)
    >>> round(result.network.weight.item(), 1)
    2.0
    """
    torch.set_flush_denormal(True)  # numbers below 1e-38 are zeros, not hundred times slower
    optimiser = _optimiser(network, settings)
    average = copy.deepcopy(network)
    best = copy.deepcopy(network)
    state: dict[str, Any] = {
        "step": 0,
        "seconds": 0.0,
        "best": math.inf,
        "best_step": 0,
        "history": [],
        "recent": [],
        "settings": vars(settings).copy(),
        "about": dict(about or {}),
    }
    models = {"network": network, "average": average, "best": best}
    if checkpoint is not None and checkpoint.is_file():
        state = _resume(checkpoint, models, optimiser, state)
    begin = time.perf_counter() - state["seconds"]
    recent: list[float] = state["recent"]  # losses since the last validation
    bar = tqdm(total=settings.steps, initial=state["step"], disable=not progress, desc="training")
    for step in range(state["step"], settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _schedule(step, settings)
        network.train()
        with autocast(network, settings.bfloat16):
            value = loss(network, step)
        if not bool(torch.isfinite(value)):
            raise InputError(
                f"training: the loss was {float(value.detach())} at step {step}; take a smaller "
                "learning_rate"
            )
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimiser.step()
        _follow(average, network, min(settings.average, (1 + step) / (10 + step)))
        recent.append(float(value.detach()))
        bar.update()
        done = step + 1
        if done % settings.validate_every == 0 or done == settings.steps:
            _calibrate(average, loss)
            with torch.no_grad():
                score = validate(average)
            if not math.isfinite(score):
                raise InputError(f"training: the validation gave {score} at step {done}")
            row = {"step": done, "seconds": round(time.perf_counter() - begin, 2)}
            row |= {"training": sum(recent) / len(recent), "validation": score}
            state["history"].append(row)
            recent.clear()
            if score < state["best"]:
                state["best"], state["best_step"] = score, done
                best.load_state_dict(average.state_dict())
            bar.set_postfix(validation=f"{score:.5g}")
        if checkpoint is not None and done % settings.save_every == 0:
            state |= {"step": done, "seconds": time.perf_counter() - begin}
            _keep(checkpoint, models, optimiser, state)
    bar.close()
    if checkpoint is not None:
        files.remove(checkpoint)
    best.eval()
    return Result(best, state["history"], state["best_step"], settings)


def autocast(network: nn.Module, wanted: bool) -> torch.autocast:
    """Context in which convolutions and matrix products take bfloat16, if that is faster there.

    Weights, sums and the loss stay float32. A CPU without units for it takes longer with it.
    """
    kind = next(network.parameters()).device.type
    units: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    able = kind != "cpu" or any(units.get(unit) for unit in ("amx_bf16", "avx512_bf16"))
    return torch.autocast(kind, torch.bfloat16, enabled=wanted and able)


def _optimiser(network: nn.Module, settings: Settings) -> Optimizer:
    checks.one_of("optimiser", settings.optimiser, ("adam", "muon"))
    if settings.optimiser == "muon":
        return Muon(network.parameters(), settings.learning_rate)
    return torch.optim.Adam(network.parameters(), settings.learning_rate, (0.9, 0.99))


def _schedule(step: int, settings: Settings) -> float:
    """A rise over the warm-up, then half a cosine down to a hundredth."""
    rise = min(1.0, (step + 1) / max(1, settings.warm_up))
    fall = 0.5 * (1 + math.cos(math.pi * step / max(1, settings.steps)))
    return rise * (0.01 + 0.99 * fall)


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the newest ones; constants are taken as they are."""
    for weight, newest in zip(average.parameters(), network.parameters(), strict=True):
        weight.lerp_(newest, 1 - decay)
    for constant, current in zip(average.buffers(), network.buffers(), strict=True):
        constant.copy_(current)


@torch.no_grad()
def _calibrate(average: nn.Module, loss: Callable[[nn.Module, int], Tensor]) -> None:
    """Measure the running deviations anew: those of the newest weights do not fit the averaged."""
    if len(average.state_dict()) > sum(1 for _ in average.parameters()):  # constants are kept
        average.train()
        for number in range(20):
            loss(average, number)
    average.eval()


def _keep(
    path: Path, models: dict[str, nn.Module], optimiser: Optimizer, state: dict[str, Any]
) -> None:
    tensors = {f"{m}.{k}": v for m, model in models.items() for k, v in model.state_dict().items()}
    for index, entry in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in entry.items()}
    checkpoints.save(path, tensors, {"run": state})


def _resume(
    path: Path, models: dict[str, nn.Module], optimiser: Optimizer, fresh: Mapping[str, Any]
) -> dict[str, Any]:
    tensors, record = checkpoints.load(path)
    state = dict(record.get("run", {}))
    if any(state.get(key) != fresh[key] for key in ("settings", "about")):
        raise InputError(f"checkpoint: {path} belongs to another run; remove it to start anew")
    for name, model in models.items():
        checkpoints.fill(model, checkpoints.of(tensors, name), path.name)
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in checkpoints.of(tensors, "optimiser").items():
        index, name = key.split(".")
        entries.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": entries})
    return state


def device_named(name: str | torch.device) -> torch.device:
    """Return the device of a name: auto, which takes a GPU if there is one, cpu or cuda.

    Raises
    ------
    InputError
        If it is another name, or there is no GPU.
    """
    if isinstance(name, torch.device):
        return name
    checks.one_of("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: got 'cuda', but torch finds no GPU here; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
