"""The ranking of a board: scores with intervals, and which differences are significant."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cellular_bench.benchmark.analysis.leaderboard import (
    RANKED,
    Board,
    BoardRow,
    OtherScore,
    Summary,
    is_transductive,
    marks_scale,
    method_key,
)
from cellular_bench.benchmark.analysis.rank_stability import against_best, between_controls
from cellular_bench.benchmark.analysis.scales import WITHOUT_HIGH_CONTROL, Scale, UnitAspects, on_scales
from cellular_bench.benchmark.analysis.statistics import Comparison, half_width
from cellular_bench.benchmark.tasks import Rule
from cellular_bench.core.types import AspectId, aspect_title
from cellular_bench.reports.tables.method_rows import (
    method_rows,
    overall_spread,
    runs_anchor,
    units_in_words,
    versus_best_cell,
)
from cellular_bench.reports.tables.model import (
    Cell,
    Column,
    Table,
    cost_cell,
    missing,
    number_cell,
    score_cell,
)
from cellular_bench.reports.tables.overview import other_title, own_formula, rule_in_words, weights_notes


def ranking_table(board: Board) -> Table:
    """Return rank, overall, aspects, comparison with the best, coverage and cost of each method.

    The overall score under the other rule of the board stands beside that under its own.
    """
    shown = board.aspects if len(board.aspects) > 1 else ()
    controlled = between_controls(board)
    versus = {key: one for track in RANKED for key, one in against_best(board, track).items()}
    units = units_in_words(board)
    warmed = any(row.warm_up_s.mean is not None for row in board.rows)

    def cells(row: BoardRow) -> tuple[Cell, ...]:
        key = method_key(row.method)
        done, planned = row.coverage
        return (
            Cell(str(row.rank), sort=row.rank) if row.rank else missing(_unranked(row)),
            _overall(board, row),
            *([_other(row.other)] if row.other is not None else []),
            *(_score(row, row.aspects[aspect]) for aspect in shown),
            _versus_cell(row, versus.get(key), units),
            *([_control_scale_cell(row, controlled.get(key))] if controlled else []),
            Cell(f"{done} of {planned}", sort=done / planned),
            *map(cost_cell, (row.wall_time_s, row.cpu_time_s, row.peak_rss_mib)),
            *([cost_cell(row.warm_up_s)] if warmed else []),
        )

    scales = on_scales(board)
    return Table(
        table_id=f"{board.board_id}-ranking",
        kind="ranking",
        title="Ranking",
        caption=_caption(board, units),
        columns=_columns(
            shown, board.other_rule, with_controls=bool(controlled), with_warm_up=warmed, units=units
        ),
        rows=method_rows(
            board,
            cells,
            remark=lambda row: row.incomplete_because or _outside_controls(row, board),
            scales=lambda row: _scales_json(row, scales[method_key(row.method)]),
        ),
    )


def _caption(board: Board, units: str) -> str:
    caption = " ".join(
        [
            f"Overall = {own_formula(board)}: mean with its 95 % confidence interval over {units}.",
            *([_other_in_words(board.other_rule)] if board.other_rule is not None else []),
            *weights_notes(board),
            "Other columns: mean ± standard deviation over splits and seeds. Ranked within each track.",
        ]
    )
    if any(is_transductive(row.runs[0]) for row in board.rows):
        caption += " Transductive methods embed the scored cells alone; others learn from training cells."
    return caption


def _columns(
    aspects: Sequence[AspectId],
    other: Rule | None,
    *,
    with_controls: bool,
    with_warm_up: bool,
    units: str,
) -> tuple[Column, ...]:
    mean = "Mean of the aspect's metrics, each scaled to 0 ... 1"
    overlap = "overlapping training cells and for " if units == "splits" else ""
    test = (
        f"p value of the difference from the best method of the track: t test over the same {units}, "
        f"corrected for {overlap}the number of methods; significant below 0.05"
    )
    before = "Mean per run, before the clock starts: imports, and a first call on made-up cells that compiles"
    between = "Overall with each metric scaled between the worst (0) and the best (1) control of a split"
    return (
        Column("Rank", hint="Among the complete methods of the same track", best="low", key="rank"),
        Column("Overall", "bar", hint="Weighted mean of the aspect scores, 0 to 1", key="overall"),
        *([_other_column(other)] if other is not None else []),
        *(Column(aspect_title(a), "bar", hint=mean, key=f"aspect-{i}") for i, a in enumerate(aspects)),
        Column("Versus best", hint=test, best="low"),
        *([Column("Between controls", hint=between)] if with_controls else []),
        Column("Runs", hint="Runs with scores, of all runs"),
        Column("Wall time, s", hint="Mean per run, training and prediction", best="low"),
        Column("CPU time, s", hint="Mean per run", best="low"),
        Column("Peak memory, MiB", hint="Largest resident memory of the process tree", best="low"),
        *([Column("Warm-up, s", hint=before, best="low")] if with_warm_up else []),
    )


def _score(row: BoardRow, summary: Summary) -> Cell:
    """Return an overall or aspect score; a missing one has the row's reason."""
    done, _ = row.coverage
    cell = score_cell(summary, done, summary.mean)
    if summary.n < done or summary.mean is None:
        return replace(
            cell, reason=row.incomplete_because or "; ".join(summary.reasons) or "a metric is missing"
        )
    return cell


