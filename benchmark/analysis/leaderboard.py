"""Records to rankings: one board per task, data set and kind of split.

A score depends on its own run alone: every metric is scaled by its own range, the aspect scores are plain
means, and the overall score is their mean under a rule of weights. Other rows matter for the rank only.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Final, Literal

from cellular_bench.benchmark.analysis.data_versions import version_names, versioned
from cellular_bench.benchmark.analysis.leak_canary import LeakCanary, leak_canary
from cellular_bench.benchmark.analysis.statistics import ROUNDING, SplitScore, average_seeds, interval
from cellular_bench.benchmark.registry import built_in_canaries
from cellular_bench.benchmark.schema.records import (
    Cost,
    DatasetIdentity,
    MethodIdentity,
    RunRecord,
    Score,
    SplitIdentity,
)
from cellular_bench.benchmark.schema.weights import Weights
from cellular_bench.benchmark.tasks import TASKS, LabelFree, Rule, Task
from cellular_bench.core.errors import UserError
from cellular_bench.core.labels import NO_LABELS
from cellular_bench.core.text import MOST_NAME, MOST_REASON, one_line
from cellular_bench.core.types import AT_ONCE, AspectId, MetricSpec, SplitKind, TaskId, aspect_title

Track = Literal["unsupervised", "supervised", "sees scored labels", "control"]
#: Tracks whose methods are ranked.
RANKED: tuple[Track, ...] = ("unsupervised", "supervised", "sees scored labels")
#: Why a run has no score of an aspect that is left out of its overall score.
UNDEFINED_ASPECT: Final = (
    "none of its metrics is defined on these data, so it is left out of the overall score"
)


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
class OtherScore:
    """Overall score and rank of a row under the other rule of its board.

    ``rank`` is the place among the rows of the track that are complete under that rule; a row without one has
    the reason in ``incomplete_because``, unless it is a control.
    """

    overall: Summary
    rank: int | None
    incomplete_because: str | None


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
    other
        The same under the other rule of the board; None if it has none.
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
    other: OtherScore | None = None

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
    rule
        How aspects make the overall score.
    aspects
        Aspects that count or have scores, in the order of the task's weights.
    other_rule
        A rule beside it, so that scores can be quoted under either; None if the task has one rule, or no run
        has scores of an aspect that the other one counts.
    instead_of
        The rule that was asked for, if no run has scores of an aspect that it counts, so that another had to
        take its place; None where none had to.
    settings
        Rows of the same methods at other settings of the preprocessing
        (:mod:`cellular_bench.benchmark.analysis.preprocessing`), which are not ranked: nothing but the tables
        of the preprocessing reads them. Empty if there is no row at the default setting; these rows are then
        ranked.
    left_out
        Aspects none of whose metrics is defined on the data, by the splits on which that is so. They are left
        out of the overall score there, whose other weights are scaled to add up to 1.
    """

    task: TaskId
    dataset: DatasetIdentity
    split_kind: SplitKind
    metrics: tuple[MetricSpec, ...]
    splits: tuple[SplitIdentity, ...]
    rows: tuple[BoardRow, ...]
    version: str = ""
    canary: LeakCanary | None = None
    rule: Rule
    aspects: tuple[AspectId, ...]
    other_rule: Rule | None = None
    instead_of: Rule | None = None
    settings: tuple[BoardRow, ...] = ()
    left_out: Mapping[AspectId, tuple[str, ...]] = field(default_factory=dict)

    @property
    def board_id(self) -> str:
        """Name of the board, unique in a result folder."""
        version = f"-{self.dataset.digest[:8]}" if self.version else ""
        return f"{self.task}-{self.dataset.dataset_id}-{_scheme(self.splits[0])}{version}"

    @property
    def weights(self) -> Mapping[AspectId, float]:
        """Weight of each aspect of the board in the overall score."""
        return {aspect: self.rule.weights[aspect] for aspect in self.aspects}

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
    if record.method.labels == "all" or record.split.kind in AT_ONCE:
        return "sees scored labels"
    return "supervised"


def is_transductive(record: RunRecord) -> bool:
    """Return whether a method embedded the scored cells alone, while others learn from training cells."""
    apart = TASKS[record.task].asks_at_once is not None and record.split.kind not in AT_ONCE
    return apart and not record.method.inductive and not record.method.is_control


