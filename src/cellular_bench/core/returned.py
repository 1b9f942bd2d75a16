"""What a method returned: converted to arrays, once and exactly, and checked against the interface.

Each object is looked at once; what it says later of its shape or values does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, NotFiniteError, UserError, reason_of
from cellular_bench.core.labels import label_names
from cellular_bench.core.output_arrays import checked_arrays, numbers, numbers_per_cell
from cellular_bench.core.outputs import Outputs
from cellular_bench.core.types import Corrected, Graph, Prediction

#: What names of labels are made of; anything else has no one spelling.
_NAMED: Final = (str, bytes, bool, int, float, np.generic)


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
    arrays: dict[str, Any] = {}
    if isinstance(returned, Graph):
        arrays["graph"] = _parts(f"{method_id}: connectivities", returned.connectivities, names)
        if returned.distances is not None:
            arrays["graph_distances"] = _parts(f"{method_id}: distances", returned.distances, names)
    elif isinstance(returned, Corrected):
        where = f"{method_id}: the corrected expression"
        arrays["corrected"] = _rows(where, returned.X, names)
        _check_columns(where, returned.X, np.asarray(genes, dtype=str))
        if returned.X_emb is not None:
            arrays["X_emb"] = _rows(f"{method_id}: the embedding", returned.X_emb, names)
    else:
        arrays["X_emb"] = _rows(f"{method_id}: the embedding", returned, names)
    return Outputs(obs_names=names, **checked_arrays(method_id, arrays, n_obs=len(names), genes=genes))


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
    arrays: dict[str, Any] = {"label_pred": _names(f"{method_id}: label_pred", returned.label_pred, names)}
    for field in ("novelty", "rejected", "label_proba"):
        if (value := getattr(returned, field)) is not None:
            arrays[field] = _rows(f"{method_id}: {field}", value, names)
    if returned.label_proba is not None:
        stated = () if returned.labels is None else returned.labels
        arrays["labels"] = _names(f"{method_id}: labels", stated)
    checked = checked_arrays(method_id, arrays, n_obs=len(names))
    if returned.label_proba is not None:
        _check_columns(f"{method_id}: label_proba", returned.label_proba, checked["labels"])
    return Outputs(obs_names=names, **checked)


def checked_numbers(
    method_id: str, name: str, returned: Any, obs_names: Sequence[str] | NDArray[np.str_]
) -> NDArray[np.floating[Any]]:
    """Check an output that is one number per cell.

    Raises
    ------
    ContractError
        If it has not one value per cell, is not finite, or is named in another order.
    """
    where, names = f"{method_id}: {name}", np.asarray(obs_names, dtype=str)
    return numbers_per_cell(where, _rows(where, returned, names), len(names))


def _rows(where: str, value: Any, names: NDArray[np.str_]) -> NDArray[Any]:
    check_order(where, value, names)
    return array_of(where, value)


def array_of(where: str, value: Any) -> NDArray[Any]:
    """Return a value as an array of numpy itself, of whatever type; nothing of it is dropped.

    Raises
    ------
    ContractError
        If that cannot be, or values are masked.
    """
    import pandas as pd
    from scipy.sparse import issparse

    if issparse(value):
        value = sound(where, value).toarray()
    elif hasattr(value, "toarray"):
        value = value.toarray()
    _refuse_masked(where, value)
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error) is not RuntimeError:
            raise  # torch's error for a GPU without memory is one
        raise ContractError(f"{where} cannot be read as an array: {reason_of(error)}") from error
    if array.dtype == object and isinstance(
        value, pd.DataFrame
    ):  # whose columns have several types of numbers
        columns = [numbers(where, np.asarray(value.iloc[:, i])) for i in range(array.shape[1])]
        return np.column_stack(columns) if columns else array
    # The file of a memory map may change.
    return array.copy() if isinstance(value, np.memmap) else array


def _names(where: str, value: Any, cells: NDArray[np.str_] | None = None) -> NDArray[Any]:
    """Return names of labels as an array; lists as objects, which do not all take the room of the longest."""
    if cells is not None:
        check_order(where, value, cells)
    if isinstance(value, list | tuple):
        _refuse_masked(where, value)
        array = np.asarray(value, dtype=object)
    else:
        array = array_of(where, value)
    if array.dtype == object:
        import pandas as pd

        for kind in set(map(type, array.flat)):
            if not issubclass(kind, _NAMED) and kind not in (type(None), type(pd.NA), type(pd.NaT)):
                raise ContractError(
                    f"{where} holds {kind.__name__} objects; names of labels are text or numbers."
                )
    return array


def _refuse_masked(where: str, value: Any) -> None:
    parts = value if isinstance(value, list | tuple) else (value,)
    n_masked = sum(
        int(np.ma.getmaskarray(part).sum()) for part in parts if isinstance(part, np.ma.MaskedArray)
    )
    if n_masked:
        raise NotFiniteError(f"{where} has {n_masked} masked values, which outputs cannot have. Fill them.")


def sound(where: str, matrix: Any) -> Any:
    """Return a sparse matrix with valid positions; with others, scipy reads and writes foreign memory.

    Raises
    ------
    ContractError
        If positions are outside the matrix, or rows do not fit the values.
    """
    from scipy.sparse import coo_matrix

    try:
        if matrix.format == "coo":  # the constructor checks positions
            return coo_matrix((matrix.data, (matrix.row, matrix.col)), shape=matrix.shape)
        if matrix.format not in ("csr", "csc", "bsr"):
            matrix = matrix.tocsr()
        matrix.check_format(full_check=True)
    except (TypeError, ValueError, AttributeError) as error:
        raise ContractError(f"{where} is no sound sparse matrix: {reason_of(error)}") from error
    return matrix


def _parts(
    where: str, value: Any, names: NDArray[np.str_]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the data, indices and indptr of links between cells."""
    from scipy.sparse import csr_matrix, issparse

    check_order(where, value, names)
    matrix = sound(where, value) if issparse(value) else array_of(where, value)
    wanted = len(names), len(names)
    if matrix.shape != wanted:
        raise ContractError(
            f"{where} has shape {matrix.shape}, expected {wanted}: a row and a column per cell, "
            "in obs_names order."
        )
    if not issparse(matrix):
        matrix = numbers(where, matrix)
    elif matrix.dtype.kind not in "biuf":
        numbers(where, np.asarray(matrix.data))  # says why not
    rows = csr_matrix(matrix)
    n_links = int(rows.indptr[-1])  # there may be room for more
    return rows.data[:n_links], rows.indices[:n_links], rows.indptr


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
    given = [str(name) for name in index]
    expected = names.tolist()
    if given in (expected, [str(row) for row in range(len(names))]):
        return
    first = next(row for row, (one, other) in enumerate(zip(given, expected, strict=True)) if one != other)
    if len(set(given)) < len(given):
        problem = "names a row twice"
    elif set(given) == set(expected):
        problem = "has its rows in another order"
    else:
        problem = "names other rows than the cells"
    raise ContractError(
        f"{where} {problem}: row {first} is '{given[first]}', expected '{expected[first]}'. "
        "Rows must be in obs_names order."
    )


def _check_columns(where: str, value: Any, names: NDArray[np.str_]) -> None:
    """Compare the names of columns that a DataFrame carries; as many of them as are expected."""
    import pandas as pd

    columns = getattr(value, "columns", None)
    if columns is None or isinstance(columns, pd.RangeIndex) or len(columns) != len(names):
        return
    try:
        differ = np.flatnonzero(label_names(columns) != label_names(names))
    except UserError as error:
        raise ContractError(f"{where}: {error}") from error
    if differ.size:
        first = int(differ[0])
        raise ContractError(
            f"{where} has other columns than expected: column {first} is '{columns[first]}', expected "
            f"'{names[first]}'."
        )
