"""What a method returned: checked against the interface, kept beside the record."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, NotFiniteError, UserError
from cellular_bench.core.labels import label_names
from cellular_bench.core.types import Corrected, Graph, Prediction

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Sparse outputs, each kept as three arrays with its name.
SPARSE = ("graph", "graph_distances")
SPARSE_PARTS = ("data", "indices", "indptr")


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
        Outputs of tasks of plug-ins, by the names that metrics have for them.

    Raises
    ------
    ContractError
        If one of ``more`` has the name of a field, or holds Python objects, which no file can keep.
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
        for name, array in self.more.items():
            if name in self.__slots__ or array.dtype == object:
                raise ContractError(
                    f"Output '{name}' ({array.dtype}) cannot be kept: choose a name other than "
                    f"{', '.join(self.__slots__)}, and numbers, flags or text as values."
                )

    @classmethod
    def of(cls, arrays: Mapping[str, Any]) -> Outputs:
        """Return the outputs that :meth:`arrays` were taken from."""
        own = {name: array for name, array in arrays.items() if name in cls.__slots__}
        return cls(**own, more={name: array for name, array in arrays.items() if name not in own})

    def arrays(self) -> dict[str, Any]:
        """Return the arrays that are there, by name."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "more"}
        return {**{name: array for name, array in fields.items() if array is not None}, **self.more}


def checked_integration(
    method_id: str, returned: Any, obs_names: Sequence[str], genes: Sequence[str]
) -> Outputs:
    """Check what an integrator returned: an embedding, a graph, or corrected expression of the genes.

    Corrected expression may come without an embedding.

    Raises
    ------
    ContractError
        If it has not one row per cell, or of the matrix one column per gene, is not finite, or is named
        in another order.
    """
    names = np.asarray(obs_names, dtype=str)
    if isinstance(returned, Graph):
        return _checked_graph(method_id, returned, names)
    if isinstance(returned, Corrected):
        return _checked_corrected(method_id, returned, names, np.asarray(genes, dtype=str))
    return Outputs(obs_names=names, X_emb=_rows(f"{method_id}: the embedding", returned, names))


def _checked_graph(method_id: str, returned: Graph, names: NDArray[np.str_]) -> Outputs:
    graph = _links(f"{method_id}: connectivities", returned.connectivities, names)
    if returned.distances is None:
        return Outputs(obs_names=names, graph=graph)
    distances = _links(f"{method_id}: distances", returned.distances, names)
    return Outputs(obs_names=names, graph=graph, graph_distances=distances)


def _checked_corrected(
    method_id: str, returned: Corrected, names: NDArray[np.str_], genes: NDArray[np.str_]
) -> Outputs:
    where = f"{method_id}: the corrected expression"
    corrected = _rows(where, returned.X, names)
    _check_columns(where, returned.X, genes)
    if corrected.shape[1] != len(genes):
        raise ContractError(
            f"{where} has {corrected.shape[1]} genes, expected {len(genes)}: "
            "those that the method was given, in their order."
        )
    own = returned.X_emb
    X_emb = None if own is None else _rows(f"{method_id}: the embedding", own, names)
    return Outputs(obs_names=names, X_emb=X_emb, corrected=corrected, genes=genes)


