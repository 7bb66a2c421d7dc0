"""A chapter as Binder runs it: within 2 GB, how much memory, and how soon is there a picture?

    python tests/benchmarks/binder.py 01 02 05 06 07

Each chapter runs with its default values beside an idle JupyterLab, which counts, too. Where this
user may limit a group of processes (cgroups, either version), what exceeds 2 GB is killed, as it
is there; elsewhere it is only watched. CPU seconds are those of all processes together: on a
machine that has nothing else to do, about what one waits.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import papermill
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from insitu.book import contents, runs

LIMIT = 2_000_000_000
GROUPS = (  # a folder for a group of processes, and the file for its limit
    ("/sys/fs/cgroup/memory/insitu-binder", "memory.limit_in_bytes"),
    ("/sys/fs/cgroup/insitu-binder", "memory.max"),
)
SERVER = ("--no-browser", "--allow-root", "--ServerApp.port=0", "--IdentityProvider.token=x")


def limited_group():
    """Folder of a new group of processes with the limit, or None where that is not allowed."""
    for name, limit in GROUPS:
        folder = Path(name)
        try:
            folder.mkdir(exist_ok=True)
            (folder / limit).write_text(str(LIMIT))
        except OSError:
            continue
        return folder
    return None


def cpu_seconds():
    """Of this process and all that it started and that are still there."""
    me = psutil.Process()
    times = [p.cpu_times() for p in (me, *me.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def is_picture(output):
    data = output.get("data", {})
    return "image/png" in data or "<figure" in "".join(data.get("text/html", ""))


def one(number):
    """Run a chapter beside a server, in this process and its children; print what it took."""
    (path,) = contents.find_chapters([number])
    first = []
    with tempfile.TemporaryDirectory() as folder, runs.tree_memory() as memory:
        command = [sys.executable, "-m", "jupyterlab", *SERVER, f"--ServerApp.root_dir={folder}"]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        copy = Path(folder) / path.name
        given = {"output_dir": str(Path(folder) / "out")}
        papermill.execute_notebook(path, copy, given, prepare_only=True, progress_bar=False)
        begin, spent = time.monotonic(), cpu_seconds()

        def look(cell, **_):
            if not first and any(map(is_picture, cell.get("outputs", []))):
                first.append((time.monotonic() - begin, cpu_seconds() - spent))

        client = NotebookClient(nbformat.read(copy, as_version=4), on_cell_executed=look)
        said = ""
        try:
            client.execute()
        except DeadKernelError:
            said = "  KILLED"
        seconds, cpu = first[0] if first else (float("nan"), float("nan"))
        took = time.monotonic() - begin
        print(
            f"{path.stem:32s} picture after {seconds:5.1f} s ({cpu:5.1f} s CPU), all {took:5.0f} s,"
            f" {max(memory) / 1e6:6.0f} MB{said}",
            flush=True,
        )
        server.terminate()


def main(numbers):
    group = limited_group()
    print(f"limit {LIMIT / 1e9:g} GB, {'enforced' if group else 'watched only'}", flush=True)
    for number in numbers:
        child = subprocess.Popen(
            [sys.executable, __file__, "--one", number],
            preexec_fn=(lambda: (group / "cgroup.procs").write_text(str(os.getpid())))
            if group
            else None,
        )
        child.wait()
    if group:
        group.rmdir()


if __name__ == "__main__":
    one(sys.argv[2]) if sys.argv[1] == "--one" else main(sys.argv[1:])
