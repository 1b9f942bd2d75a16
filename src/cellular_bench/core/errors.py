"""Errors that say what was wrong, what came, what was wanted and what to do.

Every error owns the exit code of the command that it ends. Only :class:`UserError` and its
children are shown without a traceback: they are about the input, not about this program.
"""

import reprlib
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import ClassVar, Final

#: Characters of a reason in a record.
MAX_REASON: Final = 600


class BenchError(Exception):
    """Root of all errors raised on purpose by this package."""

    exit_code: ClassVar[int] = 1


class UserError(BenchError):
    """A request that cannot be carried out as it was made."""

    exit_code: ClassVar[int] = 2


class UnknownNameError(UserError):
    """A name that nothing is registered under, with the closest known ones.

    Examples
    --------
    >>> str(UnknownNameError("method", "harmoni", ["harmony", "pca"]))
    "Unknown method 'harmoni'. Did you mean 'harmony'? Known: harmony, pca."
    """

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        names = sorted(known)
        close = get_close_matches(str(name), names, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        super().__init__(f"Unknown {kind} '{name}'.{hint} Known: {', '.join(names) or 'none'}.")


class DataError(UserError):
    """A data set that breaks the data contract (``docs/data-contract.md``).

    Parameters
    ----------
    source
        What was being loaded: a path or a ``dataset_id``.
    problems
        Every problem found, one sentence each.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{source} cannot be used:{lines}")

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.source, self.problems)


class NotApplicableError(BenchError):
    """A method that has no meaning on this input; recorded as ``not_applicable`` with its reason."""


class ContractError(BenchError):
    """A method whose output is not what the interface promises; recorded as ``failed``."""


class NotFiniteError(ContractError):
    """An output of the right shape that holds NaN or infinity, or lacks a value."""


class ProgramError(BenchError):
    """A program that failed in a separate environment; recorded as ``failed``."""


class UndefinedError(BenchError):
    """A metric that has no value for this input; recorded as a missing score with its reason.

    Parameters
    ----------
    reason
        Why there is no value, in words.
    by_output
        False where the labels or batches of the cells forbid the metric, for every method alike.
        True where the output of this method does; the method is then incomplete.
    """

    def __init__(self, reason: str, *, by_output: bool = False) -> None:
        super().__init__(reason)
        self.by_output = by_output


def reason_of(error: BaseException) -> str:
    r"""Return the message of an error that anybody may have raised: one line, printable, never empty.

    At most 600 characters; other characters than printable ones become a question mark in a box. An error
    without a message, or whose message cannot be had, is described by its class.

    Examples
    --------
    >>> reason_of(ValueError("two\n lines")), reason_of(NotApplicableError(""))
    ('two lines', 'NotApplicableError without a message')
    """
    name = _one_line(_class_name(error), most=100) or "Error"
    try:
        message = _one_line(_message(error))
    except BaseException as fault:  # the code of an error may raise anything; the reason says what
        return f"{name} whose message cannot be read ({_one_line(_class_name(fault), most=100)})"
    return message or f"{name} without a message"


def _one_line(text: str, *, most: int = MAX_REASON) -> str:
    """Return the beginning of a text as one printable line."""
    # The function of str itself: the text may be of a class that has others.
    words = " ".join(str.__getitem__(text, slice(_MAX_READ)).split())
    line = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)
    return line if len(line) <= most else f"{line[: most - 4].rstrip()} ..."


def _message(error: BaseException) -> str:
    """Return a message without writing down large contents."""
    if type(error).__str__ is BaseException.__str__ and any(isinstance(arg, _LARGE) for arg in error.args):
        return _SHORT.repr(error.args[0] if len(error.args) == 1 else error.args)
    return str(error)


def _class_name(error: BaseException) -> str:
    """Return the name of a class, by the function of type itself: the class may be of one that has others."""
    name: str = type.__dict__["__name__"].__get__(type(error))
    return name


#: A longer text may hold nothing but spaces; no more of it is looked at.
_MAX_READ: Final = 10_000
#: Contents that can be large, and are written down in part.
_LARGE: Final = (list, tuple, dict, set, frozenset, bytes, bytearray)
_SHORT: Final = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = MAX_REASON
