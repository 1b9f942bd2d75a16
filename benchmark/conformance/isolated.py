"""The checks of a method or metric in a separate process: whatever it does, they are reported.

The process writes each result to a file, from which it is read while the next check is made.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.conformance import Check, CheckResult, checks, each_check, each_metric_check
from cellular_bench.benchmark.conformance.metrics import METRIC_CHECKS
from cellular_bench.benchmark.isolation import scratch
from cellular_bench.benchmark.isolation.call import Ended, call
from cellular_bench.benchmark.schema.records import Limits

LOG = logging.getLogger(__name__)
#: These only keep a defect from hanging the command: methods that start R for each check take minutes.
LIMITS = Limits(time_limit_s=4 * 3600, memory_limit_mib=64 * 1024)
LOOK_S = 0.2
#: What is shown of the output of a process that did not end well.
LAST_LINES = 12
_EXITED = "The process ended with exit code 0 during this check. A method must not exit."
_HINT = (
    "Find what ends the process: os._exit, a crash in compiled code, a kill from elsewhere, or an error such "
    "as KeyboardInterrupt. What it printed, if anything, is above."
)

Kind = Literal["method", "metric"]


def check_isolated(
    kind: Kind, name: str, *, plugins: Sequence[Path] = (), params: Mapping[str, Any] | None = None
) -> Iterator[CheckResult]:
    """Make every check of a method or metric in another process, and yield each result as it comes.

    Parameters
    ----------
    name
        As it is registered, in one of the plug-ins or elsewhere.
    plugins
        Files that the process imports.
    params
        Parameters of a method's constructor, as :func:`.check_method` takes them.

    Yields
    ------
    CheckResult
        One for each check. A check during which the process ended has failed, and later ones are skipped.
        Where the process did not end well after the last one, there is another that failed, ``process``.
    """
    promised = checks() if kind == "method" else METRIC_CHECKS
    files = tuple(path.resolve() for path in plugins)
    with scratch.folder() as folder, ThreadPoolExecutor(1) as pool:
        results, log = folder / "results.jsonl", folder / "log.txt"
        cancelled = threading.Event()
        future = pool.submit(
            call, _check, kind, name, files, params, results,
            limits=LIMITS, log=log, cancelled=cancelled,
        )  # fmt: skip
        try:
            n_done = 0
            for result in _followed(results, future):
                n_done += 1
                yield result
            output = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            LOG.info("%s printed:\n%s", name, output or "nothing")
            yield from _after(future.result(), promised[n_done:], output)
        finally:
            cancelled.set()


def _check(
    kind: Kind, name: str, plugins: Sequence[Path], params: Mapping[str, Any] | None, results: Path
) -> None:
    faulthandler.enable()  # so that a crash in compiled code says which line called it
    registry.load(plugins)
    if kind == "method":
        found = each_check(registry.method(name, plugins).factory, params=params)
    else:
        found = each_metric_check(registry.metrics(plugins)[name])
    with results.open("a", encoding="utf-8") as file:
        for result in found:
            file.write(f"{json.dumps(asdict(result))}\n")
            file.flush()


def _followed(results: Path, future: Future[Ended]) -> Iterator[CheckResult]:
    n_read = 0
    has_ended = False
    while not has_ended:
        wait([future], timeout=LOOK_S)
        has_ended = future.done()  # asked before reading, so that nothing is written after the last look
        lines = results.read_text(encoding="utf-8").splitlines(keepends=True) if results.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        for line in whole[n_read:]:
            found: dict[str, Any] = json.loads(line)
            # Halves of characters cannot be printed.
            yield CheckResult(**{key: text.encode(errors="replace").decode() for key, text in found.items()})
        n_read = len(whole)


def _after(ended: Ended, left: Sequence[Check], output: str) -> Iterator[CheckResult]:
    """Account for the checks that were not made, and for a process that did not end well."""
    if left:
        yield _failed(left[0].check_id, left[0].claim, ended.reason or _EXITED, output)
        why = f"the process ended during the check '{left[0].check_id}'"
        for check in left[1:]:
            yield CheckResult(check_id=check.check_id, status="skipped", message=why)
    elif ended.status != "ok":
        claim = "after the last check, its process ends by itself."
        yield _failed("process", claim, ended.reason or "it did not.", output)


def _failed(check_id: str, claim: str, found: str, output: str) -> CheckResult:
    shown = "".join(f"\n  {line}" for line in _telling(output.splitlines()))
    end = f"\nFrom its output:{shown}" if shown else ""
    return CheckResult(
        check_id=check_id, status="failed", message=f"Promised: {claim} Found: {found}{end}", hint=_HINT
    )


def _telling(lines: Sequence[str]) -> list[str]:
    """Return the last lines; of a crash in compiled code the first ones, which hold the latest calls."""
    printed = [line for line in lines if line.strip()]
    crash = next((at for at, line in enumerate(printed) if line.startswith("Fatal Python error")), None)
    return printed[-LAST_LINES:] if crash is None else printed[crash : crash + LAST_LINES]
