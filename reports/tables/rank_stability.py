"""How far the ranking of a board hangs on choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cellular_bench.benchmark.analysis.leaderboard import Board, Row, method_key
from cellular_bench.benchmark.analysis.rank_stability import Stability, stability
from cellular_bench.reports.tables.common import RANKED, grouped
from cellular_bench.reports.tables.model import MISSING, Cell, Column, Table


def robustness_table(board: Board) -> Table | None:
    """Return the ranks that other choices would have given; None where no track has two ranked rows."""
    by_track = (stability(board, track) for track in RANKED)
    found = {key: stable for one in by_track if len(one) > 1 for key, stable in one.items()}
    ranked = tuple(row for row in board.rows if method_key(row.method) in found)
    if not ranked:
        return None
    unit = "label" if board.splits[0].unseen_labels else "split"
    weighed = "batch_correction" in board.weights

    def cells(row: Row) -> tuple[Cell, ...]:
        return _cells(found[method_key(row.method)], unit, weighed=weighed)

    return Table(
        table_id=f"{board.board_id}-robustness",
        kind="robustness",
        title="How far the ranking hangs on choices",
        caption="The ranks that each method would have had under other choices, within its track.",
        columns=_columns(unit, weighed=weighed),
        groups=grouped(replace(board, rows=ranked), cells),
    )


def _columns(unit: str, *, weighed: bool) -> tuple[Column, ...]:
    weights = Column(title="Other weights", hint="Weight of batch correction from 0 to 1", best="low")
    return (
        Column(title="Rank", hint="As in the ranking", best="low"),
        Column(
            title=f"{unit.capitalize()}s drawn again",
            hint=f"Ranks in 95 % of 2,000 draws of the {unit}s with replacement",
            best="low",
        ),
        Column(title="One metric left out", hint="Lowest and highest rank", best="low"),
        Column(title=f"One {unit} left out", hint="Lowest and highest rank", best="low"),
        *([weights] if weighed else []),
        Column(title="Between controls", hint="Rank on the scale of the controls", best="low"),
        Column(
            title="Rank kept", hint="Share of all these choices, draws aside, that leave the rank as it is"
        ),
    )


def _cells(stable: Stability, unit: str, *, weighed: bool) -> tuple[Cell, ...]:
    rank, kept = stable.rank, stable.share_unchanged
    metrics = {f"without {name}": found for name, found in stable.by_metric.items()}
    splits = {f"without {name}": found for name, found in stable.by_split.items()}
    weights = {f"with weight {weight:g}": found for weight, found in stable.by_weight.items()}
    scale = {} if stable.by_scale is None else {"between controls": stable.by_scale}
    return (
        Cell(text=str(rank), sort=rank),
        _drawn(stable.resampled, unit),
        _rank_range(rank, metrics, "no aspect has two metrics"),
        _rank_range(rank, splits, f"a single {unit}"),
        *([_rank_range(rank, weights, "")] if weighed else []),
        _rank_range(rank, scale, "fewer than two complete controls"),
        Cell(text=MISSING, reason="nothing to vary") if kept is None else Cell(text=f"{kept:.0%}", sort=kept),
    )


def _drawn(ranks: tuple[int, int] | None, unit: str) -> Cell:
    if ranks is None:
        return Cell(text=MISSING, reason=f"a single {unit}")
    return Cell(text=_span(*ranks), sort=ranks[1])


def _rank_range(rank: int, ranks: Mapping[str, int], missing: str) -> Cell:
    """Write the lowest and highest rank, and which choices move it."""
    if not ranks:
        return Cell(text=MISSING, reason=missing)
    low, high = min(ranks.values()), max(ranks.values())
    moved = [f"{found} {choice}" for choice, found in ranks.items() if found != rank]
    return Cell(text=_span(low, high), sort=high, reason="; ".join(moved))


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"
