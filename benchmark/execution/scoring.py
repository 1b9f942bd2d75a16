"""Outputs and truth to scores. Methods have no part in this."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.preparation import Truth, read_expression
from cellular_bench.benchmark.schema.records import (
    Evaluation,
    GroupScore,
    MethodIdentity,
    Outcome,
    RunRecord,
    Score,
)
from cellular_bench.benchmark.tasks import Task
from cellular_bench.core import keys
from cellular_bench.core.errors import ContractError, UndefinedError
from cellular_bench.core.labels import note_on_unseen
from cellular_bench.core.outputs import Outputs
from cellular_bench.core.sizes import MIN_CELLS, stray_batches
from cellular_bench.core.types import MetricSpec, ProfileName

if TYPE_CHECKING:
    from cellular_bench.metrics import engine
    from cellular_bench.metrics.spec import CellQuantity, CellValues

#: A metric, or a quantity of cells.
_Spec = TypeVar("_Spec", bound="MetricSpec | CellQuantity")
#: What cells are grouped by in records.
GROUPS: Final[tuple[Literal["label"], Literal["batch"]]] = ("label", "batch")
_LOG: Final = logging.getLogger(__name__)
OTHER_GENES = "Corrected expression is compared at the default setting of the preprocessing alone."
NOISE = "The embedding is noise, with no information on the cells (a posterior that collapsed?)."
UNCHANGED = (
    "The embedding has the nearest neighbours of principal components: the method corrected next to nothing, "
    "and its scores are about those without correction."
)


def agreement_only(task: Task, outputs: Outputs, truth: Truth) -> Outcome:
    """Count how often the outputs agree with the truth, and nothing else; see :attr:`Task.agreement`."""
    assert task.agreement is not None, "a task without it has no canary"
    if not np.array_equal(outputs.obs_names, truth.obs_names):
        raise ContractError("The outputs are not for the cells of this split.")
    return Outcome(status="ok", confusion=task.agreement({**outputs.arrays(), **truth.inputs()}))


def notes_on(outputs: Outputs, data: Path) -> tuple[str, ...]:
    """Return notes on outputs: predicted labels that no cell of the data set has."""
    import anndata

    if outputs.label_pred is None:
        return ()
    named = outputs.label_pred if outputs.rejected is None else outputs.label_pred[~outputs.rejected]
    cells = anndata.read_h5ad(data, backed="r")
    try:
        note = note_on_unseen(named, cells.obs[keys.LABEL].unique())
    finally:
        cells.file.close()
    return () if note is None else (note,)


def expression_of(outputs: Outputs, data: Path, truth_folder: Path, method: MethodIdentity) -> dict[str, Any]:
    """Return what corrected expression is compared with, as an input; nothing if there is none.

    Other genes, or scaled ones, would have other values: there is a reason instead.
    """
    if outputs.genes is None:
        return {}
    if method.preprocessing is not None:
        return {"expression": UndefinedError(OTHER_GENES)}
    return {"expression": read_expression(data, truth_folder, outputs.genes)}


def score(
    task: Task,
    outputs: Outputs,
    truth: Truth,
    *,
    given: Mapping[str, Any] = MappingProxyType({}),
    profile: ProfileName = "standard",
    min_cells: int = MIN_CELLS,
    only: Collection[str] | None = None,
) -> Outcome:
    """Compute every metric of a task that this process knows.

    Parameters
    ----------
    given
        Further inputs: ``expression``, (n_obs, n_vars), of which ``outputs.corrected`` was made and without
        which that is not scored, and those of the task (:func:`.read_inputs`).
    profile
        How much may be approximate where cells are many.
    min_cells
        Least number of cells of a batch in metrics that read batches.
    only
        Names of the metrics that are computed, without details; None: all, with them.

    Raises
    ------
    ContractError
        If the outputs are not those of the scored cells.
    """
    if not np.array_equal(outputs.obs_names, truth.obs_names):
        raise ContractError("The outputs are not for the cells of this split.")
    returned = {**_not_returned(task), **outputs.arrays()}
    inputs = {**given, **returned, **truth.inputs()}
    specs = [spec for spec in specs_for(task, inputs) if only is None or spec.metric_id in only]
    per_cell, details = (task.per_cell, task.details(inputs)) if only is None else ((), {})
    scored = compute(specs, inputs, profile=profile, min_cells=min_cells, per_cell=per_cell)
    return Outcome(**{**dict(scored), **details})


def _not_returned(task: Task) -> dict[str, Any]:
    """Return why outputs have no value that only this task has; of all others, metrics know it."""
    return {
        name: UndefinedError(f"needs '{name}', but the method did not return '{name}'", by_output=True)
        for name in task.scored
        if name not in Outputs.__slots__
    }


def specs_for(task: Task, given: Collection[str] = ()) -> list[MetricSpec]:
    """Return the metrics of a task; optional ones only where an input that they need is given."""
    from cellular_bench.metrics.spec import belongs

    known = registry.metrics().values()
    return [spec for spec in known if spec.aspect in task.weights and belongs(spec, given)]


def compute(
    specs: Sequence[MetricSpec],
    inputs: Mapping[str, Any],
    *,
    n_jobs: int = 1,
    profile: ProfileName = "standard",
    min_cells: int = MIN_CELLS,
    per_cell: Sequence[str] = (),
) -> Outcome:
    """Return the score of each metric, a value or a reason, and how exact they are.

    Values do not depend on the number of jobs. Metrics that read batches see no cell of a stray batch. The
    means of the quantities ``per_cell`` over each label and batch are in ``per_group``.
    """
    scores: dict[str, Score] = {}
    shortcuts = []
    options = {"n_jobs": n_jobs, "profile": profile}
    means: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for part, given, left_out, found in _evaluated(specs, inputs, min_cells, per_cell, options):
        shortcuts += [asdict(shortcut) for shortcut in found.shortcuts]
        for spec in part:
            error = found.standard_errors.get(spec.metric_id)
            scores[spec.metric_id] = as_score(spec, found[spec.metric_id], error, left_out)
        for (by, name), values in _means_by_group(found.per_cell, given).items():
            means[by, name] |= values
    facts = {"profile": profile, "min_cells": min_cells, "shortcuts": shortcuts}
    return Outcome(
        status="ok",
        scores=tuple(scores[spec.metric_id] for spec in specs),
        per_group=tuple(_group_scores(inputs, means, per_cell)),
        evaluation=Evaluation.model_validate(facts),
    )


def values_per_cell(
    task: Task,
    outputs: Outputs,
    truth: Truth,
    *,
    given: Mapping[str, Any] = MappingProxyType({}),
    profile: ProfileName = "standard",
    min_cells: int = MIN_CELLS,
) -> dict[str, NDArray[np.float32]]:
    """Return all quantities of single cells, (n_obs,) each, for a task that has them.

    Arguments and errors are those of :func:`score`. A cell is NaN where a quantity is undefined for it, such
    as in a stray batch or outside a sample.
    """
    from cellular_bench.metrics.per_cell import CELL_QUANTITIES

    if not task.per_cell:
        return {}
    if not np.array_equal(outputs.obs_names, truth.obs_names):
        raise ContractError("The outputs are not for the cells of this split.")
    inputs = {**given, **outputs.arrays(), **truth.inputs()}
    values = {name: np.full(len(truth.obs_names), np.nan, dtype=np.float32) for name in CELL_QUANTITIES}
    options = {"profile": profile}
    for _, _, left_out, found in _evaluated([], inputs, min_cells, list(CELL_QUANTITIES), options):
        kept = ~np.isin(truth.batch, list(left_out))
        for name, of_cells in found.per_cell.items():
            if not isinstance(of_cells, UndefinedError):
                values[name][kept] = of_cells.values
    return values


def _evaluated(
    specs: Sequence[MetricSpec],
    inputs: Mapping[str, Any],
    min_cells: int,
    per_cell: Sequence[str],
    options: Mapping[str, Any],
) -> Iterator[tuple[list[MetricSpec], Mapping[str, Any], dict[str, int], engine.Evaluation]]:
    """Evaluate metrics and quantities of cells by what they are given; see :func:`parts_by_batches`."""
    from cellular_bench.metrics import evaluate
    from cellular_bench.metrics.per_cell import CELL_QUANTITIES

    wanted = {CELL_QUANTITIES[name]: name for name in per_cell}
    every: list[MetricSpec | CellQuantity] = [*specs, *wanted]
    for part, given, left_out in parts_by_batches(every, inputs, min_cells):
        own = [spec for spec in part if isinstance(spec, MetricSpec)]
        quantities = [wanted[one] for one in part if not isinstance(one, MetricSpec)]
        found = evaluate([spec.metric_id for spec in own], given, per_cell=quantities, **options)
        for name, of_cells in found.per_cell.items():
            if isinstance(of_cells, UndefinedError) and of_cells.__cause__ is not None:
                _LOG.warning("%s of single cells: %s", name, of_cells, exc_info=of_cells.__cause__)
        yield own, given, left_out, found


def _means_by_group(
    per_cell: Mapping[str, CellValues | UndefinedError], given: Mapping[str, Any]
) -> dict[tuple[str, str], dict[str, float]]:
    """Return the means of quantities of cells by label and batch: ``{("label", "T"): {quantity: mean}}``."""
    from cellular_bench.metrics.per_cell import by_group

    means: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for quantity, of_cells in per_cell.items():
        if isinstance(of_cells, UndefinedError):
            continue
        for by in _groups(given):
            for name, mean in by_group(of_cells, given[by]).items():
                means[by, name][quantity] = mean
    return means


def _groups(inputs: Mapping[str, Any]) -> list[Literal["label", "batch"]]:
    """Return what cells are grouped by: not by labels, or batches, where there are none."""
    return [by for by in GROUPS if not isinstance(inputs.get(by), UndefinedError | None)]


def _group_scores(
    inputs: Mapping[str, Any], means: Mapping[tuple[str, str], Mapping[str, float]], order: Sequence[str]
) -> Iterator[GroupScore]:
    """Yield the record of each label and batch that has a mean, sorted by name."""
    for by in _groups(inputs):
        sizes = Counter(np.asarray(inputs[by], dtype=str).tolist()) if means else Counter[str]()
        for name, n in sorted(sizes.items()):
            if found := means.get((by, name)):
                values = {quantity: found[quantity] for quantity in order if quantity in found}
                yield GroupScore(by=by, name=name, n=n, values=values)


def parts_by_batches(
    specs: Sequence[_Spec], inputs: Mapping[str, Any], min_cells: int
) -> Iterator[tuple[list[_Spec], Mapping[str, Any], dict[str, int]]]:
    """Yield metrics with what they are given, and the stray batches whose cells that leaves out.

    Likewise quantities of cells. The same for every method, as it depends on the scored cells alone.
    """
    from cellular_bench.metrics.spec import reads_batches

    batch = inputs.get("batch")
    left_out = (
        {} if batch is None else stray_batches(Counter(np.asarray(batch, dtype=str).tolist()), min_cells)
    )
    reading = [spec for spec in specs if left_out and reads_batches(spec)]
    others = [spec for spec in specs if spec not in reading]
    if others or not reading:
        yield others, inputs, {}
    if reading:
        yield reading, without_batches(inputs, left_out), left_out


def without_batches(inputs: Mapping[str, Any], left_out: Collection[str]) -> dict[str, Any]:
    """Return the arguments of metrics without the cells of some batches."""
    kept = ~np.isin(np.asarray(inputs["batch"], dtype=str), list(left_out))
    found = {name: _rows(name, value, kept) for name, value in inputs.items()}
    before = inputs.get("cell_cycle_before")
    if isinstance(before, Mapping):
        found["cell_cycle_before"] = {name: before[name] for name in before if name not in left_out}
    if conditions := inputs.get("conditions"):
        found["conditions"] = {name: _rows(name, values, kept) for name, values in conditions.items()}
    return found


def _rows(name: str, value: Any, kept: NDArray[np.bool_]) -> Any:
    """Return the rows of what has one per cell, and the columns, too, of links between cells."""
    shape = getattr(value, "shape", None)
    if name in ("labels", "genes") or not shape or shape[0] != len(kept):
        return value
    rows = value[kept]
    return rows[:, kept] if name in ("graph", "graph_distances") else rows


def as_score(
    spec: MetricSpec,
    found: float | UndefinedError,
    standard_error: float | None = None,
    left_out: Mapping[str, int] = MappingProxyType({}),
) -> Score:
    """Return what a metric gave as it goes into a record."""
    common: dict[str, Any] = {"metric_id": spec.metric_id, "aspect": spec.aspect, "version": spec.version}
    common["left_out"] = dict(left_out)
    if isinstance(found, UndefinedError):
        common["undefined_by"] = "output" if found.by_output else "data"
        return Score(**common, value=None, reason=str(found))
    return Score(**common, value=found, standard_error=standard_error)


def check_rows_belong_to_cells(method_id: str, outputs: Outputs, truth: Truth) -> tuple[str, ...]:
    """Find outputs whose rows are in another order than the cells.

    Cells that are neighbours before a method are more often neighbours after it, or named alike,
    than cells picked at random, however good or bad the method. Where they are not, the rows have
    nothing to do with the cells. Small output is not judged; an embedding that is noise in any order gets a
    note.

    Returns
    -------
    Notes on the output.

    Raises
    ------
    ContractError
        If neighbouring cells fare no better than random ones.
    """
    if len(truth.X_pre) < MIN_OBS_FOR_ORDER:
        return ()
    before = _neighbours(truth.X_pre)
    if outputs.graph is not None:
        found, expected = _shared_links(before, outputs.graph)
    elif outputs.X_emb is not None:
        if (outputs.X_emb == outputs.X_emb[0]).all():
            return ()  # one point for all has no order; the metrics say what it is
        found, expected = _shared_neighbours(before, _neighbours(outputs.X_emb))
    elif outputs.label_pred is not None:
        found, expected = _shared_labels(before, outputs.label_pred)
    else:
        return ()
    spread = math.sqrt(expected * (1 - expected) / before.size)
    if spread == 0 or found >= expected + 3 * spread:
        return ()
    if outputs.graph is None and outputs.X_emb is not None and is_noise(outputs.X_emb):
        return (NOISE,)
    raise ContractError(
        f"{method_id}: the rows bear no relation to the cells. Neighbouring cells agree in {found:.1%} "
        f"of pairs, cells picked at random in {expected:.1%}. Either the rows are in another order than "
        "obs_names, or the output has no information on expression (a model that has not learnt, or whose "
        "posterior collapsed). Return rows in the order of obs_names, and look at the training."
    )


def notes_on_correction(outputs: Outputs, truth: Truth) -> tuple[str, ...]:
    """Return a note where an embedding has the neighbours of principal components: nothing was corrected.

    As many components are compared as the embedding has dimensions. For methods that correct batches; others
    may well return principal components.
    """
    if outputs.X_emb is None or len(outputs.X_emb) <= _N_NEIGHBOURS + 1:
        return ()
    n_obs, n_dims = outputs.X_emb.shape
    asked = np.random.default_rng(0).permutation(n_obs)[:_N_ASKED]
    before = _neighbours_of(asked, truth.X_pre[:, :n_dims])
    shared, _ = _shared_neighbours(before, _neighbours_of(asked, outputs.X_emb))
    return (UNCHANGED,) if shared >= _UNCHANGED_SHARE else ()


#: Neighbours of so many cells are compared, and so many are the same if next to nothing was corrected.
_N_ASKED, _UNCHANGED_SHARE = 1000, 0.99


def _neighbours_of(rows: NDArray[np.int64], X: Any) -> Any:
    """Return the nearest other cells of some cells, (n_rows, k)."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=_N_NEIGHBOURS + 1).fit(X).kneighbors(X[rows], return_distance=False)
    return near[:, 1:]


