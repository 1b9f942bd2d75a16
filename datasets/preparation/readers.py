"""Read expression matrices in common formats: h5ad, 10x, loom, and text tables."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from cellular_bench.core.errors import DataError, UnknownNameError
from cellular_bench.core.h5ad import problem_of_storage
from cellular_bench.core.sparse_checks import fault, sparse_problems
from cellular_bench.core.tables import boxed
from cellular_bench.datasets.h5ad import is_zarr, read_h5ad
from cellular_bench.datasets.preparation.columns import OF_CELLS, OF_GENES, not_genes
from cellular_bench.datasets.preparation.genes import make_unique

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

Format = Literal["h5ad", "10x_h5", "10x_mtx", "loom", "table"]
#: Whether the rows of a table are cells or genes; ``auto``: the names decide.
Orientation = Literal["auto", "cells", "genes"]
FORMATS: tuple[Format, ...] = get_args(Format)
TABLE_SUFFIXES = {".csv": ",", ".tsv": "\t", ".txt": "\t", ".tab": "\t"}
#: Separator of tables whose columns are separated by any number of spaces or tabs.
SPACES = r"\s+"
#: A number in the format of R's ``write.csv2``.
DECIMAL_COMMA = re.compile(r"-?\d+,\d+([eE][-+]?\d+)?")
#: Number of rows of a table, or columns of a loom file, that are dense in memory at a time.
CHUNK_ROWS = 512
#: Names, in capitals, that nearly every human or mouse matrix contains; they distinguish genes from cells.
COMMON_GENES = frozenset({
    "ACTB", "GAPDH", "MALAT1", "B2M", "TMSB4X", "RPLP0", "RPL3", "RPS3", "EEF1A1", "UBC", "FTL", "FTH1",
    "CD3E", "CD74", "INS", "GCG", "ALB", "VIM", "KRT8", "KRT18", "MT-CO1", "MT-ND1", "ACTG1", "TUBA1B",
})  # fmt: skip


def read(
    path: Path,
    *,
    format: Format | None = None,  # noqa: A002
    orientation: Orientation = "auto",
    obs_columns: Sequence[str] | None = None,
) -> AnnData:
    """Read a matrix of cells and genes.

    Parameters
    ----------
    path
        An ``.h5ad``, 10x ``.h5`` or ``.loom`` file, a folder with a 10x ``matrix.mtx`` (also gzipped), or a
        table (``.csv``, ``.tsv``, ``.txt``, also ``.gz``) with names in the first row and column, separated
        by commas, tabs, semicolons or spaces.
    format
        Format of the file; None: detected from its name.
    orientation
        Of tables: whether the rows are cells or genes.
    obs_columns
        Of tables: columns with numbers that are no genes; None: detected.

    Returns
    -------
    (n_obs, n_vars) AnnData with sparse values and the names of the file.

    Raises
    ------
    DataError
        If the file is missing, truncated, or has another format.
    """
    if format is not None and format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS)
    if not path.exists():
        raise DataError(str(path), ["There is no such file."])
    kind = format or detect(path)
    readers: Mapping[str, Callable[[Path], AnnData]] = {
        "h5ad": read_h5ad,
        "10x_h5": read_10x_h5,
        "10x_mtx": read_10x_mtx,
        "loom": read_loom,
    }
    with warnings.catch_warnings():
        # name_genes resolves repeated names.
        warnings.filterwarnings("ignore", message="Variable names are not unique")
        if kind == "table":
            adata = read_table(path, orientation=orientation, obs_columns=obs_columns)
        else:
            adata = readers[kind](path)
    if problems := sparse_problems(adata):
        raise DataError(str(path), problems)
    if not (adata.n_obs and adata.n_vars):
        raise DataError(str(path), [f"It holds {adata.n_obs} cells and {adata.n_vars} genes; none may be 0."])
    return adata


def detect(path: Path) -> Format:
    """Return the format of a file, by its name.

    Raises
    ------
    DataError
        If the format cannot be determined from the name.

    Examples
    --------
    >>> detect(Path("counts.tsv.gz"))
    'table'
    """
    if path.is_dir():
        return "h5ad" if is_zarr(path) else "10x_mtx"
    suffixes = [suffix.lower() for suffix in path.suffixes]
    last = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]
    if last in TABLE_SUFFIXES:
        return "table"
    if last in (".h5ad", ".h5mu", ".loom"):
        return "loom" if last == ".loom" else "h5ad"
    if last in (".h5", ".hdf5"):
        return "10x_h5"
    known = ", ".join([".h5ad", ".h5mu", ".h5", ".loom", *TABLE_SUFFIXES])
    problem = f"Its name does not say what it is: expected a folder with matrix.mtx, or {known} (also .gz)."
    raise DataError(str(path), [problem])


def read_10x_h5(path: Path) -> AnnData:
    """Read a 10x ``.h5`` file of Cell Ranger 2 or later; ``var`` keeps the gene ids.

    Modalities other than gene expression are ignored.
    """
    import h5py
    import scanpy as sc

    with _as_data_error(path, "10x HDF5"), h5py.File(path, "r") as file:
        _refuse_other_files(path, file)
        for group in file.values():
            _refuse_bad_indices(path, group)
    with _as_data_error(path, "10x HDF5"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # name_genes resolves repeated symbols
        return sc.read_10x_h5(path, gex_only=True)


def read_10x_mtx(path: Path) -> AnnData:
    """Read a folder of Cell Ranger: ``matrix.mtx``, ``barcodes.tsv`` and ``genes.tsv`` or ``features.tsv``.

    Files may be gzipped; names may have a prefix (``GSM123_matrix.mtx.gz``), one per folder. Subfolders are
    searched, too.
    """
    import pandas as pd
    from anndata import AnnData
    from scipy.io import mmread
    from scipy.sparse import csr_matrix

    matrix = _only(path, "matrix.mtx")
    prefix = matrix.name.partition("matrix.mtx")[0]
    genes_file = _beside(matrix, prefix, "features.tsv", "genes.tsv")
    barcodes_file = _beside(matrix, prefix, "barcodes.tsv")
    with _as_data_error(matrix, "Matrix Market"), opened(matrix) as file:
        values = csr_matrix(mmread(file).T)
    genes, barcodes = (_lines(file) for file in (genes_file, barcodes_file))
    if values.shape != (len(barcodes), len(genes)):
        n_obs, n_vars = values.shape
        problem = (
            f"The matrix has {n_vars} genes and {n_obs} cells, but {genes_file.name} has {len(genes)} rows "
            f"and {barcodes_file.name} {len(barcodes)}: a file is incomplete, or they do not belong together."
        )
        raise DataError(str(path), [problem])
    var = pd.DataFrame({"gene_ids": list(genes[0])}, index=pd.Index(list(genes[min(1, genes.shape[1] - 1)])))
    if genes.shape[1] > 2:
        var["feature_types"] = list(genes[2])
    adata = AnnData(values, obs=pd.DataFrame(index=pd.Index(list(barcodes[0]))), var=var)
    is_gene = var.get("feature_types", pd.Series("Gene Expression", index=var.index)) == "Gene Expression"
    return adata if is_gene.all() else adata[:, is_gene.to_numpy()].copy()


def _refuse_bad_indices(path: Path, group: Any) -> None:
    """Check a matrix of cells in columns, which scanpy takes as it is."""
    if {"data", "indices", "indptr", "shape"} <= set(getattr(group, "keys", set)()):
        parts = {name: group[name][:] for name in ("indices", "indptr")}
        shape = tuple(group["shape"][:].tolist())
        if why := fault(SimpleNamespace(format="csc", shape=shape, data=group["data"], **parts)):
            raise DataError(str(path), [f"{group.name} is damaged: {why}."])


def _refuse_other_files(path: Path, file: Any) -> None:
    if problem := problem_of_storage(file):
        raise DataError(str(path), [problem])


def read_loom(path: Path) -> AnnData:
    """Read a loom file: genes in rows, ``row_attrs`` and ``col_attrs`` become ``var`` and ``obs``."""
    import h5py
    from anndata import AnnData
    from scipy import sparse

    with _as_data_error(path, "loom"), h5py.File(path, "r") as file:
        _refuse_other_files(path, file)
        absent = [name for name in ("matrix", "row_attrs", "col_attrs") if name not in file]
        if absent:
            raise DataError(str(path), [f"This is not a loom file: it lacks {', '.join(absent)}."])
        matrix = file["matrix"]
        # Columns are cells; reading blocks of them avoids a dense matrix.
        n_vars, n_obs = matrix.shape
        blocks = [
            sparse.csr_matrix(matrix[:, start : start + CHUNK_ROWS].T)
            for start in range(0, n_obs, CHUNK_ROWS)
        ]
        obs = _attributes(file["col_attrs"], n_obs, ("CellID", "obs_names", "cell_names", "barcode"))
        var = _attributes(file["row_attrs"], n_vars, ("Gene", "var_names", "gene_names", "Accession"))
        values = sparse.vstack(blocks, format="csr") if blocks else sparse.csr_matrix((0, n_vars))
        return AnnData(values, obs=obs, var=var)


def read_table(
    path: Path, *, orientation: Orientation = "auto", obs_columns: Sequence[str] | None = None
) -> AnnData:
    """Read a text table with names in its first row and column, some rows at a time.

    Names are the text of the file: ``007`` keeps its zeros, ``NA`` is a name, and names may be repeated. The
    first row may lack the name of the first column, as in files of R's ``write.table``. Columns that are not
    numeric become columns of ``obs`` if the rows are cells, and of ``var`` if they are genes. So do numeric
    columns that are no genes (:mod:`~cellular_bench.datasets.preparation.columns`): totals, clusters and the
    like. With ``auto``, the side with known gene names or Ensembl ids is that of the genes.

    Parameters
    ----------
    path
        Table.
    orientation
        Whether its rows are cells or genes.
    obs_columns
        Names on the side of the genes that are none, and become columns of ``obs``; None: detected.

    Raises
    ------
    DataError
        If the file is truncated or not a table, or ``auto`` cannot decide.
    """
    import pandas as pd
    from anndata import AnnData
    from scipy import sparse

    if orientation not in get_args(Orientation):
        raise UnknownNameError("orientation", orientation, get_args(Orientation))
    chunks: list[tuple[pd.DataFrame, list[int], csr_matrix]] = []
    names: list[str] = []
    with _as_data_error(path, "table"), opened(path) as file:
        separator = _separator_of_numbers(path, file)
        titles = titles_of(path, file, separator)
        # Columns by number, because pandas renames repeated titles.
        options: dict[str, Any] = {"header": 0, "names": range(len(titles)), "converters": {0: boxed}}
        for chunk in pd.read_csv(file, sep=separator, chunksize=CHUNK_ROWS, **options):
            names.extend(name for (name,) in chunk.pop(0))
            is_number = np.array([dtype.kind in "iuf" for dtype in chunk.dtypes], dtype=bool)
            numbers, rest = chunk.loc[:, is_number], chunk.loc[:, ~is_number]
            if separator == ";":
                _check_decimals(path, rest, titles)
            chunks.append((rest, list(numbers.columns), sparse.csr_matrix(numbers.to_numpy())))
    if not names:
        raise DataError(str(path), ["It has a first row of names and no further rows."])
    ever = sorted({at for _, columns, _ in chunks for at in columns})
    if not ever:
        raise DataError(str(path), ["No column holds numbers: does the table have another separator?"])
    side = _rows_are(orientation, names, [titles[at] for at in ever], path)
    of_cells = set(obs_columns) if obs_columns is not None else OF_CELLS
    aside = {at for at in ever if _is_among(titles[at], OF_GENES if side == "genes" else of_cells)}
    values, texts = _apart(path, chunks, [at for at in ever if at not in aside], titles)
    columns = [titles[at] for at in ever if at not in aside]
    _check_gaps(path, values, names, columns)
    rows, cols = (pd.DataFrame(index=pd.Index(given)) for given in (names, columns))
    for name, at in zip(make_unique([titles[at] for at in texts.columns]), texts.columns, strict=True):
        rows[name] = texts[at].to_numpy()
    if side == "cells":
        return _without_other_columns(AnnData(values, obs=rows, var=cols), obs_columns)
    return _without_other_columns(AnnData(sparse.csr_matrix(values.T), obs=cols, var=rows), obs_columns)


def _apart(
    path: Path, chunks: list[tuple[pd.DataFrame, list[int], csr_matrix]], kept: list[int], titles: list[str]
) -> tuple[csr_matrix, pd.DataFrame]:
    """Return the numbers of the columns that are kept, and all other columns."""
    import pandas as pd
    from scipy import sparse

    mixed = sorted({titles[at] for _, columns, _ in chunks for at in set(kept).difference(columns)})[:3]
    if mixed:
        problem = f"Some columns hold numbers in some rows and text in others, among them {', '.join(mixed)}."
        raise DataError(str(path), [problem])
    blocks, others, is_kept = [], [], set(kept)
    for rest, columns, values in chunks:
        position = {at: place for place, at in enumerate(columns)}
        moved = [at for at in columns if at not in is_kept]
        numbers = pd.DataFrame(
            values[:, [position[at] for at in moved]].toarray(), index=rest.index, columns=moved
        )
        blocks.append(values[:, [position[at] for at in kept]])
        others.append(rest.join(numbers) if moved else rest)
    texts = pd.concat(others)
    texts = texts[sorted(texts.columns)]
    for at in texts.columns:
        texts[at] = _whole(texts[at])
    return sparse.vstack(blocks, format="csr"), texts


def _whole(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return whole numbers as integers: the columns beside it had fractions."""
    is_whole = column.dtype.kind == "f" and np.isfinite(column).all() and (column == np.floor(column)).all()
    return column.astype(np.int64) if is_whole else column


