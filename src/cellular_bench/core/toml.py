"""Read TOML files that somebody else may have written, and say what is wrong with them."""

from __future__ import annotations

import datetime as dt
import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cellular_bench.core.errors import UserError
from cellular_bench.core.files import read_regular

if TYPE_CHECKING:
    from pydantic import ValidationError

#: Largest size of a file, and deepest nesting of its tables and lists.
MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 20  # the regular expression below has it, too
#: Whole numbers are limited to what TOML promises: 64 bits.
_MAX_INT: Final = 2**63
#: A name of many parts. The parser needs time that grows with the square of their number.
_LONG_NAME = re.compile(r"""(?<![\w."'-])(?:(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){20}""")
#: Characters that act on a terminal or turn the order of a text around.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
#: Entry that every file may have at its top level.
REQUIRES = "requires"


def read_toml(path: Path, *, what: str) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Any file may say which version of this package it needs: ``requires = ">=0.2"``. This entry is checked
    and not returned.

    Parameters
    ----------
    what
        Kind of file, as the first word of an error message: ``"Suite"``.

    Raises
    ------
    UserError
        If the file is missing, is no regular file or larger than ``MAX_BYTES``, is not TOML in UTF-8, is
        nested deeper than ``MAX_DEPTH``, holds a date, a time, control characters, or a number that is not
        finite or has more than 64 bits, or needs another version of this package.
    """
    try:
        text = read_regular(path.resolve(), most_bytes=MAX_BYTES).decode("utf-8")
    except OSError as error:
        raise UserError(f"{what} {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {path} is not valid TOML: {error}.") from error
    table = _parsed(text, f"{what} {path}")
    _check_version(table.pop(REQUIRES, None), f"{what} {path}")
    return table


def _parsed(text: str, name: str) -> dict[str, Any]:
    if _LONG_NAME.search(text):
        raise UserError(f"{name} holds a name of more than {MAX_DEPTH} parts, separated by dots.")
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise UserError(f"{name} is nested deeper than {MAX_DEPTH} tables or lists.") from error
    except ValueError as error:  # not TOML, or a number of thousands of digits
        raise UserError(f"{name} is not valid TOML: {error}.") from error
    for where, problem in _problems(table):
        raise UserError(f"{name}: {where} {problem}.")
    return table


def _problems(table: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the place and the problem of every value that no file of ours holds."""
    left: list[tuple[tuple[object, ...], Any]] = [((), table)]
    while left:
        place, value = left.pop()
        where = ".".join(str(part) for part in place)
        if not where.isprintable():
            yield repr(where), "is a name with control characters"
        if len(place) > MAX_DEPTH:
            yield where, f"is nested deeper than {MAX_DEPTH} tables or lists"
        elif isinstance(value, dict):
            left += [((*place, key), item) for key, item in value.items()]
        elif isinstance(value, list):
            left += [((*place, i), item) for i, item in enumerate(value)]
        elif isinstance(value, str) and _CONTROL.search(value):
            yield where, "holds control characters"
        elif isinstance(value, dt.date | dt.time):
            yield where, f"is a date or a time ({value}); write it as text, in quotes"
        elif isinstance(value, float) and not math.isfinite(value):
            yield where, f"is {value}; it must be a finite number"
        elif isinstance(value, int) and not -_MAX_INT <= value < _MAX_INT:
            yield where, "is a whole number of more than 64 bits"


def _check_version(wanted: Any, name: str) -> None:
    """Refuse a file that needs another version of this package, before its other entries are looked at."""
    if wanted is None:
        return
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    from cellular_bench import __version__

    try:
        fits = SpecifierSet(wanted if isinstance(wanted, str) else "?").contains(
            __version__, prereleases=True
        )
    except InvalidSpecifier as error:
        raise UserError(
            f"{name}: {REQUIRES} must name versions of cellular-bench, such as '>=0.2' (got {wanted!r})."
        ) from error
    if not fits:
        raise UserError(
            f"{name} requires cellular-bench {wanted}, and this is {__version__}. Upgrade: "
            f"pip install --upgrade 'cellular-bench{wanted}'"
        )


def explain(error: ValidationError) -> str:
    """Say in one line what the first problem of a validation error is, and where.

    The value is shown unless it is the table as a whole, as where a field is missing.
    """
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the top level"
    if first["type"] == "extra_forbidden":
        return f"{where}: there is no such entry. Correct its name, or upgrade cellular-bench if it is newer."
    got = "" if isinstance(first["input"], dict) else f" (got {_cut(repr(first['input']))})"
    return f"{where}: {first['msg']}{got}."


def _cut(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
