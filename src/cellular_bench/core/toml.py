"""Read TOML files, and say what is wrong with them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellular_bench.core.errors import UserError

if TYPE_CHECKING:
    from pydantic import ValidationError


#: The most characters of a wrong value that an error shows.
MOST_SHOWN = 200


def read_toml(path: Path, *, what: str) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Parameters
    ----------
    what
        Kind of file, as the first word of an error message: ``"Suite"``.

    Raises
    ------
    UserError
        If the file is missing or cannot be read, or is not TOML in UTF-8.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{what} {path} is not valid TOML: {error}.") from error


def explain(error: ValidationError) -> str:
    """Say in one line what the first problem of a validation error is, and where.

    The value is shown unless it is the table as a whole, as where a field is missing.
    """
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the top level"
    shown = repr(first["input"])
    shown = shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}..."
    got = "" if isinstance(first["input"], dict) else f" (got {shown})"
    return f"{where}: {first['msg']}{got}."
