"""Movies for other programs: tif, zarr, hspy, and an mp4 to look at.

All of them say how large a pixel is and how long a frame; `open_movie` reads what `write_movie`
wrote. The mp4 is for eyes alone: its grey levels are not electrons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from insitu import InputError, checks

FORMATS = ("tif", "zarr", "hspy")
WIDE = 960  # pixels that a film is enlarged to, in whole steps
GAP = 4  # pixels of the film between two movies
TITLE = 20  # rows of the film above them
SAMPLE = 1_000_000  # values by which grey levels are chosen


def write_movie(
    path: Path, movie: NDArray[Any], form: str, *, pixel_size: float, frame_time: float = 0.0
) -> None:
    """Write a movie, or an image, in a format that other programs read.

    `tif` as ImageJ has it, `zarr` as OME-Zarr 0.5, `hspy` as HyperSpy has it. Numbers are written
    as they are, in tif as float32 unless they are of 8 or 16 bits.

    Parameters
    ----------
    path : Path
        Of the file or folder; HyperSpy asks for the ending .hspy.
    movie : (t, y, x) array
        One frame is written as an image.
    form : str
        One of tif, zarr, hspy.
    pixel_size, frame_time : float
        [A], [s]; 0 is not known.

    Raises
    ------
    InputError
        If there is no such format.

    Examples
    --------
    >>> import tempfile
    >>> from insitu import open_movie
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "mine.zarr"
    ...     write_movie(path, np.ones((5, 16, 16)), "zarr", pixel_size=0.2, frame_time=0.5)
    ...     movie = open_movie(path)
    ...     movie.shape, movie.pixel_size, movie.frame_time
    ((5, 16, 16), 0.2, 0.5)
    """
    writers = {"tif": _write_tif, "zarr": _write_zarr, "hspy": _write_hspy}
    write = writers[checks.one_of("format", form, FORMATS)]
    write(path, movie if len(movie) > 1 else movie[0], pixel_size, frame_time)


def _write_tif(path: Path, images: NDArray[Any], pixel_size: float, frame_time: float) -> None:
    if images.dtype not in (np.uint8, np.uint16):
        images = images.astype(np.float32)
    metadata: dict[str, Any] = {"axes": "TYX"[-images.ndim :]}
    resolution = (10 / pixel_size,) * 2 if pixel_size else None
    if pixel_size:
        metadata |= {"unit": "nm"}
    if frame_time and images.ndim == 3:
        metadata |= {"finterval": frame_time, "tunit": "s"}
    tifffile.imwrite(path, images, imagej=True, resolution=resolution, metadata=metadata)


def _write_zarr(path: Path, images: NDArray[Any], pixel_size: float, frame_time: float) -> None:
    import zarr

    names = "tyx"[-images.ndim :]
    space = {"type": "space"} | ({"unit": "angstrom"} if pixel_size else {})
    kinds = {"t": {"type": "time"} | ({"unit": "second"} if frame_time else {})}
    scale = {"t": frame_time or 1.0}
    about: Any = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [{"name": n} | kinds.get(n, space) for n in names],
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [
                            {
                                "type": "scale",
                                "scale": [scale.get(n, pixel_size or 1.0) for n in names],
                            }
                        ],
                    }
                ],
            }
        ],
    }
    group = zarr.open_group(path, mode="w", attributes={"ome": about})
    chunks = (1,) * (images.ndim - 2) + images.shape[-2:]
    array = group.create_array(
        "0", shape=images.shape, dtype=images.dtype, chunks=chunks, dimension_names=list(names)
    )
    array[...] = images


def _write_hspy(path: Path, images: NDArray[Any], pixel_size: float, frame_time: float) -> None:
    from hyperspy.api import signals  # which takes seconds to load

    scales = {
        "time": (frame_time, "s"),
        "y": (pixel_size, "angstrom"),
        "x": (pixel_size, "angstrom"),
    }
    axes = []
    for name, size in zip(("time", "y", "x")[-images.ndim :], images.shape, strict=True):
        scale, unit = scales[name]
        axes.append(
            {"name": name, "size": size} | ({"scale": scale, "units": unit} if scale else {})
        )
    signal = signals.Signal2D(images, axes=axes)
    signal.save(path, overwrite=True)


def write_film(path: Path, movies: Mapping[str, ArrayLike], *, rate: float = 10.0) -> None:
    """Write movies side by side as an mp4 (H.264), each with its name above it.

    Pixels are enlarged by a whole number, so that each stays a square. Each movie has grey levels
    of its own, from its smallest value to the one that 0.5 % of its pixels pass: counts of single
    electrons and what is expected of them share none.

    Parameters
    ----------
    path : Path
        Of the file.
    movies : mapping
        Name and (t, y, x) array of each, all of one shape.
    rate : float
        Frames that are shown in a second.

    Raises
    ------
    InputError
        If the movies differ in shape, or the rate is not within 0.1 to 120.
    """
    import av

    rate = checks.within("rate", rate, 0.1, 120)
    arrays = [np.asarray(movie) for movie in movies.values()]
    if len({array.shape for array in arrays}) != 1:
        raise InputError(f"movies: their shapes differ, {[array.shape for array in arrays]}")
    count, rows, columns = arrays[0].shape
    width = len(arrays) * columns + (len(arrays) - 1) * GAP
    zoom = max(1, WIDE // width)
    limits = [_limits(array) for array in arrays]
    head = _titles(list(movies), columns * zoom, GAP * zoom)
    with av.open(path, "w", format="mp4", options={"movflags": "+faststart"}) as file:
        stream: Any = file.add_stream("libx264", rate=Fraction(rate).limit_denominator(1000))
        stream.width, stream.height = (_even(n) for n in (width * zoom, TITLE + rows * zoom))
        stream.pix_fmt = "yuv420p"  # what every player knows
        stream.options = {"crf": "20", "preset": "medium"}
        stream.thread_count = 1
        picture = np.zeros((stream.height, stream.width), np.uint8)
        picture[:TITLE, : head.shape[1]] = head
        for t in range(count):
            for k, (array, (low, high)) in enumerate(zip(arrays, limits, strict=True)):
                grey = np.clip((array[t] - low) / (high - low), 0, 1) * 255
                left = k * (columns + GAP) * zoom
                where = np.s_[TITLE : TITLE + rows * zoom, left : left + columns * zoom]
                picture[where] = np.kron(grey.astype(np.uint8), np.ones((zoom, zoom), np.uint8))
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, "gray")):
                file.mux(packet)
        for packet in stream.encode():
            file.mux(packet)


def _even(number: int) -> int:
    return number + number % 2


def _limits(movie: NDArray[Any]) -> tuple[float, float]:
    """Values that are drawn black and white."""
    few = movie.ravel()[:: max(1, movie.size // SAMPLE)]
    low, high = float(few.min()), float(np.percentile(few, 99.5))
    return low, high if high > low else low + 1.0


def _titles(names: Sequence[str], width: int, gap: int) -> NDArray[np.uint8]:
    """A strip with the name of each movie above its place."""
    strip = Image.new("L", (len(names) * (width + gap) - gap, TITLE))
    draw = ImageDraw.Draw(strip)
    for k, name in enumerate(names):
        draw.text((k * (width + gap) + 4, 4), name, fill=255)
    return np.asarray(strip)
