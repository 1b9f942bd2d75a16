"""``run-benchmark score``: scores for predictions and embeddings that were made elsewhere."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.execution.machine import usable_cores
from cellular_bench.cli import options
from cellular_bench.cli.score_table import print_table
from cellular_bench.core.errors import UserError
from cellular_bench.workflows.score import (
    Resampling,
    Row,
    Scoring,
    score_bundles,
    score_embeddings,
    score_parts,
)
from cellular_bench.workflows.score_files import Predicted, read_label_terms, read_predictions

if TYPE_CHECKING:
    from cellular_bench.metrics import MappedLabels, Ontology


@click.command(
    "score",
    epilog="""\b
Examples:
  run-benchmark score --predictions predictions.csv
  run-benchmark score --predictions predictions.csv --bootstrap 1000 --seed 0
  run-benchmark score --predictions predictions.csv --ontology cl.obo
  run-benchmark score --adata my.h5ad --batch-key donor --label-key cell_type --obsm X_scVI --pre X_pca
  run-benchmark score --adata my.h5ad --batch-key donor --label-key cell_type --embedding scvi.npy
  run-benchmark score --embedding all.npz --batch-key batch --label-key label --pre pca
  run-benchmark score --adata my.h5ad --batch-key donor --label-key cell_type --obsm X_scVI \\
      --metrics nmi_scib,ari_scib,pcr_scib

