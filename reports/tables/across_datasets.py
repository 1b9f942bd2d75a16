"""Methods over several data sets: means, average ranks, and which differences are significant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cellular_bench.benchmark.analysis.across_datasets import Across, Standing
from cellular_bench.benchmark.analysis.leaderboard import is_transductive, method_key
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.reports.tables.formatting import anchor, bounds, ordinal, p_value, plural
from cellular_bench.reports.tables.method_rows import full_names, versus_best_cell
from cellular_bench.reports.tables.model import (
    TRANSDUCTIVE,
    Cell,
    Column,
    Remarks,
    Table,
    TableRow,
    columns,
    number_cell,
)
from cellular_bench.reports.tables.overview import TRACKS_IN_WORDS, subtitle

CAPTION: Final = (
    "Overall scores; each data set counts the same. Interval: data sets, their splits and seeds resampled "
    "2,000 times. Best: share of the resamples with the highest mean. Wins: share of data sets and other "
    "methods on which it scores higher. Places: on how many data sets it takes which place. Versus best: "
    "Wilcoxon signed-rank test over data sets, Holm. Only methods complete on every data set take part."
)
HEADS: Final = ("Mean", "95 % interval", "Average rank", "Best", "Wins", "Places", "Versus best")


def across_table(group: Across) -> Table:
    """Return the standings of the methods that are complete on every data set of a group."""
    first = group.boards[0]
    return Table(
        table_id=across_id(group),
        task=group.task,
        title=f"{TASKS[group.task].title} over {plural(len(group.boards), 'data set')}, "
        f"methods {TRACKS_IN_WORDS[group.track]}",
        lead=f"{subtitle(first).capitalize()}{_rule(group, ', overall scores with {} weights')}. "
        f"{rank_verdict(group)} {_pair_verdict(group)}",
        caption=CAPTION,
        columns=(
            *columns("number", *HEADS),
            *(Column(board.dataset_title, href=f"#{anchor(board.board_id)}") for board in group.boards),
        ),
        rows=tuple(_row(*pair) for pair in zip(group.standings, standing_names(group), strict=True)),
        remarks=tuple(_remarks(group)),
    )


def across_id(group: Across) -> str:
    """Return the ``table_id`` of a group."""
    split = group.boards[0].splits[0]
    return f"across-{group.task}-{split.scheme or split.kind}-{group.track}{_rule(group, '-{}')}"


def _rule(group: Across, text: str) -> str:
    """Write the rule of a group whose boards lack scores that another group's boards may have."""
    first = group.boards[0]
    return "" if first.instead_of is None else text.format(first.rule.title)


def standing_names(group: Across) -> tuple[str, ...]:
    """Return the name of each standing, with what distinguishes it from others of the same name."""
    names = full_names(group.boards[0])
    return tuple(names[method_key(standing.row.method)] for standing in group.standings)


def _row(standing: Standing, name: str) -> TableRow:
    return TableRow(
        name=name,
        badges=(TRANSDUCTIVE,) if is_transductive(standing.row.runs[0]) else (),
        cells=(
            number_cell(standing.mean),
            Cell(bounds(standing.low, standing.high), sort=standing.low),
            Cell(f"{standing.mean_rank:.2f}", sort=standing.mean_rank),
            Cell(f"{standing.share_best:.0%}", sort=standing.share_best),
            Cell(f"{standing.win_rate:.0%}", sort=standing.win_rate),
            Cell(", ".join(f"{ordinal(place)} × {n}" for place, n in standing.places.items())),
            versus_best_cell(standing.against_best),
            *map(number_cell, standing.by_dataset),
        ),
    )


def _remarks(group: Across) -> Iterator[Remarks]:
    """List which versions of data sets count, and which methods are left out."""
    versions = []
    for board in group.boards:
        same = (b for b in group.passed_over if b.dataset.dataset_id == board.dataset.dataset_id)
        if others := [other.dataset_title for other in same]:
            versions.append(f"{board.dataset_title} counts, not {'; '.join(others)}")
    if versions:
        yield Remarks(
            title="Versions of a data set",
            lead="Versions may share cells and are not independent data sets. The one with the most cells "
            "counts; of equally large ones, the one that was run last.",
            items=tuple(versions),
        )
    if group.left_out:
        items = tuple(f"{name}: {reason}" for name, reason in sorted(group.left_out.items()))
        yield Remarks(title="Left out", items=items)


def rank_verdict(group: Across) -> str:
    """Say what the test of average ranks found, or why there is none."""
    test = group.test
    if test.p_value is None:
        return f"No test of ranks: {test.reason}."
    if test.p_value >= 0.05:
        return f"Average ranks do not differ significantly (Friedman test, {p_value(test.p_value)})."
    return (
        f"Average ranks differ significantly (Friedman test, {p_value(test.p_value)}): two methods do, at "
        f"5 %, if their ranks differ by {test.critical_difference:.2f} or more (Nemenyi)."
    )


def _pair_verdict(group: Across) -> str:
    """Say from how many methods the best one differs, pair by pair, or why this is unknown."""
    versus = [s.against_best for s in group.standings if s.against_best is not None]
    if versus[0].p_value is None:
        return f"No test of pairs: {versus[0].reason}."
    n_different = sum(comparison.is_different for comparison in versus)
    return (
        f"Pair by pair, {standing_names(group)[0]} differs significantly from {n_different} of "
        f"{plural(len(versus), 'other')} (Wilcoxon signed-rank test, Holm, 5 %)."
    )
