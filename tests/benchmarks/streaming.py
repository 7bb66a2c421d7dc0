"""Movies larger than memory: time, memory and throughput of passes, and how late a live one is.

python tests/benchmarks/streaming.py [--gigabytes 4] [--folder DIR] [--libertem PYTHON]
                                     [--parts large denoise memory anchor live]

- large: a movie of 1024 x 1024 pixels, made as it is written; memory and time of the pass over it
- denoise: a cost model fitted to short runs, held against longer ones; two workers against one
- memory: the same pass out of core and in memory, on a movie that fits
- anchor: the mean of a raw file, by us, by a memory map, and by LiberTEM's SumUDF, if a Python
  that has it is named
- live: 512 x 512 pixels, 20 frames a second, written by another process
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from dask.distributed import Client, LocalCluster
from scipy.stats import poisson

from insitu.streaming import Costs, follow, measure, record
from insitu.streaming.costs import Run

LIBERTEM = """
import sys, time
import libertem.api as lt
from libertem.udf.sum import SumUDF
one = sys.argv[2] == "1"
with lt.Context.make_with("inline") if one else lt.Context.make_with("dask", cpus=2) as ctx:
    data = ctx.load("npy", path=sys.argv[1], sig_dims=2)
    times = []
    for _ in range(4):
        begin = time.perf_counter()
        ctx.run_udf(dataset=data, udf=SumUDF())
        times.append(time.perf_counter() - begin)
print(min(times[1:]))
"""


# of numbers below 2^16, by which they become Poisson counts
LIMITS = [round(2**16 * share) for share in poisson.cdf(range(6), 0.46)]


class MadeMovie:
    """Counts of 0.46 electrons a pixel, made as they are read.

    From the frame `event` on, a square of 64 pixels has a tenth more electrons.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, frames, side, event=None):
        self.shape, self.event = (frames, side, side), event

    def __getitem__(self, key):
        key = key if isinstance(key, tuple) else (key,)
        first, last, _ = key[0].indices(self.shape[0])
        frames = []
        for t in range(first, last):
            rng = np.random.default_rng(t)
            drawn = rng.integers(0, 1 << 16, self.shape[1:], np.uint16)
            frame = np.zeros(self.shape[1:], np.uint8)
            for limit in LIMITS:  # a tenth of the time of rng.poisson
                frame += drawn >= limit
            if self.event is not None and t >= self.event:
                frame[64:128, 64:128] += rng.poisson(0.046, (64, 64)).astype(np.uint8)
            frames.append(frame)
        return np.stack(frames)[(slice(None), *key[1:])]


class Memory:
    """The largest memory of each process of the tree, and of all together, while it is open."""

    def __enter__(self):
        self.tree, self.worker, self._done = 0, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self):
        me = psutil.Process()
        while not self._done.wait(0.1):
            sizes = []
            for process in [me, *me.children(recursive=True)]:
                try:
                    sizes.append(process.memory_info().rss)
                except psutil.Error:
                    continue
            self.tree, self.worker = max(self.tree, sum(sizes)), max(self.worker, *sizes)

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()


def workers(number):
    return LocalCluster(
        n_workers=number, threads_per_worker=1, dashboard_address=":0", memory_limit=0
    )


