"""Score predictions, embeddings and corrected expression that other programs made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution import scoring
from cellular_bench.benchmark.execution.machine import usable_cores
from cellular_bench.benchmark.execution.preparation import cell_cycle_inputs
from cellular_bench.benchmark.schema.records import Outcome, Score
from cellular_bench.benchmark.tasks import ANNOTATION, INTEGRATION, NOVELTY
from cellular_bench.core import keys
from cellular_bench.core.components import principal_components
from cellular_bench.core.errors import UndefinedError, UserError
from cellular_bench.core.types import MetricSpec
from cellular_bench.workflows import data
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
        # Whole numbers beside a missing one have become 1.0, 2.0: they mean the labels 1 and 2.
        text = given.convert_dtypes().astype(object).where(given.notna(), "").astype(str)
        yield from predicted_in(text.reset_index(drop=True), "predictions", where="The table")
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
    from cellular_bench.datasets import catalog

    adata = request.adata
    spec = data.described(request)
    assert spec is not None  # there is adata
    dataset = catalog.load(spec)
    embeddings = _embeddings(request, dataset.adata)
    if not embeddings and not request.corrected:
        raise UserError("Name what is to be scored: --obsm KEY, --embedding FILE or --corrected LAYER.")
    inputs = _inputs(request, dataset.adata)
    for name, X_emb in embeddings.items():
        yield from _score_embedding(name, {**inputs, "X_emb": X_emb}, request)
    for layer in request.corrected:
        matrix = read_layer(adata, layer, dataset.adata.shape)
        given = {**inputs, "expression": dataset.adata.X, "corrected": matrix}
        yield from _score_corrected(layer, given, request)


def _embeddings(request: ScoreRequest, adata: AnnData) -> dict[str, Any]:
    named = list(read_embeddings(request.adata, request.obsm, request.embedding, n_obs=adata.n_obs))
    named += [
        checked_embedding(name, given, adata.n_obs, obs_names=adata.obs_names)
        for name, given in request.embeddings.items()
    ]
    _check_once([(name, None) for name, _ in named])
    return dict(named)


def _inputs(request: ScoreRequest, adata: AnnData) -> dict[str, Any]:
    """Return the arguments of metrics that are the same for every embedding."""
    label, batch = (np.asarray(adata.obs[key], dtype=str) for key in (keys.LABEL, keys.BATCH))
    inputs = {"label": label, "batch": batch, **cell_cycle_inputs(adata, batch)}
    for argument, key in (("X_pre", request.pre), ("X_pre_all", request.pre_all)):
        if key is not None:
            inputs[argument] = dict(read_embeddings(request.adata, [key], [], n_obs=adata.n_obs))[key]
    if request.pre_all is None and "pcr_scib" in request.metrics:
        inputs["X_pre_all"] = principal_components(adata.X)
    return inputs


def _score_bundles(request: ScoreRequest) -> Iterator[Row]:
    """Score the embeddings of npz files that hold labels and batches too."""
    assert request.label_key is not None
    assert request.batch_key is not None
    bundles = list(read_bundles(request.embedding, label_key=request.label_key, batch_key=request.batch_key))
    _check_once([(name, None) for embeddings, _ in bundles for name in embeddings])
    before = (("--pre", "X_pre", request.pre), ("--pre-all", "X_pre_all", request.pre_all))
    for embeddings, inputs in bundles:
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


def _score_embedding(name: str, inputs: Mapping[str, Any], request: ScoreRequest) -> Iterator[Row]:
    specs = _named(request.metrics) or scoring.specs_for(INTEGRATION, inputs)
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
    chosen = _named(request.metrics) or specs
    for score in scoring.compute(chosen, inputs, min_cells=request.min_cells).scores:
        yield Row(method_id=layer, fold=None, score=score)
