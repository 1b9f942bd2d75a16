"""What is worked out once per data set and split, and then used by every run on it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.views import Cells, view_order, write_views
from cellular_bench.benchmark.results.contents import holds_data
from cellular_bench.benchmark.results.store import CELLS, ORDER, TRUTH
from cellular_bench.benchmark.tasks import Task, TaskInputs
from cellular_bench.core import keys
from cellular_bench.core.components import principal_components
from cellular_bench.core.conditions import conditions_of
from cellular_bench.core.errors import UndefinedError, UserError
from cellular_bench.core.files import is_disk_error
from cellular_bench.core.genes import selection_at, variable_genes
from cellular_bench.core.h5ad import write_h5ad
from cellular_bench.core.labels import NO_LABELS, are_labelled
from cellular_bench.core.npz import read_stored, write_stored
from cellular_bench.core.types import (
    Features,
    GeneSelection,
    Preprocessing,
    ProfileName,
    Stress,
    TaskId,
)
from cellular_bench.datasets.splits import half_names

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.benchmark.schema.records import DatasetIdentity
    from cellular_bench.core.types import Dataset, Split

MIN_CELLS_PER_GENE = 3

#: Kind of genes that a method is given, and what else differs from the default.
View = tuple[Features, Preprocessing | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the scored cells of a split are; no method sees it.

    Attributes
    ----------
    obs_names, label, batch
        (n_obs,) names, labels and batches; labels are empty in data without.
    is_novel
        (n_obs,) True for cells of a label that was held out of training.
    X_pre
        (n_obs, n_comps) principal components before integration.
    cell_cycle
        (n_obs, 2) S and G2M scores; empty where they cannot be had.
    cell_cycle_batches, cell_cycle_before
        Batches, and the share of each one's variance that the cell cycle explains before integration.
    cell_cycle_reason
        Why there are no cell-cycle scores; empty where there are.
    condition_names, conditions, donor
        Columns with conditions that must be kept, (n_conditions, n_obs) their values, and (n_obs,) the
        donors; empty where there are none.
    """

    obs_names: NDArray[np.str_]
    label: NDArray[np.str_]
    batch: NDArray[np.str_]
    is_novel: NDArray[np.bool_]
    X_pre: NDArray[np.floating[Any]]
    cell_cycle: NDArray[np.floating[Any]]
    cell_cycle_batches: NDArray[np.str_]
    cell_cycle_before: NDArray[np.floating[Any]]
    cell_cycle_reason: str = ""
    condition_names: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=str))
    conditions: NDArray[np.str_] = field(default_factory=lambda: np.empty((0, 0), dtype=str))
    donor: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype=str))

    def inputs(self) -> dict[str, Any]:
        """Return the arguments that metrics may ask for."""
        missing = UndefinedError(self.cell_cycle_reason) if self.cell_cycle_reason else None
        before = zip(self.cell_cycle_batches.tolist(), self.cell_cycle_before.tolist(), strict=True)
        return {
            "label": self.label if are_labelled(self.label) else UndefinedError(NO_LABELS),
            "batch": self.batch,
            "is_novel": self.is_novel,
            "X_pre": self.X_pre,
            "cell_cycle": missing or self.cell_cycle,
            "cell_cycle_before": missing or dict(before),
            **self._condition_inputs(),
        }

    def _condition_inputs(self) -> dict[str, Any]:
        from cellular_bench.metrics.structure.conditions import without_determined

        if not len(self.condition_names):
            return {}
        columns = dict(zip(self.condition_names.tolist(), self.conditions, strict=True))
        return {"conditions": without_determined(columns, self.batch), "donor": self.donor}


def write_data(dataset: Dataset, path: Path) -> None:
    """Write a validated data set, uncompressed for fast reading, unless the file holds just that."""
    if path.exists() and holds_data(path, dataset.adata):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_h5ad(dataset.adata, path, compression_level=None)


def _is_whole(path: Path) -> bool:
    try:
        read_stored(path)
    except UserError:
        return False
    return True


