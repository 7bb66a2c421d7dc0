"""The `insitu` command. What a command needs is imported when it runs, so that help is quick."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from insitu import InputError


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    # threads that wait give their core away: two programs on two cores else take ten times as long
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    warnings.showwarning = _say  # type: ignore[assignment]
    words = split_values(sys.argv[1:] if arguments is None else arguments)
    try:
        raise SystemExit(group.main(words, prog_name="insitu", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    except InputError as error:
        click.echo(f"insitu: {error}", err=True)
        raise SystemExit(2) from None
    except (click.Abort, KeyboardInterrupt):
        click.echo("insitu: stopped; the same command goes on or begins again", err=True)
        raise SystemExit(130) from None


def _say(message: Warning | str, *_: Any) -> None:
    """A warning, as one line."""
    click.echo(f"insitu: {message}", err=True)


def split_values(arguments: Sequence[str]) -> list[str]:
    """Write `-p name=value` as papermill does, `-p name value`; both are understood.

    >>> split_values(["run", "02", "-p", "dose=4"])
    ['run', '02', '-p', 'dose', '4']
    """
    words: list[str] = []
    for word in arguments:
        name, equals, value = word.partition("=")
        if words and words[-1] in ("-p", "--parameter") and equals and name.isidentifier():
            words += [name, value]
        else:
            words.append(word)
    return words


@click.group()
def group() -> None:
    """AI for in situ electron microscopy: denoise, judge, measure and reconstruct your own files.

    And run the book's chapters with your own values.
    """


_MOVIE = [
    click.Option(["--pixel-size"], default=0.0, metavar="ANGSTROM", help="If the file tells none."),
    click.Option(["--frame-time"], default=0.0, metavar="SECONDS", help="If the file tells none."),
    click.Option(["--frames"], default="", metavar="FIRST:LAST", help="Part in time."),
    click.Option(["--crop"], default="", metavar="Y0:Y1,X0:X1", help="Part in pixels."),
    click.Option(["--sum-frames"], default=0, metavar="N", help="Sum each N; .eer needs it."),
]
_RUN = [
    click.Option(["--output"], metavar="DIR", help="Of results; _results/COMMAND by default."),
    click.Option(["--device"], default="auto", show_default=True, help="auto, cpu or cuda."),
    click.Option(["--seed"], default=0, show_default=True, help="Of every random number."),
]


@group.command(params=[*_MOVIE, *_RUN[:1]])
@click.argument("file")
def look(file: str, **options: Any) -> None:
    """Tell what FILE is, which methods apply to it, and why; mend what can be mended."""
    _do("look", file, say=_findings, **options)


@group.command(params=[*_MOVIE, *_RUN])
@click.argument("file")
@click.option("--with-simulation", is_flag=True, help="By the shipped network, in its range.")
@click.option("--steps", default=0, help="Of training; 300 by default.")
def everything(file: str, **options: Any) -> None:
    """Look at FILE, denoise, judge and measure it: all that chapter 11 does, and one report."""
    _do("everything", file, **options)


@group.command(params=[*_MOVIE, *_RUN])
@click.argument("file")
@click.option("--with-simulation", is_flag=True, help="By the shipped network, not trained on it.")
@click.option("--halves", is_flag=True, help="Learn for minutes, from halves of its electrons.")
@click.option(
    "--network", default="", metavar="FILE", help="A denoiser.safetensors, learned before."
)
@click.option("--also", default="", metavar="FORMATS", help="Besides tif: zarr, hspy.")
@click.option("--steps", default=0, help="Of training; 300 by default, 2000 with --halves.")
def denoise(file: str, **options: Any) -> None:
    """Denoise FILE, a movie of counts, by a network trained on it alone."""
    _do("denoise", file, **options)


@group.command(params=[*_MOVIE, *_RUN])
@click.argument("raw")
@click.argument("denoised")
@click.option("--evidence", default="", metavar="FILE", help="Independent frames of the same.")
@click.option("--vacuum", default="", metavar="Y0:Y1,X0:X1", help="A box without specimen.")
def judge(raw: str, denoised: str, **options: Any) -> None:
    """Judge DENOISED, by whatever program, by the counts of RAW."""
    _do("judge", raw, denoised, **options)


@group.command(params=[*_MOVIE, *_RUN[:2]])
@click.argument("file")
@click.option("--denoised", default="", metavar="FILE", help="The same, by whatever program.")
def measure(file: str, **options: Any) -> None:
    """Name the columns in FILE, a movie of counts, and tell what happened to them and when."""
    _do("measure", file, **options)


@group.command(params=[*_RUN])
@click.argument("series")
@click.option("--angles", default="", metavar="FILE", help="Tilt angles, and times behind them.")
@click.option("--axis", default="auto", show_default=True, help="Along what the tilt axis runs.")
@click.option("--bins", default=1, show_default=True, help="Detector pixels that are summed.")
@click.option("--steps", default=500, show_default=True, help="Of the fit.")
@click.option("--members", default=3, show_default=True, help="Fits whose scatter is the error.")
@click.option("--steady", default=0.0, show_default=True, help="Weight of change between tilts.")
@click.option("--variation", default=0.5, show_default=True, help="Weight of total variation.")
@click.option(
    "--contrast",
    default=0.0,
    show_default=True,
    help="Of two metals that mix; 0 lets anything change.",
)
@click.option(
    "--waves", default=1.0, show_default=True, help="Highest frequency in time, periods a series."
)
def reconstruct(series: str, **options: Any) -> None:
    """Reconstruct a volume for every moment of SERIES, a tilt series."""
    _do("reconstruct", series, **options)


@group.command(params=[*_MOVIE[:2], *_RUN[:2]])
@click.argument("file")
@click.option("--workers", default=1, show_default=True, help="Processes that share the work.")
@click.option("--cluster", default="", metavar="ADDRESS", help="Of a dask scheduler, instead.")
@click.option("--denoiser", default="", metavar="NAME", help="Such as restorer; none only counts.")
@click.option("--keep/--no-keep", default=True, help="Write the denoised frames, 4 bytes a pixel.")
@click.option("--columns", is_flag=True, help="Find columns in each denoised block.")
@click.option("--compressed", is_flag=True, help="Copy the counts into counts.zarr first.")
@click.option("--block", default=64, show_default=True, help="Frames that are held at once.")
@click.option("--baseline", default=200, show_default=True, help="Frames before any alarm.")
@click.option("--plan", "only_plan", is_flag=True, help="Say what it will take, and stop.")
def stream(
    file: str,
    output: str | None,
    workers: int,
    cluster: str,
    only_plan: bool,
    **options: Any,
) -> None:
    """Measure, and denoise, FILE, a movie of counts of any size, in one pass over its blocks.

    First says what that will take, by short runs.
    """
    from insitu.streaming import command

    output = output or "_results/stream"
    with command.workers_of(workers, cluster) as client:
        short = {k: options[k] for k in ("denoiser", "pixel_size", "block", "device")}
        click.echo(command.plan(file, client=client, **short))
        if only_plan:
            return
        command.stream(file, output, client=client, **options)
    click.echo(f"results are in {output}; {Path(output) / 'report.html'} shows them")


def _do(
    task: str,
    *files: str,
    output: str | None,
    say: Callable[[Path], None] | None = None,
    **options: Any,
) -> None:
    """Do what `insitu.own` does to files of one's own, and say what came of it."""
    output = output or f"_results/{task}"
    getattr(import_module("insitu.own"), task)(*files, output, **options)
    if say:
        say(Path(output))
    click.echo(f"results are in {output}; {Path(output) / 'report.html'} shows them")


