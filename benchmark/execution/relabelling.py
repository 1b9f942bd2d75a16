"""Scores of kept outputs under other labels of the same cells, which no method saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution import scoring
from cellular_bench.benchmark.execution.preparation import read_cells, read_inputs, read_truth
from cellular_bench.benchmark.execution.views import Cells
from cellular_bench.benchmark.results.store import CELLS, OUTPUTS, Store
from cellular_bench.benchmark.schema.records import Relabelled, RunRecord
from cellular_bench.benchmark.tasks import Task
from cellular_bench.core import keys
from cellular_bench.core.errors import UserError
from cellular_bench.core.outputs import read_outputs
from cellular_bench.core.types import MetricSpec, ProfileName
from cellular_bench.datasets.stress import stressed_data
from cellular_bench.metrics.spec import reads_labels, required_inputs

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """Other labels of the scored cells of a split.

    Attributes
    ----------
    name
        The column of the data that holds them, or how they were made.
    label, digest
        (n_obs,) labels, and their sha256.
    inputs
        What else metrics are given that depends on labels.
    """

    name: str
    label: NDArray[np.str_]
    digest: str
    inputs: Mapping[str, Any]


def names_of_labellings(adata: AnnData) -> tuple[str, ...]:
    """Return the names of the other labels that data have, in their order."""
    names = (str(key) for key in adata.obs)
    return tuple(name.removeprefix(keys.LABELLING) for name in names if name.startswith(keys.LABELLING))


def lacking(
    task: Task, adata: AnnData, folder: Path, records: Iterable[RunRecord]
) -> Iterator[tuple[RunRecord, list[Labelling]]]:
    """Yield the records of a split that lack scores under other labels of the data, with these labels.

    Parameters
    ----------
    task
        A task whose outputs name no label (:attr:`Task.takes_other_labels`).
    adata
        All cells of the data in the canonical form. Not modified.
    folder
        Folder of the split, which is prepared.

    Raises
    ------
    UserError
        If the split is missing or damaged.
    """
    cells = read_cells(folder / CELLS)
    labels = {
        name: np.asarray(adata.obs[keys.LABELLING + name], dtype=str)[cells.test_obs]
        for name in names_of_labellings(adata)
    }
    digests = {name: _digest(label) for name, label in labels.items()}
    made: dict[tuple[str, ProfileName], Labelling] = {}
    for record in records:
        known = {one.labelling: one.digest for one in record.relabelled}
        absent = [name for name in labels if known.get(name) != digests[name]]
        for name in absent:
            if (name, _profile(record)) not in made:
                inputs = _inputs(task, adata, cells, labels[name], profile=_profile(record))
                made[name, _profile(record)] = Labelling(
                    name=name, label=labels[name], digest=digests[name], inputs=inputs
                )
        if absent:
            yield record, [made[name, _profile(record)] for name in absent]


def _profile(record: RunRecord) -> ProfileName:
    return record.evaluation.profile if record.evaluation else "standard"


def _inputs(
    task: Task, adata: AnnData, cells: Cells, label: NDArray[np.str_], *, profile: ProfileName
) -> dict[str, Any]:
    """Return the inputs of a task that depend on labels, for the scored cells of a split."""
    depend = [one for one in task.inputs if one.reads_labels]
    if not depend:
        return {}
    scored = stressed_data(adata, cells.stress)[cells.test_obs].copy()
    scored.var[keys.HIGHLY_VARIABLE] = cells.highly_variable
    scored.obs[keys.LABEL] = label
    return {key: value for one in depend for key, value in one.given(one.made(scored, profile)).items()}


def _digest(label: NDArray[np.str_]) -> str:
    return hashlib.sha256(json.dumps(label.tolist()).encode()).hexdigest()


def relabel(store: Store, record: RunRecord, others: Sequence[Labelling], *, n_jobs: int = 1) -> RunRecord:
    """Return a record with the scores of its kept outputs under other labels, in place of those it had.

    Raises
    ------
    UserError
        If outputs or truth are missing, damaged or do not belong together.
    """
    task = registry.task(record.task)
    folder = store.split_folder(record.dataset, record.split)
    outputs, truth = read_outputs(store.run_file(record.run_id, OUTPUTS)), read_truth(folder)
    if not np.array_equal(outputs.obs_names, truth.obs_names):
        raise UserError(f"The outputs of {record.run_id} are not for the cells of its split.")
    given = scoring.expression_of(outputs, store.data_file(record.dataset), folder, record.method)
    profile = _profile(record)
    given |= read_inputs(task, folder, study_metrics=scoring.has_study_metrics(record), profile=profile)
    made = {one.labelling: one for one in record.relabelled}
    for one in others:
        inputs = {**given, **outputs.arrays(), **truth.inputs(), "label": one.label, **one.inputs}
        reading = [spec for spec in scoring.specs_for(task, inputs) if _depends(spec, one)]
        found = scoring.compute(
            reading,
            inputs,
            n_jobs=n_jobs,
            profile=profile,
            min_cells=scoring.min_cells_of(record),
        )
        made[one.name] = Relabelled(
            labelling=one.name,
            digest=one.digest,
            n_labels=len(np.unique(one.label)),
            scores=found.scores,
        )
    return record.model_copy(update={"relabelled": tuple(made.values())})


def rescored(store: Store, record: RunRecord) -> RunRecord:
    """Return a record with its scores under other labels computed again, by the record's settings.

    Those whose labels the data of the result folder do not hold any more are kept as they are.

    Raises
    ------
    UserError
        As for :func:`relabel`, or if the data are missing.
    """
    import anndata

    data = store.data_file(record.dataset)
    if not data.exists():
        raise UserError(f"{data} is missing; the command that ran the benchmark writes it again.")
    adata, folder = anndata.read_h5ad(data), store.split_folder(record.dataset, record.split)
    known = {(one.labelling, one.digest) for one in record.relabelled}
    bare = record.model_copy(update={"relabelled": ()})
    others = [
        one
        for _, found in lacking(registry.task(record.task), adata, folder, [bare])
        for one in found
        if (one.name, one.digest) in known
    ]
    return relabel(store, record, others)


def _depends(spec: MetricSpec, labelling: Labelling) -> bool:
    return reads_labels(spec) or not labelling.inputs.keys().isdisjoint(required_inputs(spec))
