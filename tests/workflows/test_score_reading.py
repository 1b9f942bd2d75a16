"""What ``score`` makes of labels however they are written, and of inputs that are not there."""

import json
import os
import warnings

import anndata
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from scipy import sparse

import cellular_bench
from cellular_bench.cli.score import command
from cellular_bench.core.errors import UserError
from cellular_bench.metrics import METRICS, required_inputs
from cellular_bench.workflows.score_files import checked_embedding, read_bundles, read_layer, read_predictions

NUMBERS = ["accuracy", "log_loss", "brier"]
LOG_LOSS, BRIER = 0.16425203, 0.05


def values(found) -> dict[str, float]:
    return dict(zip(found.metric_id, found.value, strict=True))


def quietly(**options) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return values(cellular_bench.score(**options))


#: How programs write the labels 1 and 2.
WRITTEN = [
    [1, 2],
    [1.0, 2.0],
    ["1", "2"],
    ["1.0", "2.0"],
    [" 1", "2 "],
    [b"1", b"2"],
    pd.Categorical([1.0, 2.0]),
    pd.Categorical(["1", "2"]),
    pd.array([1, 2], dtype="Int64"),
    np.array([1, 2], dtype=np.float32),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(WRITTEN),
    st.sampled_from(WRITTEN),
    st.sampled_from([("1", "2"), ("1.0", "2.0"), (" 1", " 2 ")]),
    st.sampled_from(["memory", "csv", "tsv", "parquet"]),
)
def test_labels_and_probabilities_meet_however_they_are_written(tmp_path, label, label_pred, columns, medium):
    table = pd.DataFrame({"label": label, "label_pred": label_pred})
    for name, stated in zip(columns, ([0.9, 0.2], [0.1, 0.8]), strict=True):
        table[f"proba:{name}"] = stated
    given_as = table
    if medium != "memory":
        table = table.map(lambda value: value.decode() if isinstance(value, bytes) else value)
        given_as = tmp_path / f"p.{medium}"
        if medium == "parquet":
            pytest.importorskip("pyarrow")
            table.to_parquet(given_as)
        else:
            table.to_csv(given_as, index=False, sep="\t" if medium == "tsv" else ",")
    found = quietly(predictions=given_as, metrics=NUMBERS)
    assert found == pytest.approx({"accuracy": 1.0, "log_loss": LOG_LOSS, "brier": BRIER})


