"""What a method returns is checked before it is believed."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cellular_bench import Prediction
from cellular_bench.benchmark.errors import ContractError, UserError
from cellular_bench.benchmark.outputs import (
    checked_embedding,
    checked_prediction,
    read_outputs,
    write_outputs,
)

NAMES = ["c", "a", "b"]


def test_an_embedding_keeps_its_rows() -> None:
    X = np.arange(6.0).reshape(3, 2)
    for returned in (X, X.tolist(), sparse.csr_matrix(X), pd.DataFrame(X, index=NAMES), pd.DataFrame(X)):
        outputs = checked_embedding("m", returned, NAMES)
        assert outputs.X_emb.tolist() == X.tolist()
        assert outputs.obs_names.tolist() == NAMES


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros((2, 4)), "m: the embedding has shape (2, 4), expected (3, n_latent): one row per cell"),
        (np.zeros(3), "has shape (3,), expected (3, n_latent)"),
        (np.zeros((3, 0)), "has shape (3, 0)"),
        ([[1, 2], [np.inf, 0], [np.nan, 1]], "is NaN or infinite for 2 of 3 cells"),
        ([["x"], ["y"], ["z"]], "is not an array of numbers"),
        (None, "expected (3, n_latent)"),
        (np.array([[1.0], [1e39], [0.0]]), "is NaN or infinite for 1 of 3 cells"),
        (
            pd.DataFrame(np.zeros((3, 1)), index=["a", "b", "c"]),
            "has its rows in another order: row 0 is 'a', expected 'c'",
        ),
        (pd.DataFrame(np.zeros((3, 1)), index=["x", "y", "z"]), "names its rows 'x'..., expected obs_names"),
    ],
)
def test_a_wrong_embedding_is_refused(returned: object, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        checked_embedding("m", returned, NAMES)
    assert message in str(caught.value)


def prediction(**changes: object) -> Prediction:
    given: dict = {
        "label_pred": np.array(["x", "y", "x"]),
        "label_proba": np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]),
        "labels": ("x", "y"),
        "novelty": np.array([0.1, 0.2, 0.4]),
    }
    return Prediction(**{**given, **changes})


def test_a_prediction_survives_a_file(tmp_path) -> None:
    outputs = checked_prediction("m", prediction(rejected=np.array([False, True, False])), NAMES)
    write_outputs(outputs, tmp_path / "outputs.npz")
    read = read_outputs(tmp_path / "outputs.npz")
    assert {name: array.tolist() for name, array in read.arrays().items()} == {
        name: array.tolist() for name, array in outputs.arrays().items()
    }
    assert read.label_pred.tolist() == ["x", "y", "x"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_pred": np.array(["x", "y"])}, "m: label_pred has shape (2,), expected (3,)"),
        ({"novelty": np.array([0.1, np.nan, 0.2])}, "m: novelty is NaN or infinite for 1 of 3 cells"),
        ({"novelty": np.zeros((3, 1))}, "m: novelty has shape (3, 1), expected (3,)"),
        (
            {"label_pred": np.array(["x", None, "y"], dtype=object)},
            "m: label_pred is missing (None or NaN) for 1",
        ),
        (
            {"label_pred": pd.Categorical(["x", None, None])},
            "m: label_pred is missing (None or NaN) for 2 of 3",
        ),
        ({"label_pred": np.array([1.0, np.nan, 2.0])}, "m: label_pred is missing (None or NaN) for 1 of 3"),
        ({"rejected": ["False", "True", "False"]}, "m: rejected holds other values than True and False"),
        ({"rejected": [0.0, np.nan, 1.0]}, "m: rejected holds other values than True and False"),
        ({"labels": ("x",)}, "m: label_proba has shape (3, 2), expected (3, 1)"),
        ({"label_pred": pd.Series(["x", "y", "x"], index=["a", "b", "c"])}, "in another order"),
    ],
)
def test_a_wrong_prediction_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        checked_prediction("m", prediction(**changes), NAMES)
    assert message in str(caught.value)


def test_something_else_than_a_prediction_is_refused() -> None:
    with pytest.raises(ContractError, match="predict returned ndarray, expected Prediction"):
        checked_prediction("m", np.zeros(3), NAMES)


def test_a_damaged_file_is_named(tmp_path) -> None:
    path = tmp_path / "outputs.npz"
    with pytest.raises(UserError, match="does not hold the outputs of a run"):
        read_outputs(path)
    write_outputs(checked_prediction("m", prediction(), NAMES), path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="does not hold the outputs of a run"):
        read_outputs(path)


def test_a_file_with_a_changed_byte_is_named(tmp_path) -> None:
    path = tmp_path / "outputs.npz"
    names = [f"cell{i}" for i in range(200)]
    write_outputs(checked_embedding("m", np.zeros((200, 50)), names), path)
    content = bytearray(path.read_bytes())
    start = content.index(b"X_emb.npy") + len(b"X_emb.npy")
    content[start : start + 60] = b"\xff" * 60
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"outputs\.npz does not hold the outputs of a run"):
        read_outputs(path)
