"""CellTypist's training gives the numbers of ``celltypist.train`` with scikit-learn 1.7, on every version."""

import warnings

import numpy as np
import pytest
import sklearn
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version
from scipy.sparse import csr_matrix

from cellular_bench.methods.celltypist.adapter import CellTypist, _library
from cellular_bench.methods.celltypist.descent import coefficients
from cellular_bench.methods.celltypist.training import one_against_rest

#: The library cannot train with later versions.
library_trains = pytest.mark.skipif(
    Version(sklearn.__version__) >= Version("1.8"), reason="scikit-learn < 1.8 is the reference"
)


def cells(n_cells: int, n_genes: int, n_labels: int, seed: int) -> AnnData:
    """Return log-normalised cells of labels that overlap; some genes are zero everywhere."""
    generator = np.random.default_rng(seed)
    label = np.arange(n_cells) % n_labels
    mean = generator.gamma(0.5, 1.0, size=(n_labels, n_genes)) + 0.2
    counts = generator.poisson(mean[label]) + (np.arange(n_genes) == n_genes - 1)[None]
    counts[:, :2] = 0
    X = np.log1p(counts * (1e4 / counts.sum(axis=1, keepdims=True))).astype(np.float32)
    adata = AnnData(csr_matrix(X))
    adata.obs["label"] = [f"t{k}" for k in label]
    return adata


@library_trains
@settings(max_examples=20, deadline=None)
@given(
    n_labels=st.integers(2, 5),
    n_genes=st.sampled_from([8, 30, 90]),
    top_genes=st.sampled_from([5, 300]),
    C=st.sampled_from([0.1, 1.0]),
    seed=st.integers(0, 2**31 - 1),
)
def test_the_model_is_that_of_the_library(n_labels, n_genes, top_genes, C, seed):
    adata = cells(60, n_genes, n_labels, seed % 1000)
    ours = CellTypist(top_genes=top_genes, C=C, seed=seed).fit(adata)._model
    theirs = _library().train(
        adata.copy(),
        labels="label",
        feature_selection=n_genes - 2 > top_genes,
        top_genes=top_genes,
        C=C,
        check_expression=False,
        random_state=seed,
    )
    np.testing.assert_array_equal(ours.features, theirs.features)
    np.testing.assert_array_equal(ours.cell_types, theirs.cell_types)
    for name in ("coef_", "intercept_", "n_features_in_"):
        np.testing.assert_array_equal(getattr(ours.classifier, name), getattr(theirs.classifier, name))
    for name in ("mean_", "var_", "scale_", "n_features_in_"):
        np.testing.assert_array_equal(getattr(ours.scaler, name), getattr(theirs.scaler, name))


@library_trains
@pytest.mark.parametrize("n_labels", [2, 4])
@pytest.mark.parametrize("n_cells", [90, 60_000])  # the solver of large data is another one
def test_one_against_rest_is_what_scikit_learn_removed(n_labels, n_cells):
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    X = generator.standard_normal((n_cells, 3)).astype(np.float32)
    labels = np.array([f"t{k}" for k in generator.integers(n_labels, size=n_cells)])
    ours = one_against_rest(X, labels, C=0.5, max_iter=200, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        solver = "sag" if n_cells > 50_000 else "lbfgs"
        theirs = LogisticRegression(C=0.5, solver=solver, max_iter=200, multi_class="ovr", random_state=3)
        theirs.fit(X, labels)
    np.testing.assert_array_equal(ours.coef_, theirs.coef_)
    np.testing.assert_array_equal(ours.decision_function(X), theirs.decision_function(X))
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@library_trains
@pytest.mark.parametrize("n_labels", [2, 3])
def test_descent_is_that_of_the_library(n_labels):
    from sklearn.linear_model import SGDClassifier

    generator = np.random.default_rng(1)
    X = generator.standard_normal((80, 40)).astype(np.float32)
    labels = np.array([f"t{k}" for k in generator.integers(n_labels, size=80)])
    theirs = SGDClassifier(loss="log_loss", random_state=7).fit(X, labels)
    np.testing.assert_array_equal(coefficients(X, labels, max_epochs=1000, seed=7), theirs.coef_)


#: By ``celltypist.train`` 1.7.1 with scikit-learn 1.7.2.
FEATURES = ["2", "3", "4", "5", "9", "10", "11", "17", "22", "24", "26"]
COEF = [-0.7334356055789004, 0.2361208732935957, 0.5237960981486853]
INTERCEPT = [-1.5643023082876422, -1.719033015463761, -1.8149030789074556]
NOVELTY = [0.010073159832, 0.072057223842, 0.144783121288, 0.258060931776, 0.584274728391, 0.725206871071]


def test_every_version_of_scikit_learn_gives_the_numbers_of_1_7():
    fitted = CellTypist(top_genes=5, seed=11).fit(cells(60, 30, 3, seed=5))
    assert list(fitted._model.features) == FEATURES
    np.testing.assert_allclose(fitted._model.classifier.coef_[:, 0], COEF, rtol=1e-6)
    np.testing.assert_allclose(fitted._model.classifier.intercept_, INTERCEPT, rtol=1e-6)
    prediction = fitted.predict(cells(6, 30, 3, seed=6))
    np.testing.assert_allclose(prediction.novelty, NOVELTY, rtol=1e-6)
