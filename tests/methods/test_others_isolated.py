"""Methods of others that run in separate environments; tests skip if the environment is missing."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import cellular_bench.methods
from cellular_bench.benchmark import registry
from cellular_bench.benchmark.conformance.data import link_accuracy, neighbor_accuracy
from cellular_bench.core.errors import ContractError, DataError, NotApplicableError, UserError
from cellular_bench.environments import find, missing_text, state
from cellular_bench.methods.cellhint import CellHint
from cellular_bench.methods.onclass import OnClass
from cellular_bench.methods.popv import ANNOTATORS, PopV
from cellular_bench.methods.scalex import Scalex
from cellular_bench.methods.scbalance import ScBalance
from cellular_bench.methods.scpoli import ScPoli

FITTED = {
    "scpoli": ScPoli,
    "popv": PopV,
    "cellhint": CellHint,
    "onclass": lambda: OnClass(ontology="cl.ontology"),
    "scbalance": ScBalance,
}


def labels(adata):
    return np.asarray(adata.obs["label"]).astype(str)


def answer(model, query):
    return model.predict(query) if hasattr(model, "predict") else model.embed(query)


def program(name):
    """Load a program as its environment does; its libraries are imported when it runs."""
    path = Path(cellular_bench.methods.__file__).parent / "environments" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"program_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def require(name: str) -> None:
    found = state(find(name))
    if not found.is_ready:
        pytest.skip(missing_text(found))


@pytest.mark.parametrize("name", FITTED)
def test_what_is_wrong_is_said_before_anything_is_started(name, train, query, monkeypatch, tmp_path):
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path))
    make = FITTED[name]
    with pytest.raises(ContractError, match="predict was called before fit"):
        answer(make(), query)
    with pytest.raises(DataError, match="same genes in the same order"):
        answer(make().fit(train), query[:, ::-1].copy())
    with pytest.raises(NotApplicableError, match=r"have 1 label\(s\) \(beta\); at least 2 are needed"):
        make().fit(train[labels(train) == "beta"].copy())
    with pytest.raises(NotApplicableError, match=f"Fix: run-benchmark env create {name}"):
        answer(make().fit(train), query)


@pytest.mark.parametrize("method", [ScPoli, PopV])
def test_counts_are_needed(method, train, query):
    model = method().fit(train)
    del query.layers["counts"]
    with pytest.raises(NotApplicableError, match='no layer "counts"'):
        model.predict(query)


def test_scalex_needs_batches_and_names_its_environment(query, monkeypatch, tmp_path):
    monkeypatch.setenv("CELLULAR_BENCH_CACHE", str(tmp_path))
    with pytest.raises(NotApplicableError, match="Fix: run-benchmark env create scalex"):
        Scalex().fit_embed(query)
    query.obs["batch"] = pd.Categorical(["donor1"] * query.n_obs)
    with pytest.raises(NotApplicableError, match="come from one batch"):
        Scalex().fit_embed(query)


def test_popv_refuses_unknown_annotators():
    with pytest.raises(UserError, match="ONCLASS"):
        PopV(methods=["ONCLASS"])
    assert PopV().methods == ANNOTATORS


def test_onclass_is_left_out_of_all_without_its_ontology():
    spec = registry.methods()["onclass"].spec
    assert (spec.needs_params, spec.file_params) == (("ontology",), ("ontology", "embeddings"))


@pytest.mark.parametrize(
    ("sizes", "at_least", "size"),
    [([128, 65], 64, 65), ([130, 65], 65, 65), ([3, 2], 5, 5), ([67, 66, 65], 64, 67)],
)
def test_no_mini_batch_of_scalex_holds_a_single_cell(sizes, at_least, size):
    assert program("scalex")._without_single(np.array(sizes), at_least=at_least) == size


def test_scpoli_trains_without_prototypes_for_nine_tenths():
    assert program("scpoli")._epochs(100) == {"n_epochs": 100, "pretraining_epochs": 90}


@pytest.mark.slow
@pytest.mark.isolated
def test_scpoli_predicts_by_means_and_learns_new_batches(train, query):
    require("scpoli")
    query.obs["batch"] = pd.Categorical(np.char.add("new_", np.asarray(query.obs["batch"], dtype=str)))
    model = ScPoli(max_epochs=60, query_epochs=20).fit(train)
    prediction = model.predict(query)
    assert np.mean(prediction.label_pred == labels(query)) > 0.9
    np.testing.assert_allclose(prediction.label_proba.sum(axis=1), 1.0)
    assert prediction.novelty.min() >= 0.0


@pytest.mark.slow
@pytest.mark.isolated
def test_popv_votes_and_rejects_cells_without_counts(train, query):
    require("popv")
    for matrix in (query.layers["counts"], query.X):
        matrix[0] = 0
    prediction = PopV(methods=["KNN_HARMONY", "Support_Vector", "XGboost"]).fit(train).predict(query)
    assert prediction.rejected.tolist() == [True] + [False] * 119
    assert prediction.novelty[0] == 1.0
    assert np.mean(prediction.label_pred[1:] == labels(query)[1:]) > 0.9
    shares = prediction.label_proba[1:] * 3  # three annotators
    np.testing.assert_allclose(shares, shares.round(), atol=1e-9)


@pytest.mark.slow
@pytest.mark.isolated
def test_scalex_brings_the_same_types_together(query):
    require("scalex")
    X_emb = Scalex(max_iter=1000).fit_embed(query)
    assert X_emb.shape == (120, 10)
    assert neighbor_accuracy(X_emb, labels(query)) > 0.9


@pytest.mark.slow
@pytest.mark.isolated
def test_cellhint_links_the_same_types_without_the_labels_of_the_query(train, query):
    require("cellhint")
    truth = labels(query)
    model = CellHint().fit(train)
    graph = model.embed(query)
    assert link_accuracy(graph.connectivities, truth) > 0.9
    query.obs["label"] = pd.Categorical(np.random.default_rng(0).permutation(truth))
    np.testing.assert_array_equal(model.embed(query).connectivities.toarray(), graph.connectivities.toarray())


@pytest.mark.slow
@pytest.mark.isolated
def test_scbalance_predicts_each_cell_by_itself(train, query):
    require("scbalance")
    model = ScBalance(seed=1).fit(train)
    prediction = model.predict(query)
    assert np.mean(prediction.label_pred == labels(query)) > 0.9
    part = model.predict(query[5:20].copy())
    np.testing.assert_allclose(part.label_proba, prediction.label_proba[5:20], atol=1e-6)


@pytest.mark.slow
@pytest.mark.isolated
def test_onclass_needs_labels_that_are_terms_and_scores_unseen_ones(train, query, tmp_path):
    require("onclass")
    ontology = tmp_path / "cl.ontology"
    edges = [("acinar", "exocrine"), ("ductal", "exocrine"), ("beta", "endocrine"), ("delta", "endocrine")]
    edges += [("exocrine", "cell"), ("endocrine", "cell")]
    ontology.write_text("".join(f"{child}\t{parent}\n" for child, parent in edges), encoding="utf-8")
    prediction = OnClass(ontology=str(ontology)).fit(train).predict(query)
    assert np.mean(prediction.label_pred == labels(query)) > 0.9
    ontology.write_text("beta\tcell\n", encoding="utf-8")
    with pytest.raises(NotApplicableError, match="these are not: acinar, delta"):
        OnClass(ontology=str(ontology)).fit(train).predict(query)
