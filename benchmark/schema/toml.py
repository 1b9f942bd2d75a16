"""Reading of TOML files, and explanations of what is wrong with them."""

from __future__ import annotations

from pydantic import ValidationError


def explain(error: ValidationError) -> str:
    """Say in one line what the first problem of a validation error is, and where."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the top level"
    return f"{where}: {first['msg']} (got {first['input']!r})."
