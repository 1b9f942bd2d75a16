"""Records to rankings: one board per task, data set and kind of split.

A score depends on its own run alone: every metric is scaled by its own range, and the aspect
scores are plain means. Other rows matter for the rank only.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Literal

from cellular_bench.benchmark.analysis.data_versions import version_names, versioned
from cellular_bench.benchmark.analysis.leak_canary import LeakCanary, leak_canary
from cellular_bench.benchmark.analysis.statistics import ROUNDING, SplitScore, average_seeds, interval
from cellular_bench.benchmark.schema.records import (
    Cost,
    DatasetIdentity,
    MethodIdentity,
    RunRecord,
    SplitIdentity,
)
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.errors import UserError
from cellular_bench.core.text import MOST_NAME, MOST_REASON, one_line
from cellular_bench.core.types import AspectId, MetricSpec, SplitKind, TaskId

Track = Literal["unsupervised", "supervised", "sees scored labels", "control"]
#: Tracks whose methods are ranked.
RANKED: tuple[Track, ...] = ("unsupervised", "supervised", "sees scored labels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Mean and sample standard deviation over the ``n`` runs with a value; counts of reasons of the others.

    Means of scores are over splits or held-out labels, see :func:`over_units`.
    """

    mean: float | None
    std: float | None
    n: int
    reasons: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Iterable[float | None], reasons: Iterable[str | None] = ()) -> Summary:
        """Summarise the values that exist and count the reasons of the others."""
        known = [value for value in values if value is not None]
        return cls(
            mean=fmean(known) if known else None,
            std=stdev(known) if len(known) > 1 else None,
            n=len(known),
            reasons=Counter(reason for reason in reasons if reason),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardRow:
    """One method on one board.

    Attributes
    ----------
    rank
        Place among the complete rows of the same track, shared by equal scores; None for controls
        and incomplete rows.
    track
        Which labels the method saw; rows of different tracks are not ranked against each other.
    missing_splits
        Splits of the board that the method was never run on.
    run_scores
        Overall score of each of its ``runs`` that ended with scores.
    """

    method: MethodIdentity
    rank: int | None
    track: Track
    overall: Summary
    aspects: Mapping[AspectId, Summary]
    metrics: Mapping[str, Summary]
    wall_time_s: Summary
    cpu_time_s: Summary
    peak_rss_mib: Summary
    warm_up_s: Summary
    missing_splits: tuple[str, ...]
    incomplete_because: str | None
    runs: tuple[RunRecord, ...]
    run_scores: tuple[float | None, ...] = ()

    @property
    def done(self) -> tuple[RunRecord, ...]:
        """Runs that ended with scores."""
        return tuple(run for run in self.runs if run.status == "ok")

    @property
    def failures(self) -> tuple[RunRecord, ...]:
        """Runs that ended without scores."""
        return tuple(run for run in self.runs if run.status != "ok")

    @property
    def coverage(self) -> tuple[int, int]:
        """Runs with scores, and runs that there should be: a split never run counts as one."""
        return len(self.runs) - len(self.failures), len(self.runs) + len(self.missing_splits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The ranking of one task on one data set under one kind of split.

    Attributes
    ----------
    version
        What distinguishes the data from others of the same ``dataset_id`` in the result folder, such as
        ``"300 cells"``; the digest is then part of ``board_id``. Empty if there are no others.
    canary
        What its leak canary found; None without one.
    """

    task: TaskId
    dataset: DatasetIdentity
    split_kind: SplitKind
    metrics: tuple[MetricSpec, ...]
    splits: tuple[SplitIdentity, ...]
    rows: tuple[BoardRow, ...]
    version: str = ""
    canary: LeakCanary | None = None

    @property
    def board_id(self) -> str:
        """Name of the board, unique in a result folder."""
        version = f"-{self.dataset.digest[:8]}" if self.version else ""
        return f"{self.task}-{self.dataset.dataset_id}-{_scheme(self.splits[0])}{version}"

    @property
    def weights(self) -> Mapping[AspectId, float]:
        """Weight of each aspect in the overall score."""
        return TASKS[self.task].weights

    @property
    def dataset_title(self) -> str:
        """Title of the data set, with what distinguishes it from others of the same ``dataset_id``."""
        return versioned(self.dataset.title, self.version)


def track_of(record: RunRecord) -> Track:
    """Return the track of a run: which labels its method saw."""
    if record.method.is_control:
        return "control"
    if record.method.labels == "none":
        return "unsupervised"
    if record.method.labels == "all" or record.split.kind == "all":
        return "sees scored labels"
    return "supervised"


def is_transductive(record: RunRecord) -> bool:
    """Return whether a method embedded the scored cells alone, while others learn from training cells."""
    apart = TASKS[record.task].asks_at_once is not None and record.split.kind != "all"
    return apart and not record.method.inductive and not record.method.is_control


def scaled(spec: MetricSpec, value: float) -> float:
    """Map a value to 0 (worst end of the metric's range) ... 1 (best end); what lies outside, to the end."""
    share = min(max((value - spec.minimum) / (spec.maximum - spec.minimum), 0.0), 1.0)
    return share if spec.higher_is_better else 1.0 - share


def aspect_scores(record: RunRecord, specs: Sequence[MetricSpec]) -> dict[AspectId, float]:
    """Average the scaled metrics of each aspect of one run.

    Metrics that are undefined on the data are left out, for every method alike. An aspect that lacks a
    metric because of the method's own output has no score.
    """
    scores = {score.metric_id: score for score in record.scores}
    values: dict[AspectId, list[float]] = defaultdict(list)
    broken: set[AspectId] = set()
    for spec in specs:
        score = scores.get(spec.metric_id)
        if not spec.in_overall or (score is not None and score.undefined_by == "data"):
            continue
        if score is None or score.value is None:
            broken.add(spec.aspect)
        else:
            values[spec.aspect].append(scaled(spec, score.value))
    return {aspect: fmean(scores) for aspect, scores in values.items() if aspect not in broken}


def overall_score(task: TaskId, aspects: Mapping[AspectId, float]) -> float | None:
    """Weigh the aspect scores of one run; None if one is missing."""
    weights = TASKS[task].weights
    if not weights.keys() <= aspects.keys():
        return None
    return sum(weight * aspects[aspect] for aspect, weight in weights.items())


def split_scores(row: BoardRow) -> tuple[SplitScore, ...]:
    """Return the overall scores of a row, one per split, averaged over seeds.

    If labels were held out, there is one per label, averaged over folds: the question is how a method does
    on new types, and types differ far more than folds.
    """
    return _by_unit(row.done, row.run_scores)


def _by_unit(runs: Iterable[RunRecord], values: Iterable[float | None]) -> tuple[SplitScore, ...]:
    pairs = zip(runs, values, strict=True)
    return average_seeds([(*unit_of(run.split), value) for run, value in pairs if value is not None])


def overall_interval(row: BoardRow) -> tuple[float, float] | None:
    """Return the confidence interval of the overall score; None for incomplete rows and a single split."""
    scores = split_scores(row)
    if row.incomplete_because is not None or not scores:
        return None
    between = interval(scores)
    return None if between.low is None or between.high is None else (between.low, between.high)


def unit_of(split: SplitIdentity) -> tuple[str, float]:
    """Return the unit of intervals and tests that a split belongs to, and their overlap of training cells."""
    if split.unseen_labels:
        return " + ".join(split.unseen_labels), 0.0
    return split.split_id, max(0, split.n_test) / split.n_train if split.n_train > 0 else 0.0


def over_units(
    runs: Iterable[RunRecord], values: Iterable[float | None], reasons: Iterable[str | None] = ()
) -> Summary:
    """Summarise a value of each run; the mean is over units, so that each counts the same.

    The runs of a unit, see :func:`unit_of`, are averaged first, however many there are. The deviation is that
    of the runs.
    """
    values = tuple(values)
    summary = Summary.of(values, reasons)
    units = _by_unit(runs, values)
    return replace(summary, mean=fmean(unit.value for unit in units)) if units else summary


def build_boards(records: Iterable[RunRecord], specs: Iterable[MetricSpec]) -> tuple[Board, ...]:
    """Group records into boards and rank the methods of each; tasks that are not known here have none.

    Records of one ``dataset_id`` with different contents (digests), or split by different schemes
    (three folds and five), are put on different boards: their numbers cannot be compared. Records of leak
    canaries are no rows; what they say of the methods goes with the board.

    Raises
    ------
    UserError
        If two records have the same ``run_id``: one run would count twice.
    """
    records = tuple(records)
    repeated = [run_id for run_id, n in Counter(record.run_id for record in records).items() if n > 1]
    if repeated:
        raise UserError(
            f"{len(repeated)} run_id(s) came more than once, the first is '{repeated[0]}': "
            "give every run once, from one result folder."
        )
    groups: dict[tuple[TaskId, str, str, str], list[RunRecord]] = defaultdict(list)
    canaries: dict[tuple[TaskId, str, str, str], list[RunRecord]] = defaultdict(list)
    for record in (record for record in records if record.task in TASKS):
        data = record.dataset
        if record.canary_of is None:
            groups[record.task, data.dataset_id, _scheme(record.split), data.digest].append(record)
        else:
            of = record.canary_of
            canaries[record.task, data.dataset_id, of.scheme, of.dataset_digest].append(record)
    known = {spec.metric_id: spec for spec in specs}
    versions = version_names(record.dataset for record in records if not record.is_canary)
    ordered = sorted(groups, key=lambda key: (list(TASKS).index(key[0]), *key[1:]))
    return tuple(
        _board(groups[key], known, versions[key[1], key[3]], canaries.get(key, ())) for key in ordered
    )


def _scheme(split: SplitIdentity) -> str:
    return split.scheme or split.kind


def method_key(method: MethodIdentity) -> str:
    """Return the identity of a row: a method with other parameters is another row.

    Genes that a method did not choose are part of its name.
    """
    excluded = {"features", "given_features", "needs_names"}
    return json.dumps(method.model_dump(mode="json", exclude=excluded), sort_keys=True)


def _board(
    records: Sequence[RunRecord],
    known: Mapping[str, MetricSpec],
    version: str,
    canaries: Sequence[RunRecord],
) -> Board:
    first = records[0]
    wanted = {score.metric_id for record in records for score in record.scores}
    specs = tuple(spec for metric_id, spec in known.items() if metric_id in wanted)
    splits = {run.split.digest: run.split for run in records}
    by_method: dict[str, list[RunRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.run_id):
        by_method[method_key(record.method)].append(record)
    rows = [_row(runs, specs, splits) for runs in by_method.values()]
    return Board(
        task=first.task,
        dataset=first.dataset,
        split_kind=first.split.kind,
        metrics=specs,
        splits=tuple(sorted(splits.values(), key=lambda split: (split.split_id, split.digest))),
        rows=_ranked(rows),
        version=version,
        canary=leak_canary(canaries, [row.method for row in rows], method_key),
    )


def _row(
    runs: Sequence[RunRecord], specs: Sequence[MetricSpec], splits: Mapping[str, SplitIdentity]
) -> BoardRow:
    first = runs[0]
    done = [run for run in runs if run.status == "ok"]
    aspects = [aspect_scores(run, specs) for run in done]
    overall = [overall_score(first.task, scores) for scores in aspects]
    names: tuple[AspectId, ...] = tuple(TASKS[first.task].weights)
    costs: list[Cost] = [run.cost for run in done if run.cost is not None]
    seen = {run.split.digest for run in runs}
    absent = sorted(split.split_id for digest, split in splits.items() if digest not in seen)
    return BoardRow(
        method=first.method,
        rank=None,
        track=track_of(first),
        overall=over_units(done, overall),
        aspects={name: over_units(done, (scores.get(name) for scores in aspects)) for name in names},
        metrics={spec.metric_id: _metric_summary(spec.metric_id, runs) for spec in specs},
        wall_time_s=Summary.of(cost.wall_time_s for cost in costs),
        cpu_time_s=Summary.of(cost.cpu_time_s for cost in costs),
        peak_rss_mib=Summary.of(cost.peak_rss_mib for cost in costs),
        warm_up_s=Summary.of(cost.warm_up_s for cost in costs),
        missing_splits=tuple(absent),
        incomplete_because=_incomplete(runs, specs, overall, absent),
        runs=tuple(runs),
        run_scores=tuple(overall),
    )


def run_failure(run: RunRecord) -> str:
    """Say how a run without scores ended."""
    return f"run {run.status.replace('_', ' ')}: {one_line(run.reason or '', MOST_REASON)}"


def _metric_summary(metric_id: str, runs: Sequence[RunRecord]) -> Summary:
    reasons: list[str | None] = []
    for run in runs:
        score = next((s for s in run.scores if s.metric_id == metric_id), None)
        why = "not computed in this run" if score is None else score.reason
        reasons.append(run_failure(run) if run.status != "ok" else why and one_line(why, MOST_REASON))
    values = (run.value(metric_id) if run.status == "ok" else None for run in runs)
    return over_units(runs, values, reasons)


def _incomplete(
    runs: Sequence[RunRecord],
    specs: Sequence[MetricSpec],
    overall: Sequence[float | None],
    absent: Sequence[str],
) -> str | None:
    """Say why a row cannot be ranked; None if it can."""
    parts = []
    bad = Counter(run.status for run in runs if run.status != "ok")
    if bad:
        counts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in bad.items())
        parts.append(f"{sum(bad.values())} of {len(runs)} runs without scores ({counts})")
    if absent:
        parts.append(f"never run on {_listed(absent)}")
    unscored = sum(score is None for score in overall)
    if unscored:
        parts.append(f"{unscored} of {len(runs)} runs without an overall score ({_culprits(runs, specs)})")
    return "; ".join(parts) or None


def _culprits(runs: Sequence[RunRecord], specs: Sequence[MetricSpec]) -> str:
    """Name the metrics for which scored runs have no overall score, the method's own faults first."""
    done = [run for run in runs if run.status == "ok"]
    own, given = [], []
    for spec in specs:
        by = [
            next((s.undefined_by for s in r.scores if s.metric_id == spec.metric_id), "output") for r in done
        ]
        if spec.in_overall and "output" in by:
            own.append(spec.name)
        elif spec.in_overall and "data" in by:
            given.append(spec.name)
    if own:
        return f"no {_listed(own)}"
    return f"undefined on these data: {_listed(given)}" if given else "an aspect has no metric at all"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(one_line(name, MOST_NAME) for name in names[:4]) + more


def _ranked(rows: Sequence[BoardRow]) -> tuple[BoardRow, ...]:
    """Sort complete rows by overall score, incomplete ones last, and number each track."""

    def order(row: BoardRow) -> tuple[bool, float, str]:
        mean = row.overall.mean
        return row.incomplete_because is not None, -mean if mean is not None else 0.0, row.method.name

    peers: dict[Track, list[float]] = defaultdict(list)
    for row in rows:
        if row.incomplete_because is None:
            peers[row.track].append(row.overall.mean or 0.0)
    for scores in peers.values():
        scores.sort()
    return tuple(replace(row, rank=_place(row, peers)) for row in sorted(rows, key=order))


def _place(row: BoardRow, peers: Mapping[Track, Sequence[float]]) -> int | None:
    """Return 1 + the number of complete rows of the same track that score higher; ``peers`` are sorted."""
    if row.track == "control" or row.incomplete_because is not None:
        return None
    scores = peers[row.track]
    return 1 + len(scores) - bisect_right(scores, (row.overall.mean or 0.0) + ROUNDING)
