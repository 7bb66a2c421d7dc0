"""Pictures as PNG in few bytes: a palette of some greys and of the colours that serve best."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def few_colours(image: Image.Image, levels: int) -> bytes:
    """Return a PNG of that many grey levels and of the colours that serve the picture best.

    The same picture gives the same bytes: nothing of the time or of versions is written.

    >>> len(few_colours(Image.new("L", (100, 100)), 16)) < 200
    True
    """
    rgb = np.asarray(image.convert("RGB"))
    index = np.rint(rgb.mean(axis=2) * ((levels - 1) / 255)).astype(np.uint8)
    palette = np.repeat(np.rint(np.linspace(0, 255, levels)).astype(int), 3).tolist()
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
    picture = Image.fromarray(index).convert("P")
    picture.putpalette(palette)
    return whole_png(picture, bits=8)


def whole_png(image: Image.Image, **options: Any) -> bytes:
    """Return a PNG without loss; the same picture gives the same bytes."""
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True, **options)
    return stream.getvalue()
