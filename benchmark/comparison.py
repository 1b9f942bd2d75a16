"""Two result folders side by side: what changed per method, data set and metric, and how sure that is."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cellular_bench.benchmark.leaderboard import scaled, unit_of
from cellular_bench.benchmark.records import RunRecord
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
    """A run that ended well in the first folder and not in the second."""

    subject: Subject
    run: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a comparison found.

    ``only_before`` and ``only_after`` are subjects that one of the folders lacks.
    """

    changes: tuple[Change, ...]
    lost: tuple[Lost, ...]
    only_before: tuple[Subject, ...]
    only_after: tuple[Subject, ...]

    def regressions(self, threshold: float) -> list[Change]:
        """Return the metrics whose mean is worse by more than a share of their range."""
        return [change for change in self.changes if -change.gain.mean > threshold]


#: Scores of the same cells and seed, by split digest and seed.
_Runs = Mapping[tuple[str, int], RunRecord]


def compare(
    before: Iterable[RunRecord], after: Iterable[RunRecord], specs: Mapping[str, MetricSpec]
) -> Report:
    """Compare runs of the same method, parameters, cells and seed.

    Versions of methods and packages may differ: their effect is what a comparison is for.
    """
    first, second = _by_subject(before), _by_subject(after)
    changes: list[Change] = []
    lost: list[Lost] = []
    for subject in first:
        if subject in second:
            changes += _changes(subject, first[subject], second[subject], specs)
            lost += _lost(subject, first[subject], second[subject])
    return Report(
        changes=tuple(changes),
        lost=tuple(lost),
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


def _changes(
    subject: Subject, before: _Runs, after: _Runs, specs: Mapping[str, MetricSpec]
) -> Iterable[Change]:
    pairs = [
        (run, after[key])
        for key, run in before.items()
        if key in after and run.status == after[key].status == "ok"
    ]
    metric_ids = dict.fromkeys(score.metric_id for run, _ in pairs for score in run.scores)
    for metric_id in metric_ids:
        spec = specs.get(metric_id)
        both = [(run, run.value(metric_id), new.value(metric_id)) for run, new in pairs]
        values = [(run, old, new) for run, old, new in both if old is not None and new is not None]
        if spec is not None and values:
            yield _change(subject, spec, values)


def _change(subject: Subject, spec: MetricSpec, values: Sequence[tuple[RunRecord, float, float]]) -> Change:
    gains = [(*unit_of(run.split), scaled(spec, new) - scaled(spec, old)) for run, old, new in values]
    return Change(
        subject=subject,
        metric_id=spec.metric_id,
        before=sum(old for _, old, _ in values) / len(values),
        after=sum(new for _, _, new in values) / len(values),
        gain=interval(average_seeds(gains)),
    )


def _lost(subject: Subject, before: _Runs, after: _Runs) -> Iterable[Lost]:
    for key, run in before.items():
        again = after.get(key)
        if run.status == "ok" and again is not None and again.status != "ok":
            name = f"{run.split.split_id}, seed {run.seed}"
            yield Lost(subject=subject, run=name, reason=f"{again.status}: {again.reason}")
