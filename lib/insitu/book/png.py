"""Pictures as PNG in few bytes: a palette of some greys and of the colours that serve best."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def few_colours(image: Image.Image, levels: int) -> bytes:
    """Return a PNG of that many grey levels and of the colours that serve the picture best.

    The same picture gives the same bytes: nothing of the time or of versions is written.
    """
    rgb = np.asarray(image.convert("RGB"))
    index = np.rint(rgb.mean(axis=2) * ((levels - 1) / 255)).astype(np.uint8)
    palette = _greys(levels)
    coloured = np.ptp(rgb, axis=2) > 8
    if coloured.any():
        kinds, which, often = np.unique(
            rgb[coloured], axis=0, return_inverse=True, return_counts=True
        )
        weight = np.ceil(often**0.5).astype(int)  # so that rare colours count too
        votes = Image.fromarray(np.repeat(kinds, weight, axis=0)[None])
        chosen = votes.quantize(256 - levels, Image.Quantize.MEDIANCUT)
        palette += chosen.getpalette() or []
        index[coloured] = levels + np.asarray(chosen)[0, np.cumsum(weight) - 1][which]
    return _indexed(index, palette)


def few_greys(image: NDArray[np.uint8], levels: int) -> bytes:
    """Return a PNG of a (y, x) picture in that many grey levels.

    >>> len(few_greys(np.zeros((100, 100), np.uint8), 16)) < 200
    True
    """
    return _indexed(np.rint(image * ((levels - 1) / 255)).astype(np.uint8), _greys(levels))


def whole_png(image: Image.Image, **options: Any) -> bytes:
    """Return a PNG without loss; the same picture gives the same bytes."""
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True, **options)
    return stream.getvalue()


def _greys(levels: int) -> list[int]:
    return np.repeat(np.rint(np.linspace(0, 255, levels)).astype(int), 3).tolist()


def _indexed(index: NDArray[np.uint8], palette: list[int]) -> bytes:
    picture = Image.fromarray(index).convert("P")
    picture.putpalette(palette)
    return whole_png(picture, bits=8)