A table of predictions has the columns `label` or `true_label`, `label_pred` or `pred`, and may have
`fold` and `method`. An empty prediction counts as rejected. Columns `proba:LABEL` hold the probability
of a label; `novelty` a score and `is_novel` true or false. Without --adata, an npz file has labels and
batches beside the embeddings.""",
)
@click.option("--predictions", type=options.EXISTING_FILE, multiple=True, help="CSV or TSV; may be gzipped.")
@options.adata_option
@options.batch_key_option
@options.label_key_option
@options.counts_layer_option
@click.option("--obsm", multiple=True, help="Embedding in obsm of --adata; may be repeated.")
@click.option(
    "--embedding", type=options.EXISTING_FILE, multiple=True, help="npy, or npz; rows as in --adata."
)
@click.option(
    "--pre",
    help="Embedding from before integration, for PCR comparison: in obsm, or in the npz where there is no "
    "--adata.",
)
@click.option("--pre-all", help="As --pre, of all genes, for pcr_scib.  [default: computed from --adata]")
@click.option(
    "--corrected", multiple=True, help="Layer of --adata with corrected log-expression; may be repeated."
)
@click.option(
    "--engine",
    type=click.Choice(["own", "scib-metrics"]),
    default="own",
    show_default=True,
    help="Who computes the scores of embeddings.",
)
@click.option(
    "--metrics",
    type=options.NameList(),
    help="Only these, such as those on request; `run-benchmark list metrics` has all.",
)
@options.profile_option("standard", "standard")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Threads and processes for embeddings; no value depends on it.  [default: usable cores]",
)
@click.option(
    "--ontology", type=options.EXISTING_FILE, help="OBO file such as cl.obo: credit for near misses."
)
@click.option(
    "--ontology-map", type=options.EXISTING_FILE, help="Table with columns label and term, for own labels."
)
@click.option(
    "--bootstrap",
    type=click.IntRange(min=1),
    metavar="N",
    help="Show 95 % intervals of predictions' scores over N resamplings of the cells.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Seed of --bootstrap; 0 if not given.")
@click.option("--stratify", is_flag=True, help="Let --bootstrap keep the number of cells of each label.")
@options.plugin_option
@options.format_option
def command(output: str, plugins: Sequence[Path], **request: Any) -> None:
    """Score predictions or embeddings made elsewhere."""
    registry.load(plugins)
    _check(request)
    if request["predictions"]:
        rows, notes = _of_predictions(request)
    else:
        rows = list(_of_embeddings(request))
        notes = {"evaluations": {row.method_id: row.evaluation for row in rows if row.evaluation}}
    if output == "json":
        found = {"scores": [row.as_json() for row in rows], **notes}
        click.echo(json.dumps(found, indent=1, default=lambda model: model.model_dump()))
    else:
        print_table(rows, notes)


def _check(request: Mapping[str, Any]) -> None:
    """Refuse options that do not go together."""
    predictions, embedded = request["predictions"], request["adata"] or request["embedding"]
    if bool(predictions) == bool(embedded):
        raise UserError(
            "Give either --predictions FILE, or --adata FILE with --obsm KEY or --embedding FILE, or "
            "--embedding FILE.npz alone where it holds labels and batches too."
        )
    if request["obsm"] and request["adata"] is None:
        raise UserError("--obsm names embeddings of --adata, which is missing.")
    if request["counts_layer"] is not None and request["adata"] is None:
        raise UserError("--counts-layer names a layer of --adata, which is missing.")
    if not predictions and (request["batch_key"] is None or request["label_key"] is None):
        raise UserError(
            f"{'--adata' if request['adata'] else '--embedding'} needs --batch-key and --label-key."
        )
    for name in ("seed", "stratify"):
        if request[name] not in (None, False) and request["bootstrap"] is None:
            raise UserError(f"--{name} describes --bootstrap, which is missing.")
    if request["ontology_map"] is not None and request["ontology"] is None:
        raise UserError("--ontology-map describes --ontology, which is missing.")
    if embedded and request["bootstrap"] is not None:
        raise UserError(
            "--bootstrap is for --predictions: in an embedding, a cell drawn twice is its own neighbour."
        )
    if embedded and request["ontology"] is not None:
        raise UserError("--ontology is for --predictions: an embedding names no cell.")
    for name in request["metrics"] or ():
        registry.lookup("metric", name, registry.metrics())
    if predictions and request["engine"] != "own":
        raise UserError("--engine is for embeddings; predictions are always scored by our own metrics.")
    if request["corrected"] and (request["adata"] is None or request["engine"] != "own"):
        raise UserError("--corrected names layers of --adata, and is scored by our own metrics.")


def _of_predictions(request: Mapping[str, Any]) -> tuple[list[Row], dict[str, Any]]:
    ontology = _ontology(request["ontology"], request["ontology_map"])
    resampling = None
    if request["bootstrap"] is not None:
        resampling = Resampling(
            n_resamples=request["bootstrap"], seed=request["seed"] or 0, stratify=request["stratify"]
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        parts = [part for path in request["predictions"] for part in read_predictions(path)]
    for warning in caught:
        click.echo(f"note: {warning.message}", err=True)
    rows = list(score_parts(parts, ontology=ontology, resampling=resampling, metric_ids=request["metrics"]))
    return rows, {} if ontology is None else {"ontology": _mapped(parts, ontology)}


def _ontology(path: Path | None, label_terms: Path | None) -> Ontology | None:
    if path is None:
        return None
    from cellular_bench.metrics import read_obo

    ontology = read_obo(path)
    return ontology if label_terms is None else ontology.with_labels(read_label_terms(label_terms))


def _mapped(parts: Sequence[Predicted], ontology: Ontology) -> dict[str, Any]:
    """Tell how many labels the ontology knows."""
    from cellular_bench.metrics import map_labels

    found: MappedLabels = map_labels(np.concatenate([part.inputs["label"] for part in parts]), ontology)
    return found._asdict()


def _of_embeddings(request: Mapping[str, Any]) -> Iterator[Row]:
    known = {name: request[name] for name in ("batch_key", "label_key", "pre", "pre_all")}
    known["how"] = Scoring(
        engine=request["engine"],
        profile=request["profile"],
        metric_ids=request["metrics"],
        n_jobs=request["jobs"] or usable_cores(),
    )
    if request["adata"] is None:
        yield from score_bundles(request["embedding"], **known)
        return
    chosen = {name: request[name] for name in ("counts_layer", "obsm", "corrected")}
    yield from score_embeddings(request["adata"], **known, **chosen, files=request["embedding"])