def is_noise(X_emb: Any) -> bool:
    """Return whether an embedding is independent noise of one variance in all dimensions.

    It then is the same in every order. What a method made of cells has directions of more variance, or cells
    that are closer together than independent dimensions put them. One dimension is never noise.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(size=(300, 5))
    >>> is_noise(noise), is_noise(noise + 5 * np.eye(3, 5)[rng.integers(0, 3, 300)])
    (True, False)
    """
    from scipy.stats import chi2

    X = np.asarray(X_emb, dtype=np.float64)
    X = X[:, np.ptp(X, axis=0) > 0]
    n_obs, n_dims = X.shape
    if n_dims < 2:
        return False
    covariance = np.cov(X, rowvar=False)
    # John 1972, https://doi.org/10.1093/biomet/59.1.169: are all variances equal and all covariances 0?
    scaled = covariance / (np.trace(covariance) / n_dims) - np.eye(n_dims)
    statistic = n_obs / 2 * float((scaled**2).sum())
    if chi2.sf(statistic, n_dims * (n_dims + 1) / 2 - 1) < _NOISE_P:
        return False
    rng = np.random.default_rng(0)
    independent = [_closeness(rng.permuted(X, axis=0)) for _ in range(_N_PERMUTATIONS)]
    distance = abs(_closeness(X) - float(np.mean(independent)))
    return distance <= _NOISE_SPREADS * float(np.std(independent, ddof=1))


