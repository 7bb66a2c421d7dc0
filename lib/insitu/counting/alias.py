"""Draw from many discrete distributions at once, with one table look-up a sample."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class AliasTable:
    """Alias tables [1]_ of several distributions over 0 ... K.

    A random number picks a column with its low bits; its other bits decide between the
    column's own value (below the threshold) and the column's alias. Probabilities are kept to
    2^-31.

    Parameters
    ----------
    p : (rows, K + 1) array
        Probabilities; every row adds up to 1.

    References
    ----------
    .. [1] A. J. Walker, ACM Trans. Math. Softw. 3 (1977) 253.
    """

    def __init__(self, p: NDArray[np.float64]) -> None:
        rows, width = p.shape
        self._bits = max(1, (width - 1).bit_length())
        columns = 1 << self._bits
        share = np.zeros((rows, columns))
        share[:, :width] = p * (columns / p.sum(1, keepdims=True))
        threshold = np.ones((rows, columns))
        alias = np.tile(np.arange(columns), (rows, 1))
        settled = np.zeros((rows, columns), dtype=bool)
        row = np.arange(rows)
        for _ in range(columns - 1):  # what the poorest column lacks, the richest gives
            poor = np.where(settled, np.inf, share).argmin(1)
            rich = np.where(settled, -np.inf, share).argmax(1)
            threshold[row, poor] = share[row, poor]
            alias[row, poor] = rich
            share[row, rich] -= 1 - share[row, poor]
            settled[row, poor] = True
        levels = 1 << (31 - self._bits)
        integer = np.clip(np.rint(threshold * levels), 0, np.iinfo(np.int32).max)
        self._threshold = torch.tensor(integer, dtype=torch.int32).reshape(-1)
        self._alias = torch.tensor(alias, dtype=torch.int32).reshape(-1)

    def to(self, device: torch.device) -> None:
        """Move the tables to a device."""
        self._threshold, self._alias = self._threshold.to(device), self._alias.to(device)

    def draw(self, row: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One sample (int32) from the distribution of each row number in `row` (int32)."""
        number = torch.empty(row.shape, dtype=torch.int32, device=row.device)
        number.random_(generator=generator)  # 31 random bits
        column = number & ((1 << self._bits) - 1)
        index = (row << self._bits).add_(column)
        accept = (number >> self._bits) < self._threshold.index_select(0, index)
        return torch.where(accept, column, self._alias.index_select(0, index))
