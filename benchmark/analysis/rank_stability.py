"""Sensitivity of a ranking to splits, metrics, weights and scale.

Every number is the rank that a method would have under another choice. Nothing is trained or scored again:
the metrics of each run are in its record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    BoardRow,
    Track,
    method_key,
    split_scores,
)
from cellular_bench.benchmark.analysis.scales import (
    Scores,
    Values,
    by_aspect,
    by_controls,
    mean_over_units,
    on_scales,
    overall,
    own_range,
    weighed,
)
from cellular_bench.benchmark.analysis.statistics import (
    LEVEL,
    Comparison,
    SplitScore,
    paired_tests,
    rank_shares,
)
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.types import AspectId

#: Parts that the weights of two aspects are cut into, and those of more aspects.
PARTS_OF_TWO: Final = 10
PARTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """The ranks of one method of a track under other choices.

    Without one metric, without one split (or held-out label), and for other weights of the aspects, in the
    order of the board's; empty if there is nothing to leave out or to weigh. ``by_scale`` is the rank on the
    scale of the controls, ``resampled`` the lowest and highest over resampled splits, without 2.5 % at each
    end.
    """

    rank: int
    by_metric: Mapping[str, int]
    by_split: Mapping[str, int]
    by_weight: Mapping[tuple[float, ...], int]
    by_scale: int | None
    resampled: tuple[int, int] | None

    @property
    def ranks(self) -> tuple[int, ...]:
        """The rank under each of the other choices."""
        scale = () if self.by_scale is None else (self.by_scale,)
        return (*self.by_metric.values(), *self.by_split.values(), *self.by_weight.values(), *scale)

    @property
    def share_unchanged(self) -> float | None:
        """Share of the other choices under which the rank is the same; None if there is no other choice."""
        if not self.ranks:
            return None
        return sum(rank == self.rank for rank in self.ranks) / len(self.ranks)


def stability(board: Board, track: Track) -> dict[str, Stability]:
    """Return how stable the rank of each ranked method of a track is, by ``method_key``."""
    rows = [row for row in board.rows if row.track == track and row.rank is not None]
    if not rows:
        return {}
    values = own_range(board, rows)
    between = by_controls(board, values)
    by_metric = dict(_without_each_metric(board, values))
    by_split = dict(_without_each_unit(board, values))
    by_weight = dict(_with_each_weight(board, values))
    by_scale = None if between is None else ranks(overall(board, between, board.weights, values.units))
    resampled = _resampled(rows)
    return {
        method_key(row.method): Stability(
            rank=row.rank or 0,
            by_metric={name: int(places[i]) for name, places in by_metric.items()},
            by_split={name: int(places[i]) for name, places in by_split.items()},
            by_weight={weights: int(places[i]) for weights, places in by_weight.items()},
            by_scale=None if by_scale is None else int(by_scale[i]),
            resampled=None if resampled is None else resampled[i],
        )
        for i, row in enumerate(rows)
    }


def against_best(board: Board, track: Track) -> dict[str, Comparison]:
    """Compare the best ranked method of a track with each other one, by the other's ``method_key``.

    Differences are the best one's score minus the other's, over splits (or held-out labels); p values are
    adjusted by Holm's rule for the number of others.
    """
    rows = [row for row in board.rows if row.track == track and row.rank is not None]
    if len(rows) < 2:
        return {}
    scores = {method_key(row.method): split_scores(row) for row in rows}
    best, *others = scores
    tests = paired_tests(scores, pairs=[(best, other) for other in others])
    return {comparison.second: comparison for comparison in tests}


def aspect_leaders(board: Board, track: Track) -> dict[AspectId, tuple[str, tuple[Comparison, ...]]]:
    """Return the best ranked method of a track on each aspect alone, compared with each other one.

    As :func:`against_best`, but of one aspect; by ``method_key``. Empty with fewer than two ranked methods.
    Aspects that a ranked method has no score of are left out.
    """
    ranked = [method_key(row.method) for row in board.rows if row.track == track and row.rank is not None]
    if len(ranked) < 2:
        return {}
    units = on_scales(board, ["own"])
    leaders = {}
    for place, aspect in enumerate(board.weights):
        scores = {
            key: [
                SplitScore(split_id=one.unit, value=value, overlap=one.overlap)
                for one in units[key]["own"]
                if (value := one.aspects[place]) is not None
            ]
            for key in ranked
        }
        if not all(scores.values()):
            continue  # left out of the overall score on these data
        best = max(ranked, key=lambda key: fmean(score.value for score in scores[key]))
        pairs = [(best, other) for other in ranked if other != best]
        leaders[aspect] = best, paired_tests(scores, pairs=pairs)
    return leaders


def between_controls(board: Board) -> dict[str, float]:
    """Return the overall score of each complete row with metrics scaled between the controls of its split.

    0 and 1 are the worst and the best control of the same data, split and metric, so that values may lie
    outside. Metrics on which the controls lie within 0.05 of each other are left out, for all rows alike.
    Empty if fewer than two controls are complete.
    """
    rows = [row for row in board.rows if row.incomplete_because is None]
    values = own_range(board, rows)
    between = by_controls(board, values) if rows else None
    if between is None:
        return {}
    scores = overall(board, between, board.weights, values.units)
    return {
        method_key(row.method): float(score)
        for row, score in zip(rows, scores, strict=True)
        if np.isfinite(score)
    }


def ranks(scores: Scores) -> NDArray[np.int64]:
    """Return the place of each score, 1 for the highest; equal ones share the better place, NaN the last.

    Examples
    --------
    >>> ranks(np.array([0.2, 0.9, 0.9, np.nan])).tolist()
    [3, 1, 1, 4]
    """
    known = np.where(np.isnan(scores), -np.inf, scores)
    higher = len(known) - np.sort(known).searchsorted(known + 1e-12, side="right")
    return 1 + np.asarray(higher, dtype=np.int64)


def _without_each_metric(board: Board, values: Values) -> Iterator[tuple[str, NDArray[np.int64]]]:
    for k, spec in enumerate(board.metrics):
        peers = [s for s in board.metrics if s.in_overall and s.aspect == spec.aspect]
        if spec.in_overall and len(peers) > 1:
            left = values.array.copy()
            left[:, :, k] = np.nan
            yield spec.name, ranks(overall(board, left, board.weights, values.units))


def _without_each_unit(board: Board, values: Values) -> Iterator[tuple[str, NDArray[np.int64]]]:
    names = dict.fromkeys(unit for unit, _ in values.units)
    if len(names) > 1:
        for name in names:
            left = [i for i, (unit, _) in enumerate(values.units) if unit != name]
            units = [values.units[i] for i in left]
            yield name, ranks(overall(board, values.array[:, left], board.weights, units))


def _with_each_weight(board: Board, values: Values) -> Iterator[tuple[tuple[float, ...], NDArray[np.int64]]]:
    if len(board.weights) < 2:
        return
    aspects = by_aspect(board, values.array)
    for weights in other_weights(board):
        chosen = dict(zip(board.weights, weights, strict=True))
        scores = mean_over_units(weighed(aspects, chosen), values.units)
        if np.isfinite(scores).any():  # what it weighs is not left out on these data
            yield weights, ranks(scores)


def other_weights(board: Board) -> tuple[tuple[float, ...], ...]:
    """Return every way to weigh the aspects in steps of 0.1 (two aspects) or 0.2, and the named rules."""
    aspects = tuple(board.weights)
    parts = PARTS_OF_TWO if len(aspects) == 2 else PARTS
    # As many parts as bars between them allow, each place of the bars once.
    n_places = parts + len(aspects) - 1
    bars = combinations(range(n_places), len(aspects) - 1)
    grid = [
        tuple((stop - start - 1) / parts for start, stop in pairwise((-1, *places, n_places)))
        for places in bars
    ]
    named = [rule for rule in TASKS[board.task].named_rules.values() if rule.needs <= set(aspects)]
    grid += [tuple(rule.weights[aspect] for aspect in aspects) for rule in named]
    return tuple(dict.fromkeys(grid))


def _resampled(rows: Sequence[BoardRow]) -> list[tuple[int, int]] | None:
    scores = {method_key(row.method): split_scores(row) for row in rows}
    if len(next(iter(scores.values()))) < 2:
        return None
    tail = (1 - LEVEL) / 2
    spans = []
    for shares in rank_shares(scores).values():
        reached = shares.cumsum()
        low = int((reached <= tail + 1e-12).sum()) + 1
        high = int((reached < 1 - tail - 1e-12).sum()) + 1
        spans.append((low, high))
    return spans