@pytest.mark.parametrize("word", ["", " ", "NA", "na", "nan", "NaN", "<NA>", "None", "null", "N/A"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_predicted_word_for_no_label_is_a_rejection(tmp_path, word, in_memory):
    table = pd.DataFrame({"label": [*"TTBB"], "label_pred": ["T", "T", "B", word]})
    path = tmp_path / "p.csv"
    table.to_csv(path, index=False)
    ids = ["accuracy", "coverage", "accuracy_accepted", "f1_macro", "balanced_accuracy"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = values(cellular_bench.score(predictions=table if in_memory else path, metrics=ids))
    assert list(found.values()) == pytest.approx([0.75, 0.75, 1.0, 5 / 6, 0.75])
    notes = [str(warning.message) for warning in caught]
    expected = [f"1 predicted as '{word}'."] if word.strip() else []
    assert [text.rpartition(": ")[2] for text in notes] == expected


def test_a_predicted_word_that_is_a_true_label_is_this_label():
    table = pd.DataFrame({"label": ["NA", "B", "None"], "label_pred": ["NA", "NA", "None"]})
    found = quietly(predictions=table, metrics=["accuracy", "coverage"])
    assert found == {"accuracy": pytest.approx(2 / 3), "coverage": 1.0}


@pytest.mark.parametrize("word", ["nan", "<NA>", "", None, np.nan])
def test_a_true_label_must_be_there(word):
    table = pd.DataFrame({"label": ["T", word], "label_pred": ["T", "T"]})
    with pytest.raises(UserError, match="1 of 2 rows have no value in 'label'"):
        cellular_bench.score(predictions=table)


def test_two_columns_of_one_label_or_one_name_are_refused():
    table = pd.DataFrame({"label": [1, 2], "label_pred": [1, 2], "proba:1": 0.5, "proba:1.0": 0.5})
    with pytest.raises(UserError, match="2 columns hold the probability of the label '1'"):
        cellular_bench.score(predictions=table)
    twice = pd.DataFrame([["T", "T", "T"]], columns=["label", "label ", "pred"])
    with pytest.raises(UserError, match="two columns 'label'"):
        cellular_bench.score(predictions=twice)


def test_misspelt_predictions_are_told_with_the_closest_label_in_json_too(tmp_path, capsys):
    path = tmp_path / "p.csv"
    path.write_text("label,label_pred\nmast cell,Mast-cell\nT,T\nT,zebra\n")
    command.main(["--predictions", str(path), "--format", "json"], standalone_mode=False)
    printed = capsys.readouterr()
    note = (
        "Predicted labels that are no true label: 'Mast-cell' (1 cell; did you mean 'mast cell'?), "
        "'zebra' (1 cell)."
    )
    assert json.loads(printed.out)["notes"] == [f"{path}: {note}"]
    assert note in printed.err


def test_ids_of_methods_and_labels_keep_their_zeros():
    table = pd.DataFrame({"label": ["007", "7"], "pred": ["7", "7"], "method": ["012", "012"]})
    found = cellular_bench.score(predictions=table, metrics="accuracy")
    assert (found.value.item(), found.method_id.item()) == (0.5, "012")


@pytest.fixture
def arrays():
    """An embedding of 120 cells, of three labels and two batches."""
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], 40)
    X = rng.normal(size=(120, 4)) + 5 * np.eye(4)[kind]
    return {"emb": X, "label": kind, "batch": np.tile(["x", "y"], 60)}


@pytest.mark.parametrize("hole", ["nan", "", "<NA>", np.nan, b"NaN"])
@pytest.mark.parametrize("key", ["label", "batch"])
def test_an_npz_with_a_cell_without_name_is_refused(tmp_path, arrays, hole, key):
    names = np.array([f"name {value}" for value in arrays[key]])
    if isinstance(hole, float):
        names = np.arange(120.0) % 3
    elif isinstance(hole, bytes):
        names = np.char.encode(names)
    names[::7] = hole
    np.savez(tmp_path / "e.npz", **{**arrays, key: names})
    with pytest.raises(UserError, match=f"18 of 120 cells have no value in '{key}'"):
        cellular_bench.score(embedding=tmp_path / "e.npz", label_key="label", batch_key="batch")


@pytest.mark.parametrize("dtype", [int, float, np.float32, str, "S4"])
def test_names_in_an_npz_have_no_type(tmp_path, arrays, dtype):
    np.savez(tmp_path / "e.npz", **{**arrays, "label": arrays["label"].astype(dtype)})
    ask = {"label_key": "label", "batch_key": "batch", "metrics": ["silhouette_label", "ilisi"]}
    np.savez(tmp_path / "first.npz", **arrays)
    first = quietly(embedding=tmp_path / "first.npz", **ask)
    assert quietly(embedding=tmp_path / "e.npz", **ask) == first


def cells(arrays) -> anndata.AnnData:
    rng = np.random.default_rng(1)
    obs = pd.DataFrame(
        {"kind": arrays["label"].astype(str), "donor": arrays["batch"]}, index=[f"c{i}" for i in range(120)]
    )
    adata = anndata.AnnData(rng.poisson(2.0, (120, 30)).astype(np.float32), obs=obs)
    adata.obsm["X_a"] = arrays["emb"]
    return adata


def _scaled(adata):
    adata.X = (adata.X - adata.X.mean(0)) / adata.X.std(0)
    return adata


def _empty(adata):
    adata.X = None
    return adata


def _named(adata):
    adata.var_names = ["g"] * adata.n_vars
    return adata


def _text(adata):
    return anndata.AnnData(obs=adata.obs, obsm=dict(adata.obsm), shape=(120, 0))


def _nan(adata):
    adata.X[3, 4] = np.nan
    return adata


UNUSABLE = {
    "scaled": (_scaled, "negative"),
    "empty": (_empty, "X is empty"),
    "no genes": (lambda adata: adata[:, :0].copy(), "120 cells and 0 genes"),
    "repeated": (_named, "gene name occurs more than once"),
    "no X": (_text, "0 genes"),
    "NaN": (_nan, "NaN or infinite"),
}


@pytest.mark.parametrize("name", UNUSABLE)
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_embeddings_are_scored_whatever_the_expression(tmp_path, arrays, name):
    change, reason = UNUSABLE[name]
    adata = change(cells(arrays))
    ask = {"obsm": "X_a", "batch_key": "donor", "label_key": "kind"}
    metrics = ["silhouette_label", "ilisi", "cell_cycle_conservation", "pcr_scib"]
    good = cellular_bench.score(cells(arrays), metrics=metrics[:2], **ask)
    adata.write_h5ad(tmp_path / "a.h5ad")
    for given_as in (adata, tmp_path / "a.h5ad"):
        found = cellular_bench.score(given_as, metrics=metrics, **ask).set_index("metric_id")
        assert found.value[:2].tolist() == good.value.tolist()
        for metric_id in metrics[2:]:
            assert np.isnan(found.value[metric_id])
            assert "needs expression values" in found.reason[metric_id]
            assert reason in found.reason[metric_id]
    usual = cellular_bench.score(adata, **ask).set_index("metric_id")
    assert usual.value["silhouette_label"] == good.value[0]


@pytest.mark.parametrize("profile", ["standard", "full"])
@pytest.mark.parametrize(("given_key", "missing"), [("label", "batch"), ("batch", "label")])
def test_labels_or_batches_alone_give_the_scores_that_need_no_more(
    tmp_path, arrays, given_key, missing, profile
):
    np.savez(tmp_path / "e.npz", **arrays)
    adata = cells(arrays)
    columns = {"label": "kind", "batch": "donor"}
    both = cellular_bench.score(
        adata, obsm="X_a", batch_key="donor", label_key="kind", pre="X_a", profile=profile
    ).set_index("metric_id")
    with pytest.warns(UserWarning, match=f"Left out, because there is no --{missing}-key: "):
        of_adata = cellular_bench.score(
            adata, obsm="X_a", pre="X_a", profile=profile, **{f"{given_key}_key": columns[given_key]}
        )
    with pytest.warns(UserWarning, match=f"Left out, because there is no --{missing}-key: "):
        of_npz = cellular_bench.score(
            embedding=tmp_path / "e.npz", pre="emb", profile=profile, **{f"{given_key}_key": given_key}
        )
    for found in (of_adata, of_npz):
        found = found.set_index("metric_id")
        needless = [name for name in both.index if missing not in required_inputs(METRICS[name])]
        assert list(found.index) == needless
        n_scored = 0
        for metric_id, row in found.iterrows():
            if row.reason is None:
                assert row.value == pytest.approx(both.value[metric_id], abs=1e-12)
                n_scored += 1
        assert n_scored >= 1


def test_metrics_that_all_need_what_is_not_given_are_refused(arrays):
    with pytest.raises(UserError, match="Nothing can be scored with no --label-key: clisi, leiden_nmi"):
        cellular_bench.score(cells(arrays), obsm="X_a", batch_key="donor", metrics=["clisi", "leiden_nmi"])


def test_without_labels_and_batches_nothing_is_scored(arrays):
    with pytest.raises(UserError, match="needs --batch-key, --label-key or both"):
        cellular_bench.score(cells(arrays), obsm="X_a")
    with pytest.raises(UserError, match=r"18 cells .* have no label"):
        adata = cells(arrays)
        adata.obs.loc[adata.obs_names[::7], "kind"] = "nan"
        cellular_bench.score(adata, obsm="X_a", label_key="kind")


def test_attack_by_a_pipe_is_refused(tmp_path):
    for name in ("a.csv", "a.parquet", "a.npz", "a.npy"):
        os.mkfifo(tmp_path / name)
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(UserError, match=r"cannot be read as a table: .*not a regular file"):
            list(read_predictions(tmp_path / name))
    for name in ("a.npz", "a.npy"):
        with pytest.raises(UserError, match=r"cannot be read as an npy or npz file: .*not a regular file"):
            list(read_bundles([tmp_path / name], label_key="label", batch_key=None))


def test_attack_by_a_table_that_unpacks_to_too_much_is_refused(tmp_path):
    n_rows = 2**27  # a column of 1 GB in double precision, in a file of few bytes
    table = pa.table({"a": pa.DictionaryArray.from_arrays(np.zeros(n_rows, dtype=np.int8), ["x"])})
    parquet.write_table(
        pa.Table.from_arrays([table["a"]] * 3, names=["a", "label", "pred"]), tmp_path / "a.parquet"
    )
    assert (tmp_path / "a.parquet").stat().st_size < 10**6
    with pytest.raises(UserError, match="unpacks to 3221225472 bytes, more than 2147483648"):
        list(read_predictions(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("novelty", pd.to_datetime(["2020", "2021"])),
        ("novelty", [[1.0], [2.0]]),
        ("label", [["x"], ["y"]]),
        ("label_pred", ["x", "y" * 600]),
        ("label_pred", ["x", "y\x1b"]),
        ("is_novel", [["true"], ["false"]]),
        ("method", ["m" * 600, "x"]),
    ],
)
def test_attacks_by_values_of_other_types_are_refused(tmp_path, column, values):
    table = pd.DataFrame({"label": ["x", "y"], "label_pred": ["x", "y"]} | {column: values})
    table.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError):
        list(read_predictions(tmp_path / "a.parquet"))


@pytest.mark.parametrize(
    "odd",
    [
        lambda X: np.ma.MaskedArray(X, mask=X > 0),
        lambda X: X + 1j,
        lambda X: X.astype(str),
        lambda X: X.astype("timedelta64[s]"),
        lambda X: X.astype(object),
    ],
)
def test_an_embedding_of_an_odd_type_is_refused(odd):
    with pytest.raises(UserError, match="Embedding 'X'"):
        checked_embedding("X", odd(np.ones((3, 2))), 3)


def test_attack_by_positions_outside_a_sparse_matrix():
    matrix = sparse.csr_matrix(np.eye(3))
    matrix.indices[1] = 2**31 - 1
    with pytest.raises(UserError, match="no sound sparse matrix"):
        checked_embedding("X", matrix, 3)
    adata = anndata.AnnData(np.ones((3, 3)), layers={"corrected": matrix})
    with pytest.raises(UserError, match="Layer 'corrected' is no sound sparse matrix"):
        read_layer(adata, "corrected", (3, 3))
