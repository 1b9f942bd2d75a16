"""Attacks by the file of outputs that a method's process wrote: bytes of which nothing is known."""

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from scipy import sparse

from cellular_bench.core.errors import ContractError, UserError
from cellular_bench.core.output_arrays import checked_arrays
from cellular_bench.core.outputs import (
    SPARSE,
    SPARSE_PARTS,
    Outputs,
    read_outputs,
    read_returned,
    write_outputs,
)

FAST = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
GENES = ["INS", "GCG"]
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
NAMES = st.sampled_from(["T", "B cell", "NK", "αβ T", "1", "007"])


def read(path: Path, n_obs: int) -> Outputs:
    return read_returned(path, n_obs=n_obs, genes=GENES, most_bytes=2**20, method_id="m")


def same(one: Outputs, other: Outputs) -> bool:
    left, right = one.arrays(), other.arrays()
    if left.keys() != right.keys():
        return False
    for name in left:
        if name in SPARSE:
            pairs = [(getattr(left[name], part), getattr(right[name], part)) for part in SPARSE_PARTS]
        else:
            pairs = [(left[name], right[name])]
        if not all(np.array_equal(a, b) and a.dtype.kind == b.dtype.kind for a, b in pairs):
            return False
    return True


@st.composite
def outputs(draw: Any) -> Outputs:
    """Outputs as they are after the checks, with any of the fields."""
    n = draw(st.integers(1, 5))
    matrix = arrays_of.arrays(np.float32, (n, 2), elements=FINITE)
    links = arrays_of.arrays(np.float32, (n, n), elements=st.sampled_from([0, 0, 0.25, 3]))
    column = arrays_of.arrays(np.float64, (n,), elements=FINITE)
    fields: dict[str, Any] = {}
    for name, values in {
        "X_emb": matrix,
        "corrected": matrix,
        "label_proba": matrix,
        "graph": links.map(sparse.csr_matrix),
        "graph_distances": links.map(sparse.csr_matrix),
        "novelty": column,
        "rejected": arrays_of.arrays(bool, (n,)),
        "label_pred": st.lists(NAMES, min_size=n, max_size=n).map(np.array),
    }.items():
        if draw(st.booleans()) and (name != "graph_distances" or "graph" in fields):
            fields[name] = draw(values)
    if "corrected" in fields:
        fields["genes"] = np.array(GENES)
    if "label_proba" in fields:
        fields["labels"] = np.array(draw(st.lists(NAMES, min_size=2, max_size=2, unique=True)))
    more = (
        {"score": draw(column), "who": np.array(["x"] * (n + 1)), "n": np.array(3)}
        if draw(st.booleans())
        else {}
    )
    return Outputs(obs_names=np.array([f"cell{i}" for i in range(n)]), **fields, more=more)


@FAST
@given(outputs(), st.booleans())
def test_outputs_survive_a_file(tmp_path, given_outputs, compressed) -> None:
    path = tmp_path / "outputs.npz"
    write_outputs(given_outputs, path, compressed=compressed)
    assert same(read_outputs(path), given_outputs)
    n_obs = len(given_outputs.obs_names)
    if compressed:
        with pytest.raises(ContractError, match="compressed in a way that is not read"):
            read(path, n_obs)
    else:
        assert same(read(path, n_obs), given_outputs)
        with pytest.raises(ContractError, match=f"there are {n_obs + 1} cells"):
            read(path, n_obs + 1)
    assert [file.name for file in tmp_path.iterdir()] == ["outputs.npz"]


@FAST
@given(outputs())
def test_what_passed_the_checks_passes_them_again(given_outputs) -> None:
    fields = {name: array for name, array in given_outputs.arrays().items() if name not in given_outputs.more}
    arrays = {
        name: tuple(getattr(array, part) for part in SPARSE_PARTS) if name in SPARSE else array
        for name, array in fields.items()
    }
    checked = checked_arrays("m", arrays, n_obs=len(given_outputs.obs_names), genes=GENES)
    assert same(Outputs(obs_names=given_outputs.obs_names, **checked, more=given_outputs.more), given_outputs)


