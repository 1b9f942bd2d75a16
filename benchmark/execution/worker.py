"""The part of a run that touches the method: load, fit, predict, check, hand over files.

Runs in a separate process (:mod:`cellular_bench.benchmark.isolation.call`).
"""

from __future__ import annotations

import json
import os
import random
import sys
import textwrap
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellular_bench.benchmark.execution.preparation import read_cells
from cellular_bench.benchmark.execution.views import views
from cellular_bench.benchmark.execution.warm_up import warm_up
from cellular_bench.benchmark.isolation.process_tree import cpu_time_s, peak_rss_mib
from cellular_bench.benchmark.registry import Method, method, task
from cellular_bench.benchmark.results.store import ARTIFACTS, CELLS, OUTPUTS, RESULT, Store
from cellular_bench.core.components import principal_components
from cellular_bench.core.errors import ContractError, NotApplicableError, ProgramError
from cellular_bench.core.outputs import Outputs, write_outputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData

    from cellular_bench.benchmark.plan.run import PlannedRun

MAX_REASON = 300
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUDA out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "RESOURCE_EXHAUSTED: Out of memory",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run in a result folder: the files that it reads and writes."""

    run: PlannedRun
    store: Store

    @property
    def data(self) -> Path:
        """The prepared data."""
        return self.store.data_file(self.run.dataset)

    @property
    def truth_folder(self) -> Path:
        """Folder of the split: what its scores are computed from."""
        return self.store.split_folder(self.run.dataset, self.run.split)

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.store.run_folder(self.run.run_id)


def execute(job: Job) -> None:
    """Carry out a run: write ``outputs.npz``, and ``result.json`` with status and cost.

    Where these cannot be written, the process ends with ``os.EX_IOERR``: the disk is at fault then,
    not the method.
    """
    costs: dict[str, Any] = {}
    outputs, result = _attempt(job, costs)
    try:
        if outputs is not None:
            write_outputs(outputs, job.folder / OUTPUTS)
        (job.folder / RESULT).write_text(json.dumps({**result, "cost": costs}), encoding="utf-8")
    except OSError:
        traceback.print_exc()
        sys.exit(os.EX_IOERR)


def _attempt(job: Job, costs: dict[str, Any]) -> tuple[Outputs | None, dict[str, Any]]:
    try:
        return _outputs(job, costs), {"status": "ok", "reason": None}
    except NotApplicableError as error:
        return None, {"status": "not_applicable", "reason": str(error)}
    except (ContractError, ProgramError) as error:
        return None, {"status": "failed", "reason": str(error)}
    except Exception as error:
        traceback.print_exc()
        status = "out_of_memory" if is_out_of_memory(error) else "failed"
        return None, {"status": status, "reason": _describe(error)}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: that of the machine, or that of a GPU.

    Libraries have their own classes for it, which need not be imported to be known by name: torch's and
    CuPy's ``OutOfMemoryError``; JAX and torch's CPU allocator say it in words.

    Examples
    --------
    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("no memory of that"))
    (True, False)
    """
    known = {"MemoryError", "OutOfMemoryError"} & {kind.__name__ for kind in type(error).__mro__}
    return bool(known) or any(words in str(error) for words in _OUT_OF_MEMORY)


def _outputs(job: Job, costs: dict[str, Any]) -> Outputs:
    import anndata

    run = job.run
    wanted = task(run.task, run.plugins)
    found = method(run.method.method_id, run.plugins)
    missing = found.missing_modules()
    if missing:
        raise NotApplicableError(f"Needs {', '.join(missing)}, which is not installed.")
    cells = read_cells(job.truth_folder / CELLS)
    spec = replace(found.spec, features=run.method.features or found.spec.features)
    train, query = views(anndata.read_h5ad(job.data), cells, spec)
    _check_applicable(found, query)
    names, genes = query.obs_names.copy(), query.var_names.copy()
    costs |= warm_up(found, run.method.params, wanted, n_obs=query.n_obs, genes=genes)
    seed_everything(run.method_seed)
    with _measured(costs):
        returned = wanted.call(found.spec, _model(found, job), train, query)
    outputs = with_embedding(wanted.read(run.method.method_id, returned, names, genes))
    if outputs.arrays().keys().isdisjoint(wanted.scored):
        owed = " or ".join(wanted.scored)
        raise ContractError(f"{run.method.method_id}: {wanted.asked(found.spec)} gave no {owed}.")
    return outputs


def with_embedding(outputs: Outputs) -> Outputs:
    """Return outputs in which the principal components of corrected expression stand for an embedding."""
    if outputs.corrected is None or outputs.X_emb is not None:
        return outputs
    return replace(outputs, X_emb=principal_components(outputs.corrected))


def _check_applicable(method: Method, query: AnnData) -> None:
    if method.spec.reads == "counts" and "counts" not in query.layers:
        raise NotApplicableError("Reads raw counts; this data set has none.")
    if method.spec.needs_batches and query.obs["batch"].nunique() < 2:
        raise NotApplicableError("Needs two or more batches among the cells; there is one.")


def _model(found: Method, job: Job) -> Any:
    """Return the method; where it declares an attribute ``artifacts``, with a folder to keep files in.

    The folder stays beside the record. Where a run is interrupted or done again, the method finds there
    what it wrote before: the name of a run holds all that its result depends on.
    """
    model = found.factory(seed=job.run.method_seed, **job.run.method.params)
    if hasattr(model, "artifacts"):
        model.artifacts = job.folder / ARTIFACTS
        model.artifacts.mkdir(exist_ok=True)
    return model


def seed_everything(seed: int) -> None:
    """Seed the global generators, for libraries that take no seed."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (for libraries that draw from it)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


@contextmanager
def _measured(costs: dict[str, Any]) -> Iterator[None]:
    supervisor = os.getppid()
    costs["baseline_rss_mib"] = peak_rss_mib()
    wall, cpu = time.perf_counter(), cpu_time_s(supervisor)
    try:
        yield
    finally:
        costs["wall_time_s"] = time.perf_counter() - wall
        costs["cpu_time_s"] = cpu_time_s(supervisor) - cpu
        costs["peak_rss_mib"] = peak_rss_mib()
        gpu = _peak_gpu_mib()
        if gpu is not None:
            costs["peak_gpu_mib"] = gpu


def _peak_gpu_mib() -> float | None:
    """Return the GPU memory that torch has held at most; None where torch has used no GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    devices = range(torch.cuda.device_count())
    return float(sum(torch.cuda.max_memory_reserved(device) for device in devices)) / 2.0**20


def _describe(error: BaseException) -> str:
    """Say in a line what was raised and where; the log has the rest."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split()) or "no message"
    where = f"{Path(last.filename).name}, line {last.lineno}"
    return f"{type(error).__name__}: {textwrap.shorten(text, MAX_REASON, placeholder=' ...')} ({where})"
