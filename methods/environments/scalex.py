"""SCALEX: an autoencoder whose decoder normalises each batch by itself."""

from __future__ import annotations

import os
from typing import Any

import numpy as np


def run(
    train: Any, query: Any, *, seed: int, max_iter: int, batch_size: int, learning_rate: float
) -> dict[str, Any]:
    """Train on the cells of the query and return the mean of each cell's latent distribution.

    Parameters
    ----------
    train
        Not used: only the query is embedded.
    query
        Cells with log-normalised values and batches.
    seed
        Seed of weights and mini-batches.
    max_iter, batch_size, learning_rate
        Parameters of ``cellular_bench.methods.scalex.Scalex``.
    """
    import anndata
    import pandas as pd
    from cellular_bench_inside import NotApplicable
    from scalex import SCALEX
    from scalex.data import batch_scale

    order = query.canonical()
    # Batches are numbered by their first cell, so that their names do not matter.
    batch = pd.Categorical(pd.factorize(query.batch[order])[0].astype(str))
    sizes = batch.value_counts()
    if sizes.min() < 2:
        raise NotApplicable("needs 2 cells in each batch: they are normalised within it")
    cells = anndata.AnnData(query.X.toscipy()[order].astype(np.float32), obs=pd.DataFrame({"batch": batch}))
    cells.obs_names = cells.obs_names.astype(str)
    # As the library prepares counts, after the steps that the harness has done.
    cells = batch_scale(cells)
    embedded = SCALEX(
        cells,
        processed=True,
        max_iteration=max_iter,
        batch_size=_without_single(sizes.to_numpy(), at_least=min(batch_size, order.size)),
        lr=learning_rate,
        seed=seed % 2**32,
        outdir=os.path.join(os.environ["TMPDIR"], "scalex"),  # noqa: PTH118
        ignore_umap=True,
        num_workers=0,
    )
    X_emb = np.empty((order.size, embedded.obsm["latent"].shape[1]))
    X_emb[order] = embedded.obsm["latent"]
    return {"X_emb": X_emb}


def _without_single(sizes: Any, *, at_least: int) -> int:
    """Return a size of mini-batches that leaves no cell of a batch alone, which cannot be normalised."""
    size = at_least
    while np.any(sizes % size == 1):
        size += 1
    return size
