"""Recipes: named sequences of filters, normalisation and selection of genes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UserError
from cellular_bench.core.keys import COUNTS, TARGET_SUM
from cellular_bench.core.types import Flavor, GeneSelection
from cellular_bench.datasets.preparation import quality
from cellular_bench.datasets.preprocess import log1p_of_scaled

if TYPE_CHECKING:
    from anndata import AnnData

#: ``mean``: a cell's counts / mean counts of all cells. ``target``: a cell's counts / 10,000.
SizeFactor = Literal["mean", "target"]
#: Entry of ``uns`` in which a prepared file records its recipe, as JSON.
UNS_KEY = "recipe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How raw counts are filtered and normalised, and how runs select variable genes; None skips a step.

    Attributes
    ----------
    n_mads
        Drop cells more than this number of median absolute deviations from the median of their sample in any
        of four quantities (:func:`~cellular_bench.datasets.preparation.quality.outliers`).
    min_genes, max_mito_share
        Drop cells with fewer genes, or a larger mitochondrial share.
    min_cells
        Then drop genes that fewer of the remaining cells express.
    size_factor
        Divisor of the counts of a cell before the logarithm.
    flavor, n_top_genes
        :attr:`gene_selection` of every run on the data.
    version
        Raised whenever the recipe gives other numbers; part of the digest of the data.
    """

    name: str
    n_mads: float | None = None
    min_genes: int | None = None
    max_mito_share: float | None = None
    min_cells: int | None = None
    size_factor: SizeFactor = "target"
    flavor: Flavor = GeneSelection().flavor
    n_top_genes: int = GeneSelection().n_top_genes
    version: int = 1

    @property
    def gene_selection(self) -> GeneSelection:
        """How runs select variable genes, on the training cells of each split."""
        return GeneSelection(flavor=self.flavor, n_top_genes=self.n_top_genes)

    def describe(self) -> dict[str, Any]:
        """Return everything that decides the numbers of a run, ready for JSON."""
        return asdict(self)

    def describe_values(self) -> dict[str, Any]:
        """Return everything that decides the values, ready for JSON: all but the selection of genes."""
        return {name: value for name, value in asdict(self).items() if name not in ("flavor", "n_top_genes")}