def _is_among(name: str, known: Collection[str] | re.Pattern[str]) -> bool:
    return known.fullmatch(name) is not None if isinstance(known, re.Pattern) else name in known


def _without_other_columns(adata: AnnData, obs_columns: Sequence[str] | None) -> AnnData:
    """Move what is no gene to ``obs``."""
    import pandas as pd

    known = OF_CELLS if obs_columns is None else set(obs_columns)
    moved = np.array([_is_among(str(name), known) for name in adata.var_names], dtype=bool)
    if obs_columns is None:
        moved[~moved] = not_genes(adata.X[:, ~moved])
    if not moved.any() or moved.all():
        return adata
    others = adata.X[:, moved].toarray().T
    names = make_unique([*map(str, adata.obs.columns), *map(str, adata.var_names[moved])])[-len(others) :]
    for name, values in zip(names, others, strict=True):
        adata.obs[name] = _whole(pd.Series(values, index=adata.obs_names)).to_numpy()
    return adata[:, ~moved].copy()


def _first_rows(file: IO[bytes], separator: str) -> tuple[list[str], list[str]]:
    """Return the first two rows that are not blank; an empty list for a missing one."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        lines: Iterator[str] = (line for line in text if line.strip(" \r\n"))
        if separator == SPACES:
            lines = (f"{' '.join(line.split())}\n" for line in lines)
        reader = csv.reader(lines, delimiter=" " if separator == SPACES else separator)
        first, second = itertools.islice(itertools.chain(reader, ([], [])), 2)
    finally:
        text.detach()
        file.seek(0)
    return first, second


def _check_gaps(path: Path, values: csr_matrix, names: list[str], columns: list[str]) -> None:
    gaps = np.flatnonzero(np.isnan(values.data))
    if len(gaps):
        row = int(np.searchsorted(values.indptr, gaps[0], side="right")) - 1
        column = columns[values.indices[gaps[0]]]
        problem = (
            f"There is no number in row '{names[row]}', column '{column}': the file "
            "is truncated, or a value is missing. Fetch or write it again."
        )
        raise DataError(str(path), [problem])


def _check_decimals(path: Path, texts: pd.DataFrame, titles: list[str]) -> None:
    for at in texts.columns:
        hit = next(
            (value for value in texts[at].dropna().astype(str) if DECIMAL_COMMA.fullmatch(value)), None
        )
        if hit is not None:
            problem = f"Column '{titles[at]}' has decimal commas ('{hit}'): write it with decimal points."
            raise DataError(str(path), [problem])


def _rows_are(orientation: Orientation, rows: list[str], columns: list[str], path: Path) -> Orientation:
    if orientation != "auto":
        return orientation
    in_rows, in_columns = _n_genes(rows), _n_genes(columns)
    if in_rows == in_columns:
        problem = (
            f"Neither its {len(rows)} rows nor its {len(columns)} columns have names that are known as genes "
            f"(rows begin with {rows[:3]}, columns with {columns[:3]}): say whether the rows are cells or "
            "genes (--orientation)."
        )
        raise DataError(str(path), [problem])
    return "genes" if in_rows > in_columns else "cells"


def _n_genes(names: list[str]) -> int:
    # Names of cells do not begin like Ensembl ids.
    return sum(
        name.upper() in COMMON_GENES or name.upper().startswith(("ENSG0", "ENSMUSG0")) for name in names
    )


def separator_of(path: Path, file: IO[bytes]) -> str:
    """Return the separator of a table, by its name and first row: a comma, tab or semicolon.

    The position in the file is reset to its beginning.
    """
    name = path.name.lower().removesuffix(".gz")
    guess = TABLE_SUFFIXES.get(Path(name).suffix, ",")
    first = file.readline()
    file.seek(0)
    return next((one for one in (guess, ",", "\t", ";") if one.encode() in first), guess)


def titles_of(path: Path, file: IO[bytes], separator: str) -> list[str]:
    """Return the names of all columns of a table, the first included.

    If the first row lacks the name of the first column, as in files of R's ``write.table``, it gets the name
    that pandas gives to columns without a name. The position in the file is reset to its beginning.

    Raises
    ------
    DataError
        If there is no first row, or the second one has more than one entry more.
    """
    first, second = _first_rows(file, separator)
    if not first:
        raise DataError(str(path), ["It has no first row of names: the table is empty."])
    if len(second) == len(first) + 1:
        first = ["", *first]
    if len(second) > len(first):
        problem = f"Its first row has {len(first)} names, the next one {len(second)} entries. Write it again."
        raise DataError(str(path), [problem])
    return [title or f"Unnamed: {at}" for at, title in enumerate(first)]


def _separator_of_numbers(path: Path, file: IO[bytes]) -> str:
    """Return the separator of a table of numbers, which can also be spaces; labels can contain spaces."""
    separator = separator_of(path, file)
    if len(_first_rows(file, separator)[0]) != 1:
        return separator
    first, second = _first_rows(file, SPACES)
    return SPACES if len(second) > 1 and len(second) - len(first) in (0, 1) else separator


def _attributes(group: Any, n: int, candidates: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    columns = {name: _text(group[name][()]) for name in group if group[name].shape == (n,)}
    key = next((name for name in candidates if name in columns), None)
    index = columns.pop(key) if key else np.arange(n).astype(str)
    return pd.DataFrame(columns, index=pd.Index(index.astype(str)))


def _text(values: Any) -> Any:
    array = np.asarray(values)
    if array.dtype.kind == "S" or (array.dtype.kind == "O" and len(array) and isinstance(array[0], bytes)):
        return np.array([value.decode("utf-8", "replace") for value in array])
    return array


def _only(folder: Path, name: str) -> Path:
    paths = sorted(
        path for path in folder.rglob("*") if path.name.removesuffix(".gz").endswith(name) and path.is_file()
    )
    if len(paths) == 1:
        return paths[0]
    held = ", ".join(str(path.relative_to(folder)) for path in paths[:3]) or "none"
    raise DataError(str(folder), [f"Expected one file {name} (or {name}.gz) in this folder, found: {held}."])


def _beside(matrix: Path, prefix: str, *names: str) -> Path:
    for name in names:
        for candidate in (f"{prefix}{name}", f"{prefix}{name}.gz"):
            if (matrix.parent / candidate).is_file():
                return matrix.parent / candidate
    raise DataError(
        str(matrix.parent), [f"There is no {prefix}{f' or {prefix}'.join(names)} beside {matrix.name}."]
    )


def _lines(path: Path) -> pd.DataFrame:
    import pandas as pd

    with _as_data_error(path, "list of names"), opened(path) as file:
        # keep_default_na: "NA" and "nan" are valid names.
        return pd.read_csv(file, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=3)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, gzipped or not; its content decides."""
    with path.open("rb") as raw:
        if raw.read(2) == b"\x1f\x8b":
            raw.seek(0)
            with gzip.open(raw) as file:
                yield file  # type: ignore[misc]  # GzipFile reads as a binary file does
        else:
            raw.seek(0)
            yield raw


@contextmanager
def _as_data_error(path: Path, kind: str) -> Iterator[None]:
    """Convert errors of libraries on damaged files to a DataError about the file."""
    try:
        yield
    except DataError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        problem = f"The file is truncated or damaged: {error}. Fetch it again."
        raise DataError(str(path), [problem]) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        is_cut = "truncated" in str(error) or "unexpected end" in str(error).lower()
        problem = f"The file is truncated: {reason}. Fetch it again." if is_cut else f"No {kind}: {reason}."
        raise DataError(str(path), [problem]) from error
