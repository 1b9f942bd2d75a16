"""Result tables of scib-metrics' ``Benchmarker``, as records of ours.

A table has a row per embedding and a column per metric, as ``benchmarker.get_results(min_max_scale=False)``
gives it. Numbers of cells, splits, seeds, versions and costs are not in it, and stay empty or 0 in the
records made here. A table that was scaled between its own rows is refused: its values depend on who took
part.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cellular_bench.benchmark.external.open_problems import (
    unstated_dataset,
    unstated_environment,
    unstated_split,
)
from cellular_bench.benchmark.external.ranges import check_range
from cellular_bench.benchmark.schema.records import MethodIdentity, RunRecord, Score
from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.core.tables import read_named
from cellular_bench.core.types import AspectId
from cellular_bench.datasets.names import check_name

if TYPE_CHECKING:
    import pandas as pd

SUITE_ID: Final = "scib-metrics"
_BIO: Final[AspectId] = "bio_conservation"
_BATCH: Final[AspectId] = "batch_correction"
#: Our metric for each of theirs, by the names of tables and of code.
METRICS: Final[Mapping[str, tuple[str, AspectId]]] = {
    theirs: (metric_id, aspect)
    for metric_id, aspect, *names in (
        ("isolated_labels", _BIO, "Isolated labels", "isolated_labels"),
        ("kmeans_nmi", _BIO, "KMeans NMI", "nmi_ari_cluster_labels_kmeans_nmi"),
        ("kmeans_ari", _BIO, "KMeans ARI", "nmi_ari_cluster_labels_kmeans_ari"),
        ("leiden_nmi", _BIO, "Leiden NMI", "nmi_ari_cluster_labels_leiden_nmi"),
        ("leiden_ari", _BIO, "Leiden ARI", "nmi_ari_cluster_labels_leiden_ari"),
        ("silhouette_label", _BIO, "Silhouette label", "silhouette_label"),
        ("clisi", _BIO, "cLISI", "clisi_knn"),
        ("bras", _BATCH, "BRAS", "bras"),
        ("silhouette_batch", _BATCH, "Silhouette batch", "silhouette_batch"),
        ("ilisi", _BATCH, "iLISI", "ilisi_knn"),
        ("kbet_per_label", _BATCH, "KBET", "kbet_per_label"),
        ("graph_connectivity", _BATCH, "Graph connectivity", "graph_connectivity"),
        ("pcr_comparison", _BATCH, "PCR comparison", "pcr_comparison"),
    )
    for theirs in names
}
_TYPES: Final = "Metric Type"
_MEANS: Final[Mapping[AspectId, str]] = {_BIO: "Bio conservation", _BATCH: "Batch correction"}
_TOTAL: Final = "Total"
#: Tables are often written with few digits.
_ROUNDING: Final = 5e-3


def read(path: Path) -> pd.DataFrame:
    """Read a table that ``DataFrame.to_csv`` wrote: embeddings in the first column; TSV by its suffix.

    Raises
    ------
    UserError
        If it is no such table, a value is outside the range of its metric, the table was scaled between its
        rows, or its means are not those of its metrics.
    """
    try:
        table = read_named(path, sep="\t" if ".tsv" in path.suffixes else ",")
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}.") from error
    return checked(table, where=path)


def checked(table: pd.DataFrame, *, where: object) -> pd.DataFrame:
    """Return the metrics of a table as numbers, an embedding a row; see :func:`read`."""
    rows = table.drop(index=_TYPES, errors="ignore")
    means = [name for name in (*_MEANS.values(), _TOTAL) if name in rows]
    metrics = rows.drop(columns=means)
    for name in metrics:
        if name not in METRICS:
            raise UnknownNameError(f"metric of scib-metrics in {where}", str(name), METRICS)
    if metrics.empty or not len(metrics.columns):
        raise UserError(f"{where} holds no score: expected a row per embedding and a column per metric.")
    if not metrics.index.is_unique:
        raise UserError(f"{where} names an embedding twice; each needs its own row.")
    try:
        numbers = metrics.astype(float)
        stated = rows[means].astype(float)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where} holds other values than numbers: {error}.") from error
    for name in numbers:
        for row, value in numbers[name].items():
            check_range(METRICS[str(name)][0], float(value), where=f"{where}: '{name}' of '{row}'")
    _refuse_scaled(numbers, where)
    _refuse_other_means(numbers, stated, where)
    return numbers


def _refuse_scaled(numbers: pd.DataFrame, where: object) -> None:
    varied = numbers.loc[:, numbers.nunique() > 1]
    if len(numbers) > 1 and len(varied.columns) and ((varied.min() == 0) & (varied.max() == 1)).all():
        raise UserError(
            f"{where} was scaled between its rows: every metric reaches from 0 to 1. Such values depend on "
            "who took part; write get_results(min_max_scale=False) instead."
        )


def _refuse_other_means(numbers: pd.DataFrame, stated: pd.DataFrame, where: object) -> None:
    """Work the means of the table out again: a table put together by hand gives itself away."""
    aspects = {name: METRICS[str(name)][1] for name in numbers}
    for aspect, title in _MEANS.items():
        if title not in stated:
            continue
        own = numbers[[name for name, one in aspects.items() if one == aspect]].mean(axis=1)
        far = float((own - stated[title]).abs().max())
        if far > _ROUNDING:
            raise UserError(
                f"{where}: '{title}' is {far:.3f} away from the mean of its metrics: give the table as it "
                "was written, with all its columns."
            )


def records(
    numbers: pd.DataFrame, *, dataset_id: str, finished_at: datetime, saw_labels: Collection[str] = ()
) -> list[RunRecord]:
    """Return one record per embedding of a table that :func:`read` gave.

    Parameters
    ----------
    dataset_id
        What to call the data: lower-case letters, digits and underscores.
    finished_at
        When the table was made.
    saw_labels
        Embeddings that were made with the labels they are scored on; the table does not tell.

    Raises
    ------
    UserError
        If ``saw_labels`` names another embedding than those of the table, or ``dataset_id`` is no name.
    """
    check_name(dataset_id)
    for name in saw_labels:
        if name not in numbers.index:
            raise UnknownNameError("embedding", name, list(numbers.index))
    return [
        _record(str(name), row, dataset_id, finished_at, shown=name in saw_labels)
        for name, row in numbers.iterrows()
    ]


def _record(name: str, row: Any, dataset_id: str, finished_at: datetime, *, shown: bool) -> RunRecord:
    digest = hashlib.sha256(f"{SUITE_ID}/{dataset_id}".encode()).hexdigest()
    method_id = "".join(letter if letter.isalnum() else "_" for letter in name.lower())
    return RunRecord(
        run_id=f"{SUITE_ID}-{dataset_id}-{method_id}-{hashlib.sha256(name.encode()).hexdigest()[:8]}",
        suite_id=SUITE_ID,
        task="integration",
        method=MethodIdentity(method_id=method_id, name=name, version=1, labels="all" if shown else "none"),
        dataset=unstated_dataset(dataset_id, title=f"{dataset_id}, scored by scib-metrics", digest=digest),
        split=unstated_split("all", digest=digest),
        seed=0,
        status="ok",
        scores=tuple(_score(*METRICS[str(theirs)], float(value)) for theirs, value in row.items()),
        environment=unstated_environment(),
        started_at=finished_at,
        finished_at=finished_at,
    )


def _score(metric_id: str, aspect: AspectId, value: float) -> Score:
    if math.isfinite(value):
        return Score(metric_id=metric_id, aspect=aspect, value=value)
    return Score(
        metric_id=metric_id, aspect=aspect, value=None, reason="the table has no value", undefined_by="output"
    )


def written_at(path: Path) -> datetime:
    """Return when a file was last written."""
    return datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
