"""What this machine has, and what will and will not run on it."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import nbformat
import psutil
import torch

from insitu import fetch
from insitu.book import contents, runs
from insitu.book.chapter import device_name, versions

_PACKAGES = ("jupyterlab", "papermill", "hyperspy", "abtem")
_CGROUPS = Path("/sys/fs/cgroup")


def examine() -> Iterator[str]:
    """Look at this machine, try a small chapter, and tell of every chapter whether it will run.

    The last line is READY, with the numbers of the chapters that will not run, if there are any.
    """
    available, total = memory_available()
    disk = shutil.disk_usage(contents.ROOT)
    packages = versions() | {name: metadata.version(name) for name in _PACKAGES}
    yield "packages    " + ", ".join(f"{k} {v}" for k, v in packages.items())
    speed = runs.processor_speed()
    threads = torch.get_num_threads()
    cores = device_name(torch.device("cpu"))
    yield f"processor   {cores}; torch uses {threads} of them; two do {speed:.0f} Gflop/s"
    yield f"memory      {available / 1e9:.1f} of {total / 1e9:.1f} GB are free"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; not needed"
    yield f"GPU         {gpu}"
    yield f"disk        {disk.free / 1e9:.1f} GB are free"
    yield f"data cache  {fetch.data_cache()}"
    for name in fetch.RECORDINGS:
        there = (fetch.data_cache() / name).is_file()
        yield f"            {name}: {'there' if there else 'not there, fetched when needed'}"
    path = contents.find_chapters(["02"])[0]
    yield f"trial       {path.stem} with the smoke preset ..."
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        values = runs.chapter_values(path, "smoke") | {"output_dir": folder}
        trial = runs.run_chapter(path, values, progress=False)
    yield f"            {time.perf_counter() - begin:.0f} s, {trial['peak_tree_mb']} MB: works"
    refused = []
    for each in contents.chapters():
        stamp = nbformat.read(each.path, as_version=4).metadata.get("insitu", {})
        told = outlook(stamp, available, disk.free, speed)
        if not told.startswith("will run"):
            refused.append(each.number)
        yield f"{each.name}: {told}"
    if not torch.cuda.is_available():
        yield "the gpu preset (training at paper scale): will not run here, it needs a GPU"
    yield f"READY, but for {', '.join(refused)}" if refused else "READY"


def outlook(stamp: Mapping[str, Any], memory: float, disk: float, speed: float) -> str:
    """Whether a chapter will run here, in words.

    Parameters
    ----------
    stamp : mapping
        Of its page.
    memory, disk : float
        What is free [bytes].
    speed : float
        `runs.processor_speed()` here [Gflop/s].
    """
    if not stamp:
        return "not run yet, so its cost is not known"
    megabytes = stamp["peak_tree_mb"]
    seconds = stamp["seconds"] * stamp["gflops"] / speed
    need = f"needs {megabytes} MB and about {seconds:.0f} s"
    if megabytes * 1e6 > memory:
        return f"will not run: {need}; close other programs"
    if disk < 2e8:
        return f"will not run: {need}, and the disk is almost full"
    return f"will run: {need}"


def memory_available() -> tuple[int, int]:
    """Memory that is free and that there is [bytes], within the limits of a container."""
    memory = psutil.virtual_memory()
    available, total = memory.available, memory.total
    for limit, used in _limits(_CGROUPS, Path("/proc/self/cgroup")):
        available, total = min(available, limit - used), min(total, limit)
    return max(available, 0), total


def _limits(cgroups: Path, own: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of the groups that this process is in, for both versions of cgroups."""
    new = (cgroups, "memory.max", "memory.current")
    old = (cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
    groups = [new, old]
    for line in own.read_text().splitlines() if own.is_file() else []:
        _, kinds, name = line.split(":", 2)
        if kinds in ("", "memory"):
            root, most, now = old if kinds else new
            inside = root / name.lstrip("/")
            groups += [(p, most, now) for p in (inside, *inside.parents) if root in p.parents]
    for folder, most, now in groups:
        text = (folder / most).read_text().strip() if (folder / most).is_file() else "max"
        if text.isdigit():
            yield int(text), int((folder / now).read_text())
