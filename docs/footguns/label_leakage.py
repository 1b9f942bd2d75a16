"""Scores of random labels, with and without leakage from the scored cells."""

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from cellular_bench.datasets import catalog
from cellular_bench.methods.pca import PCA
from cellular_bench.metrics import silhouette_label

N_DRAWS = 5


def one_cell_type():
    """Return 200 beta cells of one donor: random labels have no relation to their genes."""
    adata = catalog.load(catalog.specs()["baron"]).adata
    donor = adata.obs["batch"].value_counts().idxmax()
    cells = np.flatnonzero((adata.obs["label"] == "beta") & (adata.obs["batch"] == donor))
    return adata[np.random.default_rng(0).choice(cells, 200, replace=False)].copy()


def accuracies(X, label):
    """Return the accuracy in five folds, with genes selected on all cells and on the training cells."""
    choice, classifier = SelectKBest(f_classif, k=50), LogisticRegression()
    chosen_on_all = choice.fit_transform(X, label)
    outside = cross_val_score(classifier, chosen_on_all, label, cv=5).mean()
    inside = cross_val_score(make_pipeline(choice, classifier), X, label, cv=5).mean()
    return outside, inside


def silhouettes(X_pca, label):
    """Return the silhouette of the labels of the cells that a projection was fitted on, and of others."""
    seen, unseen = np.arange(100), np.arange(100, 200)
    projection = LinearDiscriminantAnalysis().fit(X_pca[seen], label[seen])
    return tuple(
        silhouette_label(projection.transform(X_pca[cells]), label[cells]) for cells in (seen, unseen)
    )


def measure():
    """Return the means over several random labellings, as (leaking, honest) pairs."""
    adata = one_cell_type()
    X = adata.X.toarray()
    X = X[:, (X > 0).mean(axis=0) > 0.1]
    X_pca = PCA(seed=0).fit_embed(adata)
    found = {"accuracy": [], "silhouette": []}
    for seed in range(N_DRAWS):
        label = np.random.default_rng(seed).permutation(np.repeat(["a", "b"], 100))
        found["accuracy"].append(accuracies(X, label))
        found["silhouette"].append(silhouettes(X_pca, label))
    return {name: np.mean(pairs, axis=0) for name, pairs in found.items()}


if __name__ == "__main__":
    means = measure()
    print("| random labels of 200 beta cells | saw the scored labels | did not |")
    print("| --- | ---: | ---: |")
    rows = {
        "accuracy": "accuracy; genes selected by label on all cells, or on training cells",
        "silhouette": "silhouette; projection fitted on the scored cells, or on others",
    }
    for name, text in rows.items():
        print(f"| {text} | {means[name][0]:.2f} | {means[name][1]:.2f} |")
