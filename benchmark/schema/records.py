"""The record of one run: everything a reader needs to believe, question or repeat it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from cellular_bench.core.files import is_file_name, truncated
from cellular_bench.core.types import (
    AspectId,
    Features,
    GeneSelection,
    LabelAccess,
    Preprocessing,
    Pretrained,
    ProfileName,
    ScalingUse,
    SplitKind,
    StressKind,
    TaskId,
)

#: Raised when fields are added or mean something else; older files are read.
SCHEMA_VERSION: Literal[2] = 2

Status = Literal["ok", "failed", "timeout", "out_of_memory", "not_applicable"]


#: How a row is called whose method was given other genes than its own choice.
GENES: Mapping[Features, str] = {"hvg": "highly variable genes", "all": "all genes"}


class Model(BaseModel):
    """Base of all records: immutable, without unknown fields, without NaN or infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _file_name(text: str) -> str:
    if not is_file_name(text):
        raise ValueError(f"{text[:100]!r} cannot be the name of a file or folder")
    return text


#: Text that is a part of paths.
FileName = Annotated[str, AfterValidator(_file_name)]


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("is out of the range of dates") from error


#: A time with its time zone, kept in UTC: times without one cannot be compared with others.
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class MethodIdentity(Model):
    """The method that ran, as it ran.

    ``source_digest`` begins the sha256 of a plug-in file: an edited method is another row.
    ``features`` are the genes that it was given; ``given_features`` is the same if they are not its own
    choice, which ``name`` then says, else None. ``preprocessing`` is what else the harness gave it than by
    default, which ``name`` says too; None for the default. ``scaling`` is that of its description, None in
    older records. ``packages`` holds the versions of what its numbers depend on
    (:func:`~cellular_bench.benchmark.plan.installed.packages_of`), ``files`` the sha256 of each file that a
    parameter names, ``members`` the version of each method that a parameter names. ``needs_names``: it was
    given the names that cells have in the data, which may say what they are. ``pretrained``: what its model
    had learned from before; None for a method that learns from the cells of the run alone.
    """

    method_id: str
    name: str
    version: int
    params: dict[str, Any] = Field(default_factory=dict)
    labels: LabelAccess = "none"
    inductive: bool = False
    is_control: bool = False
    is_reimplementation: bool = False
    needs_names: bool = False
    doi: str | None = None
    source_digest: str | None = None
    features: Features | None = None
    given_features: Features | None = None
    scaling: ScalingUse | None = None
    preprocessing: Preprocessing | None = None
    packages: dict[str, str] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)
    members: dict[str, int] = Field(default_factory=dict)
    pretrained: Pretrained | None = None

    @property
    def base_name(self) -> str:
        """The name without the setting of its preprocessing."""
        return self.name.removesuffix(f", {self.preprocessing.name}") if self.preprocessing else self.name


class DatasetIdentity(Model):
    """The data that it ran on.

    ``n_labels`` is 0 for data without labels. ``subsample`` says which cells were drawn, ``recipe`` how
    counts were filtered and normalised; both None for the data as they are. ``gene_selection`` says how the
    variable genes of the training cells were selected; None for results that were computed elsewhere.
    ``keep`` are the columns with conditions that methods must keep, ``donor_key`` that of the donors; None:
    the batches. ``released`` is the month in which the first of the cells became public, where known.
    """

    dataset_id: FileName
    title: str
    digest: FileName
    n_obs: int
    n_vars: int
    n_batches: int
    n_labels: int
    doi: str | None = None
    license: str | None = None
    subsample: dict[str, int] | None = None
    recipe: dict[str, Any] | None = None
    keep: tuple[str, ...] = ()
    donor_key: str | None = None
    released: str | None = None
    # Records of before this field: all runs selected by the default.
    gene_selection: GeneSelection | None = GeneSelection()

    @property
    def is_labelled(self) -> bool:
        """False for data without labels; True for results that were computed elsewhere."""
        return self.n_labels > 0 or self.n_obs == 0

    @property
    def version_id(self) -> str:
        """Name these contents: the name of the data with the first digits of the digest."""
        return f"{self.dataset_id}-{self.digest[:10]}"


def may_have_seen(method: MethodIdentity, dataset: DatasetIdentity) -> bool:
    """Whether a model may have been trained on the cells of a data set before: unless they are newer.

    Months of the same length compare as text.
    """
    if method.pretrained is None:
        return False
    trained_until, released = method.pretrained.trained_until, dataset.released
    return trained_until is None or released is None or released <= trained_until


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
    digest: FileName
    n_train: int
    n_test: int
    unseen_labels: tuple[str, ...] = ()
    seed: int | None = None
    stress: StressIdentity | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def folder_name(self) -> str:
        """Name of the folder with its cells; the digest distinguishes long names that are cut."""
        return f"{truncated(self.split_id)}-{self.digest[:10]}"

    @model_validator(mode="after")
    def _names_a_folder(self) -> Self:
        _file_name(self.folder_name)
        return self