#: The preprocessing of the CELLULAR study.
STUDY = Recipe(name="study", n_mads=quality.N_MADS, min_cells=quality.MIN_CELLS, size_factor="mean")
#: The same for cells whose quality their authors controlled, as for the annotated data of the study.
STUDY_ANNOTATED = replace(STUDY, name="study_annotated", n_mads=None)
#: The steps of scanpy's tutorial: cells with 100 genes, genes in 3 cells, counts per 10,000. Version 2: runs
#: select genes by the flavor ``seurat``; before, they used ``cell_ranger`` whatever the recipe said.
SCANPY = Recipe(name="scanpy", min_genes=100, min_cells=3, flavor="seurat", version=2)
#: Counts per 10,000 and nothing else, for data whose quality was controlled before.
NONE = Recipe(name="none")
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in (STUDY, STUDY_ANNOTATED, SCANPY, NONE)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The result of a recipe.

    Attributes
    ----------
    adata
        ``X`` log-normalised and ``layers["counts"]`` raw, both sparse; ``uns["recipe"]`` describes the recipe
        and its steps, as JSON.
    steps
        One entry per step: its name, and the number of cells or genes that it dropped.
    before, after
        Quality of all cells, and of the remaining ones.
    """

    adata: AnnData
    steps: tuple[Mapping[str, Any], ...]
    before: quality.Quality
    after: quality.Quality


def prepare(adata: AnnData, recipe: Recipe, *, sample: ArrayLike | None = None) -> Prepared:
    """Filter and normalise raw counts.

    Parameters
    ----------
    adata
        ``X`` raw counts. Not modified.
    recipe
        Steps.
    sample
        (n_obs,) sample of each cell; outliers are determined within samples. None: one sample.

    Raises
    ------
    UserError
        If a value is not a count, or no cell or no gene remains.
    """
    from scipy import sparse

    counts = sparse.csr_matrix(adata.X)
    _check_counts(counts)
    before = quality.measure(counts, adata.var_names)
    steps: list[Mapping[str, Any]] = []
    cells = _kept_cells(before, recipe, sample, steps)
    counts = counts[cells]
    genes = _kept_genes(counts, recipe, steps)
    counts = counts[:, genes]
    made = adata[cells][:, genes].copy()
    factors = size_factors(counts, kind=recipe.size_factor)
    made.X = log1p_of_scaled(counts, factors)
    made.layers[COUNTS] = counts.astype(np.float32)
    steps.append({"step": f"log1p of counts / size factor ({recipe.size_factor})", "dropped": 0})
    made.uns[UNS_KEY] = json.dumps({**recipe.describe_values(), "steps": steps})
    return Prepared(
        adata=made, steps=tuple(steps), before=before, after=quality.measure(counts, made.var_names)
    )


def size_factors(counts: Any, *, kind: SizeFactor) -> NDArray[np.float64]:
    """Return the divisor of each cell's counts before the logarithm, (n_obs,).

    Parameters
    ----------
    counts
        (n_obs, n_vars) raw counts, sparse or dense.
    kind
        ``mean`` (the CELLULAR study): counts of the cell / mean counts of all cells. ``target``: counts of
        the cell / 10,000.

    Examples
    --------
    >>> size_factors([[1, 1], [2, 4]], kind="mean").tolist()
    [0.5, 1.5]
    """
    from scipy import sparse

    totals = np.asarray(sparse.csr_matrix(counts).sum(axis=1), dtype=np.float64).ravel()
    return np.asarray(totals / (totals.mean() if kind == "mean" else TARGET_SUM), dtype=np.float64)


def _check_counts(counts: Any) -> None:
    values = counts.data
    if not np.isfinite(values).all() or (values < 0).any() or (values != np.floor(values)).any():
        raise UserError(
            "A recipe requires raw counts, and these values are not all whole numbers of at least 0. "
            "Use the matrix of counts."
        )


def _kept_cells(
    measured: quality.Quality, recipe: Recipe, sample: ArrayLike | None, steps: list[Mapping[str, Any]]
) -> NDArray[np.bool_]:
    marked: dict[str, NDArray[np.bool_]] = {"cells without counts": measured.n_counts == 0}
    if recipe.n_mads is not None:
        by_quantity = quality.outliers(measured, n_mads=recipe.n_mads, sample=sample)
        marked |= {f"outliers in {name}": hits for name, hits in by_quantity.items()}
    if recipe.min_genes is not None:
        marked[f"cells with fewer than {recipe.min_genes} genes"] = measured.n_genes < recipe.min_genes
    if recipe.max_mito_share is not None:
        name = f"cells with a mitochondrial share above {recipe.max_mito_share:g}"
        marked[name] = measured.mito_share > recipe.max_mito_share
    # Outliers are determined on all cells of the sample; each dropped cell counts at the first step.
    dropped = np.zeros(len(measured.n_counts), dtype=bool)
    for name, hits in marked.items():
        steps.append({"step": name, "dropped": int((hits & ~dropped).sum())})
        dropped |= hits
    if dropped.all():
        raise UserError(f"The recipe '{recipe.name}' leaves no cell: {_listed(steps)}.")
    return ~dropped


def _kept_genes(counts: Any, recipe: Recipe, steps: list[Mapping[str, Any]]) -> NDArray[np.bool_]:
    least = recipe.min_cells or 0
    kept = quality.cells_per_gene(counts) >= least
    if recipe.min_cells is not None:
        steps.append({"step": f"genes in fewer than {least} cells", "dropped": int((~kept).sum())})
    left = np.asarray(counts[:, kept].sum(axis=1)).ravel()
    if not kept.any() or (left == 0).any():
        n_empty = int((left == 0).sum())
        raise UserError(
            f"Without genes in fewer than {least} cells, {int(kept.sum())} genes are left, and {n_empty} "
            "cells have no counts. Use more cells, or a smaller number (min_cells)."
        )
    return kept


def _listed(steps: list[Mapping[str, Any]]) -> str:
    return ", ".join(f"{step['dropped']} {step['step']}" for step in steps if step["dropped"])