def write_split(split: Split, dataset: DatasetIdentity, path: Path) -> None:
    """Write what :func:`prepare_split` reads: the split, and how the record says that genes are selected."""
    halves: dict[str, Any] = {} if split.halves is None else {"halves": split.halves}
    assert dataset.gene_selection is not None, "only imported results have none"
    np.savez(
        path,
        train_obs=split.train_obs,
        test_obs=split.test_obs,
        unseen_labels=np.array(split.unseen_labels, dtype=str),
        stress=np.array(json.dumps(split.stress and asdict(split.stress))),
        genes=np.array(json.dumps(asdict(dataset.gene_selection))),
        digest=np.array(split.digest),
        kind=np.array(split.kind),
        **halves,
    )


def is_prepared(folder: Path, inputs: Iterable[str] = ()) -> bool:
    """Tell whether :func:`prepare_split` was done to its end, and all of it can be read to the last byte."""
    return all(_is_whole(folder / name) for name in (CELLS, TRUTH, *inputs))


def prepare_split_or_exit(*args: Any, **options: Any) -> None:
    """Do the same as :func:`prepare_split`, in a process of its harness.

    If the disk is at fault, the last line that is printed says why; the process ends with ``os.EX_IOERR``.
    """
    try:
        prepare_split(*args, **options)
    except OSError as error:
        if not is_disk_error(error):
            raise
        print(error.strerror, file=sys.stderr)
        sys.exit(os.EX_IOERR)


def prepare_split(
    data: Path,
    split_file: Path,
    folder: Path,
    *,
    inputs: Mapping[str, tuple[TaskId, ProfileName]] = MappingProxyType({}),
    views: Mapping[View, Path] = MappingProxyType({}),
    plugins: Sequence[Path] = (),
) -> None:
    """Work out what the runs of a split read: the truth of the scored cells, and what methods may see.

    ``split_file`` is that of :func:`write_split`. ``inputs`` are the tasks, and the profiles, whose inputs
    are wanted too, by the name of their file (:meth:`Task.input_files`), and ``views`` the folders of the
    views that are wanted. What is there is left as it is.
    """
    import anndata

    from cellular_bench.datasets.stress import stressed_data

    with np.load(split_file, allow_pickle=False) as arrays:
        train_obs, test_obs, unseen = arrays["train_obs"], arrays["test_obs"], arrays["unseen_labels"]
        stress, genes = arrays["stress"], GeneSelection(**json.loads(str(arrays["genes"])))
        digest = str(arrays["digest"])
        kind, halves = str(arrays["kind"]), {"halves": arrays["halves"]} if "halves" in arrays else {}
    adata = stressed_data(anndata.read_h5ad(data), _read_stress(stress))
    if not is_prepared(folder):
        mask = variable_genes(adata.X[train_obs], genes)
        scored = _in_halves(adata[test_obs], kind, **halves)
        truth = make_truth(scored, highly_variable=mask, unseen_labels=unseen)
        write_stored(folder / TRUTH, {one.name: getattr(truth, one.name) for one in fields(truth)})
        # Written last: its presence says that the folder is complete.
        found = {"train_obs": train_obs, "test_obs": test_obs, "highly_variable": mask, "stress": stress}
        write_stored(folder / CELLS, found | halves)
    by_name = {
        name: registry.task(task_id, plugins).input_files(study_metrics=True, profile=profile)[name]
        for name, (task_id, profile) in inputs.items()
    }
    profiles = {name: profile for name, (_, profile) in inputs.items()}
    _write_inputs(adata, folder, by_name, profiles, kind=kind)
    cells = read_cells(folder / CELLS)
    names = np.asarray(adata.obs_names, dtype=str)
    write_stored(folder / ORDER, {"order": view_order(names, cells, seed=digest)})
    for (features, setting), path in views.items():
        if setting is None:
            write_views(adata, cells, path, features=features, seed=digest)
            continue
        try:
            chosen = replace(cells, highly_variable=genes_at(setting, adata, train_obs, genes))
        except UserError as error:  # such as a curve through too few genes: only runs at this setting end
            path.parent.mkdir(parents=True, exist_ok=True)
            why_missing(path).write_text(str(error), encoding="utf-8")
            continue
        write_views(adata, chosen, path, features=features, seed=digest, scale=bool(setting.scale))


