"""A reader's movie of any size: what it will take, and then the pass, with tables and a report."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from insitu import InputError, checks
from insitu.files import ResultsFolder
from insitu.own.reports import write_report
from insitu.streaming.costs import Costs, Run
from insitu.streaming.measuring import measure
from insitu.streaming.passes import loaded, reach
from insitu.streaming.recording import record, source_of
from insitu.streaming.sums import Measured
from insitu.streaming.tasks import threads
from insitu.streaming.trials import trial

PATIENCE = 10.0  # seconds for which a scheduler is waited for
FRAMES = ("frame", "time_s", "electrons_per_pixel")
ALARMS = ("frame", "since_frame", "y_pixel", "x_pixel", "change")
DRIFT = ("frame", "y_pixel", "x_pixel")
COLUMNS = ("frame", "y_angstrom", "x_angstrom", "height_over_median")


@contextmanager
def workers_of(workers: int = 1, cluster: str = "") -> Iterator[Any]:
    """Give a dask client: of a scheduler that runs, or of processes of this machine.

    Parameters
    ----------
    workers : int
        Processes to start, with one thread each; 1 starts none, and gives None: all is done here.
    cluster : str
        Address of a scheduler, such as tcp://10.0.0.1:8786, whose workers do it instead.

    Raises
    ------
    InputError
        If there is no scheduler.
    """
    checks.within("workers", workers, 1, 1024)
    if not cluster and workers == 1:
        yield None
        return
    from dask.distributed import Client, LocalCluster

    if cluster:
        try:
            client = Client(cluster, timeout=PATIENCE)
        except (OSError, ValueError):
            raise InputError(
                f"cluster: no dask scheduler answers at {cluster}; start one by dask scheduler"
            ) from None
        with client:
            yield client
        return
    local = LocalCluster(
        n_workers=workers, threads_per_worker=1, memory_limit=0, silence_logs="ERROR"
    )
    with local, Client(local) as client:
        yield client


def plan(
    path: str | Path,
    *,
    denoiser: str = "",
    pixel_size: float = 0.0,
    block: int = 64,
    device: str = "auto",
    client: Any = None,
) -> str:
    """Say what a pass over a movie reads, writes, holds and takes, by short runs on parts of it.

    Parameters
    ----------
    path, denoiser, pixel_size, block, device, client
        As of `stream`.
    """
    source = source_of(path)
    given = {"pixel_size": pixel_size, "block": block, "device": device, "client": client}
    costs = Costs.fit(trial(source, denoiser=denoiser, **given))
    frames, rows, columns = source.shape
    far = (reach(loaded(denoiser, "cpu")) or 0) if denoiser else 0
    return costs.plan(
        Run(
            (frames, rows, columns),
            block,
            threads(client),
            denoised=bool(denoiser),
            reach=far,
            bytes_a_pixel=source.dtype.itemsize,
        )
    )


def stream(
    path: str | Path,
    output: str | Path,
    *,
    denoiser: str = "",
    pixel_size: float = 0.0,
    frame_time: float = 0.0,
    keep: bool = True,
    columns: bool = False,
    compressed: bool = False,
    block: int = 64,
    baseline: int = 200,
    false_alarms: float = 100.0,
    device: str = "auto",
    client: Any = None,
    progress: bool = True,
) -> dict[str, float]:
    """Measure a movie of any size in one pass, which goes on where it was stopped.

    Writes, in units:

    - `mean.tif`, the mean of all frames [e-/px], and `denoised.tif`, that of the denoised ones;
    - `frames.csv`: the electrons of each frame; `drift.csv`: the shift of each block of frames;
    - `alarms.csv`: in which frame and square of pixels the electrons changed;
    - `counts.zarr` and `denoised.zarr`, where asked: the counts, compressed, and the denoised
      frames;
    - `columns.csv`, where asked: columns in the mean of each denoised block.

    Parameters
    ----------
    path : path
        A movie of counts, in any format that `insitu.open_movie` reads, or a store.
    output : path
        Folder of the results.
    denoiser : str
        Name or file of a denoiser; empty only counts.
    pixel_size, frame_time : float
        [A], [s]; 0 takes what the file tells.
    keep, columns, block, baseline, false_alarms, device, client
        As of `insitu.streaming.measure`.
    compressed : bool
        Copy the counts into `counts.zarr` first, each chunk logged, and read from there.
    progress : bool
        Show a bar.

    Returns
    -------
    dict
        The numbers of results.json.

    Raises
    ------
    InputError
        If the movie cannot be read, a setting does not fit, or the folder holds another run.
    """
    checks.within("frame_time", frame_time, 0, 1e6, "s")
    source, results = source_of(path), ResultsFolder(output)
    pixel, time = pixel_size or source.pixel_size, frame_time or source.frame_time
    movie: Any = source
    if compressed:
        store = results.path / "counts.zarr"
        movie = record(source, store, pixel_size=pixel, frame_time=time, client=client)
    found = measure(
        movie,
        output,
        denoiser=denoiser,
        pixel_size=pixel,
        keep=keep,
        columns=columns,
        block=block,
        baseline=baseline,
        false_alarms=false_alarms,
        device=device,
        client=client,
        progress=progress,
    )
    results.lock()
    try:
        numbers = _numbers(found, pixel, time)
        _tables(results, found, time)
        _report(results, Path(path).name, numbers, found)
    finally:
        results.unlock()
    return numbers


def _numbers(found: Measured, pixel_size: float, frame_time: float) -> dict[str, float]:
    assert found.mean is not None
    mean = float(found.mean.mean())
    numbers = {"frames": len(found.electrons), "electrons_per_pixel": mean, "fano": found.fano}
    if pixel_size:
        numbers["electrons_per_square_angstrom"] = mean / pixel_size**2
    if frame_time:
        numbers["frame_time_s"] = frame_time
    numbers["entropy_bit"] = found.entropy
    if found.alarms is not None:
        numbers["alarms"] = len(found.alarms.frame)
    if found.drift is not None and len(found.drift):
        numbers["drift_pixels"] = np.hypot(*found.drift[:, 1:].T).max()
    if found.z is not None:
        numbers["deviation_of_means"] = found.z.std()
    return {name: float(value) for name, value in numbers.items() if np.isfinite(value)}


def _tables(results: ResultsFolder, found: Measured, time: float) -> None:
    assert found.mean is not None
    area, side = found.mean.size, found.cell
    times = [f"{t * time:.6g}" if time else "" for t in range(len(found.electrons))]
    electrons = (f"{n / area:.6g}" for n in found.electrons)
    _write(results, "frames.csv", FRAMES, zip(range(len(times)), times, electrons, strict=True))
    if found.alarms is not None:
        a = found.alarms
        change = np.where(a.rises, "more", "fewer")
        rows = zip(a.frame, a.since, *(a.cell.T * side), change, strict=True)
        _write(results, "alarms.csv", ALARMS, rows)
    for name, head, table in (
        ("drift.csv", DRIFT, found.drift),
        ("columns.csv", COLUMNS, found.columns),
    ):
        if table is not None:
            _write(results, name, head, ([f"{v:.6g}" for v in row] for row in table))
    _picture(results, "mean.tif", found.mean)
    if found.denoised is not None:
        _picture(results, "denoised.tif", found.denoised)


def _write(
    results: ResultsFolder, name: str, head: Sequence[str], rows: Iterable[Iterable[Any]]
) -> None:
    def write(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(head)
            table.writerows(rows)

    results.write(name, write)


def _picture(results: ResultsFolder, name: str, image: NDArray[np.float64]) -> None:
    results.write(name, lambda path: tifffile.imwrite(path, image.astype(np.float32)))


def _report(results: ResultsFolder, name: str, numbers: dict[str, float], found: Measured) -> None:
    assert found.mean is not None
    pictures = {"mean of all frames": found.mean}
    maps: dict[str, NDArray[Any]] = {}
    if found.denoised is not None and found.z is not None:
        pictures["mean of the denoised frames"] = found.denoised
        maps["difference of both, in standard deviations of counting"] = found.z
    if found.alarms is not None and len(found.alarms.frame):
        squares = np.zeros([-(-n // found.cell) for n in found.mean.shape])
        np.add.at(squares, tuple(found.alarms.cell.T), 1)
        maps["alarms in each square"] = np.kron(squares, np.ones((4, 4)))
    text = [
        "A Fano factor of 1 is that of Poisson's counts; below it electrons that came together "
        "were counted as one, above it something beside the counting changes.",
        "An alarm is a change of the electrons of a square of pixels since the first frames, by "
        "chance in so many of a million frames as were allowed.",
    ]
    write_report(results, f"{name}, streamed", numbers, text=text, pictures=pictures, maps=maps)
