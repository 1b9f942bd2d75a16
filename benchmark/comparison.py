"""Two result folders side by side: what changed per method, data set and metric, and how sure that is."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cellular_bench.benchmark.leaderboard import scaled, unit_of
from cellular_bench.benchmark.records import RunRecord, Score
from cellular_bench.benchmark.statistics import Interval, average_seeds, interval
from cellular_bench.benchmark.types import MetricSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is compared: a method with its parameters on one cutting of a data set."""

    task: str
    dataset_id: str
    scheme: str
    method_id: str
    params: str

    @property
    def name(self) -> str:
        """Name the method, with its parameters where they are not the defaults of both."""
        return self.method_id if self.params in ("", "{}") else f"{self.method_id} {self.params}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One metric of one subject.

    Attributes
    ----------
    before, after
        Means over the splits that both have, on the metric's own scale.
    gain
        How much better the second is, as a share of the metric's range, with its 95 % interval over splits.
    """

    subject: Subject
    metric_id: str
    before: float
    after: float
    gain: Interval

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves zero out."""
        low, high = self.gain.low, self.gain.high
        return low is not None and high is not None and not low <= 0 <= high


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A run that ended well in the first folder and not in the second, or one of its scores that is gone."""

    subject: Subject
    run: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherVersion:
    """Scores that the folders computed by different versions of a metric, which are not compared."""

    metric_id: str
    before: int
    after: int
    n_runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a comparison found.

    ``only_before`` and ``only_after`` are subjects that one of the folders lacks.
    """

    changes: tuple[Change, ...]
    lost: tuple[Lost, ...]
    other_versions: tuple[OtherVersion, ...]
    only_before: tuple[Subject, ...]
    only_after: tuple[Subject, ...]

    def regressions(self, threshold: float) -> list[Change]:
        """Return the metrics whose mean is worse by more than a share of their range."""
        return [change for change in self.changes if -change.gain.mean > threshold]


#: A run before, and what one metric gave for it before and after.
_Pair = tuple[RunRecord, Score, Score]


def compare(
    before: Iterable[RunRecord], after: Iterable[RunRecord], specs: Mapping[str, MetricSpec]
) -> Report:
    """Compare runs of the same method, parameters, cells and seed.

    Versions of methods and packages may differ: their effect is what a comparison is for. Versions of a
    metric may not.
    """
    first, second = _by_subject(before), _by_subject(after)
    changes: list[Change] = []
    lost: list[Lost] = []
    versions: Counter[tuple[str, int, int]] = Counter()
    for subject in first:
        if subject in second:
            pairs = [
                (run, second[subject][key]) for key, run in first[subject].items() if key in second[subject]
            ]
            scores = list(_scores(pairs))
            versions.update((old.metric_id, old.version, new.version) for _, old, new in scores)
            changes += _changes(subject, scores, specs)
            lost += _lost(subject, pairs, scores)
    return Report(
        changes=tuple(changes),
        lost=tuple(lost),
        other_versions=tuple(
            OtherVersion(metric_id=metric_id, before=old, after=new, n_runs=n)
            for (metric_id, old, new), n in sorted(versions.items())
            if old != new
        ),
        only_before=tuple(subject for subject in first if subject not in second),
        only_after=tuple(subject for subject in second if subject not in first),
    )


def _by_subject(records: Iterable[RunRecord]) -> dict[Subject, dict[tuple[str, int], RunRecord]]:
    found: dict[Subject, dict[tuple[str, int], RunRecord]] = defaultdict(dict)
    for record in records:
        subject = Subject(
            task=record.task,
            dataset_id=record.dataset.dataset_id,
            scheme=record.split.scheme or record.split.kind,
            method_id=record.method.method_id,
            params=json.dumps(record.method.params, sort_keys=True),
        )
        # The later record of one run wins, such as that of a newer version in the same folder.
        key = record.dataset.digest + record.split.digest, record.seed
        other = found[subject].get(key)
        if other is None or other.finished_at < record.finished_at:
            found[subject][key] = record
    return dict(sorted(found.items(), key=lambda item: str(item[0])))


def _scores(pairs: Iterable[tuple[RunRecord, RunRecord]]) -> Iterable[_Pair]:
    for run, again in pairs:
        new = {score.metric_id: score for score in again.scores}
        for old in run.scores:
            if run.status == again.status == "ok" and old.metric_id in new:
                yield run, old, new[old.metric_id]


def _changes(subject: Subject, scores: Sequence[_Pair], specs: Mapping[str, MetricSpec]) -> Iterable[Change]:
    values: dict[str, list[tuple[RunRecord, float, float]]] = defaultdict(list)
    for run, old, new in scores:
        if old.version == new.version and old.value is not None and new.value is not None:
            values[old.metric_id].append((run, old.value, new.value))
    for metric_id, found in values.items():
        if metric_id in specs:
            yield _change(subject, specs[metric_id], found)


def _change(subject: Subject, spec: MetricSpec, values: Sequence[tuple[RunRecord, float, float]]) -> Change:
    gains = [(*unit_of(run.split), scaled(spec, new) - scaled(spec, old)) for run, old, new in values]
    return Change(
        subject=subject,
        metric_id=spec.metric_id,
        before=sum(old for _, old, _ in values) / len(values),
        after=sum(new for _, _, new in values) / len(values),
        gain=interval(average_seeds(gains)),
    )


def _lost(
    subject: Subject, pairs: Sequence[tuple[RunRecord, RunRecord]], scores: Sequence[_Pair]
) -> Iterable[Lost]:
    for run, again in pairs:
        if run.status == "ok" and again.status != "ok":
            yield Lost(subject=subject, run=_name(run), reason=f"{again.status}: {again.reason}")
    for run, old, new in scores:
        if old.version == new.version and old.value is not None and new.value is None:
            yield Lost(subject=subject, run=_name(run), reason=f"no {old.metric_id}: {new.reason}")


def _name(run: RunRecord) -> str:
    return f"{run.split.split_id}, seed {run.seed}"
