"""Results for other programs: scores as a table, cells with the output of each method as AnnData."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellular_bench.benchmark.analysis.data_versions import version_names
from cellular_bench.benchmark.execution import scoring
from cellular_bench.benchmark.execution.preparation import read_inputs, read_truth
from cellular_bench.benchmark.plan.installed import CONSTRAINTS
from cellular_bench.benchmark.results.contents import check_data, check_split
from cellular_bench.benchmark.results.store import OUTPUTS, Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core import keys
from cellular_bench.core.errors import ContractError, UndefinedError, UserError
from cellular_bench.core.files import folder_below, replacing, short
from cellular_bench.core.h5ad import write_h5ad
from cellular_bench.core.outputs import read_outputs
from cellular_bench.core.types import ProfileName

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from cellular_bench.benchmark.execution.preparation import Truth
    from cellular_bench.core.outputs import Outputs


Format = Literal["csv", "parquet", "h5ad"]


def export(folder: Path, *, output: Format, out: Path | None = None) -> list[Path]:
    """Write the results of a folder for other programs, and return the files.

    Parameters
    ----------
    output
        ``"csv"``, ``"parquet"``: the table of ``scores.csv``. ``"h5ad"``: a file of cells for each
        data set and split; see :func:`as_anndata`.
    out
        Where the files go; None: the folder ``export`` of the result folder.

    Raises
    ------
    UserError
        If the folder holds no record, outputs are missing or damaged, or pyarrow is not installed.
    """
    if output == "parquet" and find_spec("pyarrow") is None:
        raise UserError(
            "Parquet needs pyarrow, which is not installed. "
            f'Fix: pip install -c {CONSTRAINTS} "cellular-bench[parquet]"'
        )
    store = Store.open(folder)
    records = list(store.records())
    if not records:
        raise UserError(f"{folder} holds no record yet; start with `run-benchmark run --out {folder}`.")
    target = out or folder_below(store.root, "export")
    target.mkdir(parents=True, exist_ok=True)
    from cellular_bench.reports.text.markdown_and_csv import inert

    if output == "h5ad":
        return _write_cells(store, records, target)
    path = target / f"scores.{output}"
    frame = score_frame(records)
    with replacing(path) as temporary:
        if output == "csv":
            frame.map(inert).to_csv(temporary, index=False)
        else:
            frame.to_parquet(temporary, index=False)
    return [path]


def _write_cells(store: Store, records: Sequence[RunRecord], target: Path) -> list[Path]:
    versions = version_names(record.dataset for record in records)
    written = []
    for runs in by_cells(records):
        first = runs[0]
        data = first.dataset
        # Data of one name may be cut into the same cells, such as the same file with other labels.
        known = data.version_id if versions[data.dataset_id, data.digest] else data.dataset_id
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{known}-{first.split.split_id}")
        path = target / f"{short(name)}-{first.split.digest[:8]}.h5ad"
        write_h5ad(as_anndata(store, runs), path)
        written.append(path)
    return written


def score_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return the rows of ``scores.csv``: one per run and metric, and per mean of a label or batch."""
    import pandas as pd

    from cellular_bench.reports.text.markdown_and_csv import CSV_COLUMNS, score_rows

    rows = [row for record in records for row in score_rows(record)]
    numbers = ("value", "standard_error", "wall_time_s", "cpu_time_s", "peak_rss_mib", "warm_up_s")
    return pd.DataFrame(rows, columns=list(CSV_COLUMNS)).astype(dict.fromkeys(numbers, float))


def by_cells(records: Iterable[RunRecord]) -> list[tuple[RunRecord, ...]]:
    """Group the runs that ended well by the cells that they were scored on."""
    groups: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.status == "ok":
            groups[record.dataset.digest, record.split.digest].append(record)
    return [tuple(group) for group in groups.values()]


