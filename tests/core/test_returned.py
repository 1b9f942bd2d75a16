"""Attacks by what a method returns: odd types are converted exactly or refused in words."""

import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from cellular_bench import Corrected, Graph, Prediction
from cellular_bench.core.errors import ContractError, NotFiniteError
from cellular_bench.core.outputs import Outputs
from cellular_bench.core.returned import checked_integration, checked_numbers, checked_prediction

NAMES, GENES = ["c", "a", "b"], ["INS", "GCG", "SST"]
#: 0, 1 and 2^k: all types of numbers hold them.
NUMBERS = np.array([[0.0, 1.0, 2.0], [1.0, 4.0, 8.0], [16.0, 0.0, 1.0]])
LABELS = np.array(["x", "y", "x"])


def predicted(**fields: Any) -> Outputs:
    return checked_prediction("m", Prediction(**{"label_pred": LABELS, **fields}), NAMES)


#: For each output of numbers: its dimensions, how it is returned, and what is kept.
FIELDS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "embedding": (2, lambda X: checked_integration("m", X, NAMES, GENES).X_emb),
    "corrected": (2, lambda X: checked_integration("m", Corrected(X=X), NAMES, GENES).corrected),
    "own embedding": (
        2,
        lambda X: checked_integration("m", Corrected(X=NUMBERS, X_emb=X), NAMES, GENES).X_emb,
    ),
    "graph": (2, lambda X: checked_integration("m", Graph(connectivities=X), NAMES, GENES).graph.toarray()),
    "distances": (
        2,
        lambda X: checked_integration(
            "m", Graph(connectivities=NUMBERS, distances=X), NAMES, GENES
        ).graph_distances.toarray(),
    ),
    "label_proba": (2, lambda X: predicted(label_proba=X, labels=("x", "y", "z")).label_proba),
    "novelty": (1, lambda X: predicted(novelty=X).novelty),
    "plug-in": (1, lambda X: checked_numbers("m", "score", X, NAMES)),
}


def masked(X: Any) -> Any:
    return np.ma.MaskedArray(X, mask=X == 1)


def with_na(X: Any) -> Any:
    as_frame = pd.DataFrame if X.ndim == 2 else pd.Series
    return as_frame(X).astype("Int64").mask(as_frame(X) == 1)


def named_twice(X: Any) -> Any:
    return (pd.DataFrame if X.ndim == 2 else pd.Series)(X, index=["c", "c", "b"])


def memory_map(X: Any) -> Any:
    import tempfile

    file = tempfile.TemporaryFile()  # noqa: SIM115  # the map keeps it
    found = np.memmap(file, dtype=X.dtype, shape=X.shape, mode="w+")
    found[:] = X
    return found


def lazy(X: Any) -> Any:
    import dask.array

    return dask.array.from_array(X)


class Lying(np.ndarray):
    """An array that says something else than it holds, and something else each time."""

    n_times = 0

    @property
    def shape(self) -> tuple[int, ...]:
        Lying.n_times += 1
        return (Lying.n_times,)

    def __array__(self, *args: object, **kwargs: object) -> np.ndarray:
        return np.full((3, 3), np.nan)

    def astype(self, *_: object, **__: object) -> np.ndarray:
        return np.full((3, 3), np.nan)


class Converts:
    """An object that numpy can convert, once."""

    def __init__(self, X: np.ndarray) -> None:
        self.left = [X]

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return self.left.pop()


