"""Progress on a console: a live bar in a terminal, one line per run elsewhere."""

from __future__ import annotations

import sys
from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bar

from cellular_bench.benchmark.plan.run import PlannedRun
from cellular_bench.benchmark.schema.records import RunRecord
from cellular_bench.core.text import MOST_NAME, MOST_REASON, cut, one_line, visible
from cellular_bench.workflows.progress import Progress

_MARKS = {"ok": "green", "not_applicable": "yellow"}


class ConsoleProgress(Progress):
    """Prints messages and each run as it ends; warnings go to standard error.

    Parameters
    ----------
    console
        Where to print. By default standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        if console is None:
            # In a notebook, rich would show each piece apart, in colours that the streams lack.
            in_notebook = "ipykernel" in sys.modules
            console = Console(force_jupyter=False, force_terminal=False if in_notebook else None)
        self.console = console
        self.total = 0
        self.counts: Counter[str] = Counter()
        self._bar: Bar | None = None

    def message(self, text: str) -> None:
        """Print a line."""
        self._print(visible(text), markup=False)

    def warning(self, text: str) -> None:
        """Print a line to standard error, also if messages are not shown."""
        print(visible(text), file=sys.stderr)

    def begin(self, n_runs: int) -> None:
        """Show the bar."""
        self.total, self.counts = n_runs, Counter()
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._bar.add_task("preparing", total=n_runs)
        self._bar.start()

    def started(self, run: PlannedRun) -> None:
        """Show what is running."""
        if self._bar is not None:
            text = f"{run.task} {run.method.method_id} {run.split.split_id}"
            self._bar.update(self._bar.task_ids[0], description=escape(one_line(text, MOST_NAME)))

    def finished(self, record: RunRecord) -> None:
        """Print how a run ended."""
        if not record.is_canary:
            self.counts[record.status] += 1
        done = f"{sum(self.counts.values()):>{len(str(self.total))}}/{self.total}"
        seconds = f"{record.cost.wall_time_s:8.1f} s" if record.cost else ""
        colour = _MARKS.get(record.status, "red")
        of = record.method
        genes = of.preprocessing.name if of.preprocessing else of.given_features
        if self._bar is not None and not record.is_canary:
            self._bar.advance(self._bar.task_ids[0])
        data, method = (
            escape(one_line(text, MOST_REASON))
            for text in (f"{record.dataset.dataset_id} {record.split.split_id}", record.method.method_id)
        )
        self._print(
            r"\[leak canary]" if record.is_canary else f"[{done}]",
            f"[{colour}]{record.status:<14}[/]",
            f"{seconds} {record.task} {data}",
            f"[bold]{method}[/]{f' ({genes})' if genes else ''} seed {record.seed}",
        )
        if record.reason:
            self.message(f"    {cut(record.reason)}")

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def _print(self, *parts: str, markup: bool = True) -> None:
        self.console.print(*parts, markup=markup, highlight=False, soft_wrap=True)
