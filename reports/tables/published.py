"""Published scores beside ours: a table per board for the page, and one of them all as CSV and Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from cellular_bench.benchmark.analysis.leaderboard import Board, Summary
from cellular_bench.benchmark.external.published import PARTS_OF, STUDIES
from cellular_bench.benchmark.external.published_comparison import Compared, compared, is_on_both
from cellular_bench.reports.tables.model import number

#: Columns that are no metric of the board, by their names in the published tables.
AGGREGATES = {
    "overall": "Overall (study)",
    "batch_correction": "Batch correction (study)",
    "bio_conservation": "Bio conservation (study)",
    "sample_precision_0.26": "Precision of samples, 0.26",
    "sample_coverage_0.26": "Coverage of samples, 0.26",
    "sample_precision_0.25": "Precision of samples, 0.25",
    "sample_coverage_0.25": "Coverage of samples, 0.25",
}
GENES = {"hvg": ", highly variable genes", "all": ", all genes", "": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One score of a method: as published, here, here minus published, and whether they agree.

    ``ours`` says of how many folds it is where some are missing.
    """

    metric: str
    published: str
    ours: str
    difference: str
    is_large: bool
    verdict: str


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
    """Return a table per study and protocol that scored the data of a board by the same kind of split."""
    return tuple(
        _table(board, study_id, protocol, scores) for (study_id, protocol), scores in compared(board).items()
    )


def _table(board: Board, study_id: str, protocol: str, scores: Sequence[Compared]) -> PublishedTable:
    study = STUDIES[study_id]
    names = {spec.metric_id: spec.name for spec in board.metrics} | AGGREGATES
    metric_ids = list(dict.fromkeys(score.published.metric_id for score in scores))
    methods = dict.fromkeys((score.published.method_id, score.published.features) for score in scores)
    found = {_key(score): score for score in scores}
    return PublishedTable(
        title=f"Published: {study.title}, {protocol.replace('-', ' ')}",
        doi=study.doi,
        remark="; ".join(_remarks(board, study.protocol)) + ".",
        metrics=tuple(names.get(name, name) for name in metric_ids),
        rows=tuple(
            PublishedRow(
                name=method_name([found[*method, metric_id] for metric_id in metric_ids], scores),
                is_run_here=found[*method, metric_ids[0]].row is not None,
                comparisons=tuple(
                    _comparison(board, names.get(name, name), found[*method, name]) for name in metric_ids
                ),
            )
            for method in methods
        ),
    )


def _key(score: Compared) -> tuple[str, str, str]:
    published = score.published
    return published.method_id, published.features, published.metric_id


def _remarks(board: Board, protocol: str) -> list[str]:
    _, part = PARTS_OF.get(board.dataset.dataset_id, ("", ""))
    n_splits = len(board.splits)
    wanted = board.splits[0].options.get("n_splits", 0) if board.split_kind == "kfold" else 0
    here = f"{n_splits} of {wanted} folds" if n_splits < wanted else f"{n_splits} {_unit(board)}"
    drawn = board.dataset.subsample
    cells = f"{board.dataset.n_obs:,} cells, drawn from {drawn['of']:,}" if drawn else ""
    recipe = board.dataset.recipe
    prepared = f"prepared by the recipe {recipe['name']}" if recipe else "not prepared as the study did"
    return [text for text in (f"Published: {protocol}; here: {here}", cells, prepared, part) if text]


def _unit(board: Board) -> str:
    return "folds" if board.split_kind == "kfold" else "splits"


def method_name(of_method: Sequence[Compared], scores: Sequence[Compared]) -> str:
    """Name a published row after our row of it, and after its genes where the study has both."""
    first = of_method[0]
    if first.row is not None:
        return first.method_name
    published = [score.published for score in scores]
    genes = first.published.features if is_on_both(first.published.method_id, published) else ""
    return first.method_name + GENES[genes]


