"""The harness's classes: contract, laziness and what each variant trains on."""

import subprocess
import sys

import numpy as np
import pytest

from cellular_bench.core.errors import UserError
from cellular_bench.core.genes import variable_genes
from cellular_bench.core.types import GeneSelection
from cellular_bench.methods.cellular import (
    Cellular,
    CellularCentroidMethod,
    CellularContrastiveMethod,
    CellularMethod,
)
from cellular_bench.methods.cellular.inputs import codes_of
from cellular_bench.methods.cellular.minibatches import inner_split


@pytest.fixture(scope="module")
def method(simulate) -> CellularMethod:
    """Fitted once; tests must not change it."""
    return CellularMethod(max_epochs=10, seed=1).fit(simulate(n_cells=600, seed=0))


def test_every_class_has_its_own_id():
    ids = [
        variant.spec.method_id
        for variant in (CellularMethod, CellularContrastiveMethod, CellularCentroidMethod)
    ]
    assert ids == ["cellular", "cellular_contrastive", "cellular_centroid"]


def test_embedding_trains_no_classifier(train, query):
    method = CellularMethod(max_epochs=1).fit(train)
    assert method.embed(query).shape == (200, 100)
    assert method.model.classifier_history is None


def test_prediction_is_complete_and_right(method, query):
    prediction = method.predict(query)
    assert (prediction.label_pred == query.obs["label"]).mean() > 0.9
    assert prediction.labels == tuple(f"type{i}" for i in range(5))
    np.testing.assert_array_equal(
        np.asarray(prediction.labels)[prediction.label_proba.argmax(axis=1)], prediction.label_pred
    )
    np.testing.assert_allclose(prediction.novelty, method.model.novelty(query))


def test_the_default_reads_the_marked_genes_and_the_paper_selects_its_own(train, query):
    marked = np.arange(train.n_vars) < 60
    train.var["highly_variable"] = marked
    default = CellularMethod(max_epochs=1).fit(train)
    assert default.model.genes == tuple(train.var_names[:60])
    assert default.embed(query).shape == (200, 100)
    paper = CellularMethod(preset="paper", max_epochs=1).fit(train)
    # The study's split has a fixed seed; its genes are those that vary in four fifths of the cells.
    inner, _ = inner_split(codes_of(train, "label", role="label")[0], n_folds=5, seed=42)
    np.testing.assert_array_equal(paper.model._fitted.train_rows, inner)
    chosen = variable_genes(train.X[inner], GeneSelection(n_top_genes=60))
    assert paper.model.genes == tuple(train.var_names[chosen])
    assert paper.embed(query).shape == (200, 100)
    assert set(paper.model.genes) != set(default.model.genes)


def test_labels_of_the_query_are_not_read(method, query):
    blind = query.copy()
    del blind.obs["label"], blind.obs["batch"]
    np.testing.assert_array_equal(method.embed(blind), method.embed(query))


def test_public_class_and_adapter_agree(method, train, query):
    model = Cellular(max_epochs=10, seed=1)
    model.fit(train, label_key="label", batch_key="batch", with_classifier=False)
    np.testing.assert_array_equal(model.embed(query), method.embed(query))


@pytest.mark.parametrize(
    ("variant", "weighted"),
    [
        (CellularContrastiveMethod, lambda terms: 0.9 * terms["type"] + 0.1 * terms["batch"]),
        (CellularCentroidMethod, lambda terms: terms["centroid"]),
    ],
)
def test_variants_leave_terms_out(train, variant, weighted):
    terms = variant(max_epochs=1).fit(train).model.history.epochs[0].train
    assert terms["total"] == pytest.approx(weighted(terms))


def test_using_a_method_before_fitting(query):
    with pytest.raises(UserError, match="cellular_centroid: the method is not fitted"):
        CellularCentroidMethod().embed(query)


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, cellular_bench.methods.cellular as c; c.CellularMethod();"
        "print([m for m in ('torch', 'scanpy', 'anndata', 'sklearn', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
