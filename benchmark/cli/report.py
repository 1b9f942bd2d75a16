"""``run-benchmark report``: records to a leaderboard."""

from __future__ import annotations

import json
import os
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.cli.options import EXISTING_FOLDER, NameList
from cellular_bench.benchmark.errors import UserError
from cellular_bench.benchmark.leaderboard import Board, build_boards
from cellular_bench.benchmark.preparation import read_truth
from cellular_bench.benchmark.records import Missing, RunRecord, write_text_atomically
from cellular_bench.benchmark.store import Store
from cellular_bench.benchmark.worker import ARTIFACTS, OUTPUTS
from cellular_bench.reports.figures import Figure, FigureKind


@click.command(
    "report",
    epilog="""\b
Examples:
  run-benchmark report results
  run-benchmark report results --no-figures
  run-benchmark report results --format latex,pdf    # tables and figures for a paper""",
)
@click.argument("folder", type=EXISTING_FOLDER)
@click.option("--figures/--no-figures", default=True, help="Draw UMAPs and confusion matrices.")
@click.option("--jobs", type=click.IntRange(min=1), help="Figures at a time.  [default: number of cores]")
@click.option(
    "--format",
    "formats",
    type=NameList(),
    default="html,csv,md",
    show_default=True,
    help="Any of html, csv, md, latex, and svg, pdf, png for figures sized for a paper.",
)
def command(folder: Path, *, figures: bool, jobs: int | None, formats: Sequence[str]) -> None:
    """Write the leaderboard of a result folder: a page, a table of scores, Markdown, LaTeX, figures."""
    n_jobs = jobs or os.cpu_count() or 1
    for path in write_report(Store.open(folder), figures=figures, n_jobs=n_jobs, formats=formats):
        click.echo(path)


def write_report(
    store: Store, *, figures: bool, n_jobs: int, formats: Sequence[str] = ("html", "csv", "md")
) -> list[Path]:
    """Write the leaderboard of a result folder.

    Raises
    ------
    UserError
        If the folder holds no record, or a format is unknown.
    """
    from cellular_bench import reports
    from cellular_bench.reports.pages import FORMATS

    for name in formats:
        registry.pick("format", name, dict.fromkeys(FORMATS))

    records = list(store.records())
    for damaged in store.damaged():
        click.echo(
            f"Left out, as damaged: {damaged.reason} The next run of the folder does it again.", err=True
        )
    if not records:
        raise UserError(
            f"{store.root} holds no record yet; start with `run-benchmark run --out {store.root}`."
        )
    specs = registry.metrics()
    boards = build_boards(records, specs.values())
    drawn = draw(store, boards, n_jobs=n_jobs) if figures and "html" in formats else []
    missing = store.suite.missing if store.suite else ()
    written = reports.write(
        records, specs, store.root, title=store.title, figures=drawn, missing=missing, formats=formats
    )
    return [*written, *_write_published(store, boards, missing)]


def _write_published(store: Store, boards: Sequence[Board], missing: Sequence[Missing]) -> list[Path]:
    """Write published scores beside ours where a study scored these data, and what its suite lacks."""
    from cellular_bench.reports.published import published_csv, published_markdown, published_tables

    if not (missing or any(published_tables(board) for board in boards)):
        return []
    lines = [line for item in missing for line in item.lines()]
    texts = {
        "published.csv": published_csv(boards),
        "published.md": published_markdown(boards, lines),
    }
    for name, text in texts.items():
        write_text_atomically(store.root / name, text)
    return [store.root / name for name in texts]


