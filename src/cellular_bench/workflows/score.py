"""Score predictions, embeddings and corrected expression that other programs made."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution import scoring
from cellular_bench.benchmark.execution.machine import usable_cores
from cellular_bench.benchmark.execution.preparation import cell_cycle_inputs
from cellular_bench.benchmark.schema.records import Outcome, Score
from cellular_bench.benchmark.tasks import (
    ANNOTATION,
    INTEGRATION,
    NOVELTY,
    read_structure,
    structure_arrays,
)
from cellular_bench.core import keys
from cellular_bench.core.components import principal_components
from cellular_bench.core.errors import DataError, UndefinedError, UserError
from cellular_bench.core.genes import variable_genes
from cellular_bench.core.types import MetricSpec
from cellular_bench.metrics.spec import required_inputs
from cellular_bench.workflows.score_files import (
    Predicted,
    checked_embedding,
    predicted_in,
    read_bundles,
    read_embeddings,
    read_label_terms,
    read_layer,
    read_predictions,
)
from cellular_bench.workflows.score_request import Row, ScoreRequest, ScoreResult, check

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.metrics import Ontology


#: Arguments of metrics that are made of expression values.
OF_EXPRESSION = frozenset({"cell_cycle", "cell_cycle_before", "structure", "X_pre_all"})


def score(request: ScoreRequest) -> ScoreResult:
    """Score what a request names.

    Raises
    ------
    UserError
        If there is nothing to score, a key is missing, or options do not go together.
    """
    registry.load(request.plugins)
    check(request)
    if request.has_predictions:
        return _score_predictions(request)
    _tell_left_out(request)
    rows = list(_score_bundles(request) if request.adata is None else _score_adata(request))
    return ScoreResult(rows=rows, evaluations={r.method_id: r.evaluation for r in rows if r.evaluation})


def _score_predictions(request: ScoreRequest) -> ScoreResult:
    parts = list(_predictions(request.predictions))
    ontology = _ontology(request)
    rows = list(_score_parts(parts, request, ontology))
    if ontology is None:
        return ScoreResult(rows=rows)
    from cellular_bench.metrics import map_labels

    known = map_labels(np.concatenate([part.inputs["label"] for part in parts]), ontology)
    return ScoreResult(rows=rows, ontology=known._asdict())


def _predictions(given: Any) -> Iterator[Predicted]:
    if hasattr(given, "columns"):
        yield from predicted_in(given, "predictions", where="The table")
        return
    for path in given:
        yield from read_predictions(path)


def _ontology(request: ScoreRequest) -> Ontology | None:
    if request.ontology is None:
        return None
    from cellular_bench.metrics import read_obo

    ontology = read_obo(request.ontology)
    if request.ontology_map is None:
        return ontology
    return ontology.with_labels(read_label_terms(request.ontology_map))


def _score_parts(
    parts: Sequence[Predicted], request: ScoreRequest, ontology: Ontology | None
) -> Iterator[Row]:
    """Score the predictions of each fold, with resampled scores if the request asks for intervals."""
    _check_once([(part.method_id, part.fold) for part in parts])
    # Folds are independent: each has its own seed, which depends on the order of the parts alone.
    seeds = np.random.SeedSequence(request.seed or 0).generate_state(len(parts))
    for part, seed in zip(parts, seeds, strict=True):
        inputs = dict(part.inputs) if ontology is None else {**part.inputs, "ontology": ontology}
        specs = scoring.specs_for(ANNOTATION, inputs)
        if "novelty" in inputs or "is_novel" in inputs:
            specs += scoring.specs_for(NOVELTY, inputs)
        scores = scoring.compute(_named(request.metrics) or specs, inputs).scores
        resampled = _resampled(scores, inputs, request, int(seed))
        for score in scores:
            values = resampled.get(score.metric_id)
            yield Row(method_id=part.method_id, fold=part.fold, score=score, resampled=values)


def _check_once(names: Sequence[tuple[str, str | int | None]]) -> None:
    """Refuse what would be shown as one: a name that comes twice, of the same fold."""
    for (name, fold), n in Counter(names).items():
        if n > 1:
            of_fold = "" if fold is None else f", fold {fold},"
            raise UserError(
                f"'{name}'{of_fold} comes more than once. Names are those of files, arrays and keys of obsm, "
                "and of the column method of predictions: give each its own name."
            )


def _resampled(
    scores: Sequence[Score], inputs: Mapping[str, Any], request: ScoreRequest, seed: int
) -> dict[str, Any]:
    if request.bootstrap is None:
        return {}
    from cellular_bench.metrics import bootstrap

    ids = [score.metric_id for score in scores if score.value is not None]
    found = bootstrap(ids, inputs, n_resamples=request.bootstrap, seed=seed, stratify=request.stratify)
    return {name: values for name, values in found.items() if not isinstance(values, UndefinedError)}


def _score_adata(request: ScoreRequest) -> Iterator[Row]:
    """Score embeddings and corrected expression of the cells of an h5ad file or of AnnData in memory."""
    from cellular_bench.datasets.h5ad import read_h5ad

    is_file = isinstance(request.adata, Path)
    source = str(request.adata) if is_file else "adata"
    adata = read_h5ad(request.adata) if is_file else request.adata
    embeddings = _embeddings(request, adata)
    if not embeddings and not request.corrected:
        raise UserError("Name what is to be scored: --obsm KEY, --embedding FILE or --corrected LAYER.")
    inputs = _inputs(request, adata, source)
    expression = _expression(request, adata, source, inputs)
    for name, X_emb in embeddings.items():
        yield from _score_embedding(name, {**inputs, "X_emb": X_emb}, request)
    for layer in request.corrected:
        matrix = read_layer(adata, layer, expression.shape)
        yield from _score_corrected(layer, {**inputs, "expression": expression, "corrected": matrix}, request)


def _embeddings(request: ScoreRequest, adata: AnnData) -> dict[str, Any]:
    named = list(read_embeddings(adata, request.obsm, request.embedding, n_obs=adata.n_obs))
    named += [
        checked_embedding(name, given, adata.n_obs, obs_names=adata.obs_names)
        for name, given in request.embeddings.items()
    ]
    _check_once([(name, None) for name, _ in named])
    return dict(named)


def _inputs(request: ScoreRequest, adata: AnnData, source: str) -> dict[str, Any]:
    """Return the arguments of metrics that are the same for every embedding and need no expression."""
    from cellular_bench.datasets.contract import names_of_cells

    inputs: dict[str, Any] = {}
    for role, column in (("label", request.label_key), ("batch", request.batch_key)):
        if column is not None:
            inputs[role], notes = names_of_cells(adata, column, role=role, source=source)
            for note in notes:
                warnings.warn(note, stacklevel=2)
    if request.keep:
        inputs |= _conditions(request, adata, source, inputs.get("batch"))
    for argument, key in (("X_pre", request.pre), ("X_pre_all", request.pre_all)):
        if key is not None:
            inputs[argument] = dict(read_embeddings(adata, [key], [], n_obs=adata.n_obs))[key]
    return inputs


def _conditions(request: ScoreRequest, adata: AnnData, source: str, batch: Any) -> dict[str, Any]:
    """Return the conditions that must be kept, and the donors.

    Raises
    ------
    UserError
        If there are neither donors nor batches.
    """
    from cellular_bench.datasets.contract import names_of_cells
    from cellular_bench.metrics.structure.conditions import without_determined

    if request.donor_key is None and batch is None:
        raise UserError("--keep needs --donor-key, or --batch-key, whose batches are then the donors.")
    named = [(key, "condition") for key in request.keep]
    named += [(request.donor_key, "donor")] if request.donor_key is not None else []
    columns = {}
    for key, role in named:
        columns[role, key], notes = names_of_cells(adata, key, role=role, source=source)
        for note in notes:
            warnings.warn(note, stacklevel=2)
    conditions = {key: columns["condition", key] for key in request.keep}
    return {
        "conditions": conditions if batch is None else without_determined(conditions, batch),
        "donor": batch if request.donor_key is None else columns["donor", request.donor_key],
    }


def _expression(request: ScoreRequest, adata: AnnData, source: str, inputs: dict[str, Any]) -> Any:
    """Add the arguments that are made of expression values, if metrics need them; return the values.

    If the values cannot be used, these metrics have no score, with the reason.
    """
    from cellular_bench.datasets import contract

    specs = _of_cells(request, inputs)
    needed = {name for spec in specs for name in required_inputs(spec)} & OF_EXPRESSION - inputs.keys()
    if not request.corrected and (not needed or request.engine != "own"):
        return None
    layer = request.counts_layer
    try:
        made, _ = contract.conform(adata, source=source, label_key=None, batch_key=None, counts_layer=layer)
    except DataError as error:
        if request.corrected:
            raise
        reason = f"needs expression values, which cannot be used: {' '.join(error.problems)}"
        inputs |= dict.fromkeys(needed, UndefinedError(reason))
        return None
    if "batch" in inputs:
        inputs |= cell_cycle_inputs(made, inputs["batch"])
    if "X_pre_all" in needed:
        inputs["X_pre_all"] = principal_components(made.X)
    if "structure" in needed:
        inputs |= _structure(request, made, inputs)
    return made.X


def _structure(request: ScoreRequest, adata: AnnData, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the structure of cells in canonical form, or the reason why there is none."""
    if "batch" not in inputs:
        return {"structure": UndefinedError("needs batches; name their column (--batch-key)")}
    for role, key in (("label", keys.LABEL), ("batch", keys.BATCH)):
        if role in inputs:
            adata.obs[key] = inputs[role]
    adata.var[keys.HIGHLY_VARIABLE] = variable_genes(adata.X)
    return read_structure(structure_arrays(adata, request.profile))


