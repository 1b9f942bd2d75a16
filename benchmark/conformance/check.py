"""A check: what it promises, how to fix a method that breaks the promise, and the function that looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A promise that every method makes, or every metric, or every data set.

    Attributes
    ----------
    check_id
        Name used in ``expected_failed_checks``.
    claim
        What is promised.
    hint
        What to do if it is not kept.
    run
        Raises if the promise is broken.
    """

    check_id: str
    claim: str
    hint: str
    run: Callable[[Any], None]


class BrokenPromiseError(Exception):
    """A check found what it looks for."""


def demand(kept: object, otherwise: str) -> None:
    """Raise if a promise is not kept, saying what was found instead."""
    if not kept:
        raise BrokenPromiseError(otherwise)


def promise(
    checks: list[Check], check_id: str, *, claim: str, hint: str
) -> Callable[[Callable[[Any], None]], None]:
    """Return a decorator that adds a function to a list of checks."""

    def add(run: Callable[[Any], None]) -> None:
        checks.append(Check(check_id=check_id, claim=claim, hint=hint, run=run))

    return add
