"""Names of genes: symbols or Ensembl ids, made unique."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cellular_bench.core.errors import DataError, UnknownNameError
from cellular_bench.core.keys import MISSING_TEXTS

if TYPE_CHECKING:
    from anndata import AnnData

#: Columns of ``var`` that can hold symbols if the names are ids, in the order of the search.
SYMBOL_COLUMNS = ("gene_symbols", "gene_symbol", "feature_name", "gene_name", "gene_names", "symbol", "Gene")
#: Ensembl gene ids of any species, with or without a version: ENSG00000139618.19, ENSMUSG...
ENSEMBL = re.compile(r"ENS[A-Z]{0,6}G\d{11}(\.\d+)?")
#: Share of names above which a data set counts as named by ids.
MOSTLY = 0.5
N_EXAMPLES = 3


def are_ensembl(names: Iterable[str]) -> bool:
    """Return whether most of the names are Ensembl gene ids.

    Examples
    --------
    >>> are_ensembl(["ENSG00000139618", "ENSMUSG00000041147.4", "MT-CO1"])
    True
    """
    hits = [ENSEMBL.fullmatch(name) is not None for name in names]
    return bool(hits) and sum(hits) > MOSTLY * len(hits)


def read_mapping(path: Path) -> dict[str, str]:
    """Read a table of two columns, id and symbol, separated by tabs, with or without a row of titles.

    Versions of ids (``.19``) are ignored, here and when the table is used.

    Returns
    -------
    Symbol of each id.

    Raises
    ------
    DataError
        If the file cannot be read, a row has fewer than two columns, or an id has two symbols.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(str(path), [f"Cannot read this table of genes: {error}."]) from error
    mapping: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        parts = [part.strip() for part in line.split("\t")]
        if not line.strip():
            continue
        if len(parts) < 2:
            problem = f"Line {number} has one column; expected an id, a tab and a symbol: {line[:60]!r}."
            raise DataError(str(path), [problem])
        key = _bare(parts[0])
        if parts[1] and mapping.setdefault(key, parts[1]) != parts[1]:
            raise DataError(str(path), [f"'{key}' has two symbols: '{mapping[key]}' and '{parts[1]}'."])
    return mapping


def name_genes(
    adata: AnnData, *, mapping: Mapping[str, str] | None = None, column: str | None = None
) -> tuple[AnnData, tuple[str, ...]]:
    """Name genes by symbol if possible, and make the names unique.

    Symbols are taken from ``column`` of ``var``, else from ``mapping``, else, if the names are Ensembl ids,
    from the first of :data:`SYMBOL_COLUMNS`. A gene without a symbol keeps its id. Repeated names get ``-1``,
    ``-2``..., as in scanpy; the first gene keeps its name.

    Parameters
    ----------
    adata
        Cells and genes. Not modified.
    mapping
        Symbol of each id.
    column
        Column of ``var`` with symbols.

    Returns
    -------
    adata
        A copy; ``var["gene_ids"]`` holds the former names if they were replaced.
    warnings
        One sentence each.

    Raises
    ------
    UnknownNameError
        If ``var`` has no such column.
    """
    with warnings.catch_warnings():
        # Repeated names are resolved here.
        warnings.filterwarnings("ignore", message="Variable names are not unique")
        named = adata.copy()
    names = [str(name) for name in adata.var_names]
    symbols, notes = _symbols(adata, names, mapping, column)
    if symbols is not None:
        named.var["gene_ids"] = names
    names = names if symbols is None else symbols
    unique = make_unique(names)
    n_changed = sum(old != new for old, new in zip(names, unique, strict=True))
    if n_changed:
        repeated = sorted(name for name, n in Counter(names).items() if n > 1)
        notes.append(
            f"{n_changed} gene{' has' if n_changed == 1 else 's have'} the name of another gene and got a "
            f"number: {_examples(repeated)}."
        )
    named.var_names = unique
    return named, tuple(notes)


def make_unique(names: Sequence[str]) -> list[str]:
    """Return names in which repeated ones have a number that makes them unique.

    Examples
    --------
    >>> make_unique(["A", "B", "A", "A-1", "A"])
    ['A', 'B', 'A-2', 'A-1', 'A-3']
    """
    taken, seen, unique = set(names), set(), []
    counts: Counter[str] = Counter()
    for name in names:
        new = name
        while new in seen or (new != name and new in taken):
            counts[name] += 1
            new = f"{name}-{counts[name]}"
        seen.add(new)
        unique.append(new)
    return unique


def _symbols(
    adata: AnnData, names: list[str], mapping: Mapping[str, str] | None, column: str | None
) -> tuple[list[str] | None, list[str]]:
    if column is not None:
        if column not in adata.var:
            raise UnknownNameError("column of var", column, map(str, adata.var.columns))
        symbols = [_clean(value) for value in adata.var[column]]
    elif mapping is not None:
        symbols = [mapping.get(_bare(name), "") for name in names]
    elif are_ensembl(names):
        known = next((name for name in SYMBOL_COLUMNS if name in adata.var), None)
        if known is None:
            return None, [
                "Genes are named by Ensembl id, and their symbols are unknown: scores and methods that use "
                "symbols do not apply. Give a table of ids and symbols (--gene-names)."
            ]
        symbols = [_clean(value) for value in adata.var[known]]
    else:
        return None, []
    lost = [name for name, symbol in zip(names, symbols, strict=True) if not symbol]
    notes = []
    if lost:
        notes.append(
            f"{len(lost)} of {len(names)} genes have no symbol and keep their name: {_examples(lost)}."
        )
    return [symbol or name for name, symbol in zip(names, symbols, strict=True)], notes


def _clean(value: object) -> str:
    text = str(value).strip()
    # No gene is called "None", as a label may be.
    return "" if text.lower() in MISSING_TEXTS | {"none"} else text


def without_versions(names: Iterable[str]) -> list[str]:
    """Return names in which Ensembl ids have no version, except where two would become one.

    Examples
    --------
    >>> without_versions(["ENSG00000139618.19", "ENSG00000075624.1", "ENSG00000075624.2"])
    ['ENSG00000139618', 'ENSG00000075624.1', 'ENSG00000075624.2']
    """
    given = [str(name) for name in names]
    bare = [_bare(name) for name in given]
    n_same = Counter(bare)
    return [new if n_same[new] == 1 else old for old, new in zip(given, bare, strict=True)]


def _bare(name: str) -> str:
    return name.partition(".")[0] if ENSEMBL.fullmatch(name) else name


def _examples(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:N_EXAMPLES]) + (
        ", ..." if len(names) > N_EXAMPLES else ""
    )
