"""What can be scored, the checks of such a request, and the scores as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.schema.records import Evaluation, Score
from cellular_bench.core.errors import UndefinedError, UserError
from cellular_bench.core.sizes import MIN_CELLS
from cellular_bench.core.types import ProfileName
from cellular_bench.workflows.requests import Names, OneOrMore, OwnConditions, Paths, several

Engine = Literal["own", "scib-metrics"]


class ScoreRequest(OwnConditions):
    """Predictions or embeddings to be scored.

    Attributes
    ----------
    predictions
        CSV files, or a ``DataFrame``, with true and predicted labels.
    obsm
        Keys of embeddings in ``adata``.
    embedding
        npy or npz files of embeddings; without ``adata``, npz files that hold labels and batches too.
    embeddings
        Embeddings in memory by name: arrays of shape (n_obs, n_latent), or DataFrames.
    pre, pre_all
        Keys of embeddings from before integration, of variable genes and of all genes.
    corrected
        Layers of ``adata`` with corrected log-normalised expression.
    engine
        Who computes the scores of embeddings.
    metrics
        Only these; empty: the usual ones.
    profile
        How exact the scores of embeddings are.
    min_cells
        Least number of cells of a batch in metrics that read batches, where others are larger; 1: any.
    jobs
        Threads and processes; None: the usable cores. No value depends on it.
    ontology, ontology_map
        OBO file for credit of near misses, and a table with the terms of own labels.
    bootstrap, seed, stratify
        Resamplings of the cells for intervals of predictions' scores.
    plugins
        Files with metrics.
    """

    predictions: Any = ()
    obsm: Names = ()
    embedding: Paths = ()
    embeddings: dict[str, Any] = Field(default_factory=dict)
    pre: str | None = None
    pre_all: str | None = None
    corrected: Names = ()
    engine: Engine = "own"
    metrics: Names = ()
    profile: ProfileName = "standard"
    min_cells: OneOrMore = MIN_CELLS
    jobs: OneOrMore | None = None
    ontology: Path | None = None
    ontology_map: Path | None = None
    bootstrap: OneOrMore | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    stratify: bool = False
    plugins: Paths = ()

    @field_validator("predictions")
    @classmethod
    def _files(cls, value: Any) -> Any:
        """Leave a DataFrame as it is; everything else names files."""
        return value if hasattr(value, "columns") else tuple(map(Path, several(value)))

    @property
    def has_predictions(self) -> bool:
        """True if predictions are to be scored."""
        return len(self.predictions) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One score of one method on one fold.

    Attributes
    ----------
    resampled
        (n_resamples,) scores of resampled cells, NaN if undefined; None if they were not asked for, or the
        score has no value.
    evaluation
        How exact the scores of an embedding are; None if another engine computed them.
    """

    method_id: str
    fold: str | int | None
    score: Score
    resampled: Any = None
    evaluation: Evaluation | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the row as it appears in JSON."""
        row: dict[str, Any] = {
            "method_id": self.method_id,
            "metric_id": self.score.metric_id,
            "fold": self.fold,
            "value": self.score.value,
            "reason": self.score.reason,
        }
        if self.score.standard_error is not None:
            row["standard_error"] = self.score.standard_error
        if self.score.left_out:
            row["left_out"] = self.score.left_out
        return row if self.resampled is None else row | self._interval()

    def _interval(self) -> dict[str, Any]:
        from cellular_bench.metrics import interval

        try:
            return interval(self.resampled)._asdict()
        except UndefinedError as error:
            return {"low": None, "high": None, "interval_reason": str(error)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreResult:
    """Scores, and how they were made.

    Attributes
    ----------
    evaluations
        How exact the scores of each embedding are.
    ontology
        How many true labels the ontology knows; None without one.
    """

    rows: Sequence[Row]
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)
    ontology: Mapping[str, Any] | None = None


def check(request: ScoreRequest) -> None:
    """Refuse options that do not go together.

    Raises
    ------
    UserError
        With the first that does not.
    """
    is_embedded = request.adata is not None or bool(request.embedding)
    if request.has_predictions == is_embedded:
        raise UserError(
            "Give either --predictions FILE, or --adata FILE with --obsm KEY or --embedding FILE, or "
            "--embedding FILE.npz alone where it holds labels and batches too."
        )
    _check_of_adata(request)
    if is_embedded:
        _check_embeddings(request)
    elif request.engine != "own":
        raise UserError("--engine is for embeddings; predictions are always scored by our own metrics.")
    _check_dependent(request)
    for name in request.metrics:
        registry.lookup("metric", name, registry.metrics())


def _check_embeddings(request: ScoreRequest) -> None:
    if request.batch_key is None and request.label_key is None:
        given = "--embedding" if request.adata is None else "--adata"
        raise UserError(
            f"{given} needs --batch-key, --label-key or both: columns of obs, or arrays of the npz."
        )
    if request.batch_key == request.label_key:
        raise UserError(f"Batch key and label key are the same column, '{request.batch_key}'.")
    if request.bootstrap is not None:
        raise UserError(
            "--bootstrap is for --predictions: in an embedding, a cell drawn twice is its own neighbour."
        )
    if request.ontology is not None:
        raise UserError("--ontology is for --predictions: an embedding names no cell.")


def _check_of_adata(request: ScoreRequest) -> None:
    """Refuse what describes ``adata`` if there is none."""
    missing = request.adata is None
    if request.obsm and missing:
        raise UserError("--obsm names embeddings of --adata, which is missing.")
    if request.counts_layer is not None and missing:
        raise UserError("--counts-layer names a layer of --adata, which is missing.")
    if (request.keep or request.donor_key is not None) and missing:
        raise UserError("--keep and --donor-key name columns of --adata, which is missing.")
    if request.donor_key is not None and not request.keep:
        raise UserError("--donor-key goes with --keep, the condition that is scored by donors.")
    if request.corrected and (missing or request.engine != "own"):
        raise UserError("--corrected names layers of --adata, and is scored by our own metrics.")


def _check_dependent(request: ScoreRequest) -> None:
    for name, given in (("seed", request.seed is not None), ("stratify", request.stratify)):
        if given and request.bootstrap is None:
            raise UserError(f"--{name} describes --bootstrap, which is missing.")
    if request.ontology_map is not None and request.ontology is None:
        raise UserError("--ontology-map describes --ontology, which is missing.")
