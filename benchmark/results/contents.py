"""Whether data and splits in a result folder are those that its records speak of, by their digests."""

from __future__ import annotations

import functools
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellular_bench.benchmark.results.store import CELLS, TRUTH, Store
from cellular_bench.core.errors import UserError
from cellular_bench.core.json_files import parse_json
from cellular_bench.core.layers import named_layers
from cellular_bench.core.npz import read_stored

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.benchmark.schema.records import DatasetIdentity, RunRecord, SplitIdentity
    from cellular_bench.core.types import Split

#: Kinds of stress that take cells out of the training cells, so that the digest of before cannot be had.
_THINNING = ("fewer_cells", "rare_types")
_REMEDY = "Delete it; the command that ran the benchmark makes it again."
#: Arrays of a prepared split: kind of their values, number of dimensions.
_CELLS = {
    "train_obs": ("i", 1), "test_obs": ("i", 1), "highly_variable": ("b", 1), "stress": ("U", 0),
    "halves": ("b", 2),
}  # fmt: skip
#: What a file without halves stands for.
_NO_HALVES = np.empty((2, 0), dtype=bool)
_TRUTH = {
    "obs_names": ("U", 1), "label": ("U", 1), "batch": ("U", 1), "is_novel": ("b", 1), "X_pre": ("f", 2),
    "cell_cycle": ("f", 2), "cell_cycle_batches": ("U", 1), "cell_cycle_before": ("f", 1),
    "cell_cycle_reason": ("U", 0), "condition_names": ("U", 1), "conditions": ("U", 2), "donor": ("U", 1),
}  # fmt: skip
#: Arrays that folders of older versions lack.
_OPTIONAL = {
    "cell_cycle_reason": np.array(""), "condition_names": np.empty(0, "U1"),
    "conditions": np.empty((0, 0), "U1"), "donor": np.empty(0, "U1"),
}  # fmt: skip
#: Those with a row for each scored cell.
_PER_CELL = ("obs_names", "label", "batch", "is_novel", "X_pre")


