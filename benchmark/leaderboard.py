"""Records to rankings: one board per task, data set and kind of split.

A score depends on its own run alone: every metric is scaled by its own range, and the aspect
scores are plain means. Nothing here looks at the other rows except to number them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Literal

from cellular_bench.benchmark.records import Cost, DatasetIdentity, MethodIdentity, RunRecord
from cellular_bench.benchmark.types import Aspect, MetricSpec, SplitKind, Task

Track = Literal["unsupervised", "supervised", "sees scored labels", "control"]

#: Weights of the aspects in the overall score of a task.
OVERALL_WEIGHTS: Mapping[Task, Mapping[Aspect, float]] = {
    "integration": {"batch_correction": 0.4, "bio_conservation": 0.6},
    "annotation": {"annotation": 1.0},
    "novelty": {"novelty": 1.0},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Mean and sample standard deviation over runs.

    Attributes
    ----------
    n
        Runs with a value.
    std
        None for a single run.
    reasons
        Why values are missing, with how often.
    """

    mean: float | None
    std: float | None
    n: int
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method on one board.

    Attributes
    ----------
    rank
        Place among the complete rows of the same track; None for controls and incomplete rows.
    track
        Which labels the method saw; rows of different tracks are not ranked against each other.
    overall, aspects, metrics
        Summaries over all splits and seeds.
    missing_metrics
        Metrics that these cells do not permit, left out of the means of every method alike.
    runs
        All its runs, failed ones too.
    """

    method: MethodIdentity
    rank: int | None
    track: Track
    overall: Summary
    aspects: Mapping[Aspect, Summary]
    metrics: Mapping[str, Summary]
    wall_time_s: Summary
    cpu_time_s: Summary
    peak_rss_mib: Summary
    missing_metrics: tuple[str, ...]
    incomplete_because: str | None
    runs: tuple[RunRecord, ...]

    @property
    def failures(self) -> tuple[RunRecord, ...]:
        """Runs that ended without scores."""
        return tuple(run for run in self.runs if run.status != "ok")


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The ranking of one task on one data set under one kind of split."""

    task: Task
    dataset: DatasetIdentity
    split_kind: SplitKind
    metrics: tuple[MetricSpec, ...]
    rows: tuple[Row, ...]

    @property
    def board_id(self) -> str:
        """Name of the board, unique in a result folder."""
        return f"{self.task}-{self.dataset.dataset_id}-{self.split_kind}"


def track_of(record: RunRecord) -> Track:
    """Tell which labels the method of a run saw."""
    if record.method.is_control:
        return "control"
    if record.method.labels == "none":
        return "unsupervised"
    if record.method.labels == "all" or record.split.kind == "all":
        return "sees scored labels"
    return "supervised"


def scaled(spec: MetricSpec, value: float) -> float:
    """Map a value to 0 (worst end of the metric's range) ... 1 (best end)."""
    share = (value - spec.minimum) / (spec.maximum - spec.minimum)
    return share if spec.higher_is_better else 1.0 - share


def aspect_scores(record: RunRecord, specs: Sequence[MetricSpec]) -> dict[Aspect, float]:
    """Average the scaled metrics of each aspect of one run.

    Metrics that the data do not permit are left out, for every method alike. An aspect that lacks
    a metric because of the method's own output has no score.
    """
    scores = {score.metric_id: score for score in record.scores}
    values: dict[Aspect, list[float]] = defaultdict(list)
    broken: set[Aspect] = set()
    for spec in specs:
        score = scores.get(spec.metric_id)
        if not spec.in_overall or (score is not None and score.undefined_by == "data"):
            continue
        if score is None or score.value is None:
            broken.add(spec.aspect)
        else:
            values[spec.aspect].append(scaled(spec, score.value))
    return {aspect: fmean(found) for aspect, found in values.items() if aspect not in broken}


def overall_score(task: Task, aspects: Mapping[Aspect, float]) -> float | None:
    """Weigh the aspect scores of one run; None where one is missing."""
    weights = OVERALL_WEIGHTS[task]
    if not weights.keys() <= aspects.keys():
        return None
    return sum(weight * aspects[aspect] for aspect, weight in weights.items())


