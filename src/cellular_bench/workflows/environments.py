"""Environments with the methods that run in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cellular_bench import environments
from cellular_bench.benchmark import registry
from cellular_bench.environments import Declaration


def declared_with_methods(plugins: Sequence[Path] = ()) -> Iterator[tuple[Declaration, list[str]]]:
    """Yield every declaration that ships or that a method names, with its methods."""
    methods: dict[str, list[str]] = {name: [] for name in environments.shipped()}
    for method_id, method in registry.methods(plugins).items():
        if method.spec.environment is not None:
            methods.setdefault(method.spec.environment, []).append(method_id)
    for reference, names in methods.items():
        yield environments.find(reference), names
