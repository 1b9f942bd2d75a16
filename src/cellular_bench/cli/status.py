"""``run-benchmark status``: how far a benchmark is."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellular_bench.cli import messages
from cellular_bench.cli.options import EXISTING_FOLDER
from cellular_bench.core.text import MOST_REASON, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cellular_bench.benchmark.results.progress import Overview


@click.command(
    "status",
    epilog="""\b
Examples:
  run-benchmark status results""",
)
@click.argument("folder", type=EXISTING_FOLDER)
def command(folder: Path) -> None:
    """Say how far the benchmark of a result folder is: counts, failures by reason, time left."""
    from cellular_bench.benchmark.results.progress import overview
    from cellular_bench.benchmark.results.store import Store

    for line in lines(overview(Store.open(folder))):
        messages.echo(line)


def lines(seen: Overview) -> Iterator[str]:
    """Say in words what was seen of a result folder."""
    done = sum(seen.statuses.values())
    state = "running" if seen.is_active else ("complete" if done == seen.n_planned else "stopped")
    yield f"{done} of {seen.n_planned} runs done; {state}."
    for status, count in sorted(seen.statuses.items()):
        yield f"  {status.replace('_', ' '):<14} {count:>5}"
    if seen.n_canaries:
        yield f"  leak canaries  {seen.n_canaries_done:>5} of {seen.n_canaries}"
    if seen.n_waiting:
        yield f"  {'waiting':<14} {seen.n_waiting:>5}"
    for run_id, running in sorted(seen.running.items()):
        seconds = (datetime.now(UTC) - running.started_at).total_seconds()
        yield f"  running for {seconds:.0f} s on {one_line(running.host)} (process {running.pid}): {run_id}"
    if seen.interrupted:
        yield f"Interrupted, to be done again: {len(seen.interrupted)}, the first is {seen.interrupted[0]}"
    for (status, reason), count in sorted(seen.failures.items(), key=lambda item: -item[1]):
        yield f"{count} x {status.replace('_', ' ')}: {one_line(reason, MOST_REASON)}"
    for damaged in seen.damaged:
        yield f"Damaged record, to be done again: {one_line(damaged.reason)}"
    if seen.n_other:
        yield f"{seen.n_other} more records are of earlier requests."
    if done < seen.n_planned:
        yield f"Time left: {_words(seen.seconds_left)}"


def _words(seconds: float | None) -> str:
    if seconds is None:
        return "not known before the first run has ended."
    if seconds < 100:
        return f"about {seconds:.0f} s."
    minutes = seconds / 60
    return f"about {minutes:.0f} min." if minutes < 100 else f"about {minutes / 60:.1f} h."
