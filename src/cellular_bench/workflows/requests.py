"""Requests: everything that a user can ask of a workflow, as one frozen object.

The command line, :func:`cellular_bench.run` and notebooks build the same requests. Values may be given as on
the command line: one name for several, text for a stress.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.schema.executor import ExecutorKind
from cellular_bench.benchmark.schema.records import Model, Status
from cellular_bench.benchmark.schema.suite import Genes
from cellular_bench.benchmark.schema.weights import Weights, read_weights
from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.names import listed
from cellular_bench.core.types import Flavor, ProfileName, SplitKind

Retried = Literal["failed", "timeout", "out_of_memory", "not_applicable"]


def several(given: Any) -> tuple[Any, ...]:
    """Return one thing, or the things of a sequence, as a tuple; None is no thing.

    Examples
    --------
    >>> several("knn"), several(["knn", "pca"]), several(None)
    (('knn',), ('knn', 'pca'), ())
    """
    if given is None:
        return ()
    if isinstance(given, str | Path) or not isinstance(given, Iterable):
        return (given,)
    return tuple(given)


def _words(given: Any) -> tuple[Any, ...]:
    """Return several things, of which a text may hold more with commas."""
    return tuple(part for one in several(given) for part in (listed(one) if isinstance(one, str) else (one,)))


def _numbers_of_genes(given: Any) -> tuple[Any, ...]:
    words = _words(given)
    for word in words:
        if isinstance(word, str) and word != "all" and not word.isdecimal():
            raise ValueError(f"'{word}' is neither a number of genes nor 'all'")
    return words


def _yes_or_no(given: Any) -> tuple[Any, ...]:
    words = _words(given)
    for word in words:
        if not isinstance(word, bool) and word not in ("yes", "no"):
            raise ValueError(f"'{word}' is neither yes nor no")
    return words


def _existing_folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(f"Directory '{path}' does not exist.")
    return path


Names = Annotated[tuple[str, ...], BeforeValidator(several)]
Numbers = Annotated[tuple[int, ...], BeforeValidator(several)]
Paths = Annotated[tuple[Path, ...], BeforeValidator(several)]
Folder = Annotated[Path, BeforeValidator(lambda given: _existing_folder(Path(given)))]
AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]
OneOrMore = Annotated[int, Field(ge=1)]


class Request(Model):
    """Base of all requests: frozen; an unknown field or a wrong value is a :class:`UserError`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @classmethod
    def of(cls, **given: Any) -> Self:
        """Make a request of values as a user gives them.

        Raises
        ------
        UserError
            If a name is unknown or a value is not allowed.
        """
        for name in given:
            if name not in cls.model_fields:
                raise UnknownNameError("option", name, cls.model_fields)
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            own = first.get("ctx", {}).get("error")  # raised by a validator of ours, which names what came
            problem = own or f"{first['msg']} (got {first['input']!r})."
            raise UserError(f"{first['loc'][0]}: {problem}") from error


class OwnCells(Request):
    """The user's own cells, in an h5ad file or in memory, and the names of what they hold.

    Attributes
    ----------
    adata
        Path of an h5ad file, an ``AnnData``, or None.
    batch_key, label_key
        Columns of ``obs`` with batches and cell types.
    counts_layer
        Layer with raw counts, ``"X"`` or ``"raw"``; determined from the values if None.
    """

    adata: Any = None
    batch_key: str | None = None
    label_key: str | None = None
    counts_layer: str | None = None

    @field_validator("adata")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return Path(value) if isinstance(value, str) else value


class OwnConditions(OwnCells):
    """The user's own cells, with conditions that integration must keep.

    Attributes
    ----------
    keep
        Columns of ``obs`` with conditions; methods do not see them.
    donor_key
        Column of ``obs`` with the donors by which conditions are scored; None: the batches.
    """

    keep: Names = ()
    donor_key: str | None = None


