"""A chapter's parameters, results and provenance.

`start` checks the values of the parameters cell against its own declarations
(`insitu.book.parameters`), locks the folder of results and shows the values as a card;
`Page.finish` writes the results, and what they were made from.
"""

from __future__ import annotations

import ctypes
import html
import math
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from IPython import get_ipython
from IPython.display import HTML, display

from insitu import InputError, fetch, files
from insitu.book import contents, exercises, figures, freshness, tiles
from insitu.book.parameters import Parameter, check_names, declared_in, parse_parameters
from insitu.files import ResultsFolder
from insitu.learning.training import device_named

_PACKAGES = ("insitu-book", "torch", "numpy", "scipy", "matplotlib")


def start(name: str, namespace: dict[str, Any]) -> Page:
    """Check the parameters of a chapter and show them as a card.

    Parameters
    ----------
    name : str
        File name of the notebook without its ending.
    namespace : dict
        The notebook's `globals()`. Values are put back in their declared type.

    Raises
    ------
    InputError
        On an unknown name, a wrong type, a value that is not allowed, or a folder of results
        that another run is writing into.
    """
    history = [str(cell) for cell in namespace.get("In", [])]
    cells = [cell for cell in history if "output_dir: str" in cell]
    if cells:
        declared = parse_parameters(cells[-1])
    else:
        declared = declared_in(contents.ROOT / "notebooks" / f"{name}.ipynb")
    if any(key not in namespace for key in declared):
        raise InputError("run the parameters cell first, it is the second cell of the page")
    for cell in history:
        if cell.startswith("# Parameters"):  # the cell that papermill puts in
            check_names(re.findall(r"^(\w+) = ", cell, re.MULTILINE), declared)
    values = {key: p.check(namespace[key]) for key, p in declared.items()}
    namespace.update(values)
    figures.style()
    give_memory_back()
    number = name.partition("-")[0].lstrip("0")
    tiles.begin(f"{number}." if number[:1].isdigit() else "")
    page = Page(name, values, namespace)
    page.results.lock()
    display(HTML(_card(name, declared, values)))
    return page


class Page:
    """A running chapter: its device, its random generators, and where its results go."""

    def __init__(self, name: str, values: Mapping[str, Any], namespace: Mapping[str, Any]) -> None:
        self.name = name
        self.namespace = namespace
        self.values = dict(values)
        self.device = device_named(self.values.get("device", "auto"))
        seed = int(self.values.get("seed", 0))
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        folder = contents.output_folder(name, self.values.get("output_dir", ""))
        self.results = ResultsFolder(folder)
        self.folder = self.results.path
        self.incomplete = ""  # why this run does not show all that the page is about
        self._begin = time.perf_counter()

    def write(self, name: str, writer: Callable[[Path], Any]) -> Path:
        """Write a file or a store into the output folder; see `files.ResultsFolder.write`."""
        return self.results.write(name, writer)

    def check(self, exercise: str, answer: Any) -> None:
        """Say whether a reader's number answers an exercise; see `exercises.verdict`."""
        exercises.check(exercise, answer, self.namespace)

    def finish(self, results: Mapping[str, float]) -> None:
        """Write results.json and run.json, show every result, let go.

        A notebook that an earlier run left in the folder goes, since its results are gone too.

        Raises
        ------
        ValueError
            If a result is not a finite number.
        """
        numbers = {key: float(value) for key, value in results.items()}
        bad = [key for key, value in numbers.items() if not math.isfinite(value)]
        if bad:
            raise ValueError(f"results that are no finite numbers: {', '.join(bad)}")
        run = {
            "chapter": self.name,
            "run": os.environ.get("INSITU_RUN", ""),  # `insitu run` knows its own by it
            "parameters": self.values,
            "device": device_name(self.device),
            "seconds": round(time.perf_counter() - self._begin, 1),
            "peak_memory_mb": round(peak_memory() / 1e6),
            "versions": versions(),
            "data": fetch.files_read(),
            "modules": freshness.modules_now(),
            "incomplete": self.incomplete or "; ".join(fetch.not_to_be_had()),
        }
        notebook = self.folder / f"{self.name}.ipynb"
        if freshness.was_run(notebook):
            files.remove(notebook)
        files.remove(self.folder / "run.json")  # whole results have a run.json beside them
        self.results.write_json("results.json", numbers)
        self.results.write_json("run.json", run)
        self.results.unlock()
        rows = "".join(
            f"<tr><td><code>{html.escape(k)}</code></td><td>{v:.6g}</td></tr>"
            for k, v in numbers.items()
        )
        page = (
            '<details class="insitu-results"><summary>All numbers of this run</summary>'
            f"<table><tbody>{rows}</tbody></table></details>"
        )
        text = "\n".join(f"{k} {v:.6g}" for k, v in numbers.items())
        display({"text/html": page, "text/plain": text}, raw=True)


def give_memory_back() -> None:
    """Let the C library give back after each cell what the cell has freed, where it is glibc.

    It would keep blocks of up to 32 MB for later, and a page would hold a quarter more than it
    needs.
    """
    shell = get_ipython()
    if platform.libc_ver()[0] == "glibc" and shell:
        shell.events.register("post_run_cell", _trim)


def _trim(_: Any = None) -> None:
    ctypes.CDLL(None).malloc_trim(0)


def peak_memory() -> int:
    """Largest memory that this process has held [bytes]."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(found[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {p: metadata.version(p) for p in _PACKAGES}


def device_name(device: torch.device) -> str:
    """The device in words."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return f"CPU, {cores} cores"


def _card(name: str, declared: Mapping[str, Parameter], values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{key}</code></td>"
        f"<td><code>{html.escape(repr(values[key]))}</code>"
        f"{'' if values[key] == p.default else ' (changed)'}</td>"
        f"<td>{html.escape(p.help)}</td><td>{html.escape(p.allowed)}</td></tr>"
        for key, p in declared.items()
    )
    changed = {k: v for k, v in values.items() if v != declared[k].default}
    example = changed or {next(iter(declared)): values[next(iter(declared))]}
    options = " ".join(f"-p {k} {shlex.quote(str(v))}" for k, v in example.items())
    line = f"papermill notebooks/{name}.ipynb out.ipynb {options}"
    return (
        '<details class="insitu-card"><summary>Parameters of this page, and how to set them'
        "</summary><table><thead><tr><th>parameter</th><th>value</th>"
        f"<th>meaning</th><th>allowed</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<p>Run this page with your own values:</p><pre>{html.escape(line)}</pre></details>"
    )
