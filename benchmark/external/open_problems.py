"""Results that Open Problems publishes (openproblems.bio), as records of ours, and its own rule of ranking.

Open Problems publishes for each task four lists in JSON: results, methods, metrics and data sets. A result is
one method on one data set: its metrics, what became of its process, and its costs. Numbers of cells, splits,
seeds, versions and parameters are not in the lists, and stay empty or 0 in the records made here.

Its rule, which :func:`their_scores` follows: each metric is scaled between the worst and the best control of
the data set, cut to 0 ... 1, a missing one counts as 0; a method's score is the plain mean of its metrics,
then of its data sets.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ValidationError

from cellular_bench.benchmark.external.ranges import check_range
from cellular_bench.benchmark.schema.records import (
    PUBLISHED_SPLIT,
    Cost,
    DatasetIdentity,
    Environment,
    MethodIdentity,
    RunRecord,
    Score,
    SplitIdentity,
    Status,
)
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import open_regular
from cellular_bench.core.tables import unpacked
from cellular_bench.core.types import AspectId, SplitKind, TaskId
from cellular_bench.datasets.names import check_name

SUITE_ID: Final = "open-problems"
MISSING: Final = "NA"
NOT_STATED: Final = "not stated"
#: Most bytes of a list; the largest that is published has less than 1 MB.
MOST_BYTES: Final = 2**28
#: Seconds, MB and percent beyond are no measurements.
_LARGEST: Final = 1e9

#: Their names of the tasks.
TITLES: Final[Mapping[TaskId, str]] = {"integration": "batch integration", "annotation": "label projection"}

#: Our metric for each of theirs, with its aspect; implementations differ in details.
METRICS: Final[Mapping[TaskId, Mapping[str, tuple[str, AspectId]]]] = {
    "integration": {
        "asw_batch": ("silhouette_batch", "batch_correction"),
        "graph_connectivity": ("graph_connectivity", "batch_correction"),
        "ilisi": ("ilisi", "batch_correction"),
        "kbet": ("kbet_per_label", "batch_correction"),
        "pcr": ("pcr_comparison", "batch_correction"),
        "ari": ("leiden_ari", "bio_conservation"),
        "asw_label": ("silhouette_label", "bio_conservation"),
        "cell_cycle_conservation": ("cell_cycle_conservation", "bio_conservation"),
        "clisi": ("clisi", "bio_conservation"),
        "hvg_overlap": ("hvg_overlap", "bio_conservation"),
        "isolated_label_asw": ("isolated_labels", "bio_conservation"),
        "isolated_label_f1": ("isolated_label_f1", "bio_conservation"),
        "nmi": ("leiden_nmi", "bio_conservation"),
    },
    "annotation": {
        name: (name, "annotation") for name in ("accuracy", "f1_macro", "f1_micro", "f1_weighted")
    },
}
#: Integration methods that are shown the labels they are scored on, by their descriptions.
SHOWN_LABELS: Final = ("scanvi",)
#: What the exit codes of their processes mean.
OUTCOMES: Final[Mapping[int, tuple[Status, str]]] = {
    99: ("not_applicable", "the method says that it does not apply to these data (exit code 99)"),
    143: ("failed", "its process was ended from outside, as for time or memory (exit code 143)"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The lists of one task, as published.

    Attributes
    ----------
    results
        One entry per method and data set.
    methods, datasets
        Descriptions by name.
    """

    results: tuple[Mapping[str, Any], ...]
    methods: Mapping[str, Mapping[str, Any]]
    datasets: Mapping[str, Mapping[str, Any]]

    @property
    def task(self) -> TaskId:
        """The task, recognised by its metrics."""
        found = {name for result in self.results for name in result["metric_values"]}
        for task, known in METRICS.items():
            if found and found <= known.keys():
                return task
        unknown = sorted(found.difference(*METRICS.values()))
        raise UserError(
            f"The results hold metrics of no task known here: {', '.join(unknown) or 'a mixture of tasks'}. "
            "Known are batch integration and label projection; give the files of one of them."
        )


