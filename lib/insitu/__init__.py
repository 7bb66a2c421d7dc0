"""AI for in situ electron microscopy: from atoms to belief.

The packages are the parts of the book in the order in which data flow:

- `insitu.counting`: from the expected number of electrons to a count, and back
- `insitu.simulate`: from atoms to movies whose truth is known
- `insitu.learning`: how networks are trained and kept
- `insitu.denoise`: from counts to expected counts
- `insitu.trust`: how far to believe them
- `insitu.measure`: from intensities to columns, names and events
- `insitu.tomography`: from tilt series to volumes
- `insitu.files`: movies, images and tilt series of every format, and results that are whole
- `insitu.own`: all of this for a file of your own
- `insitu.streaming`: movies larger than memory, on dask
- `insitu.book`: the pages themselves

What one calls first stands here, and is loaded when it is asked for.

>>> import insitu
>>> movie = insitu.open_movie("my_movie.tif")  # doctest: +SKIP
>>> denoiser = insitu.load_denoiser("pt_ceo2")  # doctest: +SKIP
>>> denoised = denoiser(movie.data[:40], pixel_size=0.24)  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_FRONT = {
    "open_movie": "insitu.files",
    "open_tilt_series": "insitu.tomography.series",
    "Poisson": "insitu.counting.poisson",
    "Categorical": "insitu.counting.categorical",
    "diagnose": "insitu.counting.diagnosis",
    "load_denoiser": "insitu.denoise.saved",
    "learn_movie": "insitu.denoise.unsupervised",
    "report": "insitu.trust.report",
}
__all__ = ["InputError", *_FRONT]


class InputError(ValueError):
    """Something the reader gave cannot be used; the message says what and what to do.

    In a notebook it shows as that one sentence, without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def __getattr__(name: str) -> Any:
    if name in _FRONT:
        return getattr(import_module(_FRONT[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