def check_split(store: Store, record: RunRecord) -> None:
    """Refuse a prepared split whose cells are not those of the record's split.

    The truth of the scored cells must be of their number; the labels in it have no digest.

    Raises
    ------
    UserError
        If they are others, or a file is missing or damaged.
    """
    folder, split = store.split_folder(record.dataset, record.split), record.split
    cells, _ = _read(folder)
    train, test = cells["train_obs"], cells["test_obs"]
    stress = split.stress.model_dump() if split.stress else None
    if (
        (len(train), len(test)) != (split.n_train, split.n_test)
        or not (record.is_canary or _is_digest(split, cells))  # that of a canary is of its draw
        or cells["stress"] != stress
    ):
        raise UserError(f"{folder} does not hold the cells of split '{split.split_id}'. {_REMEDY}")


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return cells and truth of a split, as :func:`.prepare_split` writes them; the stress as a table.

    Raises
    ------
    UserError
        If they are of other kinds or lengths, or a file is missing or damaged.
    """
    cells: dict[str, Any] = {
        "stress": np.array("null"),
        "halves": _NO_HALVES,
        **read_stored(folder / CELLS),
    }
    truth: dict[str, Any] = {**_OPTIONAL, **read_stored(folder / TRUTH)}
    n_test = len(cells.get("test_obs", ()))
    are_right = (
        _kinds(cells) == _CELLS
        and _kinds(truth) == _TRUTH
        and all(len(truth[name]) == n_test for name in _PER_CELL)
        and truth["cell_cycle"].shape in ((n_test, 2), (0, 2))
        and truth["conditions"].shape in ((n := len(truth["condition_names"]), n_test), (0, 0))
        and len(truth["donor"]) == (n_test if n else 0)
        and len(truth["cell_cycle_batches"]) == len(truth["cell_cycle_before"])
        and all(np.isfinite(truth[name]).all() for name in ("X_pre", "cell_cycle"))
        and all((cells[name] >= 0).all() for name in ("train_obs", "test_obs"))
        and cells["halves"].shape in ((2, n_test), (2, 0))
    )
    if not are_right:
        raise UserError(f"{folder} does not hold a prepared split. {_REMEDY}")
    try:
        cells["stress"] = parse_json(str(cells["stress"]).encode())
    except ValueError as error:
        raise UserError(f"{folder} does not hold a prepared split: {error}. {_REMEDY}") from error
    return cells, truth


def _kinds(arrays: dict[str, Any]) -> dict[str, tuple[str, int]]:
    return {name: (array.dtype.kind, array.ndim) for name, array in arrays.items()}


def _is_digest(split: SplitIdentity, cells: dict[str, Any]) -> bool:
    """Whether cells have the digest of a split; True if the stress took cells out, as nobody can say then."""
    from cellular_bench.datasets.splits import digest_of
    from cellular_bench.datasets.stress import stressed_digest

    digest = digest_of(
        split.kind,
        cells["train_obs"],
        cells["test_obs"],
        unseen=split.unseen_labels,
        seed=split.seed,
        halves=cells["halves"] if cells["halves"].size else None,
    )
    if split.stress is None:
        return digest == split.digest
    stress = split.stress
    return stress.kind in _THINNING or split.digest == stressed_digest(
        digest, stress.kind, stress.level, stress.seed
    )


def holds_split(folder: Path, split: Split, obs: Any) -> bool:
    """Whether a prepared split holds the cells of a split, with the names, labels and batches of the data.

    Parameters
    ----------
    obs
        Table of all cells of the data, in the canonical form.
    """
    from cellular_bench.core.conditions import conditions_of
    from cellular_bench.core.keys import BATCH, LABEL
    from cellular_bench.datasets.splits import scored_batches

    try:
        cells, truth = _read(folder)
    except UserError:
        return False
    scored = obs.iloc[split.test_obs]
    label = scored[LABEL].to_numpy().astype(str)
    wanted = {
        "obs_names": scored.index.to_numpy().astype(str),
        "label": label,
        "batch": scored_batches(split, obs[BATCH]),
        "is_novel": np.isin(label, np.array(split.unseen_labels, dtype=str)),
    }
    kept = conditions_of(scored)
    if len(kept.names):
        wanted |= {"condition_names": kept.names, "conditions": kept.values, "donor": kept.donor}
    return (
        np.array_equal(cells["train_obs"], split.train_obs)
        and np.array_equal(cells["test_obs"], split.test_obs)
        and cells["stress"] == (split.stress and asdict(split.stress))
        and np.array_equal(cells["halves"], _NO_HALVES if split.halves is None else split.halves)
        and all(np.array_equal(truth[name], values) for name, values in wanted.items())
    )


def check_data(store: Store, dataset: DatasetIdentity) -> None:
    """Refuse a data file whose content has not the digest of a record; one that is missing is no error.

    With counts, the digest is theirs, and log-normalised values are compared with those that follow from
    them unless a recipe made them. The digest of a part of data that a recipe made cannot be computed.

    Raises
    ------
    UserError
        If the content is other, or cannot be read.
    """
    path = store.data_file(dataset)
    if not path.exists():
        return
    seen = path.stat()
    if not _has_digest(path, dataset.model_dump_json(), (seen.st_mtime_ns, seen.st_size)):
        raise UserError(f"{path} does not hold the data that its name says. {_REMEDY}")


@functools.lru_cache(maxsize=64)
def _has_digest(path: Path, identity: str, stamp: tuple[int, int]) -> bool:
    """Look at a file once, however many runs it has."""
    from cellular_bench.benchmark.schema.records import DatasetIdentity
    from cellular_bench.datasets import contract
    from cellular_bench.datasets.catalog import digest_with
    from cellular_bench.datasets.h5ad import read_h5ad

    del stamp
    dataset = DatasetIdentity.model_validate_json(identity)
    adata = read_h5ad(path)
    if not _is_canonical(adata) or adata.shape != (dataset.n_obs, dataset.n_vars):
        return False
    content = contract.digest(adata)
    if dataset.recipe is None:
        return content == dataset.digest and contract.follows_from_counts(adata)
    if dataset.subsample is not None:
        return True
    facts = {name: value for name, value in dataset.recipe.items() if name != "steps"}
    selection = asdict(dataset.gene_selection) if dataset.gene_selection else {}
    return dataset.digest in (content, digest_with(content, facts), digest_with(content, selection))


def _is_canonical(adata: AnnData) -> bool:
    from cellular_bench.core.keys import BATCH, LABEL

    return adata.X is not None and {LABEL, BATCH} <= set(adata.obs)


def holds_data(path: Path, adata: AnnData) -> bool:
    """Whether a file holds a data set: every value, name and label."""
    from cellular_bench.core.errors import DataError
    from cellular_bench.datasets.h5ad import read_h5ad

    try:
        found = read_h5ad(path)
    except DataError:
        return False
    layers, wanted = named_layers(found), named_layers(adata)
    return (
        _are_equal(found.X, adata.X)
        and layers.keys() == wanted.keys()
        and all(_are_equal(layers[name], wanted[name]) for name in wanted)
        and found.var_names.equals(adata.var_names)
        and found.obs_names.equals(adata.obs_names)
        and list(found.obs) == list(adata.obs)
        and all((found.obs[name].astype(str) == adata.obs[name].astype(str)).all() for name in adata.obs)
    )


def _are_equal(first: Any, second: Any) -> bool:
    parts = ("data", "indices", "indptr")
    return (
        getattr(first, "format", None) == second.format
        and first.dtype == second.dtype
        and first.shape == second.shape
        and all(np.array_equal(getattr(first, part), getattr(second, part)) for part in parts)
    )
