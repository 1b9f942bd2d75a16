"""Outputs and truth to scores. Methods have no part in this."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.preparation import Truth, read_all_genes, read_expression, read_truth
from cellular_bench.benchmark.execution.worker import Job
from cellular_bench.benchmark.registry import metrics
from cellular_bench.benchmark.results.store import OUTPUTS, RESULT, SCORED
from cellular_bench.benchmark.schema.records import Evaluation, LabelScore, Outcome, RunRecord, Score
from cellular_bench.core.errors import ContractError, UndefinedError
from cellular_bench.core.outputs import Outputs, read_outputs
from cellular_bench.core.types import (
    Aspect,
    MetricSpec,
    ProfileName,
    Task,
)

ASPECTS: Mapping[Task, tuple[Aspect, ...]] = {
    "integration": ("bio_conservation", "batch_correction"),
    "annotation": ("annotation",),
    "novelty": ("novelty",),
}


#: Inputs that no run has by itself. A metric that needs one would be an empty column on every board.
ON_REQUEST = frozenset({"corrected", "expression", "ontology", "X_pre_all"})


def execute_after(job: Job) -> None:
    """Score a run's outputs where its result says that there are some."""
    result = job.folder / RESULT
    if result.exists() and json.loads(result.read_text(encoding="utf-8"))["status"] == "ok":
        execute(job)


def execute(job: Job) -> None:
    """Score one run's outputs; write ``scores.json``."""
    run = job.run
    outputs, truth = read_outputs(job.folder / OUTPUTS), read_truth(job.truth_folder)
    registry.load(run.plugins)
    try:
        if not run.method.is_control:
            check_rows_belong_to_cells(run.method.method_id, outputs, truth)
        outcome = score(
            run.task,
            outputs,
            truth,
            expression=expression_of(outputs, job.data, job.truth_folder),
            more=inputs_on_request(run.task, job.truth_folder) if run.study_metrics else None,
            profile=run.profile,
        )
    except ContractError as error:
        outcome = Outcome(status="failed", reason=str(error))
    (job.folder / SCORED).write_text(outcome.model_dump_json(), encoding="utf-8")


def expression_of(outputs: Outputs, data: Path, truth_folder: Path) -> Any:
    """Return the expression that a corrected one is compared with; None where there is none to compare."""
    return None if outputs.genes is None else read_expression(data, truth_folder, outputs.genes)


def inputs_on_request(task: Task, truth_folder: Path) -> dict[str, Any]:
    """Return what the metrics that are computed on request ask for, beside what every run has."""
    return dict(read_all_genes(truth_folder)) if task == "integration" else {}


def score(
    task: Task,
    outputs: Outputs,
    truth: Truth,
    *,
    expression: Any = None,
    more: Mapping[str, Any] | None = None,
    profile: ProfileName = "standard",
) -> Outcome:
    """Compute every metric of a task.

    Parameters
    ----------
    expression
        (n_obs, n_vars) what ``outputs.corrected`` was made of; without it, that is not scored.
    more
        Inputs for the metrics that are computed on request (:func:`inputs_on_request`); None to leave these
        out.
    profile
        How much may be approximate where cells are many.

    Raises
    ------
    ContractError
        If the outputs are not those of the scored cells.
    """
    if not np.array_equal(outputs.obs_names, truth.obs_names):
        raise ContractError("The outputs are not for the cells of this split.")
    inputs = {**truth.inputs(), **outputs.arrays(), **_neighbours_along(outputs), "expression": expression}
    inputs = {name: value for name, value in (inputs | dict(more or {})).items() if value is not None}
    scored = compute(specs_for(task, inputs, on_request=more is not None), inputs, profile=profile)
    return scored.model_copy(update=label_details(inputs)) if task == "annotation" else scored


def _neighbours_along(outputs: Outputs) -> dict[str, Any]:
    """Return the neighbours that the links of a graph give, or why they give none, as argument of metrics."""
    from cellular_bench.metrics.embedding.graphs import nearest_along
    from cellular_bench.metrics.numerics.distances import N_NEIGHBORS

    if outputs.graph_distances is None:
        return {}
    try:
        return {"neighbors": nearest_along(outputs.graph_distances, N_NEIGHBORS)}
    except UndefinedError as error:
        return {"neighbors": error}


def specs_for(task: Task, given: Collection[str] = (), *, on_request: bool = False) -> list[MetricSpec]:
    """Return the metrics of a task; of those that need an input :data:`ON_REQUEST`, the ones given it.

    Those that are computed on request only where ``on_request`` is true.
    """
    from cellular_bench.metrics import METRICS, required_inputs

    absent = ON_REQUEST.difference(given)
    return [
        spec
        for spec in METRICS.values()
        if spec.aspect in ASPECTS[task]
        and absent.isdisjoint(required_inputs(spec))
        and (on_request or not spec.on_request)
    ]


