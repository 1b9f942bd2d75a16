"""What a method may see: separate files, in which scored cells have no labels, no names and no order.

The harness writes these files once per split and kind of genes, in a process that has the data; the process
of a method opens nothing else. Cells come in a seeded random order, the same for every method, and are named
by their number in it. What a method returns is put into the order of the data later (:func:`view_order`).
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core import keys
from cellular_bench.core.h5ad import write_h5ad
from cellular_bench.core.layers import named_layers
from cellular_bench.core.scaling import Scaling
from cellular_bench.datasets.splits import half_names

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.core.types import Features, LabelAccess, MethodSpec, Stress

# In the folder of the views of a split and kind of genes; labels are apart, as not every method sees them.
TRAIN: Final = "train.h5ad"
QUERY: Final = "query.h5ad"
TRAIN_LABELS: Final = "train_labels.npz"
QUERY_LABELS: Final = "query_labels.npz"
#: Names of cells as the data have them, for the methods whose ``needs_names`` is True.
NAMES: Final = "names.npz"
#: Batches of the second of two calls, of a split in halves; opened between the calls.
SECOND_BATCHES: Final = "second_batches.npz"
#: Largest absolute value of scaled genes, as in scanpy's and Seurat's tutorials.
CLIP: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """The cells of a split and the genes that vary highly among its training cells.

    Attributes
    ----------
    train_obs, test_obs
        Ascending positions of cells.
    highly_variable
        (n_vars,) mask of the genes that are left by the stress.
    stress
        What was made harder; None for the data as they are.
    halves
        (2, n_test) as in :class:`~cellular_bench.core.types.Split`.
    """

    train_obs: NDArray[np.int64]
    test_obs: NDArray[np.int64]
    highly_variable: NDArray[np.bool_]
    stress: Stress | None = None
    halves: NDArray[np.bool_] | None = None

    def batches(self, rows: NDArray[np.int64], draw: int) -> NDArray[np.str_] | None:
        """Return the halves of some of the scored cells in a draw; None where there are none."""
        if self.halves is None:
            return None
        return half_names(self.halves[draw, np.searchsorted(self.test_obs, rows)])

    def second_batches(self, **parts: NDArray[np.int64]) -> dict[str, NDArray[np.str_]]:
        """Return the halves of parts of the cells in the second draw; nothing where there are none."""
        found = {name: self.batches(rows, 1) for name, rows in parts.items()}
        return {name: halves for name, halves in found.items() if halves is not None}


def view_numbers(names: NDArray[np.str_], *, seed: str) -> NDArray[np.int64]:
    """Return numbers for cells at random, whatever their order: (n_obs,) those from 0 to n_obs - 1.

    Parameters
    ----------
    names
        (n_obs,) names, each once.
    seed
        Any text, such as a split's digest.

    Examples
    --------
    >>> first = view_numbers(np.array(["b", "a", "c"]), seed="digest")
    >>> again = view_numbers(np.array(["a", "b", "c"]), seed="digest")
    >>> sorted(first.tolist()), bool((first[[1, 0, 2]] == again).all())
    ([0, 1, 2], True)
    """
    numbers = np.empty(len(names), dtype=np.int64)
    rng = np.random.default_rng(list(hashlib.sha256(seed.encode()).digest()))
    numbers[np.argsort(names, kind="stable")] = rng.permutation(len(names))
    return numbers


def view_order(names: NDArray[np.str_], cells: Cells, *, seed: str) -> NDArray[np.int64]:
    """Return the order of scored cells in their view: (n_test,) positions among the scored cells.

    Parameters
    ----------
    names
        (n_obs,) names of all cells of the data.
    """
    _, query, _ = _orders(names, cells, seed)
    return np.searchsorted(cells.test_obs, query)


def _orders(
    names: NDArray[np.str_], cells: Cells, seed: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], dict[int, int]]:
    """Return training and scored cells in the order of their views, and the number of each cell."""
    either = np.union1d(cells.train_obs, cells.test_obs)
    numbers = view_numbers(names[either], seed=seed)
    in_order = either[np.argsort(numbers)]
    train, query = (in_order[np.isin(in_order, part)] for part in (cells.train_obs, cells.test_obs))
    return train, query, dict(zip(either.tolist(), numbers.tolist(), strict=True))


def write_views(
    adata: AnnData, cells: Cells, folder: Path, *, features: Features, seed: str, scale: bool = False
) -> None:
    """Write what methods may see of a split; the folder is there as a whole or not at all.

    A stress has been applied to ``adata``. Genes are the highly variable ones if ``features`` is ``"hvg"``;
    else all, and ``var["highly_variable"]`` shows which they are. If ``scale``, they are centred, have unit
    variance over the training cells, and values end at :data:`CLIP`.

    Raises
    ------
    OSError
        If the disk is full or cannot be written.
    """
    from cellular_bench.datasets.stress import stressed_labels

    names = np.asarray(adata.obs_names, dtype=str)
    train, query, number = _orders(names, cells, seed)
    width = len(str(len(number)))
    label = np.asarray(adata.obs[keys.LABEL], dtype=str)
    # Drawn for the training cells in the order of the data, as without views.
    noisy = dict(
        zip(cells.train_obs.tolist(), stressed_labels(label[cells.train_obs], cells.stress), strict=True)
    )
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    temporary.mkdir(parents=True)
    scaling: Scaling | None = None
    try:
        for rows, file in ((train, TRAIN), (query, QUERY)):
            view = _view(adata, rows, cells, features)
            if scale and scaling is None:  # of the training cells, which come first
                scaling = Scaling.fit(view.X, clip=CLIP)
            if scaling is not None:
                view.X = scaling.apply(view.X)
            view.obs_names = [f"cell_{number[row]:0{width}d}" for row in rows.tolist()]
            write_h5ad(view, temporary / file, compression_level=None)
        _save(temporary / TRAIN_LABELS, label=np.array([noisy[row] for row in train.tolist()], dtype=str))
        _save(temporary / QUERY_LABELS, label=label[query])
        _save(temporary / NAMES, train=names[train], query=names[query])
        if second := cells.second_batches(train=train, query=query):
            _save(temporary / SECOND_BATCHES, **second)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _save(path: Path, **arrays: NDArray[np.str_]) -> None:
    with path.open("xb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _view(adata: AnnData, rows: NDArray[np.int64], cells: Cells, features: Features) -> AnnData:
    import anndata
    import pandas as pd

    genes: Any = cells.highly_variable if features == "hvg" else slice(None)
    obs = adata.obs.iloc[rows][[keys.BATCH]].copy()
    halves = cells.batches(rows, 0)
    # A category without cells would name a batch that is elsewhere.
    obs[keys.BATCH] = (
        obs[keys.BATCH].cat.remove_unused_categories() if halves is None else pd.Categorical(halves)
    )
    view = anndata.AnnData(
        X=adata.X[rows][:, genes],
        obs=obs,
        var=adata.var.loc[genes, []].copy(),
        layers={name: layer[rows][:, genes] for name, layer in named_layers(adata).items()},
    )
    if features == "all":
        view.var[keys.HIGHLY_VARIABLE] = cells.highly_variable
    return view


def views(adata: AnnData, cells: Cells, spec: MethodSpec) -> tuple[AnnData, AnnData]:
    """Return training and scored cells as in the files, but in the order and under the names of the data.

    For made-up cells: a process that holds data holds all their labels.
    """
    import pandas as pd

    from cellular_bench.datasets.stress import stressed_data, stressed_labels

    adata = stressed_data(adata, cells.stress)
    train, query = (_view(adata, rows, cells, spec.features) for rows in (cells.train_obs, cells.test_obs))
    label = np.asarray(adata.obs[keys.LABEL], dtype=str)
    if spec.uses_labels:
        train.obs[keys.LABEL] = pd.Categorical(stressed_labels(label[cells.train_obs], cells.stress))
    if spec.labels == "all":
        query.obs[keys.LABEL] = pd.Categorical(label[cells.test_obs])
    return train, query


def visible_files(
    *, labels: LabelAccess, needs_train: bool, needs_names: bool, is_called_twice: bool = False
) -> tuple[str, ...]:
    """Return the names of the files that :func:`read_views` opens: all that a method may see."""
    train = [TRAIN] if labels == "none" else [TRAIN, TRAIN_LABELS]
    query = [QUERY, QUERY_LABELS] if labels == "all" else [QUERY]
    more = [*([NAMES] if needs_names else ()), *([SECOND_BATCHES] if is_called_twice else ())]
    return (*(train if needs_train else ()), *query, *more)


def read_views(
    spec: MethodSpec, folder: Path, *, needs_train: bool = True, is_second: bool = False
) -> tuple[AnnData | None, AnnData]:
    """Return the training cells, None where they are not needed, and the cells to be scored.

    Labels are there only where ``spec.labels`` allows: none, those of the training cells, or all. Batches are
    those of the second call if ``is_second``.
    """
    train = _read(folder, TRAIN, TRAIN_LABELS if spec.uses_labels else None, spec) if needs_train else None
    query = _read(folder, QUERY, QUERY_LABELS if spec.labels == "all" else None, spec)
    if is_second:
        import pandas as pd

        with np.load(folder / SECOND_BATCHES, allow_pickle=False) as arrays:
            for name, view in (("train", train), ("query", query)):
                if view is not None:
                    view.obs[keys.BATCH] = pd.Categorical(arrays[name])
    return train, query


def _read(folder: Path, file: str, labels: str | None, spec: MethodSpec) -> AnnData:
    import anndata
    import pandas as pd

    view = anndata.read_h5ad(folder / file)
    if labels is not None:
        with np.load(folder / labels, allow_pickle=False) as arrays:
            view.obs[keys.LABEL] = pd.Categorical(arrays["label"])
    if spec.needs_names:
        with np.load(folder / NAMES, allow_pickle=False) as arrays:
            view.obs_names = arrays[Path(file).stem]
    return view


def read_names(path: Path) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Return the names of the cells and of the genes in a file of a view."""
    import h5py

    with h5py.File(path) as file:
        cells, genes = (file[table][file[table].attrs["_index"]].asstr()[()] for table in ("obs", "var"))
    return cells.astype(str), genes.astype(str)