def summarise(values: Iterable[float | None], reasons: Iterable[str | None] = ()) -> Summary:
    """Summarise the values that exist and count the reasons of the others."""
    found = [value for value in values if value is not None]
    return Summary(
        mean=fmean(found) if found else None,
        std=stdev(found) if len(found) > 1 else None,
        n=len(found),
        reasons=Counter(reason for reason in reasons if reason),
    )


def build_boards(records: Iterable[RunRecord], specs: Iterable[MetricSpec]) -> tuple[Board, ...]:
    """Group records into boards and rank the methods of each."""
    groups: dict[tuple[Task, str, SplitKind], list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[record.task, record.dataset.dataset_id, record.split.kind].append(record)
    known = {spec.metric_id: spec for spec in specs}
    return tuple(_board(groups[key], known) for key in sorted(groups))


def _board(records: Sequence[RunRecord], known: Mapping[str, MetricSpec]) -> Board:
    first = records[0]
    wanted = dict.fromkeys(score.metric_id for record in records for score in record.scores)
    specs = tuple(spec for metric_id, spec in known.items() if metric_id in wanted)
    by_method: dict[str, list[RunRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.run_id):
        by_method[method_key(record.method)].append(record)
    rows = [_row(runs, specs) for runs in by_method.values()]
    return Board(
        task=first.task,
        dataset=first.dataset,
        split_kind=first.split.kind,
        metrics=specs,
        rows=_ranked(rows),
    )


def method_key(method: MethodIdentity) -> str:
    """Tell apart the rows of a board: a method with other parameters is another row."""
    return method.model_dump_json()


def _row(runs: Sequence[RunRecord], specs: Sequence[MetricSpec]) -> Row:
    first = runs[0]
    done = [run for run in runs if run.status == "ok"]
    aspects = [aspect_scores(run, specs) for run in done]
    overall = [overall_score(first.task, scores) for scores in aspects]
    names: tuple[Aspect, ...] = tuple(OVERALL_WEIGHTS[first.task])
    metrics = {spec.metric_id: _metric_summary(spec.metric_id, runs) for spec in specs}
    costs: list[Cost] = [run.cost for run in done if run.cost is not None]
    missing = sorted({s.metric_id for run in done for s in run.scores if s.undefined_by == "data"})
    return Row(
        method=first.method,
        rank=None,
        track=track_of(first),
        overall=summarise(overall),
        aspects={name: summarise(scores.get(name) for scores in aspects) for name in names},
        metrics=metrics,
        wall_time_s=summarise(cost.wall_time_s for cost in costs),
        cpu_time_s=summarise(cost.cpu_time_s for cost in costs),
        peak_rss_mib=summarise(cost.peak_rss_mib for cost in costs),
        missing_metrics=tuple(missing),
        incomplete_because=_incomplete(runs, overall),
        runs=tuple(runs),
    )


def _metric_summary(metric_id: str, runs: Sequence[RunRecord]) -> Summary:
    reasons = []
    for run in runs:
        score = next((s for s in run.scores if s.metric_id == metric_id), None)
        reasons.append(f"run {run.status}: {run.reason}" if score is None else score.reason)
    return summarise([run.value(metric_id) for run in runs], reasons)


def _incomplete(runs: Sequence[RunRecord], overall: Sequence[float | None]) -> str | None:
    bad = Counter(run.status for run in runs if run.status != "ok")
    if bad:
        counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in bad.items())
        return f"{sum(bad.values())} of {len(runs)} runs without scores ({counts})"
    unscored = sum(score is None for score in overall)
    return f"{unscored} of {len(runs)} runs lack a metric of the overall score" if unscored else None


def _ranked(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Sort complete rows by overall score, incomplete ones last, and number each track."""

    def order(row: Row) -> tuple[bool, float, str]:
        mean = row.overall.mean
        return row.incomplete_because is not None, -mean if mean is not None else 0.0, row.method.name

    places: Counter[Track] = Counter()
    ranked = []
    for row in sorted(rows, key=order):
        if row.track != "control" and row.incomplete_because is None:
            places[row.track] += 1
            ranked.append(replace(row, rank=places[row.track]))
        else:
            ranked.append(row)
    return tuple(ranked)
