"""What the blocks of a pass have added up to: kept on disk, gone on from, and told at the end."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.registration import phase_cross_correlation

from insitu import InputError
from insitu.files import whole
from insitu.streaming.alarms import Alarms, Watch
from insitu.streaming.passes import Array, Job, Tally
from insitu.streaming.recording import Source

STATE, CELLS = "state.npz", "cells.dat"
SOME = 1024  # frames of the cells that are charted at once


class Measured(NamedTuple):
    """What a pass has found; what was not asked is None."""

    electrons: Array  # (t,) of each frame
    entropy: float  # of the counts, by the first frame of each block [bit a pixel]; NaN if none
    mean: Array | None  # (y, x) [e-/px]
    variance: Array | None  # (y, x) by differences of successive frames [e-^2]
    fano: float  # variance over mean, of all pixels; NaN if not asked
    drift: Array | None  # (blocks, 3) middle frame, and shift since the first block, y and x [px]
    alarms: Alarms | None
    cell: int  # side of the cells of the alarms [px]
    denoised: Array | None  # (y, x) mean of the denoised frames
    z: Array | None  # (y, x) difference of both means in standard deviations of counting
    columns: Array | None  # (n, 4) middle frame, y, x [A], height over the median
    seconds: float  # since this run began


class Sums:
    """What the blocks so far have added up to, on disk and in memory."""

    def __init__(self, job: Job, source: Source, folder: Path) -> None:
        self.job, self.folder, self.next = job, folder, 0
        self.tiles = -(-job.shape[1] // job.side) * -(-job.shape[2] // job.side)
        frame = job.shape[1:]
        kind = np.int64 if source.dtype.kind in "uib" else np.float64
        asked = set(job.asked)
        cells = np.zeros((job.block, *(-(-n // job.cell) for n in frame)), kind)
        self.arrays: dict[str, NDArray[Any]] = {"counted": np.zeros(0, np.int64), "cells": cells}
        if asked & {"mean", "fano"} or job.denoiser:
            self.arrays["total"] = np.zeros(frame, kind)
        if "fano" in asked:
            self.arrays["squares"] = np.zeros(frame, kind)
            self.arrays["end"] = np.zeros(frame, source.dtype)
        if "drift" in asked:
            small = tuple(-(-n // job.shrink) for n in frame)
            self.arrays |= {"before": np.zeros(small), "now": np.zeros(small)}
            self.arrays["drift"] = np.zeros((0, 3))
        if job.denoiser:
            self.arrays["denoised"] = np.zeros(frame)
            self.arrays["columns"] = np.zeros((0, 4))
        self.text = _identity(job, source)
        if (folder / STATE).exists():
            self._go_on()
        else:
            (folder / CELLS).write_bytes(b"")

    def _go_on(self) -> None:
        with np.load(self.folder / STATE) as kept:
            if str(kept["job"]) != self.text:
                raise InputError(
                    f"{self.folder} holds a run of another movie, or one with other settings; "
                    "choose another folder, or remove it"
                )
            self.next = int(kept["next"])
            self.arrays = {key: kept[key] for key in self.arrays}

    def add(self, found: Tally) -> None:
        """Add the next block."""
        self.next += 1
        job, tile, a = self.job, found.tile, self.arrays
        last = job.last(found.first)
        rows, columns = (slice(s.start // job.cell, -(-s.stop // job.cell)) for s in tile)
        a["cells"][: last - found.first, rows, columns] = found.cells
        if self.next % self.tiles == 0:
            with (self.folder / CELLS).open("r+b") as file:
                file.seek(found.first * a["cells"][0].nbytes)
                file.write(a["cells"][: last - found.first].tobytes())
        if len(found.counted) > len(a["counted"]):
            a["counted"] = np.pad(a["counted"], (0, len(found.counted) - len(a["counted"])))
        a["counted"][: len(found.counted)] += found.counted
        if "total" in a:
            a["total"][tile] += found.total
        if "squares" in a:
            assert found.ends is not None
            a["squares"][tile] += found.squares
            if found.first:  # across the border of the blocks
                step = found.ends[0].astype(a["squares"].dtype) - a["end"][tile]
                a["squares"][tile] += step**2
            a["end"][tile] = found.ends[-1]
        if "drift" in a:
            assert found.total is not None
            self._drifted(found.total, tile, found.first, last)
        if found.denoised is not None:
            a["denoised"][tile] += found.denoised
        if found.columns is not None:
            corner = np.array([tile[0].start, tile[1].start]) * job.pixel_size
            y, x, height = found.columns.T
            frame = np.full(len(y), (found.first + last - 1) / 2)
            rows_of = np.stack([frame, y + corner[0], x + corner[1], height], 1)
            a["columns"] = np.concatenate([a["columns"], rows_of])

    def _drifted(self, total: NDArray[Any], tile: Any, first: int, last: int) -> None:
        """Shift of a block that is whole against the first one, by way of the one before."""
        a, shrink = self.arrays, self.job.shrink
        edges = [np.arange(0, n, shrink) for n in total.shape]
        small = np.add.reduceat(np.add.reduceat(total, edges[0], 0), edges[1], 1)
        place = tuple(slice(s.start // shrink, -(-s.stop // shrink)) for s in tile)
        a["now"][place] = small / (last - first)
        if self.next % self.tiles:
            return
        now = ndimage.gaussian_filter(a["now"], 1)
        shift = np.zeros(2)
        if len(a["drift"]):
            shift = (
                -shrink
                * phase_cross_correlation(a["before"], now, upsample_factor=20, normalization=None)[
                    0
                ]
            )
            shift = shift + a["drift"][-1, 1:]
        row = np.array([[(first + last - 1) / 2, *shift]])
        a["drift"], a["before"] = np.concatenate([a["drift"], row]), now

    def save(self) -> None:
        """Write the state, under a temporary name until it is whole."""
        arrays = {"job": np.array(self.text), "next": np.array(self.next)} | self.arrays
        with whole(self.folder / STATE) as unfinished, unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def cells(self, first: int) -> NDArray[Any]:
        """Electrons of the cells, (t, rows, columns), of `SOME` frames."""
        like = self.arrays["cells"][0]
        found = np.fromfile(
            self.folder / CELLS,
            like.dtype,
            min(SOME, self.job.shape[0] - first) * like.size,
            offset=first * like.nbytes,
        )
        return found.reshape(-1, *like.shape)

    def finish(self, watch: Watch, begin: float) -> Measured:
        """What all blocks together tell."""
        a, count = self.arrays, self.job.shape[0]
        electrons = []
        alarms = Alarms.none() if "alarms" in self.job.asked else None
        for first in range(0, count, SOME):
            cells = self.cells(first)
            electrons.append(cells.sum((1, 2)))
            if alarms is not None and count > watch.baseline:
                alarms = alarms.and_later(watch.push(cells))
        mean = a["total"] / count if "total" in a else None
        variance = a["squares"] / (2 * (count - 1)) if "squares" in a and count > 1 else None
        fano = np.nan
        if variance is not None and mean is not None and mean.sum() > 0:
            fano = float(variance.sum() / mean.sum())
        denoised = z = None
        if "denoised" in a and mean is not None:
            denoised = a["denoised"] / count
            z = (denoised - mean) / np.sqrt(np.maximum(denoised, 1e-6) / count)
        return Measured(
            np.concatenate(electrons).astype(np.float64),
            entropy(a["counted"]),
            mean,
            variance,
            fano,
            a.get("drift"),
            alarms,
            self.job.cell,
            denoised,
            z,
            a["columns"] if self.job.columns else None,
            time.perf_counter() - begin,
        )


def entropy(counted: NDArray[np.integer[Any]]) -> float:
    """Entropy of counts that were met so often [bit]; NaN if there are none.

    >>> entropy(np.array([2, 1, 1]))
    1.5
    """
    if not counted.sum():
        return float("nan")
    share = counted[counted > 0] / counted.sum()
    return float(-(share * np.log2(share)).sum())


def _identity(job: Job, source: Source) -> str:
    """What has to be the same for a run to go on, as text."""
    first = np.ascontiguousarray(source.frames(0, 1))
    about = {
        "first frame": hashlib.sha256(first.tobytes()).hexdigest(),
        "type": str(source.dtype),
        "kept": job.kept is not None,
    }
    about |= {k: v for k, v in vars(job).items() if k not in ("kept", "device")}
    return json.dumps(about)
