"""CellHint: types are harmonised across batches, and neighbours searched among matching types."""

from __future__ import annotations

from typing import Any

import numpy as np

#: The library does not integrate batches with fewer cells.
FEWEST_CELLS = 11


def run(
    train: Any, query: Any, *, seed: int, n_components: int, n_meta_neighbors: int, n_voters: int
) -> dict[str, Any]:
    """Harmonise the labels of the training batches, predict them for the query, and link its cells.

    Parameters
    ----------
    train, query
        Cells with log-normalised values and batches; training cells with labels.
    seed
        Seed of the principal components, and of the batches that give one neighbour more.
    n_components, n_meta_neighbors, n_voters
        Parameters of ``cellular_bench.methods.cellhint.CellHint``.
    """
    import anndata
    import cellhint
    import pandas as pd
    from cellular_bench_inside import NotApplicable
    from sklearn.neighbors import KNeighborsClassifier

    names, sizes = np.unique(query.batch, return_counts=True)
    if sizes.min() < FEWEST_CELLS:
        raise NotApplicable(
            f"needs {FEWEST_CELLS} cells in each batch, '{names[sizes.argmin()]}' has {sizes.min()}"
        )
    orders = [train.canonical(), query.canonical()]
    known, cells = _components(train, query, orders, seed=seed, n_components=n_components)
    label = _harmonised(known, train.batch[orders[0]], train.label[orders[0]])
    voters = KNeighborsClassifier(min(n_voters, label.size)).fit(known, label)
    obs = pd.DataFrame({"batch": query.batch[orders[1]].astype(object), "type": voters.predict(cells)})
    obs.index = obs.index.astype(str)
    linked = anndata.AnnData(np.zeros((len(obs), 1), dtype=np.float32), obs=obs, obsm={"X_pca": cells})
    cellhint.integrate(
        linked,
        "batch",
        "type",
        use_rep="X_pca",
        n_latent=cells.shape[1],
        n_neighbors=min(max(15, 3 * names.size), sizes.min()),
        n_meta_neighbors=n_meta_neighbors,
        approx=False,  # approximate neighbours depend on the number of cores
        neighbor_random_state=seed % 2**32,
    )
    back = np.argsort(orders[1])
    return {
        "graph": linked.obsp["connectivities"].tocsr()[back][:, back],
        "graph_distances": linked.obsp["distances"].tocsr()[back][:, back],
    }


def _components(train: Any, query: Any, orders: Any, *, seed: int, n_components: int) -> Any:
    """Return principal components of the scaled values of all cells: of the training cells, of the query."""
    import anndata
    import scanpy
    from scipy.sparse import vstack

    parts = (cells.X.toscipy()[order] for cells, order in zip((train, query), orders))  # noqa: B905
    both = anndata.AnnData(vstack(list(parts)).toarray().astype(np.float32))
    scanpy.pp.scale(both, max_value=10)
    scanpy.pp.pca(both, n_comps=min(n_components, min(both.shape) - 1), random_state=seed % 2**32)
    scores = both.obsm["X_pca"]
    return scores[: orders[0].size], scores[orders[0].size :]


def _harmonised(scores: Any, batch: Any, label: Any) -> Any:
    """Return the harmonised type of each training cell; with one batch, there is nothing to harmonise."""
    import anndata
    import cellhint
    import pandas as pd

    if np.unique(batch).size < 2:
        return label.astype(object)
    # Numbers: the library joins the names of types by signs that they may hold.
    obs = pd.DataFrame({"batch": batch.astype(object), "type": pd.factorize(label)[0].astype(str)})
    obs.index = obs.index.astype(str)
    cells = anndata.AnnData(np.zeros((label.size, 1), dtype=np.float32), obs=obs, obsm={"X_pca": scores})
    alignment = cellhint.harmonize(cells, "batch", "type", use_rep="X_pca")
    return alignment.reannotation.loc[cells.obs_names, "reannotation"].astype(str).to_numpy(dtype=object)
