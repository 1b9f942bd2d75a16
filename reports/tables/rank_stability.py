"""How much the ranking of a board depends on splits, metrics, weights and scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from cellular_bench.benchmark.analysis.leaderboard import RANKED, Board, BoardRow, method_key
from cellular_bench.benchmark.analysis.rank_stability import Stability, stability
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.reports.tables.method_rows import method_rows
from cellular_bench.reports.tables.model import Cell, Column, Table, count_cell, missing


def stability_table(board: Board) -> Table | None:
    """Return the ranks under other choices; None if no track has two ranked methods."""
    by_track = (stability(board, track) for track in RANKED)
    by_method = {key: stable for one in by_track if len(one) > 1 for key, stable in one.items()}
    if not by_method:
        return None
    unit = "label" if board.splits[0].unseen_labels else "split"
    has_weights = len(board.weights) > 1

    def cells(row: BoardRow) -> tuple[Cell, ...] | None:
        stable = by_method.get(method_key(row.method))
        return None if stable is None else _cells(stable, unit, _named(board) if has_weights else None)

    return Table(
        table_id=f"{board.board_id}-robustness",
        title="Sensitivity of the ranking",
        caption="The ranks that each method would have under other choices, within its track.",
        columns=_columns(unit, has_weights=has_weights),
        rows=method_rows(board, cells),
    )


def _columns(unit: str, *, has_weights: bool) -> tuple[Column, ...]:
    weights = Column(
        "Other weights", hint="Lowest and highest rank under every way to weigh the aspects", best="low"
    )
    return (
        Column("Rank", hint="As in the ranking", best="low"),
        Column(f"Resampled {unit}s", hint=f"Ranks in 95 % of 2,000 resamples of the {unit}s", best="low"),
        Column("Without one metric", hint="Lowest and highest rank", best="low"),
        Column(f"Without one {unit}", hint="Lowest and highest rank", best="low"),
        *([weights] if has_weights else []),
        Column("Between controls", hint="Rank on the scale of the controls", best="low"),
        Column("Rank unchanged", hint="Share of these choices, resampling aside, that keep the rank"),
    )


def _named(board: Board) -> dict[tuple[float, ...], str]:
    """Return the titles of the named rules by their weights for the aspects of a board."""
    rules = TASKS[board.task].named_rules.values()
    return {
        tuple(rule.weights[aspect] for aspect in board.weights): rule.title
        for rule in rules
        if rule.needs <= board.weights.keys()
    }


def _cells(stable: Stability, unit: str, named: Mapping[tuple[float, ...], str] | None) -> tuple[Cell, ...]:
    rank, kept, drawn = stable.rank, stable.share_unchanged, stable.resampled
    metrics = {f"without {name}": other for name, other in stable.by_metric.items()}
    splits = {f"without {name}": other for name, other in stable.by_split.items()}
    scale = {} if stable.by_scale is None else {"between controls": stable.by_scale}
    return (
        count_cell(rank),
        missing(f"a single {unit}") if drawn is None else Cell(_span(*drawn), sort=drawn[1]),
        _rank_range(rank, metrics, "no aspect has two metrics"),
        _rank_range(rank, splits, f"a single {unit}"),
        *([_weights_cell(stable, named)] if named is not None else []),
        _rank_range(rank, scale, "fewer than two complete controls"),
        missing("nothing to vary") if kept is None else Cell(f"{kept:.0%}", sort=kept),
    )


def _weights_cell(stable: Stability, named: Mapping[tuple[float, ...], str]) -> Cell:
    """Return the lowest and highest rank over all weights, how often each is, and those of named rules."""
    found = stable.by_weight
    if not found:
        return missing("no aspect has a score")
    counts = sorted(Counter(found.values()).items())
    parts = [f"{rank} for {n} of {len(found)} weights" for rank, n in counts]
    parts += [
        f"{found[weights]} with {title} weights" for weights, title in named.items() if weights in found
    ]
    low, high = counts[0][0], counts[-1][0]
    return Cell(_span(low, high), sort=high, reason="; ".join(parts) if low < high else "")


def _rank_range(rank: int, ranks: Mapping[str, int], why_missing: str) -> Cell:
    """Return the lowest and highest rank, and which choices change it."""
    if not ranks:
        return missing(why_missing)
    low, high = min(ranks.values()), max(ranks.values())
    moved = [f"{other} {choice}" for choice, other in ranks.items() if other != rank]
    return Cell(_span(low, high), sort=high, reason="; ".join(moved))


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"