def genes_at(
    setting: Preprocessing, adata: AnnData, train_obs: NDArray[np.int64], default: GeneSelection
) -> NDArray[np.bool_]:
    """Return the variable genes of the training cells at a setting of the preprocessing, (n_vars,).

    Raises
    ------
    UserError
        If they cannot be found.
    """
    counts = adata.layers.get(keys.COUNTS)
    return variable_genes(
        adata.X[train_obs],
        selection_at(default, setting),
        counts=None if counts is None else counts[train_obs],
        batch=np.asarray(adata.obs[keys.BATCH], dtype=str)[train_obs],
    )


def why_missing(views: Path) -> Path:
    """Return the file that says why there is no such folder of views."""
    return views.with_name(f"{views.name}.reason.txt")


def _in_halves(scored: AnnData, kind: str, halves: NDArray[np.bool_] | None = None) -> AnnData:
    """Return scored cells whose batches are the halves of the first draw; the same cells without halves.

    Halves are random among all cells, or among those of a label: these are the strata.
    """
    if halves is None:
        return scored
    import pandas as pd

    scored = scored.copy()
    scored.obs[keys.BATCH] = pd.Categorical(half_names(halves[0]))
    scored.obs[keys.STRATUM] = scored.obs[keys.LABEL] if kind == "skewed_halves" else "all"
    return scored


def _write_inputs(
    adata: AnnData,
    folder: Path,
    files: Mapping[str, TaskInputs],
    profiles: Mapping[str, ProfileName],
    *,
    kind: str,
) -> None:
    """Write the input files of a prepared split that are missing or damaged; a stress has been applied."""
    missing = [name for name in files if not _is_whole(folder / name)]
    if not missing:
        return
    cells = read_cells(folder / CELLS)
    scored = _in_halves(adata[cells.test_obs].copy(), kind, cells.halves)
    scored.var[keys.HIGHLY_VARIABLE] = cells.highly_variable
    for name in missing:
        write_stored(folder / name, files[name].made(scored, profiles[name]))


def lacking_inputs(
    task: Task, folder: Path, *, study_metrics: bool, profile: ProfileName
) -> dict[str, TaskInputs]:
    """Return the inputs of a task whose files a prepared split lacks, as one of an earlier version does."""
    files = task.input_files(study_metrics=study_metrics, profile=profile)
    return {name: one for name, one in files.items() if not _is_whole(folder / name)}


def add_inputs(
    data: Path, folder: Path, files: Mapping[str, TaskInputs], *, kind: str, profile: ProfileName
) -> None:
    """Write further inputs of a prepared split of a kind, by the names of their files."""
    import anndata

    from cellular_bench.datasets.stress import stressed_data

    adata = stressed_data(anndata.read_h5ad(data), read_cells(folder / CELLS).stress)
    _write_inputs(adata, folder, files, dict.fromkeys(files, profile), kind=kind)


def make_truth(
    adata: AnnData, *, highly_variable: NDArray[np.bool_], unseen_labels: NDArray[np.str_]
) -> Truth:
    """Gather what metrics need to know of cells beside a method's output."""
    label, batch = (np.asarray(adata.obs[key], dtype=str) for key in (keys.LABEL, keys.BATCH))
    kept = conditions_of(adata.obs)
    return Truth(
        obs_names=np.asarray(adata.obs_names, dtype=str),
        label=label,
        batch=batch,
        is_novel=np.isin(label, unseen_labels),
        X_pre=principal_components(adata.X[:, highly_variable]),
        **_cell_cycle(adata, batch),
        condition_names=kept.names,
        conditions=kept.values,
        donor=kept.donor if len(kept.names) else kept.donor[:0],
    )


