"""Make one data set of raw files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from cellular_bench.core.errors import UserError
from cellular_bench.core.h5ad import write_h5ad
from cellular_bench.workflows.requests import Names, OneOrMore, Paths, Request


class PrepareRequest(Request):
    """Raw files to be made one data set.

    Attributes
    ----------
    raw
        10x, loom, tables or h5ad; each is a sample.
    out
        h5ad file to write.
    recipe
        Filters and normalisation: a name of :data:`cellular_bench.datasets.preparation.recipes.RECIPES`.
    labels
        Table with cell names, then columns for ``obs``.
    batch_key
        Column of ``obs`` with the batches; None: each file is one.
    counts_layer
        ``"X"``, ``"raw"`` or the layer with the counts of h5ad files; determined from the values if None.
    obs_columns
        Columns of tables with numbers that are no genes, or ``none``; detected if empty.
    gene_names, gene_column
        Table of gene ids and symbols, or the column of ``var`` with the symbols.
    orientation
        Whether rows of tables are cells or genes.
    input_format
        Format of the raw files; None: determined by their names.
    subsample, seed
        Cells to draw, in the proportions of the batches.
    figures
        Folder for figures of quality.
    """

    raw: Paths
    out: Path
    recipe: str = "none"
    labels: Path | None = None
    batch_key: str | None = None
    counts_layer: str | None = None
    obs_columns: Names = ()
    gene_names: Path | None = None
    gene_column: str | None = None
    orientation: Literal["auto", "cells", "genes"] = "auto"
    input_format: Literal["h5ad", "10x_h5", "10x_mtx", "loom", "table"] | None = None
    subsample: OneOrMore | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    figures: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareResult:
    """What was done, a line per step, and the figures that were drawn."""

    lines: Sequence[str]
    figures: Sequence[Path] = ()


def prepare(request: PrepareRequest) -> PrepareResult:
    """Read raw files, join, filter and normalise them, and write one h5ad file.

    Raises
    ------
    UserError
        If a file cannot be read, or the output is one of the raw files.
    """
    from cellular_bench.datasets.preparation import join, recipes
    from cellular_bench.datasets.preparation.genes import read_mapping

    if request.out.suffix != ".h5ad":
        raise UserError(f"--out must end in .h5ad, came: {request.out}.")
    if request.out.resolve() in {path.resolve() for path in request.raw}:
        raise UserError(f"--out {request.out} is one of the raw files; name another one.")
    reading = join.Reading(
        format=request.input_format,
        orientation=request.orientation,
        gene_names=read_mapping(request.gene_names) if request.gene_names else None,
        gene_column=request.gene_column,
        batch_key=request.batch_key,
        counts_layer=request.counts_layer,
        obs_columns=() if request.obs_columns == ("none",) else request.obs_columns or None,
    )
    adata, warnings = join.join(request.raw, reading=reading, labels=request.labels)
    recipe = recipes.RECIPES[request.recipe]
    made = join.prepare(adata, recipe, n=request.subsample, seed=request.seed)
    request.out.parent.mkdir(parents=True, exist_ok=True)
    write_h5ad(made.adata, request.out)
    lines = [f"note: {warning}" for warning in warnings]
    if request.subsample:
        n_drawn = min(request.subsample, adata.n_obs)
        lines.append(f"drawn: {n_drawn} of {adata.n_obs} cells, seed {request.seed}")
    lines += [
        step["step"] + (f": {step['dropped']} dropped" if step["dropped"] else "") for step in made.steps
    ]
    lines.append(f"{request.out}: {made.adata.n_obs} cells x {made.adata.n_vars} genes")
    if request.figures is None:
        return PrepareResult(lines=lines)
    from cellular_bench.datasets.preparation.quality_figures import save_quality

    figures = save_quality(made.before, made.after, request.figures, title=request.out.stem)
    return PrepareResult(lines=lines, figures=list(figures))
