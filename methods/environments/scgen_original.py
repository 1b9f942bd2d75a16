"""scGen 2.1.0, the authors' package: batch removal with the labels of the cells that it corrects."""

from __future__ import annotations

from typing import Any

import numpy as np


def run(train: Any, query: Any, *, seed: int, **params: Any) -> dict[str, Any]:
    """Train the autoencoder on the training cells and remove the batches of the query.

    Parameters
    ----------
    train
        Cells that the network learns from.
    query
        Cells with batches and labels, whose corrected expression is encoded again and returned.
    seed
        Seed of the initial weights, the held-out cells, mini-batches and draws.
    params
        Parameters of ``cellular_bench.methods.scgen.ScGenOriginal``.
    """
    import scgen
    import scvi
    from cellular_bench_inside import NotApplicable

    if not any(np.unique(query.batch[query.label == name]).size > 1 for name in np.unique(query.label)):
        raise NotApplicable("no type occurs in two batches of the query")
    scvi.settings.seed = seed % 2**32
    categories = [np.union1d(train.batch, query.batch), np.union1d(train.label, query.label)]
    learned, corrected = (_cells(part, *categories) for part in (train, query))
    scgen.SCGEN.setup_anndata(learned, batch_key="batch", labels_key="label")
    model = scgen.SCGEN(learned, n_hidden=params["n_hidden"], n_latent=params["n_latent"])
    model.train(
        max_epochs=params["max_epochs"],
        batch_size=128,
        early_stopping=True,
        early_stopping_patience=params["patience"],
        use_gpu=False,
    )
    # Its rows have the order of the cells, unlike those of "latent" in this version.
    return {"X_emb": model.batch_removal(corrected).obsm["corrected_latent"]}


def _cells(part: Any, batches: Any, labels: Any) -> Any:
    """Return cells in the form that the library reads; batches and labels of all cells are known to it."""
    import anndata
    import pandas as pd

    obs = pd.DataFrame(
        {
            "batch": pd.Categorical(part.batch, categories=batches),
            "label": pd.Categorical(part.label, categories=labels),
        },
        index=[str(row) for row in range(part.X.shape[0])],
    )
    var = pd.DataFrame(index=part.var_names)
    return anndata.AnnData(part.X.toarray().astype(np.float32), obs=obs, var=var)
