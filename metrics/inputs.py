"""Checks of the arrays of metrics, with the same messages for all metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.core.labels import label_names

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Largest coordinate; of larger ones, single precision cannot hold the distances.
_LARGEST = 1e30
#: Steps of the centre of coordinates, as a share of its magnitude.
_CENTRE = 2.0**32


def coordinates(X: ArrayLike, name: str = "X_emb", *, by_output: bool = True) -> Floats:
    """Return nearly centred coordinates in double precision; only BRAS depends on the origin.

    Parameters
    ----------
    X
        (n_obs, n_dims) coordinates.
    name
        Name of the array, for messages.
    by_output
        True if the method returned the array, False if it belongs to the data set.

    Raises
    ------
    UndefinedError
        If they are not finite, above 1e30, have no column or are the same for every cell; or there is only
        one cell.
    ValueError
        If they are not two-dimensional.
    """
    array = raw_coordinates(X, name, by_output=by_output)
    # A mean of few digits is the same for any order of the cells, and coordinates in single precision lose
    # nothing: equal differences stay equal.
    fraction, exponent = np.frexp(array.mean(axis=0))
    centre = np.ldexp(np.round(fraction * _CENTRE) / _CENTRE, exponent)
    return np.ascontiguousarray(array - centre)


def raw_coordinates(X: ArrayLike, name: str = "X_emb", *, by_output: bool = True) -> Floats:
    """Return coordinates in double precision, not centred; parameters and errors as :func:`coordinates`."""
    # Sums of columns depend on the layout: pandas 3 lays the columns of a table one after another.
    array = np.asarray(X, dtype=np.float64, order="C")
    if array.ndim != 2:
        raise ValueError(f"{name} has shape {array.shape}; expected (n_obs, n_dims), one row per cell")
    if not array.size:
        raise UndefinedError(f"{name} is empty: its shape is {array.shape}", by_output=by_output)
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        bad = int(np.count_nonzero(~finite))
        raise UndefinedError(
            f"{name} has NaN or infinite values in {bad} of {len(array)} cells",
            by_output=by_output,
        )
    if (largest := float(np.abs(array).max())) > _LARGEST:
        raise UndefinedError(
            f"{name} has values up to {largest:.2g}; distances of more than {_LARGEST:g} are not computed",
            by_output=by_output,
        )
    if len(array) < 2:
        raise UndefinedError("there is only one cell")
    if (array == array[0]).all():
        raise UndefinedError(f"{name} is constant: every cell has the same coordinates", by_output=by_output)
    return array


def categories(values: ArrayLike, name: str, *, n_obs: int | None = None) -> NDArray[Any]:
    """Return labels or batches as an array that can be sorted: names, integers or bools, (n_obs,).

    Parameters
    ----------
    values
        One value per cell.
    name
        Name of the array, for messages.
    n_obs
        Number of cells; None: any.

    Raises
    ------
    ValueError
        If there is not one value per cell, or one of them is missing.
    """
    array = _per_cell(values, name, n_obs)
    if array.dtype.kind in "biu":
        return array
    names = label_names(array)
    if (names == "").any():
        raise ValueError(f"{name} has missing values; every cell needs one")
    return names


def strings(values: ArrayLike, name: str, *, n_obs: int | None = None) -> NDArray[np.str_]:
    """Return labels as strings, (n_obs,); parameters and errors as :func:`categories`."""
    return categories(values, name, n_obs=n_obs).astype(str)


def strings_or_missing(values: ArrayLike, name: str, *, n_obs: int | None = None) -> NDArray[np.str_]:
    """Return labels as strings, (n_obs,), empty for a missing one; parameters as :func:`categories`."""
    return label_names(_per_cell(values, name, n_obs))


def _per_cell(values: ArrayLike, name: str, n_obs: int | None) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim != 1 or (n_obs is not None and len(array) != n_obs):
        wanted = "one value per cell" if n_obs is None else f"({n_obs},), one value per cell"
        raise ValueError(f"{name} has shape {array.shape}; expected {wanted}")
    return array


def encode(values: ArrayLike, name: str, *, n_obs: int | None = None) -> tuple[NDArray[Any], Ints]:
    """Return the sorted distinct values and, for each cell, the position of its value among them.

    Parameters and errors are those of :func:`categories`.

    Examples
    --------
    >>> names, codes = encode(["T", "B", "T"], "label")
    >>> names.tolist(), codes.tolist()
    (['B', 'T'], [1, 0, 1])
    """
    names, codes = np.unique(categories(values, name, n_obs=n_obs), return_inverse=True)
    return names, codes.astype(np.int64)


def several(values: ArrayLike, name: str, *, n_obs: int | None = None) -> tuple[NDArray[Any], Ints]:
    """Return the result of :func:`encode` for values of which at least two must differ.

    Undefined if all cells share one value, or there are no cells.
    """
    names, codes = encode(values, name, n_obs=n_obs)
    if len(names) < 2:
        present = f"only one {name} ('{names[0]}')" if len(names) else "no cells"
        raise UndefinedError(f"needs at least two different values of {name}; there is {present}")
    return names, codes
