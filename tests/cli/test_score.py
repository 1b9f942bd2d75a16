"""``run-benchmark score`` beyond its basics: intervals, probabilities, an ontology, engines, bundles."""

import json
import sys

import anndata
import numpy as np
import pandas as pd
import pytest

from cellular_bench.cli.score import command
from cellular_bench.core.components import principal_components
from cellular_bench.core.errors import UserError
from cellular_bench.metrics import (
    METRICS,
    evaluate,
    f1_macro,
    hvg_overlap,
    nearest_neighbors,
    pcr_scib,
    profiles,
    silhouette_label,
)
from cellular_bench.metrics.profiles import Profile

OBO = """[Term]
id: CL:1
name: lymphocyte
[Term]
id: CL:2
name: T cell
is_a: CL:1
[Term]
id: CL:3
name: B cell
is_a: CL:1
"""


@pytest.fixture
def score(capsys):
    """Run the command in this process; return what it prints."""

    def run(*arguments: object) -> str:
        command.main([str(argument) for argument in arguments], standalone_mode=False)
        return capsys.readouterr().out

    return run


def _found(text: str) -> dict:
    return {(row["method_id"], row["fold"], row["metric_id"]): row for row in json.loads(text)["scores"]}


@pytest.fixture
def predictions(tmp_path):
    """Two folds of 200 cells, three types."""
    rng = np.random.default_rng(0)
    label = rng.choice(["T cell", "B cell", "my own"], 400, p=[0.6, 0.3, 0.1])
    pred = np.where(rng.random(400) < 0.8, label, rng.permutation(label))
    table = pd.DataFrame({"label": label, "pred": pred, "fold": np.repeat([1, 2], 200)})
    path = tmp_path / "knn.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture
def probabilities(tmp_path):
    """Twelve cells with probabilities of four labels, three of them novel."""
    rng = np.random.default_rng(1)
    proba = rng.dirichlet(np.ones(4), 12)
    table = pd.DataFrame(proba, columns=[f"proba:{name}" for name in "abcd"])
    table["label"] = [*"abcdabcda", "new", "new", "new"]
    table["pred"] = np.array(list("abcd"))[proba.argmax(axis=1)]
    table["novelty"] = 1 - proba.max(axis=1)
    table["is_novel"] = table["label"] == "new"
    path = tmp_path / "probabilities.csv"
    table.to_csv(path, index=False)
    return path


def test_intervals_hold_the_value_and_depend_on_the_seed(score, predictions):
    ask = ("--predictions", predictions, "--bootstrap", 200, "--format", "json")
    first, again, other = (_found(score(*ask, "--seed", seed)) for seed in (1, 1, 2))
    assert first == again
    rows = [row for row in first.values() if row["value"] is not None and "low" in row]
    assert {row["metric_id"] for row in rows} >= {"accuracy", "f1_macro", "mcc", "cohen_kappa", "coverage"}
    for row in rows:
        assert row["low"] <= row["value"] <= row["high"], row
        assert (row["n_resamples"], row["n_undefined"]) == (200, 0)
    key = ("knn", 1, "accuracy")
    assert first[key]["value"] == other[key]["value"]
    assert (first[key]["low"], first[key]["high"]) != (other[key]["low"], other[key]["high"])
    assert 0.02 < first[key]["high"] - first[key]["low"] < 0.2


def test_the_table_shows_the_interval_of_the_mean_over_folds(score, predictions):
    text = score("--predictions", predictions, "--bootstrap", 400)
    line = next(line for line in text.splitlines() if line.startswith("accuracy "))
    mean, _, _, low, high = line.replace("[", "").replace("]", "").replace(",", "").split()[1:]
    assert float(low) < float(mean) < float(high)
    # Twice the cells of a fold: narrower than the interval of either.
    rows = _found(score("--predictions", predictions, "--bootstrap", 400, "--format", "json"))
    one = rows["knn", 1, "accuracy"]
    assert float(high) - float(low) < 0.9 * (one["high"] - one["low"])
    assert "95 % of 400 resamplings" in text


def test_without_bootstrap_rows_are_as_ever(score, predictions):
    rows = _found(score("--predictions", predictions, "--format", "json")).values()
    assert {frozenset(row) for row in rows} == {
        frozenset(["method_id", "metric_id", "fold", "value", "reason"])
    }


