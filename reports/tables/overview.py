"""What a reader needs to know of a board before its tables, and where its numbers come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cellular_bench.benchmark.analysis.data_versions import version_names, versioned
from cellular_bench.benchmark.analysis.leaderboard import (
    Board,
    Row,
    Track,
    is_transductive,
    method_key,
)
from cellular_bench.benchmark.analysis.rank_stability import against_best, aspect_leaders
from cellular_bench.benchmark.analysis.statistics import Comparison
from cellular_bench.benchmark.schema.records import (
    DatasetIdentity,
    Environment,
    RunRecord,
    SplitIdentity,
)
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.types import STRESSES, AspectId, MetricSpec, SplitKind, TaskId, aspect_title
from cellular_bench.reports.tables.common import display_names, overall_spread
from cellular_bench.reports.tables.model import TRANSDUCTIVE, number, plural

SPLIT_TITLES: Mapping[SplitKind, str] = {
    "all": "all cells at once",
    "kfold": "cross-validation over cells",
    "leave_one_batch_out": "leave one batch out",
    "unseen_label": "labels held out",
    "private_label": "a batch with a label of its own",
    "reference_query": "reference to query",
}

#: Names in a sentence; more are counted.
MOST_NAMED = 4

#: Ranked tracks, and what their methods have in common.
RANKED_TRACKS: Mapping[Track, str] = {
    "unsupervised": "without labels",
    "supervised": "with training labels",
    "sees scored labels": "shown scored labels",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """The best complete methods of a track; several where they tie."""

    title: str
    names: tuple[str, ...]
    score: str
    spread: str
    verdicts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The few numbers that matter of one board."""

    board_id: str
    title: str
    subtitle: str
    facts: str
    winners: tuple[Winner, ...]
    runs: str
    n_failed: int
    n_incomplete: int


def overview(board: Board) -> Overview:
    """Sum a board up."""
    n_incomplete = sum(row.incomplete_because is not None for row in board.rows)
    runs = [run for row in board.rows for run in row.runs]
    n_failed = sum(run.status != "ok" for run in runs)
    return Overview(
        board_id=board.board_id,
        title=f"{TASKS[board.task].title} · {board.dataset_title}",
        subtitle=subtitle(board),
        facts=facts(board),
        winners=tuple(w for track in RANKED_TRACKS if (w := _winner(board, track)) is not None),
        runs=runs_in_words(runs),
        n_failed=n_failed,
        n_incomplete=n_incomplete,
    )


def subtitle(board: Board) -> str:
    """Say how the cells were cut, and what was made harder."""
    stress = board.splits[0].stress
    if stress is None:
        return SPLIT_TITLES[board.split_kind]
    info = STRESSES[stress.kind]
    return f"{SPLIT_TITLES[board.split_kind]}; {info.title.lower()}: {stress.level:g} ({info.unit})"


def facts(board: Board) -> str:
    """Describe the cells, splits and seeds: ``"3,607 cells × 2,000 genes · 4 batches · ..."``."""
    data = board.dataset
    seeds = {run.seed for row in board.rows for run in row.runs}
    size = (
        f"{data.n_obs:,} cells × {data.n_vars:,} genes",
        plural(data.n_batches, "batch"),
        plural(data.n_labels, "label"),
    )
    return " · ".join(
        (
            *(size if data.n_obs else ("size not stated",)),
            plural(len(board.splits), "split"),
            plural(len(seeds), "seed"),
        )
    )


def runs_in_words(runs: Sequence[RunRecord]) -> str:
    """Count outcomes: ``"12 of 14 runs succeeded; 1 failed, 1 timeout"``."""
    counts = Counter(run.status for run in runs)
    succeeded = counts.pop("ok", 0)
    rest = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(counts.items()))
    head = f"{succeeded:,} of {plural(len(runs), 'run')} succeeded"
    return f"{head}; {rest}" if rest else head


def _winner(board: Board, track: Track) -> Winner | None:
    ranked = [row for row in board.rows if row.track == track and row.rank is not None]
    best = [row for row in ranked if row.rank == 1]
    if not best:
        return None
    names = display_names(board)
    some = "Best of" if len(ranked) > 1 else "Only"
    return Winner(
        title=f"{some} {plural(len(ranked), 'method')} {RANKED_TRACKS[track]}",
        names=tuple(_full_name(row, names, TRANSDUCTIVE) for row in best),
        score=number(best[0].overall.mean or 0.0),
        spread=overall_spread(best[0]),
        verdicts=_verdicts(board, ranked, names),
    )


