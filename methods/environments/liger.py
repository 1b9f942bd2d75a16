"""LIGER (pyliger): integrative non-negative matrix factorisation, then quantile normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Smallest batch for which the factorisation has two or more factors, fewer than cells.
SMALLEST_BATCH = 4


def run(train: Any, query: Any, *, seed: int, **params: Any) -> dict[str, Any]:
    """Factorise the counts of all batches together and return the aligned loadings of each cell.

    Parameters
    ----------
    train
        Not used: only the query is embedded.
    query
        Cells with counts and batches.
    seed
        Seed of the initial values.
    params
        Parameters of ``cellular_bench.methods.liger.Liger``.
    """
    import pyliger
    from cellular_bench_inside import NotApplicable

    cells_of = [np.flatnonzero(query.batch == name) for name in np.unique(query.batch)]
    smallest = min(cells.size for cells in cells_of)
    if smallest < SMALLEST_BATCH:
        raise NotApplicable(f"needs {SMALLEST_BATCH} cells in each batch, the smallest has {smallest}")
    counts = query.counts.toscipy()
    # All cells and genes must be kept, because cells that it removed would be missing in the result.
    liger = pyliger.create_liger([_part(counts[cells], number) for number, cells in enumerate(cells_of)],
                                 remove_missing=False)  # fmt: skip
    pyliger.normalize(liger, remove_missing=False)
    liger.var_genes = _expressed_everywhere(liger)
    pyliger.scale_not_center(liger, remove_missing=False)
    pyliger.optimize_ALS(
        liger,
        k=min(params["n_factors"], smallest - 1, len(liger.var_genes) - 1),
        value_lambda=params["penalty"],
        max_iters=params["max_iter"],
        rand_seed=1 + seed % 2**31,  # the library subtracts 1
    )
    pyliger.quantile_norm(
        liger,
        quantiles=params["n_quantiles"],
        min_cells=params["min_cells"],
        knn_k=min(params["n_neighbors"], smallest),
        rand_seed=seed % 2**31,
    )
    parts = [part.obsm["H_norm"] for part in liger.adata_list]
    X_emb = np.empty((len(query.obs_names), parts[0].shape[1]))
    for cells, part in zip(cells_of, parts):  # noqa: B905  # for any Python 3
        X_emb[cells] = part
    return {"X_emb": X_emb}


def _part(counts: Any, number: int) -> Any:
    """Return a batch in the form that the library reads, with a name and names for both axes."""
    import anndata
    import pandas as pd

    obs = pd.DataFrame(index=pd.Index([f"{number}-{row}" for row in range(counts.shape[0])], name="cell"))
    var = pd.DataFrame(index=pd.Index([str(column) for column in range(counts.shape[1])], name="gene"))
    return anndata.AnnData(counts.astype(np.int64), obs=obs, var=var, uns={"sample_name": str(number)})


def _expressed_everywhere(liger: Any) -> Any:
    """Return the genes that are expressed in every batch; other genes have no scale in some batch."""
    expressed = np.all([part.var["norm_sum"].to_numpy() > 0 for part in liger.adata_list], axis=0)
    return liger.adata_list[0].var_names[expressed]