def marks_scale(row: BoardRow) -> bool:
    """Return whether a row is a complete control that marks an end of the scale.

    Damaged embeddings do not: the scale is the same with and without canaries.
    """
    if row.track != "control" or row.incomplete_because is not None:
        return False
    canary = built_in_canaries().get(row.method.method_id)
    return canary is None or canary.variant_of is None


def scaled(spec: MetricSpec, value: float) -> float:
    """Map a value to 0 (worst end of the metric's range) ... 1 (best end); values beyond count as the end."""
    share = (value - spec.minimum) / (spec.maximum - spec.minimum)
    return min(1.0, max(0.0, share if spec.higher_is_better else 1.0 - share))


def aspect_scores(record: RunRecord, specs: Sequence[MetricSpec]) -> dict[AspectId, float | None]:
    """Average the scaled metrics of each aspect of one run.

    Metrics that are undefined on the data are left out, for every method alike. An aspect without any other
    is None. One that lacks a metric because of the method's own output, or has not been scored, is absent.
    """
    scores = {score.metric_id: score for score in record.scores}
    values: dict[AspectId, list[float]] = defaultdict(list)
    broken: set[AspectId] = set()
    for spec in specs:
        score = scores.get(spec.metric_id)
        if not spec.in_overall:
            continue
        found = values[spec.aspect]
        if score is not None and score.undefined_by == "data":
            continue
        if score is None or score.value is None:
            broken.add(spec.aspect)
        else:
            found.append(scaled(spec, score.value))
    return {
        aspect: fmean(found) if found else None for aspect, found in values.items() if aspect not in broken
    }


def overall_score(
    weights: Mapping[AspectId, float], aspects: Mapping[AspectId, float | None]
) -> float | None:
    """Weigh the aspect scores of one run; None if one that counts is absent.

    An aspect that is None is left out, and the other weights are scaled to add up to 1.

    Examples
    --------
    >>> overall_score({"a": 0.2, "b": 0.3, "c": 0.5}, {"a": 1.0, "b": 0.0, "c": None})
    0.4
    """
    counted = {aspect: weight for aspect, weight in weights.items() if weight > 0}
    if not counted.keys() <= aspects.keys():
        return None
    known = [(weight, score) for a, weight in counted.items() if (score := aspects[a]) is not None]
    if not known:
        return None
    total = 1.0 if len(known) == len(counted) else sum(weight for weight, _ in known)
    return sum(weight * score for weight, score in known) / total


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


