"""Functions of every pixel: checks of what comes in, and evaluation in blocks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_BLOCK = 1 << 15  # pixels at a time, so that the intermediate arrays stay in the cache


def checked_intensity(intensity: Tensor, top: float) -> Tensor:
    """Intensity as float32, after a look at its range."""
    mean = intensity.to(torch.float32)
    if mean.numel():
        low, high = (float(v) for v in torch.aminmax(mean.detach()))
        if not (low >= 0 and high <= top and high < float("inf")):
            limit = "finite" if top == float("inf") else f"at most {top:g}"
            raise ValueError(
                f"intensity: expected counts must be 0 or more and {limit} e-/px, "
                f"got values from {low:g} to {high:g}"
            )
    return mean


def checked_counts(counts: Tensor, mean: Tensor) -> Tensor:
    """Counts as float32, on the device and of the shape of the intensity."""
    k = counts.to(device=mean.device, dtype=torch.float32)
    if k.numel() and (float(k.min()) < 0 or not torch.equal(k, k.round())):
        raise ValueError("counts: expected whole numbers of electrons, 0 or more")
    return k.expand(torch.broadcast_shapes(k.shape, mean.shape))


def by_blocks(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Apply a function of pixels block by block where that keeps it in the processor's cache."""
    shape = torch.broadcast_shapes(*(t.shape for t in tensors))
    flat = [t.expand(shape).reshape(-1) for t in tensors]
    if tensors[-1].device.type != "cpu" or any(t.requires_grad for t in flat):
        return function(*flat).reshape(shape)
    result = torch.empty(flat[0].shape)
    for out, *parts in zip(*(t.split(_BLOCK) for t in (result, *flat)), strict=True):
        out.copy_(function(*parts))
    return result.reshape(shape)
