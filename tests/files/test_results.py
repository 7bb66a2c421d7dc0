"""Results are whole, whenever a run is killed."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from insitu import files

WRITER = """
import sys
import numpy as np
from insitu.files import ResultsFolder
results = ResultsFolder(sys.argv[1])
results.lock()
print("begins", flush=True)
for turn in range(1000):
    frames = np.full((64, 256, 256), turn % 251, np.uint8)
    results.write("movie.npy", lambda path: np.save(path.open("wb"), frames))
    results.write_json("results.json", {"turn": turn, "more": list(range(20000))})
"""


@pytest.mark.slow
def test_nothing_half_written_looks_whole(tmp_path):
    """Killed at 20 random moments; the next run takes the folder over."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as run:
            assert run.stdout.readline() == b"begins\n"  # the lock of the one before is gone
            time.sleep(rng.uniform(0.0, 0.4))
            run.kill()
        if (tmp_path / "movie.npy").exists():
            frames = np.load(tmp_path / "movie.npy")
            assert frames.shape == (64, 256, 256)
            assert np.ptp(frames) == 0
        if (tmp_path / "results.json").exists():
            assert len(json.loads((tmp_path / "results.json").read_text())["more"]) == 20000
    results = files.ResultsFolder(tmp_path)
    results.lock()
    results.unlock()
    assert {p.name for p in tmp_path.iterdir()} == {"movie.npy", "results.json"}
