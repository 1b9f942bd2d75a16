"""The same numbers for programs and for repositories: ``scores.csv`` and ``leaderboard.md``."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cellular_bench.benchmark.analysis.leaderboard import Board
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.types import MetricSpec
from cellular_bench.reports.tables.board import View, board_tables
from cellular_bench.reports.tables.common import transductive_in_words, units_in_words
from cellular_bench.reports.tables.model import Cell, Line, Table
from cellular_bench.reports.tables.overview import outdated, overview, runs_in_words, weights_in_words

CSV_COLUMNS = (
    "run_id",
    "suite_id",
    "task",
    "dataset_id",
    "split_id",
    "split_kind",
    "method_id",
    "method_params",
    "seed",
    "status",
    "reason",
    "metric_id",
    "aspect",
    "value",
    "value_reason",
    "standard_error",
    "profile",
    "wall_time_s",
    "cpu_time_s",
    "peak_rss_mib",
    "dataset_version",
)


def scores_csv(records: Sequence[RunRecord]) -> str:
    """Return one line per run and metric; a run without scores has one line with no metric."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for run in records:
        writer.writerows(score_rows(run))
    return text.getvalue()


def score_rows(run: RunRecord) -> Iterator[dict[str, Any]]:
    """Yield a mapping of :data:`CSV_COLUMNS` per score; what a run lacks is absent or None."""
    common: dict[str, Any] = {
        "run_id": run.run_id,
        "suite_id": run.suite_id,
        "task": run.task,
        "dataset_id": run.dataset.dataset_id,
        "split_id": run.split.split_id,
        "split_kind": run.split.kind,
        "method_id": run.method.method_id,
        "method_params": json.dumps(run.method.params, sort_keys=True),
        "seed": run.seed,
        "status": run.status,
        "reason": run.reason,
        "dataset_version": run.dataset.version_id,
    }
    if run.evaluation is not None:
        common["profile"] = run.evaluation.profile
    if run.cost is not None:
        common |= run.cost.model_dump(include={"wall_time_s", "cpu_time_s", "peak_rss_mib"})
    if not run.scores:
        yield common | {"value_reason": f"run {run.status.replace('_', ' ')}"}
    for score in run.scores:
        yield common | {
            "metric_id": score.metric_id,
            "aspect": score.aspect,
            "value": score.value,
            "value_reason": score.reason,
            "standard_error": score.standard_error,
        }


def escape(text: str) -> str:
    r"""Make any text safe inside a Markdown table cell.

    Examples
    --------
    >>> escape("a|b <i>")
    'a\\|b &lt;i&gt;'
    """
    safe = re.sub(r"([\\`*\[\]|])", r"\\\1", text.replace("&", "&amp;"))
    return " ".join(safe.replace("<", "&lt;").replace(">", "&gt;").split())


def markdown(
    boards: Sequence[Board],
    records: Sequence[RunRecord],
    specs: Mapping[str, MetricSpec],
    *,
    title: str,
    view: View = "default",
) -> str:
    """Return the boards as GitHub-flavoured Markdown; ``view`` as in :func:`cellular_bench.reports.write`."""
    parts = [f"# {escape(title)}", f"{runs_in_words(records)}."]
    for board in boards:
        parts += _board_markdown(board, view)
    old = outdated(records, specs)
    if old:
        parts += ["## Versions that differ", "\n".join(f"- {escape(text)}." for text in old)]
    used = [spec for key, spec in specs.items() if any(spec in board.metrics for board in boards)]
    if used:
        parts += ["## Metrics", *(_definition(spec) for spec in used)]
    return "\n\n".join(parts) + "\n"


def _board_markdown(board: Board, view: View) -> list[str]:
    summary = overview(board)
    parts = [f"## {escape(summary.title)} ({summary.subtitle})", f"{summary.facts}. {summary.runs}."]
    for winner in summary.winners:
        names = ", ".join(escape(name) for name in winner.names)
        parts.append(f"{winner.title}: **{names}**, {winner.score} {winner.spread}".rstrip() + ".")
    formula = weights_in_words(board.task, board.metrics)
    brackets = f"95 % interval over {units_in_words(board)}"
    overall = f"Overall = {formula}; mean [{brackets}], aspects ± standard deviation."
    parts.append(f"{overall} {transductive_in_words(board)}".rstrip())
    for table in board_tables(board, view):
        # What other captions say is said above, or is of colours.
        meaning = (escape(table.caption),) if table.kind == "robustness" else ()
        parts += [f"### {table.title}", *meaning, table_markdown(table), *_notes(table)]
    failures = [run for row in board.rows for run in row.failures]
    if failures:
        parts += ["### Runs without scores", *(_failure(run) for run in failures)]
    return parts


def table_markdown(table: Table) -> str:
    """Return a table with one row per method; the group of a row is its second column."""
    head = ["Method", "Track", *(escape(column.title) for column in table.columns)]
    rows = [head, ["---", "---", *("---:" for _ in table.columns)]]
    for group in table.groups:
        for line in group.lines:
            track = line.track if group.key != "incomplete" else f"{line.track}, incomplete"
            rows.append([_name(line), track, *(_cell(cell) for cell in line.cells)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _name(line: Line) -> str:
    remark = f" — {line.remark}" if line.remark else ""
    return escape(f"{line.marked_name}{remark}")


def _cell(cell: Cell) -> str:
    note = f" \\[{cell.note}\\]" if cell.note else ""
    count = f" ({cell.count})" if cell.count else ""
    mark = "≈ " if cell.approximate else ""
    return f"{mark}{cell.text}{f' {cell.detail}' if cell.detail else ''}{count}{note}"


def _notes(table: Table) -> list[str]:
    if not table.notes:
        return []
    lines = [
        f"- \\[{note.number}\\] {escape(note.reason)} ({escape('; '.join(note.places))})"
        for note in table.notes
    ]
    return ["Missing values:", "\n".join(lines)]


def _failure(run: RunRecord) -> str:
    where = f"{run.method.name}, split {run.split.split_id}, seed {run.seed}"
    return f"- **{escape(where)}**: {run.status.replace('_', ' ')}. {escape(run.reason or '')}"


def _definition(spec: MetricSpec) -> str:
    better = "higher" if spec.higher_is_better else "lower"
    doi = f" [doi:{spec.doi}](https://doi.org/{spec.doi})" if spec.doi else ""
    span = f"{spec.minimum:g} to {spec.maximum:g}, {better} is better"
    return f"- **{escape(spec.name)}** ({span}): {escape(spec.definition)}{doi}"
