"""AI for in situ electron microscopy: from atoms to belief.

The packages follow the data: `insitu.simulate` makes movies whose truth is known, and the
modules beside it read files (`files`), fetch real recordings (`fetch`), draw (`figures`) and
hold a chapter's parameters and results (`chapter`).
"""

from __future__ import annotations


class InputError(ValueError):
    """Something the reader gave cannot be used; the message says what and what to do.

    In a notebook it shows as that one sentence, without a traceback.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]
