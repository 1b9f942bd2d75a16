"""The page of a benchmark that runs: what is done, what failed, what is left."""

from __future__ import annotations

from datetime import UTC, datetime

from cellular_bench.benchmark.results.progress import Overview
from cellular_bench.reports.page.templating import render_page
from cellular_bench.reports.tables.model import Cell, Table, TableRow, columns, count_cell


def live_page(seen: Overview, *, title: str, interval: float, now: datetime | None = None) -> str:
    """Return the page; while the benchmark is active it reloads itself every ``interval`` seconds."""
    now = now or datetime.now(UTC)
    done = sum(seen.statuses.values())
    running = sorted(seen.running.items())
    return render_page(
        "live.html.j2",
        title=title,
        seen=seen,
        done=done,
        state="running" if seen.is_active else "complete" if done == seen.n_planned else "stopped",
        left="" if done == seen.n_planned else _left(seen.seconds_left),
        written=f"{now:%Y-%m-%d %H:%M:%S} UTC",
        tables=[_counts(seen), *([_failures(seen)] if seen.failures else [])],
        running=[(run_id, (now - run.started_at).total_seconds()) for run_id, run in running],
        interval=interval,
    )


def _counts(seen: Overview) -> Table:
    counts = {status.replace("_", " "): n for status, n in sorted(seen.statuses.items())}
    counts |= {"running": len(seen.running), "waiting": seen.n_waiting}
    shares = {name: Cell(f"{100 * n / seen.n_planned:.0f} %") for name, n in counts.items() if n}
    return Table(
        table_id="counts",
        title="So far",
        caption="Runs that have ended, by outcome, and what is left.",
        head="Outcome",
        columns=columns("number", "Runs", "Share"),
        rows=tuple(TableRow(name, (count_cell(counts[name]), share)) for name, share in shares.items()),
    )


def _failures(seen: Overview) -> Table:
    failures = sorted((-n, status.replace("_", " "), reason) for (status, reason), n in seen.failures.items())
    return Table(
        table_id="failures",
        title="Without scores",
        caption="Runs without scores, by reason.",
        head="Outcome",
        columns=(*columns("wide", "Reason"), *columns("number", "Runs")),
        rows=tuple(TableRow(status, (Cell(reason), count_cell(-n))) for n, status, reason in failures),
    )


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "Time left is not known before the first run has ended."
    if seconds < 100:
        return f"About {seconds:.0f} s left."
    return f"About {seconds / 60:.0f} min left." if seconds < 6000 else f"About {seconds / 3600:.1f} h left."
