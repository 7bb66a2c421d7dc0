"""What a fit to a tilt series is judged by: differences of projections, and edges."""

from __future__ import annotations

import torch
from torch import Tensor


def sharpened(lines: Tensor, exponent: float) -> Tensor:
    """Filter projections (..., s) by (|f| + 0.05)^exponent along the detector.

    A projection keeps a detail of spatial frequency f with a weight of 1 / f, so that a plain
    difference hardly sees edges, and they are learned last. An exponent of 1 gives the weight
    back, nearly the ramp of filtered back-projection; 0 leaves lines as they are.
    """
    size = lines.shape[-1]
    ramp = (torch.fft.rfftfreq(2 * size, 0.5, device=lines.device) + 0.05) ** exponent
    return torch.fft.irfft(torch.fft.rfft(lines, 2 * size) * ramp, 2 * size)[..., :size]


def variation(u: Tensor) -> Tensor:
    """Mean length of the gradient within slices (..., y, x)."""
    down = u[..., 1:, :-1] - u[..., :-1, :-1]
    right = u[..., :-1, 1:] - u[..., :-1, :-1]
    return torch.sqrt(down**2 + right**2 + 1e-5).mean()
