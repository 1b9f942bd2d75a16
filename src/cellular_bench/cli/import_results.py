"""``run-benchmark import``: results that others publish, as a result folder of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from cellular_bench.benchmark import registry
from cellular_bench.cli.options import EXISTING_FILE, NameList


@click.group(
    "import",
    epilog="""\b
Examples:
  run-benchmark import open-problems results.json method_info.json --out results/op
  run-benchmark import scib-metrics scib.csv --dataset-id lung --out results/scib""",
)
def command() -> None:
    """Turn results that others publish into a result folder."""


@command.command(
    "open-problems",
    epilog="""\b
Examples:
  run-benchmark import open-problems results.json method_info.json dataset_info.json --out results/op
  run-benchmark report results/op""",
)
@click.argument("files", type=EXISTING_FILE, nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
def open_problems(files: tuple[Path, ...], *, out: Path) -> None:
    """Read the lists of one task of Open Problems: results and methods, and data sets for their titles.

    Checks that their rule gives the mean scores that they publish, and writes OUT/open-problems.md: their
    ranking beside ours, and what moves a method from one to the other.
    """
    from cellular_bench.benchmark.analysis.leaderboard import build_boards
    from cellular_bench.benchmark.external import open_problems
    from cellular_bench.benchmark.external.rank_comparison import ways
    from cellular_bench.benchmark.results.store import Store
    from cellular_bench.benchmark.schema.suite import Block, MethodChoice, SplitChoice, Suite
    from cellular_bench.core.files import write_text_atomically
    from cellular_bench.reports.text.rank_comparison import rules_markdown

    published = open_problems.read(files)
    runs = open_problems.records(published)
    worst = open_problems.check(published, runs)
    task = published.task
    datasets = tuple(dict.fromkeys(run.dataset.dataset_id for run in runs))
    split = SplitChoice(kind=runs[0].split.kind)
    blocks = (Block(task=task, datasets=datasets, methods=(MethodChoice(method_id="all"),), splits=(split,)),)
    title = f"Open Problems: {'batch integration' if task == 'integration' else 'label projection'}"
    store = Store.create(out, Suite(suite_id=open_problems.SUITE_ID, title=title, blocks=blocks))
    with store.locked():
        for run in runs:
            store.write(run)
    boards = build_boards(runs, registry.metrics().values())
    text = rules_markdown(ways(boards, runs), title=title)
    write_text_atomically(out / "open-problems.md", text)
    left_out = len(published.results) - len(runs)
    click.echo(f"{len(runs)} results of {len(datasets)} data sets in {out}.")
    if left_out:
        click.echo(f"Left out: {left_out} results that name no data set.")
    click.echo(
        f"Their mean scores are reproduced to {worst:.4f}; {out / 'open-problems.md'} compares rankings."
    )
    click.echo(f"Write the leaderboard with `run-benchmark report {out} --no-figures`.")


@command.command(
    "scib-metrics",
    epilog="""\b
Examples:
  run-benchmark import scib-metrics scib.csv --dataset-id lung --out results/scib
  run-benchmark import scib-metrics scib.csv --dataset-id lung --saw-labels X_scANVI --out results/scib
  run-benchmark report results/scib results/mine --out board

The table is what Benchmarker writes: benchmarker.get_results(min_max_scale=False).to_csv("scib.csv").""",
)
@click.argument("file", type=EXISTING_FILE)
@click.option(
    "--dataset-id", required=True, help="What to call the data: lower-case letters, digits, underscores."
)
@click.option(
    "--saw-labels",
    type=NameList(),
    default=(),
    help="Embeddings that were made with the labels they are scored on.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
def scib_metrics(file: Path, *, dataset_id: str, saw_labels: Sequence[str], out: Path) -> None:
    """Read a table of scib-metrics' Benchmarker: a row per embedding, a column per metric."""
    from cellular_bench.benchmark.external import scib_metrics as scib_results
    from cellular_bench.benchmark.results.store import Store
    from cellular_bench.benchmark.schema.suite import Block, MethodChoice, SplitChoice, Suite

    runs = scib_results.records(
        scib_results.read(file),
        dataset_id=dataset_id,
        finished_at=scib_results.written_at(file),
        saw_labels=saw_labels,
    )
    block = Block(
        task="integration",
        datasets=(dataset_id,),
        methods=(MethodChoice(method_id="all"),),
        splits=(SplitChoice(kind="all"),),
    )
    title = f"scib-metrics: {dataset_id}"
    store = Store.create(out, Suite(suite_id=scib_results.SUITE_ID, title=title, blocks=(block,)))
    with store.locked():
        for run in runs:
            store.write(run)
    click.echo(f"{len(runs)} embeddings of {dataset_id} in {out}; cells, seeds and costs are not told there.")
    others = [run.method.name for run in runs if run.method.labels == "none"]
    click.echo(f"Taken as made without labels: {', '.join(others) or 'none'}; --saw-labels names others.")
    click.echo(f"Write the leaderboard with `run-benchmark report {out} --no-figures`.")
