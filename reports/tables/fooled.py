"""Which scores canary embeddings fool."""

from __future__ import annotations

from dataclasses import replace

from cellular_bench.benchmark.analysis.fooled import Fooled, Gains, fooled
from cellular_bench.benchmark.analysis.leaderboard import Board, method_key
from cellular_bench.benchmark.registry import built_in_canaries
from cellular_bench.core.types import aspect_title
from cellular_bench.metrics.fooled_by import LEAST_GAIN, is_fooled
from cellular_bench.reports.tables.formatting import signed
from cellular_bench.reports.tables.method_rows import display_names, full_names
from cellular_bench.reports.tables.model import Cell, Column, Table, TableRow, marked, missing, number_cell


def fooled_table(board: Board) -> Table | None:
    """Return what each canary gains on each score; None for a board without canaries."""
    found = fooled(board)
    if found is None:
        return None
    name = full_names(board)[method_key(found.undamaged.method)]
    return Table(
        table_id=f"{board.board_id}-fooled",
        kind="dense",
        title="Fooled by",
        lead=(
            "Canary embeddings are controls that nobody should use. A score that they raise rewards "
            "something else than good integration."
        ),
        caption=(
            f"Score of each canary minus that of {name} on the same splits, on the score\u2019s own range "
            f"from 0 to 1; in bold above {LEAST_GAIN:g}, where the score is fooled."
        ),
        head="Score",
        columns=_columns(board, found),
        rows=_rows(board, found),
    )


def _columns(board: Board, found: Fooled) -> tuple[Column, ...]:
    names, known = display_names(board), built_in_canaries()
    titles = []
    for row in found.canaries:
        _, detail = names[method_key(row.method)]
        titles.append(marked(known[row.method.method_id].canary or row.method.name, detail))
    return (
        Column("Aspect", "text"),
        Column("Canaries that fool it", hint="Of those with a value", best="low"),
        *(
            Column(title, hint=f"{row.method.name}: gain", group="Gain of", best="low")
            for title, row in zip(titles, found.canaries, strict=True)
        ),
    )


def _rows(board: Board, found: Fooled) -> tuple[TableRow, ...]:
    order = list(dict.fromkeys([*board.weights, *(spec.aspect for spec in board.metrics)]))
    specs = sorted(board.metrics, key=lambda spec: order.index(spec.aspect))
    return (
        _row("Overall", "all", found.overall),
        *(
            _row(f"{aspect_title(name)}, mean", aspect_title(name), found.aspects[name])
            for name in board.weights
        ),
        *(_row(spec.name, aspect_title(spec.aspect), found.metrics[spec.metric_id]) for spec in specs),
    )


def _row(name: str, aspect: str, gains: Gains) -> TableRow:
    known = [gain for gain in gains if gain is not None]
    n_fooled = sum(map(is_fooled, known))
    count = Cell(f"{n_fooled} of {len(known)}", sort=n_fooled) if known else missing("no canary has a value")
    return TableRow(name, (Cell(aspect), count, *map(_cell, gains)))


def _cell(gain: float | None) -> Cell:
    if gain is None:
        return missing("no run of both has a value")
    return replace(number_cell(gain), text=signed(gain), emphasis="strong" if is_fooled(gain) else "")
