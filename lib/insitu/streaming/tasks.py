"""Work that is done elsewhere and comes back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from insitu import InputError

AHEAD = 2  # tasks a thread of the workers that are under way: bounds what waits in memory


def in_order(
    function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]], client: Any = None
) -> Iterator[Any]:
    """Give function(*task) for each task, in the order of the tasks.

    Parameters
    ----------
    function : function
        Of a module, so that workers can import it.
    tasks : iterable of tuples
        Arguments, taken when there is room for them.
    client : dask.distributed.Client, optional
        Of a cluster, wherever it runs; without one, all is done here. A worker that dies is
        replaced, and what it was doing is done again.

    Raises
    ------
    InputError
        If the disk is full, or the same task killed several workers.

    Examples
    --------
    >>> list(in_order(divmod, [(7, 2), (9, 4)]))
    [(3, 1), (2, 1)]
    """
    if client is None:
        for task in tasks:
            yield _result(partial(function, *task))
        return
    waiting: deque[Any] = deque()
    try:
        for task in tasks:
            waiting.append(client.submit(function, *task, pure=False))
            if len(waiting) >= AHEAD * threads(client):
                yield _result(waiting.popleft().result)
        while waiting:
            yield _result(waiting.popleft().result)
    finally:
        client.cancel(list(waiting))


def threads(client: Any) -> int:
    """Threads of all workers of a client; one where there is none."""
    return max(1, sum(client.nthreads().values())) if client is not None else 1


def _result(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except OSError as error:
        if error.errno is None:
            raise
        raise InputError(
            f"{error.filename or 'a file'}: {error.strerror}; free some space, or choose another "
            "folder, and run again: what was written is kept"
        ) from None
    except Exception as error:
        if type(error).__name__ != "KilledWorker":  # without importing distributed
            raise
        raise InputError(
            "the same task killed several workers, most likely for want of memory; give each "
            "worker more, or take smaller blocks, and run again: what was written is kept"
        ) from None
