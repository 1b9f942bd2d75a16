"""The ranking on the scale of the CELLULAR study: between the worst and the best method of a fold."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from cellular_bench.benchmark.analysis.leaderboard import Board, BoardRow, method_key, under
from cellular_bench.benchmark.analysis.rank_stability import ranks
from cellular_bench.benchmark.analysis.scales import (
    by_aspect,
    mean_over_units,
    over_methods,
    overall,
    own_range,
)
from cellular_bench.benchmark.external.published_comparison import STUDY_ASPECTS
from cellular_bench.core.types import aspect_title
from cellular_bench.reports.tables.method_rows import method_rows
from cellular_bench.reports.tables.model import Cell, Column, Table, count_cell, missing, number_cell

CAPTION: Final = (
    "Each metric between the worst (0) and the best (1) method of the same split, controls aside, as in "
    "the figures of the CELLULAR study. A score depends on who else is in the table: leave a method out, and "
    "all others change. Only for comparison with the study; all tracks are mixed, as there."
)


def min_max_table(board: Board) -> Table | None:
    """Return overall and aspects by min-max over methods; None if fewer than two methods are complete."""
    if not STUDY_ASPECTS.keys() <= board.weights.keys():
        return None
    study, is_study = as_study(under(board, "scib"))
    rows = tuple(r for r in study.rows if r.incomplete_because is None and r.track != "control")
    if len(rows) < 2:
        return None
    values = own_range(study, rows)
    array = over_methods(values)
    weights = {aspect: weight for aspect, (weight, _) in STUDY_ASPECTS.items()}
    aspects = {aspect: scores for aspect, scores in by_aspect(study, array).items() if aspect in weights}
    means = {aspect: mean_over_units(scores, values.units) for aspect, scores in aspects.items()}
    total = overall(study, array, weights, values.units)
    places = ranks(total)
    positions = {method_key(row.method): i for i, row in enumerate(rows)}

    def cells(row: BoardRow) -> tuple[Cell, ...] | None:
        i = positions.get(method_key(row.method))
        if i is None:
            return None
        scores = (total[i], *(scores[i] for scores in means.values()))
        unknown = missing("all methods are equal on every metric")
        return (
            count_cell(int(places[i])),
            *(unknown if np.isnan(s) else number_cell(float(s)) for s in scores),
        )

    which = "the metrics of the study" if is_study else "the metrics of our overall score"
    return Table(
        table_id=f"{board.board_id}-min-max",
        title="Min-max over methods (the study\u2019s scale)",
        caption=f"{CAPTION} Based on {which}.",
        columns=(
            Column("Rank", hint="Among all methods", best="low"),
            Column("Overall", hint="0.4 of batch correction and 0.6 of bio conservation"),
            *(Column(aspect_title(aspect), hint="Mean of its scaled metrics") for aspect in means),
        ),
        rows=method_rows(board, cells),
    )


def as_study(board: Board) -> tuple[Board, bool]:
    """Return the board with the metrics of the study in its overall score, and whether it has them all."""
    wanted = {metric_id: aspect for aspect, (_, ids) in STUDY_ASPECTS.items() for metric_id in ids}
    if not wanted.keys() <= {spec.metric_id for spec in board.metrics}:
        return board, False
    specs = (replace(spec, in_overall=spec.metric_id in wanted) for spec in board.metrics)
    return replace(board, metrics=tuple(specs)), True
