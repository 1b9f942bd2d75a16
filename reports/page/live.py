"""The page of a benchmark that runs: what is done, what failed, what is left."""

from __future__ import annotations

from datetime import UTC, datetime

from cellular_bench.benchmark.results.progress import Overview
from cellular_bench.reports.page.templating import engine


def live_page(seen: Overview, *, title: str, interval: float, now: datetime | None = None) -> str:
    """Return the page; while the benchmark is active it loads itself again, which a reader can stop.

    Parameters
    ----------
    interval
        Seconds after which it loads itself again.
    now
        When it is written; None: now.
    """
    now = now or datetime.now(UTC)
    done = sum(seen.statuses.values())
    counts = [(status.replace("_", " "), n) for status, n in sorted(seen.statuses.items())]
    counts += [("running", len(seen.running)), ("waiting", seen.n_waiting)]
    failures = sorted(((status, reason, n) for (status, reason), n in seen.failures.items()), key=_often)
    return (
        engine()
        .get_template("live.html.j2")
        .render(
            title=title,
            seen=seen,
            done=done,
            state="running" if seen.is_active else "complete" if done == seen.n_planned else "stopped",
            left="" if done == seen.n_planned else _left(seen.seconds_left),
            written=f"{now:%Y-%m-%d %H:%M:%S} UTC",
            counts=[(name, count) for name, count in counts if count],
            running=[
                (run_id, (now - run.started_at).total_seconds())
                for run_id, run in sorted(seen.running.items())
            ],
            failures=failures,
            interval=interval,
        )
    )


def _often(failure: tuple[str, str, int]) -> tuple[int, str, str]:
    status, reason, n = failure
    return -n, status, reason


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "Time left is not known before the first run has ended."
    if seconds < 100:
        return f"About {seconds:.0f} s left."
    return f"About {seconds / 60:.0f} min left." if seconds < 6000 else f"About {seconds / 3600:.1f} h left."