class Score(Model):
    """One metric of one run: a value, or the reason why there is none.

    ``undefined_by`` is ``"data"`` if these cells do not permit the metric, for any method, and ``"output"``
    if this method's output does not. ``standard_error`` is that of a value that rests on a sample of cells.
    ``left_out`` are the batches of few cells, with their sizes, without whose cells it was computed: see
    ``min_cells`` of the run.
    """

    metric_id: str
    aspect: AspectId
    value: float | None
    reason: str | None = None
    undefined_by: Literal["data", "output"] | None = None
    version: int = 1
    standard_error: float | None = Field(default=None, ge=0)
    left_out: dict[str, int] = Field(default_factory=dict)

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


class DonorCondition(Model):
    """How well cells of other donors predict which cells of one donor and label have a condition.

    ``auc_before`` is the same before integration; 0.5 is chance.
    """

    value: str
    label: str
    donor: str
    n_obs: int
    auc: float
    auc_before: float


class ConditionKept(Model):
    """What an embedding keeps of one condition: a share, or the reason why there is none, and each donor."""

    column: str
    kept: float | None
    reason: str | None = None
    donors: tuple[DonorCondition, ...] = ()


class GroupScore(Model):
    """Means over the scored cells of one label or batch.

    ``n`` is the number of its scored cells. ``values`` are by the names of
    :data:`cellular_bench.metrics.per_cell.CELL_QUANTITIES`; what is undefined for these cells is absent.
    """

    by: Literal["label", "batch"]
    name: str
    n: int
    values: dict[str, float]


class Shortcut(Model):
    """What was not computed exactly, how, and which scores rest on it.

    ``quantity`` is ``neighbors``, ``silhouettes`` or ``cells``, or what the output leaves open: ``ties``,
    ``parts``; ``library`` names whose algorithm it was, with its version; ``figures`` holds what was chosen
    and measured: ``recall``, ``n_sampled``, ``n_obs``, ``seed``.
    """

    quantity: str
    description: str
    library: str | None = None
    figures: dict[str, int | float] = Field(default_factory=dict)
    metric_ids: tuple[str, ...]


class Evaluation(Model):
    """How the scores were computed: exactly, but for the shortcuts.

    ``min_cells`` is None in records of older versions, whose metrics read every batch.
    """

    profile: ProfileName
    min_cells: int | None = None
    shortcuts: tuple[Shortcut, ...] = ()


class Relabelled(Model):
    """The scores of a run under other labels of the same cells, which its method did not see.

    ``labelling`` is the column of the data that holds them, or how they were made; ``digest`` is the sha256
    of the labels of the scored cells. ``scores`` are those of the metrics that read labels: others are the
    same.
    """

    labelling: str
    digest: str
    n_labels: int
    scores: tuple[Score, ...]


class Limits(Model):
    """What one run may use; breaking a limit ends the run, not the suite."""

    time_limit_s: float = Field(default=1800, gt=0, le=1e9)
    memory_limit_mib: float = Field(default=8192, gt=0, le=1e9)
    gpu_memory_limit_mib: float | None = Field(default=None, gt=0, le=1e9)


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
    """What the method itself used; data loading, warming up and scoring are not in it.

    Processes that the method starts are in it. ``peak_rss_mib`` is the largest resident memory of the
    process tree, ``peak_gpu_mib`` the same of GPUs, None where there is none; ``baseline_rss_mib`` is what
    the process held before the method began (interpreter, libraries and data). Of a run that was ended before
    the method began, wall and CPU time are those of its whole process.

    ``warm_up_s`` is the time before the clock started in which the method's libraries were imported and the
    method was run on made-up cells, if it declares that; None in records of before this was done, whose wall
    time may hold it. ``warm_up_error`` says why that run failed; the clock then counts what it left undone.
    """

    wall_time_s: float
    cpu_time_s: float | None = None
    peak_rss_mib: float | None = None
    baseline_rss_mib: float | None = None
    peak_gpu_mib: float | None = None
    warm_up_s: float | None = None
    warm_up_error: str | None = None


class OutputFile(Model):
    """The kept output of a run, so that a damaged or exchanged file is noticed."""

    n_bytes: int
    sha256: str


class Environment(Model):
    """Where it ran, and the command line that asked for it.

    ``isolation`` is how the method's process was kept from other files and from the network: by
    ``"namespaces"`` or ``"landlock"``, or only as another process (``"process"``); None in older records.
    """

    python: str
    platform: str
    cpu: str
    n_cpus: int
    n_threads: int
    packages: dict[str, str]
    git_commit: str | None = None
    git_dirty: bool | None = None
    command_line: tuple[str, ...] = ()
    isolation: Literal["namespaces", "landlock", "process"] | None = None


