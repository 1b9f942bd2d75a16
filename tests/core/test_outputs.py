"""What a method returns is checked before it is believed."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cellular_bench import Corrected, Graph, Prediction
from cellular_bench.core.errors import ContractError, UserError
from cellular_bench.core.outputs import Outputs, read_outputs, write_outputs
from cellular_bench.core.returned import checked_integration, checked_numbers, checked_prediction

NAMES = ["c", "a", "b"]
GENES = ["INS", "GCG"]


def test_an_embedding_keeps_its_rows() -> None:
    X = np.arange(6.0).reshape(3, 2)
    for returned in (X, X.tolist(), sparse.csr_matrix(X), pd.DataFrame(X, index=NAMES), pd.DataFrame(X)):
        outputs = checked_integration("m", returned, NAMES, GENES)
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
        (
            pd.DataFrame(np.zeros((3, 1)), index=["x", "y", "z"]),
            "names other rows than the cells: row 0 is 'x', expected 'c'",
        ),
    ],
)
def test_a_wrong_embedding_is_refused(returned: object, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        checked_integration("m", returned, NAMES, GENES)
    assert message in str(caught.value)


def test_links_keep_their_weights_and_lengths_in_a_file(tmp_path) -> None:
    weights = np.array([[0.0, 0.5, 0.0], [0.5, 0.0, 0.25], [0.0, 0.25, 0.0]])
    returned = Graph(connectivities=sparse.coo_matrix(weights), distances=sparse.csc_matrix(4 * weights))
    outputs = checked_integration("m", returned, NAMES, GENES)
    write_outputs(outputs, tmp_path / "outputs.npz")
    for kept in (outputs, read_outputs(tmp_path / "outputs.npz")):
        np.testing.assert_array_equal(kept.graph.toarray(), weights)
        np.testing.assert_array_equal(kept.graph_distances.toarray(), 4 * weights)
        assert kept.X_emb is None


def test_corrected_expression_may_come_alone(tmp_path) -> None:
    X = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    outputs = checked_integration("m", Corrected(X=X), NAMES, GENES)
    assert outputs.X_emb is None
    write_outputs(outputs, tmp_path / "outputs.npz")
    read = read_outputs(tmp_path / "outputs.npz")
    assert read.corrected.tolist() == X.tolist()
    assert read.genes.tolist() == GENES


def test_corrected_expression_may_bring_its_own_embedding() -> None:
    outputs = checked_integration("m", Corrected(X=np.ones((3, 2)), X_emb=[[1], [2], [3]]), NAMES, GENES)
    assert outputs.X_emb.tolist() == [[1], [2], [3]]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (Graph(connectivities=np.ones((3, 2))), "m: connectivities has shape (3, 2), expected (3, 3)"),
        (
            Graph(connectivities=[[0, -1, 0], [np.nan, 0, 1], [0, 1, 0]]),
            "m: connectivities: 2 of 4 values are negative, NaN or infinite",
        ),
        (Graph(connectivities=np.ones((3, 3)), distances=np.ones((2, 2))), "m: distances has shape (2, 2)"),
        (Graph(connectivities="links"), "m: connectivities has shape (), expected (3, 3)"),
        (Graph(connectivities=np.full((3, 3), "1")), "m: connectivities is not an array of numbers"),
        (Corrected(X=np.ones((3, 4))), "m: the corrected expression has 4 genes, expected 2: those that"),
        (
            Corrected(X=np.ones((2, 2))),
            "m: the corrected expression has shape (2, 2), expected (3, n_latent)",
        ),
        (
            Corrected(X=[[1, 2], [np.nan, 1], [0, 0]]),
            "the corrected expression is NaN or infinite for 1 of 3",
        ),
        (Corrected(X=np.ones((3, 2)), X_emb=np.ones((2, 1))), "m: the embedding has shape (2, 1)"),
        (
            Corrected(X=pd.DataFrame(np.ones((3, 2)), index=["a", "b", "c"])),
            "m: the corrected expression has its rows in another order",
        ),
        (
            Corrected(X=pd.DataFrame(np.ones((3, 2)), columns=GENES[::-1])),
            f"m: the corrected expression has other columns than expected: column 0 is '{GENES[1]}'",
        ),
    ],
)
def test_a_wrong_graph_or_corrected_matrix_is_refused(returned: object, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        checked_integration("m", returned, NAMES, GENES)
    assert message in str(caught.value)


def prediction(**changes: object) -> Prediction:
    given: dict = {
        "label_pred": np.array(["x", "y", "x"]),
        "label_proba": np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]),
        "labels": ("x", "y"),
        "novelty": np.array([0.1, 0.2, 0.4]),
    }
    return Prediction(**{**given, **changes})


@pytest.mark.parametrize(
    "pred",
    [[1, 2, 1], [1.0, 2.0, 1.0], ["1.0", " 2", "1"], [b"1", b"2", b"1"], pd.Categorical([1.0, 2.0, 1.0])],
)
@pytest.mark.parametrize("labels", [(1, 2), (1.0, 2.0), (" 1", "2.0"), pd.Index([1.0, 2.0])])
def test_names_of_labels_have_no_type(pred: object, labels: object) -> None:
    stated = pd.DataFrame(prediction().label_proba, columns=["1", "2.0"])
    outputs = checked_prediction("m", prediction(label_pred=pred, labels=labels, label_proba=stated), NAMES)
    assert outputs.label_pred.tolist() == ["1", "2", "1"]
    assert outputs.labels.tolist() == ["1", "2"]


def test_only_rejected_cells_may_have_no_label() -> None:
    pred = np.array(["x", "nan", "y"])
    with pytest.raises(ContractError, match=r"label_pred is missing .* for 1 of 3 cells"):
        checked_prediction("m", prediction(label_pred=pred), NAMES)
    outputs = checked_prediction("m", prediction(label_pred=pred, rejected=[False, True, False]), NAMES)
    assert outputs.label_pred.tolist() == ["x", "", "y"]


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
            "m: label_pred is missing (None, NaN or empty) for 1",
        ),
        (
            {"label_pred": pd.Categorical(["x", None, None])},
            "m: label_pred is missing (None, NaN or empty) for 2 of 3",
        ),
        (
            {"label_pred": np.array([1.0, np.nan, 2.0])},
            "m: label_pred is missing (None, NaN or empty) for 1 of",
        ),
        ({"rejected": ["False", "True", "False"]}, "m: rejected holds other values than True and False"),
        ({"rejected": [0.0, np.nan, 1.0]}, "m: rejected holds other values than True and False"),
        ({"labels": ("x",)}, "m: label_proba has shape (3, 2), expected (3, 1)"),
        ({"label_pred": pd.Series(["x", "y", "x"], index=["a", "b", "c"])}, "in another order"),
        (
            {"label_proba": pd.DataFrame(np.eye(3)[:, :2], index=NAMES[::-1])},
            "m: label_proba has its rows in another order",
        ),
        (
            {"label_proba": pd.DataFrame(np.eye(3)[:, :2], columns=["y", "x"])},
            "m: label_proba has other columns than expected: column 0 is 'y', expected 'x'",
        ),
    ],
)
def test_a_wrong_prediction_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        checked_prediction("m", prediction(**changes), NAMES)
    assert message in str(caught.value)


def test_names_in_the_right_order_and_frames_without_names_pass() -> None:
    frame = pd.DataFrame([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    named = frame.set_axis(NAMES).set_axis(["x", "y"], axis=1)
    for proba in (frame, named):
        found = checked_prediction("m", prediction(label_proba=proba), NAMES)
        np.testing.assert_array_equal(found.label_proba, frame.to_numpy(dtype=np.float32))
    whole = checked_prediction("m", prediction(label_proba=frame, labels=(1, 0)), NAMES)
    assert whole.labels.tolist() == ["1", "0"], "a frame without names says nothing of their order"


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
    write_outputs(checked_integration("m", np.zeros((200, 50)), names, GENES), path)
    content = bytearray(path.read_bytes())
    start = content.index(b"X_emb.npy") + len(b"X_emb.npy")
    content[start : start + 60] = b"\xff" * 60
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"outputs\.npz does not hold the outputs of a run"):
        read_outputs(path)


def test_outputs_of_other_tasks_are_kept_by_their_names(tmp_path) -> None:
    outputs = Outputs(obs_names=np.array(NAMES), more={"doublet_score": np.array([0.0, 0.5, 1.0])})
    write_outputs(outputs, tmp_path / "outputs.npz")
    read = read_outputs(tmp_path / "outputs.npz")
    assert read.more["doublet_score"].tolist() == [0.0, 0.5, 1.0]
    assert read.arrays().keys() == {"obs_names", "doublet_score"}


@pytest.mark.parametrize("more", [{"novelty": np.zeros(3)}, {"who": np.array(["a", None, 1], dtype=object)}])
def test_outputs_that_could_not_be_read_again_are_refused(more) -> None:
    with pytest.raises(ContractError, match=f"Output '{next(iter(more))}'.* cannot be kept"):
        Outputs(obs_names=np.array(NAMES), more=more)


def test_numbers_of_cells_are_checked() -> None:
    assert checked_numbers("m", "score", pd.Series([1, 2, 3], index=NAMES), NAMES).tolist() == [1, 2, 3]
    with pytest.raises(ContractError, match=r"m: score has shape \(2,\), expected \(3,\)"):
        checked_numbers("m", "score", [1, 2], NAMES)
    with pytest.raises(ContractError, match="m: score has its rows in another order"):
        checked_numbers("m", "score", pd.Series([1, 2, 3], index=sorted(NAMES)), NAMES)
    with pytest.raises(ContractError, match="m: score is not an array of numbers"):
        checked_numbers("m", "score", ["x", "y", "z"], NAMES)