def test_probabilities_and_novelty_are_read_from_columns(score, probabilities):
    found = _found(score("--predictions", probabilities, "--format", "json"))
    table = pd.read_csv(probabilities)
    inputs = {
        "label": table["label"].to_numpy(dtype=str),
        "label_pred": table["pred"].to_numpy(dtype=str),
        "label_proba": table[[f"proba:{name}" for name in "abcd"]].to_numpy(),
        "labels": list("abcd"),
        "novelty": table["novelty"].to_numpy(),
        "is_novel": table["is_novel"].to_numpy(),
    }
    ids = ["log_loss", "brier", "top3_accuracy", "rejection_area", "novelty_auroc", "novelty_oscr"]
    for name, value in evaluate(ids, inputs).items():
        assert found["probabilities", None, name]["value"] == pytest.approx(value, abs=1e-12), name


def test_metrics_that_the_table_cannot_give_are_told_below_it(score, predictions):
    text = score("--predictions", predictions)
    assert not any(line.startswith("log_loss ") for line in text.splitlines())
    reason = next(line for line in text.splitlines() if "'label_proba'" in line)
    assert reason.startswith("- log_loss, brier, expected_calibration_error, top3_accuracy")


def test_an_ontology_gives_credit_and_says_what_it_knows(score, predictions, tmp_path):
    obo = tmp_path / "cl.obo"
    obo.write_text(OBO)
    ask = ("--predictions", predictions, "--ontology", obo)
    text = score(*ask, "--format", "json")
    found, accuracy = _found(text), _found(text)["knn", 1, "accuracy"]["value"]
    assert found["knn", 1, "ontology_accuracy"]["value"] > accuracy
    reported = json.loads(text)["ontology"]
    assert reported["unmapped"] == ["my own"]
    assert reported["terms"] == {"T cell": "CL:2", "B cell": "CL:3"}
    assert reported["share_of_labels"] == pytest.approx(2 / 3)
    assert "Ontology: 67% of the true labels have a term" in score(*ask)
    own = tmp_path / "map.tsv"
    own.write_text("label\tterm\nmy own\tlymphocyte\n")
    mapped = json.loads(score(*ask, "--ontology-map", own, "--format", "json"))["ontology"]
    assert mapped["unmapped"] == []
    assert mapped["terms"]["my own"] == "CL:1"


def test_without_an_ontology_its_metrics_are_not_there(score, predictions):
    names = {name for _, _, name in _found(score("--predictions", predictions, "--format", "json"))}
    assert not {"ontology_accuracy", "ontology_f1", "hvg_overlap"} & names
    assert "f1_macro" in names


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """An npz with two embeddings, labels and batches of 180 cells."""
    rng = np.random.default_rng(2)
    label = np.tile(["T", "B", "NK"], 60)
    batch = np.where(rng.random(180) < 0.5, "x", "y")
    batch[label == "NK"] = "x"
    good = rng.normal(size=(180, 4)) + 8 * (label == "T")[:, None] - 8 * (label == "B")[:, None]
    path = tmp_path_factory.mktemp("bundle") / "all.npz"
    arrays = {"good": good, "noise": rng.normal(size=(180, 4)), "pre": good + 3 * (batch == "y")[:, None]}
    np.savez(path, **arrays, cell_type=label, donor=batch)
    return path


def test_an_npz_can_bring_its_labels_and_batches(score, bundle):
    ask = ("--embedding", bundle, "--label-key", "cell_type", "--batch-key", "donor", "--format", "json")
    found = _found(score(*ask, "--pre", "pre"))
    assert {method for method, _, _ in found} == {"good", "noise", "pre"}
    assert (
        found["good", None, "leiden_nmi"]["value"] > 0.9 > 0.3 > found["noise", None, "leiden_nmi"]["value"]
    )
    assert found["good", None, "pcr_comparison"]["value"] > 0.5
    assert _found(score(*ask))["good", None, "pcr_comparison"]["value"] is None


def test_python_objects_in_an_npz_are_named_with_the_way_out(score, tmp_path):
    np.savez(tmp_path / "o.npz", emb=np.zeros((3, 2)), donor=np.array(["a", "b", None], dtype=object))
    with pytest.raises(
        UserError, match=r"array 'donor' holds Python objects.*numpy\.asarray\(names, dtype=str\)"
    ):
        score("--embedding", tmp_path / "o.npz", "--label-key", "cell_type", "--batch-key", "donor")


