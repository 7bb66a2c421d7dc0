"""What goes wrong with long runs, each with real processes: nothing lost or silently wrong."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from dask.distributed import Client
from slow_movie import FRAMES, DeadlyMovie, SlowMovie, cluster

from insitu import InputError
from insitu.streaming import measure, open_store, record
from insitu.streaming.store import LOG

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def counts():
    return SlowMovie(0)[:]


def client_of_its_own(task, output, pause=0.1):
    """A client and two workers, in processes of their own."""
    command = [sys.executable, str(HERE / "slow_movie.py"), task, str(output), str(pause)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)


def wait_for(ready, seconds=300):
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not begin"
        time.sleep(0.02)


def logged(store):
    log = store / LOG
    return len(log.read_text().splitlines()) if log.exists() else 0


def chunk_files(store):
    return sorted(p for p in (store / "c").rglob("*") if p.is_file())


@pytest.mark.parametrize("task", ["record", "measure"])
def test_a_worker_is_killed(task, tmp_path, counts):
    movie, output = SlowMovie(0.15), tmp_path / "out"
    killed = []
    with cluster() as workers, Client(workers) as client:
        pids = client.run(os.getpid)

        def kill():
            begun = output if task == "measure" else output / LOG
            wait_for(begun.exists)
            time.sleep(0.5)
            killed.append(next(iter(pids.values())))
            os.kill(killed[0], signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        if task == "record":
            found = record(movie, output, client=client)[:]
        else:
            found = measure(movie, output, block=16, baseline=40, client=client)
        killer.join()
        assert killed[0] not in client.run(os.getpid).values()
    if task == "record":
        np.testing.assert_array_equal(found, counts)
    else:
        same(found, measure(counts, tmp_path / "without", block=64, baseline=40))


def same(found, other):
    """All that a pass says, bit by bit."""
    for name in ("electrons", "mean", "variance"):
        np.testing.assert_array_equal(getattr(found, name), getattr(other, name))
    assert found.fano == other.fano
    for one, two in zip(found.alarms, other.alarms, strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_client_is_killed_while_it_records(tmp_path, counts):
    output = tmp_path / "counts.zarr"
    run = client_of_its_own("record", output)
    wait_for(lambda: logged(output) >= 3)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    there = logged(output)
    assert 3 <= there < FRAMES // 16
    with (output / LOG).open("a") as log:
        log.write("[[9, 0, 0], 16, 18")  # what a kill can leave of a line
    kept = [output / "c" / f"{k}" / "0" / "0" for k in range(3)]
    before = [path.stat().st_mtime_ns for path in kept]
    store = record(SlowMovie(0), output)
    assert [path.stat().st_mtime_ns for path in kept] == before
    np.testing.assert_array_equal(store[:], counts)
    np.testing.assert_array_equal(open_store(output)[:], counts)


def test_a_client_is_killed_while_it_measures(tmp_path, counts):
    output = tmp_path / "out"
    run = client_of_its_own("measure", output)
    state = output / "state.npz"

    def done():
        try:
            with np.load(state) as kept:
                return int(kept["next"])
        except (OSError, ValueError):
            return 0

    wait_for(lambda: done() >= 3)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    there = done()
    assert 3 <= there < FRAMES // 16
    read = []

    class Watched(SlowMovie):
        def __getitem__(self, key):
            read.append(key[0].start)
            return super().__getitem__(key)

    found = measure(Watched(0), output, block=16, baseline=40)
    assert sorted(set(read)) == [0, *range(16 * there, FRAMES, 16)]  # 0: is it the same movie?
    same(found, measure(counts, tmp_path / "without", block=64, baseline=40))


@pytest.mark.parametrize("fault", ["a bit", "torn", "missing"])
@pytest.mark.parametrize("shards", [1, 4])
def test_a_chunk_is_not_what_was_written(fault, shards, tmp_path, counts):
    store = record(counts, tmp_path / "counts.zarr", shards=shards)
    file = chunk_files(store.path)[1]
    content = file.read_bytes()
    if fault == "a bit":
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
    elif fault == "torn":
        file.write_bytes(content[: len(content) // 2])
    else:
        file.unlink()
        plain = zarr.open_array(store.path, mode="r")[16 * shards : 32 * shards]
        assert not plain.any()  # what zarr itself makes of it
    with pytest.raises(InputError, match=r"is damaged|is missing or was changed"):
        open_store(store.path)[:]
    with pytest.raises(InputError, match="make the store again from its source"):
        measure(store.path, tmp_path / "out")
    assert (open_store(store.path)[: 16 * shards] == counts[: 16 * shards]).all()
    again = record(counts, store.path, shards=shards)
    np.testing.assert_array_equal(again[:], counts)


def test_a_full_disk(tmp_path, counts):
    """Files of no more than 3 kB: what is whole stays, and the run goes on when there is room."""
    small = counts.copy()
    small[:32] = 0  # two chunks that fit
    output = tmp_path / "counts.zarr"
    np.save(tmp_path / "movie.npy", small)
    program = (
        "import resource, sys; from insitu import InputError; from insitu.files import results\n"
        "results._LEAST = 0\n"  # there is room at first
        "from insitu.streaming import record\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))\n"
        "try:\n    record(sys.argv[1], sys.argv[2])\n"
        "except InputError as error:\n    print(error); sys.exit(7)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "movie.npy"), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "run again: what was written is kept" in done.stdout
    assert logged(output) == 2
    assert [p.parent.parent.name for p in chunk_files(output)] == ["0", "1"]
    np.testing.assert_array_equal(record(tmp_path / "movie.npy", output)[:], small)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk")
def test_a_disk_that_fills_up(tmp_path, counts, monkeypatch):
    monkeypatch.setattr("insitu.files.results._LEAST", 0)  # there is room at first
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk could be mounted")
    try:
        with pytest.raises(InputError, match="No space left on device"):
            record(counts, disk / "counts.zarr")
        there = logged(disk / "counts.zarr")
        assert 0 < there < FRAMES // 16
        subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
        np.testing.assert_array_equal(record(counts, disk / "counts.zarr")[:], counts)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_is_full_while_a_pass_keeps_its_state(tmp_path, counts):
    np.save(tmp_path / "movie.npy", counts)
    program = (
        "import resource, sys; from insitu import InputError; from insitu.files import results\n"
        "results._LEAST = 0\n"  # there is room at first
        "from insitu.streaming import measure\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))\n"
        "try:\n    measure(sys.argv[1], sys.argv[2], block=16, baseline=40)\n"
        "except InputError as error:\n    print(error); sys.exit(7)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "movie.npy"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "free some space" in done.stdout
    found = measure(tmp_path / "movie.npy", tmp_path / "out", block=16, baseline=40)
    same(found, measure(counts, tmp_path / "without", baseline=40))


def test_a_file_is_still_growing(tmp_path, counts):
    movie, output = tmp_path / "movie.tif", tmp_path / "counts.zarr"
    np.save(tmp_path / "all.npy", counts[:80])
    program = (
        "import sys, time, numpy, tifffile\n"
        "for frame in numpy.load(sys.argv[1]):\n"
        "    tifffile.imwrite(sys.argv[2], frame, append=True, metadata=None)\n"
        "    time.sleep(0.02)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "all.npy"), str(movie)]
    )
    said, store = [], None
    wait_for(lambda: movie.exists() and movie.stat().st_size > 20 * counts[0].size)
    while store is None or writer.poll() is None:
        try:
            store = record(movie, output)
        except InputError as error:
            said.append(str(error))
    store = record(movie, output)
    assert any("changed while it was read" in text or "truncated" in text for text in said)
    assert tifffile.imread(movie).shape == store.shape
    np.testing.assert_array_equal(store[:], counts[:80])


def test_two_clients_on_one_store(tmp_path, counts):
    output = tmp_path / "counts.zarr"
    first = client_of_its_own("record", output)
    wait_for(lambda: logged(output) >= 1)
    with pytest.raises(InputError, match="another run is writing"):
        record(SlowMovie(0), output)
    with pytest.raises(InputError, match="is not yet written"):
        open_store(output)[-16:]
    assert first.wait() == 0
    np.testing.assert_array_equal(open_store(output)[:], counts)
    assert logged(output) == FRAMES // 16  # each chunk once


def test_what_kills_every_worker_is_named(tmp_path):
    with (
        cluster(1) as workers,
        Client(workers) as client,
        pytest.raises(InputError, match="killed several workers"),
    ):
        measure(DeadlyMovie(), tmp_path / "out", client=client)