@FAST
@given(outputs(), st.data())
def test_an_order_and_its_inverse_change_nothing(given_outputs, data) -> None:
    n = len(given_outputs.obs_names)
    order = np.array(data.draw(st.permutations(range(n))))
    names = [f"other{i}" for i in range(n)]
    turned = given_outputs.reordered(order, names)
    assert turned.obs_names.tolist() == names
    assert same(turned.reordered(np.argsort(order), given_outputs.obs_names.tolist()), given_outputs)
    for name, array in given_outputs.arrays().items():
        other = turned.arrays()[name]
        for i in range(n):
            if name in SPARSE:
                assert all(other[i, j] == array[order[i], order[j]] for j in range(n))
            elif name in ("labels", "genes", "n", "who"):
                assert other is array
            elif name != "obs_names":
                assert np.array_equal(other[i], array[order[i]])


@pytest.mark.parametrize("order", [[0, 0, 1], [0, 1], [0, 1, 3], [-1, 0, 1], [0, 1, 2, 3]])
def test_an_order_that_is_none_is_refused(order) -> None:
    found = Outputs(obs_names=np.array(["a", "b", "c"]), novelty=np.zeros(3))
    with pytest.raises(ValueError, match="3 cells"):
        found.reordered(np.array(order), ["x", "y", "z"])
    with pytest.raises(ValueError, match="3 cells"):
        found.reordered(np.arange(3), ["x", "y"])


FIELDS = ("X_emb", "label_pred", "label_proba", "labels", "novelty", "rejected", "corrected", "genes", "more")
MEMBERS = st.sampled_from(
    [*FIELDS, *(f"{name}_{part}" for name in SPARSE for part in SPARSE_PARTS), "score", "x/y"]
)
DTYPES = (
    arrays_of.boolean_dtypes()
    | arrays_of.integer_dtypes()
    | arrays_of.floating_dtypes()
    | arrays_of.complex_number_dtypes()
    | arrays_of.unicode_string_dtypes()
    | arrays_of.datetime64_dtypes()
)


@FAST
@given(
    st.dictionaries(
        MEMBERS,
        arrays_of.arrays(DTYPES, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)),
    )
)
def test_any_arrays_are_outputs_or_refused(tmp_path, members) -> None:
    path = tmp_path / "outputs.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in {"obs_names": np.array(["a", "b"]), **members}.items():
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array)
    try:
        found = read(path, 2)
    except ContractError as error:
        assert str(error).startswith(("m: ", "Output"))
    else:
        assert same(found, found.reordered(np.arange(2), found.obs_names.tolist()))


