"""What is read of a reader's movie, and what to say of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu import InputError, checks
from insitu.counting import noise
from insitu.files import Movie


class Seen(NamedTuple):
    """Frames that the beam reached, and those that it did not, by name."""

    kept: NDArray[np.bool_]  # (t,) of the part that was read
    text: list[str]  # paragraphs of a report


def seen(movie: Movie, part: NDArray[Any], frames: str = "") -> Seen:
    """Tell frames with a beam from blank ones, and say so, as all else that is odd of the file.

    Parameters
    ----------
    movie : Movie
        Where the part is from.
    part : (t, y, x) array
        As `movie.part(frames)` returns it.
    frames : str
        As first:last.

    Raises
    ------
    InputError
        If no frame is left.
    """
    text = [f"{movie.path.name}: {note}." for note in movie.notes]
    blank = _blank(part)
    kept = np.ones(len(part), bool)
    if not len(blank):
        return Seen(kept, text)
    kept[blank] = False
    if not kept.any():
        raise InputError(f"movie: all {len(part)} frames of {movie.path.name} are blank")
    first = checks.span("movie_frames", frames, movie.shape[0]).start
    named = ", ".join(str(first + n) for n in blank[:20]) + (", ..." if len(blank) > 20 else "")
    frames, be, were = ("Frame", "is", "was") if len(blank) == 1 else ("Frames", "are", "were")
    text.append(
        f"{frames} {named} (the first is 0) {be} blank, as behind a closed shutter, and {were} "
        "left out."
    )
    return Seen(kept, text)


def _blank(part: NDArray[Any]) -> NDArray[np.intp]:
    """Blank frames: of what was subtracted from, whose sums tell nothing, those without noise."""
    if not np.isfinite(part).all():
        return np.zeros(0, np.intp)
    if part.min() >= 0:
        return noise.blank_frames(part)
    scatter = part.std((1, 2), dtype=np.float64)
    return np.flatnonzero(scatter < 0.1 * np.median(scatter))


def spread(frames: NDArray[Any], kept: NDArray[np.bool_]) -> NDArray[Any]:
    """Frames in their places of the whole part: nothing is expected of a blank one."""
    if kept.all():
        return frames
    whole = np.zeros((len(kept), *frames.shape[1:]), frames.dtype)
    whole[kept] = frames
    return whole
