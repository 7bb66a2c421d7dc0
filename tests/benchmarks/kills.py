"""`insitu denoise` killed at random moments: what lies there is whole, and the next run goes on.

    python tests/benchmarks/kills.py [--count 20] [--seed 0]

A process that has loaded the library forks, and the child is killed at a moment drawn evenly from
what a whole run takes; every second folder begins with the results of another run. What has its
final name then is opened and read. The next run has to end with 0, leave no unfinished file, and
give the bytes of a run that nobody killed.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import av
import h5py
import numpy as np
import tifffile
import torch
import zarr

from insitu.book import cli
from insitu.denoise import saved
from insitu.learning import checkpoints

STEPS, SHAPE = 16, (24, 40, 44)


def command(movie, output):
    """Run the command as a shell would."""
    words = ["denoise", movie, "--pixel-size", "0.2", "--steps", STEPS, "--device", "cpu"]
    words += ["--also", "zarr,hspy", "--output", output]
    with Path(os.devnull).open("w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        cli.main([str(word) for word in words])


def start(movie, output):
    child = multiprocessing.get_context("fork").Process(target=command, args=(movie, output))
    child.start()
    return child


def read(path):
    """Open a file and read all of it; raises if it is not whole."""
    if path.suffix == ".tif":
        assert tifffile.imread(path).shape == SHAPE
    elif path.suffix == ".zarr":
        array = zarr.open(path, mode="r")["0"]
        assert array.shape == SHAPE
        assert array.nchunks_initialized == array.nchunks
    elif path.suffix == ".hspy":
        with h5py.File(path, "r") as file:
            (signal_,) = file["Experiments"].values()
            assert signal_["data"][...].shape == SHAPE
    elif path.suffix == ".mp4":
        with av.open(path) as film:
            assert sum(1 for _ in film.decode(video=0)) == SHAPE[0]
    elif path.suffix == ".json":
        json.loads(path.read_text())
    elif path.suffix == ".html":
        assert path.read_text().endswith("</html>")
    elif path.suffix == ".safetensors":
        checkpoints.load(path)
    else:
        raise AssertionError(f"a file nobody knows: {path.name}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    torch.set_num_threads(1)
    assert saved.load_denoiser  # loaded before the fork
    folder = Path(tempfile.mkdtemp())
    movie, other = folder / "mine.npy", folder / "other.npy"
    for path in (movie, other):
        np.save(path, rng.poisson(0.8, SHAPE).astype(np.uint8))
    begin = time.perf_counter()
    start(movie, folder / "whole").join()
    takes = time.perf_counter() - begin
    wanted = (folder / "whole" / "denoised.tif").read_bytes()
    start(other, folder / "before").join()
    found = Counter()
    for number in range(given.count):
        output = folder / f"killed-{number}"
        if number % 2:
            shutil.copytree(folder / "before", output)
        child = start(movie, output)
        moment = takes * rng.random()
        child.join(moment)
        killed = child.is_alive()
        os.kill(child.pid, signal.SIGKILL) if killed else None
        child.join()
        unfinished = list(output.glob("**/.part-*"))
        names = [p for p in output.glob("*") if not p.name.startswith(".part-")]
        for path in names:
            read(path)
        again = start(movie, output)
        again.join()
        assert again.exitcode == 0
        assert not list(output.glob("**/.part-*"))
        assert (output / "denoised.tif").read_bytes() == wanted
        for path in output.glob("*"):
            read(path)
        found["killed" if killed else "done before"] += 1
        found["with an unfinished file"] += bool(unfinished)
        found["with a training to go on with"] += any("training" in p.name for p in names)
        print(f"{moment:6.2f} s of {takes:.2f}: {sorted(p.name for p in names)}", flush=True)
    shutil.rmtree(folder)
    print(f"{given.count} runs: {dict(found)}; every file whole, every next run right")


if __name__ == "__main__":
    main()
