"""What a workflow reports while it works; whoever calls it decides where that goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellular_bench.benchmark.plan.run import PlannedRun
    from cellular_bench.benchmark.schema.records import RunRecord


class Progress:
    """Messages, and the start and end of every run. This class shows nothing; subclasses do."""

    def message(self, text: str) -> None:
        """Receive a line for the user."""

    def warning(self, text: str) -> None:
        """Receive a line about something that is left out, damaged or ambiguous."""

    def begin(self, n_runs: int) -> None:
        """Receive the number of runs to come, those of leak canaries aside."""

    def started(self, run: PlannedRun) -> None:
        """Receive a run that starts."""

    def finished(self, record: RunRecord) -> None:
        """Receive the record of a run that ended."""

    def end(self) -> None:
        """Learn that no more runs come, also after an error."""


SILENT = Progress()