def _score_bundles(request: ScoreRequest) -> Iterator[Row]:
    """Score the embeddings of npz files that hold labels or batches too."""
    bundles = list(read_bundles(request.embedding, label_key=request.label_key, batch_key=request.batch_key))
    _check_once([(name, None) for embeddings, _ in bundles for name in embeddings])
    before = (("--pre", "X_pre", request.pre), ("--pre-all", "X_pre_all", request.pre_all))
    for embeddings, names in bundles:
        inputs: dict[str, Any] = {
            **names,
            "structure": UndefinedError("needs expression values; name the data (--adata)"),
        }
        for option, argument, key in before:
            if key is None:
                continue
            if key not in embeddings:
                raise UserError(f"{option} '{key}' is none of {', '.join(embeddings)}.")
            inputs[argument] = embeddings[key]
        for name, X_emb in embeddings.items():
            yield from _score_embedding(name, {**inputs, "X_emb": X_emb}, request)


def _named(metric_ids: Sequence[str]) -> list[MetricSpec]:
    return [registry.metrics()[name] for name in metric_ids]


def _of_cells(request: ScoreRequest, inputs: Mapping[str, Any]) -> list[MetricSpec]:
    """Return the metrics to compute: those that need no more than the labels or batches that are given."""
    specs = _named(request.metrics) or scoring.specs_for(INTEGRATION, inputs)
    return [spec for spec in specs if not _not_given(request) & set(required_inputs(spec))]


