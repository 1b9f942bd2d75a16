"""Counts of some genes: those of all genes are used if the file gives them, else a note gives the error."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from cellular_bench.datasets.catalog import from_memory, load
from cellular_bench.datasets.cut_genes import columns_of, recovered_counts

N_OBS, N_VARS, N_KEPT = 60, 120, 15
KEYS = {"batch_key": None, "label_key": "cell_type"}


@pytest.fixture
def whole() -> ad.AnnData:
    """Counts of all genes; the last ones are high, and are cut away."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.linspace(1, 4, N_VARS), size=(N_OBS, N_VARS)).astype(np.float32)
    obs = pd.DataFrame({"cell_type": ["a", "b"] * (N_OBS // 2)}, index=[f"c{i}" for i in range(N_OBS)])
    var = pd.DataFrame(index=[f"g{i}" for i in range(N_VARS)])
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=var)


def lognorm(adata: ad.AnnData, target: float = 1e4) -> ad.AnnData:
    counts = adata.X.toarray()
    made = adata.copy()
    made.X = sparse.csr_matrix(np.log1p(counts / counts.sum(axis=1, keepdims=True) * target), dtype="f4")
    return made


def factor(adata: ad.AnnData) -> float:
    """How many counts the median cell has for each count of the genes that are kept."""
    counts = adata.X.toarray()
    return float(np.median(counts.sum(axis=1) / counts[:, :N_KEPT].sum(axis=1)))


def cut(adata: ad.AnnData, place: str) -> ad.AnnData:
    """Some genes, with their counts in X, or in a layer beside values normalised before the cut."""
    made = (adata if place == "X" else lognorm(adata))[:, :N_KEPT].copy()
    if place == "layer":
        made.layers["counts"] = adata.X[:, :N_KEPT].copy()
    return made


@pytest.mark.parametrize("place", ["X", "layer"])
@pytest.mark.parametrize("raw", ["counts", "per 10,000", "per million", "per median"])
def test_counts_of_all_genes_are_used(whole, place, raw):
    given_file = cut(whole, place)
    target = {"counts": None, "per 10,000": 1e4, "per million": 1e6, "per median": 312.5}[raw]
    given_file.raw = whole if target is None else lognorm(whole, target)
    dataset = load(from_memory(given_file, **KEYS))
    np.testing.assert_array_equal(dataset.adata.layers["counts"].toarray(), whole.X.toarray())
    np.testing.assert_allclose(dataset.adata.X.toarray(), lognorm(whole).X.toarray(), rtol=1e-5)
    name, own = ("X", "X") if place == "X" else ("layers['counts']", "counts")
    source = "from raw" if target is None else "computed from the logarithms in raw"
    assert dataset.warnings == (
        f"{name} holds the counts of 15 genes; the counts of all 120 genes are used, {source}. "
        f"--counts-layer {own} takes the 15 alone.",
    )
    # What is named is used, and a note gives its error.
    chosen = load(from_memory(given_file, counts_layer=own, **KEYS))
    assert chosen.adata.n_vars == N_KEPT
    (said,) = chosen.warnings
    assert f"the median cell had {factor(whole):.3g} times as many" in said


@pytest.mark.parametrize("column", ["nCount_RNA", "total_counts", "n_counts", "nUMI"])
def test_totals_in_obs_tell_what_was_cut(whole, column):
    given_file = cut(whole, "X")
    given_file.obs[column] = np.asarray(whole.X.sum(axis=1)).ravel()
    (said,) = load(from_memory(given_file, **KEYS)).warnings
    assert said == (
        f"The counts are not of all genes: by obs['{column}'], the median cell had {factor(whole):.3g} times "
        "as many. Values per 10,000 counts are that much too high, in each cell by another factor. "
        "Use a file with the counts of all genes."
    )


def test_values_normalised_before_the_cut_tell_it(whole):
    _, said = load(from_memory(cut(whole, "layer"), **KEYS)).warnings
    assert f"by X, the median cell had {factor(whole):.3g} times as many" in said


def test_logarithms_that_counts_do_not_follow_from_still_tell_it(whole):
    given_file = cut(whole, "X")
    rounded = lognorm(whole)
    rounded.X = sparse.csr_matrix(rounded.X.toarray().round(1))
    given_file.raw = rounded
    dataset = load(from_memory(given_file, **KEYS))
    assert dataset.adata.n_vars == N_KEPT
    linear = np.expm1(rounded.X.toarray())
    expected = np.median(linear.sum(axis=1) / linear[:, :N_KEPT].sum(axis=1))
    assert f"by raw, the median cell had {expected:.3g} times as many" in dataset.warnings[0]


def test_other_counts_in_raw_do_not_take_the_place_of_those_named_first(whole):
    other = whole.copy()
    other.X = whole.X + sparse.csr_matrix(np.eye(N_OBS, N_VARS, dtype="f4"))  # before ambient RNA was removed
    given_file = cut(whole, "X")
    given_file.raw = other
    assert load(from_memory(given_file, **KEYS)).adata.n_vars == N_KEPT


def test_complete_counts_are_not_doubted(whole):
    whole.obs["total_counts"] = np.asarray(whole.X.sum(axis=1)).ravel()
    whole.obs["n_counts"] = np.log1p(whole.obs["total_counts"])  # no totals, whatever the name says
    whole.layers["counts"] = whole.X.copy()
    whole.X = lognorm(whole).X
    assert load(from_memory(whole, **KEYS)).warnings == (
        "Expression values were taken from layers['counts'], not from X.",
    )
    # Filters of rare genes take little away.
    few = whole[:, 3:].copy()
    assert len(load(from_memory(few, **KEYS)).warnings) == 1


def test_logarithms_of_all_genes_are_preferred_to_those_of_some(whole):
    given_file = lognorm(whole)[:, :N_KEPT].copy()
    given_file.raw = lognorm(whole)
    dataset = load(from_memory(given_file, **KEYS))
    assert dataset.adata.n_vars == N_VARS
    assert dataset.warnings == (
        "Expression values were taken from raw, not from X.",
        "There are no counts: methods that read counts do not apply.",
    )


def test_zeros_give_way_to_a_layer_of_counts(whole, tmp_path: Path):
    given_file = whole.copy()
    given_file.layers["counts"] = whole.X.copy()
    given_file.X = sparse.csr_matrix(whole.shape)
    dataset = load(from_memory(given_file, **KEYS))
    np.testing.assert_array_equal(dataset.adata.layers["counts"].toarray(), whole.X.toarray())
    assert dataset.warnings == (
        "Expression values were taken from layers['counts'], not from X, which holds only zeros.",
    )


@given(
    counts=st.lists(st.lists(st.integers(0, 100_000), min_size=3, max_size=3), min_size=1, max_size=5).filter(
        lambda rows: all(sum(row[:2]) for row in rows)
    ),
    factors=st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=5),
)
def test_counts_follow_from_logarithms_whatever_they_were_divided_by(counts, factors):
    whole = np.array(counts, dtype=float)
    scaled = whole * np.array(factors)[: len(whole), None]
    made = recovered_counts(
        sparse.csr_matrix(np.log1p(scaled)), sparse.csr_matrix(whole[:, :2]), np.array([0, 1])
    )
    assert made is not None
    np.testing.assert_array_equal(made.toarray(), whole)


def test_corrected_logarithms_give_no_counts():
    logarithms = sparse.csr_matrix(np.log1p([[2.0, 4.0, 1.3]]))
    assert recovered_counts(logarithms, sparse.csr_matrix([[1.0, 2.0]]), np.array([0, 1])) is None
    assert recovered_counts(logarithms, sparse.csr_matrix([[2.0, 1.0]]), np.array([0, 1])) is None


def test_columns_are_found_by_names_that_tell():
    names = pd.Index(["a", "b", "c"])
    assert columns_of(pd.Index(["c", "a"]), names).tolist() == [2, 0]
    assert columns_of(pd.Index(["c", "x"]), names) is None
    assert columns_of(pd.Index(["a"]), pd.Index(["a", "a"])) is None
    assert columns_of(names, names) is None
