"""What methods made of the cells of a split, as one AnnData for scanpy or cellxgene."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellular_bench.benchmark.execution.preparation import read_truth
from cellular_bench.benchmark.results.store import OUTPUTS, Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core import keys
from cellular_bench.core.outputs import read_outputs

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.benchmark.execution.preparation import Truth


def by_cells(records: Iterable[RunRecord]) -> list[tuple[RunRecord, ...]]:
    """Group the runs that ended well by the cells that they were scored on."""
    groups: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.status == "ok":
            groups[record.dataset.digest, record.split.digest].append(record)
    return [tuple(group) for group in groups.values()]


def as_anndata(store: Store, runs: Sequence[RunRecord]) -> AnnData:
    """Return the scored cells of a split with what each run made of them.

    Parameters
    ----------
    runs
        Runs on the same split, as :func:`by_cells` groups them.

    Returns
    -------
    AnnData
        Expression where the folder still has the data; true ``label`` and ``batch`` in ``obs``; for each
        method ``obsm["X_METHOD"]``, ``obsp["METHOD_connectivities"]`` of a graph, ``obs["METHOD_label"]``
        (empty where the cell was rejected) and ``obs["METHOD_novelty"]``. ``uns["cellular_bench"]`` names the
        runs. Of a method with several runs on these cells (seeds, parameters, tasks), the further ones have
        the end of the run's name in theirs.

    Raises
    ------
    UserError
        If the outputs of a run are missing or damaged.
    """
    first = runs[0]
    truth = read_truth(store.split_folder(first.dataset, first.split))
    adata = _cells(store, first, truth)
    names: dict[str, str] = {}
    for run in runs:
        own = run.method.method_id
        name = own if own not in names.values() else f"{own}_{run.run_id[-10:]}"
        _add(adata, store, run, name)
        names[run.run_id] = name
    adata.uns["cellular_bench"] = names
    return adata


def _cells(store: Store, run: RunRecord, truth: Truth) -> AnnData:
    import anndata
    import pandas as pd

    obs = pd.DataFrame(
        {keys.LABEL: pd.Categorical(truth.label), keys.BATCH: pd.Categorical(truth.batch)},
        index=truth.obs_names.astype(str),
    )
    file = store.data_file(run.dataset)
    if not file.exists():
        return anndata.AnnData(obs=obs)
    adata = anndata.read_h5ad(file)[obs.index].copy()
    adata.obs = obs
    return adata


def _add(adata: AnnData, store: Store, run: RunRecord, name: str) -> None:
    found = read_outputs(store.run_folder(run.run_id) / OUTPUTS)
    if found.X_emb is not None:
        adata.obsm[f"X_{name}"] = found.X_emb
    if found.graph is not None:
        adata.obsp[f"{name}_connectivities"] = found.graph
    if found.label_pred is not None:
        rejected = False if found.rejected is None else found.rejected
        adata.obs[f"{name}_label"] = np.where(rejected, "", found.label_pred)
    if found.novelty is not None:
        adata.obs[f"{name}_novelty"] = found.novelty
