"""``run-benchmark run``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.schema.executor import ExecutorKind
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.cli import messages, options
from cellular_bench.core.types import Flavor, SplitKind

_SPLITS = [kind.replace("_", "-") for kind in get_args(SplitKind)]
_RETRIED = ("failed", "timeout", "out_of_memory", "not_applicable")


@click.command(
    "run",
    epilog="""\b
Examples:
  run-benchmark run
  run-benchmark run --task annotation --method knn,celltypist --seeds 0,1,2
  run-benchmark run --adata my.h5ad --batch-key donor --label-key cell_type
  run-benchmark run --adata my.h5ad --batch-key donor --label-key cell_type \\
      --task annotation --split leave-one-batch-out
  run-benchmark run --adata my.h5ad --batch-key run --label-key cell_type \\
      --keep stim --donor-key donor
  run-benchmark run --adata my.h5ad --batch-key donor
  run-benchmark run --adata my.h5ad --batch-key donor --label-key level1 --label-key level2
  run-benchmark run --plugin my_method.py --out results/mine
  run-benchmark run --adata my.h5ad --batch-key donor --label-key cell_type \\
      --embedding scgpt=scgpt.npz --embedding uce=uce.h5ad
  run-benchmark run --task integration --weights scib
  run-benchmark run --method pca,harmony,symphony --task integration \\
      --genes 500,2000,all --hvg cell_ranger,seurat --scale yes,no

Exit code: 0 all runs ended well or do not apply, 1 some did not, 2 the request was wrong.""",
)
@click.option(
    "--suite",
    help="Name of a suite, or a TOML file.  [default: quickstart; standard with --adata or --method; "
    "embeddings with --embedding]",
)
@click.option(
    "--trust",
    is_flag=True,
    help="Allow what a suite from a TOML file would execute, read or download. Without it, that is listed.",
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    shell_complete=options.names_of(lambda: TASKS),
    help="Only these tasks: integration, annotation, novelty, harm, or a task of a plug-in.",
)
@options.names_option("--dataset", "datasets", lambda: registry.datasets())
@options.adata_option
@options.batch_key_option
@options.label_keys_option
@options.cluster_labels_option
@options.counts_layer_option
@options.keep_option
@options.donor_key_option
@click.option(
    "--data-dir", type=options.EXISTING_FOLDER, help="Folder whose h5ad files are data sets of the catalogue."
)
@click.option("--recipe", type=click.Choice(options.RECIPE_NAMES), help=options.RECIPE_HELP)
@click.option("--subsample", type=click.IntRange(min=1), help="Cells to draw from larger data, seeded.")
@options.names_option("--method", "methods", lambda: registry.methods())
@options.param_option
@click.option(
    "--embedding",
    "embeddings",
    metavar="MODEL=FILE",
    multiple=True,
    callback=options.read_by(lambda texts: options.parse_embeddings(texts)),
    help="Score an embedding of the cells that a model such as scgpt made elsewhere (npz, h5ad or csv): as "
    "it is, under nearest neighbours and under a linear classifier. MODEL@2024-03=FILE states the last month "
    "of its training data.",
)
@options.plugin_option
@click.option("--split", type=click.Choice(_SPLITS), help="Instead of the suite's.")
@click.option("--n-splits", type=click.IntRange(min=2), help="Folds of --split kfold or unseen-label.")
@click.option(
    "--reference",
    type=options.DataNames(),
    multiple=True,
    help="Training batches, for --split reference-query; with commas, or repeated.  Double quotes separate "
    "names that contain commas.",
)
@click.option(
    "--unseen",
    type=options.DataNames(),
    multiple=True,
    help="Labels to hold out, for --split unseen-label or private-label; with commas, or repeated.  Double "
    "quotes separate names that contain commas.",
)
@click.option(
    "--stress",
    metavar="KIND=LEVELS",
    help="Make the splits harder, such as label_noise=0,0.1,0.3.",
)
@click.option("--seeds", type=options.IntList(), help="Instead of the suite's, such as 0,1,2.")
@options.weights_option("the suite's, or each task's own")
@click.option(
    "--genes",
    type=options.NameList(),
    help="Also give methods these numbers of variable genes, such as 500,1000,all.",
)
@click.option(
    "--hvg",
    type=options.NameList(),
    help=f"Also choose variable genes so: {', '.join(get_args(Flavor))}.",
)
@click.option(
    "--scale", type=options.NameList(), help="yes: also give scaled genes to methods that can use them."
)
@options.min_cells_option(None, "the suite's, which is 10 unless it says otherwise")
@click.option(
    "--leak-canary/--no-leak-canary",
    default=None,
    help="Look for methods that know labels which they were not shown.  [default: leak-canary, unless the "
    "suite says otherwise]",
)
@click.option(
    "--canaries/--no-canaries",
    default=None,
    help="Add embeddings that nobody should use, such as Harmony with collapsed types, to integration: which "
    "metrics score them above Harmony?  [default: no-canaries, unless the suite says otherwise]",
)
@click.option(
    "--sandbox/--no-sandbox",
    default=True,
    show_default=True,
    help="Run methods in a sandbox if this machine has one: without network, without other files.",
)
@click.option("--out", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
@options.profile_option(None, "the suite's, which is standard unless it says otherwise")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Runs at a time.  [default: usable cores, or the slots of a cluster]",
)
@click.option("--executor", type=click.Choice(get_args(ExecutorKind)), help="Where runs are carried out.")
@click.option(
    "--scheduler", metavar="ADDRESS", help="Of a running Dask cluster, such as tcp://10.0.0.1:8786."
)
@click.option("--slurm-config", type=options.EXISTING_FILE, help="TOML file: what to ask a Slurm system for.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    help="Tries again after a lost worker.  [default: that of the suite or --slurm-config, else 2]",
)
@click.option("--time-limit", type=options.PositiveNumber(), help="Seconds for one run.")
@click.option("--memory-limit", type=options.PositiveNumber(), help="MiB for one run.")
@click.option("--gpu-memory-limit", type=options.PositiveNumber(), help="MiB of GPU memory for one run.")
@click.option(
    "--reuse", type=options.EXISTING_FOLDER, multiple=True, help="Take over results of another result folder."
)
@click.option("--retry", type=click.Choice(_RETRIED), multiple=True, help="Do runs that ended so again.")
@click.option(
    "--fresh/--only-missing", help="Forget the records of these runs first.  [default: only-missing]"
)
@click.option("--figures/--no-figures", default=True, help=options.FIGURES_HELP)
def command(**given: Any) -> None:
    """Run a suite and write its leaderboard.

    Without options: the quickstart suite on the bundled data. Runs that have a record in the result
    folder are not run again.
    """
    from cellular_bench.workflows.requests import RunRequest
    from cellular_bench.workflows.run import run

    result = run(RunRequest.of(**given), progress=messages.progress())
    raise click.exceptions.Exit(0 if result.is_clean else 1)
