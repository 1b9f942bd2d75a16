"""The part of a run that touches the method: load, fit, predict, hand over files.

Runs in a separate process (:mod:`cellular_bench.benchmark.isolation.call`), which opens only what the method
may see. Nothing that it writes is believed: see :mod:`cellular_bench.benchmark.execution.finish`.
"""

from __future__ import annotations

import errno
import json
import os
import random
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellular_bench.benchmark.execution.views import read_views
from cellular_bench.benchmark.execution.warm_up import warm_up
from cellular_bench.benchmark.isolation.marks import mark
from cellular_bench.benchmark.registry import Method, method, task
from cellular_bench.benchmark.results.store import OUTPUTS, RESULT, SECOND_OUTPUTS
from cellular_bench.core.errors import ContractError, NotApplicableError, ProgramError, reason_of
from cellular_bench.core.labels import are_labelled
from cellular_bench.core.outputs import Outputs, write_outputs

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.core.types import Features, TaskId

#: Errors of the system that walls do not bring about.
_NOT_OF_WALLS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENOMEM)
_BEHIND_WALLS = " (in a sandbox: see docs/running.md)"
_MOST_CAUSES = 10
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "CUDA out of memory",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "RESOURCE_EXHAUSTED: Out of memory",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What the process of a method knows of a run; no name of a data set, a split or a label is in it.

    Attributes
    ----------
    seed
        Seed of the method.
    features
        Genes that it is given; None: its own choice.
    plugins
        Files that define the method or the task.
    views
        Folder of the cells that it may see.
    out, artifacts
        Folders for its result, and for what the method keeps, which holds what it kept before.
    is_timed
        False: nobody looks at its time, so that it need not warm up.
    is_walled
        Whether files, and the network, are kept from it.
    """

    task: TaskId
    method_id: str
    params: Mapping[str, Any]
    seed: int
    features: Features | None
    plugins: tuple[Path, ...]
    views: Path
    out: Path
    artifacts: Path
    is_timed: bool = True
    is_walled: bool = False


def execute(assignment: Assignment) -> None:
    """Carry out a run: write ``outputs.npz``, and ``result.json`` with its status.

    A task that calls methods twice has ``second_outputs.npz``, too.

    Where these cannot be written, the process ends with ``os.EX_IOERR``: the disk is at fault then,
    not the method.
    """
    outputs, result = _attempt(assignment)
    try:
        for returned, name in zip(outputs, (OUTPUTS, SECOND_OUTPUTS), strict=False):
            write_outputs(returned, assignment.out / name, compressed=False)
        (assignment.out / RESULT).write_text(json.dumps(result), encoding="utf-8")
    except OSError:
        traceback.print_exc()
        sys.exit(os.EX_IOERR)


def _attempt(assignment: Assignment) -> tuple[list[Outputs], dict[str, Any]]:
    costs: dict[str, Any] = {}
    try:
        return _outputs(assignment, costs), {"status": "ok", "reason": None, **costs}
    except NotApplicableError as error:
        status, reason = "not_applicable", reason_of(error)
    except (ContractError, ProgramError) as error:
        status, reason = "failed", f"{reason_of(error)}{_hint(error, assignment)}"
    except Exception as error:
        traceback.print_exc()
        status = "out_of_memory" if is_out_of_memory(error) else "failed"
        reason = f"{_describe(error)}{_hint(error, assignment)}"
    return [], {"status": status, "reason": reason, **costs}


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
    text = reason_of(error)
    return bool(known) or any(words in text for words in _OUT_OF_MEMORY)


def _outputs(assignment: Assignment, costs: dict[str, Any]) -> list[Outputs]:
    """Return what each call of the method gave; all calls are on the clock."""
    plugins = assignment.plugins
    wanted = task(assignment.task, plugins)
    found = method(assignment.method_id, plugins)
    missing = found.missing_modules()
    if missing:
        raise NotApplicableError(f"Needs {', '.join(missing)}, which is not installed.")
    spec = replace(found.spec, features=assignment.features or found.spec.features)
    needs_train = not wanted.is_at_once(spec)
    train, query = read_views(spec, assignment.views, needs_train=needs_train)
    _check_applicable(found, train, query)
    names, genes = query.obs_names.copy(), query.var_names.copy()
    mark("warm-up")
    if assignment.is_timed:
        costs["warm_up_error"] = warm_up(found, assignment.params, wanted, n_obs=query.n_obs, genes=genes)
    seed_everything(assignment.seed)
    mark("begin")
    returned = wanted.call(found.spec, _model(found, assignment), train, query)
    # What a method put off is worked out when it is read, and counts.
    outputs = [wanted.read(assignment.method_id, returned, names, genes)]
    if wanted.is_called_twice:
        # The method may have changed the cells, and does not know the other batches before.
        del train, query, returned
        train, query = read_views(spec, assignment.views, needs_train=needs_train, is_second=True)
        seed_everything(assignment.seed)
        returned = wanted.call(found.spec, _model(found, assignment, is_second=True), train, query)
        outputs.append(wanted.read(assignment.method_id, returned, names, genes))
    mark("end")
    gpu = _peak_gpu_mib()
    if gpu is not None:
        costs["peak_gpu_mib"] = gpu
    return outputs


def _check_applicable(method: Method, train: AnnData | None, query: AnnData) -> None:
    shown = [cells.obs["label"] for cells in (train, query) if cells is not None and "label" in cells.obs]
    if shown and not any(are_labelled(np.asarray(label, dtype=str)) for label in shown):
        raise NotApplicableError("Learns from labels; this data set has none.")
    if method.spec.reads == "counts" and "counts" not in query.layers:
        raise NotApplicableError("Reads raw counts; this data set has none.")
    if method.spec.needs_batches and query.obs["batch"].nunique() < 2:
        raise NotApplicableError("Needs two or more batches among the cells; there is one.")


def _model(found: Method, assignment: Assignment, *, is_second: bool = False) -> Any:
    """Return the method; where it declares an attribute ``artifacts``, with a folder to keep files in.

    The folder stays beside the record. Where a run is interrupted or done again, the method finds there
    what it wrote before: the name of a run holds all that its result depends on. The second of two calls has
    a folder in it, so that it does not find what the first one wrote. Controls that declare ``is_second`` may
    know which call it is.
    """
    model = found.factory(seed=assignment.seed, **assignment.params)
    if hasattr(model, "artifacts"):
        model.artifacts = assignment.artifacts / "second" if is_second else assignment.artifacts
        model.artifacts.mkdir(exist_ok=True)
    if found.spec.is_control and hasattr(model, "is_second"):
        model.is_second = is_second
    return model


def seed_everything(seed: int) -> None:
    """Seed the global generators, for libraries that take no seed."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (for libraries that draw from it)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


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
    where = f"{Path(last.filename).name}, line {last.lineno}"
    return f"{type(error).__name__}: {reason_of(error)} ({where})"


def _hint(error: BaseException, assignment: Assignment) -> str:
    """Say that there are walls, if an error or its cause says that a file or the network is not there."""
    found: BaseException | None = error if assignment.is_walled else None
    for _ in range(_MOST_CAUSES):
        if isinstance(found, OSError) and found.errno not in _NOT_OF_WALLS:
            return _BEHIND_WALLS
        found = found and (found.__cause__ or found.__context__)
    return ""
