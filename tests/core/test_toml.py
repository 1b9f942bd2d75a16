"""Errors of TOML files name the file, the cause and the place."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from cellular_bench.core.errors import UserError
from cellular_bench.core.toml import explain, read_toml


def test_tables_are_returned(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('title = "Ω"\n[limits]\nseconds = 3\n', encoding="utf-8")
    assert read_toml(path, what="Suite") == {"title": "Ω", "limits": {"seconds": 3}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^Suite .*a\.toml cannot be read: No such file or directory\.$"),
        (b"title = ", r"^Suite .*a\.toml is not valid TOML: "),
        (b'title = "\xff"', r"^Suite .*a\.toml is not valid TOML: .*utf-8"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_toml(path, what="Suite")


class Inner(BaseModel):
    n: int


class Outer(BaseModel):
    inner: Inner
    rows: tuple[Inner, ...] = ()

    @model_validator(mode="after")
    def _few(self) -> "Outer":
        if len(self.rows) > 1:
            raise ValueError("too many rows")
        return self


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"inner": {"n": "x"}}, "inner.n: Input should be a valid integer, .* \\(got 'x'\\)\\."),
        ({"inner": {"n": 1}, "rows": [{"n": None}]}, r"rows.0.n: .* \(got None\)\."),
        ({}, r"inner: Field required\."),
        ({"inner": {"n": 1}, "rows": [{"n": 1}, {"n": 2}]}, r"the top level: Value error, too many rows\."),
    ],
)
def test_the_first_problem_is_explained_with_its_place(table: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(table)
    assert re.fullmatch(message, explain(caught.value))