def read_cells(path: Path) -> Cells:
    """Read the cells, genes and stress of a prepared split."""
    arrays = _load(path)
    return Cells(**{**arrays, "stress": _read_stress(arrays.get("stress", "null"))})


def read_expression(data: Path, folder: Path, genes: NDArray[np.str_]) -> Any:
    """Return the log-normalised expression of genes of the scored cells of a prepared split.

    Raises
    ------
    UserError
        If the data or the split are missing.
    """
    import anndata

    from cellular_bench.datasets.stress import stressed_data

    if not data.exists():
        raise UserError(f"{data} is missing; the command that ran the benchmark writes it again.")
    cells = read_cells(folder / CELLS)
    adata = stressed_data(anndata.read_h5ad(data), cells.stress)
    return adata.X[cells.test_obs][:, adata.var_names.get_indexer(genes)]


def _read_stress(text: NDArray[np.str_] | str) -> Stress | None:
    facts = json.loads(str(text))
    return None if facts is None else Stress(**facts)


def read_order(folder: Path) -> NDArray[np.int64]:
    """Return the order of scored cells in their view, (n_test,) positions among the scored cells.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    order: NDArray[np.int64] = _load(folder / ORDER)["order"]
    return order


def read_truth(folder: Path) -> Truth:
    """Read the truth of a prepared split.

    Raises
    ------
    UserError
        If it is missing or damaged.
    """
    arrays = _load(folder / TRUTH)
    return Truth(**{**arrays, "cell_cycle_reason": str(arrays["cell_cycle_reason"])})


def read_inputs(
    task: Task,
    folder: Path,
    *,
    study_metrics: bool,
    profile: ProfileName = "standard",
    absent: Mapping[str, UndefinedError] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return what the metrics of a task are given beside the truth, the request for study metrics included.

    ``absent``: why inputs cannot be had, by the names of their files; these are not read.

    Raises
    ------
    UserError
        If a file of the prepared split is missing or damaged.
    """
    from cellular_bench.metrics.spec import STUDY_METRICS

    found: dict[str, Any] = {STUDY_METRICS: True} if study_metrics else {}
    for name, inputs in task.input_files(study_metrics=study_metrics, profile=profile).items():
        if name in absent:
            found |= dict.fromkeys(inputs.inputs, absent[name])
            continue
        arrays = _load(folder / name)
        try:
            found |= inputs.given(arrays)
        except ValueError as error:
            raise UserError(f"{folder / name}: {error}. Run the benchmark again with --fresh.") from error
    return found


def _cell_cycle(adata: AnnData, batch: NDArray[np.str_]) -> dict[str, Any]:
    found = cell_cycle_inputs(adata, batch)
    missing = isinstance(found["cell_cycle"], UndefinedError)
    before = {} if missing else found["cell_cycle_before"]
    return {
        "cell_cycle": np.empty((0, 2)) if missing else found["cell_cycle"],
        "cell_cycle_batches": np.array(sorted(before), dtype=str),
        "cell_cycle_before": np.array([before[name] for name in sorted(before)], dtype=np.float64),
        "cell_cycle_reason": str(found["cell_cycle"]) if missing else "",
    }


def cell_cycle_inputs(adata: AnnData, batch: NDArray[np.str_]) -> dict[str, Any]:
    """Return the cell-cycle arguments of metrics for log-normalised data."""
    from cellular_bench.metrics.embedding.cell_cycle import score_cell_cycle

    # Genes that hardly any cell shows would serve as control genes and blur the scores.
    kept = adata.X.getnnz(axis=0) >= MIN_CELLS_PER_GENE
    try:
        found = score_cell_cycle(adata.X[:, kept], list(adata.var_names[kept]), batch)
    except UndefinedError as error:
        return {"cell_cycle": error, "cell_cycle_before": error}
    return {"cell_cycle": found.scores, "cell_cycle_before": found.variance_before}


def _load(path: Path) -> dict[str, Any]:
    try:
        return read_stored(path)
    except UserError as error:
        raise UserError(f"{error} Run the benchmark again with --fresh.") from error
