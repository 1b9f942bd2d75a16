"""Turn results that others publish into a result folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.external import open_problems, scib_metrics
from cellular_bench.benchmark.external.rank_comparison import ways
from cellular_bench.benchmark.results.store import Store
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.benchmark.schema.suite import Block, MethodChoice, SplitChoice, Suite
from cellular_bench.core.files import write_text_atomically
from cellular_bench.reports.text.rank_comparison import rules_markdown


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was imported.

    Attributes
    ----------
    n_left_out
        Results that name no data set.
    deviation
        Largest difference between the published mean scores and those computed here by the same rule; None
        if none are published.
    comparison
        File that compares the published ranking with ours.
    """

    runs: Sequence[RunRecord]
    n_left_out: int = 0
    deviation: float | None = None
    comparison: Path | None = None


def import_open_problems(files: Sequence[Path], out: Path) -> Imported:
    """Import the lists of one task of Open Problems, and compare their ranking with ours.

    Raises
    ------
    UserError
        If the files are not such lists, or the published means are not reproduced.
    """
    published = open_problems.read(files)
    runs = open_problems.records(published)
    deviation = open_problems.check(published, runs)
    _write(out, runs, suite_id=open_problems.SUITE_ID, title=open_problems.title(published))
    boards = build_boards(runs, registry.metrics().values())
    comparison = out / "open-problems.md"
    text = rules_markdown(ways(boards, runs), title=open_problems.title(published))
    write_text_atomically(comparison, text)
    n_left_out = len(published.results) - len(runs)
    return Imported(runs=runs, n_left_out=n_left_out, deviation=deviation, comparison=comparison)


def import_scib_metrics(
    file: Path, out: Path, *, dataset_id: str, saw_labels: Sequence[str] = ()
) -> Imported:
    """Import a table of scib-metrics' Benchmarker: a row per embedding, a column per metric.

    Parameters
    ----------
    saw_labels
        Embeddings that were made with the labels they are scored on.

    Raises
    ------
    UserError
        If the file is no such table.
    """
    runs = scib_metrics.records(
        scib_metrics.read(file),
        dataset_id=dataset_id,
        finished_at=scib_metrics.written_at(file),
        saw_labels=saw_labels,
    )
    _write(out, runs, suite_id=scib_metrics.SUITE_ID, title=f"scib-metrics: {dataset_id}")
    return Imported(runs=runs)


def _write(out: Path, runs: Sequence[RunRecord], *, suite_id: str, title: str) -> None:
    """Write records into a new result folder, with a suite that asks for them."""
    block = Block(
        task=runs[0].task,
        datasets=tuple(dict.fromkeys(run.dataset.dataset_id for run in runs)),
        methods=(MethodChoice(method_id="all"),),
        splits=(SplitChoice(kind=runs[0].split.kind),),
    )
    # What others publish are metrics of scib, whose weights have a name here.
    weights = "scib" if registry.task(runs[0].task).has_rule("scib") else None
    store = Store.create(out, Suite(suite_id=suite_id, title=title, blocks=(block,), weights=weights))
    with store.locked():
        for run in runs:
            store.write(run)
