"""A movie that is made as it is read, slowly; and clients of their own process that work on it.

python tests/streaming/slow_movie.py record|measure OUTPUT [PAUSE]
"""

import os
import signal
import sys
import time

import numpy as np
from dask.distributed import Client, LocalCluster

from insitu.streaming import measure, record

FRAMES, SIDE = 160, 48


class SlowMovie:
    """Counts whose frames depend on their number alone; each block read takes a while."""

    shape, dtype = (FRAMES, SIDE, SIDE), np.dtype(np.uint8)

    def __init__(self, pause=0.1):
        self.pause = pause

    def __getitem__(self, key):
        time.sleep(self.pause)
        time_, *box = key if isinstance(key, tuple) else (key,)
        frames = [
            np.random.default_rng(t).poisson(0.5, self.shape[1:])
            for t in range(*time_.indices(self.shape[0]))
        ]
        return np.array(frames, np.uint8).reshape(-1, *self.shape[1:])[(slice(None), *box)]


class DeadlyMovie(SlowMovie):
    """Its frames, but for the first, kill whoever reads them."""

    def __getitem__(self, key):
        if key[0].stop > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(key)


def cluster(workers=2, **options):
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=":0", memory_limit=0, **options
    )


if __name__ == "__main__":
    task, output, *rest = sys.argv[1:]
    movie = SlowMovie(float(rest[0]) if rest else 0.1)
    with cluster() as workers, Client(workers) as client:
        if task == "record":
            record(movie, output, client=client)
        else:
            measure(movie, output, block=16, baseline=40, client=client)
