"""Leak canaries: small runs in which no honest method can know the labels.

The labels of scored cells can reach a method by accident or by intent: in the memory of its process, in a
file of the harness or of an earlier run, in the names of cells, or in their order. A canary has a few cells
of the data. The scored ones keep names, order and labels, while their expression and batches are permuted
among them. What a method can see honestly is then independent of the labels, and agreement beyond chance
(:mod:`cellular_bench.benchmark.analysis.agreement`) is a leak, whatever its path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark.plan.identity import (
    dataset_identity,
    derive_seed,
    method_identity,
    run_id,
    split_identity,
)
from cellular_bench.benchmark.plan.params import completed
from cellular_bench.benchmark.registry import Method
from cellular_bench.benchmark.schema.records import CanaryOf, MethodIdentity
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core import keys
from cellular_bench.core.types import AT_ONCE, Dataset, Split, TaskId
from cellular_bench.datasets.contract import digest

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.benchmark.plan.run import PlannedRun

#: Cells of a canary at most: methods take a second, and a perfect agreement has a tiny p value.
MOST_TRAINING: Final = 150
MOST_SCORED: Final = 100
#: Seconds that a run on a canary may take at most.
MOST_SECONDS: Final = 120.0
#: Cells that labels keep, if they have as many and there is room for all labels.
LEAST_PER_LABEL: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board that is planned: its first split, and the runs on it that its canary tests."""

    task: TaskId
    dataset: Dataset
    split: Split
    runs: list[PlannedRun] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """The data of a leak canary and its only split."""

    board: Board
    dataset: Dataset
    split: Split

    @property
    def of(self) -> CanaryOf:
        """Which board it is of."""
        split = self.board.split
        return CanaryOf(dataset_digest=self.board.dataset.digest, scheme=split.scheme or split.kind)


def can_be_tested(run: PlannedRun) -> bool:
    """Whether a canary can test a run: its task counts agreement, and it is not shown the scored labels.

    One setting of the preprocessing is enough: it does not change which labels a method sees.
    An embedding that is looked up by the names of cells was made from their expression as it is, whatever
    expression the canary gives them: it agrees with the names' labels without knowing any.
    """
    split, method = run.split, run.method
    if method.preprocessing is not None:
        return False
    is_hidden = method.labels != "all" and split.kind not in AT_ONCE
    is_looked_up = method.needs_names and method.pretrained is not None
    can = is_hidden and not is_looked_up and not method.is_control and not split.stress
    return can and TASKS[run.task].agreement is not None


def draw(board: Board) -> Canary:
    """Draw the cells of a canary and permute the expression of the scored ones.

    Which cells are drawn and which expression they get depends on the names of the cells and on the split,
    not on the order of the cells.
    """
    dataset, split = board.dataset, board.split
    seed = derive_seed(
        0, "leak canary", dataset.spec.dataset_id, split.split_id
    )  # digests depend on the order
    names, label = (
        np.asarray(values, dtype=str) for values in (dataset.adata.obs_names, dataset.adata.obs[keys.LABEL])
    )
    train = _drawn(split.train_obs, names, label, MOST_TRAINING, seed)
    scored = _drawn(split.test_obs, names, label, MOST_SCORED, seed)
    rows = np.union1d(train, scored)
    is_scored = np.isin(rows, scored)
    adata = _with_others_expression(dataset.adata[rows].copy(), np.flatnonzero(is_scored), seed)
    scheme = f"{split.scheme}~leak-canary"
    facts = [split.digest, digest(adata)]
    return Canary(
        board=board,
        dataset=replace(dataset, adata=adata, digest=facts[-1], subsample=None),
        split=replace(
            split,
            split_id=scheme + split.split_id.removeprefix(split.scheme),
            scheme=scheme,
            train_obs=np.flatnonzero(~is_scored),
            test_obs=np.flatnonzero(is_scored),
            digest=hashlib.sha256(json.dumps(facts).encode()).hexdigest(),
        ),
    )


def _drawn(
    cells: NDArray[np.int64], names: NDArray[np.str_], label: NDArray[np.str_], most: int, seed: int
) -> NDArray[np.int64]:
    """Draw cells at random, after the first few of every label."""
    by_name = cells[np.argsort(names[cells])]
    order = np.random.default_rng(seed).permutation(by_name)
    _, code, sizes = np.unique(label[order], return_inverse=True, return_counts=True)
    by_label = np.argsort(code, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[by_label] = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return order[np.argsort(np.minimum(rank, LEAST_PER_LABEL), kind="stable")][:most]


def _with_others_expression(adata: AnnData, scored: NDArray[np.int64], seed: int) -> AnnData:
    """Give scored cells the expression and the batch of others; names, labels and order stay."""
    by_name = scored[np.argsort(np.asarray(adata.obs_names, dtype=str)[scored])]
    source = np.arange(adata.n_obs)
    source[by_name] = np.random.default_rng(seed).permutation(by_name)
    moved = adata[source].copy()
    obs = adata.obs.copy()
    obs[keys.BATCH] = moved.obs[keys.BATCH].array
    for key in (keys.BATCH, keys.LABEL):
        obs[key] = obs[key].cat.remove_unused_categories()
    moved.obs = obs
    return moved


def canary_runs(canary: Canary, known: Mapping[str, Method]) -> Iterator[PlannedRun]:
    """Yield the runs on a canary: of each method that it tests, and of a control that is shown the labels.

    Methods learn as short a time as in conformance checks (``check_params``): a leak does not depend on it.
    """
    for run in canary.board.runs:
        method = known[run.method.method_id]
        short = dict(method.spec.check_params)
        identity = run.method.model_copy(update={"params": {**run.method.params, **short}})
        yield _run(canary, run, method, identity, canary.of.model_copy(update={"params": short}))
    for method in known.values():
        spec = method.spec
        if spec.is_control and spec.labels == "all" and TASKS[canary.board.task].is_done_by(spec):
            yield _run(
                canary,
                canary.board.runs[0],
                method,
                method_identity(method, completed(method, {})),
                canary.of,
            )


def _run(
    canary: Canary, like: PlannedRun, method: Method, identity: MethodIdentity, of: CanaryOf
) -> PlannedRun:
    data, cells = dataset_identity(canary.dataset), split_identity(canary.split, {})
    update = {
        "run_id": run_id(canary.board.task, method, identity, data, cells, like.seed),
        "method": identity,
        "dataset": data,
        "split": cells,
        "method_seed": derive_seed(like.seed, data.dataset_id, cells.split_id, identity.method_id),
        "limits": like.limits.model_copy(
            update={"time_limit_s": min(like.limits.time_limit_s, MOST_SECONDS)}
        ),
        "study_metrics": False,
        "gpu": method.spec.gpu,
        "canary_of": of,
    }
    return like.model_copy(update=update)
