"""``run-benchmark score``: scores for predictions and embeddings that were made elsewhere."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from cellular_bench.benchmark import keys, scoring
from cellular_bench.benchmark.cli import options
from cellular_bench.benchmark.errors import UnknownNameError, UserError
from cellular_bench.benchmark.records import Score

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

_TRUE = ("label", "true_label")
_PREDICTED = ("label_pred", "pred")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One score of one method on one fold."""

    method_id: str
    fold: str | int | None
    score: Score

    def as_json(self) -> dict[str, Any]:
        """Return the row as it appears in JSON."""
        return {
            "method_id": self.method_id,
            "metric_id": self.score.metric_id,
            "fold": self.fold,
            "value": self.score.value,
            "reason": self.score.reason,
        }


@click.command(
    "score",
    epilog="""\b
Examples:
  run-benchmark score --predictions predictions.csv
  run-benchmark score --adata my.h5ad --batch-key donor --label-key cell_type --obsm X_scVI --pre X_pca
  run-benchmark score --adata my.h5ad --batch-key donor --label-key cell_type --embedding scvi.npy

A table of predictions has the columns `label` or `true_label`, `label_pred` or `pred`, and may have
`fold` and `method`. An empty prediction counts as rejected.""",
)
@click.option("--predictions", type=options.EXISTING_FILE, multiple=True, help="CSV or TSV; may be gzipped.")
@options.adata_option
@options.batch_key_option
@options.label_key_option
@click.option("--obsm", multiple=True, help="Embedding in obsm of --adata; may be repeated.")
@click.option(
    "--embedding", type=options.EXISTING_FILE, multiple=True, help="npy, or npz; rows as in --adata."
)
@click.option("--pre", help="Embedding in obsm from before integration, for the PCR comparison.")
@options.format_option
def command(
    predictions: Sequence[Path],
    adata: Path | None,
    batch_key: str | None,
    label_key: str | None,
    obsm: Sequence[str],
    embedding: Sequence[Path],
    pre: str | None,
    output: str,
) -> None:
    """Score predictions or embeddings made elsewhere."""
    if bool(predictions) == (adata is not None):
        raise UserError(
            "Give either --predictions FILE, or --adata FILE with --obsm KEY or --embedding FILE."
        )
    if adata is None:
        rows = [row for path in predictions for row in score_predictions(path)]
    else:
        if batch_key is None or label_key is None:
            raise UserError("--adata needs --batch-key and --label-key.")
        rows = list(
            score_embeddings(
                adata, batch_key=batch_key, label_key=label_key, obsm=obsm, files=embedding, pre=pre
            )
        )
    if output == "json":
        click.echo(json.dumps({"scores": [row.as_json() for row in rows]}, indent=1))
    else:
        _print_table(rows)


def score_predictions(path: Path) -> Iterator[Row]:
    """Score a table of true and predicted labels, per method and fold.

    Raises
    ------
    UserError
        If the file is no table or lacks a column.
    """
    table = _read_table(path)
    true, predicted = _column(path, table, _TRUE), _column(path, table, _PREDICTED)
    empty = int((table[true] == "").sum())
    if table.empty:
        raise UserError(f"{path} has no rows below its header.")
    if empty:
        raise UserError(
            f"{path}: {empty} of {len(table)} rows have no value in '{true}'; each cell needs a label."
        )
    groups = [name for name in ("method", "fold") if name in table]
    parts = table.groupby(groups, sort=False) if groups else [((), table)]
    for key, part in parts:
        found = dict(zip(groups, key, strict=True))
        yield from _score_part(
            str(found.get("method", path.name.split(".")[0])),
            _number(found.get("fold")),
            label=part[true].to_numpy(dtype=str),
            label_pred=part[predicted].to_numpy(dtype=str),
        )


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    separator = "\t" if ".tsv" in path.suffixes else ","
    try:
        # Labels are text: 'NA', '1' or 'None' may be names of cell types. Only nothing is missing.
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read as a table: {error}.") from error


def _score_part(method_id: str, fold: str | int | None, *, label: Any, label_pred: Any) -> Iterator[Row]:
    inputs = {"label": label, "label_pred": label_pred, "rejected": label_pred == ""}
    for score in scoring.compute(scoring.specs_for("annotation"), inputs):
        yield Row(method_id=method_id, fold=fold, score=score)


