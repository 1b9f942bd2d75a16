"""Separate environments for methods: declared as data, created on demand, used through files.

A method whose packages conflict with those of other methods names a declaration in ``spec.environment`` and
a program in ``spec.program``. The method calls :func:`run_inside` from ``fit_embed`` or ``predict``, which
sends cells to the program and returns its results. The program is a child of the run's process, so the
limits and the measured costs of the run include it.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cellular_bench.environments.declaration import Declaration, find, program_file, shipped
    from cellular_bench.environments.exchange import run_inside
    from cellular_bench.environments.status import State, missing_text, required, state

__all__ = [
    "Declaration",
    "State",
    "find",
    "missing_text",
    "program_file",
    "required",
    "run_inside",
    "shipped",
    "state",
]

#: Where names are that are imported when they are first used: listing methods needs few of them.
_LAZY = {
    "declaration": ("Declaration", "find", "program_file", "shipped"),
    "exchange": ("run_inside",),
    "status": ("State", "missing_text", "required", "state"),
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    import importlib

    for module, names in _LAZY.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
