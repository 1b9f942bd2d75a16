"""Vocabulary of the whole package: plain, frozen descriptions without behaviour.

Only the standard library is imported: every layer can use these types, and listing names stays quick.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from numpy.typing import NDArray

#: Names of tasks (:mod:`cellular_bench.benchmark.tasks`) and of the aspects that make their overall scores.
#: Plug-ins add to both.
TaskId = str
AspectId = str
#: Genes that a method is given: the highly variable ones of its training cells, or every gene.
Features = Literal["hvg", "all"]
SplitKind = Literal[
    "all",
    "kfold",
    "leave_one_batch_out",
    "unseen_label",
    "private_label",
    "reference_query",
    "even_halves",
    "skewed_halves",
]
#: Kinds of split that train on the cells that they score.
AT_ONCE: frozenset[SplitKind] = frozenset({"all", "even_halves", "skewed_halves"})
#: Those that cut one batch into halves at random; what methods take for batches are the halves.
HALVES: frozenset[SplitKind] = frozenset({"even_halves", "skewed_halves"})
#: How much of an evaluation may be approximate.
ProfileName = Literal["fast", "standard", "full"]
StressKind = Literal["label_noise", "fewer_cells", "fewer_genes", "shallow", "rare_types"]
#: Which labels a method is shown: none, those of the training cells, or also those it is scored on.
LabelAccess = Literal["none", "train", "all"]
#: How variable genes are found, see :mod:`cellular_bench.core.genes`.
Flavor = Literal["cell_ranger", "seurat", "seurat_v3", "batch_aware"]
#: Whether the harness may give a method scaled genes, see :class:`MethodSpec`.
ScalingUse = Literal["given", "own", "none"]

#: Aspects in the order of tables; those of plug-ins follow.
ASPECTS: tuple[AspectId, ...] = (
    "bio_conservation",
    "batch_correction",
    "structure",
    "annotation",
    "novelty",
    "harm",
)


def aspect_title(aspect: AspectId) -> str:
    """Return the title of an aspect: ``"Bio conservation"``."""
    return aspect.replace("_", " ").capitalize()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """Where a data set comes from and what it holds.

    Attributes
    ----------
    dataset_id
        Lower-case name used on the command line and in records.
    source
        ``kind`` of source and its details, as in the manifest.
    batch_key, label_key
        Columns of ``obs`` in the source; None for a data set without batches, or without labels.
    counts_layer
        Layer of the source that holds raw counts, or ``"X"``; None to decide by the values.
    recipe
        How raw counts are filtered and normalised, as ``datasets.recipes`` names it; None: nothing is
        filtered, and counts are scaled to 10,000 per cell.
    local
        Names of files, with wildcards, under which a user's own folder may hold the data.
    truth_keys
        Further columns of ``obs`` by which a task of a plug-in scores; no method sees them.
    keep
        Columns of ``obs`` with conditions, such as a treatment, that integration must keep; no method sees
        them.
    donor_key
        Column of ``obs`` with the donors, or other independent units, by which conditions are scored; None:
        the batches.
    further_labels
        Columns of ``obs`` with other labels of the same cells, such as another resolution or annotator. Runs
        are also scored under them; no method sees them.
    released
        Month in which the first of these cells became public, ``"2016-09"``: pretrained models whose
        training data go beyond it may have seen them. None where that is not known.
    """

    dataset_id: str
    title: str
    source: Mapping[str, Any]
    label_key: str | None = None
    batch_key: str | None = None
    counts_layer: str | None = "X"
    organism: str = "unknown"
    tissue: str = "unknown"
    assay: str = "unknown"
    n_obs: int | None = None
    n_vars: int | None = None
    sha256: str | None = None
    doi: str | None = None
    license: str | None = None
    notes: str = ""
    recipe: str | None = None
    local: Sequence[str] = ()
    truth_keys: Sequence[str] = ()
    keep: Sequence[str] = ()
    donor_key: str | None = None
    further_labels: Sequence[str] = ()
    released: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """What a model had learned from before it saw the cells of the benchmark.

    Attributes
    ----------
    name
        Of the model.
    trained_until
        Last month that its training data can be from, ``"2023-05"``; None where that is not known.
    """

    name: str
    trained_until: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneSelection:
    """How a run selects its variable genes, on the training cells alone; the names are scanpy's."""

    flavor: Flavor = "cell_ranger"
    n_top_genes: int = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What a method is given, where it differs from the default; every field is None where it does not.

    Attributes
    ----------
    genes
        Number of variable genes, or ``"all"``. By default the method declares it (``MethodSpec.features``).
    flavor
        How the variable genes are found. By default as the data set says
        (:attr:`Dataset.gene_selection`).
    scale
        True: genes are centred and have unit variance over the training cells, and values end at 10.
        By default they are log-normalised.

    Examples
    --------
    >>> Preprocessing(genes=1000, flavor="seurat", scale=True).name
    '1000 genes seurat scaled'
    """

    genes: int | Literal["all"] | None = None
    flavor: Flavor | None = None
    scale: bool | None = None

    @property
    def name(self) -> str:
        """What differs from the default, in words; empty for the default."""
        genes = "" if self.genes is None else f"{self.genes} genes"
        return " ".join(filter(None, (genes, self.flavor, "scaled" if self.scale else "")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A validated data set.

    Attributes
    ----------
    adata
        ``obs["label"]`` and ``obs["batch"]`` (categorical, strings), ``X`` log-normalised,
        ``layers["counts"]`` where the data set has counts. Cells and genes have unique names.
        A data set without batches has one batch, and ``spec.batch_key`` is None; in one without labels
        every label is empty, and ``spec.label_key`` is None.
    digest
        sha256 over everything that a method or a metric can see.
    warnings
        What a user should know about these data, one sentence each.
    subsample
        Where only some cells were drawn: ``of`` how many, and the ``seed``.
    recipe
        Where a recipe filtered and normalised: its name and numbers, and what each step dropped.
    gene_selection
        How every run on these data selects variable genes; the recipe decides it.
    """

    spec: DatasetSpec
    adata: AnnData
    digest: str
    warnings: tuple[str, ...] = ()
    subsample: Mapping[str, int] | None = None
    recipe: Mapping[str, Any] | None = None
    gene_selection: GeneSelection = GeneSelection()


