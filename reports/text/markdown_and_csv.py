"""A report for programs and repositories: ``scores.csv``, ``leaderboard.csv`` and ``leaderboard.md``."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from cellular_bench.benchmark.analysis.leaderboard import Board, BoardRow, method_key
from cellular_bench.benchmark.schema.records import MethodIdentity, RunRecord
from cellular_bench.benchmark.schema.weights import weights_text
from cellular_bench.core.text import cut, one_line, visible
from cellular_bench.reports.report import BoardReport, Report, Section
from cellular_bench.reports.tables.model import Cell, Table, TableRow
from cellular_bench.reports.tables.overview import runs_in_words

CSV_COLUMNS = (
    "run_id", "suite_id", "task", "dataset_id", "split_id", "split_kind", "method_id", "method_params",
    "seed", "status", "reason", "metric_id", "aspect", "value", "value_reason", "standard_error",
    "profile", "wall_time_s", "cpu_time_s", "peak_rss_mib", "warm_up_s",
    "group_by", "group", "dataset_version", "setting",
)  # fmt: skip


#: What spreadsheets take for the beginning of a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d*)?(e[+-]?\d+)?")


def scores_csv(records: Sequence[RunRecord]) -> str:
    """Return one line per run and metric, and per mean of a label or batch; see :func:`score_rows`."""
    return csv_text(CSV_COLUMNS, (row for run in records for row in score_rows(run)))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return mappings of columns as CSV; what is absent or None is empty.

    A spreadsheet runs no text as a formula: see :func:`inert`.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: inert(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def inert(value: Any) -> Any:
    r"""Return a value as a cell of a table: numbers as they are, text so that nothing obeys it.

    An apostrophe stands before what a spreadsheet would take for a formula; what cannot be seen is written
    as escapes.

    Examples
    --------
    >>> [inert(value) for value in ("=1+1", "-0.5", -0.5, "-x", "a=1", "\t=1")]
    ["'=1+1", '-0.5', -0.5, "'-x", 'a=1', "'\t=1"]
    """
    if not isinstance(value, str):
        return value
    is_formula = value.startswith(_FORMULA) and not _NUMBER.fullmatch(value)
    return visible(f"'{value}" if is_formula else value)


def score_rows(run: RunRecord) -> Iterator[dict[str, Any]]:
    """Yield a mapping of :data:`CSV_COLUMNS` per score; what a run lacks is absent or None.

    A run without scores has one row with no metric. Means over a label or batch come after the scores. Their
    ``metric_id`` is the name of the quantity with ``_by_label`` or ``_by_batch``, which no metric has: what
    reads scores by their metric does not read them, too.
    """
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
        "reason": None if run.reason is None else cut(run.reason),
        "dataset_version": run.dataset.version_id,
        "setting": _setting(run.method),
    }
    if run.evaluation is not None:
        common["profile"] = run.evaluation.profile
    if run.cost is not None:
        common |= run.cost.model_dump(include={"wall_time_s", "cpu_time_s", "peak_rss_mib", "warm_up_s"})
    if not run.scores:
        yield common | {"value_reason": f"run {run.status.replace('_', ' ')}"}
    for score in run.scores:
        fields = score.model_dump(include={"metric_id", "aspect", "value", "standard_error"})
        yield common | fields | {"value_reason": None if score.reason is None else cut(score.reason)}
    for one in run.per_group:
        group = {"group_by": one.by, "group": cut(one.name)}
        for quantity, value in one.values.items():
            yield common | group | {"metric_id": f"{quantity}_by_{one.by}", "value": value}


def leaderboard_csv(boards: Sequence[Board]) -> str:
    """Return one line per method, setting and board; what a board has no column for is empty."""
    rows = leaderboard_rows(boards)
    return csv_text(list(dict.fromkeys(name for row in rows for name in row)), rows)


def leaderboard_rows(boards: Sequence[Board]) -> list[dict[str, Any]]:
    """Return a mapping for each method and board, the best of each board first.

    Rows at other settings of the preprocessing, which have no rank, come after those of their board.
    """
    return [_leaderboard_row(board, row) for board in boards for row in (*board.rows, *board.settings)]


def scheme_of(board: Board) -> str:
    """Return how the splits of a board were cut, in short."""
    return board.splits[0].scheme or board.split_kind


def _leaderboard_row(board: Board, row: BoardRow) -> dict[str, Any]:
    ok, wanted = row.coverage
    weighed = {aspect: weight for aspect, weight in board.rule.weights.items() if weight > 0}
    other = {}
    if board.other_rule is not None and row.other is not None:
        name = board.other_rule.name
        other = {f"{name}_overall": row.other.overall.mean, f"{name}_rank": row.other.rank}
    return {
        "task": board.task,
        "dataset_id": board.dataset.dataset_id,
        "split": scheme_of(board),
        "rank": row.rank,
        "track": row.track,
        "method_id": row.method.method_id,
        "method": row.method.name,
        "overall": row.overall.mean,
        "overall_std": row.overall.std,
        **other,
        **{aspect: found.mean for aspect, found in row.aspects.items()},
        "n_ok": ok,
        "n_runs": wanted,
        "wall_time_s": row.wall_time_s.mean,
        "peak_rss_mib": row.peak_rss_mib.mean,
        "warm_up_s": row.warm_up_s.mean,
        "incomplete_because": row.incomplete_because,
        "leak_canary": board.canary.verdict(method_key(row.method)) if board.canary else None,
        "dataset_version": board.dataset.version_id,
        "rule": board.rule.name,
        "weights": weights_text(weighed),
        "setting": _setting(row.method),
    }


def _setting(method: MethodIdentity) -> str:
    """Return what the harness gave a method: ``"default"``, or what differed."""
    return method.preprocessing.name if method.preprocessing else "default"


def escape(text: str) -> str:
    r"""Make any text safe inside a Markdown table cell: one line without markup, HTML or mathematics.

    Examples
    --------
    >>> escape("a|b <i>")
    'a\\|b &lt;i&gt;'
    """
    return re.sub(r"([\[\]])", r"\\\1", _plain(text))


def _plain(text: str) -> str:
    """Escape all but square brackets, which intervals have."""
    safe = re.sub(r"([\\`*|$~])", r"\\\1", one_line(text).replace("&", "&amp;"))
    return safe.replace("<", "&lt;").replace(">", "&gt;")


def markdown(report: Report) -> str:
    """Return a report as GitHub-flavoured Markdown."""
    parts = [f"# {escape(report.title)}", f"{runs_in_words(report.records)}."]
    for made in report.parts:
        parts += _heading(made)
        for table in made.tables:
            parts += [f"### {escape(table.title)}", *table_markdown(table)]
    return "\n\n".join(parts) + "\n"


def _heading(made: Section | BoardReport) -> Iterator[str]:
    if isinstance(made, Section):
        yield f"## {made.title}"
        return
    summary = made.summary
    yield f"## {escape(summary.title)} ({summary.subtitle})"
    yield f"{summary.facts}. {summary.runs}."
    if summary.caution:
        yield escape(summary.caution)
    for winner in summary.winners:
        names = ", ".join(escape(name) for name in winner.names)
        score = f"{winner.score} {winner.spread}".rstrip()
        yield " ".join([f"{winner.title}: **{names}**, {score}.", *map(escape, winner.verdicts)])
    if summary.canary:
        yield escape(summary.canary)


def table_markdown(table: Table) -> Iterator[str]:
    """Yield the paragraphs of a table below its title; the track of a method is its second column."""
    yield from (escape(text) for text in (table.lead, table.caption) if text)
    head = [escape(table.head), *(escape(column.title) for column in table.columns)]
    rules = ["---", *("---" if column.is_words else "---:" for column in table.columns)]
    names = (f"{row.full_name} — {row.remark}" if row.remark else row.full_name for row in table.rows)
    rows = [[escape(name), *map(_cell, row.cells)] for name, row in zip(names, table.rows, strict=True)]
    if table.is_of_methods:
        tracks = ["Track", "---", *map(_track, table.rows)]
        for line, track in zip((head, rules, *rows), tracks, strict=True):
            line.insert(1, track)
    yield "\n".join("| " + " | ".join(line) + " |" for line in (head, rules, *rows))
    for remarks in table.remarks:
        yield f"{remarks.title}: {escape(remarks.lead)}".rstrip()
        numbers = [_note(i) if remarks.is_numbered else "" for i in range(1, 1 + len(remarks.items))]
        yield "\n".join(f"- {n}{escape(text)}" for n, text in zip(numbers, remarks.items, strict=True))


def _track(row: TableRow) -> str:
    return f"{row.track}, incomplete" if row.group and row.group.key == "incomplete" else row.track


def _note(number: int) -> str:
    return f"\\[{number}\\] "


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.href.startswith("http"):
        text = f"[{text}]({cell.href})"
    mark = {"strong": "**", "mild": "*", "": ""}[cell.emphasis]
    count = f"({cell.count})" if cell.count else ""
    note = _note(cell.note) if cell.note else ""
    parts = ("≈" if cell.approximate else "", f"{mark}{text}{mark}", _plain(cell.detail), count, note)
    words = " ".join(filter(None, parts)).rstrip()
    return words if cell.below is None else f"{words}; {_cell(cell.below)}"
