"""Names of labels and batches, read in one way from the numbers, text and bytes of files and arrays."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UserError
from cellular_bench.core.keys import MISSING_TEXTS, NA_TEXTS

#: Why metrics that need labels have no value on cells without.
NO_LABELS: Final = "needs labels, and there are none for this run"
#: Similarity from which a name may be a misspelling; one letter of five, as in "type1" and "type2", is less.
SIMILAR: Final = 0.81
#: Number of names that a note lists.
N_NAMES: Final = 5
#: Most characters of a name. Arrays of text have as many for each cell as the longest name.
MAX_NAME: Final = 512
#: Characters without width: of byte order, of joining, and of places to break a line.
_WITHOUT_WIDTH: Final = "\u00ad\u200b\u200c\u200d\u2060\ufeff"
#: What does not count around a name: spaces, characters without width, and at the end zeros, which numpy
#: drops from text of fixed width.
_AROUND: Final = re.compile(rf"\A[\s{_WITHOUT_WIDTH}]+|[\s\0{_WITHOUT_WIDTH}]+\Z")
#: What a name cannot hold: no JSON or HDF5 file keeps all of these.
_NOT_IN_NAMES: Final = re.compile(r"[\0-\x1f\x7f-\x9f\ud800-\udfff]")
#: Whole numbers beside a missing one become 1.0, 2.0 in many programs: they mean 1 and 2.
_WHOLE: Final = re.compile(r"(?:-?(0)|(-?[1-9][0-9]*))\.0+")


def label_name(value: object) -> str:
    """Return the name that a value stands for; empty for a missing one.

    Spaces and characters without width around it do not count, and 1.0 is 1. Other numbers in text keep their
    spelling, such as 007 and 1E1.

    Raises
    ------
    UserError
        If it has more than 512 characters, or holds a control character or half a character (a lone
        surrogate).

    Examples
    --------
    >>> [label_name(value) for value in (" T cell", b"T cell", 1, 1.0, "1.0", "007", "1E1")]
    ['T cell', 'T cell', '1', '1', '1', '007', '1E1']
    >>> [label_name(value) for value in (None, float("nan"), "", "NaN", "<NA>", "NA")]
    ['', '', '', '', '', 'NA']
    """
    if value is None:
        return ""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = _AROUND.sub("", text)
    if fault := fault_of_name(text):
        raise UserError(fault)
    if text.lower() in MISSING_TEXTS:
        return ""
    whole = _WHOLE.fullmatch(text)
    return (whole[1] or whole[2]) if whole else text


def fault_of_name(text: str) -> str | None:
    r"""Return why a text cannot be a name of a label, a batch, a cell or a gene; None if it can.

    Examples
    --------
    >>> fault_of_name("T\0cell")
    "The name 'T\\x00cell' holds the character '\\x00'. Rename it."
    """
    if len(text) > MAX_NAME:
        start = f"{text[:20]!a}..."
        return f"A name has {len(text)} characters ({start}); at most {MAX_NAME} are allowed. Shorten it."
    found = _NOT_IN_NAMES.search(text)
    return f"The name {text[:60]!a} holds the character {found[0]!a}. Rename it." if found else None


def label_names(values: Any) -> NDArray[np.str_]:
    """Return the names of labels or batches, (n,), as :func:`label_name` reads each.

    Raises
    ------
    UserError
        As for :func:`label_name`, or if a value is no text or number.

    Examples
    --------
    >>> label_names([1.0, None, 2.0]).tolist()
    ['1', '', '2']
    """
    import pandas as pd

    if isinstance(values, np.ndarray) and values.dtype.kind == "U":
        return _text_names(values)
    array = _one_dimensional(values)
    is_text = array.dtype == object or isinstance(array.dtype, pd.StringDtype)
    if is_text and any(isinstance(value, str) and "\0" in value for value in array):
        return np.array([*map(label_name, array)], dtype=str)  # pandas compares text up to a zero only
    try:
        codes, given = pd.factorize(array)
    except TypeError as error:  # lists and other values that cannot be compared
        raise UserError(f"Names are text or numbers; there are other values: {error}.") from error
    names: NDArray[np.str_] = np.array([*map(label_name, given), ""], dtype=str)[codes]
    return names


def _text_names(texts: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return the names of texts; most are their own names, which is quick to see."""
    longest = max(map(len, MISSING_TEXTS))
    is_read = (np.char.str_len(texts) <= longest) | np.char.endswith(texts, "0")
    is_read |= np.char.strip(texts) != texts
    is_read |= _has_odd_characters(texts)
    if not is_read.any():
        return texts
    names = texts.copy()
    names[is_read] = label_names(texts[is_read].astype(object))
    return names


