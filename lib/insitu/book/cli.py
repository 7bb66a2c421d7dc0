"""The `insitu` command: run chapters, refresh stale pages, and tell what will run here."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import nbformat
import papermill
import psutil
import torch
import yaml
from papermill.exceptions import PapermillExecutionError

from insitu import InputError, fetch
from insitu.book import chapter, freshness, parameters, publish

NOTEBOOKS = fetch.ROOT / "notebooks"
_SENTENCES = ("InputError", "Unavailable")  # errors that are meant for the reader


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: takes `-p name=value` as well as papermill's `-p name value`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words: list[str] = []
    for word in given:
        name, equals, value = word.partition("=")
        if words and words[-1] in ("-p", "--parameter") and equals and name.isidentifier():
            words += [name, value]
        else:
            words.append(word)
    try:
        group(words, prog_name="insitu")
    except InputError as error:
        click.echo(f"insitu: {error}", err=True)
        raise SystemExit(2) from None


@click.group()
def group() -> None:
    """AI for in situ electron microscopy: run the book's chapters with your own values."""


@group.command()
@click.argument("chapters", nargs=-1, required=True)
@click.option("--preset", help="A file of notebooks/presets: smoke or gpu.")
@click.option("-p", "--parameter", "given", nargs=2, multiple=True, metavar="NAME VALUE")
@click.option("-f", "--file", "files", multiple=True, help="A YAML file of parameters.")
def run(
    chapters: tuple[str, ...],
    preset: str | None,
    given: tuple[tuple[str, str], ...],
    files: tuple[str, ...],
) -> None:
    """Run CHAPTERS by number or name, one after the other; 'all' runs every one."""
    jobs = [(path, _parameters(path, preset, files, given)) for path in find_chapters(chapters)]
    rows, failed = [], False
    for path, values in jobs:
        begin = time.perf_counter()
        try:
            record, note = run_chapter(path, values), "ok"
        except InputError as error:
            record, note, failed = {}, str(error), True
            click.echo(f"{path.stem}: {error}", err=True)
        rows.append((path.stem, time.perf_counter() - begin, record, note))
    click.echo(f"{'chapter':28s} {'seconds':>8s} {'peak MB':>8s}  {'device':20s} result")
    for name, seconds, record, note in rows:
        memory, device = record.get("peak_memory_mb", "-"), record.get("device", "-")
        result = record.get("notebook", note)
        click.echo(f"{name:28s} {seconds:8.1f} {memory!s:>8s}  {device:20s} {result}")
    if failed:
        raise SystemExit(1)


@group.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if a page is stale.")
def refresh(check: bool) -> None:
    """Run the pages whose code, library or data have changed, with their default values."""
    stale = [p for p in sorted(NOTEBOOKS.glob("*.ipynb")) if not freshness.is_fresh(p)]
    for path in publish.sync(fetch.ROOT, write=not check):
        click.echo(f"not in step with the public address: {path.relative_to(fetch.ROOT)}")
        if check:
            raise SystemExit(1)
    if check:
        for path in stale:
            click.echo(f"stale: {path.stem} (run `insitu refresh`)")
        raise SystemExit(1 if stale else 0)
    for path in stale:
        refresh_page(path)
    click.echo(f"{len(stale)} pages refreshed" if stale else "every page is fresh")


@group.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--count", default=900, show_default=True, help="Structures.")
@click.option("--seed", default=0, show_default=True, help="Of the structures.")
@click.option("--workers", type=int, help="Threads; by default one for each core.")
def bank(path: Path, count: int, seed: int, workers: int | None) -> None:
    """Simulate a bank of exit waves, or go on with one that was interrupted."""
    from insitu.simulate.bank import make_bank

    click.echo(make_bank(path, count, seed=seed, workers=workers))


@group.command()
def doctor() -> None:
    """Tell what this machine has, and what will and will not run on it."""
    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(fetch.ROOT)
    cores = len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else os.cpu_count()
    click.echo("packages    " + ", ".join(f"{k} {v}" for k, v in _versions().items()))
    click.echo(f"processor   {cores} cores; torch uses {torch.get_num_threads()} of them")
    click.echo(f"memory      {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB are free")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; not needed"
    click.echo(f"GPU         {gpu}")
    click.echo(f"disk        {disk.free / 1e9:.1f} GB are free")
    click.echo(f"data cache  {fetch.data_cache()}")
    for name in fetch.RECORDINGS:
        there = (fetch.data_cache() / name).is_file()
        click.echo(f"            {name}: {'there' if there else 'not there, fetched when needed'}")
    path = find_chapters(["02"])[0]
    click.echo(f"trial       {path.stem} with the smoke preset ...")
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        values = _parameters(path, "smoke", (), ()) | {"output_dir": folder}
        trial = run_chapter(path, values, progress=False)
    click.echo(
        f"            {time.perf_counter() - begin:.0f} s, {trial['peak_memory_mb']} MB: works"
    )
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        stamp = nbformat.read(notebook, as_version=4).metadata.get("insitu", {})
        click.echo(f"{notebook.stem}: {_outlook(stamp, memory.available, disk.free)}")
    if not torch.cuda.is_available():
        click.echo("the gpu preset (training at paper scale): will not run here, it needs a GPU")


