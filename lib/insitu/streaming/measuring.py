"""`measure`: one pass over a movie, on whatever workers there are, on again where it was killed."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from insitu import InputError, checks
from insitu.files import ResultsFolder
from insitu.streaming.alarms import Watch
from insitu.streaming.passes import ASKED, Job, asked_of, tally
from insitu.streaming.recording import Source, source_of
from insitu.streaming.store import FRAMES, SIDE, create, open_store
from insitu.streaming.sums import Measured, Sums
from insitu.streaming.tasks import in_order

AROUND = 128  # frames before and behind a block that are sent with it; no denoiser looks farther
SHARE = 20  # a state is written when so many times as long has gone by as that takes


def measure(
    movie: Any,
    output: str | Path,
    *,
    asked: Collection[str] = ASKED,
    denoiser: str = "",
    pixel_size: float = 0.0,
    keep: bool = True,
    columns: bool = False,
    block: int = 64,
    side: int = SIDE,
    baseline: int = 200,
    false_alarms: float = 100.0,
    device: str = "auto",
    client: Any = None,
    progress: bool = False,
) -> Measured:
    """Count, judge and denoise a movie of any size, in one pass over blocks of its frames.

    The state goes into the folder of the output; the same call goes on from there. Sums of counts
    are whole numbers, so that neither the blocks nor the workers change a result.

    Parameters
    ----------
    movie : path, Movie, Store, HyperSpy signal or array-like
        See `insitu.streaming.recording.source_of`. A store is compared with its log as it is read.
    output : path
        A folder.
    asked : collection of str
        "mean", "fano", "drift" (of blocks against the first one, by cross-correlation; a lattice
        that moves by half of its period is told wrongly) and "alarms" (`Watch`).
    denoiser : str
        Name or file of a denoiser; each block is shown the frames around that it looks at. Empty
        denoises nothing.
    pixel_size : float
        [A]; 0 takes what the movie tells.
    keep : bool
        Write the denoised frames to `denoised.zarr`, float32: 4 bytes a pixel, where compressed
        counts of low dose take a fifth of one.
    columns : bool
        Find columns in the mean of each denoised block.
    block : int
        Frames of a block, a multiple of 16.
    side : int
        Of the tiles into which larger frames are cut, a power of two [px].
    baseline, false_alarms : int, float
        Of `Watch`; a movie that is shorter than the baseline has no alarms.
    device : str
        Of the denoiser; auto takes the worker's GPU, if it has one.
    client : dask.distributed.Client, optional
        Whose workers do it: `Client(LocalCluster(...))`, one of dask-jobqueue or of dask-cuda.
    progress : bool
        Show a bar.

    Raises
    ------
    InputError
        If the movie cannot be read, a setting does not fit, the output holds another run, or is
        being written by one.

    Examples
    --------
    >>> import tempfile
    >>> counts = np.random.default_rng(0).poisson(0.5, (100, 64, 64)).astype(np.uint8)
    >>> found = measure(counts, tempfile.mkdtemp(), asked=("mean", "fano"))
    >>> bool((found.mean == counts.mean(0)).all()), round(found.fano, 1)
    (True, 1.0)
    """
    begin = time.perf_counter()
    source = source_of(movie)
    if block < FRAMES or block % FRAMES:
        raise InputError(f"block: got {block}, allowed is a multiple of {FRAMES}")
    if side < 64 or side & (side - 1):
        raise InputError(f"side: got {side}, allowed is a power of two, 64 or more")
    if (columns or denoiser) and not (pixel_size or source.pixel_size):
        raise InputError("pixel_size: the movie does not tell it; give it in angstrom")
    if columns and not denoiser:
        raise InputError("columns: are looked for in what is denoised; name a denoiser")
    checks.within("pixel_size", pixel_size, 0, 100, "A")
    watch = Watch(baseline=baseline, false_alarms=false_alarms)
    results = ResultsFolder(output)
    kept = results.path.resolve() / "denoised.zarr" if denoiser and keep else None
    job = Job(
        source.shape,
        asked_of(asked),
        block,
        side,
        denoiser,
        device,
        pixel_size or source.pixel_size,
        kept,
        columns,
    )
    results.lock()
    try:
        results.path.mkdir(parents=True, exist_ok=True)
        sums = Sums(job, source, results.path)
        _denoised_store(job, source, sums.next)
        _all_blocks(job, source, sums, client, progress)
        return sums.finish(watch, begin)
    finally:
        results.unlock()


def _denoised_store(job: Job, source: Source, done: int) -> None:
    if job.kept is None or (done and job.kept.exists()):
        return
    create(
        job.kept,
        job.shape,
        np.float32,
        pixel_size=job.pixel_size,
        frame_time=source.frame_time,
        side=job.side,
        about={"denoiser": job.denoiser},
    )


def _all_blocks(job: Job, source: Source, sums: Sums, client: Any, progress: bool) -> None:
    """Do what is not yet done, keeping the state now and then."""
    tasks = list(job.tasks())
    todo = tasks[sums.next :]
    bar = tqdm(total=len(tasks), initial=sums.next, desc="blocks", disable=not progress)
    far = AROUND if job.denoiser else 0

    def work() -> Any:
        for first, tile in todo:
            part = source.sent(max(0, first - far), min(job.shape[0], job.last(first) + far))
            yield job, part, first, tile

    store = open_store(job.kept) if job.kept is not None else None
    last, took = time.perf_counter(), 0.0
    for found in in_order(tally, work(), client):
        if store is not None:
            store.note(found.entries)
        sums.add(found)
        bar.update()
        now = time.perf_counter()
        if now - last > SHARE * took:
            sums.save()
            last = time.perf_counter()
            took = last - now
    bar.close()
    sums.save()
    if store is not None and (missing := store.missing()):
        raise InputError(f"{store.path}: {len(missing)} chunks were not written; run again")