def _comparison(board: Board, metric: str, score: Compared) -> Comparison:
    difference = score.difference
    unit = _unit(board) if score.n_planned == len(board.splits) else "runs"
    part = f" ({score.n_runs} of {score.n_planned} {unit})" if score.verdict == "incomplete" else ""
    return Comparison(
        metric=metric,
        published=_spread(score.published.mean, score.published.std),
        ours="–" if score.ours is None else _summary(score.ours) + part,
        difference="" if difference is None else f"{'+' if difference > 0 else ''}{number(difference)}",
        is_large=score.is_large,
        verdict=score.verdict,
    )


def _summary(summary: Summary) -> str:
    return "–" if summary.mean is None else _spread(summary.mean, summary.std)


def _spread(mean: float, std: float | None) -> str:
    return number(mean) if std is None else f"{number(mean)} ± {number(std)}"


CSV_COLUMNS = (
    "study",
    "protocol",
    "task",
    "dataset_id",
    "published_dataset_id",
    "method_id",
    "features",
    "metric_id",
    "published_mean",
    "published_std",
    "our_mean",
    "our_std",
    "our_n",
    "our_n_planned",
    "difference",
    "verdict",
    "dataset_version",
)


def published_csv(boards: Sequence[Board]) -> str:
    """Return one line per published score on the data of the boards, with ours where there is one."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for board in boards:
        for scores in compared(board).values():
            writer.writerows(_csv_row(board, score) for score in scores)
    return text.getvalue()


def _csv_row(board: Board, score: Compared) -> dict[str, object]:
    published, ours = score.published, score.ours
    values = {
        "published_std": published.std,
        "our_mean": ours.mean if ours else None,
        "our_std": ours.std if ours else None,
        "difference": score.difference,
    }
    return {
        "study": published.study_id,
        "protocol": published.protocol,
        "task": published.task,
        "dataset_id": board.dataset.dataset_id,
        "published_dataset_id": published.dataset_id,
        "method_id": published.method_id,
        "features": published.features,
        "metric_id": published.metric_id,
        "published_mean": f"{published.mean:.6f}",
        **{name: "" if value is None else f"{value:.6f}" for name, value in values.items()},
        "our_n": score.n_runs,
        "our_n_planned": score.n_planned,
        "verdict": score.verdict,
        "dataset_version": board.dataset.version_id,
    }


def published_markdown(boards: Sequence[Board], missing: Sequence[str] = ()) -> str:
    """Return every comparison as Markdown tables, and what is missing of the suite."""
    parts = ["# Published scores beside ours"]
    parts.append(
        "In a cell: published mean ± deviation over folds, ours, and the difference. Bold: they differ by "
        "more than 0.02 and by more than both deviations together. Italic: by more than 0.02, within both. "
        "Where some of our folds are missing, the cell says so and is not marked."
    )
    for board in boards:
        for table in published_tables(board):
            parts.append(f"## {board.dataset_title}: {table.title.removeprefix('Published: ')}")
            parts.append(table.remark)
            parts.append(_markdown_table(table))
    if missing:
        # A line that begins with spaces belongs to the one above it.
        parts += ["## Missing", "\n".join(_item(line) for line in missing)]
    return "\n\n".join(parts) + "\n"


def _item(line: str) -> str:
    depth = "  " if line.startswith(" ") else ""
    return f"{depth}- {line.strip()}"


def _markdown_table(table: PublishedTable) -> str:
    rows = [["Method", *table.metrics], ["---", *("---:" for _ in table.metrics)]]
    rows += [[row.name, *(_cell(score) for score in row.comparisons)] for row in table.rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _cell(score: Comparison) -> str:
    if not score.difference:
        return f"{score.published}; {score.ours}"
    mark = {"differs": "**", "within spread": "*"}.get(score.verdict, "")
    return f"{score.published}; {score.ours}; {mark}{score.difference}{mark}"
