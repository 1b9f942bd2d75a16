"""Names of labels: one reading of numbers, text and bytes, for every container."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellular_bench.core.errors import UserError
from cellular_bench.core.labels import (
    label_name,
    label_names,
    missing_words,
    note_on_spellings,
    note_on_unseen,
    notes_on_names,
)

#: Without control characters, which names cannot hold.
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8) | st.text(
    "a1. \u200b", max_size=5
)
SPACES = st.text(" \t\n\u00a0\u200b\ufeff", max_size=3)
SAFE = st.integers(-(2**53) + 1, 2**53 - 1)


@given(SAFE)
def test_a_whole_number_has_one_name(number):
    forms = [number, float(number), np.int64(number), np.float64(number), str(number), f"{number}.0"]
    assert {label_name(form) for form in forms} == {str(number)}


@given(st.floats(allow_nan=False))
def test_a_float_is_named_as_its_text(number):
    assert label_name(number) == label_name(str(number)) == label_name(np.float64(number))


@given(TEXTS, SPACES)
def test_zeros_at_the_end_do_not_count(text, after):
    assert label_name(text + "\0" + after) == label_name(text)


@given(TEXTS, SPACES, SPACES)
def test_spaces_around_a_name_do_not_count(text, before, after):
    name = label_name(text)
    assert label_name(before + text + after) == name
    assert label_name(name) == name, "reading twice changes nothing"
    assert label_name(text.encode()) == name


@pytest.mark.parametrize(
    "text", ["007", "012", "1E1", "1e1", "2.10", "1.5", "0x10", "1_000", "+1", "NA", "None"]
)
def test_other_text_keeps_its_spelling(text):
    assert label_name(text) == text


@pytest.mark.parametrize(
    "nothing", [None, float("nan"), np.nan, pd.NA, "", " ", "nan", "NaN", "NAN ", "<NA>", b"nan"]
)
def test_missing_values_and_words_for_them_have_no_name(nothing):
    assert label_name(nothing) == ""
    assert label_names(pd.Series([nothing, "T"], dtype=object)).tolist() == ["", "T"]


@given(st.lists(st.one_of(TEXTS, st.none(), st.integers(-99, 99), st.floats(-99, 99)), max_size=8))
def test_a_column_is_read_value_by_value(values):
    column = pd.Series(values, dtype=object)
    assert label_names(column).tolist() == [label_name(value) for value in values]
    assert label_names(column.astype("category")).tolist() == label_names(column).tolist()
    texts = np.array([str(value) for value in values], dtype=str)
    assert label_names(texts).tolist() == [label_name(text) for text in texts]


@pytest.mark.parametrize(
    "values",
    [
        [1, 2, None],
        np.array([1.0, 2.0, np.nan]),
        np.array([1, 2, np.nan], dtype=np.float32),
        np.array(["1", "2.0", "nan"]),
        np.array([b"1", b"2 ", b""]),
        pd.Series([1, 2, pd.NA], dtype="Int64"),
        pd.Series(["1", " 2", pd.NA], dtype="string"),
        pd.Series([1.0, 2.0, np.nan]).astype("category"),
        pd.Categorical(["1", "2", None]),
        pd.Index(["1", "2", "<NA>"]),
    ],
)
def test_every_container_gives_the_same_names(values):
    assert label_names(values).tolist() == ["1", "2", ""]


def test_notes_tell_what_the_reading_changed():
    values = ["T", " T", "nan", "<NA>", "NA", "NA", "", None]
    assert missing_words(values) == {"nan": 1, "<NA>": 1}
    assert notes_on_names(values, "obs['x']") == [
        "obs['x']: Spellings of one name: ' T' and 'T'.",
        "obs['x']: 2 cells with 'nan', '<NA>': these words count as missing.",
        "obs['x']: 2 cells with 'NA', which is read as a name. If there is none, leave the entry empty.",
    ]
    assert notes_on_names(np.array([1.0, 2.0, np.nan]), "x") == []
    assert note_on_spellings(pd.Series(["1", 1.0, "007", "7"], dtype=object)) is None


@given(st.lists(TEXTS, max_size=6), st.lists(TEXTS, max_size=6))
def test_a_note_names_exactly_the_predictions_that_are_unknown(predicted, known):
    names, true = label_names(pd.Series(predicted, dtype=object)), [*map(label_name, known)]
    unseen = set(names) - set(true) - {""}
    note = note_on_unseen(names, true)
    assert (note is None) == (not unseen)
    if len(unseen) == 1:
        assert f"'{unseen.pop()}' (" in note


ODD = {
    "long": "x" * 513,
    "zero inside": "a\0b",
    "tab": "a\tb",
    "escape": "\x1b[31ma",
    "C1": "a\x9b",
    "half": "a\ud800",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "container",
    [
        list,
        np.array,
        pd.Series,
        lambda x: pd.Series(x, dtype="string"),
        pd.Categorical,
        lambda x: np.array(x).astype(">U600"),
        pd.Index,
    ],
)
def test_attacks_by_names_that_no_file_keeps_are_refused(container, odd):
    try:
        given = container(["a", odd])
    except UnicodeEncodeError:
        pytest.skip("this version of pandas refuses the text itself")
    if given[1] == odd:  # pandas makes categories of text up to a zero
        with pytest.raises(UserError, match=r"513 characters|holds the character"):
            label_names(given)
    else:
        assert (container, odd) == (pd.Categorical, ODD["zero inside"])
    assert label_names(container(["a", "x" * 512])).tolist() == ["a", "x" * 512]


def test_attack_by_one_long_name_uses_no_memory_per_cell():
    """As text of fixed width, these would have 40 GB."""
    values = pd.Series(["a"] * 9_999 + ["b" * 10**6])
    for column in (values, values.astype("category"), [*values.tolist()[:-1], b"b" * 10**6]):
        with pytest.raises(UserError, match="A name has 1000000 characters"):
            label_names(pd.Series(column))


@pytest.mark.parametrize("mark", ["\u200b", "\ufeff", "\u00ad", "\u200d \u2060"])
def test_characters_without_width_do_not_count_around_a_name(mark):
    for container in (list, np.array, pd.Series):
        assert label_names(container([f"{mark}T cell{mark}", mark, f"{mark}nan", "a\u200db"])).tolist() == [
            "T cell",
            "",
            "",
            "a\u200db",
        ]


def test_values_without_a_name_are_refused():
    with pytest.raises(UserError, match="Names are text or numbers"):
        label_names(pd.Series([["a"], ["b"]]))


@given(st.lists(st.text(max_size=6), max_size=6))
def test_arrays_and_lists_of_any_text_have_the_same_names(texts):
    def read(values):
        try:
            return label_names(values).tolist()
        except UserError:
            return None

    assert read(np.array(texts, dtype=str)) == read(pd.Series(texts, dtype=object))
