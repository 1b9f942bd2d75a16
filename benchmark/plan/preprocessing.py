"""What methods are given as an axis of a benchmark: genes, how they are chosen, and whether they are scaled.

Every method runs at the default setting: the genes that it declares, chosen as the data set says, without
scaling by the harness. A suite may name others; each that changes something for a method is a further row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Literal

from cellular_bench.benchmark.registry import Method
from cellular_bench.benchmark.schema.records import MethodIdentity
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.core import keys
from cellular_bench.core.errors import UndefinedError
from cellular_bench.core.types import Dataset, Flavor, Preprocessing

Chosen = tuple[Method, MethodIdentity]


def at_settings(suite: Suite, dataset: Dataset, chosen: Sequence[Chosen]) -> tuple[list[Chosen], list[str]]:
    """Return the methods of a block at the default setting, then at the settings of a suite.

    The second part are notes on settings that cannot be had on the data, or by some methods.
    """
    found: list[Chosen] = []
    refused: dict[str, dict[str, None]] = defaultdict(dict)
    asked = list(_asked(suite))
    for method, identity in chosen:
        known: set[Preprocessing] = {Preprocessing()}
        for wanted in asked if not method.spec.is_control else ():
            try:
                setting = resolved(wanted, method, dataset)
            except UndefinedError as error:
                refused[str(error)][method.spec.name] = None
                continue
            if setting not in known:
                known.add(setting)
                found.append((method, _at(identity, setting)))
    notes = [
        f"Not run on {dataset.spec.dataset_id}: {what} (of {', '.join(names)})."
        for what, names in refused.items()
    ]
    return [*chosen, *found], notes


def _asked(suite: Suite) -> Iterator[Preprocessing]:
    for genes, flavor, scale in product(suite.genes or (None,), suite.hvg or (None,), suite.scale or (None,)):
        yield Preprocessing(genes=genes, flavor=flavor, scale=scale)


def _at(identity: MethodIdentity, setting: Preprocessing) -> MethodIdentity:
    update: dict[str, object] = {"preprocessing": setting, "name": f"{identity.name}, {setting.name}"}
    if setting.genes is not None:
        update["features"] = "all" if setting.genes == "all" else "hvg"
    return identity.model_copy(update=update)


def resolved(wanted: Preprocessing, method: Method, dataset: Dataset) -> Preprocessing:
    """Return what of a setting differs from the default, for a method on some data.

    Raises
    ------
    UndefinedError
        If the method, or the data, cannot have it.
    """
    genes = _genes(wanted, method, dataset)
    reads_all = genes == "all" or (genes is None and _reads_all(method, dataset))
    return Preprocessing(
        genes=genes,
        flavor=None if reads_all else _flavor(wanted, dataset),
        scale=_scale(wanted, method),
    )


def _reads_all(method: Method, dataset: Dataset) -> bool:
    """Whether a method is given all genes by default, if only because there are few."""
    return method.spec.features == "all" or dataset.gene_selection.n_top_genes >= dataset.adata.n_vars


def _genes(wanted: Preprocessing, method: Method, dataset: Dataset) -> int | Literal["all"] | None:
    default = "all" if _reads_all(method, dataset) else dataset.gene_selection.n_top_genes
    if wanted.genes in (None, default):
        return None
    if method.spec.features != "all" and wanted.genes == dataset.gene_selection.n_top_genes:
        return None
    if isinstance(wanted.genes, int) and wanted.genes >= dataset.adata.n_vars:
        raise UndefinedError(f"{wanted.genes} variable genes, as there are {dataset.adata.n_vars} genes")
    return wanted.genes


def _flavor(wanted: Preprocessing, dataset: Dataset) -> Flavor | None:
    if wanted.flavor == "seurat_v3" and keys.COUNTS not in dataset.adata.layers:
        raise UndefinedError("seurat_v3 without raw counts, by which it chooses genes")
    if wanted.flavor == "batch_aware" and dataset.adata.obs[keys.BATCH].nunique() < 2:
        raise UndefinedError("batch_aware with a single batch")
    return None if wanted.flavor == dataset.gene_selection.flavor else wanted.flavor


def _scale(wanted: Preprocessing, method: Method) -> bool | None:
    use = method.spec.scaling
    if wanted.scale and use == "none":
        raise UndefinedError("scaled genes with methods that read counts, or values as they are")
    if wanted.scale is False and use == "own":
        raise UndefinedError("genes as they are with methods that scale them themselves")
    return True if wanted.scale and use == "given" else None