#: What a method may leave in its run's folder about its training; see ``history_figure``.
HISTORY = "history.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure to be drawn: of the outputs of a method's first run, or of all its runs together.

    ``file`` is the picture; its caption and alternative text lie beside it as JSON.
    """

    kind: FigureKind
    board_id: str
    runs: tuple[RunRecord, ...]
    file: Path

    @property
    def method_id(self) -> str:
        """Whose output it shows."""
        return self.runs[0].method.method_id

    @property
    def title(self) -> str:
        """Say which runs it shows."""
        first = self.runs[0]
        if self.kind != "embedding":
            return f"{first.method.name}, {len(self.runs)} run{'s' if len(self.runs) > 1 else ''}"
        return f"{first.method.name}, {first.split.split_id}, seed {first.seed}"

    @property
    def is_drawn(self) -> bool:
        """True where the picture and its words are there."""
        return self.file.exists() and self.file.with_suffix(".json").exists()

    def read(self) -> Figure:
        """Return the figure as it was drawn."""
        return Figure(
            kind=self.kind,
            board_id=self.board_id,
            method_id=self.method_id,
            data=self.file.read_bytes(),
            **json.loads(self.file.with_suffix(".json").read_text(encoding="utf-8")),
        )


def draw(store: Store, boards: Sequence[Board], *, n_jobs: int) -> list[Figure]:
    """Draw a figure per method and board, away from this process; drawn ones are reused.

    A figure that cannot be drawn is left out with a message: the numbers do not depend on it.
    """
    (store.root / "figures").mkdir(exist_ok=True)
    drawings = [drawing for board in boards for drawing in _drawings(store, board)]
    missing = [drawing for drawing in drawings if not drawing.is_drawn]
    with ThreadPoolExecutor(n_jobs) as pool:
        # Few large parts: what UMAP compiles is compiled once per process.
        for done in [pool.submit(_draw_in_child, store, missing[i::n_jobs], i) for i in range(n_jobs)]:
            done.result()
    return [drawing.read() for drawing in drawings if drawing.is_drawn]


def _drawings(store: Store, board: Board) -> Iterator[Drawing]:
    for row in board.rows:
        done = tuple(run for run in row.runs if run.status == "ok")
        if not done:
            continue
        if board.task == "integration":
            yield _drawing(store, board, "embedding", done[:1], name=done[0].run_id)
        # One more run is another picture; hence the number in the name.
        if board.task == "annotation":
            yield _drawing(store, board, "confusion", done, name=f"{done[0].run_id}-{len(done)}")
        told = tuple(run for run in done if _history_file(store, run).exists())
        if told:
            yield _drawing(store, board, "history", told, name=f"{told[0].run_id}-{len(told)}-history")


def _drawing(
    store: Store, board: Board, kind: FigureKind, runs: tuple[RunRecord, ...], *, name: str
) -> Drawing:
    file = store.root / "figures" / f"{name}.webp"
    return Drawing(kind=kind, board_id=board.board_id, runs=runs, file=file)


def _history_file(store: Store, run: RunRecord) -> Path:
    return store.run_folder(run.run_id) / ARTIFACTS / HISTORY


def _draw_in_child(store: Store, drawings: Sequence[Drawing], part: int) -> None:
    from cellular_bench.benchmark import isolation
    from cellular_bench.benchmark.running import HARNESS_LIMITS

    if not drawings:
        return
    log = store.root / "figures" / f"part-{part}.log"
    outcome = isolation.call(_draw_all, store, drawings, limits=HARNESS_LIMITS, log=log)
    for drawing in drawings:
        if not drawing.is_drawn:
            click.echo(f"No figure of {drawing.title}; see {log}. {outcome.reason or ''}", err=True)
    if all(drawing.is_drawn for drawing in drawings):
        log.unlink(missing_ok=True)


def _draw_all(store: Store, drawings: Sequence[Drawing]) -> None:
    ways = {"embedding": _draw_embedding, "confusion": _draw_confusion, "history": _draw_history}
    for drawing in drawings:
        try:
            ways[drawing.kind](store, drawing)
        except Exception:
            traceback.print_exc()  # into the log that the message about this figure names


def _draw_embedding(store: Store, drawing: Drawing) -> None:
    from cellular_bench.benchmark.outputs import read_outputs
    from cellular_bench.reports.figures import embedding_figure

    run = drawing.runs[0]
    outputs = read_outputs(store.run_folder(run.run_id) / OUTPUTS)
    truth = read_truth(store.split_folder(run.dataset, run.split))
    X_emb = _coordinates(outputs.graph) if outputs.X_emb is None else outputs.X_emb
    _keep(embedding_figure(X_emb, truth.label, truth.batch, title=drawing.title), drawing.file)


def _coordinates(graph: Any) -> Any:
    """Place the cells of a graph so that linked ones lie together."""
    from sklearn.manifold import spectral_embedding

    n_components = min(10, graph.shape[0] - 2)
    return spectral_embedding(graph.maximum(graph.T), n_components=n_components, random_state=0)


def _draw_confusion(store: Store, drawing: Drawing) -> None:
    del store  # the records have it all
    from cellular_bench.reports.figures import confusion_figure

    total: dict[str, Counter[str]] = defaultdict(Counter)
    for run in drawing.runs:
        for label, predicted in run.confusion.items():
            total[label].update(predicted)
    _keep(confusion_figure(total, title=drawing.title), drawing.file)


def _draw_history(store: Store, drawing: Drawing) -> None:
    from cellular_bench.reports.figures import history_figure

    histories = {
        f"{run.split.split_id}, seed {run.seed}": json.loads(_history_file(store, run).read_text("utf-8"))
        for run in drawing.runs
    }
    _keep(history_figure(histories, title=drawing.title), drawing.file)


def _keep(figure: Figure, file: Path) -> None:
    file.write_bytes(figure.data)
    words = {"caption": figure.caption, "alt": figure.alt}
    file.with_suffix(".json").write_text(json.dumps(words), encoding="utf-8")