def _findings(folder: Path) -> None:
    """What was found in a file, and what may be done with it."""
    for found in json.loads((folder / "findings.json").read_text("utf-8")):
        click.echo(f"{found['question']}\n    {found['answer']}")
    click.echo("What may be done with it?")
    for method in json.loads((folder / "advice.json").read_text("utf-8")):
        click.echo(
            f"    {'yes' if method['applies'] else 'no '}  {method['method']}: {method['why']}"
        )


@group.command()
@click.argument("chapters", nargs=-1, required=True)
@click.option("--preset", help="A file of notebooks/presets: smoke or gpu.")
@click.option("-p", "--parameter", "given", nargs=2, multiple=True, metavar="NAME VALUE")
@click.option("-f", "--file", "files", multiple=True, help="A YAML file of parameters.")
@click.option("--sweep", metavar="NAME=A,B,C", help="Run once for each value; gather the results.")
@click.option("--cluster", metavar="ADDRESS", help="Of a dask scheduler that does a sweep.")
def run(
    chapters: tuple[str, ...],
    preset: str | None,
    given: tuple[tuple[str, str], ...],
    files: tuple[str, ...],
    sweep: str | None,
    cluster: str | None,
) -> None:
    """Run CHAPTERS by number or name, one after the other; 'all' runs every one."""
    from insitu.book import contents, runs

    paths = contents.find_chapters(chapters)
    if cluster and not sweep:
        raise InputError("cluster: is for a sweep; give --sweep, too")
    if sweep:
        _sweep(paths, runs.chapter_values(paths[0], preset, files, given), sweep, cluster)
        return
    jobs = [(path, runs.chapter_values(path, preset, files, given)) for path in paths]
    rows: list[tuple[str, float, dict[str, Any], str]] = []
    failed = False
    for path, values in jobs:
        if len(jobs) > 1 and values.get("output_dir"):
            values["output_dir"] = str(Path(values["output_dir"]) / path.stem)
        begin = time.perf_counter()
        try:
            record, note = runs.run_chapter(path, values), "ok"
        except InputError as error:
            record, note, failed = {}, str(error), True
            click.echo(f"{path.stem}: {error}", err=True)
        except KeyboardInterrupt:
            rows.append((path.stem, time.perf_counter() - begin, {}, "stopped"))
            _table(rows)
            raise
        rows.append((path.stem, time.perf_counter() - begin, record, note))
    _table(rows)
    if failed:
        raise SystemExit(1)


