"""Small simulated cells: five types, three batches, 200 genes, and models fitted on them."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

N_GENES = 200


def _simulate(*, n_cells: int, seed: int, n_types: int = 5, n_batches: int = 3) -> ad.AnnData:
    """Draw Poisson counts: each type has 12 marker genes, each batch rescales every gene."""
    genes = np.random.default_rng(7)  # the same biology for every draw of cells
    base = genes.gamma(0.6, 1.0, N_GENES)
    profiles = np.tile(base, (n_types, 1))
    for code in range(n_types):
        profiles[code, 12 * code : 12 * (code + 1)] += 6.0
    stretch = genes.lognormal(0.0, 0.35, (n_batches, N_GENES))
    rng = np.random.default_rng(seed)
    label, batch = rng.integers(n_types, size=n_cells), rng.integers(n_batches, size=n_cells)
    counts = rng.poisson(profiles[label] * stretch[batch]).astype(np.float32)
    X = np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4)
    obs = pd.DataFrame(
        {"label": [f"type{code}" for code in label], "batch": [f"batch{code}" for code in batch]},
        index=[f"cell{i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=[f"gene{i}" for i in range(N_GENES)])
    return ad.AnnData(sparse.csr_matrix(X.astype(np.float32)), obs=obs, var=var)


@pytest.fixture(scope="session")
def simulate():
    """Draw cells of the same five types: ``simulate(n_cells=..., seed=...)``."""
    return _simulate


@pytest.fixture(scope="session")
def _train() -> ad.AnnData:
    return _simulate(n_cells=600, seed=0)


@pytest.fixture
def train(_train) -> ad.AnnData:
    return _train.copy()


@pytest.fixture(scope="session")
def _query() -> ad.AnnData:
    return _simulate(n_cells=200, seed=1)


@pytest.fixture
def query(_query) -> ad.AnnData:
    return _query.copy()


@pytest.fixture(scope="session")
def fitted(_train):
    """A model fitted once; tests must not change it."""
    from cellular_bench.methods.cellular import Cellular

    model = Cellular(seed=3, max_epochs=12, classifier_max_epochs=12, batch_size=64)
    return model.fit(_train.copy(), label_key="label", batch_key="batch")
