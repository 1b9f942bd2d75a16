"""Compile loops. A module that does so imports numba: import it inside functions only.

Machine code is cached on disk beside the source (or in the user's cache), so that only the first process
compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compile a function whose operations keep their order."""
    return _compiled(function, fastmath=False)


def reordered(function: _Function) -> _Function:
    """Compile a function whose sums may be reordered, which lets the compiler vectorise them."""
    return _compiled(function, fastmath={"reassoc", "contract", "nsz"})


def _compiled(function: _Function, *, fastmath: Any) -> _Function:
    import numba

    try:
        return cast(_Function, numba.njit(cache=True, nogil=True, fastmath=fastmath)(function))
    except RuntimeError:  # no folder for the cache: every process compiles
        return cast(_Function, numba.njit(nogil=True, fastmath=fastmath)(function))
