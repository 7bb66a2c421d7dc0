"""Runs of chapters: with which values, into which folder, and what a run took."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import tempfile
import threading
import timeit
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from csv import DictWriter
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
import yaml
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from PIL import Image, ImageOps

from insitu import InputError, fetch
from insitu.book import contents, freshness, parameters, prose
from insitu.files import ResultsFolder, whole
from insitu.streaming.tasks import in_order

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
        values |= _read_yaml(source).get(path.stem) or {}
    parameters.check_names(values | dict(given), declared)
    for file in files:
        content = _read_yaml(Path(file))
        anywhere = dict(declared)
        if not anywhere.keys() >= content.keys():
            for chapter in contents.chapters():
                anywhere |= parameters.declared_in(chapter.path)
        parameters.check_names(content, anywhere)
        values |= {key: value for key, value in content.items() if key in declared}
    checked = {key: declared[key].read(value) for key, value in values.items()}
    return checked | {key: declared[key].parse(text) for key, text in given}


def _read_yaml(path: Path) -> dict[str, Any]:
    """Names and what is written behind them, as text: to YAML 1e-1 is a word, and 10:50 is 650."""
    try:
        content = yaml.load(path.read_text("utf-8-sig"), yaml.BaseLoader)
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
    run = os.environ["INSITU_RUN"] = uuid.uuid4().hex  # by which the record is known
    with _scratch() as scratch, tree_memory() as memory:
        working = scratch / path.name
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
            kept = _kept(results, f"{path.stem}.failed.ipynb", working)
            raise InputError(
                f"failed with {error.ename}: {error.evalue} (cell {error.exec_count}){kept}"
            ) from None
        except (DeadKernelError, RuntimeError) as error:
            kept = _kept(results, f"{path.stem}.failed.ipynb", working)
            most = round(max(memory) / 1e6)
            raise InputError(
                f"its kernel was killed, as where memory runs out, after {most} MB were held "
                f"({str(error).splitlines()[0][:80]}); free some memory, or take smaller "
                f"values{kept}"
            ) from None
        executed = nbformat.read(working, as_version=4)
    executed.metadata["insitu_run"] = run
    results.lock()
    try:
        record = _record(folder)
        if record.get("run") != run:
            raise InputError(
                f"output_dir: another run has written into {folder} meanwhile; choose another "
                f"folder"
            )
        prose.write_numbers(executed, json.loads((folder / "results.json").read_text("utf-8")))
        record["peak_tree_mb"] = max(record["peak_memory_mb"], round(max(memory) / 1e6))
        results.write_json("run.json", record)
        notebook = results.write(path.name, lambda file: nbformat.write(executed, file))
    finally:
        results.unlock()
    return record | {"notebook": str(notebook)}


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for the notebook while it runs.

    Raises
    ------
    InputError
        If the disk is full, or nothing can be written.
    """
    try:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
    except OSError as error:
        raise InputError(
            f"a file could not be written or read ({error.strerror or error}: "
            f"{error.filename or tempfile.gettempdir()}); free some space or choose another folder"
        ) from None


def _kept(results: ResultsFolder, name: str, working: Path) -> str:
    """Keep the notebook of a run that failed, if that can be done; where it is, in words."""
    if not working.is_file():
        return ""
    try:
        results.lock()
    except InputError:  # another run's folder by now
        return ""
    try:
        broken = results.write(name, lambda file: shutil.copyfile(working, file))
    except InputError as reason:
        return f"; {reason}"
    finally:
        results.unlock()
    return f"; the notebook up to there is {broken}"


def _record(folder: Path) -> dict[str, Any]:
    """What a run wrote at its end."""
    try:
        record: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"output_dir: the record run.json in {folder} is missing or broken; run it again"
        ) from None
    return record


def sweep(
    path: Path, values: Mapping[str, Any], name: str, swept: Sequence[Any], client: Any = None
) -> Path:
    """Run a chapter for each value of one parameter, and gather the results.

    Each run has a folder of its own beside `sweep.csv`, one row a value, and `sweep.png`, in which
    each result that changes is drawn.

    Parameters
    ----------
    path : Path
        Of the chapter.
    values : mapping
        Checked values of its other parameters.
    name : str
        Of the parameter.
    swept : sequence
        Its values, checked.
    client : dask.distributed.Client, optional
        Whose workers run them, with one thread each; without one they run one after the other.

    Returns
    -------
    Path
        Of the folder.
    """
    folder = contents.output_folder(path.stem, str(values.get("output_dir", ""))).resolve()
    folders = [folder / f"{name}={value}" for value in swept]
    tasks = [
        (path, dict(values) | {name: value, "output_dir": str(where)})
        for value, where in zip(swept, folders, strict=True)
    ]
    for _ in in_order(partial(run_chapter, progress=False), tasks, client):
        pass
    rows = [json.loads((where / "results.json").read_text("utf-8")) for where in folders]
    metrics = list(dict.fromkeys(key for row in rows for key in row if key != name))
    with whole(folder / "sweep.csv") as table, table.open("w", newline="", encoding="utf-8") as csv:
        writer = DictWriter(csv, [name, *metrics])
        writer.writeheader()
        writer.writerows(row | {name: value} for row, value in zip(rows, swept, strict=True))
    changing = [m for m in metrics if len({row.get(m) for row in rows}) > 1]
    _draw(folder / "sweep.png", name, swept, {m: [r.get(m) for r in rows] for m in changing})
    return folder


