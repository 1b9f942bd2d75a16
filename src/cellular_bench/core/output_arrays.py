"""Checks of the arrays that make outputs, whether a method has just returned them or a file holds them.

All take arrays of numpy itself; what a method returned is converted before (:mod:`.returned`). What passes
once passes again, unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, NotFiniteError, UserError
from cellular_bench.core.labels import MAX_NAME, label_names

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: What outputs are called in messages, where not by their own names.
TITLES: Final[Mapping[str, str]] = {
    "X_emb": "the embedding",
    "corrected": "the corrected expression",
    "graph": "connectivities",
    "graph_distances": "distances",
}
#: Most outputs of a task of a plug-in, and most dimensions of one.
MOST_MORE: Final = 32
MOST_DIMENSIONS: Final = 8
#: Beyond, whole numbers are not all numbers in double precision.
_LARGEST_WHOLE: Final = 2**53
_IN_WORDS: Final = {
    "c": "complex numbers",
    "m": "time spans",
    "M": "dates",
    "O": "Python objects",
    "S": "bytes",
    "T": "text",
    "U": "text",
    "V": "records",
    "f": "numbers in more than double precision",
}


def checked_arrays(
    method_id: str,
    arrays: Mapping[str, Any],
    *,
    n_obs: int,
    genes: Sequence[str] | NDArray[np.str_] | None = None,
    single: bool = True,
) -> dict[str, Any]:
    """Return outputs as they are kept: single precision, names of labels as text, graphs with sorted links.

    Parameters
    ----------
    method_id
        Begins every message.
    arrays
        By the names of the fields of :class:`.Outputs`; a graph as its ``data``, ``indices`` and ``indptr``.
    n_obs
        Number of cells.
    genes
        Names of the columns of corrected expression; None: any.
    single
        False: matrices in double precision stay so.

    Raises
    ------
    ContractError
        If one has not one row per cell, holds other values than it must, or is not finite.
    """
    checked: dict[str, Any] = {}
    for name in ("X_emb", "corrected"):
        if name in arrays:
            checked[name] = _matrix(f"{method_id}: {TITLES[name]}", arrays[name], n_obs, single=single)
    if "corrected" in checked and genes is not None:
        _check_genes(
            f"{method_id}: {TITLES['corrected']}", checked["corrected"].shape[1], arrays.get("genes"), genes
        )
        checked["genes"] = np.asarray(genes, dtype=str)
    for name in ("graph", "graph_distances"):
        if name in arrays:
            checked[name] = _links(f"{method_id}: {TITLES[name]}", arrays[name], n_obs)
    if "novelty" in arrays:
        checked["novelty"] = numbers_per_cell(f"{method_id}: novelty", arrays["novelty"], n_obs)
    if "rejected" in arrays:
        checked["rejected"] = _flags(f"{method_id}: rejected", arrays["rejected"], n_obs)
    if "label_pred" in arrays:
        checked["label_pred"] = _labels(
            f"{method_id}: label_pred", arrays["label_pred"], n_obs, checked.get("rejected")
        )
    if "label_proba" in arrays:
        checked["labels"] = names(f"{method_id}: labels", arrays.get("labels", np.array([], dtype=str)))
        _check_probabilities(method_id, arrays["label_proba"], n_obs, checked["labels"])
        checked["label_proba"] = _finite(f"{method_id}: label_proba", arrays["label_proba"], single=single)
    return checked


def check_more(name: str, array: Any) -> None:
    """Check an output of a task of a plug-in: numbers, flags or text, named like an argument of a metric.

    Raises
    ------
    ContractError
        If it is none of these, or holds a number that is not finite or text of more than 512 characters.
    """
    where = f"Output {name[:60]!a}"
    if not name.isidentifier() or len(name) > MAX_NAME:
        raise ContractError(f"{where} cannot be kept: its name must be the name of a Python variable.")
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biufU" or array.dtype.char == "g":
        kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise ContractError(
            f"{where} ({kind}) cannot be kept: an output is an array of numbers, flags or text. "
            "Convert it with numpy.asarray and a dtype."
        )
    if array.dtype.kind == "U" and array.dtype.itemsize > 4 * MAX_NAME:
        raise ContractError(f"{where} holds text of more than {MAX_NAME} characters.")
    if array.ndim > MOST_DIMENSIONS:
        raise ContractError(f"{where} has {array.ndim} dimensions; at most {MOST_DIMENSIONS} are kept.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise NotFiniteError(f"{where} is NaN or infinite in some places.")


def numbers(where: str, array: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Return numbers in single or double precision, none of them changed.

    Raises
    ------
    ContractError
        If the array holds something else, or whole numbers that double precision cannot hold.
    """
    kind = array.dtype.kind
    if kind not in "biuf" or array.dtype.char == "g":
        raise ContractError(
            f"{where} is not an array of numbers: it holds {_IN_WORDS.get(kind, array.dtype)}."
        )
    if (
        kind in "iu"
        and array.size
        and not -_LARGEST_WHOLE <= int(array.min()) <= int(array.max()) <= _LARGEST_WHOLE
    ):
        raise ContractError(f"{where} holds whole numbers beyond 2**53, which floating-point numbers do not.")
    if kind == "f":
        return array.astype(np.float64 if array.dtype.itemsize == 8 else np.float32, copy=False)
    return array.astype(np.float64)


def numbers_per_cell(where: str, array: NDArray[Any], n_obs: int) -> NDArray[np.floating[Any]]:
    """Return one finite number per cell.

    Raises
    ------
    ContractError
        If it is something else.
    """
    _check_column(where, array, n_obs)
    found = numbers(where, array)
    _check_finite(where, found)
    return found


