"""The whole book as one file, for a room without network."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

from insitu import InputError, fetch
from insitu.book.contents import ROOT
from insitu.files import whole

PARTS = (  # of the book's folder: what is needed to run, change and build it
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "_config.yml",
    "_toc.yml",
    "book",
    "constraints.txt",
    "data",
    "lib",
    "notebooks",
    "pyproject.toml",
)
_LEFT = {"__pycache__", ".ipynb_checkpoints", "parts"}
_TOP = "insitu-book"
_START = """\
# The book, without network

Read it: open `html/index.html` in a browser. Movies play and sliders move; nothing is fetched.

Run it: this needs a Python from 3.11 to 3.13 and, once, its packages.

    python3 -m venv .venv
    {install}
    INSITU_DATA_CACHE="$PWD/recordings" .venv/bin/insitu doctor
    INSITU_DATA_CACHE="$PWD/recordings" .venv/bin/jupyter lab notebooks

On Windows write `.venv\\Scripts\\` for `.venv/bin/`, and before that
`set INSITU_DATA_CACHE=%CD%\\recordings`.
The last line of `insitu doctor` is `READY`, or names the chapters that will not run.

{packages}

`recordings/` holds the real recordings that the chapters look at, under licences of their own
(`data/recordings.LICENSE`).
"""
_WITH = "`wheels/` has the packages, for {platform}: nothing is fetched to install them."
_WITHOUT = (
    "The packages are not in here: install them where there is a network, "
    "or make the bundle with `insitu bundle --wheels` on a machine like those of the class."
)
_PIP = ".venv/bin/pip install {options}-c constraints.txt -e ."


def write_bundle(path: Path, book: Path = ROOT, *, wheels: bool = False) -> Path:
    """Put a built book, its sources, and the recordings that it looks at into one zip file.

    Parameters
    ----------
    path : Path
        Of the zip file.
    book : Path
        Folder of the book, or of a copy of it, such as the one for students.
    wheels : bool
        Whether all packages are put in, too, for machines like this one.

    Returns
    -------
    Path
        Of the zip file.

    Raises
    ------
    InputError
        If the pages are not built, a recording cannot be had, or pip fails.

    Examples
    --------
    >>> write_bundle(Path("class.zip"), Path("nowhere"))
    Traceback (most recent call last):
        ...
    insitu.InputError: no pages in nowhere/_build/html; build them first, by `make html`
    """
    pages = book / "_build" / "html"
    if not (pages / "index.html").is_file():
        raise InputError(f"no pages in {pages.as_posix()}; build them first, by `make html`")
    recordings = [fetch.recording(name) for name in fetch.RECORDINGS]
    with tempfile.TemporaryDirectory() as folder, whole(path) as unfinished:
        packages = _wheels(book, Path(folder)) if wheels else []
        with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as bundle:
            for part in (p for name in PARTS if (p := book / name).exists()):
                _add(bundle, part, part.relative_to(book))
            _add(bundle, pages, Path("html"))
            for file in (*recordings, *packages):
                _add(bundle, file, Path("wheels" if file in packages else "recordings", file.name))
            _write(bundle, Path("START.md"), _start(wheels).encode())
    return path


def _add(bundle: zipfile.ZipFile, source: Path, name: Path) -> None:
    """A file, or what is in a folder, in the order of the names."""
    if source.name in _LEFT or source.suffix == ".egg-info" or source.is_symlink():
        return
    if source.is_dir():
        for inside in sorted(source.iterdir()):
            _add(bundle, inside, name / inside.name)
    else:
        _write(bundle, name, source.read_bytes())


def _write(bundle: zipfile.ZipFile, name: Path, content: bytes) -> None:
    """Without the time, so that the same book is the same file."""
    entry = zipfile.ZipInfo((_TOP / name).as_posix())
    entry.external_attr = 0o644 << 16
    packed = name.suffix in (".whl", ".png", ".webp", ".gif")
    bundle.writestr(entry, content, zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED)


def _start(wheels: bool) -> str:
    """How to begin, in words."""
    platform = f"{sys.platform}, Python {sys.version_info[0]}.{sys.version_info[1]}"
    told = _WITH.format(platform=platform) if wheels else _WITHOUT
    options = "--no-index --find-links wheels " if wheels else ""
    return _START.format(install=_PIP.format(options=options), packages=told)


def _wheels(book: Path, folder: Path) -> list[Path]:
    """All packages that the book needs to run, for machines like this one, with this torch."""
    source = folder / "book"
    for part in ("lib", "pyproject.toml", "README.md", "LICENSE"):
        whole_part = shutil.copytree if (book / part).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        whole_part(book / part, source / part)
    torch = f"torch=={metadata.version('torch')}"
    command = [sys.executable, "-m", "pip", "wheel", "-q", "-c", str(book / "constraints.txt")]
    command += ["-w", str(folder / "wheels"), str(source), torch, "setuptools>=77", "wheel"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"pip could not gather the packages: {done.stderr.strip()[-300:]}")
    return sorted((folder / "wheels").glob("*.whl"))