def _draw(
    path: Path, name: str, swept: Sequence[Any], results: Mapping[str, Sequence[Any]]
) -> None:
    """One small diagram for each result."""
    from matplotlib.figure import Figure

    count = max(1, len(results))
    columns = min(4, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(2.6 * columns, 2.1 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    numbers = all(type(value) in (int, float) for value in swept)
    for axis, (metric, found) in zip(axes, results.items(), strict=False):
        axis.plot(swept if numbers else [str(value) for value in swept], found, "o-", ms=4)
        axis.set_title(metric, fontsize=8)
        axis.tick_params(labelsize=7)
        if numbers and min(swept) > 0 and max(swept) >= 10 * min(swept):
            axis.set_xscale("log")
    for axis in axes[len(results) :]:
        axis.set_axis_off()
    figure.supxlabel(name, fontsize=9)
    with whole(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=120)


def refresh_page(path: Path) -> list[str]:
    """Run a page with its default values and put outputs and stamp into its source.

    Returns
    -------
    list of str
        Number and caption of each figure that is not the same as before.

    Raises
    ------
    InputError
        If the chapter fails, or did without something that the page is about; before it runs,
        if a recording that the page has read cannot be had any more.
    """
    page = nbformat.read(path, as_version=4)
    for name in page.metadata.get("insitu", {}).get("data", {}):
        if name in fetch.RECORDINGS:
            fetch.recording(name)
    before = set(pictures(page).values())
    speed = processor_speed()
    record = run_chapter(path, {})
    executed = nbformat.read(record["notebook"], as_version=4)
    freshness.stamp_page(executed, record)
    executed.metadata["insitu"]["gflops"] = speed
    with whole(path) as unfinished:
        nbformat.write(executed, unfinished)
    results = json.loads(Path(record["notebook"]).with_name("results.json").read_text("utf-8"))
    prose.write_elsewhere(contents.ROOT / "book", path.stem.partition("-")[0], results)
    drawn = pictures(executed)
    still = [page for page in drawn.values() if "insitu-view" in page]
    still.sort(key=lambda page: "data-pixels" not in page)  # pictures before plots
    if still:  # the first one stands for the chapter, in the README and on the first page
        thumbnail(still[0]).save(contents.ROOT / "book" / "_static" / f"{path.stem}.png")
    return [words for words, picture in drawn.items() if picture not in before]


def pictures(notebook: Any) -> dict[str, str]:
    """Number and caption of each figure of a page, and its HTML."""
    outputs = [o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])]
    return {
        data["text/plain"]: data["text/html"]
        for data in outputs
        if "<figure" in data.get("text/html", "")
    }


def thumbnail(page: str, wide: int = 432, high: int = 240) -> Image.Image:
    """The first two panels of a figure side by side in one picture, or its only one."""
    found = re.findall(r'<img[^>]*src="data:image/png;base64,([^"]+)"', page)[:2]
    panels = [Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB") for png in found]
    joined = Image.new("RGB", (wide, high), "white")
    each = (wide - 4 * (len(panels) - 1)) // len(panels)
    for number, panel in enumerate(panels):
        own = ImageOps.fit(panel, (each, high), Image.Resampling.BOX)  # the middle of it
        joined.paste(own, (number * (each + 4), 0))
    return joined


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
    with torch.no_grad():
        times = timeit.repeat(lambda: layer(image), number=1, repeat=20)
    torch.set_num_threads(before)
    return round(2e-9 * 9 * channels**2 * side**2 / min(times), 1)


@contextmanager
def tree_memory(every: float = 0.5) -> Iterator[list[int]]:
    """Watch what this process and those it started hold together [bytes], while it is open."""
    seen = [0]
    done = threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not done.wait(every):
            with suppress(psutil.Error):  # one of them has ended meanwhile
                tree = [me, *me.children(recursive=True)]
                seen.append(sum(process.memory_info().rss for process in tree))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
