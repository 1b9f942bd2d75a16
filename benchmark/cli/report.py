"""``run-benchmark report``: records to a leaderboard."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.cli.options import EXISTING_FOLDER
from cellular_bench.benchmark.errors import BenchError, UserError
from cellular_bench.benchmark.leaderboard import Board, Row, build_boards
from cellular_bench.benchmark.preparation import read_truth
from cellular_bench.benchmark.records import RunRecord
from cellular_bench.benchmark.store import Store
from cellular_bench.reports.figures import Figure, FigureKind


@click.command(
    "report",
    epilog="""\b
Examples:
  run-benchmark report results
  run-benchmark report results --no-figures""",
)
@click.argument("folder", type=EXISTING_FOLDER)
@click.option("--figures/--no-figures", default=True, help="Draw UMAPs and confusion matrices.")
@click.option("--jobs", type=click.IntRange(min=1), help="Figures at a time.  [default: number of cores]")
def command(folder: Path, *, figures: bool, jobs: int | None) -> None:
    """Write leaderboard.html, scores.csv and leaderboard.md for a result folder."""
    for path in write_report(Store.open(folder), figures=figures, n_jobs=jobs or os.cpu_count() or 1):
        click.echo(path)


def write_report(store: Store, *, figures: bool, n_jobs: int) -> list[Path]:
    """Write the leaderboard of a result folder.

    Raises
    ------
    UserError
        If the folder holds no record.
    """
    from cellular_bench import reports

    records = list(store.records())
    if not records:
        raise UserError(
            f"{store.root} holds no record yet; start with `run-benchmark run --out {store.root}`."
        )
    specs = registry.metrics()
    drawn = draw(store, build_boards(records, specs.values()), n_jobs=n_jobs) if figures else []
    return reports.write(records, specs, store.root, title=store.title, figures=drawn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure to be drawn from the outputs of one run, or from several confusion matrices."""

    kind: FigureKind
    board: Board
    row: Row
    file: Path
    run: RunRecord

    @property
    def caption(self) -> str:
        """Say which cells the figure shows."""
        name = self.row.method.name
        if self.kind == "confusion":
            return f"{name}: true and predicted labels, {len(self.row.runs)} runs together."
        run = self.run
        return f"{name}: UMAP of the embedding, split {run.split.split_id}, seed {run.seed}."


def draw(store: Store, boards: Sequence[Board], *, n_jobs: int) -> list[Figure]:
    """Draw a figure per method and board, in processes of their own; drawn ones are reused.

    Raises
    ------
    BenchError
        If a figure cannot be drawn; the message holds the end of its log.
    """
    folder = store.root / "figures"
    folder.mkdir(exist_ok=True)
    drawings = [drawing for board in boards for drawing in _drawings(board, folder)]
    with ThreadPoolExecutor(n_jobs) as pool:
        return list(pool.map(lambda drawing: _draw(store, drawing), drawings))


def _drawings(board: Board, folder: Path) -> Iterator[Drawing]:
    kinds: dict[str, FigureKind] = {"integration": "embedding", "annotation": "confusion"}
    kind = kinds.get(board.task)
    if kind is None:
        return
    for row in board.rows:
        done = [run for run in row.runs if run.status == "ok"]
        if done:
            suffix = f"{len(done)}-runs" if kind == "confusion" else kind
            file = folder / f"{done[0].run_id}-{suffix}.png"
            yield Drawing(kind=kind, board=board, row=row, file=file, run=done[0])


def _draw(store: Store, drawing: Drawing) -> Figure:
    from cellular_bench.benchmark import isolation
    from cellular_bench.benchmark.executors import HARNESS_LIMITS

    if not drawing.file.exists():
        log = drawing.file.with_suffix(".log")
        function = _draw_embedding if drawing.kind == "embedding" else _draw_confusion
        outcome = isolation.call(function, store.root, drawing, drawing.file, limits=HARNESS_LIMITS, log=log)
        if outcome.status != "ok":
            raise BenchError(
                f"{drawing.file} could not be drawn: {outcome.reason}\n{log.read_text()[-2000:]}"
            )
        log.unlink(missing_ok=True)
    return Figure(
        kind=drawing.kind,
        board_id=drawing.board.board_id,
        method_id=drawing.row.method.method_id,
        caption=drawing.caption,
        data=drawing.file.read_bytes(),
    )


def _draw_embedding(root: Path, drawing: Drawing, file: Path) -> None:
    from cellular_bench.benchmark.outputs import read_outputs
    from cellular_bench.reports.figures import embedding_figure

    store, run = Store(root), drawing.run
    outputs = read_outputs(store.run_folder(run.run_id) / "outputs.npz")
    truth = read_truth(store.split_folder(run.dataset, run.split))
    assert outputs.X_emb is not None  # a run that ended well has an embedding
    file.write_bytes(
        embedding_figure(outputs.X_emb, truth.label, truth.batch, title=drawing.row.method.name, seed=0)
    )


def _draw_confusion(root: Path, drawing: Drawing, file: Path) -> None:
    from cellular_bench.reports.figures import confusion_figure

    total: dict[str, dict[str, int]] = {}
    for run in drawing.row.runs:
        for label, row in run.confusion.items():
            counts = total.setdefault(label, {})
            for predicted, count in row.items():
                counts[predicted] = counts.get(predicted, 0) + count
    file.write_bytes(confusion_figure(total, title=drawing.row.method.name))
