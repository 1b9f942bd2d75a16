"""Scores of what other programs made, as rows: a method, a fold, a metric."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellular_bench.benchmark.execution import scoring
from cellular_bench.benchmark.execution.preparation import cell_cycle_inputs
from cellular_bench.benchmark.schema.records import Evaluation, Score
from cellular_bench.benchmark.tasks import ANNOTATION, INTEGRATION, NOVELTY
from cellular_bench.core import keys
from cellular_bench.core.components import principal_components
from cellular_bench.core.errors import UndefinedError, UserError
from cellular_bench.core.types import MetricSpec, ProfileName
from cellular_bench.workflows.score_files import (
    Predicted,
    checked_embedding,
    read_bundles,
    read_embeddings,
    read_layer,
    read_predictions,
)

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.metrics import Ontology

Engine = Literal["own", "scib-metrics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One score of one method on one fold.

    Attributes
    ----------
    resampled
        (n_resamples,) scores of resampled cells, NaN where undefined; None where not asked for, or
        where the score has no value.
    evaluation
        How exact the scores of the method are, where they are of an embedding and our own.
    """

    method_id: str
    fold: str | int | None
    score: Score
    resampled: Any = None
    evaluation: Evaluation | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the row as it appears in JSON."""
        row = {
            "method_id": self.method_id,
            "metric_id": self.score.metric_id,
            "fold": self.fold,
            "value": self.score.value,
            "reason": self.score.reason,
        }
        if self.score.standard_error is not None:
            row["standard_error"] = self.score.standard_error
        return row if self.resampled is None else row | self._interval()

    def _interval(self) -> dict[str, Any]:
        from cellular_bench.metrics import interval

        try:
            return interval(self.resampled)._asdict()
        except UndefinedError as error:
            return {"low": None, "high": None, "interval_reason": str(error)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampling:
    """How cells are drawn again for intervals."""

    n_resamples: int
    seed: int = 0
    stratify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How embeddings are scored: by whom, how exactly, which metrics (None: the usual ones)."""

    engine: Engine = "own"
    profile: ProfileName = "standard"
    metric_ids: Sequence[str] | None = None
    n_jobs: int = 1


def score_predictions(path: Path) -> Iterator[Row]:
    """Score a table of true and predicted labels, per method and fold.

    Raises
    ------
    UserError
        If the file is no table or lacks a column.
    """
    yield from score_parts(list(read_predictions(path)))


def score_parts(
    parts: Sequence[Predicted],
    *,
    ontology: Ontology | None = None,
    resampling: Resampling | None = None,
    metric_ids: Sequence[str] | None = None,
) -> Iterator[Row]:
    """Score what methods said of the cells of each fold, with resampled scores where asked for."""
    _check_once([(part.method_id, part.fold) for part in parts])
    # Folds are independent: each has its own seed, which depends on the order of the parts alone.
    seeds = np.random.SeedSequence(0 if resampling is None else resampling.seed).generate_state(len(parts))
    for part, seed in zip(parts, seeds, strict=True):
        inputs = dict(part.inputs) if ontology is None else {**part.inputs, "ontology": ontology}
        specs = scoring.specs_for(ANNOTATION, inputs)
        if "novelty" in inputs or "is_novel" in inputs:
            specs += scoring.specs_for(NOVELTY, inputs)
        scores = scoring.compute(_named(metric_ids) or specs, inputs).scores
        resampled = {} if resampling is None else _resampled(scores, inputs, resampling, int(seed))
        for score in scores:
            yield Row(
                method_id=part.method_id,
                fold=part.fold,
                score=score,
                resampled=resampled.get(score.metric_id),
            )


def _check_once(names: Sequence[tuple[str, str | int | None]]) -> None:
    """Refuse what would be shown as one: a name that comes twice, of the same fold."""
    for (name, fold), n in Counter(names).items():
        if n > 1:
            of_fold = "" if fold is None else f", fold {fold},"
            raise UserError(
                f"'{name}'{of_fold} comes more than once. Names are those of files, arrays and keys of obsm, "
                "and of the column method of predictions: give each a name of its own."
            )


def _resampled(
    scores: Sequence[Score], inputs: Mapping[str, Any], resampling: Resampling, seed: int
) -> dict[str, Any]:
    from cellular_bench.metrics import bootstrap

    ids = [score.metric_id for score in scores if score.value is not None]
    found = bootstrap(
        ids, inputs, n_resamples=resampling.n_resamples, seed=seed, stratify=resampling.stratify
    )
    return {name: values for name, values in found.items() if not isinstance(values, UndefinedError)}


