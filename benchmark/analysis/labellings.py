"""Whether a ranking survives other labels of the same cells, which the methods did not see.

Labels are somebody's choice: another annotator, or another resolution, may have chosen others. A ranking that
depends on this choice says more of the labels than of the methods.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cellular_bench.benchmark.analysis.leaderboard import Board, BoardRow, Track, build_boards, method_key
from cellular_bench.benchmark.analysis.rank_stability import against_best
from cellular_bench.benchmark.schema.records import Relabelled, RunRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherLabels:
    """A board whose methods are scored under other labels.

    Attributes
    ----------
    name
        The column that holds them, or how they were made.
    n_labels
        Fewest and most labels of the scored cells of a split.
    board
        The same methods; those without scores under these labels are incomplete.
    """

    name: str
    n_labels: tuple[int, int]
    board: Board


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What other labels say of the best methods of a track.

    Attributes
    ----------
    best
        ``method_key`` of the best methods under the labels of the board; several if they tie.
    best_there, tied_there
        The same under the other labels, and the methods that do not differ significantly from these.
    survives
        Whether any of ``best`` is one of these.
    tau
        Kendall's tau (b) between both rankings of the ``n`` methods that have both; None if it is undefined.
    """

    track: Track
    best: tuple[str, ...]
    best_there: tuple[str, ...]
    tied_there: tuple[str, ...]
    survives: bool
    tau: float | None
    n: int


def under_other_labels(board: Board) -> tuple[OtherLabels, ...]:
    """Return a board under each of the other labels that its runs have scores for, in the order of these."""
    runs = [run for row in board.rows for run in row.runs]
    names = dict.fromkeys(one.labelling for run in runs for one in run.relabelled)
    found = []
    for name in names:
        scores = _scores_of(name, runs)
        relabelled = [_relabelled(run, scores.get(run.run_id)) for run in runs]
        (made,) = build_boards(relabelled, board.metrics, weights=dict(board.rule.weights))
        sizes = [one.n_labels for one in scores.values()]
        found.append(
            OtherLabels(
                name=name,
                n_labels=(min(sizes), max(sizes)),
                board=replace(made, version=board.version, canary=board.canary),
            )
        )
    return tuple(found)


def _scores_of(name: str, runs: Iterable[RunRecord]) -> dict[str, Relabelled]:
    """Return the scores of runs under a labelling; of several of one name on a split, that of most runs."""
    by_split: dict[str, dict[str, Relabelled]] = defaultdict(dict)
    for run in runs:
        one = next((one for one in run.relabelled if one.labelling == name), None)
        if one is not None:
            by_split[run.split.digest][run.run_id] = one
    chosen: dict[str, Relabelled] = {}
    for scores in by_split.values():
        counts = Counter(one.digest for one in scores.values())
        if counts:
            digest = min(counts, key=lambda digest: (-counts[digest], digest))
            chosen |= {run_id: one for run_id, one in scores.items() if one.digest == digest}
    return chosen


def _relabelled(run: RunRecord, found: Relabelled | None) -> RunRecord:
    """Return a run with scores under other labels in place of its own; without any if there are none."""
    if found is None:
        return run.model_copy(update={"scores": ()})
    there = {score.metric_id: score for score in found.scores}
    kept = (there.pop(score.metric_id, score) for score in run.scores)
    return run.model_copy(update={"scores": (*kept, *there.values())})


def verdict(board: Board, other: Board, track: Track) -> Verdict | None:
    """Compare the rankings of a track under two labellings; None if fewer than two methods have both."""
    here, there = (_ranked(one, track) for one in (board, other))
    both = [key for key in here if key in there]
    if len(both) < 2:
        return None
    best, best_there = (tuple(key for key, row in rows.items() if row.rank == 1) for rows in (here, there))
    tests = against_best(other, track)
    tied = tuple(
        key
        for key, test in tests.items()
        if key not in best_there and test.p_value is not None and not test.is_different
    )
    return Verdict(
        track=track,
        best=best,
        best_there=best_there,
        tied_there=tied,
        survives=not {*best}.isdisjoint({*best_there, *tied}),
        tau=_tau(
            [here[key].overall.mean or 0.0 for key in both], [there[key].overall.mean or 0.0 for key in both]
        ),
        n=len(both),
    )


def _ranked(board: Board, track: Track) -> Mapping[str, BoardRow]:
    return {method_key(row.method): row for row in board.rows if row.track == track and row.rank is not None}


def _tau(one: list[float], other: list[float]) -> float | None:
    import math

    from scipy.stats import kendalltau

    # Sums in another order differ in the last bits: such scores are equal.
    rounded = ([round(score, 12) for score in scores] for scores in (one, other))
    tau = float(kendalltau(*rounded).statistic)
    return None if math.isnan(tau) else tau