def _overall(board: Board, row: BoardRow) -> Cell:
    cell = _score(row, row.overall)
    if cell.is_missing:
        return cell
    return replace(cell, detail=overall_spread(row), href=f"#{runs_anchor(board, row.method)}")


def _other_in_words(rule: Rule) -> str:
    return f"{other_title(rule)} = {rule_in_words(rule)}, with the rank by it."


def _other_column(rule: Rule) -> Column:
    hint = f"{rule_in_words(rule)}, and the rank by it among the methods of the track"
    return Column(other_title(rule), "bar", hint=hint)


def _other(other: OtherScore) -> Cell:
    """Return the score under the other rule, with its rank."""
    mean = other.overall.mean
    if mean is None:
        return missing(other.incomplete_because or "no run has a value")
    cell = number_cell(mean, f"rank {other.rank}" if other.rank else "")
    return replace(cell, share=mean, reason=other.incomplete_because or "")


def _versus_cell(row: BoardRow, comparison: Comparison | None, units: str) -> Cell:
    if comparison is None and row.rank != 1:
        return missing(_unranked(row) or "no other method in its track")
    cell = versus_best_cell(comparison)
    if comparison is None or not cell.is_missing:
        return cell
    return missing(f"{cell.reason}; the best is ahead on {comparison.wins:.0%} of {comparison.n} {units}")


def _control_scale_cell(row: BoardRow, value: float | None) -> Cell:
    if value is None:
        return missing(row.incomplete_because or "no metric on which the controls differ")
    return number_cell(value, detail="" if -1e-9 <= value <= 1 + 1e-9 else "outside")


def _unranked(row: BoardRow) -> str:
    return "" if row.rank else row.incomplete_because or "controls are not ranked"


def _outside_controls(row: BoardRow, board: Board) -> str:
    """Say if a complete method scores outside the range of the controls; empty if it does not."""
    ends = [r.overall.mean for r in board.rows if marks_scale(r) and r.overall.mean is not None]
    if row.track == "control" or row.overall.mean is None or len(ends) < 2:
        return ""
    if row.overall.mean > max(ends):
        # Where an aspect has no control that scores high, this is as it should be.
        return "" if WITHOUT_HIGH_CONTROL & board.rule.needs else "above every control"
    return "below every control" if row.overall.mean < min(ends) else ""


def _scales_json(row: BoardRow, scales: Mapping[Scale, Sequence[UnitAspects]]) -> str:
    """Write the aspect scores of a row on every scale for the page's script; see ``TableRow.scales``."""
    written = {}
    for scale, units in scales.items():
        has_interval = len(units) > 1 and row.incomplete_because is None
        half = round(half_width([one.overlap for one in units]), 6) if has_interval else None
        aspects = [[value if value is None else round(value, 7) for value in one.aspects] for one in units]
        written[scale] = {"half": half, "units": aspects}
    return json.dumps(written, separators=(",", ":"))