def build_boards(
    records: Iterable[RunRecord], specs: Iterable[MetricSpec], *, weights: Weights | None = None
) -> tuple[Board, ...]:
    """Group records into boards and rank the methods of each; tasks that are not known here have none.

    ``weights`` are for the tasks that have such a rule or these aspects; the others keep their own.

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
    boards = (_board(groups[key], known, weights, version=versions[key[1], key[3]]) for key in ordered)
    return tuple(
        replace(
            board,
            canary=leak_canary(canaries.get(key, ()), [row.method for row in board.rows], method_key),
        )
        for key, board in zip(ordered, boards, strict=True)
    )


def under(board: Board, weights: Weights) -> Board:
    """Return a board ranked under another rule, which its task may not have: then under the default one."""
    runs = [run for row in (*board.rows, *board.settings) for run in row.runs]
    known = {spec.metric_id: spec for spec in board.metrics}
    return replace(_board(runs, known, weights, version=board.version), canary=board.canary)


def _scheme(split: SplitIdentity) -> str:
    return split.scheme or split.kind


def method_key(method: MethodIdentity) -> str:
    """Return the identity of a row: a method with other parameters is another row.

    Genes that a method did not choose are part of its name.
    """
    excluded = {"features", "given_features", "needs_names", "scaling"}
    excluded |= {name for name in ("preprocessing", "pretrained") if getattr(method, name) is None}
    return json.dumps(method.model_dump(mode="json", exclude=excluded), sort_keys=True)


def _board(
    records: Sequence[RunRecord], known: Mapping[str, MetricSpec], weights: Weights | None, *, version: str
) -> Board:
    first = records[0]
    wanted = {score.metric_id for record in records for score in record.scores}
    specs = tuple(spec for metric_id, spec in known.items() if metric_id in wanted)
    free = None if first.dataset.is_labelled else TASKS[first.task].without_labels
    if free is not None:
        specs = _label_free(specs, free, records)
    splits = {run.split.digest: run.split for run in records}
    by_method: dict[str, list[RunRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.run_id):
        by_method[method_key(record.method)].append(record)
    done = [run for run in records if run.status == "ok"]
    scored = {spec.aspect for spec in specs if spec.in_overall and any(_score(run, spec) for run in done)}
    task = TASKS[first.task]
    if free is None:
        rule, instead_of = _applicable(task, task.rule(weights), scored)
    else:
        rule, instead_of = _without_labels(task, free, weights)
    aspects = tuple(aspect for aspect in task.weights if aspect in rule.needs | scored)
    drafts = [_row(runs, specs, splits, rule, aspects) for runs in by_method.values()]
    settings = [row for row in drafts if row.method.preprocessing is not None]
    if len(settings) < len(drafts):
        drafts = [row for row in drafts if row.method.preprocessing is None]
    else:
        settings = []
    other = _beside(task, rule, scored) if free is None else None
    if other is not None:
        drafts = _with_other(drafts, specs, splits, other)
    return Board(
        task=first.task,
        dataset=first.dataset,
        split_kind=first.split.kind,
        metrics=specs,
        splits=tuple(sorted(splits.values(), key=lambda split: (split.split_id, split.digest))),
        rows=_ranked(drafts),
        version=version,
        rule=rule,
        aspects=aspects,
        other_rule=other,
        instead_of=instead_of,
        settings=tuple(sorted(settings, key=_order)),
        left_out=_left_out(done, specs, aspects),
    )


def _label_free(
    specs: Sequence[MetricSpec], free: LabelFree, runs: Iterable[RunRecord]
) -> tuple[MetricSpec, ...]:
    """Return the metrics that cells without labels can have, with what counts there in the overall score."""
    absent = {score.metric_id for run in runs for score in run.scores if score.reason == NO_LABELS}
    possible = (spec for spec in specs if spec.metric_id not in absent)
    return tuple(replace(spec, in_overall=spec.metric_id in free.metric_ids) for spec in possible)


def _without_labels(task: Task, free: LabelFree, weights: Weights | None) -> tuple[Rule, Rule | None]:
    """Return the rule on data without labels, and the one that was asked for if it counts other aspects."""
    asked = free.rule if weights is None else task.rule(weights)
    return (asked, None) if asked.needs <= free.rule.needs else (free.rule, asked)


def _score(run: RunRecord, spec: MetricSpec) -> Score | None:
    return next((score for score in run.scores if score.metric_id == spec.metric_id), None)


def _applicable(task: Task, asked: Rule, scored: Collection[AspectId]) -> tuple[Rule, Rule | None]:
    """Return the rule of a board, and the one that it stands in for.

    Records of earlier versions have no scores of newer aspects. If none has, the first rule takes over that
    does without.
    """
    if scored and not asked.needs <= set(scored):
        for rule in task.named_rules.values():
            if rule.needs <= set(scored):
                return rule, asked
    return asked, None


def _beside(task: Task, rule: Rule, scored: Collection[AspectId]) -> Rule | None:
    """Return the rule that is shown beside another: the first named one, or else the default."""
    default, *named = task.named_rules.values()
    others = (other for other in (*named, default) if other != rule and other.needs <= set(scored))
    return next(others, None) if named else None


def _left_out(
    done: Sequence[RunRecord], specs: Sequence[MetricSpec], aspects: Sequence[AspectId]
) -> dict[AspectId, tuple[str, ...]]:
    found: dict[AspectId, set[str]] = defaultdict(set)
    for run in done:
        for aspect, score in aspect_scores(run, specs).items():
            if score is None:
                found[aspect].add(run.split.split_id)
    return {aspect: tuple(sorted(found[aspect])) for aspect in aspects if aspect in found}


def _row(
    runs: Sequence[RunRecord],
    specs: Sequence[MetricSpec],
    splits: Mapping[str, SplitIdentity],
    rule: Rule,
    names: Sequence[AspectId],
) -> BoardRow:
    first = runs[0]
    done = [run for run in runs if run.status == "ok"]
    aspects = [aspect_scores(run, specs) for run in done]
    overall = [overall_score(rule.weights, scores) for scores in aspects]
    costs: list[Cost] = [run.cost for run in done if run.cost is not None]
    return BoardRow(
        method=first.method,
        rank=None,
        track=track_of(first),
        overall=over_units(done, overall),
        aspects={name: _aspect_summary(name, done, aspects) for name in names},
        metrics={spec.metric_id: _metric_summary(spec.metric_id, runs) for spec in specs},
        wall_time_s=Summary.of(cost.wall_time_s for cost in costs),
        cpu_time_s=Summary.of(cost.cpu_time_s for cost in costs),
        peak_rss_mib=Summary.of(cost.peak_rss_mib for cost in costs),
        warm_up_s=Summary.of(cost.warm_up_s for cost in costs),
        missing_splits=_absent(runs, splits),
        incomplete_because=_incomplete(runs, specs, rule, overall, _absent(runs, splits)),
        runs=tuple(runs),
        run_scores=tuple(overall),
    )


def _absent(runs: Sequence[RunRecord], splits: Mapping[str, SplitIdentity]) -> tuple[str, ...]:
    seen = {run.split.digest for run in runs}
    return tuple(sorted(split.split_id for digest, split in splits.items() if digest not in seen))


def _aspect_summary(
    name: AspectId, done: Sequence[RunRecord], aspects: Sequence[Mapping[AspectId, float | None]]
) -> Summary:
    reasons = (UNDEFINED_ASPECT if scores.get(name, 0.0) is None else None for scores in aspects)
    return over_units(done, (scores.get(name) for scores in aspects), reasons)


def _with_other(
    rows: Sequence[BoardRow], specs: Sequence[MetricSpec], splits: Mapping[str, SplitIdentity], rule: Rule
) -> list[BoardRow]:
    """Return rows with their score and rank under another rule."""
    others = []
    for row in rows:
        overall = [overall_score(rule.weights, aspect_scores(run, specs)) for run in row.done]
        why = _incomplete(row.runs, specs, rule, overall, row.missing_splits)
        others.append((over_units(row.done, overall), why))
    ranks = _ranks(
        [(row.track, None if why else all_.mean) for row, (all_, why) in zip(rows, others, strict=True)]
    )
    return [
        replace(row, other=OtherScore(overall=overall, rank=rank, incomplete_because=why))
        for row, (overall, why), rank in zip(rows, others, ranks, strict=True)
    ]


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
    rule: Rule,
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
        parts.append(
            f"{unscored} of {len(runs)} runs without an overall score ({_culprits(runs, specs, rule)})"
        )
    return "; ".join(parts) or None


def _culprits(runs: Sequence[RunRecord], specs: Sequence[MetricSpec], rule: Rule) -> str:
    """Name what lacks for an overall score: aspects without any score, then the method's own faults."""
    done = [run for run in runs if run.status == "ok"]
    counted = [spec for spec in specs if spec.in_overall and spec.aspect in rule.needs]
    by = {spec.name: [_undefined_by(run, spec) for run in done] for spec in counted}
    unscored = [
        aspect_title(aspect).lower()
        for aspect in dict.fromkeys(spec.aspect for spec in counted)
        if any(not any(_score(run, spec) for spec in counted if spec.aspect == aspect) for run in done)
    ]
    if unscored:
        return f"not scored for {_listed(unscored)}, which run-benchmark rescore adds to kept outputs"
    if own := [name for name, found in by.items() if "output" in found]:
        return f"no {_listed(own)}"
    if rule.needs - {spec.aspect for spec in counted}:
        return "an aspect has no metric at all"
    return f"undefined on these data: {_listed([name for name, found in by.items() if 'data' in found])}"