def _has_odd_characters(texts: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Whether each text is too long, or holds characters that no name has or that do not count around it."""
    if texts.dtype.itemsize > 4 * MAX_NAME:
        return np.ones(texts.shape, dtype=bool)
    width = texts.dtype.itemsize // 4
    native = np.ascontiguousarray(texts, dtype=texts.dtype.newbyteorder("="))
    characters = native.view(np.uint32).reshape(len(texts), width)
    is_odd = (characters < ord(" ")) & (characters > 0)
    is_odd |= (characters >= 0x7F) & (characters <= 0x9F)
    is_odd |= (characters >= 0xD800) & (characters <= 0xDFFF)
    for letter in _WITHOUT_WIDTH:
        is_odd |= characters == ord(letter)
    is_zero_inside = (characters[:, :-1] == 0) & (characters[:, 1:] != 0)
    is_odd_text: NDArray[np.bool_] = is_odd.any(axis=1) | is_zero_inside.any(axis=1)
    return is_odd_text


def are_labelled(labels: NDArray[np.str_]) -> bool:
    """Return whether any cell has a label: in data without labels, each has the empty one.

    Examples
    --------
    >>> are_labelled(np.array(["T", "B"])), are_labelled(np.array(["", ""]))
    (True, False)
    """
    return bool((labels != "").any())


def notes_on_names(values: Any, what: str) -> list[str]:
    """Return notes on the names of a column: spellings that became one, and words for missing values.

    Parameters
    ----------
    values
        The column as given.
    what
        What to call it.
    """
    notes = [] if (spellings := note_on_spellings(values)) is None else [spellings]
    if words := missing_words(values):
        notes.append(f"{_cells(sum(words.values()))} with {_quoted(words)}: these words count as missing.")
    names = {text: n for text, n in _texts(values).items() if label_name(text).lower() in NA_TEXTS}
    if names:
        notes.append(
            f"{_cells(sum(names.values()))} with {_quoted(names)}, which is read as a name. "
            "If there is none, leave the entry empty."
        )
    return [f"{what}: {note}" for note in notes]


def note_on_spellings(values: Any) -> str | None:
    """Return a note on texts that are different spellings of one name; None without any.

    Examples
    --------
    >>> note_on_spellings(["T cell", " T cell", "B cell", "1", "1.0"])
    "Spellings of one name: ' T cell' and 'T cell'; '1' and '1.0'."
    """
    of_name: dict[str, list[str]] = {}
    for text in sorted(_texts(values)):
        of_name.setdefault(label_name(text), []).append(f"'{text}'")
    same = [" and ".join(texts) for name, texts in of_name.items() if name and len(texts) > 1]
    return f"Spellings of one name: {_listed(same, '; ')}." if same else None


def missing_words(values: Any) -> dict[str, int]:
    """Count the cells of each word, other than blanks, that counts as missing."""
    return {text: n for text, n in _texts(values).items() if _AROUND.sub("", text) and not label_name(text)}


def note_on_unseen(label_pred: NDArray[np.str_], known: Iterable[str]) -> str | None:
    """Return a note on predicted labels that are not known, with the closest known ones; None without any.

    Examples
    --------
    >>> note_on_unseen(np.array(["T", "nk cell", "NK cell"]), ["NK cell", "T"])
    "Predicted labels that are no true label: 'nk cell' (1 cell; did you mean 'NK cell'?)."
    """
    true = sorted(set(map(str, known)))
    names, cells = np.unique(label_pred, return_counts=True)
    unseen = {str(name): int(n) for name, n in zip(names, cells, strict=True) if name and name not in true}
    if not unseen:
        return None
    plain = {_plain(name): name for name in true}
    parts = []
    for name in sorted(unseen, key=lambda name: (-unseen[name], name)):
        close = [plain[one] for one in get_close_matches(_plain(name), plain, n=1, cutoff=SIMILAR)]
        hint = f"; did you mean '{close[0]}'?" if close else ""
        parts.append(f"'{name}' ({_cells(unseen[name])}{hint})")
    return f"Predicted labels that are no true label: {_listed(parts)}."


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold()) or name


def _one_dimensional(values: Any) -> Any:
    import pandas as pd

    if isinstance(values, pd.Series | pd.Index | pd.Categorical):
        return values
    array = np.asarray(values)
    return array.astype(object) if array.dtype.kind in "SUT" else array


def _texts(values: Any) -> dict[str, int]:
    """Count the cells of each text; numbers have one spelling, which is their name."""
    import pandas as pd

    counted: dict[str, int] = {}
    for value, n in pd.Series(_one_dimensional(values)).value_counts(sort=False).items():
        if n:
            text = value if isinstance(value, str) else label_name(value)
            counted[text] = counted.get(text, 0) + int(n)
    return counted


def _cells(n: int) -> str:
    return f"{n} cell{'' if n == 1 else 's'}"


def _quoted(names: Iterable[str]) -> str:
    return _listed(f"'{name}'" for name in names)


def _listed(names: Iterable[str], separator: str = ", ") -> str:
    parts = list(names)
    return separator.join([*parts[:N_NAMES], "..."] if len(parts) > N_NAMES else parts)
