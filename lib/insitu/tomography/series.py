"""Tilt series: read from any file, checked before any work, and volumes written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import mrcfile
import numpy as np
import zarr
from numpy.typing import ArrayLike, NDArray

from insitu import InputError, checks
from insitu.files import Movie, open_movie, whole
from insitu.files.angles import read_angles

Array = NDArray[np.float32]
_MRC = (".mrc", ".st", ".ali", ".rec")


@dataclass(frozen=True)
class TiltSeries:
    """Projections in the order of their times; the tilt axis runs along z."""

    projections: Array  # (t, z, s)
    angles: NDArray[np.float64]  # (t,) [degrees]
    times: NDArray[np.float64]  # (t,) rising, in any unit
    pixel_size: float | None = None  # [A]
    span: float | None = None  # planned duration of all tilts, where more will follow

    @property
    def moments(self) -> Array:
        """Times from 0 to 1, 1 the last tilt, or the last one planned."""
        span = self.span or self.times[-1] - self.times[0]
        return ((self.times - self.times[0]) / span).astype(np.float32)

    def digest(self) -> str:
        """sha256 of all that was recorded."""
        parts = (self.projections, self.angles, self.moments)
        return hashlib.sha256(b"".join(p.tobytes() for p in parts)).hexdigest()

    def slab(self, part: slice) -> TiltSeries:
        """A part of the slices along the tilt axis."""
        return replace(self, projections=np.ascontiguousarray(self.projections[:, part]))

    def until(self, count: int) -> TiltSeries:
        """The first `count` tilts, as they are known while more follow."""
        return replace(
            self,
            projections=self.projections[:count],
            angles=self.angles[:count],
            times=self.times[:count],
            span=self.span or float(self.times[-1] - self.times[0]),
        )

    def binned(self, factor: int) -> TiltSeries:
        """Bin `factor` x `factor` pixels, intensities kept; what is left at the edges goes."""
        t, z, s = (n // f for n, f in zip(self.projections.shape, (1, factor, factor), strict=True))
        top, left = ((n % factor) // 2 for n in self.projections.shape[1:])
        kept = self.projections[:, top : top + z * factor, left : left + s * factor]
        small = kept.reshape(t, z, factor, s, factor).mean((2, 4)) / factor  # lengths in pixels
        pixel_size = None if self.pixel_size is None else self.pixel_size * factor
        return replace(self, projections=small, pixel_size=pixel_size)


def tilt_series(
    projections: ArrayLike,
    angles: ArrayLike,
    times: ArrayLike | None = None,
    *,
    pixel_size: float | None = None,
    axis: str = "z",
) -> TiltSeries:
    """Make a tilt series of arrays: check them, and put them in the order of their times.

    Parameters
    ----------
    projections : array_like
        (t, rows, columns).
    angles : array_like
        (t,) [degrees].
    times : array_like, optional
        (t,); by default the projections are in order, a unit of time apart.
    pixel_size : float, optional
        [A].
    axis : str
        Along what the tilt axis runs: z for rows counted along it, as in (t, z, s); x for columns
        counted along it; auto to find out.

    Raises
    ------
    InputError
        In one sentence, if numbers do not match, times come twice, there are fewer than three
        tilts, values are no numbers or below 0, or the tilt axis runs in another direction.
    """
    try:
        p = np.asarray(projections, dtype=np.float32)
        a = np.asarray(angles, dtype=np.float64).ravel()
        t = np.arange(len(a), dtype=float) if times is None else np.asarray(times, float).ravel()
    except (TypeError, ValueError):
        raise InputError("tilt series: projections, angles and times have to be numbers") from None
    _check_shapes(p, a, t)
    for name, values in (("projections", p), ("angles", a), ("times", t)):
        checks.finite(name, values)
    _check_angles(a)
    checks.one_of("tilt_axis", axis, ("auto", "z", "x"))
    order = np.argsort(t, kind="stable")
    p, a, t = p[order], a[order], t[order]
    again = np.flatnonzero(np.diff(t) == 0)
    if len(again):
        raise InputError(f"times: {t[again[0]]:g} comes more than once; give each tilt its own")
    _check_intensities(p)
    if axis == "x" or (axis == "auto" and _rows_run_along_s(p, sure=False)):
        p = np.ascontiguousarray(p.transpose(0, 2, 1))
    elif axis == "z" and _rows_run_along_s(p, sure=True):
        raise InputError(
            "projections: what each row holds changes with the tilt and what each column holds "
            "does not, so the tilt axis runs in the other direction; give (t, z, x) with z along it"
        )
    return TiltSeries(p, a, t, pixel_size)


def _check_shapes(p: Array, a: NDArray[np.float64], t: NDArray[np.float64]) -> None:
    if p.ndim != 3 or 0 in p.shape:
        raise InputError(f"projections: got shape {p.shape}; give three axes, (t, z, x), not empty")
    if not len(p) == len(a) == len(t):
        raise InputError(
            f"tilt series: {len(p)} projections, {len(a)} angles and {len(t)} times; "
            f"give one angle and one time a projection"
        )
    if len(p) < 3:
        raise InputError(f"tilt series: it has {len(p)} tilts; three or more are needed")


def _check_angles(a: NDArray[np.float64]) -> None:
    if abs(a).max() > 180:
        raise InputError(f"angles: {abs(a).max():g} is more than 180 degrees; give degrees")
    if np.ptp(a) == 0:
        raise InputError(f"angles: all tilts are at {a[0] + 0.0:g} degrees; a volume needs several")
    if np.ptp(a) < 5:
        raise InputError(
            f"angles: they span {np.ptp(a):.3g} degrees, too little for a volume; if they are "
            "radians, give degrees"
        )


def _check_intensities(p: Array) -> None:
    if p.max() <= 0:
        raise InputError("projections: nothing in them is above 0")
    across = np.diff(p, 2, axis=2) if p.shape[2] > 2 else np.zeros(1)
    noise = 1.4826 * float(np.median(np.abs(across))) / 6**0.5
    low = float(p.min())
    if low < -(8 * noise + 2e-3 * float(p.max())):
        raise InputError(
            f"projections: the lowest value is {low:g}, far below 0 for a noise of {noise:.2g}; "
            f"intensities have to be 0 or above: subtract the right background"
        )
    empty = np.flatnonzero(p.sum((1, 2)) <= 0)
    if len(empty):
        raise InputError(f"projections: nothing is in tilt {empty[0]}; leave it out")


def _rows_run_along_s(projections: Array, *, sure: bool) -> bool:
    """Whether the columns, not the rows, keep what they hold: these run along the tilt axis."""
    if min(projections.shape[1:]) < 8:
        return False
    rows, columns = (_change(projections.sum(axis)) for axis in (2, 1))
    if sure:
        return rows > 0.1 and rows > 3 * columns
    if max(rows, columns) < 1.2 * min(rows, columns):
        raise InputError(
            f"tilt_axis: rows change by {rows:.1%} and columns by {columns:.1%} with the tilt, too "
            f"alike to tell; say along which it runs, z or x"
        )
    return rows > columns


def _change(sums: Array) -> float:
    """Deviation over the tilts, relative to the mean, of what the brighter lines hold."""
    mean = sums.mean(0)
    bright = mean > 0.2 * mean.max()
    return float(np.median(sums.std(0)[bright] / mean[bright]))


def open_tilt_series(path: str | Path, *, axis: str = "auto", angles: str = "") -> TiltSeries:
    """Open a tilt series.

    Parameters
    ----------
    path : str or Path
        An .npz with `projections` (t, z, s), `angles` [degrees] (t,) and perhaps `times` (t,); or
        what `insitu.open_movie` reads (.mrc, .hspy, .tif, ...).
    axis : str
        As in `tilt_series`; an .npz is (t, z, s).
    angles : str
        For others than .npz: a text file with an angle a line, and a time behind it where there
        are times, as `insitu.files.angles` reads it. Empty: beside the file with the ending
        .rawtlt, .tlt, .mdoc or .txt, or from within.

    Raises
    ------
    InputError
        In one sentence, as `open_movie` and `tilt_series` do, or if there are no angles.

    Examples
    --------
    >>> import tempfile
    >>> angles = np.linspace(-60, 60, 5)
    >>> projections = np.ones((5, 4, 16)) * np.hanning(16)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/mine.npz", projections=projections, angles=angles)
    ...     opened = open_tilt_series(f"{folder}/mine.npz")
    >>> opened.projections.shape, opened.angles
    ((5, 4, 16), array([-60., -30.,   0.,  30.,  60.]))
    """
    path = Path(path).expanduser()
    if path.suffix.lower() in (".npz", *_MRC) and not path.is_file():
        raise InputError(f"there is no file {path}; give the path of a tilt series")
    if path.suffix.lower() == ".npz":
        if angles:
            raise InputError(f"tilt_angles: {path.name} holds its own; leave the parameter empty")
        return _open_npz(path)
    movie = open_movie(path)
    degrees, times = _angles_of(movie, angles)
    data = movie.read()
    return tilt_series(data, degrees, times, pixel_size=movie.pixel_size, axis=axis)


def _angles_of(movie: Movie, given: str) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Find the angles of a series, and its times, where there are any."""
    path = movie.path
    beside = [path.with_suffix(end) for end in (".rawtlt", ".tlt", ".mdoc", ".txt")]
    beside.insert(2, path.with_name(f"{path.name}.mdoc"))
    table = Path(given).expanduser() if given else next((b for b in beside if b.is_file()), None)
    if table is not None:
        return read_angles(table)
    if movie.angles is None:
        raise InputError(
            f"{path.name} tells no angles; put them in {path.stem}.rawtlt beside it, an angle a "
            "line in degrees and, where tilts were not in order, the time behind it"
        )
    return movie.angles, None


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a broken file raises what it likes
        raise InputError(
            f"{path.name} cannot be read as {path.suffix} ({str(error)[:100]}); it is truncated, "
            f"holds objects, or is of another kind"
        ) from None


