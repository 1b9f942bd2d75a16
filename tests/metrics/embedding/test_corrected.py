"""What a corrected matrix keeps: scanpy's variable genes, cases worked by hand, and laws."""

import numpy as np
import pytest
from scipy import sparse

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import evaluate, fold_change_kept, gene_correlation_kept, hvg_overlap
from cellular_bench.metrics.embedding.corrected import batch_variable_genes


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    label = np.tile(["T", "B", "NK"], 40)
    batch = np.repeat(["x", "y"], 60)
    mean = rng.gamma(0.6, 2.0, size=300)
    marks = {name: rng.random(300) < 0.1 for name in "TBN"}
    rate = mean * np.array([1 + 4 * marks[name[0]] for name in label])
    X = np.log1p(rng.poisson(rate)).astype(float)
    return {"expression": X, "batch": batch, "label": label}


def _functions(data):
    return (
        (hvg_overlap, {}),
        (gene_correlation_kept, {}),
        (fold_change_kept, {"label": data["label"]}),
    )


@pytest.mark.parametrize("n_genes", [20, 60, 150])
def test_variable_genes_are_those_of_scanpy(data, n_genes):
    scanpy, anndata = pytest.importorskip("scanpy"), pytest.importorskip("anndata")
    X = data["expression"][:60]
    X = X[:, (X > 0).any(axis=0)]
    theirs = scanpy.pp.highly_variable_genes(
        anndata.AnnData(sparse.csr_matrix(X)), flavor="cell_ranger", n_top_genes=n_genes, inplace=False
    )
    expected = np.flatnonzero(theirs["highly_variable"])
    assert batch_variable_genes(X, n_genes=n_genes).tolist() == expected.tolist()


def test_overlap_is_that_of_scib(data):
    """By scib's recipe: per batch, genes that are seen, the first min(500, half), over the smaller set."""
    corrected = data["expression"] + np.random.default_rng(0).normal(scale=0.3, size=(120, 300))
    shares = []
    for name in "xy":
        cells = data["batch"] == name
        chosen = [set(batch_variable_genes(X[cells]).tolist()) for X in (data["expression"], corrected)]
        seen = (data["expression"][cells] > 0).any(axis=0).sum()
        assert seen // 2 <= len(chosen[0]) <= seen // 2 + 20  # a gene of each bin may tie
        second = set(batch_variable_genes(corrected[cells], n_genes=len(chosen[0])).tolist())
        shares.append(len(chosen[0] & second) / min(len(chosen[0]), len(second)))
    found = hvg_overlap(data["expression"], corrected, data["batch"])
    assert 0.3 < found < 1
    assert found == pytest.approx(np.mean(shares))


def test_overlap_counts_genes(data):
    X = data["expression"][:60]
    genes = batch_variable_genes(X)
    others = np.setdiff1d(np.arange(300), genes)
    swapped = X.copy()
    swapped[:, [genes[0], others[0]]] = X[:, [others[0], genes[0]]]
    assert hvg_overlap(X, swapped, ["a"] * 60) == pytest.approx((len(genes) - 1) / len(genes))


def test_a_gene_without_others_of_like_mean_is_not_variable():
    X = np.random.default_rng(0).normal(loc=np.arange(1, 6) * 10, size=(30, 5))
    assert batch_variable_genes(X).tolist() == []
    with pytest.raises(UndefinedError, match="no batch of 10 cells has two genes"):
        hvg_overlap(X, X, ["a"] * 30)


def test_correlations_by_hand(data):
    X = data["expression"][:60]
    genes = batch_variable_genes(X)
    corrected = X.copy()
    corrected[:, genes[:20]] *= -1  # turns the sign of their correlations with the others
    sign = np.where(np.arange(len(genes)) < 20, -1, 1)
    pairs = np.triu_indices(len(genes), 1)
    before = np.corrcoef(X[:, genes].T)[pairs]
    expected = np.corrcoef(before, before * np.outer(sign, sign)[pairs])[0, 1]
    assert gene_correlation_kept(X, corrected, ["a"] * 60) == pytest.approx(expected)
    assert expected < 0.9


def test_fold_changes_by_hand(data):
    corrected = data["expression"].copy()
    corrected[data["label"] == "T"] *= 0.5
    expected = []
    for name in "xy":
        cells = data["batch"] == name
        genes = batch_variable_genes(data["expression"][cells])
        for label in ("T", "B", "NK"):
            own = data["label"][cells] == label
            change = [
                X[cells][own][:, genes].mean(axis=0) - X[cells][~own][:, genes].mean(axis=0)
                for X in (data["expression"], corrected)
            ]
            expected.append(np.corrcoef(*change)[0, 1])
    found = fold_change_kept(data["expression"], corrected, data["batch"], data["label"])
    assert found == pytest.approx(np.mean(expected))
    assert found < 0.99


def test_doing_nothing_keeps_everything(data):
    for function, more in _functions(data):
        found = function(data["expression"], data["expression"], data["batch"], **more)
        assert found == pytest.approx(1.0), function.__name__


def test_shuffled_genes_keep_little(data):
    corrected = data["expression"][:, np.random.default_rng(0).permutation(300)]
    for function, more in _functions(data):
        assert function(data["expression"], corrected, data["batch"], **more) < 0.65, function.__name__


def test_a_shift_of_a_batch_is_free_for_genes_that_stay_apart(data):
    corrected = data["expression"] + 2.0 * (data["batch"] == "y")[:, None]
    for function in (gene_correlation_kept, fold_change_kept):
        more = {"label": data["label"]} if function is fold_change_kept else {}
        assert function(data["expression"], corrected, data["batch"], **more) == pytest.approx(1.0)


def test_sparse_is_dense(data):
    corrected = np.where(data["expression"] > 0.5, data["expression"], 0.0)
    for function, more in _functions(data):
        dense = function(data["expression"], corrected, data["batch"], **more)
        packed = [sparse.csr_matrix(X) for X in (data["expression"], corrected)]
        assert function(*packed, data["batch"], **more) == pytest.approx(dense, abs=1e-12)


def test_a_constant_correction_keeps_nothing(data):
    flat = np.ones_like(data["expression"])
    assert fold_change_kept(data["expression"], flat, data["batch"], data["label"]) == 0.0
    with pytest.raises(UndefinedError, match="three genes that vary before and after"):
        gene_correlation_kept(data["expression"], flat, data["batch"])


def test_too_few_cells_to_judge(data):
    for function, more in _functions(data):
        with pytest.raises(UndefinedError, match="no batch"):
            function(data["expression"], data["expression"], np.arange(120), **more)
    with pytest.raises(UndefinedError, match="10 cells of a label and as many of others"):
        fold_change_kept(data["expression"], data["expression"], data["batch"], ["T"] * 120)


def test_whose_fault_a_broken_matrix_is(data):
    broken = data["expression"].copy()
    broken[0, 0] = np.nan
    with pytest.raises(UndefinedError, match="corrected has NaN") as error:
        hvg_overlap(data["expression"], broken, data["batch"])
    assert error.value.by_output
    with pytest.raises(UndefinedError, match="expression has NaN") as error:
        hvg_overlap(broken, data["expression"], data["batch"])
    assert not error.value.by_output
    with pytest.raises(ValueError, match=r"corrected has shape \(120, 299\); expected \(120, 300\)"):
        hvg_overlap(data["expression"], broken[:, 1:], data["batch"])


def test_without_a_corrected_matrix_there_is_a_reason(data):
    found = evaluate(["hvg_overlap"], data)["hvg_overlap"]
    assert isinstance(found, UndefinedError)
    assert "'corrected'" in str(found)