def as_anndata(store: Store, runs: Sequence[RunRecord]) -> AnnData:
    """Return the scored cells of a split with what each run made of them.

    Parameters
    ----------
    runs
        Runs on the same split, as :func:`by_cells` groups them.

    Returns
    -------
    AnnData
        Expression where the folder still has the data; true ``label`` and ``batch`` in ``obs``; for each
        method ``obsm["X_METHOD"]``, ``obsp["METHOD_connectivities"]`` of a graph, ``obs["METHOD_label"]``
        (empty where the cell was rejected) and ``obs["METHOD_novelty"]``. For integration also the values of
        single cells, ``obs["METHOD_QUANTITY"]`` for each of
        :data:`cellular_bench.metrics.per_cell.CELL_QUANTITIES`, float32 and NaN where undefined.
        ``uns["cellular_bench"]`` names the runs. METHOD ends in the setting of another preprocessing than the
        default. Of a method with several runs on these cells (seeds,
        parameters, tasks), the further ones have the end of the run's name in theirs.

    Raises
    ------
    UserError
        If the outputs of a run are missing or damaged.
    """
    first = runs[0]
    check_split(store, first)
    check_data(store, first.dataset)
    truth = read_truth(store.split_folder(first.dataset, first.split))
    adata = _cells(store, first, truth)
    names: dict[str, str] = {}
    for run in runs:
        setting = run.method.preprocessing
        own = "_".join([run.method.method_id, *(setting.name.split() if setting else ())])
        name = own if own not in names.values() else f"{own}_{run.run_id[-10:]}"
        _add(adata, store, run, name, truth)
        names[run.run_id] = name
    adata.uns["cellular_bench"] = names
    return adata


def _cells(store: Store, run: RunRecord, truth: Truth) -> AnnData:
    import anndata
    import pandas as pd

    obs = pd.DataFrame(
        {keys.LABEL: pd.Categorical(truth.label), keys.BATCH: pd.Categorical(truth.batch)},
        index=truth.obs_names.astype(str),
    )
    file = store.data_file(run.dataset)
    if not file.exists():
        return anndata.AnnData(obs=obs)
    data = anndata.read_h5ad(file)
    if not obs.index.isin(data.obs_names).all():
        raise UserError(
            f"{file} lacks cells of {store.split_folder(run.dataset, run.split)}: delete one of them."
        )
    adata = data[obs.index].copy()
    adata.obs = obs
    return adata


def _add(adata: AnnData, store: Store, run: RunRecord, name: str, truth: Truth) -> None:
    found = read_outputs(store.run_file(run.run_id, OUTPUTS))
    if found.X_emb is not None:
        adata.obsm[f"X_{name}"] = found.X_emb
    if found.graph is not None:
        adata.obsp[f"{name}_connectivities"] = found.graph
    if found.label_pred is not None:
        rejected = False if found.rejected is None else found.rejected
        adata.obs[f"{name}_label"] = np.where(rejected, "", found.label_pred)
    if found.novelty is not None:
        adata.obs[f"{name}_novelty"] = found.novelty
    for quantity, values in _values_per_cell(store, run, found, truth).items():
        adata.obs[f"{name}_{quantity}"] = values


def _values_per_cell(
    store: Store, run: RunRecord, outputs: Outputs, truth: Truth
) -> dict[str, NDArray[np.float32]]:
    """Compute the quantities of single cells from kept outputs, as exactly as the scores of the run."""
    task = TASKS.get(run.task)
    if task is None or not task.per_cell:
        return {}
    folder = store.split_folder(run.dataset, run.split)
    profile: ProfileName = run.evaluation.profile if run.evaluation else "standard"
    wanted: dict[str, Any] = {"study_metrics": False, "profile": profile}
    # Folders of older versions lack inputs of newer quantities, which then are undefined.
    absent = {
        name: UndefinedError(f"{folder / name} is missing")
        for name in task.input_files(**wanted)
        if not (folder / name).exists()
    }
    given = read_inputs(task, folder, absent=absent, **wanted)
    min_cells = scoring.min_cells_of(run)
    try:
        return scoring.values_per_cell(
            task, outputs, truth, given=given, profile=profile, min_cells=min_cells
        )
    except ContractError as error:
        raise UserError(f"{run.run_id}: {error}") from error