def _undefined_by(run: RunRecord, spec: MetricSpec) -> str | None:
    """Return what a run lacks a value by; one that was never computed counts as the method's fault."""
    score = _score(run, spec)
    return "output" if score is None else score.undefined_by


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(one_line(name, MOST_NAME) for name in names[:4]) + more


def _ranked(rows: Sequence[BoardRow]) -> tuple[BoardRow, ...]:
    """Sort complete rows by overall score, incomplete ones last, and number each track."""
    ranks = _ranks([(row.track, None if row.incomplete_because else row.overall.mean) for row in rows])
    placed = [replace(row, rank=rank) for row, rank in zip(rows, ranks, strict=True)]
    return tuple(sorted(placed, key=_order))


def _order(row: BoardRow) -> tuple[bool, float, str]:
    mean = row.overall.mean
    return row.incomplete_because is not None, -mean if mean is not None else 0.0, row.method.name


def _ranks(scores: Sequence[tuple[Track, float | None]]) -> list[int | None]:
    """Return 1 + the number of higher scores of the same track; None for controls and what has no score."""
    peers: dict[Track, list[float]] = defaultdict(list)
    for track, score in scores:
        if score is not None:
            peers[track].append(score)
    for found in peers.values():
        found.sort()
    return [
        None
        if score is None or track == "control"
        else 1 + len(peers[track]) - bisect_right(peers[track], score + ROUNDING)
        for track, score in scores
    ]
