"""The ranking of a board: scores with intervals, and how sure the order is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cellular_bench.benchmark.analysis.leaderboard import Board, Row, Summary, method_key
from cellular_bench.benchmark.analysis.rank_stability import against_best, between_controls
from cellular_bench.benchmark.analysis.scales import on_scales
from cellular_bench.benchmark.analysis.statistics import Comparison
from cellular_bench.core.types import AspectId, aspect_title
from cellular_bench.reports.tables.common import (
    RANKED,
    display_names,
    grouped,
    method_anchor,
    overall_spread,
    scales_json,
    transductive_in_words,
    units_in_words,
)
from cellular_bench.reports.tables.model import (
    MISSING,
    Cell,
    Column,
    Notes,
    Table,
    cost_cell,
    number,
    score_cell,
)


def ranking_table(board: Board) -> Table:
    """Return rank, overall, aspects, evidence against the best, coverage and cost of each method."""
    notes = Notes()
    aspects = tuple(board.rows[0].aspects)
    shown = aspects if len(aspects) > 1 else ()
    names = display_names(board)
    controlled = between_controls(board)
    versus = {key: found for track in RANKED for key, found in against_best(board, track).items()}

    def cells(row: Row) -> tuple[Cell, ...]:
        key = method_key(row.method)
        full = " ".join(names[key]).strip()
        done, planned = row.coverage
        out = [Cell(text=str(row.rank) if row.rank else MISSING, sort=row.rank, reason=_unranked(row))]
        overall = _plain_score(row.overall, done, row, (notes, full, "overall"))
        out.append(replace(overall, detail=overall_spread(row)))
        out += [
            _plain_score(row.aspects[aspect], done, row, (notes, full, aspect_title(aspect)))
            for aspect in shown
        ]
        out.append(_versus_cell(row, versus.get(key), units_in_words(board)))
        out += [_control_scale_cell(row, controlled.get(key))] if controlled else []
        out.append(Cell(text=f"{done} of {planned}", sort=done / planned))
        out += [cost_cell(cost) for cost in (row.wall_time_s, row.cpu_time_s, row.peak_rss_mib)]
        return tuple(out)

    scales = on_scales(board)
    told = {method_anchor(row.method): scales_json(row, scales[method_key(row.method)]) for row in board.rows}
    groups = tuple(
        replace(group, lines=tuple(replace(line, scales=told[line.anchor]) for line in group.lines))
        for group in grouped(board, cells)
    )
    return Table(
        table_id=f"{board.board_id}-ranking",
        board_id=board.board_id,
        kind="ranking",
        title="Ranking",
        caption=f"Overall: mean [95 % confidence interval over {units_in_words(board)}]; elsewhere mean ± "
        "standard deviation over splits and seeds. Ranked within each track. "
        f"{transductive_in_words(board)}".rstrip(),
        columns=_ranking_columns(shown, with_controls=bool(controlled), units=units_in_words(board)),
        groups=groups,
        notes=notes.all(1 + len(shown)),
    )


def _ranking_columns(aspects: Sequence[AspectId], *, with_controls: bool, units: str) -> tuple[Column, ...]:
    corrected = "corrected for overlapping training cells and" if units == "splits" else "corrected"
    controls = Column(
        title="Between controls",
        hint="Overall with each metric scaled between the worst (0) and the best (1) control of a split",
    )
    return (
        Column(title="Rank", hint="Place among the complete rows of the same track", best="low", key="rank"),
        Column(title="Overall", hint="Weighted mean of the aspect scores, 0 to 1", key="overall"),
        *(
            Column(
                title=aspect_title(aspect),
                hint="Mean of the aspect's metrics, each scaled to 0 ... 1",
                key=f"aspect-{place}",
            )
            for place, aspect in enumerate(aspects)
        ),
        Column(
            title="Told from best",
            hint=f"p value of the difference to the track's best row: t test on the same {units}, "
            f"{corrected} for the number of rows; below 0.05 they are told apart",
            best="low",
        ),
        *([controls] if with_controls else []),
        Column(title="Runs", hint="Runs with scores, of all runs"),
        Column(title="Wall time, s", hint="Mean per run, training and prediction", best="low"),
        Column(title="CPU time, s", hint="Mean per run", best="low"),
        Column(title="Peak memory, MiB", hint="Largest resident memory of the process tree", best="low"),
    )


def _versus_cell(row: Row, comparison: Comparison | None, units: str) -> Cell:
    if comparison is None:
        reason = _unranked(row) or "no other row in its track"
        return Cell(text="best", sort=-1.0) if row.rank == 1 else Cell(text=MISSING, reason=reason)
    wins = f"the best is ahead on {comparison.wins:.0%} of {comparison.n} {units}"
    if comparison.p_value is None:
        return Cell(text=MISSING, reason=f"{comparison.reason}; {wins}")
    text = "p < 0.001" if comparison.p_value < 0.001 else f"p = {comparison.p_value:.3f}"
    verdict = "told apart" if comparison.is_different else "not told apart"
    return Cell(text=text, sort=comparison.p_value, detail=verdict)


def _control_scale_cell(row: Row, value: float | None) -> Cell:
    if value is None:
        return Cell(text=MISSING, reason=row.incomplete_because or "no metric on which the controls differ")
    return Cell(text=number(value), sort=value, detail="outside" if not -1e-9 <= value <= 1 + 1e-9 else "")


def _plain_score(summary: Summary, done: int, row: Row, place: tuple[Notes, str, str]) -> Cell:
    """Write an overall or aspect score; a missing one has the row's reason."""
    share = summary.mean
    if summary.n < done or summary.mean is None:
        reason = row.incomplete_because or "a metric is missing"
        summary = Summary(mean=summary.mean, std=summary.std, n=summary.n)
        cell = score_cell(summary, done, share, place)
        note = place[0].number(reason, place[1], place[2])
        return replace(cell, note=note, reason=reason)
    return score_cell(summary, done, share, place)


def _unranked(row: Row) -> str:
    if row.rank:
        return ""
    return row.incomplete_because or "controls are not ranked"
