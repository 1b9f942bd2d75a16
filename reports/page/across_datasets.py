"""The section of the page that looks over data sets: a table and a picture of average ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellular_bench.benchmark.analysis.across_datasets import Across, Standing, across
from cellular_bench.benchmark.analysis.leaderboard import Board, is_transductive
from cellular_bench.benchmark.analysis.statistics import Comparison
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.types import TaskId
from cellular_bench.reports.figures.canvas import as_vectors
from cellular_bench.reports.figures.rank_diagram import _names, rank_canvas
from cellular_bench.reports.tables.common import RANKED
from cellular_bench.reports.tables.model import MISSING, TRANSDUCTIVE, bounds, number, plural
from cellular_bench.reports.tables.overview import RANKED_TRACKS, subtitle

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class AcrossLine:
    """One method as text: its means, average rank and the share of draws in which it is best."""

    name: str
    mean: str
    interval: str
    mean_rank: str
    share_best: str
    win_rate: str
    places: str
    told_from_best: str
    by_dataset: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcrossView:
    """One task, cutting and track over its data sets.

    Attributes
    ----------
    verdict
        What the test of ranks says, in words.
    versions
        Which version of a data set counts, where there are several.
    picture
        Average ranks with bars over methods not told apart, SVG; None where no test could be made.
    """

    task: TaskId
    title: str
    subtitle: str
    datasets: tuple[tuple[str, str], ...]
    lines: tuple[AcrossLine, ...]
    left_out: tuple[tuple[str, str], ...]
    versions: tuple[str, ...]
    verdict: str
    picture: bytes | None


def across_views(boards: Sequence[Board]) -> tuple[AcrossView, ...]:
    """Return one view for each task, cutting and track with two or more data sets."""
    return tuple(_view(found) for track in RANKED for found in across(boards, track))


def _view(found: Across) -> AcrossView:
    first = found.boards[0]
    return AcrossView(
        task=found.task,
        title=f"{TASKS[found.task].title} over {plural(len(found.boards), 'data set')}, "
        f"methods {RANKED_TRACKS[found.track]}",
        subtitle=subtitle(first),
        datasets=tuple((board.dataset_title, board.board_id) for board in found.boards),
        lines=tuple(
            _line(standing, name) for standing, name in zip(found.standings, _names(found), strict=True)
        ),
        left_out=tuple(sorted(found.left_out.items())),
        versions=tuple(_versions(found)),
        verdict=_verdict(found),
        picture=None if found.test.critical_difference is None else as_vectors(rank_canvas(found)),
    )


def _versions(found: Across) -> Iterator[str]:
    """Say which version of a data set counts and which do not."""
    for board in found.boards:
        others = [
            other.dataset_title
            for other in found.passed_over
            if other.dataset.dataset_id == board.dataset.dataset_id
        ]
        if others:
            yield f"{board.dataset_title} counts, not {'; '.join(others)}"


def _line(standing: Standing, name: str) -> AcrossLine:
    mark = f" ({TRANSDUCTIVE})" if is_transductive(standing.row.runs[0]) else ""
    return AcrossLine(
        name=f"{name}{mark}",
        mean=number(standing.mean),
        interval=bounds(standing.low, standing.high),
        mean_rank=f"{standing.mean_rank:.2f}",
        share_best=f"{standing.share_best:.0%}",
        win_rate=f"{standing.win_rate:.0%}",
        places=", ".join(f"{ordinal(place)} × {count}" for place, count in standing.places.items()),
        told_from_best=_told(standing.against_best),
        by_dataset=tuple(map(number, standing.by_dataset)),
    )


def ordinal(place: int) -> str:
    """Write a place: ``"1st"``, ``"2nd"``, ``"11th"``.

    Examples
    --------
    >>> [ordinal(place) for place in (1, 2, 3, 4, 11, 22)]
    ['1st', '2nd', '3rd', '4th', '11th', '22nd']
    """
    ending = "th" if 10 < place % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


def _told(comparison: Comparison | None) -> str:
    if comparison is None:
        return "best"
    if comparison.p_value is None:
        return MISSING
    told = "told apart" if comparison.is_different else "not told apart"
    return f"{'p < 0.001' if comparison.p_value < 0.001 else f'p = {comparison.p_value:.3f}'}, {told}"


def _verdict(found: Across) -> str:
    return f"{_of_ranks(found)} {_of_pairs(found)}"


def _of_pairs(found: Across) -> str:
    """Say from whom the best is told pair by pair, or why it cannot be said."""
    versus = [s.against_best for s in found.standings if s.against_best is not None]
    if versus[0].p_value is None:
        return f"No test pair by pair: {versus[0].reason}."
    n_told = sum(comparison.is_different for comparison in versus)
    best = _names(found)[0]
    return (
        f"Pair by pair, {best} is told apart at 5 % from {n_told} of {plural(len(versus), 'other')} "
        "(Wilcoxon signed-rank test, Holm)."
    )


def _of_ranks(found: Across) -> str:
    test = found.test
    if test.p_value is None:
        return f"No test: {test.reason}."
    p_value = "p < 0.001" if test.p_value < 0.001 else f"p = {test.p_value:.3f}"
    if test.p_value >= 0.05:
        return f"Average ranks do not differ by more than chance (Friedman test, {p_value})."
    return (
        f"Average ranks differ (Friedman test, {p_value}); two methods are told apart at 5 % where their "
        f"ranks differ by {test.critical_difference:.2f} or more (Nemenyi)."
    )