@FAST
@given(outputs(), st.data())
def test_damage_is_refused_or_changes_nothing(tmp_path, given_outputs, data) -> None:
    path = tmp_path / "outputs.npz"
    write_outputs(given_outputs, path, compressed=False)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        found = read(path, len(given_outputs.obs_names))
    except ContractError as error:
        assert str(error).startswith(("m: ", "Output"))
    else:  # a part may have another name now
        kept, known = found.arrays(), given_outputs.arrays()
        assert all(
            name in SPARSE or name not in known or np.array_equal(kept[name], known[name]) for name in kept
        )


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"obs_names": None}, "it has no array 'obs_names'"),
        ({"obs_names": np.array([1, 2])}, "array 'obs_names' has the type int64"),
        ({"novelty": np.zeros(3)}, "array 'novelty' has shape (3,); there are 2 cells"),
        ({"novelty": np.array([1.0, np.nan])}, "m: novelty is NaN or infinite for 1 of 2 cells"),
        ({"X_emb": np.zeros((2, 1), dtype=complex)}, "array 'X_emb' has the type complex128"),
        ({"X_emb": np.zeros((2, 0))}, "m: the embedding has shape (2, 0)"),
        ({"label_pred": np.array(["x", "y" * 513])}, "holds text of more than 512 characters"),
        ({"label_pred": np.array(["x", "a\0b"])}, "m: label_pred: The name"),
        ({"label_pred": np.array(["x", ""])}, "m: label_pred is missing"),
        ({"label_proba": np.zeros((2, 1))}, "it has 'label_proba' without 'labels'"),
        ({"labels": np.array(["x"])}, "it has 'labels' without 'label_proba'"),
        (
            {"label_proba": np.zeros((2, 2)), "labels": np.array(["x", "x"])},
            "m: labels names 'x' more than once",
        ),
        ({"corrected": np.zeros((2, 2))}, "it has 'corrected' without 'genes'"),
        ({"corrected": np.zeros((2, 2)), "genes": np.array(["INS", "KRT"])}, "is of other genes"),
        ({"corrected": np.zeros((2, 3)), "genes": np.array(["INS", "GCG", "X"])}, "has 3 genes, expected 2"),
        ({"rejected": np.array([2, 0])}, "m: rejected holds other values"),
        ({"graph": np.zeros(2)}, "array 'graph' has the type"),
        ({"more": np.zeros(2)}, "array 'more' has the type"),
        ({"score": np.array([1.0, np.inf])}, "Output 'score' is NaN or infinite"),
        ({"../x": np.zeros(2)}, "Output '../x' cannot be kept"),
        ({"big": np.zeros(2**18)}, "unpacks to"),
        ({f"a{i}": np.zeros(1) for i in range(33)}, "33 outputs"),
        ({f"a{i}": np.zeros(1) for i in range(60)}, "61 arrays"),
    ],
)
def test_an_attack_by_an_array_is_refused(tmp_path, members, message) -> None:
    arrays = {"obs_names": np.array(["a", "b"]), **members}
    np.savez(tmp_path / "outputs.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ContractError) as caught:
        read(tmp_path / "outputs.npz", 2)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", SPARSE)
@pytest.mark.parametrize(
    ("data", "indices", "indptr", "message"),
    [
        ([1.0, 1.0], [0, -1], [0, 1, 2], "links cells that are not there"),
        ([1.0, 1.0], [0, 2], [0, 1, 2], "links cells that are not there"),
        ([1.0, 1.0], [0, 1], [0, 2], "its rows do not fit"),
        ([1.0, 1.0], [0, 1], [1, 1, 2], "its rows do not fit"),
        ([1.0, 1.0], [0, 1], [0, 3, 2], "its rows do not fit"),
        ([1.0, 1.0], [0, 1], [0, 1, 9], "its rows do not fit"),
        ([1.0], [0, 1], [0, 1, 2], "its rows do not fit"),
        ([1.0, -1.0], [0, 1], [0, 1, 2], "1 of 2 values are negative"),
        ([1.0, np.nan], [0, 1], [0, 1, 2], "1 of 2 values are negative, NaN"),
        ([1.0, 1.0], [0.0, 1.0], [0, 1, 2], "its parts have other types"),
        ([1.0, 1.0], [0, 1], None, "has no indptr"),
    ],
)
def test_an_attack_by_links_is_refused(tmp_path, name, data, indices, indptr, message) -> None:
    """Such positions ended the process that scored them."""
    sound = sparse.csr_matrix(np.eye(2, dtype=np.float32))
    arrays = {f"{one}_{part}": getattr(sound, part) for one in SPARSE for part in SPARSE_PARTS}
    arrays |= {f"{name}_data": np.array(data), f"{name}_indices": np.array(indices)}
    arrays |= {f"{name}_indptr": None if indptr is None else np.array(indptr)}
    path = tmp_path / "outputs.npz"
    np.savez(
        path, obs_names=np.array(["a", "b"]), **{n: array for n, array in arrays.items() if array is not None}
    )
    with pytest.raises(ContractError) as caught:
        read(path, 2)
    assert message in str(caught.value)
    with pytest.raises(UserError) as kept:
        read_outputs(path)
    assert message in str(kept.value)


def test_attack_by_a_link_or_a_pipe_is_refused(tmp_path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("link", "pipe", "folder", "nothing"):
        with pytest.raises(ContractError, match="m: the file of its outputs cannot be read"):
            read(tmp_path / name, 2)
        with pytest.raises(UserError, match="does not hold the outputs of a run"):
            read_outputs(tmp_path / name)


def test_writing_replaces_a_link_and_leaves_what_it_points_to(tmp_path) -> None:
    (tmp_path / "other").write_text("kept", encoding="utf-8")
    (tmp_path / "outputs.npz").symlink_to("other")
    write_outputs(Outputs(obs_names=np.array(["a"]), novelty=np.zeros(1)), tmp_path / "outputs.npz")
    assert (tmp_path / "other").read_text(encoding="utf-8") == "kept"
    assert read_outputs(tmp_path / "outputs.npz").novelty.tolist() == [0]