REFUSED: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "complex": (lambda X: X + 1j, "complex numbers"),
    "complex without imaginary part": (lambda X: X.astype(complex), "complex numbers"),
    "masked": (masked, "masked values"),
    "list of masked": (lambda X: [masked(row) for row in X] if X.ndim == 2 else masked(X), "masked values"),
    "dates": (lambda X: X.astype("datetime64[s]"), "dates"),
    "time spans": (lambda X: X.astype("timedelta64[s]"), "time spans"),
    "text": (lambda X: X.astype(str), "text"),
    "list of text": (lambda X: X.astype(str).tolist(), "text"),
    "variable text": (lambda X: X.astype(np.dtypes.StringDType()), "text"),
    "bytes": (lambda X: X.astype("S"), "bytes"),
    "objects": (lambda X: np.vectorize(decimal.Decimal, otypes=[object])(X), "Python objects"),
    "numbers as objects": (lambda X: X.astype(object), "Python objects"),
    "None": (lambda X: np.where(X == 1, None, X).tolist(), "Python objects"),
    "whole numbers too large": (lambda X: X.astype(np.int64) * (2**53 + 1), "beyond 2"),
    "larger than any type": (lambda X: [[10**30] * 3] * 3 if X.ndim == 2 else [10**30] * 3, "Python objects"),
    "extended precision": (lambda X: X.astype(np.longdouble), "more than double precision"),
    "records": (lambda X: np.zeros(X.shape, dtype=[("a", "f8")]), "records"),
    "no dimension": (lambda X: X.sum(), "has shape ()"),
    "generator": (lambda X: (row for row in X), "has shape ()"),
    "set": (lambda X: set(X.ravel().tolist()), "has shape ()"),
    "unequal lists": (lambda X: [[1.0], [1.0, 2.0], []], "cannot be read as an array"),
    "another dimension": (lambda X: X[..., None], "has shape"),
    "gradient": (lambda X: torch.tensor(X, requires_grad=True), "requires grad"),
    "another device": (lambda X: torch.tensor(X, device="meta"), "meta"),
    "missing": (with_na, "is NaN or infinite|negative, NaN|Python objects"),
    "NaN": (lambda X: np.where(X == 1, np.nan, X), "NaN"),
    "infinite": (lambda X: np.where(X == 1, np.inf, X), "infinite"),
    "a row twice": (named_twice, "names a row twice: row 1 is 'c', expected 'a'"),
}
KEPT: dict[str, Callable[[np.ndarray], Any]] = {
    **{f"type {t}": lambda X, t=t: X.astype(t) for t in "bhilqBHILQefd"},
    "other byte order": lambda X: X.astype(">f8"),
    "flags": lambda X: X.astype(bool),
    "list": lambda X: X.tolist(),
    "mask of nothing": lambda X: np.ma.MaskedArray(X),
    "nullable": lambda X: (pd.DataFrame if X.ndim == 2 else pd.Series)(X).astype("Int64"),
    "mixed frame": lambda X: (
        pd.DataFrame(X).astype({0: "Int64", 1: "bool", 2: "float32"})
        if X.ndim == 2
        else pd.Series(X, dtype="Float32")
    ),
    "sparse frame": lambda X: (pd.DataFrame if X.ndim == 2 else pd.Series)(X).astype(
        pd.SparseDtype(float, 0)
    ),
    "memory map": memory_map,
    "lazy": lazy,
    "tensor": lambda X: torch.tensor(X),
    "lying": lambda X: X.copy().view(Lying),
    "convertible": Converts,
    "not contiguous": lambda X: np.asfortranarray(np.repeat(X, 2, axis=-1))[..., ::2],
    **{
        kind: lambda X, kind=kind: sparse.csr_matrix(X).asformat(kind) if X.ndim == 2 else X
        for kind in ("csr", "csc", "coo", "bsr", "dok", "lil", "dia")
    },
}


def of_dimension(n: int) -> np.ndarray:
    return NUMBERS if n == 2 else NUMBERS[1]


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("field", FIELDS)
def test_an_odd_type_is_refused_in_words(field: str, kind: str) -> None:
    n, keep = FIELDS[field]
    change, message = REFUSED[kind]
    with pytest.raises(ContractError) as caught:
        keep(change(of_dimension(n)))
    assert any(part in str(caught.value) for part in message.split("|")), str(caught.value)
    assert str(caught.value).startswith("m: ")


@pytest.mark.filterwarnings("ignore:.*sparse")
@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("field", FIELDS)
def test_a_type_of_numbers_is_converted_exactly(field: str, kind: str) -> None:
    n, keep = FIELDS[field]
    given = of_dimension(n)
    kept = keep(KEPT[kind](given))
    assert type(kept) is np.ndarray
    assert kept.dtype in (np.float32, np.float64)
    assert kept.dtype.isnative
    expected = given
    if kind == "flags":
        expected = given != 0
    elif kind == "mixed frame" and n == 2:
        expected = np.column_stack([given[:, 0], given[:, 1] != 0, given[:, 2]])
    np.testing.assert_array_equal(kept, expected)


@pytest.mark.parametrize("field", [name for name, (n, _) in FIELDS.items() if n == 2])
@pytest.mark.parametrize("kind", ["csr", "csc", "coo"])
@pytest.mark.parametrize("position", [-1, 3, 2**31 - 1, -(2**31)])
def test_attack_by_positions_outside_a_sparse_matrix(field: str, kind: str, position: int) -> None:
    matrix = sparse.csr_matrix(NUMBERS).asformat(kind)
    (matrix.col if kind == "coo" else matrix.indices)[1] = position
    with pytest.raises(ContractError, match="is no sound sparse matrix"):
        FIELDS[field][1](matrix)


def test_attack_by_rows_that_do_not_fit_their_values() -> None:
    for rows in ([0, 2, 1, 5], [1, 2, 3, 5], [0, 2, 4, 9], [0, 2, 5]):
        matrix = sparse.csr_matrix(NUMBERS)
        matrix.indptr = np.array(rows, dtype=np.int32)
        with pytest.raises(ContractError, match="is no sound sparse matrix"):
            checked_integration("m", Graph(connectivities=matrix), NAMES, GENES)