def score_embeddings(
    adata: Path,
    *,
    batch_key: str,
    label_key: str,
    obsm: Sequence[str] = (),
    files: Sequence[Path] = (),
    pre: str | None = None,
) -> Iterator[Row]:
    """Score embeddings of the cells of an h5ad file.

    Raises
    ------
    UserError
        If a key is missing, or an embedding has not one row per cell.
    """
    from cellular_bench.datasets import catalog

    dataset = catalog.load(catalog.from_h5ad(adata, batch_key=batch_key, label_key=label_key))
    embeddings = dict(_embeddings(adata, obsm, files, n_obs=dataset.adata.n_obs))
    if not embeddings:
        raise UserError("Name what is to be scored: --obsm KEY or --embedding FILE.")
    inputs = _facts(dataset.adata)
    if pre is not None:
        inputs["X_pre"] = dict(_embeddings(adata, [pre], [], n_obs=dataset.adata.n_obs))[pre]
    for name, X_emb in embeddings.items():
        for score in scoring.compute(scoring.specs_for("integration"), {**inputs, "X_emb": X_emb}):
            yield Row(method_id=name, fold=None, score=score)


def _facts(adata: AnnData) -> dict[str, Any]:
    from cellular_bench.benchmark.preparation import cell_cycle_inputs

    label, batch = (np.asarray(adata.obs[key], dtype=str) for key in (keys.LABEL, keys.BATCH))
    return {"label": label, "batch": batch, **cell_cycle_inputs(adata, batch)}


def _embeddings(
    adata: Path, obsm: Sequence[str], files: Sequence[Path], *, n_obs: int
) -> Iterator[tuple[str, Any]]:
    if obsm:
        import anndata

        stored: Mapping[str, Any] = anndata.read_h5ad(adata, backed="r").obsm
        for key in obsm:
            if key not in stored:
                raise UnknownNameError("key of obsm", key, list(stored))
            matrix = stored[key]
            yield _checked(key, np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix), n_obs)
    for path in files:
        for name, array in _arrays(path, n_obs):
            yield _checked(name, array, n_obs)


def _arrays(path: Path, n_obs: int) -> Iterator[tuple[str, Any]]:
    """Read an npy file, or every matrix of an npz file that has a row per cell."""
    try:
        loaded = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is not an npy or npz file: {error}.") from error
    if isinstance(loaded, np.ndarray):
        yield path.stem, loaded
        return
    matrices = {name: loaded[name] for name in loaded.files}
    chosen = {name: array for name, array in matrices.items() if array.ndim == 2 and len(array) == n_obs}
    if not chosen:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in matrices.items())
        raise UserError(f"{path} holds no matrix with {n_obs} rows. It holds: {shapes or 'nothing'}.")
    yield from chosen.items()


def _checked(name: str, array: Any, n_obs: int) -> tuple[str, Any]:
    if array.ndim != 2 or len(array) != n_obs:
        raise UserError(f"Embedding '{name}' has shape {array.shape}, expected ({n_obs}, n_latent).")
    if array.dtype.kind not in "biuf":
        raise UserError(f"Embedding '{name}' holds values of type {array.dtype}; expected numbers.")
    broken = int((~np.isfinite(array)).any(axis=1).sum())
    if broken:
        raise UserError(f"Embedding '{name}' is NaN or infinite for {broken} of {n_obs} cells.")
    return name, array


def _column(path: Path, table: Any, names: Sequence[str]) -> str:
    for name in names:
        if name in table:
            return name
    raise UserError(
        f"{path} has no column '{names[0]}' or '{names[1]}', only {', '.join(map(str, table.columns))}."
    )


def _number(fold: str | None) -> str | int | None:
    return int(fold) if fold is not None and re.fullmatch(r"-?[0-9]+", fold) else fold


def _print_table(rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    values: dict[tuple[str, str], list[float | None]] = {}
    for row in rows:
        values.setdefault((row.method_id, row.score.metric_id), []).append(row.score.value)
    methods, metric_ids = (list(dict.fromkeys(names)) for names in zip(*values, strict=True))
    table = Table("metric", box=None, pad_edge=False, header_style="bold")
    for method_id in methods:
        table.add_column(escape(method_id), justify="right", overflow="fold")
    for metric_id in metric_ids:
        table.add_row(metric_id, *(_cell(values[method_id, metric_id]) for method_id in methods))
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no edge to wrap at
        console = Console(width=24 + 22 * len(methods))
    console.print(table)
    n_folds = max(len(found) for found in values.values())
    if n_folds > 1:
        console.print(
            f"Mean ± standard deviation over {n_folds} folds; --format json has each.", soft_wrap=True
        )
    for reason in dict.fromkeys(f"{r.score.metric_id}: {r.score.reason}" for r in rows if r.score.reason):
        console.print(f"- {reason}", markup=False, highlight=False, soft_wrap=True)


def _cell(values: Sequence[float | None]) -> str:
    from cellular_bench.benchmark.leaderboard import summarise

    summary = summarise(values)
    if summary.mean is None or summary.n < len(values):
        return "-"
    return f"{summary.mean:.4f}" + (f" ± {summary.std:.4f}" if summary.std is not None else "")
