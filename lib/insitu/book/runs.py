"""Runs of chapters: with which values, into which folder, and what a run took."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
import yaml
from papermill.exceptions import PapermillExecutionError

from insitu import InputError
from insitu.book import contents, freshness, parameters
from insitu.files import ResultsFolder, whole

_SENTENCES = ("InputError", "Unavailable")  # errors that are meant for the reader


def chapter_values(
    path: Path,
    preset: str | None = None,
    files: Sequence[str] = (),
    given: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Checked values for one chapter: of a preset, then of files, then of the command line.

    A file may serve several chapters: a name that only another chapter knows is passed over.

    Raises
    ------
    InputError
        On an unknown preset or name, a wrong type, or a value that is not allowed.
    """
    declared = parameters.declared_in(path)
    values: dict[str, Any] = {}
    if preset:
        source = path.parent / "presets" / f"{preset}.yml"
        if not source.is_file():
            known = ", ".join(sorted(p.stem for p in source.parent.glob("*.yml")))
            raise InputError(f"no preset {preset!r}; known are {known}")
        values |= _read_yaml(source).get(path.stem, {})
    parameters.check_names(values | dict(given), declared)
    for name in files:
        content = _read_yaml(Path(name))
        parameters.check_names(content, declared | _known_to_others(content, declared))
        values |= {key: value for key, value in content.items() if key in declared}
    checked = {key: declared[key].check(value) for key, value in values.items()}
    return checked | {key: declared[key].parse(text) for key, text in given}


def _known_to_others(
    content: Mapping[str, Any], declared: Mapping[str, parameters.Parameter]
) -> dict[str, parameters.Parameter]:
    if all(name in declared for name in content):
        return {}
    known: dict[str, parameters.Parameter] = {}
    for other in contents.chapters():
        known |= parameters.declared_in(other.path)
    return known


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected lines of 'name: value'")
    return content


def run_chapter(path: Path, values: Mapping[str, Any], *, progress: bool = True) -> dict[str, Any]:
    """Run a chapter into its folder of results.

    Returns
    -------
    dict
        The run's record (run.json), with the path of the executed notebook.

    Raises
    ------
    InputError
        If the chapter refuses its input (then nothing is written), or fails.
    """
    folder = contents.output_folder(path.stem, str(values.get("output_dir", ""))).resolve()
    sources = path.parent.resolve()
    if folder == sources or sources in folder.parents:
        raise InputError(f"output_dir: {folder} holds the sources of the book; choose another")
    results = ResultsFolder(folder)
    run = uuid.uuid4().hex
    with tempfile.TemporaryDirectory() as scratch, _named(run), TreeMemory() as memory:
        working = Path(scratch) / path.name
        try:
            papermill.execute_notebook(
                path,
                working,
                parameters=dict(values),
                kernel_name="python3",
                progress_bar=progress,
                extra_arguments=["--IPKernelApp.log_level=ERROR"],
            )
        except PapermillExecutionError as error:
            if error.ename in _SENTENCES:
                raise InputError(error.evalue) from None
            broken = results.write(
                f"{path.stem}.failed.ipynb", lambda file: shutil.copyfile(working, file)
            )
            raise InputError(
                f"failed with {error.ename}: {error.evalue} (cell {error.exec_count}); the "
                f"notebook up to there is {broken}"
            ) from None
        executed = nbformat.read(working, as_version=4)
    executed.metadata["insitu_run"] = run
    results.lock()
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))
        if record["run"] != run:
            raise InputError(
                f"output_dir: another run has written into {folder} meanwhile; choose another "
                f"folder"
            )
        record["peak_tree_mb"] = max(record["peak_memory_mb"], round(memory.peak / 1e6))
        results.write_json("run.json", record)
        notebook = results.write(path.name, lambda file: nbformat.write(executed, file))
    finally:
        results.unlock()
    return record | {"notebook": str(notebook)}


def refresh_page(path: Path) -> list[str]:
    """Run a page with its default values and put outputs and stamp into its source.

    Returns
    -------
    list of str
        The alt text of each figure that is not the same bytes as before.

    Raises
    ------
    InputError
        If the chapter fails, or did without something that the page is about.
    """
    before = set(pictures(nbformat.read(path, as_version=4)).values())
    with _two_cores():
        speed = processor_speed()
        record = run_chapter(path, {})
    executed = nbformat.read(record["notebook"], as_version=4)
    freshness.stamp_page(executed, record)
    executed.metadata["insitu"]["gflops"] = speed
    with whole(path) as unfinished:
        nbformat.write(executed, unfinished)
    drawn = pictures(executed)
    still = [png for png in drawn.values() if not png.startswith("<")]
    if still:  # the first one stands for the chapter, in the README and on the first page
        picture = contents.ROOT / "book" / "_static" / f"{path.stem}.png"
        picture.write_bytes(base64.b64decode(still[0]))
    return [alt for alt, picture in drawn.items() if picture not in before]


def pictures(notebook: Any) -> dict[str, str]:
    """Alt text and content of each figure of a page: a PNG in base64, or HTML."""
    outputs = [o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])]
    return {
        data.get("text/plain", ""): data.get("image/png") or data["text/html"]
        for data in outputs
        if "image/png" in data or "<figure" in data.get("text/html", "")
    }


def processor_speed() -> float:
    """Convolutions in float32 by two threads [Gflop/s], for which most chapters wait.

    With it a time that was measured on one machine tells of another.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    channels, side = 32, 256
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1)
    image = torch.ones(1, channels, side, side)
    times = []
    with torch.no_grad():
        for _ in range(20):
            begin = time.perf_counter()
            layer(image)
            times.append(time.perf_counter() - begin)
    torch.set_num_threads(before)
    return round(2e-9 * 9 * channels**2 * side**2 / min(times), 1)


class TreeMemory:
    """The most memory that this process and those it started held together, while it is open."""

    def __init__(self, every: float = 0.5) -> None:
        self.peak = 0  # [bytes]
        self._every = every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(self._every):
            me = psutil.Process()
            self.peak = max(self.peak, sum(map(_memory, [me, *me.children(recursive=True)])))

    def __enter__(self) -> TreeMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended meanwhile
        return 0


@contextmanager
def _named(run: str) -> Iterator[None]:
    """Let the chapter know the name of its run."""
    os.environ["INSITU_RUN"] = run
    try:
        yield
    finally:
        os.environ.pop("INSITU_RUN", None)


@contextmanager
def _two_cores() -> Iterator[None]:
    """Run on two cores, on which the cost of every page is measured, where one can choose."""
    before = os.sched_getaffinity(0) if sys.platform == "linux" else set()
    if before:
        os.sched_setaffinity(0, sorted(before)[:2])
    try:
        yield
    finally:
        if before:
            os.sched_setaffinity(0, before)