def test_what_would_be_shown_as_one_is_refused(score, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.csv").write_text("label,pred\nx,x\ny,x\n")
        np.savez(tmp_path / name / "e.npz", emb=np.ones((4, 2)), l=np.array([*"xxyy"]), d=np.array([*"abab"]))
    tables = [part for name in ("a", "b") for part in ("--predictions", tmp_path / name / "p.csv")]
    with pytest.raises(UserError, match="'p' comes more than once"):
        score(*tables)
    bundles = [part for name in ("a", "b") for part in ("--embedding", tmp_path / name / "e.npz")]
    with pytest.raises(UserError, match="'emb' comes more than once"):
        score(*bundles, "--label-key", "l", "--batch-key", "d")
    (tmp_path / "a" / "p.csv").rename(tmp_path / "a" / "p.v1.csv")
    found = _found(score("--predictions", tmp_path / "a" / "p.v1.csv", *tables[2:], "--format", "json"))
    assert {method for method, _, _ in found} == {"p.v1", "p"}


def test_each_methods_number_of_folds_is_told(score, tmp_path):
    (tmp_path / "t.csv").write_text("label,pred,method,fold\nx,x,A,1\ny,x,A,2\nx,x,B,1\n")
    reported = score("--predictions", tmp_path / "t.csv", "--metrics", "accuracy")
    assert "over folds: 2 of A, 1 of B;" in reported


def test_metrics_on_request_are_computed_where_they_are_named(score, bundle):
    ask = ("--embedding", bundle, "--label-key", "cell_type", "--batch-key", "donor", "--format", "json")
    found = _found(score(*ask, "--metrics", "nmi_scib,pcr_scib,clisi", "--pre-all", "pre"))
    assert [name for method, _, name in found if method == "good"] == ["nmi_scib", "pcr_scib", "clisi"]
    assert found["good", None, "nmi_scib"]["value"] > 0.9
    usual = _found(score(*ask, "--pre", "pre"))
    same = usual["good", None, "pcr_comparison"]["value"]
    assert found["good", None, "pcr_scib"]["value"] == pytest.approx(same)
    assert "nmi_scib" not in {name for _, _, name in usual}


def test_unknown_metrics_are_refused(score, bundle):
    with pytest.raises(UserError, match=r"Unknown metric 'nmi_scip'\. Did you mean 'nmi_scib'"):
        score(
            "--embedding", bundle, "--label-key", "cell_type", "--batch-key", "donor", "--metrics", "nmi_scip"
        )


def test_shortcuts_are_told_with_the_scores(score, bundle, monkeypatch):
    few = Profile(name="fast", exact_cells=100, sample_cells=90)
    monkeypatch.setattr(profiles, "PROFILES", {"fast": few})
    # A recall that is known stands in for one that is measured.
    monkeypatch.setattr(
        "cellular_bench.metrics.numerics.shared_distances.approximate_neighbors",
        lambda X, k, ranks, *, seed, n_jobs: (nearest_neighbors(X, k), 0.981),
    )
    ask = ("--embedding", bundle, "--label-key", "cell_type", "--batch-key", "donor", "--profile", "fast")
    ask = (*ask, "--metrics", "silhouette_label,kmeans_nmi,clisi")
    reported = json.loads(score(*ask, "--format", "json"))
    arrays = np.load(bundle)
    exact = silhouette_label(arrays["good"], arrays["cell_type"])
    row = _found(json.dumps(reported))["good", None, "silhouette_label"]
    assert abs(row["value"] - exact) < 4 * row["standard_error"]
    assert reported["evaluations"]["good"]["profile"] == "fast"
    assert [found["metric_ids"] for found in reported["evaluations"]["good"]["shortcuts"]] == [
        ["clisi"],
        ["silhouette_label"],
    ]
    lines = score(*ask).splitlines()
    line = next(line for line in lines if line.startswith("silhouette_label"))
    assert f"≈ {row['value']:.4f} (SE {row['standard_error']:.4f})" in line
    assert "≈" not in next(line for line in lines if line.startswith("kmeans_nmi"))
    assert any(
        line.startswith("≈ good: Nearest neighbours of 180 cells from an inverted file") for line in lines
    )


def test_the_number_of_jobs_changes_no_value(score, bundle):
    ask = ("--embedding", bundle, "--label-key", "cell_type", "--batch-key", "donor", "--format", "json")
    assert score(*ask, "--jobs", 2) == score(*ask, "--jobs", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label-key", "label", "--batch-key", "donor"], "Unknown array of all.npz 'label'"),
        (["--label-key", "good", "--batch-key", "donor"], r"'good' has shape \(180, 4\), expected one value"),
        (["--label-key", "cell_type", "--batch-key", "donor", "--pre", "umap"], "'umap' is none of good"),
        ([], "--embedding needs --batch-key, --label-key or both"),
        (["--label-key", "donor", "--batch-key", "donor"], "are the same column, 'donor'"),
        (["--label-key", "cell_type", "--batch-key", "donor", "--bootstrap", "9"], "is for --predictions"),
        (["--label-key", "cell_type", "--batch-key", "donor", "--corrected", "x"], "names layers of --adata"),
    ],
)
def test_a_wrong_request_for_embeddings_is_explained(score, bundle, arguments, message):
    with pytest.raises(UserError, match=message):
        score("--embedding", bundle, *arguments)