def _open_npz(path: Path) -> TiltSeries:
    with _told(path), np.load(path, allow_pickle=False) as archive:
        found = {k: archive[k] for k in archive.files}
    missing = [k for k in ("projections", "angles") if k not in found]
    if missing:
        raise InputError(
            f"{path.name} has no {' and no '.join(missing)}; an .npz needs projections (t, z, x), "
            f"angles (t) in degrees, and may have times (t)"
        )
    return tilt_series(found["projections"], found["angles"], found.get("times"))


def write_volumes(path: str | Path, volumes: Array, deviation: Array, series: TiltSeries) -> None:
    """Write volumes and their standard deviation, (t, z, y, x), to a zarr group.

    Raises
    ------
    InputError
        If the disk is full or not writable.
    """
    with whole(path) as unfinished:
        group = zarr.open_group(unfinished, mode="w")
        for name, array in (("volumes", volumes), ("deviation", deviation)):
            group.create_array(name, data=array, chunks=(1, *array.shape[1:]))
        group.attrs.update(
            axes=["t", "z", "y", "x"],
            tilt_axis="z",
            beam_at_zero_tilt="y",
            times=series.times.tolist(),
            pixel_size_angstrom=series.pixel_size,
        )


def write_mrc(path: Path, volume: Array, *, pixel_size: float | None = None) -> None:
    """Write one volume (z, y, x) as mrc, which Tomviz and ImageJ open."""
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.ascontiguousarray(volume, dtype=np.float32))
        file.set_volume()
        file.voxel_size = pixel_size or 0.0
