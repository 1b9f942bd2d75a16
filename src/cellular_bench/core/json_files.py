"""Read JSON files that somebody else may have written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from cellular_bench.core.errors import UserError
from cellular_bench.core.files import read_regular

#: The deepest that objects and lists are nested in a file; records reach six.
MOST_LEVELS: Final = 64
#: The most digits of a whole number: those of 64 bits.
MOST_DIGITS: Final = 20


def read_json(path: Path, *, what: str, most_bytes: int, most_number: float = math.inf) -> Any:
    """Return the content of a JSON file.

    Numbers are finite and of usual length, text is complete characters, and no key occurs twice.

    Parameters
    ----------
    what
        What the file is, for the error: ``"suite"``.
    most_number
        Numbers are smaller than this.

    Raises
    ------
    UserError
        If the file is a link, a pipe, a folder or too large, cannot be read, or does not hold such JSON.
    """
    try:
        content = read_regular(path, most_bytes=most_bytes)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    try:
        return parse_json(content, most_number=most_number)
    except ValueError as error:
        raise UserError(f"{path} is not a {what}: {error}.") from error


def parse_json(content: bytes, *, most_number: float = math.inf) -> Any:
    """Return the content of JSON text.

    Raises
    ------
    ValueError
        As for :func:`read_json`.

    Examples
    --------
    >>> parse_json(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    """
    try:
        text = content.decode()
        value = json.loads(
            text,
            object_pairs_hook=_once_each,
            parse_constant=_no_number,
            parse_float=partial(_finite, most_number),
            parse_int=partial(_whole, most_number),
        )
    except RecursionError as error:
        raise ValueError(f"it is nested more than {MOST_LEVELS} deep") from error
    has_halves = re.search(r"\\u[dD][89a-fA-F]", text) is not None  # or whole characters, of two such
    _check(value, has_halves=has_halves)
    return value


def _check(value: Any, *, has_halves: bool) -> None:
    """Look at all levels, one after the other: no recursion, however deep they are."""
    level = [value]
    for _ in range(MOST_LEVELS):
        if has_halves:
            _check_text(level)
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise ValueError(f"it is nested more than {MOST_LEVELS} deep")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return (*value, *value.values())  # keys are looked at, too
    return value if isinstance(value, list) else ()


def _check_text(values: Sequence[Any]) -> None:
    try:
        "".join(value for value in values if isinstance(value, str)).encode()
    except UnicodeEncodeError as error:
        raise ValueError("text holds half of a character") from error


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:100]!r} occurs twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _finite(most: float, text: str) -> float:
    number = float(text)
    if not abs(number) < most:
        raise ValueError(f"the number {text[:30]} is too large")
    return number


def _whole(most: float, text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"{text[:30]}... has {len(text)} digits")
    number = int(text)
    if not abs(number) < most:
        raise ValueError(f"the number {text[:30]} is too large")
    return number
