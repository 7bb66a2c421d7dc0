"""Files cut, with bits flipped in their head, or renamed: a right result or one sentence.

    python tests/benchmarks/files.py [--count 300] [--seed 0] [--large]

Each file is opened and read in a process of its own, with 20 s and 1 GB. Printed is how many came
out right, how many were refused in a sentence, how many were different but warned of, and how many
were different without a word: of a flipped bit no file tells that has no checksum.
"""

import argparse
import math
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import tifffile
import zarr

sys.path.insert(0, str(Path(__file__).parents[1] / "files"))
import writers
from damage import damaged, plain_files, right

from insitu import InputError, files

SECONDS, BYTES = 20, 1_000_000_000


def attempt(path, truth, pipe):
    """Open and read; say what came out."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found = files.open_movie(path).part()
            same = found.shape == truth.shape and np.array_equal(found, truth)
            told = any(path.name in str(w.message) for w in said)
            answer = "right" if same else "warned" if told else "silently different"
        except InputError as sentence:
            answer = "sentence" if "\n" not in str(sentence) else "sentence of many lines"
        except BaseException as error:
            answer = f"traceback: {type(error).__name__}: {error}"
    pipe.send((answer, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def examined(path, truth):
    """What came of a file, in a process of its own: words, seconds and bytes."""
    context = multiprocessing.get_context("forkserver")
    mine, its = context.Pipe(False)
    process = context.Process(target=attempt, args=(path, truth, its))
    begin = time.perf_counter()
    process.start()
    its.close()
    answer, memory = "hang", 0
    try:
        if mine.poll(SECONDS):
            answer, memory = mine.recv()
    except EOFError:
        answer = "killed"
    process.kill()
    process.join()
    return answer, time.perf_counter() - begin, memory


OPEN = """
import resource, sys, time
begin = time.perf_counter()
from insitu.files import open_movie
movie = open_movie(sys.argv[1])
seconds = time.perf_counter() - begin
held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
busy = time.process_time()  # of Python and its imports, too; less than seconds on a busy machine
print(f"{sys.argv[2]:8s}{movie.shape}: {seconds:.2f} s, {busy:.2f} s of a core, {held:.0f} MB")
"""


def large(folder):
    """Open movies of 4 GB, most of which are not on the disk, each in a process of its own."""
    shape = (2048, 1024, 1024)
    writers.write_mrc(folder / "a.mrc", np.zeros((1, 1, 1), np.uint16), 6, shape=shape)
    os.truncate(folder / "a.mrc", 1024 + 2 * math.prod(shape))
    np.lib.format.open_memmap(folder / "a.npy", "w+", np.uint16, shape).flush()
    tifffile.memmap(folder / "a.tif", shape=shape, dtype=np.uint16, bigtiff=True).flush()
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("movie", shape, np.uint16, chunks=(1, 1024, 1024))
    zarr.create_array(folder / "a.zarr", shape=shape, chunks=(1, 1024, 1024), dtype=np.uint16)
    for path in sorted(folder.iterdir()):
        command = [sys.executable, "-W", "ignore", "-c", OPEN, str(path), path.suffix]
        subprocess.run(command, check=True)


def main():
    """Damage so many files, and count what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--large", action="store_true", help="open 4 GB instead")
    chosen = parser.parse_args()
    if chosen.large:
        with tempfile.TemporaryDirectory() as scratch:
            large(Path(scratch))
        return
    loaded = [f"insitu.files.{name}" for name in ("hdf", "mrc", "others", "tif", "kinds")]
    multiprocessing.set_forkserver_preload([*loaded, "h5py", "rsciio", "zarr", "dask.array"])
    rng = np.random.default_rng(chosen.seed)
    counts, bad, slowest, largest = Counter(), [], 0.0, 0
    with tempfile.TemporaryDirectory() as scratch:
        good, broken = Path(scratch) / "good", Path(scratch) / "broken"
        good.mkdir()
        broken.mkdir()
        originals = plain_files(good)
        for path in originals:
            truth = right(path)
            answer, *_ = examined(path, truth)
            assert answer == "right", f"{path.name}: {answer}"
        for number in range(chosen.count):
            source = originals[(number // 3) % len(originals)]
            truth = right(source)
            how, path = damaged(source, broken, number, rng)
            answer, seconds, memory = examined(path, truth)
            counts[how, answer.split(":")[0]] += 1
            slowest, largest = max(slowest, seconds), max(largest, memory)
            if answer not in ("right", "sentence", "warned") or memory > BYTES:
                bad.append(f"{path.name}: {answer}, {memory / 1e6:.0f} MB")
            path.unlink()
    for (how, answer), count in sorted(counts.items()):
        print(f"{how:10s}{answer:22s}{count:5d}")
    print(f"slowest {slowest:.1f} s, largest {largest / 1e6:.0f} MB")
    print("\n".join(bad))
    worse = [b for b in bad if "silently different" not in b]
    raise SystemExit(1 if worse else 0)


if __name__ == "__main__":
    main()
