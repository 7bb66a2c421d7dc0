"""Results that are whole: files under a temporary name, and folders that one run locks."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from insitu import InputError

_UNFINISHED = ".part-"  # what such names begin with
_LEAST = 1_000_000  # bytes that a folder of results has to have room for


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary name for a file or a store, which takes its own when the block is done.

    What was there before stays until then, and stays where the block fails. A folder of the
    temporary name that an earlier run left is removed.

    Raises
    ------
    InputError
        If the disk is full or not writable.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole(Path(folder) / "a.txt") as unfinished:
    ...         _ = unfinished.write_text("all of it")
    ...     (Path(folder) / "a.txt").read_text()
    'all of it'
    """
    path = Path(path)
    unfinished = path.with_name(f"{_UNFINISHED}{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(unfinished)
        yield unfinished
        if path.is_dir():  # a store is a folder, which a rename does not replace
            remove(path)
        unfinished.replace(path)
    except OSError as error:
        raise InputError(
            f"{path} could not be written ({error.strerror or error}); free some space or "
            f"choose another folder"
        ) from None
    finally:
        remove(unfinished)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class ResultsFolder:
    """A folder that one run at a time writes its results into.

    Parameters
    ----------
    path : str or Path
        Made when something is written. `lock` keeps other processes out until `unlock`, or
        until this process ends.

    Raises
    ------
    InputError
        If it is a file.

    Examples
    --------
    >>> import tempfile
    >>> results = ResultsFolder(Path(tempfile.mkdtemp()) / "mine")
    >>> results.lock()
    >>> results.write_json("results.json", {"psnr_db": 31.5}).name
    'results.json'
    >>> results.unlock()
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"output_dir: {self.path} is a file; choose a folder")
        # not in the folder: input that is refused later must leave nothing behind
        name = hashlib.sha256(f"{Path.home()} {self.path.resolve()}".encode()).hexdigest()[:32]
        self._lock = filelock.FileLock(
            Path(tempfile.gettempdir()) / f"insitu-{name}.lock", is_singleton=True
        )

    def lock(self) -> None:
        """Keep every other process out of the folder.

        Raises
        ------
        InputError
            If another run writes into it, or it cannot be written into.
        """
        there = next(p for p in (self.path.resolve(), *self.path.resolve().parents) if p.exists())
        try:  # as permissions do not tell of a full disk, of a quota, or of root
            with tempfile.TemporaryFile(dir=there) as trial:
                trial.write(bytes(_LEAST))
        except OSError as error:
            raise InputError(
                f"output_dir: {self.path} cannot be written into ({error.strerror}); free some "
                "space, or choose another folder"
            ) from None
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise InputError(
                f"output_dir: another run is writing into {self.path}; wait for it, or choose "
                f"another folder"
            ) from None
        for place in ("", "*/"):
            for left in self.path.glob(f"{place}{_UNFINISHED}*"):  # by a run that was killed
                remove(left)

    def unlock(self) -> None:
        """Let others in."""
        self._lock.release(force=True)

    def write(self, name: str, writer: Callable[[Path], Any]) -> Path:
        """Write a file or a store by `writer(path)`, under a temporary name until it is `whole`.

        Raises
        ------
        InputError
            If the name leads out of the folder, or the disk is full or not writable.
        """
        path = (self.path / name).resolve()
        if self.path.resolve() not in path.parents:
            raise InputError(f"{name} lies outside of output_dir {self.path}")
        with whole(path) as unfinished:
            writer(unfinished)
        return path

    def write_json(self, name: str, record: Mapping[str, Any] | list[Any]) -> Path:
        """Write a record as JSON."""
        text = json.dumps(record, indent=1) + "\n"
        return self.write(name, lambda path: path.write_text(text, "utf-8"))
