"""JSON of any content is read, or refused with a reason."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellular_bench.core.errors import UserError
from cellular_bench.core.json_files import MOST_LEVELS, parse_json, read_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(value=JSON, ascii_only=st.booleans())
def test_what_json_can_say_is_read_as_the_library_reads_it(value: object, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(content=st.binary())
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        parse_json(content)
    except ValueError:
        return
    json.loads(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 100_000, "nested more than"),
        (b'{"a":' * 100_000, "nested more than"),
        (b"[" * (MOST_LEVELS + 1) + b"]" * (MOST_LEVELS + 1), "nested more than"),
        (b"NaN", "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"1e999", "1e999 is too large"),
        (b"1" * 5_000, "has 5000 digits"),
        (b'{"a": {"b": 1, "b": 2}}', "the key 'b' occurs twice"),
        (rb'{"a": ["\ud800"]}', "half of a character"),
        (rb'{"\udfff": 1}', "half of a character"),
        (b'"\xed\xa0\x80"', "can't decode"),
        (b"\xff\xfe1\x00", "can't decode"),
        (b"", "Expecting value"),
    ],
)
def test_odd_json_is_refused_with_its_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "suite.json").write_bytes(content)
    with pytest.raises(UserError, match=f"suite.json is not a suite: .*{reason}"):
        read_json(tmp_path / "suite.json", what="suite", most_bytes=10**7)


def test_a_character_of_two_halves_is_whole() -> None:
    assert parse_json(rb'"\ud83d\ude00"') == "\N{GRINNING FACE}"


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(b" " * 11)
    with pytest.raises(UserError, match="more than 10 bytes"):
        read_json(tmp_path / "plan.json", what="plan", most_bytes=10)
