"""Sharing out independent work among processes."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: What forked processes work on: they see the parent's memory, so that nothing large is copied.
_TASK: list[Any] = []


def share_out(
    function: Callable[[_Item], _Result], items: Sequence[_Item], *, n_jobs: int = 1
) -> list[_Result]:
    """Return the function's values for all items, in their order, computed by n_jobs processes.

    Processes are forked, where that is safe (Linux); elsewhere, or with one job, all is done here. The
    function must not depend on what ran before it, so that the values do not depend on ``n_jobs``.

    Examples
    --------
    >>> share_out(abs, [-1, 2, -3])
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
