"""Published scores beside ours, a table per study and protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from cellular_bench.benchmark.analysis.leaderboard import Board
from cellular_bench.benchmark.external.published import PARTS_OF, STUDIES
from cellular_bench.benchmark.external.published_comparison import Compared, compared, is_on_both
from cellular_bench.reports.tables.formatting import number, spread
from cellular_bench.reports.tables.model import Cell, Column, Emphasis, Table, TableRow, missing, number_cell

#: Columns that are no metric of the board, by their names in the published tables.
AGGREGATES: Final = {
    "overall": "Overall (study)",
    "batch_correction": "Batch correction (study)",
    "bio_conservation": "Bio conservation (study)",
    "sample_precision_0.26": "Precision of samples, 0.26",
    "sample_coverage_0.26": "Coverage of samples, 0.26",
    "sample_precision_0.25": "Precision of samples, 0.25",
    "sample_coverage_0.25": "Coverage of samples, 0.25",
}
GENES: Final = {"hvg": ", highly variable genes", "all": ", all genes", "": ""}
EMPHASIS: Final[dict[str, Emphasis]] = {"within spread": "mild", "differs": "strong"}
CAPTION: Final = (
    "In a cell: published mean ± standard deviation over folds, ours, and the difference. It is marked above "
    "0.02: strongly if it exceeds both deviations together, slightly if it does not. Scores that lack some "
    "of our folds say so and are not marked. Quoted, not ranked."
)


def published_tables(board: Board) -> tuple[Table, ...]:
    """Return a table per study and protocol that scored the data of a board by the same kind of split."""
    return tuple(
        _table(board, study_id, protocol, scores) for (study_id, protocol), scores in compared(board).items()
    )


def _table(board: Board, study_id: str, protocol: str, scores: Sequence[Compared]) -> Table:
    study = STUDIES[study_id]
    names = {spec.metric_id: spec.name for spec in board.metrics} | AGGREGATES
    metric_ids = list(dict.fromkeys(score.published.metric_id for score in scores))
    methods = dict.fromkeys((score.published.method_id, score.published.features) for score in scores)
    by_key = {(s.published.method_id, s.published.features, s.published.metric_id): s for s in scores}
    return Table(
        table_id=f"{board.board_id}-published-{study_id}-{protocol}",
        title=f"Published: {study.title}, {protocol.replace('-', ' ')}",
        caption=f"{'; '.join(_circumstances(board, study.protocol))}. {CAPTION} DOI {study.doi}.",
        columns=tuple(Column(names.get(metric_id, metric_id)) for metric_id in metric_ids),
        rows=tuple(
            _row(board, [by_key[*method, metric_id] for metric_id in metric_ids], scores)
            for method in methods
        ),
    )


def _circumstances(board: Board, protocol: str) -> list[str]:
    """Say how the published scores were made, and ours."""
    _, part = PARTS_OF.get(board.dataset.dataset_id, ("", ""))
    n_splits = len(board.splits)
    wanted = board.splits[0].options.get("n_splits", 0) if board.split_kind == "kfold" else 0
    here = f"{n_splits} of {wanted} folds" if n_splits < wanted else f"{n_splits} {_unit(board)}"
    drawn = board.dataset.subsample
    cells = f"{board.dataset.n_obs:,} cells, drawn from {drawn['of']:,}" if drawn else ""
    recipe = board.dataset.recipe
    prepared = f"prepared by the recipe {recipe['name']}" if recipe else "not prepared as in the study"
    return [text for text in (f"Published: {protocol}; here: {here}", cells, prepared, part) if text]


def _unit(board: Board) -> str:
    return "folds" if board.split_kind == "kfold" else "splits"


def _row(board: Board, of_method: Sequence[Compared], scores: Sequence[Compared]) -> TableRow:
    cells = tuple(_cell(board, score) for score in of_method)
    badges = () if of_method[0].row is not None else ("not run here",)
    return TableRow(_method_name(of_method[0], scores), cells, badges=badges)


def _method_name(first: Compared, scores: Sequence[Compared]) -> str:
    """Name a published row after our row of it, and after its genes if the study has both."""
    if first.row is not None:
        return first.method_name
    published = [score.published for score in scores]
    genes = first.published.features if is_on_both(first.published.method_id, published) else ""
    return first.method_name + GENES[genes]


def _cell(board: Board, score: Compared) -> Cell:
    """Return a published score; below it ours, and below that the difference."""
    published, std = score.published, score.published.std
    cell = number_cell(published.mean, "" if std is None else f"± {number(std)}")
    return cell if score.row is None else replace(cell, below=_ours(board, score))


def _ours(board: Board, score: Compared) -> Cell:
    difference = score.difference
    if score.ours is None or score.ours.mean is None or difference is None:
        return missing("no score of ours")
    unit = _unit(board) if score.n_planned == len(board.splits) else "runs"
    part = f"{score.n_runs} of {score.n_planned} {unit}" if score.verdict == "incomplete" else ""
    sign = "+" if difference > 0 else ""
    emphasis = EMPHASIS.get(score.verdict, "")
    below = Cell(f"{sign}{number(difference)}", emphasis=emphasis, reason=score.verdict)
    return Cell(number(score.ours.mean), detail=spread(score.ours), count=part, below=below)
