"""Short runs on parts of a reader's movie, by which the long one is planned."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from insitu.streaming.costs import Run
from insitu.streaming.measuring import measure
from insitu.streaming.passes import loaded, reach
from insitu.streaming.recording import source_of
from insitu.streaming.store import FRAMES, SIDE
from insitu.streaming.tasks import threads

SMALL, LESS_SMALL = 96, 144  # sides of the parts that are denoised [px]


def trial(
    movie: Any,
    *,
    denoiser: str = "",
    pixel_size: float = 0.0,
    block: int = 64,
    device: str = "auto",
    client: Any = None,
) -> list[Run]:
    """Measure, and denoise, some of the first frames of a movie; for `Costs.fit`.

    All workers are busy at once, so that what they wait for one another is in the times.

    Parameters
    ----------
    movie, denoiser, pixel_size, block, device, client
        As of `insitu.streaming.measure`.

    Returns
    -------
    list of Run
        Four of counting, and two or three of denoising where that is asked.

    Examples
    --------
    >>> import numpy as np
    >>> from insitu.streaming import Costs
    >>> counts = np.random.default_rng(0).poisson(0.5, (256, 96, 96)).astype(np.uint8)
    >>> costs = Costs.fit(trial(counts))
    >>> run = Run((100_000, 96, 96), block=64, workers=1)
    >>> bool(1 < costs.seconds(run) < 1000)
    True
    """
    source = source_of(movie)
    workers = threads(client)
    far = (reach(loaded(denoiser, "cpu")) or 0) if denoiser else 0
    runs = []

    def run(rounds: int, side: int, block: int, denoiser: str = "") -> Run:
        shape = tuple(
            min(wanted, n)
            for wanted, n in zip((rounds * workers * block, side, side), source.shape, strict=True)
        )
        with TemporaryDirectory() as folder:
            found = measure(
                source._replace(shape=shape),
                folder,
                asked=("mean", "fano", "drift"),
                denoiser=denoiser,
                pixel_size=pixel_size,
                block=block,
                device=device,
                client=client,
            )
        return Run(
            (shape[0], shape[1], shape[2]),
            block,
            workers,
            denoised=bool(denoiser),
            reach=far if denoiser else 0,
            bytes_a_pixel=source.dtype.itemsize,
            seconds=found.seconds,
            memory=_largest(client),
        )

    run(2, SMALL, FRAMES)  # what is imported is, from here on
    for side in (SIDE // 2, SIDE):
        runs += [run(rounds, side, block) for rounds in (1, 2)]
    if denoiser:
        run(2, SMALL // 2, FRAMES, denoiser)  # so is the network loaded
        runs += [run(1, SMALL, n * FRAMES, denoiser) for n in ((1, 2) if far else (1,))]
        runs += [run(1, LESS_SMALL, FRAMES, denoiser)]
    return runs


def _largest(client: Any) -> float:
    """Bytes that the largest worker has held."""
    return max(client.run(_peak).values()) if client is not None else _peak()


def _peak() -> int:
    """Bytes that this process has held at most; where no one tells, holds."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    now = psutil.Process().memory_info()
    return int(getattr(now, "peak_wset", now.rss))
