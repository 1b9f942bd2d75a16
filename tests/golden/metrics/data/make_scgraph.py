"""Write scgraph.json: what scgraph-eval 0.1.2 gives for simulated cells.

Needs ``pip install scgraph-eval==0.1.2`` (MIT licence); the cells are simulated again by the tests.
"""

import json
import tempfile
from pathlib import Path

import numpy as np

#: Seeds of the data, and cells of each type in each batch.
CASES = {
    "six_types": (0, [[40, 30, 25, 20, 30, 35], [30, 40, 20, 30, 25, 35]]),
    "a_rare_type_and_a_small_batch": (
        1,
        [[60, 50, 9, 3, 40, 30], [50, 60, 30, 4, 20, 0], [20, 20, 0, 0, 9, 9]],
    ),
    "types_that_share_no_batch": (2, [[50, 40, 30, 30, 0, 0, 0], [0, 0, 40, 30, 50, 60, 45]]),
    "too_few_cells_of_one_type": (3, [[80, 70, 60, 50, 5], [90, 40, 30, 60, 4]]),
}
N_GENES = 1200


def simulate(name):
    """Return log-normalised expression, float32, with labels, batches and embeddings of cells."""
    seed, sizes = CASES[name]
    rng = np.random.default_rng(seed)
    n_types = len(sizes[0])
    label = np.concatenate([np.repeat(np.arange(n_types), row) for row in sizes])
    batch = np.repeat(np.arange(len(sizes)), [sum(row) for row in sizes])
    rate = rng.gamma(0.3, 1.0, N_GENES) * np.exp(rng.normal(0, 0.6, (n_types, N_GENES)))[label]
    rate = rate * np.exp(rng.normal(0, 0.2, (len(sizes), N_GENES)))[batch]
    rate[np.ix_(batch == 0, np.arange(100))] = 0  # genes that one batch does not express
    counts = rng.poisson(rate)
    X = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    islands = np.eye(n_types)[label] + 0.01 * rng.normal(size=(len(label), n_types))
    embeddings = {
        "projection": X @ rng.normal(size=(N_GENES, 30)),
        "noise": rng.normal(size=(len(label), 10)),
        "islands": islands,
        "skewed": np.exp(1.5 * (islands @ rng.normal(size=(n_types, 4))) + rng.normal(size=(len(label), 4))),
    }
    names = np.array([f"type {code}" for code in range(n_types)])
    return X, names[label], np.array([f"batch {code}" for code in batch]), embeddings


def reference_values(X, label, batch, embeddings):
    """Return the column Corr-Weighted of scgraph-eval, by embedding."""
    import anndata
    import pandas as pd
    from scgraph import scGraph

    obs = pd.DataFrame({"label": label, "batch": batch}, index=[f"cell {i}" for i in range(len(label))])
    adata = anndata.AnnData(X=X, obs=obs.astype("category"), obsm=embeddings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        adata.write_h5ad(path)
        found = scGraph(str(path), batch_key="batch", label_key="label", only_umap=False).main()
    return {name: float(found.loc[name, "Corr-Weighted"]) for name in embeddings}


if __name__ == "__main__":
    values = {name: reference_values(*simulate(name)) for name in CASES}
    path = Path(__file__).with_name("scgraph.json")
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