def _not_given(request: ScoreRequest) -> set[str]:
    keys = {"label": request.label_key, "batch": request.batch_key}
    return {role for role, key in keys.items() if key is None}


def _tell_left_out(request: ScoreRequest) -> None:
    """Name the metrics that are left out for want of labels or batches.

    Raises
    ------
    UserError
        If all metrics that the request names are.
    """
    for role in _not_given(request):
        specs = _named(request.metrics) or scoring.specs_for(INTEGRATION)
        names = [spec.metric_id for spec in specs if role in required_inputs(spec)]
        text = f"no --{role}-key: {', '.join(names)}"
        if names and len(names) == len(request.metrics):
            raise UserError(f"Nothing can be scored with {text}.")
        if names:
            warnings.warn(f"Left out, because there is {text}.", stacklevel=2)


def _score_embedding(name: str, inputs: Mapping[str, Any], request: ScoreRequest) -> Iterator[Row]:
    specs = _of_cells(request, inputs)
    if request.engine == "own":
        n_jobs = request.jobs or usable_cores()
        scored = scoring.compute(
            specs, inputs, n_jobs=n_jobs, profile=request.profile, min_cells=request.min_cells
        )
    else:
        from cellular_bench.metrics.scib_metrics_engine import score_with_scib_metrics

        scores: dict[str, Score] = {}
        for part, given, left_out in scoring.parts_by_batches(specs, inputs, request.min_cells):
            found = score_with_scib_metrics(given)
            known = {spec.metric_id: spec for spec in part if spec.metric_id in found}
            scores |= {
                name: scoring.as_score(spec, found[name], left_out=left_out) for name, spec in known.items()
            }
        ordered = (scores[spec.metric_id] for spec in specs if spec.metric_id in scores)
        scored = Outcome(status="ok", scores=tuple(ordered))
    for score in scored.scores:
        yield Row(method_id=name, fold=None, score=score, evaluation=scored.evaluation)


def _score_corrected(layer: str, inputs: Mapping[str, Any], request: ScoreRequest) -> Iterator[Row]:
    usual = scoring.specs_for(INTEGRATION, {"X_pre_all"})
    specs = [spec for spec in scoring.specs_for(INTEGRATION, inputs) if spec not in usual]
    if request.metrics:
        specs = _of_cells(request, inputs)
    for score in scoring.compute(specs, inputs, min_cells=request.min_cells).scores:
        yield Row(method_id=layer, fold=None, score=score)
