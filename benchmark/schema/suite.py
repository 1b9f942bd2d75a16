"""Suites: which methods run on which data, split how, with which seeds and limits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from cellular_bench.benchmark.schema.executor import ExecutorConfig
from cellular_bench.benchmark.schema.record_files import check_version
from cellular_bench.benchmark.schema.records import Limits, Missing, Model
from cellular_bench.benchmark.schema.weights import Weights, read_weights
from cellular_bench.core.errors import UserError
from cellular_bench.core.files import is_plain_name
from cellular_bench.core.sizes import MIN_CELLS
from cellular_bench.core.toml import explain, read_toml
from cellular_bench.core.types import Features, Flavor, ProfileName, SplitKind, TaskId
from cellular_bench.datasets import catalog

#: What generators of random numbers take.
Seed = Annotated[int, Field(ge=0, lt=2**32)]
#: Number of variable genes, or all genes.
Genes = Annotated[int, Field(ge=2, le=10**6)] | Literal["all"]


class MethodChoice(Model):
    """A method with the parameters that differ from its defaults.

    ``features`` gives it other genes than its own choice: such a run is another row.
    """

    method_id: str
    params: dict[str, Any] = Field(default_factory=dict)
    features: Features | None = None


class SplitChoice(Model):
    """A kind of split with its options, as ``datasets.splits`` understands them."""

    kind: SplitKind
    options: dict[str, Any] = Field(default_factory=dict)


class Block(Model):
    """One task on some data sets. The method ``"all"`` stands for every method of the task."""

    task: TaskId
    datasets: tuple[str, ...] = Field(min_length=1)
    methods: tuple[MethodChoice, ...] = Field(min_length=1)
    splits: tuple[SplitChoice, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)

    @field_validator("methods", mode="before")
    @classmethod
    def _names_are_methods(cls, value: Any) -> Any:
        return [{"method_id": item} if isinstance(item, str) else item for item in _list(value)]

    @field_validator("splits", mode="before")
    @classmethod
    def _flat_options(cls, value: Any) -> Any:
        return [_split_choice(item) for item in _list(value)]


class Suite(Model):
    """A named list of blocks.

    Attributes
    ----------
    profile
        How much of the scores may be approximate where cells are very many.
    executor
        Where its runs are carried out.
    data
        Data sets of the suite, described as manifests do; blocks name them by their ``dataset_id``.
    recipe
        How all its data are filtered and normalised: a name of
        :data:`cellular_bench.datasets.preparation.recipes.RECIPES`.
    study_metrics
        True: runs are also scored by the metrics that are computed on request: scib's own definitions and
        the confidences by which the CELLULAR study judged samples. It takes several times as long.
    weights
        How aspects make the overall scores of its boards: the name of a rule, or the weight of each aspect
        (:func:`cellular_bench.benchmark.schema.weights.read_weights`). None: as each task has it.
    min_cells
        Splits that score fewer cells are left out, and smaller batches in metrics that read batches, if
        others are larger (:func:`cellular_bench.core.sizes.stray`). 1: none.
    leak_canary
        Look for methods that know labels which they were not shown
        (:mod:`cellular_bench.benchmark.plan.canary`).
    canaries
        Add the controls that show which metrics reward what they should not, and the methods that they
        damage, to every block of their task (:mod:`cellular_bench.benchmark.analysis.fooled`).
    genes, hvg, scale
        Preprocessings beside the default one, which every method is run with: numbers of variable genes or
        ``"all"``, how they are found, and whether genes are scaled. Each combination that changes something
        for a method is a further row of it (:mod:`cellular_bench.benchmark.plan.preprocessing`).
    partial
        True: what is not here is left out and written down, not an error.
    stand_ins
        For a data set that is not here, others to run instead, the first that is here.
    missing
        What was left out, where the suite was run.
    """

    suite_id: str
    title: str
    description: str = ""
    limits: Limits = Limits()
    executor: ExecutorConfig = ExecutorConfig()
    profile: ProfileName = "standard"
    data: tuple[dict[str, Any], ...] = ()
    recipe: str | None = None
    study_metrics: bool = False
    weights: Weights | None = None
    min_cells: int = Field(default=MIN_CELLS, ge=1)
    leak_canary: bool = True
    canaries: bool = False
    genes: tuple[Genes, ...] = ()
    hvg: tuple[Flavor, ...] = ()
    scale: tuple[bool, ...] = ()
    partial: bool = False
    stand_ins: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    missing: tuple[Missing, ...] = ()
    blocks: tuple[Block, ...] = Field(min_length=1)

    @field_validator("suite_id")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not is_plain_name(value):
            raise ValueError("must be a plain name, because files are named after it")
        return value

    @field_validator("weights", mode="before")
    @classmethod
    def _read_weights(cls, value: Any) -> Any:
        return value if value is None else read_weights(value)

    @field_validator("data")
    @classmethod
    def _each_name_once(cls, value: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for name, times in Counter(str(table.get("dataset_id")) for table in value).items():
            if times > 1:
                raise ValueError(f"data set '{name}' is described {times} times")
        return value


def read_suite(path: Path) -> Suite:
    """Read a suite from a TOML file; its name is the name of the file.

    Nothing that it names is opened.

    Raises
    ------
    NewerVersionError
        If it says that it is for a later version of this program.
    UserError
        If the file cannot be read or does not describe a suite; the message names the field.
    """
    table = read_toml(path, what="Suite")
    check_version(path, table)
    table.pop("schema_version", None)
    if "missing" in table:  # which a run writes down
        raise UserError(f"Suite {path}: missing: there is no such entry in a file.")
    try:
        suite = Suite.model_validate({**table, "suite_id": path.stem})
    except ValidationError as error:
        raise UserError(f"Suite {path}: {explain(error)}") from error
    for data in suite.data:
        catalog.described(data, where=f"A data set of suite {path}")
    return suite


def _list(value: Any) -> list[Any]:
    # A text is a sequence of letters, which nobody means.
    if not isinstance(value, list | tuple):
        raise ValueError(f"must be a list, such as [{json.dumps(value, default=str)}]")
    return list(value)


def _split_choice(item: Any) -> Any:
    if isinstance(item, str):
        return {"kind": item}
    if isinstance(item, dict) and "options" not in item:
        return {"kind": item.get("kind"), "options": {k: v for k, v in item.items() if k != "kind"}}
    return item