def large(folder, gigabytes):
    frames = round(gigabytes * 1e9 / 1024**2 / 16) * 16
    movie = MadeMovie(frames, 1024, event=frames * 3 // 4)
    with workers(2) as cluster, Client(cluster) as client, Memory() as memory:
        begin = time.perf_counter()
        store = record(movie, folder / "large.zarr", pixel_size=0.24, client=client)
        took, size = time.perf_counter() - begin, np.prod(store.shape)
        print(
            f"recorded {size / 1e9:.2f} GB in {took:.0f} s ({size / took / 1e6:.0f} MB/s, made and "
            f"read back): {8 * store.files() / size:.2f} bit a pixel"
        )
        found = measure(store, folder / "large", client=client)
    hits = (found.alarms.cell // 4 == [1, 1]).all(1) & (found.alarms.frame >= movie.event)
    print(
        f"measured in {found.seconds:.0f} s ({size / found.seconds / 1e6:.0f} MB/s): "
        f"{found.electrons.mean() / 1024**2:.4f} e-/px, Fano {found.fano:.4f}, entropy "
        f"{found.entropy:.3f} bit; {(~hits).sum()} false alarms, the first of the event "
        f"{found.alarms.frame[hits].min() - movie.event if hits.any() else None} frames after it"
    )
    print(f"memory: all processes {memory.tree / 1e9:.2f} GB, largest {memory.worker / 1e9:.2f} GB")


def denoise(folder, name="pt_ceo2"):
    """Fit to short runs, one worker and two; predict longer ones."""
    counts = MadeMovie(128, 192)[:, :, :]

    def run(frames, number, client, block=16):
        with Memory() as memory:
            found = measure(
                counts[:frames],
                tempfile.mkdtemp(dir=folder),
                denoiser=name,
                pixel_size=0.24,
                block=block,
                client=client,
            )
        shape = (frames, *counts.shape[1:])
        took = {"seconds": found.seconds, "memory": memory.worker}
        done = Run(shape, block, number, denoised=True, **took)
        print(f"  {frames:4d} frames, {number} workers: {found.seconds:.1f} s")
        return done

    runs, longer = [], []
    for number in (1, 2):
        with workers(number) as cluster, Client(cluster) as client:
            run(16 * number, number, client)  # the network is loaded
            runs += [run(frames, number, client) for frames in (16 * number, 48)]
            longer.append(run(128, number, client))
    costs = Costs.fit(runs)
    for done in longer:
        off = costs.seconds(done) / done.seconds - 1
        print(
            f"{name}, {done.shape[0]} frames by {done.workers}: predicted "
            f"{costs.seconds(done):.1f} s, took {done.seconds:.1f} s ({off:+.0%}); memory "
            f"{costs.memory(done) / 1e9:.2f} GB, was {done.memory / 1e9:.2f} GB"
        )
    print(f"two workers against one: {longer[0].seconds / longer[1].seconds:.2f} times as fast")


def memory_or_not(folder, repeats=5):
    movie = MadeMovie(256, 1024)
    store = record(movie, folder / "fits.zarr")
    counts = store[:]
    np.save(folder / "fits.npy", counts)
    for asked in (("mean", "fano", "drift", "alarms"), ("mean",)):
        times = {"memory": [], "raw file": [], "store": []}
        for _ in range(repeats):
            for name, source in zip(times, (counts, folder / "fits.npy", store.path), strict=True):
                found = measure(source, tempfile.mkdtemp(dir=folder), asked=asked)
                times[name].append(found.seconds)
        best = {name: min(took) for name, took in times.items()}
        print(
            f"{', '.join(asked)}: "
            + "; ".join(
                f"{name} {took:.2f} s (median {median(times[name]):.2f}, "
                f"{took / best['memory'] - 1:+.0%})"
                for name, took in best.items()
            )
        )


def anchor(folder, libertem):
    path = folder / "raw.npy"
    np.save(path, MadeMovie(1024, 1024)[:, :, :])
    size = path.stat().st_size

    def best(function, repeats=4):
        took = []
        for _ in range(repeats):
            begin = time.perf_counter()
            function()
            took.append(time.perf_counter() - begin)
        return min(took[1:])

    frames = np.load(path, mmap_mode="r")
    times = {
        "a memory map, numpy's sum in 16s": best(
            lambda: sum(
                frames[k : k + 16].sum(0, dtype=np.uint32) for k in range(0, len(frames), 16)
            )
        )
    }
    times["ours, 1 process"] = best(
        lambda: measure(path, tempfile.mkdtemp(dir=folder), asked=("mean",))
    )
    with workers(2) as cluster, Client(cluster) as client:
        times["ours, 2 workers"] = best(
            lambda: measure(path, tempfile.mkdtemp(dir=folder), asked=("mean",), client=client)
        )
    for cores in (1, 2) if libertem else ():
        done = subprocess.run(
            [libertem, "-c", LIBERTEM, str(path), str(cores)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(done.stderr[-500:])
        else:
            times[f"LiberTEM's SumUDF, {cores} workers"] = float(done.stdout.split()[-1])
    for name, took in times.items():
        print(f"{name}: {took:.2f} s, {size / took / 1e9:.2f} GB/s")


def _write(folder, frames, rate):
    import tifffile

    movie = MadeMovie(frames, 512, event=frames // 2)
    drawn = [movie[slice(t, t + 1)][0] for t in range(frames)]
    begin = time.perf_counter()
    for t, frame in enumerate(drawn):
        time.sleep(max(0.0, begin + t / rate - time.perf_counter()))
        tifffile.imwrite(folder / f"frame_{t:05d}.tif", frame)


def live(folder, frames=600, rate=20.0):
    path = folder / "live"
    path.mkdir()
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(path, frames, rate))
    writer.start()
    late, alarms, trouble = [], [], []
    for moment in follow(path, until=60):
        late.append(moment.latency)
        alarms += [(moment.frame, *cell) for cell in moment.alarms.cell.tolist()]
        trouble += [moment.trouble] * bool(moment.trouble)
        if moment.frame == frames - 1:
            break
    writer.join()
    known = np.array(late)[np.isfinite(late)]
    print(
        f"{len(known)} of {frames} frames at {rate:g} a second; latency median "
        f"{1e3 * np.median(known):.0f} ms, 95th percentile {1e3 * np.quantile(known, 0.95):.0f} "
        f"ms, largest {1e3 * known.max():.0f} ms; alarms "
        f"{json.dumps(alarms[:6])}; trouble {trouble}"
    )


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.0)
    parser.add_argument("--folder", help="where the movies go, for a while")
    parser.add_argument("--libertem", help="a Python in whose environment LiberTEM is")
    parts = ("large", "denoise", "memory", "anchor", "live")
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        do = {
            "large": lambda: large(folder, given.gigabytes),
            "denoise": lambda: denoise(folder),
            "memory": lambda: memory_or_not(folder),
            "anchor": lambda: anchor(folder, given.libertem),
            "live": lambda: live(folder),
        }
        for part in given.parts:
            print(f"-- {part}", flush=True)
            do[part]()


if __name__ == "__main__":
    main()
