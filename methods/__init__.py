"""Method adapters: one file or package per method, discovered without a list of names."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from cellular_bench.core.types import MethodSpec


def built_in() -> Iterator[Any]:
    """Yield every method of this package: the classes that define ``spec`` in their own body."""
    for info in pkgutil.iter_modules(__path__, f"{__name__}."):
        yield from method_classes(importlib.import_module(info.name))


def method_classes(module: ModuleType) -> Iterator[Any]:
    """Yield the methods that are defined in a module, or in the modules of a package."""
    for value in list(vars(module).values()):  # lazy imports add submodules while a caller iterates
        if not inspect.isclass(value) or not isinstance(vars(value).get("spec"), MethodSpec):
            continue
        if value.__module__ == module.__name__ or value.__module__.startswith(f"{module.__name__}."):
            yield value
