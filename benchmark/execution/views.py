"""What a method may see: copies of the data with the labels it is scored on taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core import keys
from cellular_bench.core.layers import named_layers

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.core.types import MethodSpec, Stress


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The cells of a split and the genes that vary highly among its training cells.

    Attributes
    ----------
    train_obs, test_obs
        Ascending positions of cells.
    highly_variable
        (n_vars,) mask of the genes that are left by the stress.
    stress
        What was made harder; None for the data as they are.
    """

    train_obs: NDArray[np.int64]
    test_obs: NDArray[np.int64]
    highly_variable: NDArray[np.bool_]
    stress: Stress | None = None


def views(adata: AnnData, cells: Cells, spec: MethodSpec) -> tuple[AnnData, AnnData]:
    """Return the training cells and the cells to be scored, as a method may see them.

    Labels are there only where ``spec.labels`` allows: none, those of the training cells, or all.
    A stress has been applied. Genes are the highly variable ones where ``spec.features`` is ``"hvg"``;
    else all, and ``var["highly_variable"]`` tells which they are.
    """
    import pandas as pd

    from cellular_bench.datasets.stress import stressed_data, stressed_labels

    adata = stressed_data(adata, cells.stress)
    genes: Any = cells.highly_variable if spec.features == "hvg" else slice(None)
    train = _view(adata, cells.train_obs, genes, with_label=spec.uses_labels)
    query = _view(adata, cells.test_obs, genes, with_label=spec.labels == "all")
    if spec.features == "all":
        for view in (train, query):
            view.var[keys.HIGHLY_VARIABLE] = cells.highly_variable
    if spec.uses_labels:
        train.obs[keys.LABEL] = pd.Categorical(stressed_labels(train.obs[keys.LABEL], cells.stress))
    return train, query


def _view(adata: AnnData, rows: NDArray[np.int64], genes: Any, *, with_label: bool) -> AnnData:
    import anndata

    wanted = [keys.BATCH, keys.LABEL] if with_label else [keys.BATCH]
    obs = adata.obs.iloc[rows][wanted].copy()
    for key in wanted:
        # A category that no cell has would betray a label that was held out.
        obs[key] = obs[key].cat.remove_unused_categories()
    return anndata.AnnData(
        X=adata.X[rows][:, genes],
        obs=obs,
        var=adata.var.loc[genes, []].copy(),
        layers={name: layer[rows][:, genes] for name, layer in named_layers(adata).items()},
    )
