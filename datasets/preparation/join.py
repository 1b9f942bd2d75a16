"""From raw files to one data set: read, name genes, join samples, add labels, filter, normalise."""

from __future__ import annotations

import csv
import json
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellular_bench.core.errors import DataError, UnknownNameError, UserError
from cellular_bench.core.keys import BATCH
from cellular_bench.core.labels import label_name, label_names, notes_on_names
from cellular_bench.datasets import expression
from cellular_bench.datasets.h5ad import notes_of, unreadable, writable
from cellular_bench.datasets.preparation import genes, readers, recipes
from cellular_bench.datasets.preparation.recipes import Prepared, Recipe
from cellular_bench.datasets.subsample import subsample

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: Suffixes that are removed from a file's name to get the name of its sample.
ENDINGS = re.compile(r"(\.(gz|h5ad|h5mu|zarr|h5|hdf5|loom|csv|tsv|txt|tab))+$", re.IGNORECASE)
#: Number of samples that a note names as examples.
N_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Options of reading raw files.

    Attributes
    ----------
    format, orientation
        As in :func:`~cellular_bench.datasets.preparation.readers.read`.
    gene_names
        Symbol of each gene id, or None.
    gene_column
        Column of ``var`` with symbols; None: detected.
    batch_key
        Column of ``obs``, in the files or in the table of labels, that holds the batch; None: every file is a
        batch.
    counts_layer
        ``"X"``, ``"raw"`` or the layer that holds counts; None: decided by the values, as in validation.
    obs_columns
        Columns of tables with numbers that are no genes; None: detected.
    """

    format: readers.Format | None = None
    orientation: readers.Orientation = "auto"
    gene_names: Mapping[str, str] | None = None
    gene_column: str | None = None
    batch_key: str | None = None
    counts_layer: str | None = None
    obs_columns: Sequence[str] | None = None


def join(
    paths: Sequence[Path], *, reading: Reading | None = None, labels: Path | None = None
) -> tuple[AnnData, tuple[str, ...]]:
    """Read raw files, each a sample, into one data set of counts.

    Genes and columns of ``obs`` that a sample lacks are dropped. If cells of several samples have the same
    name, all names get the sample as a prefix.

    Parameters
    ----------
    paths
        Files or folders, one per sample.
    reading
        Options of reading.
    labels
        Table with tabs, commas or semicolons, gzipped or not: names of cells in its first column; the others
        become columns of ``obs``. Cells without a row are dropped.

    Returns
    -------
    adata
        ``X`` counts, ``obs["batch"]``.
    warnings
        One sentence each.

    Raises
    ------
    DataError
        If a file cannot be read, two files have the same name, the samples have no gene in common, or no cell
        has a label.
    UserError
        If there is no file.
    """
    import anndata

    if not paths:
        raise UserError("There is no file to prepare.")
    reading = reading or Reading()
    table, warnings = (None, []) if labels is None else _read_labels(labels)
    given = [] if table is None else [str(name) for name in table.columns]
    samples = {}
    for path in paths:
        name = sample_name(path)
        if name in samples:
            raise DataError(str(path), [f"Two files would be the sample '{name}': rename one of them."])
        samples[name], notes = _read(path, name, reading, given)
        warnings += [f"{name}: {sentence}" for sentence in notes]
    warnings += _match_versions(samples)
    _check_obs_columns(samples, reading.obs_columns or ())
    n_genes = {name: adata.n_vars for name, adata in samples.items()}
    _make_cells_unique(samples)
    joined = anndata.concat(list(samples.values()), join="inner", merge="first")
    if not joined.n_vars:
        raise DataError(
            ", ".join(map(str, paths)), ["They have no gene in common: symbols in one, ids in another?"]
        )
    if max(n_genes.values()) > joined.n_vars:
        lost = ", ".join(f"{name} {n - joined.n_vars}" for name, n in n_genes.items())
        warnings.append(f"{joined.n_vars} genes are in all samples; others are left out ({lost}).")
    warnings += _lost_columns(samples, given)
    warnings += _shared_batches(samples)
    if labels is not None and table is not None:
        joined, lost_cells = _with_labels(joined, table, labels)
        warnings += lost_cells
    if (reading.batch_key or BATCH) in given:
        joined.obs[BATCH] = label_names(joined.obs[reading.batch_key or BATCH])
    for slot in ("obs", "var"):
        table, changed = writable(getattr(joined, slot), slot)
        setattr(joined, slot, table)
        warnings += changed
    return joined, tuple(warnings)


def prepare(adata: AnnData, recipe: Recipe, *, n: int | None = None, seed: int = 0) -> Prepared:
    """Draw cells in the proportions of the batches, and apply a recipe.

    Outliers are determined within batches. ``uns["recipe"]`` describes the draw and the recipe.

    Parameters
    ----------
    adata
        Counts, with ``obs["batch"]``. Not modified.
    recipe
        Filters and normalisation.
    n
        Number of cells; None: all.
    seed
        Seed of the draw.
    """
    cells = adata if n is None else subsample(adata, n, seed, keys=(BATCH,))
    made = recipes.prepare(cells, recipe, sample=cells.obs[BATCH].astype(str).to_numpy())
    drawn = None if n is None else {"n": cells.n_obs, "of": adata.n_obs, "seed": seed, "strata": [BATCH]}
    facts = json.loads(made.adata.uns[recipes.UNS_KEY])
    made.adata.uns[recipes.UNS_KEY] = json.dumps({**facts, "subsample": drawn})
    return made


def sample_name(path: Path) -> str:
    """Return the name of the sample of a file or folder; links are not followed.

    Examples
    --------
    >>> sample_name(Path("raw/donor1.csv.gz"))
    'donor1'
    """
    return ENDINGS.sub("", path.absolute().name) or path.name


def _read(path: Path, name: str, reading: Reading, given: Sequence[str]) -> tuple[AnnData, tuple[str, ...]]:
    """Read a sample; ``given`` are the columns that the table of labels adds later."""
    adata = readers.read(
        path, format=reading.format, orientation=reading.orientation, obs_columns=reading.obs_columns
    )
    warnings = notes_of(adata)
    if (reading.format or readers.detect(path)) == "table":
        warnings += _moved_columns(adata)
    adata, notes = genes.name_genes(
        _counts(adata, path, reading.counts_layer, warnings),
        mapping=reading.gene_names,
        column=reading.gene_column,
    )
    warnings += notes
    batch = _batch(adata, path, name, reading.batch_key, given)
    if BATCH in adata.obs and BATCH not in given and (label_names(adata.obs[BATCH]) != batch).any():
        by = "the name of the file" if reading.batch_key is None else f"obs['{reading.batch_key}']"
        warnings.append(f"obs['{BATCH}'] is replaced by {by}. To keep it: --batch-key {BATCH}.")
    adata.obs[BATCH] = batch
    return adata, tuple(warnings)


def _counts(adata: AnnData, path: Path, counts_layer: str | None, warnings: list[str]) -> AnnData:
    """Return the counts of a file, wherever they are, with what the file says of their cells and genes."""
    from anndata import AnnData

    problems: list[str] = []
    notes: list[str] = []
    found = expression.choose(adata, counts_layer, problems, notes)
    if found is not None and not found.is_counts:
        problems.append(
            "A recipe requires raw counts, and the values are not all whole numbers of at least 0. "
            f"Use a file with counts, or name their layer (--counts-layer).{expression.likely_counts(adata)}"
        )
    if found is None or problems:
        raise DataError(str(path), problems)
    warnings += notes
    var = _var_of(found.var_names, adata)
    return AnnData(found.values, obs=adata.obs.copy(), var=var, uns=adata.uns)


def _var_of(names: pd.Index, adata: AnnData) -> pd.DataFrame:
    """Return all that is known of genes, from ``var`` and from that of ``.raw``."""
    import pandas as pd

    tables = [adata.var] if adata.raw is None else [adata.var, adata.raw.var]
    known = pd.DataFrame(index=names)
    for table in tables:
        if table.index.equals(names):
            known = known.assign(**{str(column): table[column] for column in table if column not in known})
    for table in tables:
        if table.index.is_unique:
            # Genes that a table lacks have no value in it.
            rest = table.reindex(names)
            known = known.assign(**{str(column): rest[column] for column in table if column not in known})
    return known


def _moved_columns(adata: AnnData) -> list[str]:
    """Return notes about columns with numbers that became no genes or cells."""
    of_cells, of_genes = (
        [str(name) for name in table.select_dtypes("number")] for table in (adata.obs, adata.var)
    )
    notes = []
    if of_cells:
        notes.append(
            f"Numbers that are no genes went into obs: {', '.join(of_cells)}. "
            "If that is wrong, name those that are no genes: --obs-columns NAMES, or none."
        )
    if of_genes:
        notes.append(f"Numbers that are no cells went into var: {', '.join(of_genes)}.")
    return notes


def _check_obs_columns(samples: Mapping[str, AnnData], wanted: Sequence[str]) -> None:
    known = dict.fromkeys(str(column) for adata in samples.values() for column in adata.obs)
    for name in wanted:
        if name not in known:
            raise UnknownNameError("column (--obs-columns)", name, known)


def _match_versions(samples: Mapping[str, AnnData]) -> list[str]:
    """Leave out the versions of Ensembl ids if samples then have more genes in common; return a note."""
    bare = {name: genes.without_versions(adata.var_names) for name, adata in samples.items()}
    shared = set.intersection(*(set(adata.var_names) for adata in samples.values()))
    if len(set.intersection(*map(set, bare.values()))) <= len(shared):
        return []
    changed = [name for name, adata in samples.items() if list(adata.var_names) != bare[name]]
    for name, adata in samples.items():
        adata.var_names = bare[name]
    shown = ", ".join(changed[:N_EXAMPLES]) + (", ..." if len(changed) > N_EXAMPLES else "")
    return [f"Versions of Ensembl ids, as in ENSG00000139618.19, are left out to match genes, in {shown}."]


def _batch(
    adata: AnnData, path: Path, name: str, batch_key: str | None, given: Sequence[str]
) -> pd.Series[str]:
    import pandas as pd

    if batch_key is None or batch_key in given:
        return pd.Series(name, index=adata.obs_names)
    if batch_key in adata.obs:
        return pd.Series(label_names(adata.obs[batch_key]), index=adata.obs_names)
    if problem := unreadable(adata, f"obs['{batch_key}']"):
        raise DataError(str(path), [problem])
    known = ", ".join(dict.fromkeys([*map(str, adata.obs.columns), *given])) or "none"
    raise DataError(str(path), [f"obs has no column '{batch_key}' for the batch. Known: {known}."])


def _lost_columns(samples: Mapping[str, AnnData], given: Sequence[str]) -> list[str]:
    """Return a note about the columns of obs that a sample lacks, which joining drops."""
    columns = dict.fromkeys(str(column) for adata in samples.values() for column in adata.obs)
    lost = []
    for column in columns:
        absent = [name for name, adata in samples.items() if column not in adata.obs]
        if absent and column not in given:
            shown = ", ".join(absent[:N_EXAMPLES]) + (", ..." if len(absent) > N_EXAMPLES else "")
            lost.append(f"'{column}' (not in {shown})")
    if not lost:
        return []
    return [
        f"Columns of obs that not all samples have are left out: {', '.join(lost)}. "
        "To keep one, give it the same name in every file."
    ]


def _shared_batches(samples: Mapping[str, AnnData]) -> list[str]:
    """Return a note about batches of several samples that have the same name and become one batch."""
    of_batch: dict[str, list[str]] = {}
    for sample, adata in samples.items():
        for batch in adata.obs[BATCH].unique():
            of_batch.setdefault(str(batch), []).append(sample)
    shared = [f"'{batch}' ({', '.join(names)})" for batch, names in of_batch.items() if len(names) > 1]
    if not shared:
        return []
    more = ", ..." if len(shared) > N_EXAMPLES else ""
    return [
        f"Batches of one name in several samples are one batch: {', '.join(shared[:N_EXAMPLES])}{more}. "
        "Rename them if they are not."
    ]


def _make_cells_unique(samples: Mapping[str, AnnData]) -> None:
    names = Counter(cell for adata in samples.values() for cell in adata.obs_names)
    if max(names.values()) > 1:
        for sample, adata in samples.items():
            adata.obs_names = [f"{sample}_{cell}" for cell in adata.obs_names]
            adata.obs_names_make_unique()


def _with_labels(adata: AnnData, table: pd.DataFrame, path: Path) -> tuple[AnnData, list[str]]:
    known = adata.obs_names.isin(table.index)
    if not known.any():
        cells, rows = list(adata.obs_names[:2]), list(table.index[:2])
        problem = f"No cell has a row in it: cells are called {cells}, its rows {rows}."
        raise DataError(str(path), [problem])
    kept = adata[known].copy()
    chosen: Any = table.loc[kept.obs_names]
    for column in table.columns:
        kept.obs[str(column)] = chosen[column].to_numpy()
    n_lost = int((~known).sum())
    return kept, [f"{n_lost} cells have no row in {path.name} and are left out."] if n_lost else []


def _read_labels(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Read a table of labels as text, and numbers only where they keep their spelling; return notes, too."""
    import pandas as pd

    try:
        with readers.opened(path) as file:
            separator = readers.separator_of(path, file)
            titles = genes.make_unique(readers.titles_of(path, file, separator))
            # As text, because names may look like numbers or like missing values.
            options: dict[str, Any] = {"header": 0, "names": titles, "dtype": str, "keep_default_na": False}
            table = pd.read_csv(file, sep=separator, **options).set_index(titles[0])
    except (OSError, EOFError, zlib.error, ValueError, LookupError, csv.Error) as error:
        raise DataError(str(path), [f"Cannot read this table of labels: {error}."]) from error
    repeated = table.index[table.index.duplicated()]
    if len(repeated):
        raise DataError(str(path), [f"The cell '{repeated[0]}' has two rows in it."])
    if not len(table.columns):
        raise DataError(str(path), ["It has names of cells, and no other column."])
    notes = []
    for name in table.columns:
        is_number, column = _interpreted(table[name])
        if not is_number:
            notes += notes_on_names(table[name], f"{path.name}, column '{name}'")
        table[name] = column
    return table, notes


def _interpreted(column: pd.Series[Any]) -> tuple[bool, Any]:
    """Return whether all entries of a column are numbers as programs write them, and what it holds."""
    import pandas as pd

    names = label_names(column)
    known = set(names) - {""}
    if known and all(map(_is_number, known)):
        return True, pd.to_numeric(pd.Series(names).replace("", None)).to_numpy()
    texts: Any = names.astype(object)
    texts[names == ""] = None
    return False, texts


def _is_number(name: str) -> bool:
    """Whether a name is a number that keeps its spelling, unlike 007 and 1E1."""
    try:
        return label_name(float(name)) == name
    except ValueError:
        return False
