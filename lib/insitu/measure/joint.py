"""Columns of a frame fitted together: cells of pixels, normal equations, and their solution.

Every pixel that lies near a column belongs to the cell of the nearest one, and is used once. Its
expected value is the local background of that column and the Gaussians of all columns that reach
it. Neighbours thus share pixels' information as they should, and the Fisher information of all
parameters is one matrix. Columns couple over a few angstrom only: ordered in strips as thick as two
Gaussians reach, the matrix is block tridiagonal, and is solved, and inverted where errors need
it, block by block [1]_. Of products of two Gaussians only those are left out of which one is beyond
its reach and two strips away.

.. [1] K. Takahashi, J. Fagan, M.-S. Chin, Proc. 8th PICA Conf. (1973) 63.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

PARAMETERS = 7  # y, x [A], intensity, log of the width, background, and its slopes [1/A]
Y, X, INTENSITY, WIDTH, BACKGROUND, SLOPE_Y, SLOPE_X = range(PARAMETERS)
_EXACT = {"mps": torch.float32}  # which has no doubles
BLOB, RAMP = (Y, X, INTENSITY, WIDTH), (BACKGROUND, SLOPE_Y, SLOPE_X)


class Cells(NamedTuple):
    """Pixels of each column, and what couples with what."""

    pixels: Tensor  # (n, p) flat index in the frame, 0 where there is none
    inside: Tensor  # (n, p) 1 for a pixel of the cell, 0 for none
    y: Tensor  # (n, p) places of the pixels [A]
    x: Tensor
    ramp: Tensor  # (n, 3, p) of the background: 1, y and x from the column's start [A]
    near: Tensor  # (n, k) columns that reach the cell, itself first; n where there is none
    start: Tensor  # (n, 2) about which the background is linear [A]
    free: list[int]  # parameters that are fitted, q of them, b of the blob and r of the ramp
    strips: list[Tensor]  # columns of each strip
    place: Tensor  # (n, f, f) where an element of a cell's matrix goes, f = b k + r
    size: int  # elements of all blocks, the last one for those that go nowhere
    area: float  # of a pixel [A^2]


def make_cells(
    start: NDArray[np.float64],
    shape: tuple[int, int],
    pixel_size: float,
    *,
    radius: float,
    reach: float,
    free: list[int],
    like: Tensor,
) -> Cells:
    """Give each column (n, 2) [A] the pixels that are nearest to it, within `radius` [A].

    A Gaussian is counted in every cell of which a pixel is within `reach` [A] of its start.
    """
    n = len(start)
    grid = np.indices(shape).reshape(2, -1).T * pixel_size
    tree = cKDTree(start)
    distance, nearest = tree.query(grid, distance_upper_bound=radius)
    used = np.flatnonzero(np.isfinite(distance))
    used = used[np.argsort(nearest[used], kind="stable")]
    owner = nearest[used]
    number = np.bincount(owner, minlength=n)
    slot = np.arange(len(used)) - np.repeat(np.cumsum(number) - number, number)
    pixels = np.zeros((n, max(1, number.max(initial=0))), np.int64)
    inside = np.zeros(pixels.shape)
    pixels[owner, slot], inside[owner, slot] = used, 1
    touched: list[set[int]] = [set() for _ in range(n)]
    close = tree.query_ball_point(grid[used], reach)
    for i, others in zip(owner, close, strict=True):
        touched[i].update(others)
    rows = [[i, *sorted(touched[i] - {i})] for i in range(n)]
    near = np.full((n, max(map(len, rows))), n)
    for i, row in enumerate(rows):
        near[i, : len(row)] = row
    strips = _strips(start, 2 * max(reach, radius) + pixel_size)
    place, size = _places(near, strips, free)

    def tensor(values: NDArray[np.generic], exact: bool = False) -> Tensor:
        made = torch.as_tensor(values, device=like.device)
        return made if exact else made.to(like.dtype)

    y, x = (tensor(grid[:, axis][pixels]) for axis in (0, 1))
    at = tensor(start)
    ramp = torch.stack([torch.ones_like(y), y - at[:, :1], x - at[:, 1:]], 1)
    return Cells(
        tensor(pixels, True),
        tensor(inside),
        y,
        x,
        ramp,
        tensor(near, True),
        at,
        free,
        [tensor(strip, True) for strip in strips],
        tensor(place, True),
        size,
        pixel_size**2,
    )


def _strips(start: NDArray[np.float64], thickness: float) -> list[NDArray[np.int64]]:
    """Cut the columns along the longest axis, so that only neighbouring strips couple."""
    away = start - start.mean(0)
    along = away @ np.linalg.eigh(away.T @ away)[1][:, -1]
    strip = ((along - along.min()) / thickness).astype(int)
    return [np.flatnonzero(strip == s) for s in np.unique(strip)]


def _places(
    near: NDArray[np.int64], strips: list[NDArray[np.int64]], free: list[int]
) -> tuple[NDArray[np.int64], int]:
    """Index of each element of each cell's matrix in the blocks, diagonal and above, in a row."""
    n, p = len(near), len(free)
    strip, rank = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    for number, members in enumerate(strips):
        strip[members], rank[members] = number, np.arange(len(members))
    widths = np.array([len(s) * p for s in strips] + [0])
    starts = np.concatenate([[0], np.cumsum(widths * (widths + np.append(widths[1:], 0)))])
    blob = sum(q in BLOB for q in free)
    own = np.repeat(np.arange(n)[:, None], p - blob, 1)
    column = np.concatenate([np.repeat(near, blob, 1), own], 1)  # (n, f)
    kind = np.concatenate([np.tile(np.arange(blob), near.shape[1]), np.arange(blob, p)])
    place = rank[column] * p + kind
    row, across = column[:, :, None], column[:, None, :]
    above = strip[across] - strip[row]
    # a strip's rows hold its own block and the one above the next strip's
    width = (widths[strip] + widths[strip + 1])[row]
    index = starts[strip[row]] + place[:, :, None] * width
    index = index + place[:, None, :] + np.where(above == 1, widths[strip[row]], 0)
    nowhere = (row == n) | (across == n) | (above < 0) | (above > 1)
    return np.where(nowhere, starts[-1], index), int(starts[-1]) + 1