def _closeness(X: NDArray[np.float64]) -> float:
    """Return the mean logarithm of the distance to the last of the nearest neighbours."""
    from cellular_bench.metrics.numerics.distances import nearest_neighbors

    distances = nearest_neighbors(X, _N_NEIGHBOURS + 1).distances[:, -1]
    return float(np.log(np.maximum(distances, np.finfo(float).tiny)).mean())


#: Noise is taken for something else with this probability, and beyond so many standard deviations.
_NOISE_P, _NOISE_SPREADS, _N_PERMUTATIONS = 1e-4, 5.0, 20


MIN_OBS_FOR_ORDER = 200
MAX_SHARE_FOR_ORDER = 0.9
_N_NEIGHBOURS = 15


def _neighbours(X: Any) -> Any:
    from cellular_bench.metrics.numerics.distances import nearest_neighbors

    return nearest_neighbors(X, _N_NEIGHBOURS + 1).indices[:, 1:]


def _shared_neighbours(before: Any, after: Any) -> tuple[float, float]:
    n_obs, k = before.shape
    shared = (before[:, :, None] == after[:, None, :]).any(axis=2).mean()
    return float(shared), k / (n_obs - 1)


def _shared_links(before: Any, graph: Any) -> tuple[float, float]:
    n_obs, k = before.shape
    shared = (graph[np.repeat(np.arange(n_obs), k), before.ravel()] > 0).mean()
    return float(shared), graph.count_nonzero() / (n_obs * (n_obs - 1))


def _shared_labels(before: Any, label_pred: Any) -> tuple[float, float]:
    n_obs = len(before)
    _, codes, counts = np.unique(label_pred, return_inverse=True, return_counts=True)
    if counts.max() > MAX_SHARE_FOR_ORDER * n_obs:
        return 1.0, 1.0  # so few cells differ that where they lie says nothing
    shared = (codes[before] == codes[:, None]).mean()
    return float(shared), float(((counts / n_obs) ** 2).sum())


def min_cells_of(record: RunRecord) -> int:
    """Return the setting by which a record was scored; before there was one, no batch was left out."""
    return (record.evaluation.min_cells if record.evaluation else record.min_cells) or 1


def has_study_metrics(record: RunRecord) -> bool:
    """Whether a run was also scored by study metrics."""
    if record.study_metrics is not None:
        return record.study_metrics
    known = registry.metrics()
    return any(score.metric_id in known and known[score.metric_id].on_request for score in record.scores)