class CanaryOf(Model):
    """Which board a leak canary is of: the digest of the data, and the scheme of the splits.

    ``params`` are those that replaced the method's own for the canary, so that it learns for a shorter time.
    """

    dataset_digest: str
    scheme: str
    params: dict[str, Any] = Field(default_factory=dict)


class Run(Model):
    """What was asked for: one run of one method on one split of one data set with one seed.

    Attributes
    ----------
    run_id
        Stable name of the run: equal for equal identity, and the name of its folder.
    seed, method_seed
        The seed that was asked for, and the one that the method got: derived from it, the method,
        the data set and the split.
    profile
        How much of its scores may be approximate.
    study_metrics
        Whether it is also scored by the metrics that are computed on request.
    min_cells
        Least number of cells of a split that is scored, and of a batch in metrics that read batches, where
        others are larger (:func:`cellular_bench.core.sizes.stray`); 1: any number.
    warnings
        What was worth knowing of the data: they can be used, but not for everything.
    canary_of
        None but for the runs of a leak canary (:mod:`cellular_bench.benchmark.plan.canary`), which are no
        results: their data hold a few cells with the labels of others.

    ``method_seed``, ``limits``, ``profile``, ``study_metrics`` and ``min_cells`` are None if they are not
    known: in records of older versions, and of results that were computed elsewhere.
    """

    run_id: FileName
    suite_id: str
    task: TaskId
    method: MethodIdentity
    dataset: DatasetIdentity
    split: SplitIdentity
    seed: int
    method_seed: int | None = None
    limits: Limits | None = None
    profile: ProfileName | None = None
    study_metrics: bool | None = None
    min_cells: int | None = None
    warnings: tuple[str, ...] = ()
    canary_of: CanaryOf | None = None

    @property
    def is_canary(self) -> bool:
        """True for a run of a leak canary."""
        return self.canary_of is not None


class Outcome(Model):
    """What came of a run.

    Attributes
    ----------
    status, reason
        How the run ended; every status but ``ok`` has a reason in words.
    scores
        Every metric of the task, each with a value or with a reason.
    confusion
        ``{true label: {predicted label: cells}}`` for annotation; rejected cells count under
        the empty label.
    conditions
        What is kept of each condition that methods must keep, by donor.
    relabelled
        Scores under other labels of the same cells.
    per_group
        For integration, what the labels and the batches contribute; empty in older records.
    evaluation
        How exact the scores are; None in records from before this was written down: all are exact.
    outputs
        The file with the embedding or the predictions, where the run ended well.
    notes
        What was worth knowing of the outputs, such as predicted labels that no cell of the data has.
    log_tail
        Last lines that the method printed, where it did not end well.
    """

    status: Status
    reason: str | None = None
    scores: tuple[Score, ...] = ()
    per_label: tuple[LabelScore, ...] = ()
    confusion: dict[str, dict[str, int]] = Field(default_factory=dict)
    conditions: tuple[ConditionKept, ...] = ()
    relabelled: tuple[Relabelled, ...] = ()
    per_group: tuple[GroupScore, ...] = ()
    evaluation: Evaluation | None = None
    outputs: OutputFile | None = None
    cost: Cost | None = None
    notes: tuple[str, ...] = ()
    log_tail: str = ""

    @model_validator(mode="after")
    def _reason_unless_ok(self) -> Self:
        if self.status != "ok" and not self.reason:
            raise ValueError(f"status '{self.status}' needs a reason")
        return self


class RunRecord(Outcome, Run):  # fields of the last base come first in the file
    """A run with its outcome, and where and when it was carried out."""

    schema_version: Literal[2] = SCHEMA_VERSION
    environment: Environment
    started_at: Moment
    finished_at: Moment

    @classmethod
    def of(
        cls,
        run: Run,
        outcome: Outcome,
        *,
        environment: Environment,
        started_at: datetime,
        finished_at: datetime,
    ) -> Self:
        """Put a run and its outcome together."""
        fields: dict[str, Any] = {name: getattr(run, name) for name in Run.model_fields}
        fields |= {name: getattr(outcome, name) for name in Outcome.model_fields}
        return cls(**fields, environment=environment, started_at=started_at, finished_at=finished_at)

    @property
    def seconds(self) -> float:
        """Time from the beginning of the run to its record, preparation and scoring included."""
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def values(self) -> dict[str, float]:
        """Value of every metric that has one."""
        return {score.metric_id: score.value for score in self.scores if score.value is not None}

    def value(self, metric_id: str) -> float | None:
        """Return the value of a metric, or None where it is missing."""
        return self.values.get(metric_id)
