"""Independent work in several processes."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Function and items of forked processes: they share the parent's memory, so that nothing large is copied.
_TASK: list[Any] = []


def parallel_map(
    function: Callable[[_Item], _Result], items: Sequence[_Item], *, n_jobs: int = 1
) -> list[_Result]:
    """Return the function's values for all items, in their order, computed by ``n_jobs`` processes.

    Processes are forked on Linux, where that is safe; elsewhere, or with one job, everything runs in this
    process. The function must not depend on earlier calls, so that values do not depend on ``n_jobs``.

    Examples
    --------
    >>> parallel_map(abs, [-1, 2, -3])
    [1, 2, 3]
    """
    n_jobs = min(n_jobs, len(items))
    if n_jobs <= 1 or sys.platform != "linux" or multiprocessing.current_process().daemon:
        return [function(item) for item in items]
    _TASK[:] = [function, items]
    try:
        with ProcessPoolExecutor(n_jobs, mp_context=multiprocessing.get_context("fork")) as pool:
            return list(pool.map(_one, range(len(items))))
    finally:
        _TASK.clear()


def _one(position: int) -> Any:
    function, items = _TASK
    return function(items[position])