def test_a_single_matrix_has_no_labels(score, tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((3, 2)))
    with pytest.raises(UserError, match=r"holds one matrix\. Give --adata, or an npz that has labels"):
        score("--embedding", tmp_path / "one.npy", "--label-key", "a", "--batch-key", "b")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "1"], "--seed describes --bootstrap, which is missing"),
        (["--stratify"], "--stratify describes --bootstrap"),
        (["--engine", "scib-metrics"], "--engine is for embeddings"),
        (["--corrected", "x"], "--corrected names layers of --adata"),
        (["--counts-layer", "x"], "--counts-layer names a layer of --adata"),
    ],
)
def test_options_that_do_not_go_together_are_refused(score, predictions, arguments, message):
    with pytest.raises(UserError, match=message):
        score("--predictions", predictions, *arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,pred,proba:a\na,a,much\n", "column 'proba:a' holds other values than numbers"),
        ("label,pred,novelty\na,a,inf\n", "column 'novelty' is NaN or infinite"),
        ("label,pred,is_novel\na,a,maybe\n", "column 'is_novel' holds 'maybe'; expected true or false"),
    ],
)
def test_wrong_columns_are_explained(score, tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        score("--predictions", path)


@pytest.fixture(scope="module")
def own_file(tmp_path_factory):
    """An h5ad of log-expression with a corrected layer and an embedding."""
    rng = np.random.default_rng(4)
    label = np.tile(["T", "B"], 60)
    rate = rng.gamma(0.8, 2.0, size=120) * np.where(
        (label == "T")[:, None], 1 + 3 * (rng.random(120) < 0.2), 1
    )
    counts = rng.poisson(rate).astype(np.float32)
    obs = pd.DataFrame(
        {"cell_type": label, "donor": np.repeat(["x", "y"], 60)}, index=[f"c{i}" for i in range(120)]
    )
    adata = anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(120)]))
    adata.layers["smooth"] = np.log1p(counts) + rng.normal(scale=0.2, size=counts.shape)
    adata.obsm["X_few"] = rng.normal(size=(120, 3))
    path = tmp_path_factory.mktemp("own") / "mine.h5ad"
    adata.write_h5ad(path)
    return path


def test_a_corrected_layer_is_scored_by_its_own_metrics(score, own_file):
    from cellular_bench.datasets import catalog

    ask = ("--adata", own_file, "--batch-key", "donor", "--label-key", "cell_type", "--format", "json")
    found = _found(score(*ask, "--corrected", "smooth"))
    assert [name for _, _, name in found] == ["hvg_overlap", "gene_correlation_kept", "fold_change_kept"]
    adata = catalog.load(catalog.from_h5ad(own_file, batch_key="donor", label_key="cell_type")).adata
    smooth = anndata.read_h5ad(own_file).layers["smooth"]
    expected = hvg_overlap(adata.X, smooth, adata.obs["batch"])
    assert found["smooth", None, "hvg_overlap"]["value"] == pytest.approx(expected)
    assert 0.3 < expected < 1
    few = _found(score(*ask, "--obsm", "X_few", "--metrics", "pcr_scib"))
    components = principal_components(adata.X)
    X_few = anndata.read_h5ad(own_file).obsm["X_few"]
    assert few["X_few", None, "pcr_scib"]["value"] == pytest.approx(
        pcr_scib(components, X_few, adata.obs["batch"])
    )
    with pytest.raises(UserError, match=r"Unknown layer 'smoth'\. Did you mean 'smooth'"):
        score(*ask, "--corrected", "smoth")


def test_embeddings_of_scaled_cells_are_scored_by_the_layer_of_counts(score, own_file, tmp_path):
    adata = anndata.read_h5ad(own_file)
    adata.layers["raw_counts"] = adata.X.copy()
    adata.X = (adata.X - adata.X.mean(axis=0)) / (adata.X.std(axis=0) + 1)
    adata.write_h5ad(tmp_path / "scaled.h5ad")
    ask = ("--batch-key", "donor", "--label-key", "cell_type", "--obsm", "X_few", "--format", "json")
    rows = _found(score("--adata", tmp_path / "scaled.h5ad", *ask))
    assert "values are negative" in rows["X_few", None, "cell_cycle_conservation"]["reason"]
    scaled = score("--adata", tmp_path / "scaled.h5ad", *ask, "--counts-layer", "raw_counts")
    assert _found(scaled) == _found(score("--adata", own_file, *ask))


