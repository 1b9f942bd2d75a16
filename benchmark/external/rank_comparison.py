"""One set of results under two rules of ranking, with the steps between them: Open Problems' and ours.

Each step changes one thing, so that a method's way through the ranks says what moved it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import numpy as np

from cellular_bench.benchmark.analysis.across_datasets import across
from cellular_bench.benchmark.analysis.leaderboard import Board, Track, under
from cellular_bench.benchmark.analysis.scales import (
    Scores,
    by_aspect,
    by_controls,
    every_run,
    mean,
    mean_over_units,
    weighed,
)
from cellular_bench.benchmark.external.open_problems import their_scores
from cellular_bench.benchmark.schema.records import RunRecord

#: What changes from step to step.
STEPS: Final = (
    "their rule: between the controls, cut to 0 ... 1, what is missing counts as 0, plain mean of metrics",
    "a missing metric is left out of the mean, and a data set without any score out of the method's; ends "
    "are those of complete controls, metrics those known here (micro F1 is accuracy again)",
    "metrics and weights of our overall score under the rule scib, nothing cut",
    "our scale: each metric by its own range",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A method's way from their rule to ours.

    Attributes
    ----------
    scores
        Mean score after each of :data:`STEPS`; None where nothing is left to average.
    ranks
        Place among all methods that have a score, controls aside.
    track
        Which labels it saw.
    our_rank
        Place among the methods of its track that are complete on every data set; None where it is not.
    reason
        Why it has no rank of ours.
    """

    method_id: str
    name: str
    is_control: bool
    track: Track
    scores: tuple[float | None, ...]
    ranks: tuple[int | None, ...]
    our_rank: int | None
    reason: str


def ways(boards: Sequence[Board], runs: Sequence[RunRecord]) -> tuple[Way, ...]:
    """Rank the methods of one task under their rule, ours, and the steps between, in the order of theirs.

    Ours has the weights of scib, as the published metrics are scib's.
    """
    boards = [under(board, "scib") for board in boards]
    rows = {row.method.method_id: row for board in boards for row in board.rows}
    theirs = {key: fmean(found.values()) for key, found in their_scores(runs).items()}
    steps: list[Mapping[str, float]] = [theirs, *(_means(boards, step) for step in (1, 2, 3))]
    ranks = [_ranks({key: x for key, x in step.items() if not rows[key].method.is_control}) for step in steps]
    ours, reasons = _our_ranks(boards)
    return tuple(
        Way(
            method_id=key,
            name=rows[key].method.name,
            is_control=rows[key].method.is_control,
            track=rows[key].track,
            scores=tuple(step.get(key) for step in steps),
            ranks=tuple(found.get(key) for found in ranks),
            our_rank=ours.get(key),
            reason="" if rows[key].method.is_control else reasons.get(rows[key].method.name, ""),
        )
        for key in sorted(rows, key=lambda key: (-theirs[key], key))
    )


def _means(boards: Sequence[Board], step: int) -> dict[str, float]:
    """Return the mean over data sets after a step, of the methods that have a score on any."""
    found: dict[str, list[float]] = defaultdict(list)
    for board in boards:
        for row, score in zip(board.rows, _scores(board, step), strict=True):
            if np.isfinite(score):
                found[row.method.method_id].append(float(score))
    return {key: fmean(scores) for key, scores in found.items()}


def _scores(board: Board, step: int) -> Scores:
    values = every_run(board, board.rows)
    array = values.array
    if step < 3:
        between = by_controls(board, values)
        array = np.full_like(array, np.nan) if between is None else between
    if step == 1:
        return mean(mean(np.clip(array, 0, 1), axis=2), axis=1)
    aspects = by_aspect(board, array)
    complete = np.isfinite(np.stack([aspects[aspect] for aspect in board.rule.needs])).all(axis=0)
    return mean_over_units(np.where(complete, weighed(aspects, board.weights), np.nan), values.units)


def _ranks(scores: Mapping[str, float]) -> dict[str, int]:
    return {key: 1 + sum(other > score + 1e-12 for other in scores.values()) for key, score in scores.items()}


def _our_ranks(boards: Sequence[Board]) -> tuple[dict[str, int], dict[str, str]]:
    ranks: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for group in across(boards):
        ranks |= {s.row.method.method_id: place for place, s in enumerate(group.standings, 1)}
        reasons |= group.left_out
    return ranks, reasons | _gaps(boards)


def _gaps(boards: Sequence[Board]) -> dict[str, str]:
    where: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for board in boards:
        for row in board.rows:
            if row.incomplete_because is not None:
                reason = row.failures[0].reason if row.failures else row.incomplete_because
                where[row.method.name][str(reason)].append(board.dataset_title)
    return {
        name: "; ".join(f"{reason} ({', '.join(places)})" for reason, places in found.items())
        for name, found in where.items()
    }
