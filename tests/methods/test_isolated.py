"""Methods that run in separate environments; tests skip if the environment is missing."""

import numpy as np
import pandas as pd
import pytest

from cellular_bench.benchmark.conformance.data import neighbor_accuracy, simulate
from cellular_bench.core.errors import ContractError, DataError, NotApplicableError, UnknownNameError
from cellular_bench.environments import find, missing_text, state, status
from cellular_bench.methods.cellular_cl import CellularCl
from cellular_bench.methods.liger import Liger
from cellular_bench.methods.scgen import ScGenOriginal, ScGenPaper
from cellular_bench.methods.scnym_original import ScNymOriginal
from cellular_bench.methods.seurat import Seurat, SeuratCCA

ANNOTATORS = [Seurat, SeuratCCA]


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def require(name: str) -> None:
    found = state(find(name))
    if not found.is_ready:
        pytest.skip(missing_text(found))


@pytest.mark.parametrize("method", ANNOTATORS)
def test_what_is_wrong_is_said_before_anything_is_started(method, train, query, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ContractError, match="predict was called before fit"):
        method().predict(query)
    with pytest.raises(DataError, match="same genes in the same order"):
        method().fit(train).predict(query[:, ::-1].copy())
    with pytest.raises(NotApplicableError, match=r"have 1 label\(s\) \(beta\); at least 2 are needed"):
        method().fit(train[labels(train) == "beta"].copy())


def test_without_an_environment_the_command_is_named(train, query, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path))
    monkeypatch.delenv(status.RSCRIPT_VARIABLE, raising=False)
    with pytest.raises(NotApplicableError, match=r"no Rscript on the PATH.*apt-get install .*r-cran-seurat"):
        Seurat().fit(train).predict(query)
    with pytest.raises(NotApplicableError, match="Fix: run-benchmark env create liger"):
        Liger().fit_embed(query)
    with pytest.raises(NotApplicableError, match="Fix: run-benchmark env create cellular_cl"):
        CellularCl().fit(train).embed(query)


def test_liger_needs_batches_and_counts(query):
    counts = query.layers.pop("counts")
    with pytest.raises(NotApplicableError, match='no layer "counts"'):
        Liger().fit_embed(query)
    query.layers["counts"] = counts
    query.obs["batch"] = pd.Categorical(["donor1"] * query.n_obs)
    with pytest.raises(NotApplicableError, match="come from one batch"):
        Liger().fit_embed(query)


@pytest.mark.r
def test_seurat_carries_labels_over_whatever_they_and_the_genes_are_called(train, query):
    require("seurat")
    names = {"acinar": "T cell, CD4+", "beta": "prediction.score.max", "delta": "1 λδ"}
    train.obs["label"] = train.obs["label"].cat.rename_categories(names)
    train.var_names = query.var_names = [f"a_b-{number % 7}.{number}" for number in range(train.n_vars)]
    prediction = Seurat().fit(train).predict(query)
    truth = np.array([names[name] for name in labels(query)])
    assert np.mean(prediction.label_pred == truth) > 0.95
    assert prediction.labels == ("1 λδ", "T cell, CD4+", "prediction.score.max")
    np.testing.assert_allclose(prediction.label_proba.sum(axis=1), 1.0, atol=1e-9)
    np.testing.assert_allclose(prediction.novelty, 1 - prediction.label_proba.max(axis=1))


@pytest.mark.r
@pytest.mark.slow
def test_labels_follow_their_cells_through_the_integration_of_a_reference(train, query):
    # It returns the cells of the reference grouped by batch; here batches alternate at random.
    require("seurat")
    prediction = SeuratCCA().fit(train).predict(query)
    assert np.mean(prediction.label_pred == labels(query)) > 0.95


@pytest.mark.r
@pytest.mark.slow
def test_seurat_declines_where_there_are_too_few_cells_for_anchors(train, query):
    require("seurat")
    with pytest.raises(NotApplicableError, match="two sets of at least 10 cells; one has 7"):
        Seurat().fit(train).predict(query[:7].copy())


@pytest.mark.isolated
def test_liger_puts_every_row_where_its_cell_stands_and_brings_batches_together(query):
    require("liger")
    X_emb = Liger(n_factors=6, seed=3).fit_embed(query)
    assert X_emb.shape == (120, 6)
    assert X_emb.min() >= 0  # loadings of a factorisation without negative numbers
    assert neighbor_accuracy(X_emb, labels(query)) > 0.9
    np.testing.assert_array_equal(X_emb, Liger(n_factors=6, seed=3).fit_embed(query))


