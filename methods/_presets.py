"""Presets of settings with some of their values changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from cellular_bench.core.errors import UnknownNameError

Settings = TypeVar("Settings")


def preset_with(presets: Mapping[str, Settings], preset: str, **changes: Any) -> Settings:
    """Return a preset, a frozen dataclass, with the ``changes`` to its fields that are not None."""
    if preset not in presets:
        raise UnknownNameError("preset", preset, presets)
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(presets[preset], **given)  # type: ignore[type-var]
