"""Choose the expression values of a data set, and distinguish counts from log-normalised values.

A file can hold values in ``X``, in layers and in ``.raw``. The values themselves decide of which kind they
are, because no flag in the file is reliable.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UnknownNameError
from cellular_bench.core.keys import COUNTS, TARGET_SUM
from cellular_bench.core.layers import named_layers

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

#: Largest plausible log-normalised value: the natural logarithm of 485 million.
MAX_LOGNORM = 20.0
#: Layers that may hold raw counts: the canonical name, and that of the CELLULAR study's deposit.
COUNTS_LAYERS = (COUNTS, "pp_counts")
#: Number of values of a layer that are checked at a time.
BLOCK_VALUES = 1 << 20
#: Largest relative difference from 10,000 of the sum over the genes of a cell, by rounding.
TOTAL_TOLERANCE = 0.01

Kind = Literal["counts", "lognorm"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """The values chosen from a data set.

    Attributes
    ----------
    values
        (n_obs, n_vars) sparse float32, sorted, without stored zeros.
    var_names
        (n_vars,) names of the genes; those of ``.raw`` can differ from those of ``X``.
    is_counts
        True for raw counts, False for log-normalised values.
    """

    values: csr_matrix
    var_names: pd.Index
    is_counts: bool


def choose(
    adata: AnnData, counts_layer: str | None, problems: list[str], warnings: list[str]
) -> Expression | None:
    """Choose the expression values; problems and warnings are appended to the lists.

    With ``counts_layer``, only that matrix is used, and it must hold counts. Without it, the first of ``X``,
    :data:`COUNTS_LAYERS` and ``.raw`` that holds counts is chosen, else the first of ``X`` and ``.raw`` that
    holds log-normalised values.

    Returns
    -------
    The values, or None if there is a problem.
    """
    if counts_layer is not None:
        return _explicit(adata, counts_layer, problems)
    seen: dict[str, Expression] = {}
    faults: list[str] = []
    for name, matrix, var_names in _candidates(adata):
        values, fault = _canonical(matrix, name, adata.obs_names, var_names)
        kind = None if values is None else _kind(values)
        if values is not None and kind == "counts":
            _warn_of_place(name, warnings)
            return Expression(values=values, var_names=var_names, is_counts=True)
        if values is not None and kind == "lognorm" and name in ("X", "raw"):
            seen[name] = Expression(values=values, var_names=var_names, is_counts=False)
        faults.append(fault or _unknown_values(values, name))
    if seen:
        name, expression = next(iter(seen.items()))
        _warn_of_place(name, warnings)
        _warn_of_lognorm(expression.values, _likely_counts(adata), warnings)
        return expression
    problems.extend(f"{fault}{_likely_counts(adata)}" for fault in faults[:1])
    return None


def _explicit(adata: AnnData, counts_layer: str, problems: list[str]) -> Expression | None:
    matrices = {"X": (adata.X, adata.var_names)}
    if adata.raw is not None:
        matrices["raw"] = (adata.raw.X, adata.raw.var_names)
    # A layer that is called "X" or "raw" takes precedence: it is what the user sees under that name.
    matrices |= {name: (layer, adata.var_names) for name, layer in named_layers(adata).items()}
    if counts_layer not in matrices:
        problems.append(str(UnknownNameError("counts layer", counts_layer, matrices)))
        return None
    matrix, var_names = matrices[counts_layer]
    shown = counts_layer if counts_layer in ("X", "raw") else _layer(counts_layer)
    values, fault = _canonical(matrix, shown, adata.obs_names, var_names)
    if values is None or fault:
        problems.append(fault)
        return None
    is_fraction = values.data != np.floor(values.data)
    if is_fraction.any():
        where = _where(values, is_fraction, adata.obs_names, var_names)
        problems.append(
            f"{shown} must hold raw counts, but {_n_values(is_fraction)} not whole, the first {where}. "
            "Name the matrix that holds raw counts (counts layer), or none if there is none."
        )
        return None
    return Expression(values=values, var_names=var_names, is_counts=True)


def _candidates(adata: AnnData) -> Iterator[tuple[str, Any, pd.Index]]:
    yield "X", adata.X, adata.var_names
    for name in COUNTS_LAYERS:
        if name in adata.layers:
            yield _layer(name), adata.layers[name], adata.var_names
    if adata.raw is not None:
        yield "raw", adata.raw.X, adata.raw.var_names


def _canonical(
    matrix: Any, name: str, obs_names: pd.Index, var_names: pd.Index
) -> tuple[csr_matrix | None, str]:
    """Return a sparse float32 copy of a matrix, or None and the reason why it is unusable."""
    from scipy import sparse

    if matrix is None:
        return None, f"{name} is empty: there are no expression values."
    dtype = np.dtype(matrix.dtype)
    if dtype.kind not in "biuf":
        return None, f"{name} holds values of type {dtype}; expected numbers."
    values = sparse.csr_matrix(matrix, dtype=np.float32, copy=True)
    values.sum_duplicates()
    is_broken = ~np.isfinite(values.data)
    if is_broken.any():
        where = _where(values, is_broken, obs_names, var_names)
        return None, (
            f"In {name} {_n_values(is_broken)} NaN or infinite, the first {where}. "
            "Remove these cells or genes, or correct the values."
        )
    is_negative = values.data < 0
    if is_negative.any():
        where = _where(values, is_negative, obs_names, var_names)
        return None, (
            f"In {name} {_n_values(is_negative)} negative, the first {where}: neither counts nor "
            "log-normalised values (scaled data?). Keep raw counts in a layer and name it (counts layer)."
        )
    values.eliminate_zeros()
    return values, ""


def _kind(values: csr_matrix) -> Kind | None:
    if np.array_equal(values.data, np.floor(values.data)):
        return "counts"
    return "lognorm" if values.data.max() < MAX_LOGNORM else None


def _unknown_values(values: Any, name: str) -> str:
    return (
        f"{name} holds neither counts (not all values are whole numbers) nor log-normalised values "
        f"(the largest is {values.data.max():.6g}, expected below {MAX_LOGNORM:g}). "
        "Keep raw counts in a layer and name it (counts layer)."
    )


def _warn_of_place(name: str, warnings: list[str]) -> None:
    if name != "X":
        warnings.append(f"Expression values were taken from {name}, not from X.")


def _warn_of_lognorm(values: csr_matrix, elsewhere: str, warnings: list[str]) -> None:
    where = " where they are looked for" if elsewhere else ""
    warnings.append(f"There are no counts{where}: methods that read counts do not apply.{elsewhere}")
    totals = np.asarray(values.expm1().sum(axis=1)).ravel()
    if np.abs(totals / TARGET_SUM - 1).max() > TOTAL_TOLERANCE:
        warnings.append(
            "The values are not log1p of counts per 10,000 over these genes (without the logarithm, the "
            f"median cell sums to {np.median(totals):.0f}): methods that require it fail."
        )


def _likely_counts(adata: AnnData) -> str:
    """Return a sentence that names the first other layer that may hold counts; empty if there is none."""
    for name, matrix in named_layers(adata).items():
        if name not in COUNTS_LAYERS and _are_whole_numbers(matrix):
            return f" {_layer(name)} looks like counts: --counts-layer {shlex.quote(str(name))}."
    return ""


def _are_whole_numbers(matrix: Any) -> bool:
    """Return whether all values are whole and not negative, and one is above 1: masks are 0 and 1."""
    from scipy import sparse

    values = np.ravel(matrix.data if sparse.issparse(matrix) else np.asarray(matrix), order="K")
    if values.dtype.kind not in "iuf" or not values.size or not values.min() >= 0:
        return False
    # In blocks: stops at the first fraction, and does not copy a large matrix.
    starts = range(0, values.size, BLOCK_VALUES)
    blocks = (values[start : start + BLOCK_VALUES] for start in starts)
    return bool(1 < values.max() < np.inf) and all((block == np.floor(block)).all() for block in blocks)


def _where(values: csr_matrix, hits: NDArray[np.bool_], obs_names: pd.Index, var_names: pd.Index) -> str:
    position = int(np.flatnonzero(hits)[0])
    row = int(np.searchsorted(values.indptr, position, side="right")) - 1
    column = int(values.indices[position])
    return f"{values.data[position]:g} in cell '{obs_names[row]}', gene '{var_names[column]}'"


def _n_values(hits: NDArray[np.bool_]) -> str:
    n_hits = int(hits.sum())
    return "1 value is" if n_hits == 1 else f"{n_hits} values are"


def _layer(name: str) -> str:
    return f"layers['{name}']"