def expected(theta: Tensor, cells: Cells) -> Tensor:
    """Expected value of each pixel of the cells, (t, n, p).

    m = b + b_y (y - y_s) + b_x (x - x_s) + sum_j V_j a / (2 pi s_j^2) exp(-r_j^2 / (2 s_j^2)),
    at the middle of each pixel, of area a.
    """
    blob = _units(theta, cells)[-1]
    blob *= _around(theta, cells)[..., INTENSITY, None]
    return blob.sum(2) + _background(theta, cells)


def design(theta: Tensor, cells: Cells) -> tuple[Tensor, Tensor]:
    """`expected` (t, n, p), and its derivatives by all that is free (t, n, f, p)."""
    t, n, _ = theta.shape
    per_width, dy, dx, square, unit = _units(theta, cells)
    blob = _around(theta, cells)[..., INTENSITY, None] * unit
    value = blob.sum(2) + _background(theta, cells)
    k, number = cells.near.shape[1], sum(q in BLOB for q in cells.free)
    slopes = theta.new_empty(t, n, cells.place.shape[1], cells.y.shape[1])
    blobs = slopes[:, :, : k * number].unflatten(2, (k, number))
    blobs[..., INTENSITY, :] = unit
    if WIDTH in cells.free:
        torch.mul(square.sub_(2), blob, out=blobs[..., WIDTH, :])
    blob *= per_width
    torch.mul(dy, blob, out=blobs[..., Y, :])
    torch.mul(dx, blob, out=blobs[..., X, :])
    slopes[:, :, k * number :] = cells.ramp[:, [q - BACKGROUND for q in cells.free if q in RAMP]]
    return value, slopes


def _around(theta: Tensor, cells: Cells) -> Tensor:
    """Parameters of the columns that reach each cell, (t, n, k, 7); 0 for none."""
    away = theta.new_zeros(len(theta), 1, PARAMETERS)
    return torch.cat([theta, away], 1)[:, cells.near]


