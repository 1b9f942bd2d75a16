"""The paper preset against the study's package: labels and neighbours of the same cells, two seeds each."""

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from cellular_bench.methods.cellular import CellularMethod

N_NEIGHBOURS = 15


@pytest.fixture(scope="module")
def cells(shared):
    """Training and scored cells of four studies of PBMC, as they were given to the package."""
    golden = shared / "golden" / "fidelity"
    part = pd.read_csv(golden / "pbmc_cells.csv.gz")
    genes = pd.read_csv(golden / "pbmc_genes.csv.gz")
    adata = anndata.read_h5ad(shared / "data" / "pbmc_multistudy.h5ad")[part["cell"], genes["gene"]]
    counts = sparse.csr_matrix(adata.X, dtype=np.float64)
    X = sparse.diags(1e4 / np.asarray(counts.sum(axis=1)).ravel()) @ counts
    adata = anndata.AnnData(
        X.log1p().tocsr().astype(np.float32),
        obs=pd.DataFrame(
            {"label": adata.obs["cell_type"].astype(str), "batch": adata.obs["batch"].astype(str)},
            index=adata.obs_names,
        ),
        var=pd.DataFrame({"highly_variable": genes["hvg"].to_numpy()}, index=genes["gene"]),
    )
    is_training = (part["part"] == "train").to_numpy()
    return adata[is_training].copy(), adata[~is_training].copy()


@pytest.fixture(scope="module")
def originals(shared):
    """Labels and embeddings of cellular-cl 0.0.4, by seed."""
    files = [shared / "golden" / "fidelity" / f"pbmc.cellular.orig.{seed}.npz" for seed in (1, 42)]
    return [(found["pred"], found["emb"].astype(np.float32)) for found in map(np.load, files)]


def neighbours(X_emb):
    near = NearestNeighbors(n_neighbors=N_NEIGHBOURS + 1).fit(X_emb).kneighbors(X_emb)[1]
    return [set(row) - {number} for number, row in enumerate(near)]


def shared_neighbours(one, other):
    pairs = zip(neighbours(one), neighbours(other), strict=True)
    return np.mean([len(mine & theirs) for mine, theirs in pairs]) / N_NEIGHBOURS


@pytest.mark.slow
def test_the_paper_preset_differs_from_the_package_as_its_seeds_do_from_each_other(cells, originals):
    train, query = cells
    truth = query.obs["label"].to_numpy()
    method = CellularMethod(preset="paper", n_trials=0, seed=42).fit(train)
    label_pred, X_emb = method.predict(query).label_pred, method.embed(query)
    (labels_1, X_1), (labels_42, X_42) = originals
    same = [np.mean(label_pred == labels) for labels in (labels_1, labels_42)]
    assert np.mean(same) > np.mean(labels_1 == labels_42) - 0.01
    overlap = [shared_neighbours(X_emb, X) for X in (X_1, X_42)]
    assert np.mean(overlap) > shared_neighbours(X_1, X_42) - 0.05
    assert abs(silhouette_score(X_emb, truth) - silhouette_score(X_42, truth)) < 0.07
