"""``run-benchmark score``: scores for predictions and embeddings that were made elsewhere."""

from __future__ import annotations

import json
import warnings
from typing import Any

import click

from cellular_bench.cli import options
from cellular_bench.core.sizes import MIN_CELLS


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
`fold` and `method`. An empty prediction, and a word for none such as NA, counts as rejected. Columns
`proba:LABEL` hold the probability of a label; `novelty` a score and `is_novel` true or false. Without
--adata, an npz file has labels and batches beside the embeddings. With --batch-key or --label-key alone,
only metrics that need no more have a value.""",
)
@click.option(
    "--predictions", type=options.EXISTING_FILE, multiple=True, help="CSV or TSV, may be gzipped; or parquet."
)
@options.adata_option
@options.batch_key_option
@options.label_key_option
@options.counts_layer_option
@options.keep_option
@options.donor_key_option
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
@options.min_cells_option(MIN_CELLS, str(MIN_CELLS))
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
def command(output: str, **given: Any) -> None:
    """Score predictions or embeddings made elsewhere."""
    from cellular_bench.cli.score_table import print_table
    from cellular_bench.workflows.score import score
    from cellular_bench.workflows.score_request import ScoreRequest

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        result = score(ScoreRequest.of(**given))
    # Our own; libraries warn of other things, such as what they will remove.
    notes = [str(warning.message) for warning in caught if warning.category is UserWarning]
    for note in notes:
        click.echo(f"note: {note}", err=True)
    if output == "table":
        print_table(result)
        return
    shown: dict[str, Any] = {"scores": [row.as_json() for row in result.rows]}
    if notes:
        shown["notes"] = notes
    if result.evaluations:
        shown["evaluations"] = result.evaluations
    if result.ontology is not None:
        shown["ontology"] = result.ontology
    click.echo(json.dumps(shown, indent=1, default=lambda model: model.model_dump()))