def compute(
    specs: Sequence[MetricSpec],
    inputs: Mapping[str, Any],
    *,
    n_jobs: int = 1,
    profile: ProfileName = "standard",
) -> Outcome:
    """Return the score of each metric, a value or a reason, and how exact they are.

    Values do not depend on the number of jobs.
    """
    from cellular_bench.metrics import evaluate

    found = evaluate([spec.metric_id for spec in specs], inputs, n_jobs=n_jobs, profile=profile)
    errors = found.standard_errors
    shortcuts = [asdict(shortcut) for shortcut in found.shortcuts]
    return Outcome(
        status="ok",
        scores=tuple(as_score(spec, found[name := spec.metric_id], errors.get(name)) for spec in specs),
        evaluation=Evaluation.model_validate({"profile": profile, "shortcuts": shortcuts}),
    )


def as_score(spec: MetricSpec, found: float | UndefinedError, standard_error: float | None = None) -> Score:
    """Return what a metric gave as it goes into a record."""
    common: dict[str, Any] = {"metric_id": spec.metric_id, "aspect": spec.aspect, "version": spec.version}
    if isinstance(found, UndefinedError):
        common["undefined_by"] = "output" if found.by_output else "data"
        return Score(**common, value=None, reason=str(found))
    return Score(**common, value=found, standard_error=standard_error)


def label_details(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return per-label scores and the confusion matrix of a prediction."""
    from cellular_bench import metrics

    arguments = (inputs["label"], inputs["label_pred"], inputs.get("rejected"))
    rows = metrics.per_label(*arguments)
    return {
        "per_label": tuple(LabelScore.model_validate(row._asdict()) for row in rows),
        "confusion": metrics.confusion(*arguments),
    }


def check_rows_belong_to_cells(method_id: str, outputs: Outputs, truth: Truth) -> None:
    """Find outputs whose rows are in another order than the cells.

    Cells that are neighbours before a method are more often neighbours after it, or named alike,
    than cells picked at random, however good or bad the method. Where they are not, the rows have
    nothing to do with the cells. Small or structureless output is not judged.

    Raises
    ------
    ContractError
        If neighbouring cells fare no better than random ones.
    """
    if len(truth.X_pre) < MIN_OBS_FOR_ORDER:
        return
    before = _neighbours(truth.X_pre)
    if outputs.graph is not None:
        found, expected, spread = _shared_links(before, outputs.graph)
    elif outputs.X_emb is not None:
        if (outputs.X_emb == outputs.X_emb[0]).all():
            return  # one point for all has no order; the metrics say what it is
        found, expected, spread = _shared_neighbours(before, _neighbours(outputs.X_emb))
    else:
        assert outputs.label_pred is not None  # checked when the method returned
        found, expected, spread = _shared_labels(before, outputs.label_pred)
    if spread > 0 and found < expected + 3 * spread:
        raise ContractError(
            f"{method_id}: the rows bear no relation to the cells. Neighbouring cells agree in {found:.1%} "
            f"of pairs, cells picked at random in {expected:.1%}. The rows are probably in another order "
            "than obs_names."
        )


MIN_OBS_FOR_ORDER = 200
MAX_SHARE_FOR_ORDER = 0.9
_N_NEIGHBOURS = 15


def _neighbours(X: Any) -> Any:
    from cellular_bench.metrics.numerics.distances import nearest_neighbors

    return nearest_neighbors(X, _N_NEIGHBOURS + 1).indices[:, 1:]


def _shared_neighbours(before: Any, after: Any) -> tuple[float, float, float]:
    n_obs, k = before.shape
    shared = (before[:, :, None] == after[:, None, :]).any(axis=2).mean()
    chance = k / (n_obs - 1)
    return float(shared), chance, math.sqrt(chance * (1 - chance) / (n_obs * k))


def _shared_links(before: Any, graph: Any) -> tuple[float, float, float]:
    n_obs, k = before.shape
    shared = (graph[np.repeat(np.arange(n_obs), k), before.ravel()] > 0).mean()
    chance = graph.count_nonzero() / (n_obs * (n_obs - 1))
    return float(shared), chance, math.sqrt(chance * (1 - chance) / (n_obs * k))


def _shared_labels(before: Any, label_pred: Any) -> tuple[float, float, float]:
    n_obs, k = before.shape
    _, codes, counts = np.unique(label_pred, return_inverse=True, return_counts=True)
    if counts.max() > MAX_SHARE_FOR_ORDER * n_obs:
        return 1.0, 1.0, 0.0  # so few cells differ that where they lie says nothing
    shared = (codes[before] == codes[:, None]).mean()
    chance = float(((counts / n_obs) ** 2).sum())
    return float(shared), chance, math.sqrt(chance * (1 - chance) / (n_obs * k))


def has_metrics_on_request(record: RunRecord) -> bool:
    """Whether a run was also scored by metrics that are computed on request."""
    if record.study_metrics is not None:
        return record.study_metrics
    known = metrics()
    return any(score.metric_id in known and known[score.metric_id].on_request for score in record.scores)
