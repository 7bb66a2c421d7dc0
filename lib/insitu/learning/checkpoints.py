"""Weights on disk: safetensors with their record inside, never a pickle.

`weights.safetensors` holds numbers and nothing that could be executed. Its header says which
network they belong to, how they were made, and a checksum of all of it, so that one file, renamed
once, is a whole checkpoint. `weights.json` beside it is the same record for people to read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from insitu import InputError
from insitu.fetch import shipped
from insitu.files import whole

N = TypeVar("N", bound=nn.Module)


def find(name: str | Path) -> Path:
    """Return where a checkpoint lies: one that ships, by its bare name, or a file."""
    bare = Path(name).suffix == "" and Path(name).name == str(name)
    return shipped(f"checkpoints/{name}.safetensors") if bare else Path(name)


def save(
    path: Path | str,
    tensors: Mapping[str, Tensor],
    record: Mapping[str, Any],
    *,
    readable: bool = False,
) -> Path:
    """Write tensors and their record, whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in .safetensors.
    tensors : mapping
        Name and values.
    record : mapping
        What can be written as JSON.
    readable : bool
        Write the record beside it, too, as .json.

    Raises
    ------
    InputError
        If the disk is full or not writable.
    """
    path = Path(path)
    kept = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    text = json.dumps(dict(record))
    header = {"record": text, "sha256": _digest(kept, text)}
    with whole(path) as unfinished:
        try:
            save_file(kept, unfinished, metadata=header)
        except SafetensorError as error:  # so it tells that the disk is full
            raise OSError(str(error)) from None
        unfinished.chmod(0o644)
    if readable:
        line = json.dumps({**record, "sha256": header["sha256"]}, indent=1) + "\n"
        with whole(path.with_suffix(".json")) as unfinished:
            unfinished.write_text(line)
    return path


def load(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and their record.

    Raises
    ------
    InputError
        If the file is missing, is no safetensors file (a pickle, say), or was changed since it
        was written.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint: there is no file {path}")
    if path.suffix != ".safetensors":
        raise InputError(
            f"checkpoint: {path.name} is not a .safetensors file; pickles are not opened, because "
            "they can execute code"
        )
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"checkpoint: {path.name} is no whole .safetensors file ({error}); get it again"
        ) from None
    if not {"record", "sha256"} <= header.keys():
        raise InputError(f"checkpoint: {path.name} has no record of what it is; it is not ours")
    if _digest(tensors, header["record"]) != header["sha256"]:
        raise InputError(f"checkpoint: {path.name} was changed or is incomplete; get it again")
    return tensors, json.loads(header["record"])


def _digest(tensors: Mapping[str, Tensor], record: str) -> str:
    total = hashlib.sha256(record.encode())
    for name in sorted(tensors):
        value = tensors[name]
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def of(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Those of them whose names begin with `name` and a dot, by what follows it."""
    start = f"{name}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def digest(weights: Iterable[Tensor]) -> str:
    """sha256 of weights, one after the other."""
    parts = [weight.cpu().contiguous().numpy().tobytes() for weight in weights]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def fill(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> nn.Module:
    """Put weights into a network of the same architecture.

    Raises
    ------
    InputError
        If they belong to another one.
    """
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError:  # of names and shapes, tensor by tensor
        raise InputError(f"checkpoint: {name} belongs to another architecture") from None
    return network


def seeded(network: Callable[..., N], seed: int, **options: Any) -> N:
    """Make a network whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network(**options)