def test_an_absent_scib_metrics_is_explained(score, bundle, monkeypatch):
    monkeypatch.setattr("cellular_bench.metrics.scib_metrics_engine.find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"not installed. Install it with: pip install 'cellular-bench\[parity\]'"
    ):
        score(
            "--embedding",
            bundle,
            "--label-key",
            "cell_type",
            "--batch-key",
            "donor",
            "--engine",
            "scib-metrics",
        )


@pytest.mark.slow
def test_scib_metrics_scores_embeddings_under_our_names(score, bundle):
    pytest.importorskip("scib_metrics")
    ask = ("--embedding", bundle, "--label-key", "cell_type", "--batch-key", "donor", "--pre", "pre")
    ours, theirs = (
        _found(score(*ask, "--engine", name, "--format", "json")) for name in ("own", "scib-metrics")
    )
    assert {name for _, _, name in theirs} <= METRICS.keys()
    assert theirs.keys() == {key for key in ours if key[2] in {name for _, _, name in theirs}}
    near = {
        "kbet_per_label": 0.2,
        "leiden_nmi": 0.035,
        "leiden_ari": 0.1,
        "kmeans_nmi": 1e-4,
        "kmeans_ari": 1e-2,
    }
    for key, row in theirs.items():
        if key[0] == "good" and row["value"] is not None:
            assert ours[key]["value"] == pytest.approx(row["value"], abs=near.get(key[2], 5e-3)), key
    assert sum(row["value"] is not None for row in theirs.values()) > 35
    assert "scib_metrics" in sys.modules


def test_the_published_tables_come_out_with_intervals(score, shared):
    folder = shared / "published" / "annotation" / "predictions" / "Baron"
    path = next(iter(sorted(folder.glob("*.csv.gz"))))
    rows = _found(score("--predictions", path, "--bootstrap", 100, "--format", "json"))
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    fold = sorted(table["fold"].unique())[0]
    part = table[table["fold"] == fold]
    method = path.name.split(".")[0]
    number = int(fold) if fold.isdigit() else fold
    row = rows[method, number, "f1_macro"]
    assert row["value"] == pytest.approx(f1_macro(part["true_label"], part["pred"]), abs=1e-12)
    assert row["low"] < row["value"] < row["high"] + 1e-9


def test_structure_is_scored_where_there_is_expression(score, tmp_path):
    """With labels, without them, and from a file without expression, where there is a reason."""
    rng = np.random.default_rng(0)
    label, batch = np.repeat(list("ABCDEF"), 40), np.tile(["x", "y"], 120)
    counts = rng.poisson(np.exp(np.repeat(rng.normal(0, 0.8, (6, 80)), 40, axis=0)))
    adata = anndata.AnnData(
        X=counts.astype(np.float32),
        obs=pd.DataFrame({"label": label, "batch": batch}, index=[f"c{i}" for i in range(240)]),
    )
    adata.obsm["X"] = principal_components(np.log1p(counts))
    path, bundle = tmp_path / "cells.h5ad", tmp_path / "cells.npz"
    adata.write_h5ad(path)
    np.savez(bundle, X=adata.obsm["X"], label=label, batch=batch)
    named = ["type_geometry", "spread_kept", "neighbours_kept"]
    ask = ["--metrics", ",".join(named), "--format", "json"]

    def values(*source):
        found = json.loads(score(*source, *ask))["scores"]
        return {row["metric_id"]: (row["value"], row["reason"]) for row in found}

    whole = values("--adata", path, "--obsm", "X", "--label-key", "label", "--batch-key", "batch")
    assert all(value > 0.5 for value, _ in whole.values()), whole
    free = values("--adata", path, "--obsm", "X", "--batch-key", "batch")
    assert free["neighbours_kept"] == whole["neighbours_kept"]
    assert "needs labels" in free["type_geometry"][1]
    apart = values("--adata", path, "--obsm", "X", "--label-key", "label")
    assert all("needs batches" in reason for _, reason in apart.values())
    kept = values("--embedding", bundle, "--label-key", "label", "--batch-key", "batch")
    assert all("needs expression values" in reason for _, reason in kept.values())