def read(files: Sequence[Path]) -> Published:
    """Read the published lists of one task, recognised by their contents; plain or compressed JSON.

    Raises
    ------
    UserError
        If a file cannot be read, a value is no number in the range of its metric, results or methods are
        missing, or a list comes twice.
    """
    lists: dict[str, list[Mapping[str, Any]]] = {}
    for path in files:
        entries = _entries(path)
        kind = _kind(path, entries)
        _check_types(path, kind, entries)
        if kind == "results":
            _check_values(path, entries)
        if kind in lists:
            raise UserError(f"{path} is a second list of {kind}: give the files of one task only.")
        lists[kind] = entries
    for kind in ("results", "methods"):
        if kind not in lists:
            raise UserError(f"The list of {kind} is missing: give it with the results of the same task.")
    return Published(
        results=tuple(lists["results"]),
        methods={entry["method_id"]: entry for entry in lists["methods"]},
        datasets={entry["dataset_id"]: entry for entry in lists.get("data sets", [])},
    )


def _check_values(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    known = {theirs: own for metrics in METRICS.values() for theirs, (own, _) in metrics.items()}
    for result in results:
        for theirs, given in result["metric_values"].items():
            where = f"{path}: '{theirs}' of '{result['method_id']}' on '{result['dataset_id']}'"
            try:
                value = _known(given)
            except (TypeError, ValueError) as error:
                raise UserError(f"{where} is {given!r}; expected a number or '{MISSING}'.") from error
            if value is not None and theirs in known:
                check_range(known[theirs], value, where=where)


def _entries(path: Path) -> list[Mapping[str, Any]]:
    try:
        with open_regular(path.resolve()) as file:
            is_packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with unpacked(file, ".gz" if is_packed else "") as content:
                data = content.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        found = json.loads(data)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from error
    if not isinstance(found, list) or not found or not all(isinstance(entry, dict) for entry in found):
        raise UserError(f"{path} holds no list of entries, as Open Problems publishes them.")
    return found


def _checked_date(text: str) -> str:
    datetime.fromisoformat(text)
    return text


def _checked_amount(value: float) -> float:
    if not (math.isnan(value) or 0 <= value <= _LARGEST):
        raise ValueError(f"{value} is not between 0 and {_LARGEST:g}")
    return value


_Amount = Annotated[float, AfterValidator(_checked_amount)] | Literal["NA"] | None


class _Resources(BaseModel):
    """Of a result: what was used, and how the process ended."""

    submit: Annotated[str, AfterValidator(_checked_date)]
    duration_sec: _Amount
    cpu_pct: _Amount
    peak_memory_mb: _Amount
    exit_code: int | Literal["NA"] | None


class _Result(BaseModel):
    dataset_id: str | None
    method_id: str
    metric_values: dict[str, Any]  # checked with the range of each
    mean_score: float | Literal["NA"] | None
    resources: _Resources


class _Method(BaseModel):
    method_id: str
    method_name: str
    is_baseline: bool
    references_doi: str | list[str] | None = None


class _DataSet(BaseModel):
    dataset_id: str
    dataset_name: str


def _check_types(path: Path, kind: str, entries: Sequence[Mapping[str, Any]]) -> None:
    forms: dict[str, type[BaseModel]] = {"results": _Result, "methods": _Method, "data sets": _DataSet}
    if kind not in forms:
        return
    for number, entry in enumerate(entries):
        try:
            forms[kind].model_validate(entry)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"]))
            raise UserError(
                f"{path}: '{place}' of entry {number} of the {kind} is not as published: {fault['msg']}."
            ) from error


def _kind(path: Path, entries: Sequence[Mapping[str, Any]]) -> str:
    marks = {
        "results": {"dataset_id", "method_id", "metric_values", "scaled_scores", "mean_score", "resources"},
        "methods": {"method_id", "method_name", "is_baseline"},
        "metrics": {"metric_id", "maximize"},
        "data sets": {"dataset_id", "dataset_name"},
    }
    for kind, keys in marks.items():
        if all(keys <= entry.keys() for entry in entries):
            return kind
    raise UserError(f"{path} is none of the lists of Open Problems: results, methods, metrics, data sets.")


def records(published: Published) -> list[RunRecord]:
    """Return one record per result; results that name no data set are left out.

    A metric that no method has on a data set is one that the data do not permit.

    Raises
    ------
    UserError
        If a result is of a method that the list of methods lacks, or the last part of a data set's name
        cannot be the name of one here.
    """
    task = published.task
    named = [result for result in published.results if result["dataset_id"] is not None]
    permitted: dict[str, set[str]] = defaultdict(set)
    for result in named:
        permitted[result["dataset_id"]] |= {
            name for name, value in result["metric_values"].items() if _known(value) is not None
        }
    return [_record(result, published, task, permitted[result["dataset_id"]]) for result in named]


def _record(
    result: Mapping[str, Any], published: Published, task: TaskId, permitted: Iterable[str]
) -> RunRecord:
    method_id, dataset_id = result["method_id"], result["dataset_id"]
    if method_id not in published.methods:
        raise UserError(f"The list of methods lacks '{method_id}', which has results: use lists of one date.")
    status, reason = _outcome(result)
    seconds = _known(result["resources"]["duration_sec"]) or 0.0
    start = datetime.fromisoformat(result["resources"]["submit"]).replace(tzinfo=UTC)
    short = dataset_id.rpartition("/")[2]
    check_name(short)
    digest = hashlib.sha256(f"{SUITE_ID}/{task}/{dataset_id}".encode()).hexdigest()
    return RunRecord(
        run_id=f"{SUITE_ID}-{task}-{short}-{method_id}",
        suite_id=SUITE_ID,
        task=task,
        method=_method(published.methods[method_id], task),
        dataset=unstated_dataset(
            short, title=published.datasets.get(dataset_id, {}).get("dataset_name", short), digest=digest
        ),
        split=unstated_split("all" if TASKS[task].asks_at_once else "reference_query", digest=digest),
        seed=0,
        status=status,
        reason=reason,
        scores=_scores(result, task, permitted) if status == "ok" else (),
        cost=_cost(result["resources"]) if status == "ok" else None,
        environment=unstated_environment(),
        started_at=start,
        finished_at=start + timedelta(seconds=seconds),
    )


def title(published: Published) -> str:
    """Return the name that Open Problems has for the task."""
    return f"Open Problems: {TITLES[published.task]}"


def unstated_dataset(dataset_id: str, *, title: str, digest: str) -> DatasetIdentity:
    """Return the identity of data of which only the name is known."""
    known = {"dataset_id": dataset_id, "title": title, "digest": digest, "gene_selection": None}
    sizes = dict.fromkeys(("n_obs", "n_vars", "n_batches", "n_labels"), 0)
    return DatasetIdentity.model_validate(known | sizes)


def unstated_split(kind: SplitKind, *, digest: str) -> SplitIdentity:
    """Return the identity of a split whose cells are not known."""
    return SplitIdentity(split_id=PUBLISHED_SPLIT, kind=kind, digest=digest, n_train=0, n_test=0)


def unstated_environment() -> Environment:
    """Return the environment of a run of which nothing is known."""
    return Environment(
        python=NOT_STATED, platform=NOT_STATED, cpu=NOT_STATED, n_cpus=0, n_threads=0, packages={}
    )


def _method(described: Mapping[str, Any], task: TaskId) -> MethodIdentity:
    method_id, doi = described["method_id"], described.get("references_doi")
    return MethodIdentity(
        method_id=method_id,
        name=described["method_name"],
        version=1,
        labels="train" if TASKS[task].needs_labels else "all" if method_id in SHOWN_LABELS else "none",
        is_control=described["is_baseline"],
        doi=doi[0] if isinstance(doi, list) else doi,
    )


def _outcome(result: Mapping[str, Any]) -> tuple[Status, str | None]:
    """Say how a run ended; one without any value did not end well, whatever its exit code."""
    code = result["resources"]["exit_code"]
    if all(_known(value) is None for value in result["metric_values"].values()):
        return OUTCOMES.get(code, ("failed", f"published without a score (exit code {code})"))
    return "ok", None


def _scores(result: Mapping[str, Any], task: TaskId, permitted: Iterable[str]) -> tuple[Score, ...]:
    found = []
    for theirs, given in result["metric_values"].items():
        metric_id, aspect = METRICS[task][theirs]
        value = _known(given)
        missing: dict[str, str] = {}
        if value is None and theirs in permitted:
            missing = {"reason": "published without a value", "undefined_by": "output"}
        elif value is None:
            missing = {"reason": "published without a value for any method", "undefined_by": "data"}
        fields = {"metric_id": metric_id, "aspect": aspect, "value": value, **missing}
        found.append(Score.model_validate(fields))
    return tuple(found)


def _cost(resources: Mapping[str, Any]) -> Cost:
    seconds, share = _known(resources["duration_sec"]), _known(resources["cpu_pct"])
    return Cost(
        wall_time_s=seconds or 0.0,
        cpu_time_s=None if seconds is None or share is None else seconds * share / 100,
        peak_rss_mib=_known(resources["peak_memory_mb"]),
    )


def _known(given: Any) -> float | None:
    value = math.nan if given in (MISSING, None) else float(given)
    return None if math.isnan(value) else value


def their_scores(runs: Iterable[RunRecord]) -> dict[str, dict[str, float]]:
    """Return the score of each method on each data set, ``{method: {data set: score}}``, by their rule."""
    boards: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        boards[run.dataset.dataset_id].append(run)
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for dataset_id, board in boards.items():
        metric_ids = dict.fromkeys(score.metric_id for run in board for score in run.scores)
        ends = {metric_id: _ends(board, metric_id) for metric_id in metric_ids}
        for run in board:
            shares = [_share(run.value(metric_id), ends[metric_id]) for metric_id in metric_ids]
            found[run.method.method_id][dataset_id] = fmean(shares) if shares else 0.0
    return dict(found)


def _ends(board: Sequence[RunRecord], metric_id: str) -> tuple[float, float]:
    values = [run.value(metric_id) for run in board if run.method.is_control]
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else (0.0, 0.0)


def _share(value: float | None, ends: tuple[float, float]) -> float:
    low, high = ends
    return 0.0 if value is None or high <= low else min(1.0, max(0.0, (value - low) / (high - low)))


def check(published: Published, runs: Sequence[RunRecord], *, tolerance: float = 2e-3) -> float:
    """Return the largest difference of :func:`their_scores` from the mean scores as published.

    Published values have four digits, which scaling between close controls makes coarser.

    Raises
    ------
    UserError
        If one differs by more: the lists are not of one date, or the rule has changed.
    """
    scores = their_scores(runs)
    differences: dict[tuple[str, str], float] = {
        (result["method_id"], result["dataset_id"]): abs(
            scores[result["method_id"]][result["dataset_id"].rpartition("/")[2]]
            - (_known(result["mean_score"]) or 0.0)
        )
        for result in published.results
        if result["dataset_id"] is not None
    }
    (method_id, dataset_id), worst = max(differences.items(), key=lambda item: item[1])
    if worst > tolerance:
        raise UserError(
            f"By the rule of Open Problems '{method_id}' on '{dataset_id}' scores {worst:.4f} away from what "
            "is published: give lists of one date, unchanged."
        )
    return worst
