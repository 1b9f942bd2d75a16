"""Before the clock starts: import what a method requires, and let it compile what it compiles."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.views import Cells, views
from cellular_bench.benchmark.plan.params import members
from cellular_bench.benchmark.registry import Method
from cellular_bench.benchmark.tasks import Task
from cellular_bench.core import keys
from cellular_bench.core.errors import reason_of
from cellular_bench.datasets.contract import conform
from cellular_bench.datasets.simulator import simulate

if TYPE_CHECKING:
    from anndata import AnnData

#: Made-up cells for scored cells that are fewer: enough for any method's neighbours and clusters.
FEWEST_CELLS = 240
#: Largest number of values; it limits the genes.
MOST_VALUES = 1_000_000


def warm_up(
    found: Method, params: Mapping[str, Any], task: Task, *, n_obs: int, genes: Sequence[str]
) -> str | None:
    """Import what a method and its members require, and run those once that declare ``warm_up``.

    They see made-up cells alone. Global generators have to be seeded afterwards.

    Parameters
    ----------
    n_obs, genes
        Number of cells to be scored, and names of the genes: there are no more in the made-up cells.

    Returns
    -------
    str or None
        Why a run failed, in which case the clock counts what is left.
    """
    parts = [(found, dict(params))]
    parts += [(registry.method(spec.method_id), {}) for spec in members(found, params)]
    problem = None
    for method, own in parts:
        if method.missing_modules():
            continue  # the method says so itself
        for name in method.spec.requires:
            importlib.import_module(name)
        if method.spec.warm_up:
            n_cells = min(method.spec.warm_up, max(n_obs, FEWEST_CELLS))
            try:
                _run(method, {**own, **method.spec.check_params}, task, made_up(n_cells, genes))
            except (Exception, SystemExit) as error:  # the run goes on, and its record says so
                traceback.print_exc()
                problem = f"{type(error).__name__}: {reason_of(error)}"
    if any(method.spec.warm_up for method, _ in parts):
        _forget()
    return problem


def made_up(n_cells: int, genes: Sequence[str]) -> AnnData:
    """Return simulated cells of three types in two batches, in the form of the data contract."""
    names = list(genes)[: max(1, MOST_VALUES // n_cells)]
    adata = simulate(n_obs=n_cells, n_vars=len(names), n_labels=3, n_batches=2)
    adata.var_names = names
    return conform(
        adata, source="made-up cells", label_key=keys.LABEL, batch_key=keys.BATCH, counts_layer="X"
    )[0]


def _run(method: Method, params: Mapping[str, Any], task: Task, adata: AnnData) -> None:
    """Run a method on cells, in a folder that goes with all that it writes."""
    every = np.arange(adata.n_obs)
    cells = Cells(train_obs=every, test_obs=every, highly_variable=np.ones(adata.n_vars, dtype=bool))
    train, query = views(adata, cells, method.spec)
    model = method.factory(seed=0, **params)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        if hasattr(model, "artifacts"):
            model.artifacts = Path(folder)
        task.call(method.spec, model, train, query)


def _forget() -> None:
    """Give back what can be given back."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)