def score_embeddings(
    adata: Path | AnnData,
    *,
    batch_key: str | None,
    label_key: str,
    counts_layer: str | None = None,
    obsm: Sequence[str] = (),
    files: Sequence[Path] = (),
    pre: str | None = None,
    pre_all: str | None = None,
    corrected: Sequence[str] = (),
    arrays: Mapping[str, Any] | None = None,
    how: Scoring = Scoring(),
) -> Iterator[Row]:
    """Score embeddings, and corrected expression, of the cells of an h5ad file or of AnnData in memory.

    ``arrays`` are embeddings in memory, by name.

    Raises
    ------
    UserError
        If a key is missing, or an embedding has not one row per cell.
    """
    from cellular_bench.datasets import catalog

    describe = catalog.from_h5ad if isinstance(adata, Path) else catalog.from_memory
    spec = describe(adata, batch_key=batch_key, label_key=label_key, counts_layer=counts_layer)
    dataset = catalog.load(spec)
    n_obs, obs_names = dataset.adata.n_obs, dataset.adata.obs_names
    named = list(read_embeddings(adata, obsm, files, n_obs=n_obs))
    named += [
        checked_embedding(name, found, n_obs, obs_names=obs_names) for name, found in (arrays or {}).items()
    ]
    _check_once([(name, None) for name, _ in named])
    embeddings = dict(named)
    if not embeddings and not corrected:
        raise UserError("Name what is to be scored: --obsm KEY, --embedding FILE or --corrected LAYER.")
    inputs = _facts(dataset.adata)
    for argument, key in (("X_pre", pre), ("X_pre_all", pre_all)):
        if key is not None:
            inputs[argument] = dict(read_embeddings(adata, [key], [], n_obs=n_obs))[key]
    if pre_all is None and "pcr_scib" in (how.metric_ids or ()):
        inputs["X_pre_all"] = principal_components(dataset.adata.X)
    for name, X_emb in embeddings.items():
        yield from _score_embedding(name, {**inputs, "X_emb": X_emb}, how)
    for layer in corrected:
        matrix = read_layer(adata, layer, dataset.adata.shape)
        given = {**inputs, "expression": dataset.adata.X, "corrected": matrix}
        yield from _score_corrected(layer, given, how.metric_ids)


def score_bundles(
    files: Sequence[Path],
    *,
    batch_key: str,
    label_key: str,
    pre: str | None = None,
    pre_all: str | None = None,
    how: Scoring = Scoring(),
) -> Iterator[Row]:
    """Score the embeddings of npz files that hold labels and batches too.

    Raises
    ------
    UserError
        If an array is missing, or has not one row per cell.
    """
    bundles = list(read_bundles(files, label_key=label_key, batch_key=batch_key))
    _check_once([(name, None) for bundle in bundles for name in bundle.embeddings])
    for bundle in bundles:
        inputs = {"label": bundle.label, "batch": bundle.batch}
        for option, argument, key in (("--pre", "X_pre", pre), ("--pre-all", "X_pre_all", pre_all)):
            if key is None:
                continue
            if key not in bundle.embeddings:
                raise UserError(f"{option} '{key}' is none of {', '.join(bundle.embeddings)}.")
            inputs[argument] = bundle.embeddings[key]
        for name, X_emb in bundle.embeddings.items():
            yield from _score_embedding(name, {**inputs, "X_emb": X_emb}, how)


def _named(metric_ids: Sequence[str] | None) -> list[MetricSpec]:
    from cellular_bench.metrics import METRICS

    return [METRICS[name] for name in metric_ids or ()]


def _score_embedding(name: str, inputs: Mapping[str, Any], how: Scoring) -> Iterator[Row]:
    specs = _named(how.metric_ids) or scoring.specs_for(INTEGRATION, inputs)
    if how.engine == "own":
        scored = scoring.compute(specs, inputs, n_jobs=how.n_jobs, profile=how.profile)
    else:
        from cellular_bench.metrics.scib_metrics_engine import score_with_scib_metrics

        found = score_with_scib_metrics(inputs)
        known = [spec for spec in specs if spec.metric_id in found]
        scored = scoring.Scored(scores=tuple(scoring.as_score(spec, found[spec.metric_id]) for spec in known))
    for score in scored.scores:
        yield Row(method_id=name, fold=None, score=score, evaluation=scored.evaluation)


def _score_corrected(
    layer: str, inputs: Mapping[str, Any], metric_ids: Sequence[str] | None
) -> Iterator[Row]:
    usual = scoring.specs_for(INTEGRATION, {"X_pre_all"})
    specs = [spec for spec in scoring.specs_for(INTEGRATION, inputs) if spec not in usual]
    for score in scoring.compute(_named(metric_ids) or specs, inputs).scores:
        yield Row(method_id=layer, fold=None, score=score)


def _facts(adata: AnnData) -> dict[str, Any]:
    label, batch = (np.asarray(adata.obs[key], dtype=str) for key in (keys.LABEL, keys.BATCH))
    return {"label": label, "batch": batch, **cell_cycle_inputs(adata, batch)}
