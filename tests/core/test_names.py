"""Lists of names whose names contain commas."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellular_bench.core.names import among

KNOWN = ["CD4-positive, alpha-beta T cell", "B cell", "T cell", "T cell, CD4", "CD4", "a,b", "a", "b"]


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["CD4-positive, alpha-beta T cell"], ["CD4-positive, alpha-beta T cell"]),
        (["B cell,CD4-positive, alpha-beta T cell"], ["B cell", "CD4-positive, alpha-beta T cell"]),
        (["T cell, CD4"], ["T cell, CD4"]),
        (["T cell, CD4, B cell"], ["T cell, CD4", "B cell"]),
        (['"T cell",CD4'], ["T cell", "CD4"]),
        (["T cell", "CD4"], ["T cell", "CD4"]),
        (["a, b"], ["a,b"]),
        (["a,b,a"], ["a,b", "a"]),
        (["B cell,NK"], ["B cell", "NK"]),
        (["B cell", "B cell"], ["B cell"]),
        ([" "], []),
    ],
)
def test_whole_names_come_first(texts: list[str], names: list[str]) -> None:
    assert among(texts, KNOWN) == names


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(", ".join)


@given(known=st.lists(NAMES, unique=True, min_size=1), data=st.data())
def test_names_given_one_by_one_are_themselves(known: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(known), unique=True))
    assert among(chosen, known) == chosen
    # In one text, every part belongs to a known name.
    found = among([",".join(chosen)], known) if chosen else []
    assert set(found) <= set(known)
