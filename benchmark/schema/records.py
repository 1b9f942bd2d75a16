"""The record of one run: everything a reader needs to believe, question or repeat it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from cellular_bench.core.errors import UserError
from cellular_bench.core.files import write_text_atomically
from cellular_bench.core.types import (
    Aspect,
    Features,
    GeneSelection,
    LabelAccess,
    ProfileName,
    SplitKind,
    StressKind,
    Task,
)

SCHEMA_VERSION: Literal[1] = 1

Status = Literal["ok", "failed", "timeout", "out_of_memory", "not_applicable", "skipped"]


class Model(BaseModel):
    """Base of all records: immutable, without unknown fields, without NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class MethodIdentity(Model):
    """The method that ran, as it ran.

    ``source_digest`` begins the sha256 of a plug-in file: an edited method is another row.
    ``features`` are the genes that it was given; where they are not its own choice, ``name`` says so.
    ``packages`` holds the versions of what its numbers depend on (:func:`environment.packages_of`),
    ``files`` the sha256 of each file that a parameter names, ``members`` the version of each method that a
    parameter names.
    """

    method_id: str
    name: str
    version: int
    params: dict[str, Any] = Field(default_factory=dict)
    labels: LabelAccess = "none"
    inductive: bool = False
    is_control: bool = False
    is_reimplementation: bool = False
    doi: str | None = None
    source_digest: str | None = None
    features: Features | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    members: dict[str, int] = Field(default_factory=dict)


class DatasetIdentity(Model):
    """The data that it ran on.

    ``subsample`` says which cells were drawn, ``recipe`` how counts were filtered and normalised; both
    None for the data as they are. ``gene_selection`` says how the variable genes of the training cells were
    selected; None for results that were computed elsewhere.
    """

    dataset_id: str
    title: str
    digest: str
    n_obs: int
    n_vars: int
    n_batches: int
    n_labels: int
    doi: str | None = None
    license: str | None = None
    subsample: dict[str, int] | None = None
    recipe: dict[str, Any] | None = None
    # Records of before this field: all runs selected by the default.
    gene_selection: GeneSelection | None = GeneSelection()

    @property
    def version_id(self) -> str:
        """Name these contents: the name of the data with the first digits of the digest."""
        return f"{self.dataset_id}-{self.digest[:10]}"


class StressIdentity(Model):
    """What was made harder than the data are, and how much."""

    kind: StressKind
    level: float
    seed: int


class SplitIdentity(Model):
    """The cells that it learned from and was scored on; ``kind`` with ``options`` draws them again."""

    split_id: str
    kind: SplitKind
    scheme: str = ""
    digest: str
    n_train: int
    n_test: int
    unseen_labels: tuple[str, ...] = ()
    seed: int | None = None
    stress: StressIdentity | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class Score(Model):
    """One metric of one run: a value, or the reason why there is none.

    ``undefined_by`` tells a metric that these cells do not permit (``"data"``: missing for every
    method alike) from one that this method's output does not permit (``"output"``). ``standard_error``
    is that of a value that rests on a sample of the cells.
    """

    metric_id: str
    aspect: Aspect
    value: float | None
    reason: str | None = None
    undefined_by: Literal["data", "output"] | None = None
    version: int = 1
    standard_error: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _value_or_reason(self) -> Score:
        missing = self.value is None
        if missing != (self.reason is not None) or missing != (self.undefined_by is not None):
            raise ValueError(f"score '{self.metric_id}' must have either a value or a reason")
        return self


class LabelScore(Model):
    """How well one label was recognised; a figure is None where it is undefined (0 / 0)."""

    label: str
    support: int
    n_predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


class Shortcut(Model):
    """What was not computed exactly, how, and which scores rest on it.

    ``quantity`` is ``neighbors``, ``silhouettes`` or ``cells``; ``library`` names whose algorithm it was,
    with its version; ``figures`` holds what was chosen and measured: ``recall``, ``n_sampled``, ``n_obs``,
    ``seed``.
    """

    quantity: str
    description: str
    library: str | None = None
    figures: dict[str, int | float] = Field(default_factory=dict)
    metric_ids: tuple[str, ...]


class Evaluation(Model):
    """How the scores were computed: exactly, but for the shortcuts."""

    profile: ProfileName
    shortcuts: tuple[Shortcut, ...] = ()


class Limits(Model):
    """What one run may use; breaking a limit ends the run, not the suite."""

    time_limit_s: float = Field(default=1800, gt=0)
    memory_limit_mib: float = Field(default=8192, gt=0)
    gpu_memory_limit_mib: float | None = Field(default=None, gt=0)


#: Split of the results that were computed elsewhere: no outputs are kept of them.
PUBLISHED_SPLIT = "published"


