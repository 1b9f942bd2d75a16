"""Choose the expression values of a data set, and distinguish counts from log-normalised values.

A file can hold values in ``X``, in layers and in ``.raw``. The values themselves decide of which kind they
are, because no flag in the file is reliable.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UnknownNameError
from cellular_bench.core.keys import COUNTS, TARGET_SUM
from cellular_bench.core.layers import named_layers
from cellular_bench.datasets.cut_genes import (
    MIN_FACTOR,
    columns_of,
    factor_of_lognorm,
    factor_of_raw,
    factors_of_columns,
    is_cut_from,
    recovered_counts,
)
from cellular_bench.datasets.h5ad import unreadable

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
    holds log-normalised values. If these are cut from ``.raw``, which has more genes, ``.raw`` is chosen; and
    if ``.raw`` holds log-normalised values from which the counts of all genes follow, those counts.

    Returns
    -------
    The values, or None if there is a problem.
    """
    if counts_layer is None:
        return _found(adata, problems, warnings)
    expression = _explicit(adata, counts_layer, problems)
    if expression is not None:
        x = None if counts_layer == "X" else _usable(adata.X, "X", adata.obs_names, adata.var_names)
        _warn_of_cut(adata, expression, x, warnings)
    return expression


def _found(adata: AnnData, problems: list[str], warnings: list[str]) -> Expression | None:
    """Choose by the values."""
    lognorm: dict[str, Expression] = {}
    faults: list[str] = []
    for name, matrix, var_names in _candidates(adata):
        values, fault = _canonical(matrix, name, adata.obs_names, var_names)
        kind = None if values is None else _kind(values)
        if values is not None and not values.nnz:
            fault = f"{name} holds only zeros: there are no expression values."
        elif values is not None and kind == "counts":
            expression = Expression(values=values, var_names=var_names, is_counts=True)
            whole = _uncut(adata, name, expression, warnings)
            if whole is None:
                _warn_of_place(name, faults, warnings)
            _warn_of_cut(adata, whole or expression, lognorm.get("X"), warnings)
            return whole or expression
        elif values is not None and kind == "lognorm" and name in ("X", "raw"):
            lognorm[name] = Expression(values=values, var_names=var_names, is_counts=False)
        faults.append(fault or _unknown_values(values, name))
    lost = [problem for name in COUNTS_LAYERS if (problem := unreadable(adata, _layer(name)))]
    if lost:
        problems.extend(lost)
        return None
    if lognorm:
        name, expression = next(iter(lognorm.items()))
        raw = lognorm.get("raw", expression)
        if is_cut_from(expression.values, raw.values, columns_of(expression.var_names, raw.var_names)):
            name, expression = "raw", raw
        _warn_of_place(name, faults, warnings)
        _warn_of_lognorm(expression.values, likely_counts(adata), warnings)
        return expression
    problems.extend(f"{fault}{likely_counts(adata)}" for fault in faults[:1])
    return None


def _uncut(adata: AnnData, name: str, some: Expression, warnings: list[str]) -> Expression | None:
    """Return the counts of all genes if ``some`` are cut from them, and ``.raw`` has or implies them."""
    raw = _raw_of_more_genes(adata, some)
    if raw is None:
        return None
    columns = columns_of(some.var_names, raw.var_names)
    if not raw.is_counts:
        values, source = (
            recovered_counts(raw.values, some.values, columns),
            "computed from the logarithms in raw",
        )
    else:
        values = raw.values if is_cut_from(some.values, raw.values, columns) else None
        source = "from raw"
    if values is None:
        return None
    n_some, own = len(some.var_names), name.removeprefix("layers['").removesuffix("']")
    warnings.append(
        f"{name} holds the counts of {n_some} genes; the counts of all {len(raw.var_names)} genes are used, "
        f"{source}. --counts-layer {own} takes the {n_some} alone."
    )
    return Expression(values=values, var_names=raw.var_names, is_counts=True)


def _raw_of_more_genes(adata: AnnData, some: Expression) -> Expression | None:
    if adata.raw is None or adata.raw.n_vars <= len(some.var_names):
        return None
    return _usable(adata.raw.X, "raw", adata.obs_names, adata.raw.var_names)


def _usable(matrix: Any, name: str, obs_names: pd.Index, var_names: pd.Index) -> Expression | None:
    """Return counts or log-normalised values; None if the matrix holds neither."""
    values, _ = _canonical(matrix, name, obs_names, var_names)
    kind = None if values is None or not values.nnz else _kind(values)
    if values is None or kind is None:
        return None
    return Expression(values=values, var_names=var_names, is_counts=kind == "counts")


def _warn_of_cut(adata: AnnData, counts: Expression, x: Expression | None, warnings: list[str]) -> None:
    """Warn if the cells had more counts than those of the genes here; ``x`` are the values of ``X``."""
    found: dict[str, float | None] = {}
    raw = _raw_of_more_genes(adata, counts)
    if raw is not None:
        columns = columns_of(counts.var_names, raw.var_names)
        found["raw"] = factor_of_raw(raw.values, counts.values, columns, is_counts=raw.is_counts)
    if x is not None and not x.is_counts and x.var_names.equals(counts.var_names):
        found["X"] = factor_of_lognorm(x.values, counts.values)
    found |= factors_of_columns(adata.obs, counts.values)
    name, factor = max(
        ((name, one or 1.0) for name, one in found.items()), key=itemgetter(1), default=("", 1.0)
    )
    if factor >= MIN_FACTOR:
        warnings.append(
            f"The counts are not of all genes: by {name}, the median cell had {factor:.3g} times as many. "
            "Values per 10,000 counts are that much too high, in each cell by another factor. "
            "Use a file with the counts of all genes."
        )


def _explicit(adata: AnnData, counts_layer: str, problems: list[str]) -> Expression | None:
    matrices = {"X": (adata.X, adata.var_names)}
    if adata.raw is not None:
        matrices["raw"] = (adata.raw.X, adata.raw.var_names)
    # A layer that is called "X" or "raw" takes precedence: it is what the user sees under that name.
    matrices |= {name: (layer, adata.var_names) for name, layer in named_layers(adata).items()}
    if problem := unreadable(adata, _layer(counts_layer) if counts_layer != "raw" else "raw"):
        problems.append(problem)
        return None
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


def _warn_of_place(name: str, faults: list[str], warnings: list[str]) -> None:
    if name != "X":
        why = ", which holds only zeros" if faults[0].startswith("X holds only zeros") else ""
        warnings.append(f"Expression values were taken from {name}, not from X{why}.")


def _warn_of_lognorm(values: csr_matrix, elsewhere: str, warnings: list[str]) -> None:
    where = " where they are looked for" if elsewhere else ""
    warnings.append(f"There are no counts{where}: methods that read counts do not apply.{elsewhere}")
    totals = np.asarray(values.expm1().sum(axis=1)).ravel()
    if np.abs(totals / TARGET_SUM - 1).max() > TOTAL_TOLERANCE:
        warnings.append(
            "The values are not log1p of counts per 10,000 over these genes (without the logarithm, the "
            f"median cell sums to {np.median(totals):.0f}): methods that require it fail."
        )


def likely_counts(adata: AnnData) -> str:
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