def _rows(where: str, returned: Any, names: NDArray[np.str_]) -> NDArray[np.float32]:
    """Return a finite matrix with one row per cell."""
    check_order(where, returned, names)
    array = _numeric(where, returned)
    if array.ndim != 2 or array.shape[0] != len(names) or array.shape[1] == 0:
        raise ContractError(
            f"{where} has shape {array.shape}, expected ({len(names)}, n_latent): one row per cell, "
            "in obs_names order."
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        array = array.astype(np.float32, copy=False)
    _check_finite(where, array)
    return array


def _links(where: str, returned: Any, names: NDArray[np.str_]) -> csr_matrix:
    """Return the finite weights or lengths of links between cells, none of them negative."""
    from scipy.sparse import csr_matrix

    try:
        links = csr_matrix(returned, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ContractError(f"{where} is not a matrix of numbers: {error}.") from error
    wanted = len(names), len(names)
    if links.shape != wanted:
        raise ContractError(
            f"{where} has shape {links.shape}, expected {wanted}: a row and a column per cell, "
            "in obs_names order."
        )
    bad = ~np.isfinite(links.data) | (links.data < 0)
    if bad.any():
        raise NotFiniteError(f"{where}: {bad.sum()} of {links.nnz} values are negative, NaN or infinite.")
    return links


def checked_prediction(method_id: str, returned: Any, obs_names: Sequence[str]) -> Outputs:
    """Check a prediction.

    Raises
    ------
    ContractError
        If a field has not one value per cell, is not finite, or is named in another order.
    """
    if not isinstance(returned, Prediction):
        raise ContractError(f"{method_id}: predict returned {type(returned).__name__}, expected Prediction.")
    names = np.asarray(obs_names, dtype=str)
    novelty, rejected = None, None
    if returned.novelty is not None:
        novelty = checked_numbers(method_id, "novelty", returned.novelty, names)
    if returned.rejected is not None:
        rejected = _flags(method_id, _column(method_id, "rejected", returned.rejected, names))
    label_pred = _labels(method_id, _column(method_id, "label_pred", returned.label_pred, names), rejected)
    proba, labels = _probabilities(method_id, returned, names)
    return Outputs(
        obs_names=names,
        label_pred=label_pred,
        label_proba=proba,
        labels=labels,
        novelty=novelty,
        rejected=rejected,
    )


def checked_numbers(
    method_id: str, name: str, returned: Any, obs_names: Sequence[str] | NDArray[np.str_]
) -> NDArray[np.floating[Any]]:
    """Check an output that is one number per cell.

    Raises
    ------
    ContractError
        If it has not one value per cell, is not finite, or is named in another order.
    """
    column = _column(method_id, name, returned, np.asarray(obs_names, dtype=str))
    numbers = _numeric(f"{method_id}: {name}", column)
    _check_finite(f"{method_id}: {name}", numbers)
    return numbers


def write_outputs(outputs: Outputs, path: Path) -> None:
    """Write outputs as a compressed npz file without pickled objects."""
    arrays = outputs.arrays()
    for name in set(SPARSE) & arrays.keys():
        links = arrays.pop(name)
        arrays |= {f"{name}_{part}": getattr(links, part) for part in SPARSE_PARTS}
    temporary = path.with_name(f".{path.name}")
    with temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    temporary.replace(path)


def read_outputs(path: Path) -> Outputs:
    """Read outputs.

    Raises
    ------
    UserError
        If the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Outputs.of(_joined({name: arrays[name] for name in arrays.files}))
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} does not hold the outputs of a run: {error}.") from error


def _joined(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Put sparse matrices together again."""
    from scipy.sparse import csr_matrix

    joined: dict[str, Any] = dict(arrays)
    n_obs = len(arrays["obs_names"])
    for name in SPARSE:
        if f"{name}_data" in joined:
            parts = tuple(joined.pop(f"{name}_{part}") for part in SPARSE_PARTS)
            joined[name] = csr_matrix(parts, shape=(n_obs, n_obs))
    return joined


def _probabilities(
    method_id: str, prediction: Prediction, names: NDArray[np.str_]
) -> tuple[NDArray[Any] | None, NDArray[np.str_] | None]:
    if prediction.label_proba is None:
        return None, None
    where = f"{method_id}: label_proba"
    check_order(where, prediction.label_proba, names)
    array = _numeric(where, prediction.label_proba)
    labels = label_names(() if prediction.labels is None else prediction.labels)
    if array.shape != (len(names), len(labels)):
        raise ContractError(
            f"{where} has shape {array.shape}, expected {(len(names), len(labels))}: one row per cell, "
            "one column per name in labels."
        )
    _check_columns(where, prediction.label_proba, labels)
    _check_finite(where, array)
    return array.astype(np.float32, copy=False), labels


def _column(method_id: str, field: str, value: Any, names: NDArray[np.str_]) -> NDArray[Any]:
    check_order(f"{method_id}: {field}", value, names)
    array = np.asarray(value)
    if array.shape != names.shape:
        raise ContractError(
            f"{method_id}: {field} has shape {array.shape}, expected {names.shape}: one value per cell, "
            "in obs_names order."
        )
    return array


def _labels(method_id: str, column: NDArray[Any], rejected: NDArray[np.bool_] | None) -> NDArray[np.str_]:
    """Return the predicted names; only rejected cells may have none."""
    names = label_names(column)
    missing = int(((names == "") & (True if rejected is None else ~rejected)).sum())
    if missing:
        raise NotFiniteError(
            f"{method_id}: label_pred is missing (None, NaN or empty) for {missing} of {len(column)} cells. "
            "Name every cell; mark those that the method declines to name in rejected."
        )
    return names


def _n_missing(column: NDArray[Any]) -> int:
    import pandas as pd

    return int(pd.isna(column).sum())


def _flags(method_id: str, column: NDArray[Any]) -> NDArray[np.bool_]:
    """Return flags as booleans. Other values mislead: the text 'False' counts as true."""
    if _n_missing(column) or not all(value in (False, True) for value in column.tolist()):
        raise ContractError(f"{method_id}: rejected holds other values than True and False.")
    return column.astype(bool)


def _numeric(where: str, value: Any) -> NDArray[np.floating[Any]]:
    dense = value.toarray() if hasattr(value, "toarray") else value
    try:
        array = np.asarray(dense)
        return array if np.issubdtype(array.dtype, np.floating) else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ContractError(f"{where} is not an array of numbers: {error}.") from error


def _check_finite(where: str, array: NDArray[np.floating[Any]]) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        rows = int(bad.reshape(len(array), -1).any(axis=1).sum())
        raise NotFiniteError(f"{where} is NaN or infinite for {rows} of {len(array)} cells.")


def check_order(where: str, value: Any, names: NDArray[np.str_]) -> None:
    """Compare the names of rows that a DataFrame or Series carries; a plain array carries none.

    Raises
    ------
    ContractError
        If they are not ``names``, in that order.
    """
    index = getattr(value, "index", None)
    if index is None or callable(index) or len(index) != len(names):
        return
    given = np.asarray(index).astype(str)
    if np.array_equal(given, names) or np.array_equal(given, np.arange(len(names)).astype(str)):
        return
    if set(given) == set(names):
        first = int(np.flatnonzero(given != names)[0])
        raise ContractError(
            f"{where} has its rows in another order: row {first} is '{given[first]}', expected "
            f"'{names[first]}'. Rows must be in obs_names order."
        )
    raise ContractError(f"{where} names its rows '{given[0]}'..., expected obs_names ('{names[0]}'...).")


def _check_columns(where: str, value: Any, names: NDArray[np.str_]) -> None:
    """Compare the names of columns that a DataFrame carries; as many of them as are expected."""
    import pandas as pd

    columns = getattr(value, "columns", None)
    if columns is None or isinstance(columns, pd.RangeIndex) or len(columns) != len(names):
        return
    differ = np.flatnonzero(label_names(columns) != label_names(names))
    if differ.size:
        first = int(differ[0])
        raise ContractError(
            f"{where} has other columns than expected: column {first} is '{columns[first]}', expected "
            f"'{names[first]}'."
        )
