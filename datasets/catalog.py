"""The catalogue of data sets; load and validate a data set."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellular_bench.core.errors import DataError, UnknownNameError, UserError
from cellular_bench.core.keys import BATCH, COUNTS, LABEL, LABELLING
from cellular_bench.core.layers import named_layers
from cellular_bench.core.toml import read_toml
from cellular_bench.core.types import Dataset, DatasetSpec
from cellular_bench.datasets.names import check_name
from cellular_bench.datasets.sources import declared
from cellular_bench.datasets.sources.cache import is_checksum

if TYPE_CHECKING:
    from anndata import AnnData

    from cellular_bench.datasets.preparation.recipes import Recipe
    from cellular_bench.datasets.sources.download import Options

#: One TOML file per data set, named after it.
MANIFESTS = Path(__file__).parent / "manifests"


def specs() -> dict[str, DatasetSpec]:
    """Return every data set that ships with the package, by ``dataset_id``.

    Examples
    --------
    >>> specs()["baron"].label_key
    'cell_type'
    """
    return {path.stem: read_manifest(path) for path in sorted(MANIFESTS.glob("*.toml"))}


def read_manifest(path: Path) -> DatasetSpec:
    """Read the manifest of a data set; the file's name is its ``dataset_id``.

    The entries are the fields of :class:`~cellular_bench.core.types.DatasetSpec`; ``[source]`` describes the
    source of the data. Without ``counts_layer``, the values decide.

    Raises
    ------
    UserError
        If the file cannot be read or is not TOML.
    DataError
        If an entry is unknown or missing.
    """
    table = read_toml(path, what="Manifest")
    return described({"dataset_id": path.stem} | table, where=str(path))


def described(table: Mapping[str, Any], *, where: str) -> DatasetSpec:
    """Return the description of a data set from a TOML table; see :func:`read_manifest`.

    Parameters
    ----------
    table
        Entries.
    where
        Name of the file or suite, for messages.

    Raises
    ------
    DataError
        If an entry is unknown, missing or of another kind, or the name is invalid.
    """
    given = {"counts_layer": None} | dict(table)
    known = {field.name for field in fields(DatasetSpec)}
    needed = {field.name for field in fields(DatasetSpec) if field.default is MISSING}
    problems = [f"Unknown entry '{name}'." for name in sorted(given.keys() - known)]
    problems += [f"The entry '{name}' is missing." for name in sorted(needed - given.keys())]
    if "dataset_id" in given:
        try:
            check_name(given["dataset_id"])
        except UserError as error:
            problems.append(str(error))
    problems += [
        f"The entry '{name}' is {given[name]!r:.200}; {wanted}."
        for name, (is_right, wanted) in _FIELDS.items()
        if name in given and not is_right(given[name])
    ]
    problems += declared.problems(given["source"]) if "source" in given else []
    if problems:
        raise DataError(where, problems)
    return DatasetSpec(**given)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_number_or_none(value: Any) -> bool:
    return value is None or (type(value) is int and value >= 0)


def _is_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


#: What each entry of a table must be, beside ``dataset_id`` and ``source``.
_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("title", "organism", "tissue", "assay", "notes"), (_is_text, "it must be text")),
    **dict.fromkeys(
        ("batch_key", "label_key", "counts_layer", "doi", "license", "recipe", "donor_key", "released"),
        (_is_text_or_none, "it must be text"),
    ),
    **dict.fromkeys(("n_obs", "n_vars"), (_is_number_or_none, "it must be a whole number")),
    **dict.fromkeys(
        ("local", "truth_keys", "keep", "further_labels"), (_is_names, "it must be a list of names")
    ),
    "sha256": (
        lambda value: value is None or is_checksum(value, "sha256"),
        "it must be a sha256 in hexadecimal digits",
    ),
}


def from_h5ad(
    path: Path | str,
    *,
    batch_key: str | None,
    label_key: str | None = None,
    further_labels: Sequence[str] = (),
    counts_layer: str | None = None,
    dataset_id: str | None = None,
    keep: Sequence[str] = (),
    donor_key: str | None = None,
) -> DatasetSpec:
    """Describe a file of the user; :func:`load` reads and validates it.

    Parameters
    ----------
    path
        ``.h5ad`` file.
    batch_key, label_key
        Columns of ``obs``; None for data without batches, or without labels.
    further_labels
        Columns of ``obs`` with other labels, under which runs are scored too.
    counts_layer
        ``"X"``, ``"raw"`` or the layer that holds raw counts; None to decide by the values.
    dataset_id
        Name in records and tables; by default derived from the file's name.
    keep, donor_key
        Columns of ``obs`` with conditions that integration must keep, and with the donors; None: the batches.

    Raises
    ------
    UserError
        If ``dataset_id`` contains other characters than lower-case letters, digits and underscores, or is the
        name of a data set in the catalogue.

    Examples
    --------
    >>> from_h5ad("My data.h5ad", batch_key="donor", label_key="cell_type").dataset_id
    'my_data'
    """
    path = Path(path)
    taken = {manifest.stem for manifest in MANIFESTS.glob("*.toml")}
    named = dataset_id is not None
    if dataset_id is None:
        stem = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")[:90] or "data"
        # Rows of a user's file must not appear in the table of another data set.
        dataset_id = f"{stem}_file" if stem in taken else stem
    check_name(dataset_id)
    if named and dataset_id in taken:
        raise UserError(f"'{dataset_id}' is the name of a data set in the catalogue; choose another.")
    return DatasetSpec(
        dataset_id=dataset_id,
        title=path.name,
        source={"kind": "file", "path": str(path.absolute())},
        batch_key=batch_key,
        label_key=label_key,
        further_labels=tuple(further_labels),
        counts_layer=counts_layer,
        keep=tuple(keep),
        donor_key=donor_key,
    )


def from_memory(
    adata: AnnData,
    *,
    batch_key: str | None,
    label_key: str | None = None,
    further_labels: Sequence[str] = (),
    counts_layer: str | None = None,
    dataset_id: str = "adata",
    keep: Sequence[str] = (),
    donor_key: str | None = None,
) -> DatasetSpec:
    """Describe cells that are in memory; :func:`load` copies and validates them.

    The parameters are those of :func:`from_h5ad`.

    Examples
    --------
    >>> from anndata import AnnData
    >>> from_memory(AnnData(), batch_key=None, label_key="cell_type").dataset_id
    'adata'
    """
    return DatasetSpec(
        dataset_id=dataset_id,
        title="AnnData in memory",
        source={"kind": "memory", "adata": adata},
        batch_key=batch_key,
        label_key=label_key,
        further_labels=tuple(further_labels),
        counts_layer=counts_layer,
        keep=tuple(keep),
        donor_key=donor_key,
    )


def load(spec: DatasetSpec, *, options: Options | None = None) -> Dataset:
    """Load a data set in the canonical form of the data contract; fetch it first if necessary.

    Raises
    ------
    DataError
        With all problems of the data (``docs/data-contract.md``).

    Examples
    --------
    >>> dataset = load(specs()["simulated_small"])
    >>> dataset.adata.shape, sorted(dataset.adata.obs)
    ((300, 200), ['batch', 'label'])
    """
    from cellular_bench.datasets import contract
    from cellular_bench.datasets.sources import openers as sources

    name = str(spec.source["path"]) if spec.source.get("kind") in ("file", "local") else spec.dataset_id
    adata, notes = _with_unique_cells(spec, sources.open_source(spec, options=options))
    adata, warnings = contract.conform(
        adata,
        source=name,
        label_key=spec.label_key,
        batch_key=spec.batch_key,
        counts_layer=spec.counts_layer,
        truth_keys=spec.truth_keys,
        kept=contract.Kept(tuple(spec.keep), spec.donor_key),
        further_labels=spec.further_labels,
    )
    digest = contract.digest(adata)
    if spec.sha256 is not None and spec.sha256 != digest:
        problem = f"Its content is not what the manifest says: sha256 {digest}, expected {spec.sha256}."
        raise DataError(name, [problem])
    if spec.source.get("expected") not in (None, digest):
        notes = (*notes, f"It differs from {spec.dataset_id} of the catalogue in names or values.")
    dataset = Dataset(spec=spec, adata=adata, digest=digest, warnings=(*notes, *warnings))
    return dataset if spec.recipe is None else prepared(dataset, spec.recipe)


def _with_unique_cells(spec: DatasetSpec, adata: AnnData) -> tuple[AnnData, tuple[str, ...]]:
    """Make the names of cells unique if the samples of a deposit were joined without."""
    is_deposit = spec.source.get("kind") == "local" or spec.source.get("builder") == "in_archive"
    if not is_deposit or adata.obs_names.is_unique:
        return adata, ()
    adata.obs_names_make_unique()
    return adata, ("Cells with the same name got a number, in the order of the file.",)


def prepared(dataset: Dataset, name: str) -> Dataset:
    """Return a data set filtered and normalised by a recipe, which becomes part of its digest.

    The recipe also decides how runs select variable genes. Values without counts are not changed, which
    ``recipe`` records.

    Raises
    ------
    UserError
        If the recipe is unknown, or leaves no cell or no gene.

    Examples
    --------
    >>> made = prepared(load(specs()["simulated_small"]), "study_annotated")
    >>> made.adata.n_vars < 200, made.recipe["size_factor"], made.recipe["steps"][-2]["dropped"] > 0
    (True, 'mean', True)
    """
    from cellular_bench.datasets.preparation.recipes import RECIPES

    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    recipe = RECIPES[name]
    made = _followed if COUNTS in dataset.adata.layers else _values_kept
    return replace(made(dataset, recipe), gene_selection=recipe.gene_selection)


def _followed(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Filter and normalise counts by a recipe."""
    from anndata import AnnData

    from cellular_bench.datasets import contract
    from cellular_bench.datasets.preparation import recipes

    obs = dataset.adata.obs
    counts = AnnData(dataset.adata.layers[COUNTS], obs=obs, var=dataset.adata.var)
    done = recipes.prepare(counts, recipe, sample=obs[BATCH].astype(str).to_numpy())
    adata = AnnData(done.adata.X, obs=done.adata.obs, var=done.adata.var, layers=named_layers(done.adata))
    _forget_unused(adata)
    note = f"Prepared by the recipe '{recipe.name}': {adata.n_obs} cells x {adata.n_vars} genes are left."
    return replace(
        dataset,
        adata=adata,
        digest=digest_with(contract.digest(adata), recipe.describe()),
        warnings=(*dataset.warnings, note),
        recipe={**recipe.describe(), "steps": [dict(step) for step in done.steps]},
    )