class Missing(Model):
    """What a suite asks for and is not there or not possible, and the rows that are absent for it."""

    kind: Literal["method", "data set", "task"]
    name: str
    reason: str
    remedy: str
    rows: tuple[str, ...]

    def lines(self) -> list[str]:
        """Say what is missing and what to do, then which rows are absent for it."""
        head = f"missing {self.kind} {self.name}. {self.reason} {self.remedy}"
        return [head, *(f"  {row}" for row in self.rows)]


class Cost(Model):
    """What the method itself used; data loading and scoring are not in it.

    Processes that the method starts are in it. ``peak_rss_mib`` is the largest resident memory of the
    process tree, ``peak_gpu_mib`` the same of GPUs, None where there is none; ``baseline_rss_mib`` is what
    the process held before the method began (interpreter, libraries and data). Of a run that was ended, wall
    and CPU time are those of its whole process.
    """

    wall_time_s: float
    cpu_time_s: float | None = None
    peak_rss_mib: float | None = None
    baseline_rss_mib: float | None = None
    peak_gpu_mib: float | None = None


class OutputFile(Model):
    """The kept output of a run, so that a damaged or exchanged file is noticed."""

    n_bytes: int
    sha256: str


class Environment(Model):
    """Where it ran, and the command line that asked for it."""

    python: str
    platform: str
    cpu: str
    n_cpus: int
    n_threads: int
    packages: dict[str, str]
    git_commit: str | None = None
    git_dirty: bool | None = None
    command_line: tuple[str, ...] = ()


class RunRecord(Model):
    """One run of one method on one split of one data set with one seed.

    Attributes
    ----------
    run_id
        Stable name of the run: equal for equal identity, and the name of its folder.
    seed, method_seed
        The seed that was asked for, and the one that the method got: derived from it, the method,
        the data set and the split.
    status, reason
        How the run ended; every status but ``ok`` has a reason in words.
    warnings
        What was worth knowing of the data: they can be used, but not for everything.
    scores
        Every metric of the task, each with a value or with a reason.
    evaluation
        How exact the scores are; None in records from before this was written down: all are exact.
    outputs
        The file with the embedding or the predictions, where the run ended well.
    confusion
        ``{true label: {predicted label: cells}}`` for annotation; rejected cells count under
        the empty label.
    log_tail
        Last lines that the method printed, where it did not end well.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    run_id: str
    suite_id: str
    task: Task
    method: MethodIdentity
    dataset: DatasetIdentity
    split: SplitIdentity
    seed: int
    method_seed: int | None = None
    limits: Limits | None = None
    status: Status
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    scores: tuple[Score, ...] = ()
    per_label: tuple[LabelScore, ...] = ()
    confusion: dict[str, dict[str, int]] = Field(default_factory=dict)
    evaluation: Evaluation | None = None
    outputs: OutputFile | None = None
    cost: Cost | None = None
    environment: Environment
    started_at: datetime
    finished_at: datetime
    log_tail: str = ""

    @model_validator(mode="after")
    def _reason_unless_ok(self) -> RunRecord:
        if self.status != "ok" and not self.reason:
            raise ValueError(f"status '{self.status}' needs a reason")
        return self

    def value(self, metric_id: str) -> float | None:
        """Return the value of a metric, or None where it is missing."""
        return next((score.value for score in self.scores if score.metric_id == metric_id), None)


def write_record(record: RunRecord, path: Path) -> None:
    """Write a record as indented JSON."""
    write_text_atomically(path, record.model_dump_json(indent=1) + "\n")


def read_record(path: Path) -> RunRecord:
    """Read a record.

    Raises
    ------
    UserError
        If the file cannot be read or is not a record of this schema version.
    """
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"{path} is not a run record: {where}: {first['msg']}.") from error


#: Parts that many records have in common.
COMMON: Final = ("method", "dataset", "split", "limits", "environment")


def sharing(records: Iterable[RunRecord]) -> Iterator[RunRecord]:
    """Yield records that hold equal parts once: each names a hundred packages and more.

    Ten thousand records of one machine take a fraction of the memory.
    """
    known: dict[tuple[str, str], Model] = {}
    for record in records:
        parts: dict[str, Model] = {}
        for name in COMMON:
            part = getattr(record, name)
            if part is not None:
                parts[name] = known.setdefault((name, part.model_dump_json()), part)
        yield record.model_copy(update=parts)


def json_schema() -> str:
    """Return the JSON Schema of :class:`RunRecord`."""
    return json.dumps(RunRecord.model_json_schema(), indent=1) + "\n"


#: How a row is called whose method was given other genes than its own choice.
GENES: Mapping[Features, str] = {"hvg": "highly variable genes", "all": "all genes"}


def given_genes(method: MethodIdentity) -> Features | None:
    """Return the genes of a method that was given others than its own choice: its name says so."""
    told = method.features is not None and method.name.endswith(f", {GENES[method.features]}")
    return method.features if told else None