def _verdicts(board: Board, ranked: Sequence[Row], names: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """Say what the best is not told apart from, overall and by aspect, or that too little was run."""
    best, *others = ranked
    if not others:
        return ()
    unit = "held-out label" if best.runs[0].split.unseen_labels else "split"
    full = {method_key(row.method): _full_name(row, names) for row in ranked}
    found = tuple(against_best(board, best.track).values())
    if any(comparison.p_value is None for comparison in found):
        return (f"Too few to tell methods apart: {plural(found[0].n, unit)}.",)
    test = "t test" if unit == "held-out label" else "corrected t test"
    splits = f"{test} over {plural(found[0].n, unit)}, Holm"
    leaders = aspect_leaders(board, best.track) if len(board.weights) > 1 else {}
    tied = _tied(found, full)
    overall = f"Not told apart at 5 % from {tied}" if tied else "Better than all others at 5 %"
    return (f"{overall} ({splits}).", *(_leads(aspect, *leader, full) for aspect, leader in leaders.items()))


def _leads(aspect: AspectId, best: str, found: Sequence[Comparison], names: Mapping[str, str]) -> str:
    """Write who leads on one aspect: ``"On bio conservation, A leads and is not told apart from B."``."""
    tied = _tied(found, names)
    told = f"is not told apart from {tied}" if tied else "is better than all others"
    return f"On {aspect_title(aspect).lower()}, {names[best]} leads and {told}."


def _tied(found: Sequence[Comparison], names: Mapping[str, str]) -> str:
    """List the methods that the best one is not told apart from, the first few by name."""
    tied = [names[comparison.second] for comparison in found if not comparison.is_different]
    rest = [f"{len(tied) - MOST_NAMED} more"] if len(tied) > MOST_NAMED else []
    return ", ".join([*tied[:MOST_NAMED], *rest])


def _full_name(row: Row, names: Mapping[str, tuple[str, str]], mark: str = "") -> str:
    """Write the name of a row, what tells it from others of that name, and a mark if it is transductive."""
    name, detail = names[method_key(row.method)]
    told = ", ".join(filter(None, (detail, mark if is_transductive(row.runs[0]) else "")))
    return f"{name} ({told})" if told else name


def weights_in_words(task: TaskId, specs: Iterable[MetricSpec]) -> str:
    """Write the formula of the overall score: ``"0.4 × batch correction + 0.6 × ..."``, or its metrics."""
    weights = TASKS[task].weights
    if len(weights) == 1:
        (aspect,) = weights
        names = [spec.name for spec in specs if spec.aspect == aspect and spec.in_overall]
        return f"the mean of {', '.join(names)}"
    return " + ".join(f"{weight:g} × {aspect_title(aspect).lower()}" for aspect, weight in weights.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitUse:
    """A split of a data set, and the seeds that were run on it."""

    dataset: str
    split: SplitIdentity
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentUse:
    """An environment and how many runs it had."""

    environment: Environment
    n_runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWarning:
    """A warning of the data of one or more runs."""

    dataset: str
    text: str
    n_runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Everything that went into the numbers."""

    datasets: tuple[DatasetIdentity, ...]
    splits: tuple[SplitUse, ...]
    environments: tuple[EnvironmentUse, ...]
    warnings: tuple[RunWarning, ...]
    outdated: tuple[str, ...]
    suites: tuple[str, ...]
    started: str
    finished: str


def provenance(records: Sequence[RunRecord], specs: Mapping[str, MetricSpec]) -> Provenance:
    """Collect data, splits, seeds, versions and environments of all runs."""
    datasets = {(run.dataset.dataset_id, run.dataset.digest): run.dataset for run in records}
    environments = Counter(run.environment.model_dump_json() for run in records)
    return Provenance(
        datasets=tuple(datasets[key] for key in sorted(datasets)),
        splits=_splits(records),
        environments=tuple(
            EnvironmentUse(environment=Environment.model_validate_json(text), n_runs=n)
            for text, n in environments.most_common()
        ),
        warnings=_warnings(records),
        outdated=outdated(records, specs),
        suites=tuple(sorted({run.suite_id for run in records})),
        started=_stamp(min(run.started_at for run in records)),
        finished=_stamp(max(run.finished_at for run in records)),
    )


def _stamp(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _splits(records: Sequence[RunRecord]) -> tuple[SplitUse, ...]:
    names = version_names(run.dataset for run in records)
    splits: dict[tuple[str, ...], SplitIdentity] = {}
    seeds: dict[tuple[str, ...], set[int]] = {}
    for run in records:
        data = versioned(run.dataset.dataset_id, names[run.dataset.dataset_id, run.dataset.digest])
        key = (data, run.split.kind, run.split.split_id, run.split.digest)
        splits[key] = run.split
        seeds.setdefault(key, set()).add(run.seed)
    return tuple(
        SplitUse(dataset=key[0], split=splits[key], seeds=tuple(sorted(seeds[key]))) for key in sorted(splits)
    )


def _warnings(records: Sequence[RunRecord]) -> tuple[RunWarning, ...]:
    names = version_names(run.dataset for run in records)
    counts = Counter(
        (versioned(run.dataset.title, names[run.dataset.dataset_id, run.dataset.digest]), text)
        for run in records
        for text in run.warnings
    )
    return tuple(RunWarning(dataset=name, text=text, n_runs=n) for (name, text), n in sorted(counts.items()))


def outdated(records: Sequence[RunRecord], specs: Mapping[str, MetricSpec]) -> tuple[str, ...]:
    """Say which scores are of a metric that is described otherwise here, or not at all."""
    unknown = {s.metric_id for run in records for s in run.scores if s.metric_id not in specs}
    told = (f"{metric_id}: not a known metric; in scores.csv only" for metric_id in unknown)
    return tuple(sorted((*other_versions(records, specs), *told)))


def other_versions(records: Sequence[RunRecord], specs: Mapping[str, MetricSpec]) -> tuple[str, ...]:
    """Say which scores were computed by another version of a metric than the one described here."""
    found = {
        (spec.name, score.version, spec.version)
        for run in records
        for score in run.scores
        if (spec := specs.get(score.metric_id)) is not None and spec.version != score.version
    }
    told = "{}: computed by version {}, described here is version {}"
    return tuple(told.format(*one) for one in sorted(found))