def _table(rows: Sequence[tuple[str, float, dict[str, Any], str]]) -> None:
    """What each chapter took."""
    click.echo(f"{'chapter':28s} {'seconds':>8s} {'peak MB':>8s}  {'device':20s} result")
    for name, seconds, record, note in rows:
        memory, device = record.get("peak_tree_mb", "-"), record.get("device", "-")
        result = record.get("notebook", note)
        click.echo(f"{name:28s} {seconds:8.1f} {memory!s:>8s}  {device:20s} {result}")


def _sweep(paths: list[Path], values: dict[str, Any], text: str, cluster: str | None) -> None:
    """Run a chapter for each value of `name=a,b,c`, here or by the workers of a cluster."""
    from insitu.book import parameters, runs

    name, _, listed = text.partition("=")
    if len(paths) != 1 or not listed:
        raise InputError("sweep: give one chapter, and values as name=a,b,c")
    declared = parameters.declared_in(paths[0])
    parameters.check_names([name], declared)
    swept = [declared[name].parse(value) for value in listed.split(",")]
    if name == "output_dir" or len(set(swept)) < len(swept):
        raise InputError(f"sweep: {name} cannot be swept over {listed}; take different values")
    client: Any = nullcontext()
    if cluster:
        from dask.distributed import Client

        client = Client(cluster)
    with client as workers:
        folder = runs.sweep(paths[0], values, name, swept, workers)
    click.echo(f"{folder / 'sweep.csv'} has a row for each value, sweep.png draws them")


@group.command()
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if a page is stale.")
def refresh(check: bool) -> None:
    """Run the pages whose code, library, data or outputs have changed, with default values."""
    from insitu.book import contents, freshness

    stale = [c.path for c in contents.chapters() if not freshness.is_fresh(c.path)]
    if check:
        for path in stale:
            click.echo(f"stale: {path.stem} (run `insitu refresh`)")
        raise SystemExit(1 if stale else 0)
    from insitu.book import runs

    if sys.platform == "linux":  # on two cores, on which the cost of every page is measured
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    for path in stale:
        click.echo(f"running {path.stem}")
        changed = runs.refresh_page(path)
        click.echo(f"   {len(changed)} of its figures changed" if changed else "   same figures")
        for alt in changed:
            click.echo(f"   - {alt}")
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
@click.argument("folder", default="_student")
@click.option("--repository", default="", metavar="URL", help="What its launch buttons open.")
@click.option("--branch", default="main", show_default=True, help="Of that repository.")
def student(folder: str, repository: str, branch: str) -> None:
    """Copy the book into FOLDER without the solutions of its exercises, for a class."""
    from insitu.book.student import write_student

    click.echo(write_student(Path(folder), repository, branch))


@group.command()
@click.argument("file", default="insitu-book.zip")
@click.option("--book", default="", metavar="DIR", help="A copy, such as _student; else the book.")
@click.option("--wheels", is_flag=True, help="With all packages, for machines like this one.")
def bundle(file: str, book: str, wheels: bool) -> None:
    """Put the built book, its sources and its recordings into FILE, for a room without network."""
    from insitu.book import contents
    from insitu.book.bundle import write_bundle

    made = write_bundle(Path(file), Path(book) if book else contents.ROOT, wheels=wheels)
    click.echo(f"{made}, {made.stat().st_size / 1e6:.0f} MB; START.md in it says how to begin")


@group.command()
def doctor() -> None:
    """Tell what this machine has, and what will and will not run on it."""
    from insitu.book.doctor import examine

    for line in examine():
        click.echo(line)


if __name__ == "__main__":
    main()
