"""How well each label is recognised: F1 scores by label, and scores by held-out label."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    BoardRow,
    Summary,
    over_units,
    run_failure,
    unit_of,
)
from cellular_bench.benchmark.schema.records import LabelScore, RunRecord
from cellular_bench.reports.tables.method_rows import method_rows
from cellular_bench.reports.tables.model import Cell, Column, Table, missing, score_cell


def labels_table(board: Board) -> Table | None:
    """Return the F1 score of each label and method; None if no run has per-label results."""
    runs = [run for row in board.rows for run in row.runs if run.per_label]
    support = cells_per_run([{score.label: score.support for score in run.per_label} for run in runs])
    if not support:
        return None

    def cells(row: BoardRow) -> tuple[Cell, ...]:
        by_label = [{score.label: score for score in run.per_label} for run in row.runs]
        return tuple(_f1_cell(row.runs, [scores.get(label) for scores in by_label]) for label in support)

    return Table(
        table_id=f"{board.board_id}-labels",
        kind="dense",
        title="F1 score by label",
        caption="Mean ± standard deviation over the runs in which scored cells have the label: the same runs "
        "for every method. Under each label: mean number of its scored cells per run.",
        columns=tuple(
            Column(label, "heat", hint=f"{n} scored cells per run on average", sub=n)
            for label, n in support.items()
        ),
        rows=method_rows(board, cells),
    )


def cells_per_run(runs: Sequence[Mapping[str, int]]) -> dict[str, str]:
    """Return the mean number of cells of each label or batch in words, the most frequent one first.

    ``runs`` are the numbers of cells in each run. Of what a run does not list it has no cell.
    """
    totals: Counter[str] = Counter()
    for sizes in runs:
        totals.update(sizes)
    means = {name: total / len(runs) for name, total in totals.items()}
    return {
        name: f"{mean:,.0f}" if mean >= 10 or mean.is_integer() else f"{mean:.2g}"
        for name, mean in sorted(means.items(), key=lambda item: (-item[1], item[0]))
    }


def _f1_cell(runs: Sequence[RunRecord], scores: Sequence[LabelScore | None]) -> Cell:
    """Return the mean F1 score of a label over the runs of a row whose scored cells have it.

    In other runs it is 0 for a method that gives the label once and undefined for one that does not: means
    would be over other runs for each method.
    """
    values = [score.f1 if score is not None and score.support > 0 else None for score in scores]
    reasons = []
    for run, value in zip(runs, values, strict=True):
        if value is None:
            without = "no scored cell has this label" if run.per_label else "no scores by label"
            reasons.append(run_failure(run) if run.status != "ok" else without)
    summary = over_units(runs, values, reasons)
    return score_cell(summary, len(runs), summary.mean)


def held_out_table(board: Board) -> Table | None:
    """Return the overall score by held-out label; None if fewer than two labels were held out."""
    labels = list(dict.fromkeys(unit_of(split)[0] for split in board.splits if split.unseen_labels))
    if len(labels) < 2:
        return None

    def cells(row: BoardRow) -> tuple[Cell, ...]:
        by_label = _by_held_out(row)
        return tuple(by_label.get(label) or missing("never run with this label held out") for label in labels)

    return Table(
        table_id=f"{board.board_id}-held-out",
        kind="dense",
        title="Score by held-out label",
        caption="Overall score with the label held out: mean ± standard deviation over splits and seeds.",
        columns=tuple(Column(label, kind="heat", hint="Held out of training") for label in labels),
        rows=method_rows(board, cells),
    )


def _by_held_out(row: BoardRow) -> dict[str, Cell]:
    """Return the mean overall score of the runs of a row, by what was held out."""
    scores = dict(zip((run.run_id for run in row.done), row.run_scores, strict=True))
    values, reasons = defaultdict(list), defaultdict(list)
    for run in row.runs:
        label = unit_of(run.split)[0]
        value = scores.get(run.run_id)
        values[label].append(value)
        if value is None:
            reasons[label].append(run_failure(run) if run.status != "ok" else "a metric is missing")
    summaries = {label: Summary.of(values[label], reasons[label]) for label in values}
    return {label: score_cell(one, len(values[label]), one.mean) for label, one in summaries.items()}
