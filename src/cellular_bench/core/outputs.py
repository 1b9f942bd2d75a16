"""What a method returned for the cells that it is scored on, and the file that keeps it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, UserError
from cellular_bench.core.files import replacing
from cellular_bench.core.labels import MAX_NAME
from cellular_bench.core.npz import ArrayFile, Stored, open_npz
from cellular_bench.core.output_arrays import MOST_DIMENSIONS, MOST_MORE, check_more, checked_arrays

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Sparse outputs, each kept as three arrays with its name.
SPARSE: Final = ("graph", "graph_distances")
SPARSE_PARTS: Final = ("data", "indices", "indptr")
#: Outputs with a row per cell, and how many dimensions they have.
_PER_CELL: Final = {
    "obs_names": 1,
    "X_emb": 2,
    "corrected": 2,
    "label_pred": 1,
    "label_proba": 2,
    "novelty": 1,
    "rejected": 1,
}
_TEXTS: Final = ("obs_names", "genes", "label_pred", "labels")
#: Outputs that have no meaning without another.
_BELONGS: Final = {
    "graph_distances": "graph",
    "genes": "corrected",
    "corrected": "genes",
    "labels": "label_proba",
    "label_proba": "labels",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The output of one run for the cells it is scored on, in the order of ``obs_names``.

    Attributes
    ----------
    X_emb
        (n_obs, n_latent) embedding, or None.
    graph, graph_distances
        (n_obs, n_obs) weights and lengths of links between cells, or None.
    corrected, genes
        (n_obs, n_vars) corrected expression and the names of its columns, or None.
    label_pred, rejected, novelty
        (n_obs,) arrays, or None.
    label_proba, labels
        (n_obs, n_labels) probabilities and the names of their columns, or None.
    more
        Outputs of tasks of plug-ins, by the names that metrics have for them: finite numbers, flags or text.

    Raises
    ------
    ContractError
        If one of ``more`` has the name of a field, or is something else.
    """

    obs_names: NDArray[np.str_]
    X_emb: NDArray[np.floating[Any]] | None = None
    graph: csr_matrix | None = None
    graph_distances: csr_matrix | None = None
    corrected: NDArray[np.floating[Any]] | None = None
    genes: NDArray[np.str_] | None = None
    label_pred: NDArray[np.str_] | None = None
    label_proba: NDArray[np.floating[Any]] | None = None
    labels: NDArray[np.str_] | None = None
    novelty: NDArray[np.floating[Any]] | None = None
    rejected: NDArray[np.bool_] | None = None
    more: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.more) > MOST_MORE:
            raise ContractError(f"There are {len(self.more)} outputs; at most {MOST_MORE} are kept.")
        for name, array in self.more.items():
            if name in self.__slots__ or name in _PARTS:
                raise ContractError(
                    f"Output '{name}' cannot be kept: choose a name other than {', '.join(self.__slots__)}."
                )
            check_more(name, array)

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Outputs:
        """Return the outputs that :meth:`arrays` were taken from."""
        own = {name: array for name, array in arrays.items() if name in cls.__slots__}
        return cls(**own, more={name: array for name, array in arrays.items() if name not in own})

    def arrays(self) -> dict[str, Any]:
        """Return the arrays that are there, by name."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "more"}
        return {**{name: array for name, array in fields.items() if array is not None}, **self.more}

    def reordered(self, order: NDArray[np.integer[Any]], obs_names: Sequence[str]) -> Outputs:
        """Return the outputs with the cells in another order and under other names.

        Parameters
        ----------
        order
            (n_obs,) positions: cell ``i`` of the result is cell ``order[i]`` here. Arrays of ``more`` have
            cells if their first axis is as long.
        obs_names
            (n_obs,) names in the new order.

        Raises
        ------
        ValueError
            If ``order`` does not hold each position once, or there are not as many names.
        """
        n_obs = len(self.obs_names)
        if not np.array_equal(np.sort(order), np.arange(n_obs)) or len(obs_names) != n_obs:
            raise ValueError(f"expected the order and the names of {n_obs} cells")
        rows = {name: array[order] for name in _PER_CELL if (array := getattr(self, name)) is not None}
        links = {
            name: array[order][:, order].sorted_indices()
            for name in SPARSE
            if (array := getattr(self, name)) is not None
        }
        more = {
            name: array[order] if array.ndim and len(array) == n_obs else array
            for name, array in self.more.items()
        }
        return replace(self, **rows | links | {"obs_names": np.asarray(obs_names, dtype=str)}, more=more)


_PARTS: Final = {f"{name}_{part}": name for name in SPARSE for part in SPARSE_PARTS}
_MOST_ARRAYS: Final = len(Outputs.__slots__) + len(_PARTS) + MOST_MORE


def write_outputs(outputs: Outputs, path: Path, *, compressed: bool = True) -> None:
    """Write outputs as an npz file without pickled objects.

    Parameters
    ----------
    compressed
        False: written faster, and readable by :func:`read_returned`.
    """
    arrays = outputs.arrays()
    for name in set(SPARSE) & arrays.keys():
        links = arrays.pop(name)
        arrays |= {f"{name}_{part}": getattr(links, part) for part in SPARSE_PARTS}
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", method) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read_outputs(path: Path) -> Outputs:
    """Read outputs that were kept.

    Raises
    ------
    UserError
        If the file is missing or damaged, or holds something else than outputs.
    """
    try:
        with open_npz(path, most_arrays=_MOST_ARRAYS) as file:
            return _read("outputs", file, single=False)
    except (OSError, ValueError, ContractError) as error:
        raise UserError(f"{path} does not hold the outputs of a run: {error}.") from error


def read_returned(
    path: Path, *, n_obs: int, genes: Sequence[str], most_bytes: int, method_id: str
) -> Outputs:
    """Read outputs that a method's process wrote, of which nothing is believed.

    No more memory is used than the file has bytes, apart from what the checks of an array need.

    Parameters
    ----------
    path
        Written by :func:`write_outputs` without compression.
    n_obs
        Number of cells that the method was given to be scored on.
    genes
        Names of the genes that it was given, in their order.
    most_bytes
        Most bytes of all arrays.
    method_id
        Begins messages on arrays.

    Raises
    ------
    ContractError
        If the file is missing, is no regular file or no such file, or an array is not what the interface
        promises (:func:`.checked_arrays`).
    """
    try:
        with open_npz(path, most_bytes=most_bytes, most_arrays=_MOST_ARRAYS, compressed=False) as file:
            return _read(method_id, file, n_obs=n_obs, genes=genes)
    except (OSError, ValueError) as error:
        raise ContractError(f"{method_id}: the file of its outputs cannot be read: {error}.") from error


def _read(
    method_id: str,
    file: ArrayFile,
    *,
    n_obs: int | None = None,
    genes: Sequence[str] | None = None,
    single: bool = True,
) -> Outputs:
    stored = file.stored
    if "obs_names" not in stored:
        raise ValueError("it has no array 'obs_names'")
    if n_obs is None:
        n_obs = stored["obs_names"].shape[0] if stored["obs_names"].shape else 0
    for name, declared in stored.items():
        _check_declared(name, declared, n_obs)
    names = {_PARTS.get(name, name) for name in stored}
    for name, other in _BELONGS.items():
        if name in names and other not in names:
            raise ValueError(f"it has '{name}' without '{other}'")
    for name in names.intersection(SPARSE):
        if missing := [part for part in SPARSE_PARTS if f"{name}_{part}" not in stored]:
            raise ValueError(f"'{name}' has no {', '.join(missing)}")
    arrays: dict[str, Any] = {name: file.read(name) for name in stored if name not in _PARTS}
    for name in names.intersection(SPARSE):
        arrays[name] = tuple(file.read(f"{name}_{part}") for part in SPARSE_PARTS)
    known = set(Outputs.__slots__)
    checked = {
        **{name: arrays[name] for name in arrays if name in ("obs_names", "genes") or name not in known},
        **checked_arrays(method_id, arrays, n_obs=n_obs, genes=genes, single=single),
    }
    if "corrected" in checked and len(checked["genes"]) != checked["corrected"].shape[1]:
        raise ValueError("it names other genes than the corrected expression has")
    return Outputs.of(checked)


def _check_declared(name: str, stored: Stored, n_obs: int) -> None:
    """Refuse an array by its type and shape, before it is read."""
    kind, n_dims = stored.dtype.kind, len(stored.shape)
    known = name in _PER_CELL or name in _TEXTS or name in _PARTS
    allowed = "U" if name in _TEXTS else "biuf" if known else "biufU"
    if name in SPARSE or name == "more" or kind not in allowed or stored.dtype.char == "g":
        raise ValueError(f"array {name[:60]!a} has the type {stored.dtype}, which it cannot have")
    expected = _PER_CELL.get(name, 1) if known else min(n_dims, MOST_DIMENSIONS)
    if n_dims != expected or (name in _PER_CELL and stored.shape[0] != n_obs):
        raise ValueError(f"array {name[:60]!a} has shape {stored.shape}; there are {n_obs} cells")
    if kind == "U" and name not in ("obs_names", "genes") and stored.dtype.itemsize > 4 * MAX_NAME:
        raise ValueError(f"array {name[:60]!a} holds text of more than {MAX_NAME} characters")