def names(where: str, array: NDArray[Any]) -> NDArray[np.str_]:
    """Return names of labels as text.

    Raises
    ------
    ContractError
        If they are neither text nor numbers, or one cannot be a name (:func:`.fault_of_name`).
    """
    if array.ndim != 1:
        raise ContractError(f"{where} has shape {array.shape}, expected one dimension.")
    if array.dtype.kind in "cmMV":
        raise ContractError(
            f"{where} holds {_IN_WORDS[array.dtype.kind]}; names of labels are text or numbers."
        )
    try:
        return label_names(array)
    except UserError as error:
        raise ContractError(f"{where}: {error}") from error


def _matrix(where: str, array: NDArray[Any], n_obs: int, *, single: bool) -> NDArray[np.floating[Any]]:
    if array.ndim != 2 or array.shape[0] != n_obs or array.shape[1] == 0:
        raise ContractError(
            f"{where} has shape {array.shape}, expected ({n_obs}, n_latent): one row per cell, "
            "in obs_names order."
        )
    return _finite(where, array, single=single)


def _finite(where: str, array: NDArray[Any], *, single: bool) -> NDArray[np.floating[Any]]:
    found = numbers(where, array)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused as such
        rounded = found.astype(np.float32, copy=False)
    _check_finite(where, rounded)
    return rounded if single else found


def _check_genes(
    where: str, n_genes: int, given: NDArray[Any] | None, genes: Sequence[str] | NDArray[Any]
) -> None:
    if n_genes != len(genes):
        raise ContractError(
            f"{where} has {n_genes} genes, expected {len(genes)}: "
            "those that the method was given, in their order."
        )
    if given is not None and not np.array_equal(given, np.asarray(genes, dtype=str)):
        raise ContractError(f"{where} is of other genes than the method was given.")


def _links(where: str, parts: tuple[NDArray[Any], NDArray[Any], NDArray[Any]], n_obs: int) -> csr_matrix:
    """Return weights or lengths of links between cells, sorted; a pair of cells has one link."""
    from scipy.sparse import csr_matrix

    data, indices, indptr = parts
    if (
        not all(part.ndim == 1 for part in parts)
        or indices.dtype.kind not in "iu"
        or indptr.dtype.kind not in "iu"
    ):
        raise ContractError(
            f"{where} is no sparse matrix of {n_obs} cells: its parts have other types or shapes."
        )
    if (
        len(indptr) != n_obs + 1
        or indptr[0] != 0
        or not len(data) == len(indices) == indptr[-1]
        or (indptr[1:] < indptr[:-1]).any()
    ):
        raise ContractError(f"{where} is no sparse matrix of {n_obs} cells: its rows do not fit its values.")
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < n_obs:
        raise ContractError(f"{where} links cells that are not there: positions are 0 to {n_obs - 1}.")
    with np.errstate(over="ignore"):
        weights = numbers(where, data).astype(np.float32, copy=False)
    _check_weights(where, weights)
    links = csr_matrix((weights, indices, indptr), shape=(n_obs, n_obs))
    if not links.has_canonical_format:
        links = links.copy()
        links.sum_duplicates()
        _check_weights(where, links.data)
    return links


def _check_weights(where: str, weights: NDArray[Any]) -> None:
    bad = ~np.isfinite(weights) | (weights < 0)
    if bad.any():
        raise NotFiniteError(f"{where}: {bad.sum()} of {len(weights)} values are negative, NaN or infinite.")


def _check_probabilities(method_id: str, array: NDArray[Any], n_obs: int, labels: NDArray[np.str_]) -> None:
    where = f"{method_id}: label_proba"
    if array.shape != (n_obs, len(labels)):
        raise ContractError(
            f"{where} has shape {array.shape}, expected {(n_obs, len(labels))}: one row per cell, "
            "one column per name in labels."
        )
    known, n_columns = np.unique(labels, return_counts=True)
    if len(known) < len(labels):
        raise ContractError(f"{method_id}: labels names {str(known[n_columns.argmax()])!r} more than once.")


def _check_column(where: str, array: NDArray[Any], n_obs: int) -> None:
    if array.shape != (n_obs,):
        raise ContractError(
            f"{where} has shape {array.shape}, expected {(n_obs,)}: one value per cell, in obs_names order."
        )


def _labels(
    where: str, array: NDArray[Any], n_obs: int, rejected: NDArray[np.bool_] | None
) -> NDArray[np.str_]:
    """Return the predicted names; only rejected cells may have none."""
    _check_column(where, array, n_obs)
    found = names(where, array)
    missing = int(((found == "") & (True if rejected is None else ~rejected)).sum())
    if missing:
        raise NotFiniteError(
            f"{where} is missing (None, NaN or empty) for {missing} of {n_obs} cells. "
            "Name every cell; mark those that the method declines to name in rejected."
        )
    return found


def _flags(where: str, array: NDArray[Any], n_obs: int) -> NDArray[np.bool_]:
    """Return flags as booleans. Other values mislead: the text 'False' counts as true."""
    _check_column(where, array, n_obs)
    values = array.tolist() if array.dtype.kind in "biufO" else [None]
    if not all(
        isinstance(value, bool | int | float | np.bool_) and value in (False, True) for value in values
    ):
        raise ContractError(f"{where} holds other values than True and False.")
    return array.astype(bool)


def _check_finite(where: str, array: NDArray[np.floating[Any]]) -> None:
    bad = ~np.isfinite(array)
    if bad.any():
        rows = int(bad.reshape(len(array), -1).any(axis=1).sum())
        raise NotFiniteError(f"{where} is NaN or infinite for {rows} of {len(array)} cells.")