class RunRequest(OwnConditions):
    """A benchmark to be run: a suite, and what differs from it.

    Attributes
    ----------
    further_labels
        Columns of ``obs`` with other labels of the cells, under which integration is scored too; no method
        sees them. Where ``label_key`` is several columns, these are the second and all after it.
    cluster_labels
        Score integration also under labels that are made: clusters within each batch
        (:mod:`cellular_bench.datasets.clusters`).
    suite
        Name of a suite, or a TOML file; None: ``quickstart``, or ``standard`` for own cells or named
        methods, or ``embeddings`` where ``embeddings`` are given and methods are not.
    trust
        Allow what a suite from a file would execute, read or download
        (:func:`cellular_bench.workflows.consent.require`).
    tasks, datasets, methods, seeds
        Instead of those of the suite; empty: all of the suite's.
    data_dir
        Folder whose h5ad files are data sets of the catalogue.
    recipe
        Filters and normalisation of all data: a name of
        :data:`cellular_bench.datasets.preparation.recipes.RECIPES`.
    subsample
        Cells to draw from larger data.
    params
        ``{"METHOD_ID": {"NAME": value}}``.
    embeddings
        ``{"MODEL": file}``: embeddings of the cells that a model made elsewhere, scored as they are and by
        classifiers on them (:class:`cellular_bench.methods.precomputed.Precomputed`). ``"MODEL@2024-03"``
        states the last month of its training data.
    plugins
        Files with methods, metrics, data sets or tasks.
    split, n_splits, reference, unseen
        Kind of split and its options.
    stress
        ``{"kind": ..., "levels": [...]}`` or ``"KIND=LEVEL,LEVEL"``.
    weights
        How aspects make the overall scores, remembered by the result folder: the name of a rule of a task,
        such as ``"scib"``, or ``{"ASPECT": weight}``, also as text ``"ASPECT=WEIGHT,..."``. None: the
        suite's, or each task's own.
    genes, hvg, scale
        Preprocessings beside the default one, each a further row of every method for which it changes
        something: numbers of variable genes or ``"all"``, flavors of
        :func:`cellular_bench.core.genes.variable_genes`, and whether genes are scaled, also as text
        ``"500,all"``. Empty: the suite's.
    min_cells
        Least number of cells of a split that is scored, and of a batch in metrics that read batches, where
        others are larger; 1: any number. None: the suite's, which is 10 unless it says otherwise.
    leak_canary
        Look for methods that know labels which they were not shown; None: as the suite says, which does
        unless it says otherwise.
    canaries
        Add the canary embeddings, controls that show which metrics reward what they should not, to every
        block of integration; None: as the suite says, which does not unless it says so.
    sandbox
        Run methods in a sandbox if this machine has one.
    out
        Result folder.
    jobs
        Runs at a time; None: the usable cores, or the slots of a cluster.
    executor, scheduler, slurm_config, retries
        Where runs are executed.
    time_limit, memory_limit, gpu_memory_limit
        Seconds and MiB for one run.
    reuse
        Result folders to copy results from.
    retry
        Statuses of earlier runs to run again.
    fresh
        Delete the records of these runs first.
    figures
        Draw UMAPs, curves, confusion matrices and training.
    """

    further_labels: Names = ()
    cluster_labels: bool = False
    suite: str | None = None
    trust: bool = False
    tasks: Names = ()
    datasets: Names = ()
    data_dir: Folder | None = None
    recipe: str | None = None
    subsample: OneOrMore | None = None
    methods: Names = ()
    params: dict[str, dict[str, Any]] = Field(default_factory=dict)
    embeddings: dict[str, Path] = Field(default_factory=dict)
    plugins: Paths = ()
    split: str | None = None
    n_splits: Annotated[int, Field(ge=2)] | None = None
    reference: Names = ()
    unseen: Names = ()
    stress: dict[str, Any] | None = None
    seeds: Numbers = ()
    weights: Weights | None = None
    genes: Annotated[tuple[Genes, ...], BeforeValidator(_numbers_of_genes)] = ()
    hvg: Annotated[tuple[Flavor, ...], BeforeValidator(_words)] = ()
    scale: Annotated[tuple[bool, ...], BeforeValidator(_yes_or_no)] = ()
    min_cells: OneOrMore | None = None
    leak_canary: bool | None = None
    canaries: bool | None = None
    sandbox: bool = True
    out: Path = Path("results")
    profile: ProfileName | None = None
    jobs: OneOrMore | None = None
    executor: ExecutorKind | None = None
    scheduler: str | None = None
    slurm_config: Path | None = None
    retries: Annotated[int, Field(ge=0)] | None = None
    time_limit: AboveZero | None = None
    memory_limit: AboveZero | None = None
    gpu_memory_limit: AboveZero | None = None
    reuse: Annotated[tuple[Folder, ...], BeforeValidator(several)] = ()
    retry: Annotated[tuple[Retried, ...], BeforeValidator(several)] = ()
    fresh: bool = False
    figures: bool = True

    @model_validator(mode="before")
    @classmethod
    def _first_label_key(cls, given: Any) -> Any:
        key = given.get("label_key") if isinstance(given, dict) else None
        if key is None or isinstance(key, str):
            return given
        first, *others = several(key) or (None,)
        return {
            **given,
            "label_key": first,
            "further_labels": (*others, *several(given.get("further_labels"))),
        }

    @field_validator("suite", mode="before")
    @classmethod
    def _name_of_suite(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @field_validator("recipe")
    @classmethod
    def _known_recipe(cls, value: str | None) -> str | None:
        from cellular_bench.datasets.preparation.recipes import RECIPES

        return value if value is None else registry.lookup("recipe", value, dict.fromkeys(RECIPES, value))

    @field_validator("split")
    @classmethod
    def _known_split(cls, value: str | None) -> str | None:
        known = {kind.replace("_", "-"): kind for kind in get_args(SplitKind)}
        return value if value is None else registry.lookup("split", value.replace("_", "-"), known)

    @field_validator("weights", mode="before")
    @classmethod
    def _read_weights(cls, value: Any) -> Any:
        return value if value is None else read_weights(value)

    @field_validator("stress", mode="before")
    @classmethod
    def _read_stress(cls, value: Any) -> Any:
        return parse_stress(value) if isinstance(value, str) else value

    @property
    def retried(self) -> frozenset[Status]:
        """Statuses of earlier runs to run again."""
        return frozenset(self.retry)


def parse_stress(text: str) -> dict[str, Any]:
    """Read ``KIND=LEVEL,LEVEL...``.

    Raises
    ------
    UserError
        If the text has another form.

    Examples
    --------
    >>> parse_stress("fewer_cells=1,0.25")
    {'kind': 'fewer_cells', 'levels': [1.0, 0.25]}
    """
    kind, equals, levels = text.partition("=")
    try:
        numbers = [float(level) for level in levels.split(",")]
    except ValueError:
        numbers = []
    if not (equals and numbers):
        raise UserError(
            f"--stress '{text}' is not of the form KIND=LEVEL,LEVEL..., such as label_noise=0,0.1."
        )
    return {"kind": kind.replace("-", "_"), "levels": numbers}
