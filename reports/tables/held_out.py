"""Which new cell types a method finds: the score of each label that was held out."""

from __future__ import annotations

from collections import defaultdict

from cellular_bench.benchmark.analysis.leaderboard import Board, Row, method_key, summarise, unit_of
from cellular_bench.reports.tables.common import display_names, grouped
from cellular_bench.reports.tables.model import MISSING, Cell, Column, Notes, Table, score_cell


def held_out_table(board: Board) -> Table | None:
    """Return the overall score by held-out label; None where fewer than two labels were held out."""
    labels = list(dict.fromkeys(unit_of(split)[0] for split in board.splits if split.unseen_labels))
    if len(labels) < 2:
        return None
    names = display_names(board)
    notes = Notes()

    def cells(row: Row) -> tuple[Cell, ...]:
        found = _by_label(row)
        full = " ".join(names[method_key(row.method)]).strip()
        return tuple(_cell(found.get(label, []), (notes, full, label)) for label in labels)

    return Table(
        table_id=f"{board.board_id}-held-out",
        kind="labels",
        title="Score of each held-out label",
        caption="Overall score with the label held out: mean ± standard deviation over splits and seeds.",
        columns=tuple(Column(title=label, hint="held out of training") for label in labels),
        groups=grouped(board, cells),
        notes=notes.all(len(labels)),
    )


def _by_label(row: Row) -> dict[str, list[tuple[float | None, str | None]]]:
    """Return score and reason of each run, by what was held out."""
    scores = dict(zip((run.run_id for run in row.done), row.run_scores, strict=True))
    found = defaultdict(list)
    for run in row.runs:
        reason = f"run {run.status.replace('_', ' ')}: {run.reason}" if run.status != "ok" else None
        value = scores.get(run.run_id)
        if value is None and reason is None:
            reason = "a metric is missing"
        found[unit_of(run.split)[0]].append((value, reason))
    return found


def _cell(runs: list[tuple[float | None, str | None]], place: tuple[Notes, str, str]) -> Cell:
    if not runs:
        return Cell(text=MISSING, reason="never run with this label held out")
    summary = summarise([value for value, _ in runs], [reason for _, reason in runs])
    return score_cell(summary, len(runs), summary.mean, place)
