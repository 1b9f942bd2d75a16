"""Changes between two result folders, per method, data set and metric, with intervals."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cellular_bench.benchmark.analysis.data_versions import Version, version_names
from cellular_bench.benchmark.analysis.leaderboard import over_units, scaled, unit_of
from cellular_bench.benchmark.analysis.statistics import ROUNDING, Interval, average_seeds, interval
from cellular_bench.benchmark.schema.records import MethodIdentity, RunRecord, Score
from cellular_bench.core.types import MetricSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodOnData:
    """What is compared: a method with its genes and parameters on one kind of split of a data set.

    ``genes`` is empty if the method chose its own. ``data_version`` distinguishes data of the same
    ``dataset_id`` and is empty if there are no others.
    """

    task: str
    dataset_id: str
    data_version: str
    scheme: str
    method_id: str
    genes: str
    params: str

    @property
    def name(self) -> str:
        """Name the method, with its genes unless it chose them, and its parameters."""
        details = (f"({self.genes})" if self.genes else "", self.params if self.params != "{}" else "")
        return " ".join(filter(None, (self.method_id, *details)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One metric of one subject: means over the units that both have, see ``leaderboard.unit_of``.

    ``gain`` is the improvement as a share of the metric's range, with its 95 % interval over units.
    """

    subject: MethodOnData
    metric_id: str
    before: float
    after: float
    gain: Interval

    @property
    def is_certain(self) -> bool:
        """Whether the interval excludes zero."""
        low, high = self.gain.low, self.gain.high
        return low is not None and high is not None and not low - ROUNDING <= 0 <= high + ROUNDING


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A run that succeeded in the first folder and not in the second, or one of its scores that is gone."""

    subject: MethodOnData
    run: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotCompared:
    """Scores of one metric that common runs have and that were not compared, and why."""

    metric_id: str
    n_runs: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OneSided:
    """How many runs of a subject are in one of the folders only, and how many of them succeeded."""

    subject: MethodOnData
    n_runs: int
    n_ok: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderComparison:
    """The result of a comparison; the last two count runs that the other folder lacks."""

    changes: tuple[Change, ...]
    lost: tuple[Lost, ...]
    not_compared: tuple[NotCompared, ...]
    only_before: tuple[OneSided, ...]
    only_after: tuple[OneSided, ...]

    @property
    def n_absent(self) -> int:
        """Number of runs that succeeded and that the second folder lacks."""
        return sum(alone.n_ok for alone in self.only_before)

    def regressions(self, threshold: float) -> list[Change]:
        """Return the metrics whose mean is worse by more than a share of their range."""
        return [change for change in self.changes if -change.gain.mean > threshold]


#: Contents of data and split, and the seed: the identity of a run.
_Key = tuple[str, int]

#: A run before, a metric, and its score before and after, if any.
_Scores = tuple[RunRecord, str, Score | None, Score | None]


def compare(
    before: Iterable[RunRecord], after: Iterable[RunRecord], specs: Mapping[str, MetricSpec]
) -> FolderComparison:
    """Compare runs of the same method, parameters, cells and seed.

    Versions of methods and packages may differ: their effect is what a comparison is for. Versions of a
    metric may not.
    """
    before, after = tuple(before), tuple(after)
    versions = version_names(record.dataset for record in (*before, *after))
    first, second = _by_subject(before, versions), _by_subject(after, versions)
    changes: list[Change] = []
    lost: list[Lost] = []
    not_compared: Counter[tuple[str, str]] = Counter()
    for subject, runs in first.items():
        pairs = [(run, second[subject][key]) for key, run in runs.items() if key in second.get(subject, {})]
        scores = list(_scores(pairs))
        for _, metric_id, old, new in scores:
            if why := _why_not(old, new, known=metric_id in specs):
                not_compared[metric_id, why] += 1
        changes += _changes(subject, scores, specs)
        lost += _lost(subject, pairs, scores)
    return FolderComparison(
        changes=tuple(changes),
        lost=tuple(lost),
        not_compared=tuple(
            NotCompared(metric_id=metric_id, n_runs=n, reason=reason)
            for (metric_id, reason), n in sorted(not_compared.items())
        ),
        only_before=tuple(_one_sided(first, second)),
        only_after=tuple(_one_sided(second, first)),
    )


def _by_subject(
    records: Iterable[RunRecord], versions: Mapping[Version, str]
) -> dict[MethodOnData, dict[_Key, RunRecord]]:
    by_subject: dict[MethodOnData, dict[_Key, RunRecord]] = defaultdict(dict)
    for record in records:
        subject = MethodOnData(
            task=record.task,
            dataset_id=record.dataset.dataset_id,
            data_version=versions[record.dataset.dataset_id, record.dataset.digest],
            scheme=record.split.scheme or record.split.kind,
            method_id=record.method.method_id,
            genes=_given(record.method),
            params=json.dumps(record.method.params, sort_keys=True),
        )
        # The later record of a run wins, such as that of a newer version in the same folder.
        key = record.dataset.digest + record.split.digest, record.seed
        other = by_subject[subject].get(key)
        if other is None or other.finished_at < record.finished_at:
            by_subject[subject][key] = record
    return dict(sorted(by_subject.items(), key=lambda item: str(item[0])))


def _given(method: MethodIdentity) -> str:
    """Return the genes, and what else of the preprocessing, that a method did not choose."""
    setting = method.preprocessing.name if method.preprocessing else ""
    return " ".join(filter(None, (method.given_features, setting)))


def _one_sided(
    here: Mapping[MethodOnData, Mapping[_Key, RunRecord]],
    there: Mapping[MethodOnData, Mapping[_Key, RunRecord]],
) -> Iterable[OneSided]:
    for subject, runs in here.items():
        if alone := runs.keys() - there.get(subject, {}).keys():
            n_ok = sum(runs[key].status == "ok" for key in alone)
            yield OneSided(subject=subject, n_runs=len(alone), n_ok=n_ok, of=len(runs))


def _scores(pairs: Iterable[tuple[RunRecord, RunRecord]]) -> Iterable[_Scores]:
    for run, again in pairs:
        if run.status == again.status == "ok":
            old = {score.metric_id: score for score in run.scores}
            new = {score.metric_id: score for score in again.scores}
            for metric_id in old | new:
                yield run, metric_id, old.get(metric_id), new.get(metric_id)


def _why_not(old: Score | None, new: Score | None, *, known: bool) -> str:
    """Say why two scores of a metric are not compared; empty if they are, or the second is lost."""
    if old is None:
        return "in the second folder only"
    if new is None:
        return ""
    if old.version != new.version:
        return f"version {old.version} before, {new.version} after"
    if old.left_out != new.left_out:
        return f"small batches left out: {_batches(old)} before, {_batches(new)} after"
    return "" if known else "unknown here"


def _batches(score: Score) -> str:
    return ", ".join(score.left_out) or "none"


def _changes(
    subject: MethodOnData, scores: Sequence[_Scores], specs: Mapping[str, MetricSpec]
) -> Iterable[Change]:
    values: dict[str, list[tuple[RunRecord, float, float]]] = defaultdict(list)
    for run, metric_id, old, new in scores:
        if old is None or new is None or _why_not(old, new, known=metric_id in specs):
            continue
        if old.value is not None and new.value is not None:
            values[metric_id].append((run, old.value, new.value))
    for metric_id, pairs in values.items():
        spec = specs[metric_id]
        runs = [run for run, _, _ in pairs]
        gains = [(*unit_of(run.split), scaled(spec, new) - scaled(spec, old)) for run, old, new in pairs]
        yield Change(
            subject=subject,
            metric_id=metric_id,
            before=over_units(runs, (old for _, old, _ in pairs)).mean or 0.0,
            after=over_units(runs, (new for _, _, new in pairs)).mean or 0.0,
            gain=interval(average_seeds(gains)),
        )


def _lost(
    subject: MethodOnData, pairs: Sequence[tuple[RunRecord, RunRecord]], scores: Sequence[_Scores]
) -> Iterable[Lost]:
    for run, again in pairs:
        if run.status == "ok" and again.status != "ok":
            yield Lost(subject=subject, run=_name(run), reason=f"{again.status}: {again.reason}")
    for run, metric_id, old, new in scores:
        if old is None or old.value is None:
            continue
        if new is None:
            yield Lost(subject=subject, run=_name(run), reason=f"no {metric_id}: it was not computed")
        elif new.value is None and old.version == new.version:
            yield Lost(subject=subject, run=_name(run), reason=f"no {metric_id}: {new.reason}")


def _name(run: RunRecord) -> str:
    return f"{run.split.split_id}, seed {run.seed}"
