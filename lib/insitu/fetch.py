"""Files that the book reads: what ships in data/, and real recordings fetched by pooch.

A fetched file is kept in the data cache (the folder named by the environment variable
INSITU_DATA_CACHE, else the user's cache folder) and is checked against its sha256 every time.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pooch
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from insitu import InputError


class Unavailable(InputError):
    """A recording that is neither in the data cache nor to be had from its address."""


class Recording(NamedTuple):
    """A real recording: where it comes from, and its checksum."""

    url: str
    sha256: str


RECORDINGS = {
    # MIT, (c) 2020 sreyas-mohan
    "pt-ceo2-etem.gif": Recording(
        "https://raw.githubusercontent.com/sreyas-mohan/udvd/"
        "86c91f2f77d1a21d9b048863d70748462bcbce9e/figures/electron_2.gif",
        "5c99e412c24064eaab0286a89aa5f369a0ce2e90423dd3eb8fd26c332d1f9687",
    ),
    # NIST software, public domain in the United States
    "HAADF_Aligned.hspy": Recording(
        "https://raw.githubusercontent.com/usnistgov/etspy/"
        "9bb0ae48b96ed8d41e2b48c4971dd5a9d29918bf/etspy/tests/test_data/HAADF_Aligned.hspy",
        "9516accf8b273e21a2426ac9f902f5f7b46b6a5120223bb5a5d5a648b9a65b84",
    ),
}

ROOT = Path(__file__).resolve().parents[2]  # the book's folder: the library lies in lib/insitu
THRESHOLDS = (31, 91, 151, 211)  # between the grey levels of the counts 0 to 4 in pt-ceo2-etem.gif
_files_read: dict[str, str] = {}
_not_to_be_had: dict[str, str] = {}


def data_cache() -> Path:
    """The folder in which fetched files are kept."""
    return Path(os.environ.get("INSITU_DATA_CACHE") or pooch.os_cache("insitu-book"))


def recording(name: str) -> Path:
    """Path of a real recording, fetched if the cache does not have it.

    Raises
    ------
    Unavailable
        With the address and the folder, if it can be neither found nor fetched.
    """
    source = RECORDINGS[name]
    folder = data_cache()
    path = folder / name
    try:
        if not (path.is_file() and file_hash(path) == source.sha256):
            pooch.get_logger().setLevel("WARNING")
            pooch.retrieve(source.url, f"sha256:{source.sha256}", fname=name, path=folder)
    except (OSError, ValueError) as error:
        _not_to_be_had[name] = (
            f"{name} could not be fetched ({type(error).__name__}); it can be had from "
            f"{source.url} and belongs into {folder}"
        )
        raise Unavailable(_not_to_be_had[name]) from None
    _files_read[name] = source.sha256
    return path


def shipped(name: str) -> Path:
    """Path of a file in the book's data/ folder, or of a store, which is a folder.

    Raises
    ------
    InputError
        If it is not there, as when the library was installed without the book.
    """
    path = ROOT / "data" / name
    if not path.exists():
        raise InputError(
            f"data/{name} is missing from {ROOT}; clone the book and install it from its folder"
        )
    _files_read[name] = file_hash(path)
    return path


def files_read() -> dict[str, str]:
    """Name and sha256 of every file that was asked for so far in this process."""
    return dict(sorted(_files_read.items()))


def not_to_be_had() -> list[str]:
    """What was said of each recording that was asked for in vain in this process."""
    return list(_not_to_be_had.values())


def file_hash(path: Path) -> str:
    """sha256 of a file, or of the names and contents of all files of a folder."""
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file())
        names = [f"{p.relative_to(path).as_posix()} {file_hash(p)}\n" for p in inside]
        return hashlib.sha256("".join(names).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class PtCeO2Movie(NamedTuple):
    """The real movie of a Pt nanoparticle on CeO2, 0.12 A per pixel."""

    counts: NDArray[np.uint8]  # (40, 100, 100) electrons per pixel and frame
    grey: NDArray[np.uint8]  # (40, 100, 100) the grey levels that the counts were read from
    denoised: NDArray[np.uint8]  # (40, 100, 100) its authors' UDVD output, in grey levels


def pt_ceo2_movie() -> PtCeO2Movie:
    """Return the real movie, its grey levels decoded to electron counts.

    The file is an animation whose left half is the raw movie. Its grey levels fall on five
    separate peaks, 5, 63, 120, 178 and 236, the counts 0 to 4, so that thresholds half-way
    between them give back the exact counts. The last frame repeats the one before and is left
    out. Counts above 4, if there were any, were clipped before the file was made.
    """
    with Image.open(recording("pt-ceo2-etem.gif")) as animation:
        grey = np.stack([np.asarray(f.convert("L")) for f in ImageSequence.Iterator(animation)])
    raw = grey[:40, :, :100]
    counts = np.digitize(raw, THRESHOLDS).astype(np.uint8)
    return PtCeO2Movie(counts, raw, grey[:40, :, 100:])
