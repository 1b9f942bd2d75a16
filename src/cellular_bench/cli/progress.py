"""Progress for people: a live bar in a terminal, one line per run elsewhere."""

from __future__ import annotations

from collections import Counter
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from cellular_bench.benchmark.plan.run import PlannedRun
from cellular_bench.benchmark.schema.records import MethodIdentity, RunRecord

_MARKS = {"ok": "green", "not_applicable": "yellow"}


class RunProgress:
    """Shows each run as it ends, and how many are left."""

    def __init__(self, total: int, *, console: Console) -> None:
        self.console = console
        self.total = total
        self.counts: Counter[str] = Counter()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("preparing", total=total)

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def started(self, run: PlannedRun) -> None:
        """Show what is running."""
        text = f"{run.task} {run.method.method_id} {run.split.split_id}"
        self._bar.update(self._task, description=escape(text))

    def finished(self, record: RunRecord) -> None:
        """Print how a run ended."""
        self.counts[record.status] += 1
        done = sum(self.counts.values())
        seconds = f"{record.cost.wall_time_s:8.1f} s" if record.cost else ""
        colour = _MARKS.get(record.status, "red")
        self._bar.advance(self._task)
        self.console.print(
            f"[{done:>{len(str(self.total))}}/{self.total}]",
            f"[{colour}]{record.status:<14}[/]",
            f"{seconds} {record.task} {record.dataset.dataset_id} {escape(record.split.split_id)}",
            f"[bold]{record.method.method_id}[/]{_genes(record.method)} seed {record.seed}",
            soft_wrap=True,
            highlight=False,
        )
        if record.reason:
            self.console.print(f"    {record.reason}", markup=False, highlight=False, soft_wrap=True)


def _genes(method: MethodIdentity) -> str:
    return f" ({method.given_features})" if method.given_features else ""