def _units(theta: Tensor, cells: Cells) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of each Gaussian: 1 / s (t, n, k, 1); dy / s, dx / s, r^2 / s^2, and itself for V = 1."""
    y, x, _, log_width = (_around(theta, cells)[..., q, None] for q in range(4))
    per_width = torch.exp(-log_width)
    dy, dx = (cells.y[:, None] - y).mul_(per_width), (cells.x[:, None] - x).mul_(per_width)
    square = (dy * dy).addcmul_(dx, dx)
    unit = torch.exp(-0.5 * square).mul_(per_width**2 * (cells.area / (2 * np.pi)))
    return per_width, dy, dx, square, unit


def _background(theta: Tensor, cells: Cells) -> Tensor:
    return torch.einsum("tnq,nqp->tnp", theta[..., BACKGROUND:], cells.ramp)


def normal_equations(
    slopes: Tensor, score: Tensor, information: Tensor, cells: Cells
) -> tuple[Tensor, Tensor]:
    """Gradient (t, n, q) of the log-likelihood, and the blocks of the Fisher information."""
    t = len(slopes)
    matrix = (slopes * information[:, :, None]) @ slopes.transpose(2, 3)  # (t, n, f, f)
    blocks = matrix.new_zeros(t, cells.size, dtype=_EXACT.get(matrix.device.type, torch.float64))
    blocks.index_add_(1, cells.place.reshape(-1), matrix.reshape(t, -1).to(blocks))
    return gradient_of(slopes, score, cells), blocks


def gradient_of(slopes: Tensor, score: Tensor, cells: Cells) -> Tensor:
    """Gradient (t, n, q) by the slopes (t or 1, n, f, p) and the score of each pixel (t, n, p)."""
    t, n, _ = score.shape
    if len(slopes) == 1:
        part = (slopes[0] @ score.permute(1, 2, 0)).permute(2, 0, 1)  # (t, n, f)
    else:
        part = (slopes @ score[..., None])[..., 0]
    k, number = cells.near.shape[1], sum(q in BLOB for q in cells.free)
    gradient = part.new_zeros(t, n + 1, len(cells.free))
    gradient[..., :number].index_add_(
        1, cells.near.reshape(-1), part[..., : number * k].reshape(t, n * k, number)
    )
    gradient[:, :n, number:] += part[..., number * k :]
    return gradient[:, :n]


class Solution(NamedTuple):
    """Of the normal equations, (t, n, q) each."""

    step: Tensor
    variance: Tensor  # diagonal of the inverse, if it was asked for
    information: Tensor  # diagonal of the matrix


def solve(
    blocks: Tensor,
    gradient: Tensor,
    free: Tensor,
    damping: Tensor,
    cells: Cells,
    *,
    errors: bool = False,
) -> Solution:
    """Solve the normal equations; with `errors`, also find the diagonal of the inverse.

    Columns that are not `free` (t, n) stay; `damping` (t, n) is Levenberg's, relative to the
    diagonal. One matrix may serve many gradients: then blocks, free and damping have t = 1.
    """
    kind, gradient = gradient.dtype, gradient.to(blocks)
    diagonal, above, scales, size = _scaled(blocks, free, damping.to(blocks), cells)
    sides = [
        gradient[:, strip].flatten(1) * scale
        for strip, scale in zip(cells.strips, scales, strict=True)
    ]
    inverse: list[Tensor] = []
    for s, block in enumerate(diagonal):
        if s:
            coupled = inverse[-1] @ above[s - 1]
            block = block - above[s - 1].transpose(1, 2) @ coupled
            sides[s] = sides[s] - _times(coupled.transpose(1, 2), sides[s - 1])
        inverse.append(torch.linalg.inv_ex(block).inverse)
    step, variance, information = (torch.zeros_like(gradient) for _ in range(3))
    found = later = torch.empty(0)
    shape = (len(gradient), -1, gradient.shape[2])
    for s in reversed(range(len(diagonal))):
        part, full = sides[s], inverse[s]
        last = s + 1 == len(diagonal)
        if not last:
            part = part - _times(above[s], found)
        found = _times(inverse[s], part)
        step[:, cells.strips[s]] = (found * scales[s]).reshape(shape)
        information[:, cells.strips[s]] = size[s].reshape(len(size[s]), -1, shape[2])
        if errors:
            if not last:
                coupled = inverse[s] @ above[s]
                full = full + coupled @ later @ coupled.transpose(1, 2)
            later = full
            spread = torch.diagonal(full, dim1=1, dim2=2) * scales[s] ** 2
            variance[:, cells.strips[s]] = spread.reshape(len(spread), -1, shape[2])
    return Solution(*(q.to(kind) for q in (step, variance, information)))


def _times(matrix: Tensor, vectors: Tensor) -> Tensor:
    """Products (t, m) of matrices (t or 1, m, k) and vectors (t, k)."""
    if len(matrix) == 1:
        return vectors @ matrix[0].T
    return (matrix @ vectors[..., None])[..., 0]


def _scaled(
    blocks: Tensor, free: Tensor, damping: Tensor, cells: Cells
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Blocks of the matrix with a diagonal of 1, those beside them, the scales, the diagonal."""
    q = len(cells.free)
    lengths = [len(strip) * q for strip in cells.strips] + [0]
    diagonal, above, scales, sizes = [], [], [], []
    offset = 0
    for strip, length, following in zip(cells.strips, lengths, lengths[1:], strict=False):
        both = blocks[:, offset : offset + length * (length + following)]
        both = both.reshape(-1, length, length + following)
        diagonal.append(both[..., :length])
        above.append(both[..., length:])
        sizes.append(torch.diagonal(diagonal[-1], dim1=1, dim2=2))
        held = free[:, strip].repeat_interleave(q, 1) & (sizes[-1] > 1e-30)
        scales.append(torch.where(held, sizes[-1].clamp(min=1e-30).rsqrt(), 0))
        offset += length * (length + following)
    for s, (strip, scale) in enumerate(zip(cells.strips, scales, strict=True)):
        rise = torch.where(scale > 0, damping[:, strip].repeat_interleave(q, 1) + 1e-10, 1)
        diagonal[s] = diagonal[s] * scale[:, :, None] * scale[:, None]
        torch.diagonal(diagonal[s], dim1=1, dim2=2).add_(rise)
        if s + 1 < len(scales):
            above[s] = above[s] * scale[:, :, None] * scales[s + 1][:, None]
    return diagonal, above, scales, sizes
