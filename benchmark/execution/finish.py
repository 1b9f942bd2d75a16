"""What follows the process of a method: what it wrote is checked, put in order, scored and kept.

Carried out by the supervisor, in which no code of the method has run, after all that the run started is gone.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution import scoring
from cellular_bench.benchmark.execution.job import Job
from cellular_bench.benchmark.execution.preparation import Truth, read_inputs, read_order, read_truth
from cellular_bench.benchmark.execution.views import QUERY, read_names
from cellular_bench.benchmark.isolation import process_tree
from cellular_bench.benchmark.results.store import OUTPUTS, RESULT, SECOND_OUTPUTS
from cellular_bench.benchmark.schema.records import Model, Outcome
from cellular_bench.core.components import principal_components
from cellular_bench.core.errors import ContractError, reason_of
from cellular_bench.core.files import read_regular
from cellular_bench.core.outputs import Outputs, read_returned, write_outputs

#: Largest result.json that is read: it holds a status and a reason of some hundred characters.
MOST_RESULT_BYTES: Final = 2**16
#: How long the metrics of one plug-in may take.
PLUGIN_METRICS_S: Final = 600.0
_NO_RESULT = "The method ended its process (exit code 0) before it returned anything. It must not exit."
_BAD_RESULT = "The process of the method wrote a result that is not one."


class Answer(Model):
    """What the process of a method says of its run; nobody has to believe it."""

    status: Literal["ok", "failed", "not_applicable", "out_of_memory"]
    reason: str | None = None
    peak_gpu_mib: float | None = Field(default=None, ge=0)
    warm_up_error: str | None = None


class Finished(Model):
    """What came of a run, but for what it cost as its supervisor has measured it."""

    outcome: Outcome
    peak_gpu_mib: float | None = None
    warm_up_error: str | None = None


def finish(job: Job) -> str:
    """Read what a method wrote, score it, and keep its outputs; return :class:`Finished` as JSON."""
    try:
        answer = _answer(job.out / RESULT)
    except ContractError as error:
        return Finished(outcome=Outcome(status="failed", reason=reason_of(error))).model_dump_json()
    reason, warm_up_error = (
        None if text is None else reason_of(ContractError(text))
        for text in (answer.reason, answer.warm_up_error)
    )
    if answer.status == "ok":
        outcome = _scored(job)
    else:
        outcome = Outcome(status=answer.status, reason=reason or "The method gave no reason.")
    return Finished(
        outcome=outcome, peak_gpu_mib=answer.peak_gpu_mib, warm_up_error=warm_up_error
    ).model_dump_json()


def _answer(path: Path) -> Answer:
    try:
        content = read_regular(path, most_bytes=MOST_RESULT_BYTES)
    except FileNotFoundError:
        raise ContractError(_NO_RESULT) from None
    except OSError as error:
        raise ContractError(f"{_BAD_RESULT} {error.strerror}.") from error
    try:
        return Answer.model_validate_json(content)
    except ValidationError as error:
        raise ContractError(f"{_BAD_RESULT} {error.errors()[0]['msg']}.") from error


def _scored(job: Job) -> Outcome:
    truth = read_truth(job.truth_folder)
    try:
        outputs = with_embedding(_read(job, truth, OUTPUTS))
        if job.run.access.is_called_twice:
            outputs = with_second(outputs, with_embedding(_read(job, truth, SECOND_OUTPUTS)))
        outcome = _score(job, outputs, truth)
    except ContractError as error:
        return Outcome(status="failed", reason=reason_of(error))
    try:
        write_outputs(outputs, job.folder / OUTPUTS)
    except OSError as error:
        return Outcome(status="failed", reason=f"Its outputs cannot be kept: {error.strerror}.")
    return outcome


def with_embedding(outputs: Outputs) -> Outputs:
    """Return outputs in which the principal components of corrected expression stand for an embedding."""
    if outputs.corrected is None or outputs.X_emb is not None:
        return outputs
    return replace(outputs, X_emb=principal_components(outputs.corrected))


def with_second(outputs: Outputs, second: Outputs) -> Outputs:
    """Return the outputs of a first call with what metrics read of the second: where it puts the cells.

    That is the embedding, ``X_emb_again``. Of a graph, the nearest cells are kept, ``neighbors_again``.

    Raises
    ------
    ContractError
        If the calls gave outputs of two kinds.
    """
    from cellular_bench.metrics.harm.halves import nearest_on_graph

    kinds = [sorted(one.arrays().keys() & {"X_emb", "graph", "graph_distances"}) for one in (outputs, second)]
    if kinds[0] != kinds[1]:
        first, other = (" and ".join(kind) or "nothing" for kind in kinds)
        raise ContractError(f"The first call of the method gave {first}, the second one {other}.")
    if second.X_emb is not None:
        return replace(outputs, more={**outputs.more, "X_emb_again": second.X_emb})
    if second.graph_distances is None:
        return outputs
    near = nearest_on_graph(second.graph_distances)
    return replace(outputs, more={**outputs.more, "neighbors_again": near})


def _read(job: Job, truth: Truth, name: str) -> Outputs:
    """Return what a method wrote, in the order and under the names of the data."""
    order = read_order(job.truth_folder)
    names, genes = read_names(job.views / QUERY)
    most_bytes = int(job.run.limits.memory_limit_mib * 2**20)
    written = read_returned(
        job.out / name,
        n_obs=len(order),
        genes=genes.tolist(),
        most_bytes=most_bytes,
        method_id=job.run.method.method_id,
    )
    expected = truth.obs_names[order] if job.run.access.needs_names else names
    if not np.array_equal(written.obs_names, expected):
        raise ContractError(f"{job.run.method.method_id}: the outputs are not for the cells given.")
    return written.reordered(np.argsort(order), truth.obs_names.tolist())


def _score(job: Job, outputs: Outputs, truth: Truth) -> Outcome:
    run = job.run
    task = registry.task(run.task, run.plugins)
    if outputs.arrays().keys().isdisjoint(task.scored):
        raise ContractError(f"{run.method.method_id}: the method gave no {' or '.join(task.scored)}.")
    if run.is_canary:
        return scoring.agreement_only(task, outputs, truth)
    notes = scoring.notes_on(outputs, job.data)
    if not run.method.is_control:
        notes += scoring.check_rows_belong_to_cells(run.method.method_id, outputs, truth)
    if run.needs_batches:
        notes += scoring.notes_on_correction(outputs, truth)
    given = scoring.expression_of(outputs, job.data, job.truth_folder, run.method)
    given |= read_inputs(task, job.truth_folder, study_metrics=run.study_metrics, profile=run.profile)
    outcome = scoring.score(task, outputs, truth, given=given, profile=run.profile, min_cells=run.min_cells)
    for path in run.metric_plugins:
        outcome = _joined(outcome, _by_plugin(path, job, outputs, truth, given))
    return outcome.model_copy(update={"notes": notes})


def _joined(first: Outcome, second: Outcome) -> Outcome:
    """Add the scores of another part of the metrics; what has a score keeps it."""
    known = {score.metric_id for score in first.scores}
    scores = (*first.scores, *(score for score in second.scores if score.metric_id not in known))
    evaluation = first.evaluation
    if evaluation is not None and second.evaluation is not None:
        shortcuts = (*evaluation.shortcuts, *second.evaluation.shortcuts)
        evaluation = evaluation.model_copy(update={"shortcuts": shortcuts})
    return first.model_copy(update={"scores": scores, "evaluation": evaluation})


def _by_plugin(path: Path, job: Job, outputs: Outputs, truth: Truth, given: Mapping[str, Any]) -> Outcome:
    """Compute the metrics of one plug-in, in a process where nothing else is computed.

    Raises
    ------
    ContractError
        If it fails.
    """
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_plugin_scores, args=(writer, path, job, outputs, truth, given))
    process.start()
    writer.close()
    try:
        content = reader.recv_bytes() if reader.poll(PLUGIN_METRICS_S) else b""
    except (EOFError, OSError):
        content = b""
    finally:
        reader.close()
        process_tree.end(process.pid or 0)
        process.kill()
        process.join()
    try:
        return Outcome.model_validate_json(content)
    except ValidationError as error:
        raise ContractError(
            f"The metrics of {path.name} were not computed; the log has the reason."
        ) from error


def _plugin_scores(
    writer: Connection, path: Path, job: Job, outputs: Outputs, truth: Truth, given: Mapping[str, Any]
) -> None:
    run = job.run
    (plugin,) = registry.load([path])
    task = registry.task(run.task, run.plugins)
    own = frozenset(spec.metric_id for spec in plugin.metrics)
    outcome = scoring.score(
        task, outputs, truth, given=given, profile=run.profile, min_cells=run.min_cells, only=own
    )
    writer.send_bytes(outcome.model_dump_json().encode())