@dataclass(frozen=True, slots=True)
class StressInfo:
    """What a level of a stress means; at the level ``none`` it changes nothing."""

    title: str
    unit: str
    none: float


STRESSES: Mapping[StressKind, StressInfo] = {
    "label_noise": StressInfo("Wrong labels", "share of training cells with a wrong label", 0.0),
    "fewer_cells": StressInfo("Fewer cells", "share of the training cells", 1.0),
    "fewer_genes": StressInfo("Fewer genes", "share of the genes", 1.0),
    "shallow": StressInfo("Shallow sequencing", "share of the counts of every cell", 1.0),
    "rare_types": StressInfo("Rare types", "share of the training cells of every second type", 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stress:
    """What makes a split harder than the data are; see :data:`STRESSES`."""

    kind: StressKind
    level: float
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Which cells a method may learn from and which it is scored on.

    Attributes
    ----------
    train_obs, test_obs
        Ascending positions of cells. Disjoint, and together complete but for a stress or a private
        label; both hold the same cells where ``kind`` is one of :data:`AT_ONCE`.
    scheme
        What ``split_id`` shares with the other splits of one cutting of the data, such as the folds
        of one cross-validation. Only runs of one scheme can be averaged or compared.
    unseen_labels
        Labels that are absent from the training cells on purpose.
    seed
        Seed of the generator that drew the split; None for splits without chance.
    stress
        What was made harder; None for the data as they are.
    halves
        (2, n_test) True for the cells of the second half, in each of two draws; None unless ``kind`` is one
        of :data:`HALVES`. A task that calls methods twice gives them both draws, others give the first.
    digest
        sha256 over the identity of the split, cells included.
    """

    split_id: str
    kind: SplitKind
    train_obs: NDArray[np.int64]
    test_obs: NDArray[np.int64]
    scheme: str = ""
    unseen_labels: tuple[str, ...] = ()
    seed: int | None = None
    stress: Stress | None = None
    halves: NDArray[np.bool_] | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """What the harness must know of a method before it imports anything heavy.

    Attributes
    ----------
    method_id
        Lower-case name used on the command line and in records.
    tasks
        What the method can be scored on.
    labels
        Which labels the method is shown. ``"all"`` is for controls, and for methods that
        cannot run without the labels they are scored on; such rows are marked.
    reads
        ``"lognorm"``: ``X`` suffices. ``"counts"``: ``layers["counts"]`` must exist.
    features
        ``"hvg"``: highly variable genes of the training cells. ``"all"``: every gene, of which
        ``var["highly_variable"]`` tells these.
    scaling
        Whether scaled genes may be given instead of log-normalised ones (:class:`Preprocessing`).
        ``"given"``: yes, as for methods that start from principal components or from distances. ``"own"``:
        the method always scales them itself. ``"none"``: no, as it reads counts or needs values that are
        not negative, or scaling changes nothing for it.
    inductive
        True: fitted on training cells, then applied to unseen cells. False: sees the cells
        that it embeds.
    needs_batches
        True where the method has no meaning on a single batch.
    needs_names
        Gets the names that cells have in the data. The table says so. Other methods get neutral names; all
        get the cells in a random order.
    is_control
        True for rows that mark the ends of the scale.
    canary
        Of a control that nobody should use, and that shows what metrics reward wrongly: its short name in
        the table of what fools which metric, such as ``"islands"``. A canary that is a variant of a method
        is run with that method's seed, so that both start from the same embedding.
    variant_of
        The method that this one varies, as in an ablation. Variants run where they are named; ``all``
        leaves them out.
    doi, url
        Of the method's publication, and of its authors' code or the library that is called.
    license
        Of the code that runs here: a library's if one is called, this project's if the method is
        reimplemented, whatever the original's is; None for what is this project's own.
    gpu
        True where the method is much faster on a GPU: on a cluster, it goes to workers that have one.
    requires
        Importable modules without which the method is recorded as ``not_applicable``.
    environment
        Name of an environment of the method's own (``run-benchmark env list``), or the path of a file that
        declares one; None for a method that runs beside the others. Where the environment is missing, runs
        are recorded as ``not_applicable``.
    program
        What runs there: the name of a program that ships, or the path of another.
    version
        Raised whenever the adapter's results change, so that old records are not reused.
    needs_params
        Parameters that a user has to give; ``all`` leaves out methods with any.
    weights
        Folders with pretrained weights that the method may read, and does not write in a run: absolute, or
        below the user's home, ``"~/.cache/huggingface"``.
    file_params
        Parameters that hold the path of a file, or None. What the file holds is part of what a run is, and
        where it lies is not.
    method_params
        Parameters that hold names of methods of this package, which the method runs. Their versions and
        packages are part of what a run is.
    check_params
        Parameters with which the method learns for a shorter time: those of warming up, of leak canaries and
        of the conformance checks, whose promises do not depend on how well it learns.
    warm_up
        Number of made-up cells, such as 240, on which the method is run once before the clock starts, with
        ``check_params``. For methods whose first call compiles code or imports libraries that ``requires``
        does not: their times are then those of every later call. 0: it is not. No more cells are made than
        the run scores, or 240: a larger number is for what is compiled only if cells are many.
    expected_failed_checks
        Conformance checks that may fail, each with the reason.
    """

    method_id: str
    name: str
    tasks: tuple[TaskId, ...]
    description: str = ""
    labels: LabelAccess = "none"
    reads: Literal["counts", "lognorm"] = "lognorm"
    features: Features = "hvg"
    scaling: ScalingUse = "none"
    inductive: bool = False
    needs_batches: bool = False
    needs_names: bool = False
    is_control: bool = False
    canary: str | None = None
    is_reimplementation: bool = False
    variant_of: str | None = None
    doi: str | None = None
    url: str | None = None
    license: str | None = None
    gpu: bool = False
    requires: tuple[str, ...] = ()
    environment: str | None = None
    program: str | None = None
    version: int = 1
    needs_params: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    file_params: tuple[str, ...] = ()
    method_params: tuple[str, ...] = ()
    check_params: Mapping[str, Any] = field(default_factory=dict)
    warm_up: int = 0
    expected_failed_checks: Mapping[str, str] = field(default_factory=dict)

    @property
    def uses_labels(self) -> bool:
        """True where the method reads any label."""
        return self.labels != "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """What an integrator returns that links cells and gives them no coordinates.

    Clusterings and the connectivity of labels are scored on the links; neighbours are the cells at the
    end of the shortest paths. What needs coordinates has no score, with that reason.

    Attributes
    ----------
    connectivities
        (n_obs, n_obs) sparse weights of the links, 0 or above, in the order of ``obs_names``.
    distances
        (n_obs, n_obs) sparse lengths of links, or None; without them there are no neighbours.
    """

    connectivities: Any
    distances: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """What an integrator returns that corrects expression.

    The matrix has its own scores: what correction keeps of every gene within the batches.

    Attributes
    ----------
    X
        (n_obs, n_vars) corrected log-normalised expression: the cells and genes that the method was
        given, in their order.
    X_emb
        (n_obs, n_latent) embedding to be scored; None for principal components of ``X``.
    """

    X: Any
    X_emb: NDArray[np.floating[Any]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What an annotator says of each cell, in the order of the query's ``obs_names``.

    Attributes
    ----------
    label_pred
        (n_obs,) best label of each cell.
    label_proba
        (n_obs, n_labels) probabilities, or None.
    labels
        (n_labels,) names of the columns of ``label_proba``.
    novelty
        (n_obs,) higher = less like anything seen in training, or None.
    rejected
        (n_obs,) True where the method declines to name the cell, or None.
    """

    label_pred: NDArray[Any]
    label_proba: NDArray[np.floating[Any]] | None = None
    labels: tuple[str, ...] | None = None
    novelty: NDArray[np.floating[Any]] | None = None
    rejected: NDArray[np.bool] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpec:
    """A metric: one number for one run.

    Attributes
    ----------
    metric_id
        Name of the metric in records and tables.
    function
        Pure function; the names of its arguments are the arrays that it wants (``X_emb``,
        ``X_pre``, ``neighbors``, ``batch``, ``label``, ``label_pred``, ``rejected``, ``novelty``...).
    minimum, maximum
        Ends of the metric's own range; used to scale it.
    in_overall
        Whether the value counts in the aspect score.
    on_request
        Computed only where study metrics are asked for: it is slow, or another definition of a metric that
        every run has.
    on_sample
        May be computed on a sample of the cells alone, where a profile says so.
    version
        Raised whenever the numbers change.
    """

    metric_id: str
    name: str
    aspect: AspectId
    function: Callable[..., float]
    definition: str
    minimum: float = 0.0
    maximum: float = 1.0
    higher_is_better: bool = True
    in_overall: bool = True
    on_request: bool = False
    on_sample: bool = False
    version: int = 1
    doi: str | None = None
