"""Which scores are fooled by canary embeddings: what these gain over the method that they damage.

A canary embedding is a control that nobody should use, such as Harmony's embedding with all types collapsed
to a tenth of their size. A score that rises by the damage rewards what it should not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    BoardRow,
    aspect_scores,
    scaled,
    unit_of,
)
from cellular_bench.benchmark.analysis.statistics import average_seeds
from cellular_bench.benchmark.registry import built_in_canaries, method
from cellular_bench.benchmark.schema.records import MethodIdentity
from cellular_bench.core.types import AspectId

#: One per canary; None where no run of both has a value.
Gains = tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fooled:
    """What canaries gain on each score of a board.

    Attributes
    ----------
    undamaged
        Row of the method that is damaged.
    canaries
        Rows of canaries, in the order of the gains.
    overall, aspects, metrics
        Mean over splits of the score of a canary minus that of the undamaged method on the same split, with
        the same seed. Scores are 0 (worst end of the range) to 1 (best end).
    """

    undamaged: BoardRow
    canaries: tuple[BoardRow, ...]
    overall: Gains
    aspects: Mapping[AspectId, Gains]
    metrics: Mapping[str, Gains]


def fooled(board: Board) -> Fooled | None:
    """Compare the canaries of a board with the method that they damage.

    None without a damaged embedding, or without a run of that method with its defaults.
    """
    known = built_in_canaries()
    order = list(known)
    rows = sorted(
        (row for row in board.rows if row.method.method_id in known and row.method.source_digest is None),
        key=lambda row: order.index(row.method.method_id),
    )
    damaged = [name for row in rows if (name := known[row.method.method_id].variant_of) is not None]
    undamaged = next((row for row in board.rows if damaged and _is_default(row.method, damaged[0])), None)
    if undamaged is None:
        return None
    before = _scores(board, undamaged)
    gains = [_gains(before, _scores(board, row)) for row in rows]

    def of(kind: str, name: str) -> Gains:
        return tuple(found.get((kind, name)) for found in gains)

    return Fooled(
        undamaged=undamaged,
        canaries=tuple(rows),
        overall=of("", "overall"),
        aspects={aspect: of("aspect", aspect) for aspect in board.weights},
        metrics={spec.metric_id: of("metric", spec.metric_id) for spec in board.metrics},
    )


def _is_default(identity: MethodIdentity, name: str) -> bool:
    """Whether a row is of a method of this package, run as its canaries run it."""
    if identity.method_id != name or identity.source_digest is not None or identity.given_features:
        return False
    return identity.params == method(name).defaults


#: Scores by kind and name, for each run by its split and its seed.
_Scores = Mapping[tuple[str, int], tuple[tuple[str, float], Mapping[tuple[str, str], float]]]


def _scores(board: Board, row: BoardRow) -> _Scores:
    specs = {spec.metric_id: spec for spec in board.metrics}
    found = {}
    for run, overall in zip(row.done, row.run_scores, strict=True):
        values = {
            ("aspect", name): value
            for name, value in aspect_scores(run, board.metrics).items()
            if value is not None
        }
        values |= {
            ("metric", score.metric_id): scaled(specs[score.metric_id], score.value)
            for score in run.scores
            if score.value is not None and score.metric_id in specs
        }
        if overall is not None:
            values["", "overall"] = overall
        found[run.split.digest, run.seed] = unit_of(run.split), values
    return found


def _gains(before: _Scores, after: _Scores) -> dict[tuple[str, str], float]:
    """Average the differences of the runs that both have, over the seeds of a split, then over splits."""
    shared = [(*before[run][0], before[run][1], after[run][1]) for run in before if run in after]
    keys = dict.fromkeys(key for *_, one, other in shared for key in one if key in other)
    return {key: fmean(_differences(shared, key)) for key in keys}


def _differences(
    shared: Sequence[tuple[str, float, Mapping[tuple[str, str], float], Mapping[tuple[str, str], float]]],
    key: tuple[str, str],
) -> Iterator[float]:
    found = [
        (unit, overlap, other[key] - one[key])
        for unit, overlap, one, other in shared
        if key in one and key in other
    ]
    yield from (split.value for split in average_seeds(found))