@pytest.mark.isolated
def test_liger_declines_where_a_batch_is_too_small(query):
    require("liger")
    batch = np.asarray(query.obs["batch"]).astype(str)
    batch[:3] = "tiny"
    query.obs["batch"] = pd.Categorical(batch)
    with pytest.raises(NotApplicableError, match="needs 4 cells in each batch, the smallest has 3"):
        Liger().fit_embed(query)


@pytest.mark.isolated
@pytest.mark.slow
def test_the_package_of_the_cellular_study_labels_and_embeds_each_cell():
    require("cellular_cl")
    example = simulate(n_genes=150)
    train, query = example.train, example.query
    method = CellularCl(seed=1).fit(train)
    prediction = method.predict(query)
    assert np.mean(prediction.label_pred == labels(query)) > 0.9
    assert prediction.novelty.min() >= -1e-6
    assert prediction.novelty.max() <= 1
    X_emb = method.embed(query)
    assert X_emb.shape == (120, 100)
    assert neighbor_accuracy(X_emb, labels(query)) > 0.9
    np.testing.assert_array_equal(X_emb, CellularCl(seed=1).fit(train).embed(query))


@pytest.mark.isolated
def test_the_package_of_the_cellular_study_declines_too_few_genes(train, query):
    require("cellular_cl")
    with pytest.raises(NotApplicableError, match="as many expressed genes, of which there are 80"):
        CellularCl().fit(train).embed(query)


def test_packages_of_authors_say_what_they_lack_before_anything_is_started(
    train, query, monkeypatch, tmp_path
):
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path))
    with pytest.raises(NotApplicableError, match="Fix: run-benchmark env create scnym_original"):
        ScNymOriginal().fit(train).predict(query)
    with pytest.raises(NotApplicableError, match="Fix: run-benchmark env create scgen_original"):
        ScGenOriginal().fit(train).embed(query)
    with pytest.raises(UnknownNameError, match="Unknown configuration 'default'"):
        ScNymOriginal(configuration="default")
    query.obs["batch"] = pd.Categorical(["donor1"] * query.n_obs)
    with pytest.raises(NotApplicableError, match="come from one batch"):
        ScGenOriginal().fit(train).embed(query)


@pytest.mark.isolated
def test_scnyms_package_labels_cells_whatever_types_are_called(train, query):
    require("scnym_original")
    names = {"acinar": "Unlabeled", "beta": "9", "delta": "10"}
    train.obs["label"] = train.obs["label"].cat.rename_categories(names)
    truth = np.array([names[name] for name in labels(query)])
    del query.obs["label"]
    first, second = (ScNymOriginal(n_epochs=30, seed=3).fit(train).predict(query) for _ in range(2))
    assert np.mean(first.label_pred == truth) > 0.9
    assert first.labels == ("10", "9", "Unlabeled")
    np.testing.assert_array_equal(first.label_proba, second.label_proba)
    with pytest.raises(NotApplicableError, match="needs 4 training cells, there are 3"):
        ScNymOriginal().fit(train[np.unique(labels(train), return_index=True)[1]].copy()).predict(query)


@pytest.mark.isolated
def test_scgens_package_puts_every_row_where_its_cell_stands_and_aligns_types(train, query):
    require("scgen_original")
    method = ScGenOriginal(max_epochs=20, n_hidden=64, seed=3).fit(train)
    X_emb = method.embed(query)
    assert X_emb.shape == (120, 100)
    assert neighbor_accuracy(X_emb, labels(query)) > 0.9
    np.testing.assert_array_equal(X_emb, method.embed(query))
    query.obs["batch"] = query.obs["label"].to_numpy()
    with pytest.raises(NotApplicableError, match="no type occurs in two batches"):
        method.embed(query)


@pytest.mark.isolated
@pytest.mark.slow
def test_our_scgen_has_the_neighbours_of_the_package_as_its_seeds_have_each_other(fidelity):
    require("scgen_original")
    train, query = map(fidelity.of_variable_genes, fidelity.small_split())
    first, second = (ScGenOriginal(seed=seed).fit(train).embed(query) for seed in (0, 1))
    ours = ScGenPaper(seed=0).fit(train).embed(query).X_emb
    agreement = np.mean([fidelity.shared_neighbours(ours, original) for original in (first, second)])
    assert agreement > fidelity.shared_neighbours(first, second) - 0.08