def find_chapters(names: Sequence[str]) -> list[Path]:
    """Paths of chapters given by number ('2', '02'), name, or 'all'.

    Raises
    ------
    InputError
        With the known chapters.
    """
    known = sorted(NOTEBOOKS.glob("*.ipynb"))
    if not known:
        raise InputError(f"no chapters in {NOTEBOOKS}; run this from a clone of the book")
    found: list[Path] = []
    for name in names:
        number = name.zfill(2) + "-"
        hits = [
            p
            for p in known
            if name in ("all", p.stem, p.name) or (name.isdigit() and p.stem.startswith(number))
        ]
        if not hits:
            raise InputError(f"no chapter {name!r}; known are {', '.join(p.stem for p in known)}")
        found += [p for p in hits if p not in found]
    return found


def run_chapter(path: Path, values: Mapping[str, Any], *, progress: bool = True) -> dict[str, Any]:
    """Run a chapter into its output folder.

    Returns
    -------
    dict
        The run's record (run.json), with the path of the executed notebook.

    Raises
    ------
    InputError
        If the chapter refuses its input (then nothing is written), or fails.
    """
    folder = chapter.output_folder(path.stem, str(values.get("output_dir", ""))).resolve()
    if folder == NOTEBOOKS.resolve() or NOTEBOOKS.resolve() in folder.parents:
        raise InputError(f"output_dir: {folder} holds the sources of the book; choose another")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output_dir: {folder} is a file; choose a folder")
    with tempfile.TemporaryDirectory() as scratch:
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
            folder.mkdir(parents=True, exist_ok=True)
            broken = folder / f"{path.stem}.failed.ipynb"
            shutil.copyfile(working, broken)
            raise InputError(
                f"failed with {error.ename}: {error.evalue} (cell {error.exec_count}); the "
                f"notebook up to there is {broken}"
            ) from None
        unfinished = folder / f".part-{path.name}"
        shutil.copyfile(working, unfinished)
        unfinished.replace(folder / path.name)
    record: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))
    return record | {"notebook": str(folder / path.name)}


def refresh_page(path: Path) -> None:
    """Run a page with its default values and put outputs and stamp into its source."""
    click.echo(f"running {path.stem}")
    record = run_chapter(path, {})
    if record["incomplete"]:
        raise InputError(f"{path.stem} is left as it was: {record['incomplete']}")
    executed = nbformat.read(record["notebook"], as_version=4)
    freshness.stamp_page(executed, record)
    unfinished = path.with_name(f".part-{path.name}")
    nbformat.write(executed, unfinished)
    unfinished.replace(path)
    pictures = [
        output["data"]["image/png"]
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    if pictures:  # the first one stands for the chapter, in the README and on the first page
        picture = fetch.ROOT / "book" / "_static" / f"{path.stem}.png"
        picture.write_bytes(base64.b64decode(pictures[0]))


def _parameters(
    path: Path, preset: str | None, files: Sequence[str], given: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Checked parameters of one chapter: preset, then files, then the command line."""
    declared = parameters.declared_in(path)
    values: dict[str, Any] = {}
    if preset:
        source = NOTEBOOKS / "presets" / f"{preset}.yml"
        if not source.is_file():
            known = ", ".join(sorted(p.stem for p in source.parent.glob("*.yml")))
            raise InputError(f"no preset {preset!r}; known are {known}")
        values |= _read_yaml(source).get(path.stem, {})
    for name in files:
        values |= _read_yaml(Path(name))
    parameters.check_names(values | dict(given), declared)
    checked = {key: declared[key].check(value) for key, value in values.items()}
    return checked | {key: declared[key].parse(text) for key, text in given}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected lines of 'name: value'")
    return content


def _outlook(stamp: Mapping[str, Any], memory: float, disk: float) -> str:
    """Whether a chapter will run here, in words."""
    if not stamp:
        return "not run yet, so its cost is not known"
    need = (
        f"needs {stamp['peak_memory_mb']} MB and took {stamp['seconds']:.0f} s on {stamp['device']}"
    )
    if stamp["peak_memory_mb"] * 1e6 > memory:
        return f"will not run: {need}; close other programs"
    if disk < 2e8:
        return f"will not run: {need}, and the disk is almost full"
    return f"will run: {need}"


def _versions() -> dict[str, str]:
    names = ("jupyter-book", "jupyterlab", "papermill", "hyperspy", "abtem")
    found = chapter.versions()
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
