"""Published scores beside ours: a table per board, with the differences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cellular_bench.benchmark.leaderboard import Board, Row, Summary
from cellular_bench.benchmark.published import PARTS_OF, STUDIES, PublishedScore, published_scores
from cellular_bench.reports.cells import number

#: A larger difference is marked.
LARGE_DIFFERENCE = 0.02
#: Columns that are no metric of the board, by their names in the published tables.
AGGREGATES = {
    "overall": "Overall",
    "batch_correction": "Batch correction",
    "bio_conservation": "Bio conservation",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One score of a method: as published, here, and the difference (here minus published)."""

    metric: str
    published: str
    ours: str
    difference: str
    is_large: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """A published method; ``comparisons`` has an entry per metric of the table."""

    name: str
    is_run_here: bool
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTable:
    """What a study published on the data of a board."""

    title: str
    doi: str
    remark: str
    metrics: tuple[str, ...]
    rows: tuple[PublishedRow, ...]


def published_tables(board: Board) -> tuple[PublishedTable, ...]:
    """Return a table per study and protocol that scored the data of a board by cross-validation."""
    if board.split_kind != "kfold" or board.splits[0].stress is not None:
        return ()
    dataset_id, part = PARTS_OF.get(board.dataset.dataset_id, (board.dataset.dataset_id, ""))
    groups: dict[tuple[str, str], list[PublishedScore]] = defaultdict(list)
    for score in published_scores():
        if score.task == board.task and score.dataset_id == dataset_id:
            groups[score.study_id, score.protocol].append(score)
    methods = {row.method.method_id for row in board.rows}
    return tuple(
        _table(board, study_id, protocol, scores, part=part)
        for (study_id, protocol), scores in groups.items()
        if methods & {score.method_id for score in scores}
    )


def _table(
    board: Board, study_id: str, protocol: str, scores: Sequence[PublishedScore], *, part: str
) -> PublishedTable:
    study = STUDIES[study_id]
    names = {spec.metric_id: spec.name for spec in board.metrics} | AGGREGATES
    metric_ids = list(dict.fromkeys(score.metric_id for score in scores))
    by_method: dict[tuple[str, str], dict[str, PublishedScore]] = defaultdict(dict)
    for score in scores:
        by_method[score.method_id, score.features][score.metric_id] = score
    both = {
        method for method, _ in by_method if (method, "all") in by_method and (method, "hvg") in by_method
    }
    remarks = [f"Published: {study.protocol}; here: {len(board.splits)} folds", part]
    return PublishedTable(
        title=f"Published: {study.title}, {protocol.replace('-', ' ')}",
        doi=study.doi,
        remark="; ".join(filter(None, remarks)) + ".",
        metrics=tuple(names.get(name, name) for name in metric_ids),
        rows=tuple(
            _row(board, method_id, features if method_id in both else "", found, metric_ids, names)
            for (method_id, features), found in by_method.items()
        ),
    )


def _row(
    board: Board,
    method_id: str,
    features: str,
    found: dict[str, PublishedScore],
    metric_ids: Sequence[str],
    names: dict[str, str],
) -> PublishedRow:
    mine = next((row for row in board.rows if row.method.method_id == method_id), None)
    name = mine.method.name if mine else method_id
    genes = {"hvg": ", highly variable genes", "all": ", all genes", "": ""}[features]
    return PublishedRow(
        name=name + genes,
        is_run_here=mine is not None,
        comparisons=tuple(
            _comparison(names.get(metric, metric), found[metric], _ours(mine, metric) if mine else None)
            for metric in metric_ids
        ),
    )


def _ours(row: Row, metric_id: str) -> Summary | None:
    if metric_id == "overall":
        return row.overall
    aspects: dict[str, Summary] = {str(name): summary for name, summary in row.aspects.items()}
    return aspects.get(metric_id) or row.metrics.get(metric_id)


def _comparison(metric: str, score: PublishedScore, ours: Summary | None) -> Comparison:
    mean = ours.mean if ours is not None else None
    difference = None if mean is None else mean - score.mean
    return Comparison(
        metric=metric,
        published=f"{number(score.mean)} ± {number(score.std)}",
        ours="–" if mean is None else number(mean),
        difference="" if difference is None else f"{'+' if difference > 0 else ''}{number(difference)}",
        is_large=difference is not None and abs(difference) > LARGE_DIFFERENCE,
    )