def test_links_of_one_pair_are_added_and_sorted() -> None:
    twice = sparse.csr_matrix(([1.0, 2.0, 4.0], [2, 0, 2], [0, 3, 3, 3]), shape=(3, 3))
    graph = checked_integration("m", Graph(connectivities=twice), NAMES, GENES).graph
    assert (graph.indices.tolist(), graph.data.tolist()) == ([0, 2], [2.0, 5.0])
    assert twice.nnz == 3, "what the method returned is as it was"
    hidden = sparse.csr_matrix(([-1.0, 2.0], [0, 0], [0, 2, 2, 2]), shape=(3, 3))
    with pytest.raises(NotFiniteError, match="1 of 2 values are negative"):
        checked_integration("m", Graph(connectivities=hidden), NAMES, GENES)
    overflow = sparse.csr_matrix(([3e38, 3e38], [0, 0], [0, 2, 2, 2]), shape=(3, 3))
    with pytest.raises(NotFiniteError, match="infinite"):
        checked_integration("m", Graph(connectivities=overflow), NAMES, GENES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([1j, 2, 3]), "complex numbers; names of labels are text or numbers"),
        (np.array([1, 2, 3], dtype="datetime64[s]"), "dates; names"),
        (np.ma.MaskedArray(["x", "y", "z"], mask=[0, 1, 0]), "1 masked values"),
        ([decimal.Decimal(1), "x", "y"], "Decimal objects; names of labels are text or numbers"),
        ([["x"], ["y", "z"], []], "list objects; names"),
        ([["x"], ["y"], ["z"]], "has shape (3, 1), expected (3,)"),
        ((name for name in "xyz"), "holds generator objects"),
        ("xyz", "has shape (), expected (3,)"),
        (None, "has shape (), expected (3,)"),
        (["x", "y" * 513, "z"], "A name has 513 characters"),
        (np.array(["x", "y" * 513, "z"]), "A name has 513 characters"),
        (["x", "y\0y", "z"], r"The name 'y\x00y' holds the character '\x00'"),
        (np.array(["x", "y\0y", "z"]), r"The name 'y\x00y' holds the character '\x00'"),
        (["x", "\x1b[31m", "z"], r"holds the character '\x1b'"),
        (np.array(["x", "\x1b[31m", "z"]), r"holds the character '\x1b'"),
        (["x", "\ud800", "z"], r"holds the character '\ud800'"),
        (np.array(["x", "\ud800", "z"]), r"holds the character '\ud800'"),
        (pd.Categorical(["x", "y\ny", "z"]), r"holds the character '\n'"),
        (["x", "\u200b", "z"], "is missing (None, NaN or empty) for 1 of 3 cells"),
        (pd.Series(["x", "y", "z"], index=["c", "c", "c"]), "names a row twice"),
    ],
)
def test_labels_that_are_no_names_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        predicted(label_pred=labels)
    assert message in str(caught.value)


def test_attack_by_one_long_label_uses_no_memory_per_cell() -> None:
    """As text of fixed width, these would have 40 GB."""
    names = [f"c{i}" for i in range(10_000)]
    labels = ["x"] * 9_999 + ["y" * 10**6]
    for given in (
        labels,
        tuple(labels),
        pd.Series(labels),
        pd.Categorical(labels),
        np.array(labels, dtype=object),
    ):
        with pytest.raises(ContractError, match="A name has 1000000 characters"):
            checked_prediction("m", Prediction(label_pred=given), names)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("x", "y", " x"), "m: labels names 'x' more than once"),
        (("x", "y", "z" * 600), "m: labels: A name has 600 characters"),
        (None, "has shape (3, 3), expected (3, 0)"),
        ("xyz", "m: labels has shape (), expected one dimension"),
        ([["x", "y", "z"]], "m: labels has shape (1, 3), expected one dimension"),
    ],
)
def test_names_of_probabilities_that_are_no_names_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        predicted(label_proba=NUMBERS, labels=labels)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "rejected",
    [
        [1j, 0, 0],
        [decimal.Decimal(1), 0, 0],
        ["True", "False", "True"],
        [True, None, False],
        [2, 0, 1],
        np.ma.MaskedArray([True, False, True], mask=[0, 1, 0]),
        pd.Series([True, None, False], dtype="boolean"),
        np.array([1, 0, 0], dtype="timedelta64[s]"),
    ],
)
def test_flags_are_true_or_false(rejected: Any) -> None:
    with pytest.raises(ContractError, match=r"m: rejected (holds other values|has 1 masked)"):
        predicted(rejected=rejected)


@pytest.mark.parametrize(
    "rejected", [[1, 0, 1.0], np.array([True, False, True]), pd.Series([True, False, True])]
)
def test_flags_may_be_numbers(rejected: Any) -> None:
    assert predicted(rejected=rejected).rejected.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"score": [1.0, 2.0]}, "'score' (list) cannot be kept"),
        ({"score": np.array([1j])}, "'score' (complex128) cannot be kept"),
        ({"score": np.array([np.nan])}, "'score' is NaN or infinite"),
        ({"score": np.array(["x" * 513])}, "text of more than 512 characters"),
        ({"score": np.zeros((1,) * 9)}, "9 dimensions"),
        ({"../score": np.zeros(1)}, "name of a Python variable"),
        ({"graph_data": np.zeros(1)}, "choose a name other than"),
        ({f"a{i}": np.zeros(1) for i in range(33)}, "33 outputs; at most 32"),
    ],
)
def test_outputs_of_plug_ins_are_numbers_flags_or_text(more: Any, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        Outputs(obs_names=np.array(NAMES), more=more)
    assert message in str(caught.value)
