"""Weights on disk: safetensors with a JSON record beside them, never a pickle.

`weights.safetensors` holds numbers and nothing that could be executed; `weights.json` says which
network they belong to, how they were made, and the checksum of the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from insitu import InputError
from insitu.fetch import file_hash


def save(path: Path | str, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Path:
    """Write tensors and their record, each under a temporary name until it is whole.

    Parameters
    ----------
    path : Path
        Ends in .safetensors; the record is written beside it, as .json.
    tensors : mapping
        Name and values.
    record : mapping
        What can be written as JSON; `sha256` is added.

    Raises
    ------
    InputError
        If the disk is full or not writable.
    """
    path = Path(path)
    unfinished = path.with_name(f".part-{path.name}")
    text = path.with_suffix(".json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, unfinished)
        line = json.dumps({**record, "sha256": file_hash(unfinished)}, indent=1) + "\n"
        unfinished_text = text.with_name(f".part-{text.name}")
        unfinished_text.write_text(line)
        unfinished.replace(path)
        unfinished_text.replace(text)
    except (OSError, SafetensorError) as error:
        unfinished.unlink(missing_ok=True)
        raise InputError(f"{path} could not be written ({error}); free some space") from None
    return path


def load(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and their record.

    Raises
    ------
    InputError
        If a file is missing, is no safetensors file (a pickle, say), or was changed since it
        was written.
    """
    path = Path(path)
    text = path.with_suffix(".json")
    if not path.is_file():
        raise InputError(f"checkpoint: there is no file {path}")
    if path.suffix != ".safetensors":
        raise InputError(
            f"checkpoint: {path.name} is not a .safetensors file; pickles are not opened, because "
            "they can execute code"
        )
    if not text.is_file():
        raise InputError(f"checkpoint: the record {text.name} is missing beside {path.name}")
    try:
        record = json.loads(text.read_text())
        expected = record["sha256"]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"checkpoint: {text.name} is no record of a checkpoint") from None
    if file_hash(path) != expected:
        raise InputError(f"checkpoint: {path.name} was changed or is incomplete; get it again")
    try:
        return load_file(path), record
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint: {path.name} cannot be read ({error})") from None


def fill(network: nn.Module, tensors: Mapping[str, Tensor], name: str) -> nn.Module:
    """Put weights into a network of the same architecture.

    Raises
    ------
    InputError
        If they belong to another one.
    """
    own = {key: value.shape for key, value in network.state_dict().items()}
    given = {key: value.shape for key, value in tensors.items()}
    if own != given:
        differing = sorted(k for k in own.keys() | given.keys() if own.get(k) != given.get(k))
        raise InputError(
            f"checkpoint: {name} belongs to another architecture, {len(differing)} of its tensors "
            f"differ, such as {differing[0]}"
        )
    network.load_state_dict(dict(tensors))
    return network


def seeded(network: type[nn.Module], seed: int, **options: Any) -> nn.Module:
    """Make a network whose first weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network(**options)
