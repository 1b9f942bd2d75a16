"""What methods are asked for: integration, annotation, novelty detection, harm, and the tasks of plug-ins.

All that depends on a task is an attribute of its :class:`Task`; nothing else looks at its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cellular_bench.benchmark.schema.weights import Weights, WeightsError, check_numbers
from cellular_bench.core import keys
from cellular_bench.core.errors import UndefinedError, UnknownNameError
from cellular_bench.core.types import (
    HALVES,
    AspectId,
    Dataset,
    MethodSpec,
    ProfileName,
    Split,
    SplitKind,
    TaskId,
)

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.core.outputs import Outputs


#: Names of the weights that a task has by default, and of those that a user chose.
DEFAULT_RULE: Final = "default"
CUSTOM_RULE: Final = "custom"
#: How names of rules are written, where not as they are.
RULE_TITLES: Final[Mapping[str, str]] = {"scib": "scIB", "label_free": "Label-free"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How the aspects of a task make its overall score: a weighted mean.

    Attributes
    ----------
    name
        Of :attr:`Task.named_rules`, or ``"custom"``.
    weights
        Weight of every aspect of the task, 0 for those that do not count; they add up to 1.
    """

    name: str
    weights: Mapping[AspectId, float]

    @property
    def title(self) -> str:
        """Name in reports."""
        return RULE_TITLES.get(self.name, self.name.capitalize())

    @property
    def needs(self) -> frozenset[AspectId]:
        """Aspects that count."""
        return frozenset(aspect for aspect, weight in self.weights.items() if weight > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInputs:
    """What the metrics of a task need beside the usual truth, computed once per split and kept in a file.

    Each of ``arrays`` is computed by itself. ``make`` and ``read`` are for inputs that are computed together,
    or kept in other arrays than metrics are given.

    Attributes
    ----------
    file
        Name of the file that keeps them.
    arrays
        Functions of the scored cells, with all their labels, by the names that metrics have for the arrays.
        ``var["highly_variable"]`` marks the genes that vary highly among the training cells.
    make
        Takes the scored cells and the name of the profile; returns further arrays for the file, by name.
    read
        Takes these arrays; returns inputs by the names that metrics have for them. An input may be an
        :class:`~cellular_bench.UndefinedError`: why there is none. Raises ``ValueError`` for arrays that
        ``make`` cannot have returned.
    names
        Names of the inputs that ``read`` returns.
    by_sample
        True: under a profile that draws a sample of many cells, ``make`` does so, and the file is another.
    on_request
        True: only runs with study metrics need them.
    reads_labels
        True: they depend on the labels of the cells.

    Raises
    ------
    ValueError
        If only one of ``make`` and ``read`` is given.
    """

    file: str
    arrays: Mapping[str, Callable[[AnnData], Any]] = field(default_factory=dict)
    make: Callable[[AnnData, ProfileName], Mapping[str, Any]] | None = None
    read: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    names: tuple[str, ...] = ()
    by_sample: bool = False
    on_request: bool = False
    reads_labels: bool = False

    def __post_init__(self) -> None:
        if (self.make is None) != (self.read is None):
            raise ValueError(f"inputs '{self.file}' need both make and read, or neither")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names that metrics have for the inputs."""
        return (*self.arrays, *self.names)

    def made(self, adata: AnnData, profile: ProfileName) -> dict[str, Any]:
        """Return the arrays for the file, of the scored cells."""
        found = {name: make(adata) for name, make in self.arrays.items()}
        return found if self.make is None else {**found, **self.make(adata, profile)}

    def given(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of metrics from the arrays of the file."""
        found = {name: array for name, array in arrays.items() if self.read is None or name in self.arrays}
        if self.read is None:
            return found
        return {**found, **self.read({name: arrays[name] for name in arrays.keys() - self.arrays.keys()})}

    def file_of(self, profile: ProfileName) -> str:
        """Return the name of the file, without its ending, under a profile."""
        from cellular_bench.metrics.profiles import profile_of

        sampled = self.by_sample and profile_of(profile).graph_cells is not None
        return f"{self.file}-{profile}" if sampled else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFree:
    """How methods are ranked on data without labels.

    Attributes
    ----------
    rule
        Weights of the aspects that count.
    metric_ids
        The metrics that count; no others have a part in the overall score.
    caution
        What is known of such a ranking, for readers.
    """

    rule: Rule
    metric_ids: tuple[str, ...]
    caution: str


def _no_obstacle(_: Any) -> str | None:
    return None


def _no_details(_: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task: how methods are called, and how what they return is checked, scored and shown.

    Attributes
    ----------
    task_id
        Lower-case name on the command line, in suites and in records.
    title
        Name in reports.
    weights
        Weight of each aspect in the overall score; metrics name the aspect that they belong to.
    rules
        Other weights of these aspects, by lower-case name, such as those of a published benchmark. A user
        chooses them by their name; reports show the first beside the overall score.
    without_labels
        How methods are ranked on data without labels; None: as on others.
    asks
        Function of a fitted method that returns what is scored.
    asks_at_once
        The same of a method that is not inductive: called on the scored cells, without fitting. None:
        every method is fitted.
    is_called_twice
        True: methods are called twice with other batches (splits in halves), each time as a new object with
        the same seed.
    done_by
        Another task whose methods all do this one, too; None: only methods that name this one.
    split_kinds
        Kinds of split that it can be scored on; None: any.
    read
        Checks what that function returned; takes the id of the method, the returned value, the names of the
        scored cells and of their genes.
    scored
        Outputs that scores rest on; a run has at least one of them.
    needs_labels
        True: a method without labels has nothing to learn from.
    check_data, check_split
        Return why data, or a split, do not allow the task; None if they do.
    takes_other_labels
        True: what methods return names no label, so that it can be scored under other labels of the cells.
    inputs
        What metrics need beside the usual truth.
    has_study_metrics
        Whether ``study_metrics`` of a suite makes a difference.
    details
        Fields of the record beside the scores, computed from the inputs of metrics.
    per_cell
        Quantities of single cells (:data:`cellular_bench.metrics.per_cell.CELL_QUANTITIES`) whose means over
        each label and batch go into the record.
    agreement
        Counts how often a method says which name of the cells of each true name, ``{true: {said: cells}}``,
        from the inputs of metrics: what a leak canary compares
        (:mod:`cellular_bench.benchmark.plan.canary`). None: the task has no canary.
    tables
        Further tables of a report: functions of a board; None for no table.
    source_digest
        Begins the sha256 of the plug-in file that defines the task; set when it is loaded.

    Raises
    ------
    ValueError
        If the id or the name of a rule has other characters than lower-case letters, digits and
        underscores, if weights are negative or do not add up to 1, or if a rule weighs other aspects.
    """

    task_id: TaskId
    title: str
    weights: Mapping[AspectId, float]
    rules: Mapping[str, Mapping[AspectId, float]] = field(default_factory=dict)
    without_labels: LabelFree | None = None
    asks: str
    asks_at_once: str | None = None
    is_called_twice: bool = False
    done_by: TaskId | None = None
    split_kinds: frozenset[SplitKind] | None = None
    read: Callable[[str, Any, Sequence[str], Sequence[str]], Outputs]
    scored: tuple[str, ...]
    needs_labels: bool = False
    check_data: Callable[[Dataset], str | None] = _no_obstacle
    check_split: Callable[[Split], str | None] = _no_obstacle
    takes_other_labels: bool = False
    inputs: tuple[TaskInputs, ...] = ()
    has_study_metrics: bool = False
    details: Callable[[Mapping[str, Any]], Mapping[str, Any]] = _no_details
    per_cell: tuple[str, ...] = ()
    agreement: Callable[[Mapping[str, Any]], dict[str, dict[str, int]]] | None = None
    tables: tuple[Callable[[Any], Any], ...] = ()
    source_digest: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9_]+", self.task_id):
            raise ValueError(f"task_id '{self.task_id}' must be lower-case letters, digits and underscores")
        for name, weights in {DEFAULT_RULE: self.weights, **self.rules}.items():
            try:
                check_numbers(weights)
            except WeightsError as error:
                raise ValueError(f"task '{self.task_id}', rule '{name}': {error}") from error
        for name, weights in self.rules.items():
            if not re.fullmatch(r"[a-z0-9_]+", name) or name in (DEFAULT_RULE, CUSTOM_RULE):
                raise ValueError(f"task '{self.task_id}': '{name}' cannot be the name of a rule")
            if others := weights.keys() - self.weights.keys():
                raise ValueError(
                    f"task '{self.task_id}': the rule '{name}' weighs {', '.join(sorted(others))}, which is "
                    "not in weights"
                )

    @property
    def named_rules(self) -> dict[str, Rule]:
        """The rules that a user can name, the default first."""
        return {
            name: Rule(name=name, weights={aspect: weights.get(aspect, 0.0) for aspect in self.weights})
            for name, weights in {DEFAULT_RULE: self.weights, **self.rules}.items()
        }

    def rule(self, chosen: Weights | None = None) -> Rule:
        """Return the rule that a user chose; the default if none was, or one of other tasks."""
        known = self.named_rules
        if chosen is None or not self.has_rule(chosen):
            return known[DEFAULT_RULE]
        if isinstance(chosen, str):
            return known[chosen]
        weights = {aspect: chosen.get(aspect, 0.0) for aspect in self.weights}
        same = (rule for rule in known.values() if rule.weights == weights)
        return next(same, Rule(name=CUSTOM_RULE, weights=weights))

    def has_rule(self, chosen: Weights) -> bool:
        """Whether the task has the rule of this name, or all the aspects that are weighed."""
        if isinstance(chosen, str):
            return chosen in self.named_rules
        return chosen.keys() <= self.weights.keys()

    def is_done_by(self, spec: MethodSpec) -> bool:
        """Whether a method does this task: it names the task, or the one whose methods do it, too."""
        return self.task_id in spec.tasks or self.done_by in spec.tasks

    def takes(self, kind: str) -> bool:
        """Whether it can be scored on a kind of split."""
        return self.split_kinds is None or kind in self.split_kinds

    def is_at_once(self, spec: MethodSpec) -> bool:
        """Whether a method sees the scored cells alone, instead of training cells first."""
        return self.asks_at_once is not None and not spec.inductive

    def asked(self, spec: MethodSpec) -> str:
        """Return the name of the method's function whose value is scored."""
        return self.asks_at_once if self.asks_at_once and self.is_at_once(spec) else self.asks

    def call(self, spec: MethodSpec, model: Any, train: AnnData, query: AnnData) -> Any:
        """Fit a method, unless it embeds at once, and return what it says of the scored cells."""
        if not self.is_at_once(spec):
            model.fit(train)
        return getattr(model, self.asked(spec))(query)

    def input_files(self, *, study_metrics: bool, profile: ProfileName = "standard") -> dict[str, TaskInputs]:
        """Return the inputs of a run, by the name of their file in the folder of its split."""
        own = self.source_digest
        return {
            f"{self.task_id}-{name}-{own}.npz" if own else f"{name}.npz": one
            for one, name in ((one, one.file_of(profile)) for one in self.inputs)
            if study_metrics or not one.on_request
        }

    @property
    def known_inputs(self) -> tuple[str, ...]:
        """Arguments of metrics that runs of this task have, and those of other tasks may not."""
        return (*self.scored, *(name for one in self.inputs for name in one.inputs))


def _needs_batches(dataset: Dataset) -> str | None:
    if dataset.adata.obs[keys.BATCH].nunique() < 2:
        if dataset.spec.label_key is None:
            return (
                f"Data set '{dataset.spec.dataset_id}' has one batch and no labels; integration needs two "
                "batches or more. Name the column of the batches (--batch-key with --adata), or choose the "
                "task harm."
            )
        return (
            f"Data set '{dataset.spec.dataset_id}' has one batch; integration needs two or more. "
            "Name the column of the batches (--batch-key with --adata, batch_key in a data set of your own), "
            "or choose another task: harm is for one batch."
        )
    return None


def _needs_labels(dataset: Dataset) -> str | None:
    if dataset.spec.label_key is None:
        return (
            f"Data set '{dataset.spec.dataset_id}' has no labels to learn and to score. Name their column "
            "(--label-key with --adata, label_key in a data set of your own), or choose the task integration."
        )
    return None


def _needs_unseen_labels(split: Split) -> str | None:
    if not split.unseen_labels:
        return (
            f"Split '{split.split_id}' holds no label back, so no cell is novel and nothing can be scored. "
            "The task novelty needs the split unseen-label or private-label."
        )
    return None


def _stratum(adata: AnnData) -> Any:
    """Return the stratum of each cell: within it, the half is random."""
    import numpy as np

    return np.asarray(adata.obs[keys.STRATUM], dtype=str)


def _embedding(method_id: str, returned: Any, obs_names: Sequence[str], genes: Sequence[str]) -> Outputs:
    from cellular_bench.core.returned import checked_integration

    return checked_integration(method_id, returned, obs_names, genes)


def _prediction(method_id: str, returned: Any, obs_names: Sequence[str], genes: Sequence[str]) -> Outputs:
    from cellular_bench.core.returned import checked_prediction

    del genes
    return checked_prediction(method_id, returned, obs_names)


def _label_details(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return per-label scores and the confusion matrix of a prediction."""
    from cellular_bench import metrics
    from cellular_bench.benchmark.schema.records import LabelScore

    arguments = (inputs["label"], inputs["label_pred"], inputs.get("rejected"))
    rows = metrics.per_label(*arguments)
    return {
        "per_label": tuple(LabelScore.model_validate(row._asdict()) for row in rows),
        "confusion": metrics.confusion(*arguments),
    }


def _label_agreement(inputs: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Count the labels that are predicted for each true label."""
    from cellular_bench.metrics import confusion

    return confusion(inputs["label"], inputs["label_pred"], inputs.get("rejected"))


def _novelty_agreement(inputs: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Count the labels that are predicted for each true label, all labels that were held out being one.

    As many cells are taken for novel as there are, those of the highest novelty. Of cells of equal novelty,
    all or none are: the order of the cells makes no difference.
    """
    import numpy as np

    from cellular_bench.metrics import confusion

    is_novel, novelty, label = (np.asarray(inputs[name]) for name in ("is_novel", "novelty", "label"))
    n_novel = int(is_novel.sum())
    most_known = np.sort(novelty)[::-1][n_novel] if n_novel < len(novelty) else -np.inf
    label_pred = np.asarray(inputs.get("label_pred", np.full(len(label), KNOWN)), dtype=str)
    is_called_novel = (novelty > most_known) | np.isin(label_pred, label[is_novel])
    return confusion(np.where(is_novel, NOVEL, label), np.where(is_called_novel, NOVEL, label_pred))


def _components_of_all_genes(adata: AnnData) -> Any:
    """Return what scib's comparison of principal components starts from."""
    from cellular_bench.core.components import principal_components

    return principal_components(adata.X)


def _condition_details(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what an embedding keeps of each condition, by donor."""
    from cellular_bench.benchmark.schema.records import ConditionKept, DonorCondition
    from cellular_bench.core.labels import NO_LABELS
    from cellular_bench.metrics.structure.conditions import condition_figures, share_kept

    rows = []
    X_emb, label = inputs.get("X_emb"), inputs.get("label", UndefinedError(NO_LABELS))
    for column, values in (inputs.get("conditions") or {}).items():
        figures: Any = ()
        try:
            if X_emb is None:
                raise UndefinedError("there is no embedding", by_output=True)
            if isinstance(label, UndefinedError):
                raise UndefinedError(str(label))
            if isinstance(values, UndefinedError):
                raise values
            figures = condition_figures(X_emb, inputs["X_pre"], label, inputs["donor"], values)
            kept, reason = share_kept(figures), None
        except UndefinedError as error:
            kept, reason = None, str(error)
        donors = tuple(DonorCondition.model_validate(asdict(one)) for one in figures)
        rows.append(ConditionKept(column=column, kept=kept, reason=reason, donors=donors))
    return {"conditions": tuple(rows)} if rows else {}


def structure_arrays(adata: AnnData, profile: ProfileName = "full") -> dict[str, Any]:
    """Return the structure of cells before integration as arrays, or the reason why there is none.

    The parts that need labels are left out where no cell has one.
    """
    import numpy as np

    from cellular_bench.core.labels import are_labelled
    from cellular_bench.metrics.profiles import profile_of
    from cellular_bench.metrics.structure.reference import cell_depth, structure_reference

    counts = adata.layers.get(keys.COUNTS)
    depth = cell_depth(adata.X if counts is None else counts, are_counts=counts is not None)
    chosen = profile_of(profile)
    label = np.asarray(adata.obs[keys.LABEL], dtype=str)
    try:
        return structure_reference(
            adata.X,
            np.asarray(adata.obs[keys.BATCH], dtype=str),
            label if are_labelled(label) else None,
            highly_variable=adata.var[keys.HIGHLY_VARIABLE].to_numpy(),
            depth=depth,
            most_cells=chosen.graph_cells if chosen.samples(adata.n_obs) else None,
            seed=chosen.seed,
        ).arrays()
    except UndefinedError as error:
        return {"reason": np.array(str(error))}


def read_structure(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input ``structure`` of metrics from what :func:`structure_arrays` returned.

    Raises
    ------
    ValueError
        If the arrays are not those of a structure.
    """
    from cellular_bench.metrics.structure.reference import StructureReference

    if "reason" in arrays:
        return {"structure": UndefinedError(str(arrays["reason"]))}
    return {"structure": StructureReference.from_arrays(arrays)}


STRUCTURE = TaskInputs(
    file="structure",
    make=structure_arrays,
    read=read_structure,
    names=("structure",),
    by_sample=True,
    reads_labels=True,
)
#: What a cell of a held-out label is called, and one of another label by a method that names none.
NOVEL, KNOWN = "(novel)", "(known)"

INTEGRATION_WITHOUT_LABELS = LabelFree(
    rule=Rule(
        name="label_free", weights={"batch_correction": 0.5, "bio_conservation": 0.0, "structure": 0.5}
    ),
    metric_ids=("ilisi", "kbet", "pcr_comparison", "state_kept_clusters"),
    caution=(
        "Exploratory: these cells have no labels. On six data sets with labels, this ranking of six or seven "
        "unsupervised methods agreed with the labelled one (0.3 batch correction, 0.4 bio conservation, 0.3 "
        "structure) with a Kendall's tau of 0.73 on average, and of 0.63 with 0.4 batch correction and 0.6 "
        "bio conservation; standard error about 0.3 on each. Two cautions: the formula was chosen after "
        "looking at these six data sets; and it shares the batch terms and the idea of kept structure with "
        "the first of these rankings, so that part of the agreement is built in, and only the second is "
        "independent of structure."
    ),
)
INTEGRATION = Task(
    task_id="integration",
    title="Integration",
    weights={"batch_correction": 0.3, "bio_conservation": 0.4, "structure": 0.3},
    # Luecken et al. 2022, https://doi.org/10.1038/s41592-021-01336-8
    rules={"scib": {"batch_correction": 0.4, "bio_conservation": 0.6}},
    without_labels=INTEGRATION_WITHOUT_LABELS,
    asks="embed",
    asks_at_once="fit_embed",
    read=_embedding,
    scored=("X_emb", "graph"),
    check_data=_needs_batches,
    takes_other_labels=True,
    inputs=(
        STRUCTURE,
        TaskInputs(file="all_genes", arrays={"X_pre_all": _components_of_all_genes}, on_request=True),
    ),
    has_study_metrics=True,
    details=_condition_details,
    per_cell=("batch_mixing", "kbet_per_label", "label_purity", "clisi", "state_kept", "neighbours_kept"),
)
ANNOTATION = Task(
    task_id="annotation",
    title="Annotation",
    weights={"annotation": 1.0},
    asks="predict",
    read=_prediction,
    scored=("label_pred",),
    needs_labels=True,
    check_data=_needs_labels,
    details=_label_details,
    agreement=_label_agreement,
)
NOVELTY = Task(
    task_id="novelty",
    title="Novelty detection",
    weights={"novelty": 1.0},
    asks="predict",
    read=_prediction,
    scored=("novelty",),
    check_data=_needs_labels,
    check_split=_needs_unseen_labels,
    has_study_metrics=True,
    agreement=_novelty_agreement,
)
HARM = Task(
    task_id="harm",
    title="Harm by correction",
    weights={"harm": 1.0},
    asks="embed",
    asks_at_once="fit_embed",
    is_called_twice=True,
    done_by="integration",
    split_kinds=HALVES,
    read=_embedding,
    scored=("X_emb", "graph"),
    inputs=(TaskInputs(file="strata", arrays={"stratum": _stratum}),),
)
#: Every task by its id, those of plug-ins last; a process knows those of the plug-ins that it has loaded.
TASKS: dict[TaskId, Task] = {task.task_id: task for task in (INTEGRATION, ANNOTATION, NOVELTY, HARM)}


def check_weights(chosen: Weights, tasks: Iterable[Task]) -> None:
    """Refuse the name of a rule, or weights of aspects, that none of the tasks has.

    Raises
    ------
    UnknownNameError
        If a name is unknown.
    WeightsError
        If all names are known, but of different tasks.
    """
    tasks = tuple(tasks)
    if any(task.has_rule(chosen) for task in tasks):
        return
    if isinstance(chosen, str):
        raise UnknownNameError(
            "rule of weights", chosen, {name for task in tasks for name in task.named_rules}
        )
    aspects = {aspect for task in tasks for aspect in task.weights}
    for aspect in chosen:
        if aspect not in aspects:
            raise UnknownNameError("aspect", aspect, aspects)
    raise WeightsError(f"No task has all of the aspects {', '.join(chosen)}: weigh those of one task.")
