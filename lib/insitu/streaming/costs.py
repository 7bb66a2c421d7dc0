"""How long a pass takes, and how much memory: a model fitted to runs that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from insitu import InputError, checks
from insitu.streaming.passes import HALO
from insitu.streaming.store import SIDE

AT_ONCE = 512  # side of the tiles in which networks work on a frame [px]

Array = NDArray[np.float64]


class Run(NamedTuple):
    """What a pass was, or is to be."""

    shape: tuple[int, int, int]  # frames, rows, columns
    block: int  # frames
    workers: int  # each with one thread, or one GPU
    denoised: bool = False
    reach: int = 0  # frames before and behind a block that the denoiser is shown
    bytes_a_pixel: float = 1.0  # of a count in memory
    machines: int = 1  # that share the workers
    seconds: float = float("nan")  # measured
    memory: float = float("nan")  # measured: bytes of the largest worker

    @property
    def blocks(self) -> int:
        """Blocks of frames times tiles."""
        tiles = [-(-n // SIDE) for n in self.shape[1:]]
        return -(-self.shape[0] // self.block) * tiles[0] * tiles[1]

    @property
    def rounds(self) -> int:
        """Blocks that one worker does, at most."""
        return -(-self.blocks // self.workers)

    @property
    def shown(self) -> int:
        """Frames of a block and around it, as the denoiser sees them."""
        return min(self.shape[0], self.block + 2 * self.reach)

    def _tile(self) -> int:
        rows, columns = (min(n, SIDE) for n in self.shape[1:])
        return rows * columns

    def _seen(self) -> int:
        """Pixels of a tile and around it, as the denoiser sees them."""
        rows, columns = (min(n, SIDE + 2 * HALO) for n in self.shape[1:])
        return rows * columns

    def times(self) -> Array:
        """What the wall time is a sum of, apart from factors: see `Costs`."""
        frames, tile = min(self.block, self.shape[0]), self._tile()
        counted = self.rounds * frames * tile
        each = self.denoised * self.rounds * self._worked()
        beside = self.rounds * frames * tile * (-(-self.workers // self.machines) - 1)
        around = each * (self.shown - frames)
        return np.array([1.0, self.rounds, counted, each * frames, around, beside])

    def _worked(self) -> int:
        """Pixels of a frame that a network works on: its own tiles have halos, too."""
        rows, columns = (
            sum(min(n, k + AT_ONCE + HALO) - max(0, k - HALO) for k in range(0, n, AT_ONCE))
            for n in (min(n, SIDE + 2 * HALO) for n in self.shape[1:])
        )
        return rows * columns

    def _at_once(self) -> int:
        """Pixels of a frame that a network works on at once: it cuts larger ones, too."""
        sides = [min(n, SIDE + 2 * HALO) for n in self.shape[1:]]
        rows, columns = (min(n, AT_ONCE + HALO * min(2, (n - 1) // AT_ONCE)) for n in sides)
        return rows * columns

    def sizes(self) -> Array:
        """What the memory of a worker is a sum of, apart from factors."""
        few = self._tile() * min(16, self.block) * self.bytes_a_pixel
        return np.array([1.0, float(self.denoised), few, float(self.denoised * self._at_once())])

    def held(self) -> float:
        """Bytes of a block as counts, and twice as it is denoised, in single precision."""
        return self.denoised * self._seen() * self.shown * (self.bytes_a_pixel + 8)


class Costs(NamedTuple):
    """Factors of a machine: seconds and bytes, from measured runs.

    seconds = a + rounds (b + c n + d n + e h + s n (w - 1)), with n the pixels of a block, counted
    (c) and, if asked, denoised (d), h the pixels of the frames around it that the denoiser has to
    look at, too (e), and w the workers of a machine, which wait for the same memory (s). Workers
    do their rounds at the same time. Memory is what a block takes, and a sum of what a worker, the
    network, some frames that are counted and one that is denoised do. Factors are not negative,
    and those that make the sum of the squares of the relative errors smallest.

    Examples
    --------
    >>> runs = [
    ...     Run((n, 1024, 1024), 64, w, seconds=1 + 2e-9 * n * 1024**2 / w, memory=3e8 + n)
    ...     for n in (128, 256, 1024) for w in (1, 2)
    ... ]
    >>> costs = Costs.fit(runs)
    >>> round(costs.seconds(Run((4096, 1024, 1024), 64, 2)), 1)
    5.3
    """

    time: Array  # of `Run.times`
    size: Array  # of `Run.sizes`
    error: float  # largest relative error of the times of the runs themselves

    @classmethod
    def fit(cls, runs: Sequence[Run]) -> Costs:
        """Fit the factors.

        Raises
        ------
        InputError
            If there are no runs, or they were not measured.
        """
        if not runs:
            raise InputError("runs: there are none; measure some")
        checks.finite("runs", [(run.seconds, run.memory) for run in runs])
        seconds = np.array([run.seconds for run in runs])
        memory = np.array([max(run.memory - run.held(), 1.0) for run in runs])
        time = _factors(np.stack([run.times() for run in runs]), seconds)
        size = _factors(np.stack([run.sizes() for run in runs]), memory)
        told = np.stack([run.times() for run in runs]) @ time
        return cls(time, size, float(np.abs(told / seconds - 1).max()))

    def seconds(self, run: Run) -> float:
        """Wall time of a run [s]."""
        return float(run.times() @ self.time)

    def memory(self, run: Run) -> float:
        """Memory of each worker [bytes]."""
        return float(run.sizes() @ self.size) + run.held()

    def plan(self, run: Run) -> str:
        """Say in a few lines what a run will read, write, hold and take."""
        pixels = float(np.prod(run.shape))
        size = pixels * run.bytes_a_pixel
        written = f"; {told(4 * pixels)} of denoised frames, if they are kept" * run.denoised
        return (
            f"{run.shape[0]} frames of {run.shape[1]} x {run.shape[2]} pixels, {told(size)} of "
            f"counts{written}\n"
            f"{run.blocks} blocks of {run.block} frames, {run.rounds} for each of {run.workers} "
            f"workers\n"
            f"{told(self.memory(run))} of memory a worker; {duration(self.seconds(run))}"
        )


def _factors(terms: Array, wanted: Array) -> Array:
    """Non-negative factors of least relative error."""
    scale = np.abs(terms).max(0)
    scale[scale == 0] = 1
    found, _ = nnls(terms / scale / wanted[:, None], np.ones(len(wanted)))
    return np.asarray(found / scale)


def told(size: float) -> str:
    """Bytes in words.

    >>> told(4.2e9)
    '4.2 GB'
    """
    for unit, of in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= of:
            return f"{size / of:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(90.0), duration(4.0), duration(9000.0)
    ('1.5 minutes', '4 seconds', '2.5 hours')
    """
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"
