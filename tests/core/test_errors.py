"""Reasons that records keep, of errors that anybody may have raised."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellular_bench.core.errors import MAX_REASON, ContractError, NotApplicableError, reason_of

TEXTS = st.text(st.characters(), max_size=400)  # lone surrogates among them


def is_reason(text: str) -> bool:
    return type(text) is str and 0 < len(text) <= MAX_REASON and text.isprintable() and bool(text.strip())


@given(TEXTS, st.sampled_from([ValueError, ContractError, NotApplicableError, KeyboardInterrupt, SystemExit]))
def test_every_message_becomes_a_line(text, kind) -> None:
    assert is_reason(reason_of(kind(text)))


@given(
    st.text(
        st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=MAX_REASON
    )
)
def test_a_short_line_stays_as_it_is(text) -> None:
    assert reason_of(ContractError(text)) == text


def test_attack_by_no_message_gets_the_class() -> None:
    for error in (NotApplicableError(""), NotApplicableError(), NotApplicableError(" \n\t")):
        assert reason_of(error) == "NotApplicableError without a message"


def test_attack_by_a_long_message_is_cut() -> None:
    reason = reason_of(ContractError("word " * 10**6))
    assert is_reason(reason)
    assert reason.startswith("word word")
    assert reason.endswith(" ...")
    assert is_reason(reason_of(ContractError(" " * 10**6)))
    assert is_reason(reason_of(ContractError("x" * 301)))


def test_attack_by_control_characters_shows_none() -> None:
    assert reason_of(ContractError("\x1b[31mred\x07 \ud800\0")) == "\ufffd[31mred\ufffd \ufffd\ufffd"


class Hostile(str):
    """A text whose methods lie."""

    def split(self, *_: object) -> list[str]:
        raise SystemExit

    def __len__(self) -> int:
        return 0

    def __str__(self) -> str:
        return self

    def __getitem__(self, _: object) -> str:
        raise SystemExit


def raising(error: BaseException) -> BaseException:
    def text(_: object) -> str:
        raise error

    return type("Raises", (Exception,), {"__str__": text})("message")


def returning(value: object) -> BaseException:
    return type("Returns", (Exception,), {"__str__": lambda _: value})()


class Nameless(type):
    @property
    def __name__(cls) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "error",
    [
        raising(ValueError("no")),
        raising(SystemExit(0)),
        raising(KeyboardInterrupt()),
        raising(RecursionError()),
        returning(5),
        returning(None),
        returning(Hostile("text")),
        type("\n", (Exception,), {})(),
        type("x" * 10**6, (Exception,), {})(),
        Nameless("Nameless", (Exception,), {"__str__": lambda _: ""})(),
        Exception(10**5000),
        BaseExceptionGroup("group", [KeyboardInterrupt()]),
        UnicodeDecodeError("utf-8", b"\xff" * 10**6, 0, 10, "bad"),
        OSError(5, "text", b"\xff" * 999),
    ],
)
def test_attacks_by_the_code_of_an_error(error) -> None:
    assert is_reason(reason_of(error))


def test_a_message_that_cannot_be_read_is_named_with_the_cause() -> None:
    assert reason_of(raising(SystemExit(0))) == "Raises whose message cannot be read (SystemExit)"
    assert reason_of(returning(5)) == "Returns whose message cannot be read (TypeError)"


class Bulk(list):
    def __repr__(self) -> str:
        raise AssertionError("was written down")

    __str__ = __repr__


def test_attack_by_large_contents_writes_down_a_part() -> None:
    assert reason_of(ValueError([0] * 10**6)) == "[0, 0, 0, 0, 0, 0, ...]"
    assert reason_of(ValueError("text", {1: "x" * 10**6})).startswith("('text', {1: 'xxx")
    assert is_reason(reason_of(ValueError(np.zeros(10**6))))
    assert is_reason(reason_of(ValueError(Bulk([1]))))
    assert reason_of(ValueError(3)) == "3"
    assert reason_of(KeyError("key")) == "'key'"
