"""The data of a request: described, loaded, subsampled."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import Dataset, DatasetSpec
from cellular_bench.datasets import catalog
from cellular_bench.datasets.sources import local
from cellular_bench.workflows.progress import SILENT, Progress
from cellular_bench.workflows.requests import OwnCells

LOG = logging.getLogger(__name__)


def described(own: OwnCells, further_labels: Sequence[str] = ()) -> DatasetSpec | None:
    """Describe the user's own cells, with the columns of other labels; None if the request has none.

    Raises
    ------
    UserError
        If the file or a key is missing.
    """
    keys = own.model_dump(include={"batch_key", "label_key", "counts_layer", "keep", "donor_key"})
    if own.adata is None:
        if any((*keys.values(), *further_labels)):
            *others, last = (f"--{name.replace('_', '-')}" for name in keys)
            raise UserError(f"{', '.join(others)} and {last} describe --adata, which is missing.")
        return None
    describe = catalog.from_h5ad if isinstance(own.adata, Path) else catalog.from_memory
    return describe(own.adata, **keys, further_labels=further_labels)


def known_datasets(
    suite: Suite, own: DatasetSpec | None, data_dir: Path | None, plugins: Sequence[Path] = ()
) -> dict[str, DatasetSpec]:
    """Describe every data set that a suite may name: of the catalogue, of the suite, the user's own."""
    brought = [catalog.described(table, where=f"suite '{suite.suite_id}'") for table in suite.data]
    brought += [own] if own else []
    known = {**registry.datasets(plugins), **{spec.dataset_id: spec for spec in brought}}
    if data_dir is not None:
        known |= local.found_in(data_dir, known)
    return known


def load(
    suite: Suite,
    known: Mapping[str, DatasetSpec],
    *,
    subsample: int | None,
    cluster_labels: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Dataset]:
    """Load and validate the data sets of a suite, with its recipe if it has one.

    ``cluster_labels`` adds clusters within each batch as other labels to data that have labels.
    """
    wanted = dict.fromkeys(name for block in suite.blocks for name in block.datasets)
    specs = [registry.lookup("data set", name, known) for name in wanted]
    loaded = {}
    for spec in specs:
        dataset = catalog.load(spec if suite.recipe is None else replace(spec, recipe=suite.recipe))
        if subsample is not None:
            dataset = catalog.subsampled(dataset, subsample)
        if cluster_labels and spec.label_key is not None:
            dataset = catalog.with_clusters(dataset)
        loaded[spec.dataset_id] = dataset
        size = f"{dataset.adata.n_obs} cells x {dataset.adata.n_vars} genes"
        LOG.info("loaded %s: %s", spec.dataset_id, size)
        progress.message(f"{spec.dataset_id}: {size}")
        for warning in dataset.warnings:
            progress.message(f"  note: {warning}")
    return loaded
