"""Sums of frames around a frame, plain and along the motion.

Where nothing moves, a long sum holds the most electrons; where something happens, a short one is
true; where a particle turns as a whole, a sum along its motion is both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from insitu.denoise.motion import at_places, warped

PLAIN = (1, 3, 5, 9, 17, 33, 65)  # frames of the plain sums
ALONG = (3, 5, 9, 17, 33)  # of those along the motion


def mean_frames(
    movie: Tensor, frames: Sequence[int], widths: Sequence[int] = PLAIN, *, own: bool = True
) -> Tensor:
    """Means of so many frames around each frame, fewer at the ends of the movie.

    Parameters
    ----------
    movie : (t, y, x) tensor
    frames : sequence of int
    widths : sequence of int
        Odd.
    own : bool
        Whether the frame itself is one of them.

    Returns
    -------
    (frames, widths, y, x) tensor

    Examples
    --------
    >>> mean_frames(torch.arange(6.0)[:, None, None], [0, 3], [1, 3])[..., 0, 0]
    tensor([[0.0000, 0.5000],
            [3.0000, 3.0000]])
    """
    reach = max(widths) // 2
    begin, end = max(0, min(frames) - reach), min(len(movie), max(frames) + reach + 1)
    total = movie[begin:end].cumsum(0, dtype=torch.float64)
    total = functional.pad(total, (0, 0, 0, 0, 1, 0))
    means = []
    for t in frames:
        for width in widths:
            first, last = max(0, t - width // 2), min(len(movie), t + width // 2 + 1)
            found, number = total[last - begin] - total[first - begin], last - first
            if not own:
                found, number = found - movie[t], max(1, number - 1)
            means.append(found.float() / number)
    return torch.stack(means).reshape(len(frames), len(widths), *movie.shape[1:])


def mean_along(
    movie: Tensor,
    forward: Tensor,
    backward: Tensor,
    frames: Sequence[int],
    widths: Sequence[int] = ALONG,
    *,
    own: bool = True,
) -> Tensor:
    """Means of so many frames around each frame, all moved to where that frame has the specimen.

    Parameters
    ----------
    movie : (t, y, x) tensor
    forward, backward : (t - 1, 2, rows, columns) tensors
        As `insitu.denoise.motion.motion` gives them.
    frames : sequence of int
    widths : sequence of int
        Odd.
    own : bool
        Whether the frame itself is one of them.

    Returns
    -------
    (frames, widths, y, x) tensor
    """
    chosen = torch.as_tensor(frames)
    total = movie[chosen] * float(own)
    count = torch.full((len(chosen), 1, 1), float(own), device=movie.device)
    paths = [total.new_zeros(len(chosen), *forward.shape[1:]) for _ in range(2)]
    means: dict[int, Tensor] = {1: total.clone()}
    for k in range(1, max(widths) // 2 + 1):
        for sign, flow, path in ((1, forward, paths[0]), (-1, backward, paths[1])):
            there = chosen + sign * k
            inside: Any = (there >= 0) & (there < len(movie))
            if not bool(inside.any()):
                continue
            if bool(inside.all()):
                inside = slice(None)  # nothing is copied
            step = flow[there[inside] - int(sign > 0)]  # from the frame before on the way
            path[inside] = path[inside] + at_places(step, path[inside])
            total[inside] += warped(movie[there[inside]], path[inside])
            count[inside] += 1
        if 2 * k + 1 in widths:
            means[2 * k + 1] = total / count.clamp(min=1)
    return torch.stack([means[width] for width in widths], 1)
