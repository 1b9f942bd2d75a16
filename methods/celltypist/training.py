"""CellTypist's training: the numbers of ``celltypist.train`` 1.7.1 with scikit-learn 1.7.

The library's function passes an argument that scikit-learn 1.8 removed, and its gradient descent ends by
another rule since then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.methods._inputs import dense

if TYPE_CHECKING:
    from anndata import AnnData

#: Largest scaled expression.
LARGEST: Final = 10.0


def fit(
    train: AnnData, labels: NDArray[np.str_], *, top_genes: int | None, C: float, seed: int
) -> tuple[Any, Any]:
    """Return the classifier and the scaler of a model.

    Parameters
    ----------
    train
        Reference.
    labels
        Label of every cell.
    top_genes
        Number of genes per label that the first pass selects; None: no first pass.
    C
        Inverse strength of the penalty.
    seed
        Seed of both passes.
    """
    from sklearn.preprocessing import StandardScaler

    X = dense(train.X)
    expressed = X.sum(axis=0) != 0
    X, names = X[:, expressed], np.asarray(train.var_names, dtype=np.str_)[expressed]
    scaler = StandardScaler().fit(X)
    # As transform did it before scikit-learn 1.9: computed in float64, kept in float32.
    X -= scaler.mean_
    X /= scaler.scale_
    np.minimum(X, LARGEST, out=X)
    max_iter = 1000 if train.n_obs < 50_000 else 500 if train.n_obs < 500_000 else 200
    if top_genes is not None and names.size > top_genes:
        from cellular_bench.methods.celltypist.descent import coefficients

        coef = coefficients(X, labels, max_epochs=max_iter, seed=seed)
        selected = np.unique(np.argpartition(np.abs(coef), -top_genes, axis=1)[:, -top_genes:])
        X, names = X[:, selected], names[selected]
        scaler.mean_, scaler.var_, scaler.scale_ = (
            values[selected] for values in (scaler.mean_, scaler.var_, scaler.scale_)
        )
        scaler.n_features_in_ = selected.size
    classifier = one_against_rest(X, labels, C=C, max_iter=max_iter, seed=seed)
    classifier.features = names
    return classifier, scaler


def one_against_rest(X: NDArray[Any], labels: NDArray[np.str_], *, C: float, max_iter: int, seed: int) -> Any:
    """Return a logistic regression with the coefficients of one against the rest for each label.

    The numbers equal those of ``multi_class="ovr"``, which scikit-learn 1.8 removed.
    """
    from sklearn.linear_model import LogisticRegression

    solver = "sag" if labels.size > 50_000 else "lbfgs"
    if solver == "lbfgs":
        X = X.astype(np.float64)  # as it would for every label
    names = np.unique(labels)
    fitted = [
        LogisticRegression(C=C, solver=solver, max_iter=max_iter, random_state=seed).fit(X, labels == name)
        for name in (names if names.size > 2 else names[1:])
    ]
    together = fitted[0]
    together.coef_ = np.concatenate([each.coef_ for each in fitted])
    together.intercept_ = np.concatenate([each.intercept_ for each in fitted])
    together.classes_ = names
    return together