def _values_kept(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Keep values that have no counts; the recipe still decides which genes runs select."""
    note = f"There are no counts to follow the recipe '{recipe.name}' with: the values are used as they are."
    selection = recipe.gene_selection
    same_genes = selection == dataset.gene_selection
    return replace(
        dataset,
        digest=dataset.digest if same_genes else digest_with(dataset.digest, asdict(selection)),
        warnings=(*dataset.warnings, note),
        recipe={"name": recipe.name, "values": "as they came"},
    )


def with_clusters(dataset: Dataset) -> Dataset:
    """Return a data set with clusters of each batch as further labels; see :mod:`.clusters`.

    Examples
    --------
    >>> made = with_clusters(load(specs()["simulated_small"]))
    >>> [key for key in made.adata.obs if key.startswith("labelling")]
    ['labelling: clusters of each batch']
    """
    import numpy as np

    from cellular_bench.datasets.clusters import CLUSTERS, cluster_labels

    key = LABELLING + CLUSTERS
    if key in dataset.adata.obs:
        raise UserError(
            f"obs['{CLUSTERS}'] of {dataset.spec.dataset_id} has the name of made labels: rename it."
        )
    adata = dataset.adata.copy()
    names, batch = (np.asarray(values, dtype=str) for values in (adata.obs_names, adata.obs[BATCH]))
    adata.obs[key] = cluster_labels(adata.X, batch, names, genes=dataset.gene_selection)
    return replace(dataset, adata=adata)


def digest_with(digest: str, facts: Mapping[str, Any]) -> str:
    """Return the digest of data and of how they were made."""
    return hashlib.sha256(json.dumps([digest, facts], sort_keys=True).encode()).hexdigest()


def subsampled(dataset: Dataset, n: int, *, seed: int = 0) -> Dataset:
    """Return a subset of the cells of a data set, in the proportions of labels and batches.

    Parameters
    ----------
    dataset
        Data set. Not modified.
    n
        Number of cells; if there are not more, the data set itself is returned.
    seed
        Seed of the draw.

    Examples
    --------
    >>> small = subsampled(load(specs()["simulated_small"]), 100)
    >>> small.adata.n_obs, small.subsample
    (100, {'of': 300, 'seed': 0})
    """
    from cellular_bench.datasets.subsample import subsample

    n_obs = dataset.adata.n_obs
    if n >= n_obs:
        return dataset
    adata = subsample(dataset.adata, n, seed)
    _forget_unused(adata)
    note = f"{n} of {n_obs} cells, drawn in the proportions of labels and batches with seed {seed}."
    return replace(
        dataset,
        adata=adata,
        digest=_digest_of_part(dataset, adata),
        warnings=(*dataset.warnings, note),
        subsample={"of": n_obs, "seed": seed},
    )


def _forget_unused(adata: AnnData) -> None:
    for key in (BATCH, LABEL):
        adata.obs[key] = adata.obs[key].cat.remove_unused_categories()


def _digest_of_part(dataset: Dataset, adata: AnnData) -> str:
    """Return the digest of a subset of cells: with a recipe, values do not follow from the counts alone."""
    from cellular_bench.datasets import contract

    content = contract.digest(adata)
    if dataset.recipe is None:
        return content
    return hashlib.sha256(f"{dataset.digest} {content}".encode()).hexdigest()


def validate(
    path: Path | str, *, batch_key: str | None, label_key: str | None = None, counts_layer: str | None = None
) -> list[str]:
    """Return all problems of a file, one sentence each; an empty list if it can be used.

    The parameters are those of :func:`from_h5ad`.
    """
    spec = from_h5ad(path, batch_key=batch_key, label_key=label_key, counts_layer=counts_layer)
    try:
        load(spec)
    except DataError as error:
        return list(error.problems)
    return []
