"""Methods over several data sets: means with intervals, average ranks and rank tests.

Only methods that are complete on every data set of a group take part: means over different data sets cannot
be compared. The others are listed with the reason.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark.analysis import signed_ranks
from cellular_bench.benchmark.analysis.leaderboard import RANKED, Board, BoardRow, Track, method_key, unit_of
from cellular_bench.benchmark.analysis.statistics import LEVEL, N_RESAMPLES, Comparison
from cellular_bench.core.types import TaskId

Scores = NDArray[np.float64]

#: With fewer, the Friedman test has next to no power.
LEAST_DATASETS: Final = 5
LEAST_METHODS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One method over the data sets of a group, each counting the same.

    For the interval, data sets are resampled, then their splits, then their seeds; ``share_best`` is the
    share of these resamples with the highest mean. Equal scores share the mean of their ranks and half a win.
    ``against_best`` compares the method with the highest mean with this one; None for that method.
    """

    row: BoardRow
    by_dataset: tuple[float, ...]
    mean: float
    low: float
    high: float
    mean_rank: float
    share_best: float
    win_rate: float
    places: Mapping[int, int]
    against_best: Comparison | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTest:
    """Whether average ranks differ by more than chance: Friedman's test, and Nemenyi's at 5 %.

    ``p_value`` is None with a ``reason`` if there are too few data sets or methods. ``groups`` are stretches
    of the order of ranks without a significant difference: the first place, and one past the last.
    """

    p_value: float | None
    critical_difference: float | None = None
    groups: tuple[tuple[int, int], ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Across:
    """One track of methods on the boards of one task and kind of split, one for each data set.

    ``left_out`` has the reason by method; ``passed_over`` are boards of other versions of the data sets.
    """

    task: TaskId
    track: Track
    boards: tuple[Board, ...]
    standings: tuple[Standing, ...]
    left_out: Mapping[str, str]
    test: RankTest
    passed_over: tuple[Board, ...] = ()


def across(boards: Sequence[Board]) -> tuple[Across, ...]:
    """Summarise each track, task and kind of split with boards of two or more data sets, stressed ones aside.

    Versions of a data set may share cells and are no independent data sets. The one with the most cells
    counts; of equally large ones, the one that was run last. Boards under different rules of weights have
    different scores and are not summarised together.
    """
    groups: dict[tuple[Hashable, ...], dict[str, list[Board]]] = defaultdict(lambda: defaultdict(list))
    for board in boards:
        split = board.splits[0]
        if split.stress is None:
            group = board.task, split.scheme or split.kind, tuple(board.rule.weights.items())
            groups[group][board.dataset.dataset_id].append(board)
    several = [list(group.values()) for group in groups.values() if len(group) > 1]
    made = (_across(group, track) for track in RANKED for group in several)
    return tuple(one for one in made if one is not None)


def _size_and_end(board: Board) -> tuple[int, datetime]:
    return board.dataset.n_obs, max(run.finished_at for row in board.rows for run in row.runs)


def _across(versions: Sequence[Sequence[Board]], track: Track) -> Across | None:
    boards = tuple(max(of_one, key=_size_and_end) for of_one in versions)
    counted = {board.board_id for board in boards}
    rows, left_out = _complete(boards, track)
    if len(rows) < 2:
        return None
    scores = [_unit_scores([of_method[i] for of_method in rows]) for i in range(len(boards))]
    means = np.array([np.nanmean(one, axis=2).mean(axis=1) for one in scores]).T
    drawn = resampled_means(scores)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    best = np.bincount(drawn.argmax(axis=1), minlength=len(rows)) / len(drawn)
    average, wins, taken = average_ranks(means), signed_ranks.win_rates(means), signed_ranks.places(means)
    names = [method_key(of_method[0].method) for of_method in rows]
    versus = {test.second: test for test in signed_ranks.signed_rank_tests(names, means)}
    order = np.argsort(-means.mean(axis=1), kind="stable")
    return Across(
        task=boards[0].task,
        track=track,
        boards=boards,
        standings=tuple(
            Standing(
                row=rows[i][0],
                by_dataset=tuple(means[i].tolist()),
                mean=float(means[i].mean()),
                low=float(low[i]),
                high=float(high[i]),
                mean_rank=float(average[i]),
                share_best=float(best[i]),
                win_rate=float(wins[i]),
                places=taken[i],
                against_best=versus.get(names[i]),
            )
            for i in order
        ),
        left_out=left_out,
        test=rank_test(means),
        passed_over=tuple(board for of_one in versions for board in of_one if board.board_id not in counted),
    )


def _complete(boards: Sequence[Board], track: Track) -> tuple[list[list[BoardRow]], dict[str, str]]:
    """Return the rows of the methods that are complete on every board, and why others are not."""
    by_method: dict[str, dict[int, BoardRow]] = defaultdict(dict)
    for i, board in enumerate(boards):
        for row in board.rows:
            if row.track == track:
                by_method[method_key(row.method)][i] = row
    complete, left_out = [], {}
    for by_board in by_method.values():
        bad = [boards[i].dataset_title for i, row in by_board.items() if row.incomplete_because is not None]
        absent = [board.dataset_title for i, board in enumerate(boards) if i not in by_board]
        if bad or absent:
            parts = [f"incomplete on {', '.join(bad)}"] if bad else []
            parts += [f"not run on {', '.join(absent)}"] if absent else []
            left_out[next(iter(by_board.values())).method.name] = "; ".join(parts)
        else:
            complete.append([by_board[i] for i in range(len(boards))])
    return complete, left_out


def _unit_scores(rows: Sequence[BoardRow]) -> Scores:
    """Return overall scores, (n_methods, n_units, n_seeds); NaN where a seed was not run."""
    keys = [(unit_of(run.split)[0], run.split.split_id, run.seed) for row in rows for run in row.done]
    units = {unit: i for i, unit in enumerate(dict.fromkeys(unit for unit, _, _ in keys))}
    repeats: dict[str, dict[tuple[str, int], int]] = {unit: {} for unit in units}
    for unit, split_id, seed in keys:
        repeats[unit].setdefault((split_id, seed), len(repeats[unit]))
    scores = np.full((len(rows), len(units), max(map(len, repeats.values()))), np.nan)
    for i, row in enumerate(rows):
        for run, value in zip(row.done, row.run_scores, strict=True):
            unit = unit_of(run.split)[0]
            scores[i, units[unit], repeats[unit][run.split.split_id, run.seed]] = value
    return scores


def resampled_means(scores: Sequence[Scores], *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Scores:
    """Resample data sets, their splits and their seeds with replacement, the same for every method.

    ``scores`` has an array (n_methods, n_units, n_seeds) for each data set; the means are (n_resamples,
    n_methods).
    """
    rng = np.random.default_rng(seed)
    total = np.zeros((n_resamples, scores[0].shape[0]))
    for _ in scores:
        chosen = rng.integers(len(scores), size=n_resamples)
        for i, one in enumerate(scores):
            draws = np.flatnonzero(chosen == i)
            n_units, n_seeds = one.shape[1:]
            units = rng.integers(n_units, size=(len(draws), n_units))
            repeats = rng.integers(n_seeds, size=(len(draws), n_units))
            known = np.where(np.isnan(one), np.nanmean(one, axis=2, keepdims=True), one)
            total[draws] += known[:, units, repeats].mean(axis=2).T
    return total / len(scores)


def average_ranks(means: Scores) -> Scores:
    """Return the average rank of each method, 1 for the best; ``means`` is (n_methods, n_datasets)."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-means, axis=0).mean(axis=1))


def rank_test(means: Scores) -> RankTest:
    """Test whether methods differ in rank (Friedman), and which do (Nemenyi), at 5 %.

    ``means`` is (n_methods, n_datasets). Demšar 2006, J Mach Learn Res 7, describes both tests.
    """
    n_methods, n_datasets = means.shape
    if n_datasets < LEAST_DATASETS or n_methods < LEAST_METHODS:
        return RankTest(
            p_value=None,
            reason=f"a test of ranks needs {LEAST_DATASETS} data sets and {LEAST_METHODS} methods; there are "
            f"{n_datasets} and {n_methods}",
        )
    from scipy.stats import friedmanchisquare

    all_equal = bool((means == means[0]).all())  # for which the statistic is 0 / 0
    return RankTest(
        p_value=1.0 if all_equal else float(friedmanchisquare(*means).pvalue),
        critical_difference=critical_difference(n_methods, n_datasets),
        groups=_groups(means),
    )


def critical_difference(n_methods: int, n_datasets: int) -> float:
    """Return the smallest difference of average ranks that is significant at 5 % by the Nemenyi test.

    Examples
    --------
    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(LEVEL, n_methods, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(n_methods * (n_methods + 1) / (6 * n_datasets))


def _groups(means: Scores) -> tuple[tuple[int, int], ...]:
    """Return the stretches of the order of ranks without a significant difference, none within another."""
    average = np.sort(average_ranks(means))
    near = average[None] - average[:, None] <= critical_difference(*means.shape)
    stops = near.sum(axis=1).tolist()
    spans = zip(range(len(stops)), stops, [0, *stops], strict=False)
    return tuple((start, stop) for start, stop, before in spans if stop > max(before, start + 1))
