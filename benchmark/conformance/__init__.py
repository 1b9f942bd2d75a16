"""Whether a method keeps the promises of the interface: one list of checks for tests and for users.

``run-benchmark check METHOD`` and the test suite run the same checks, each on small simulated data. Metrics
have another list, and so have data sets, which are loaded and validated.
A method may be excused from a check by naming it, with a reason, in ``spec.expected_failed_checks``.
"""

from __future__ import annotations

import importlib.util
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cellular_bench.benchmark.conformance.check import BrokenPromiseError, Check
from cellular_bench.benchmark.conformance.checklist import CHECKS
from cellular_bench.benchmark.conformance.subject import SkippedError, Subject
from cellular_bench.core import keys
from cellular_bench.core.errors import ContractError, NotApplicableError
from cellular_bench.core.types import DatasetSpec, MethodSpec, MetricSpec

__all__ = [
    "Check",
    "CheckResult",
    "CheckStatus",
    "check_dataset",
    "check_method",
    "check_metric",
    "checks",
    "each_check",
    "each_metric_check",
]

CheckStatus = Literal["passed", "failed", "expected_failure", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How a check of one method ended.

    Attributes
    ----------
    message
        What was found, or why nothing was looked for; empty where the check passed.
    hint
        How to fix it; empty unless the check failed.
    """

    check_id: str
    status: CheckStatus
    message: str = ""
    hint: str = ""


def checks() -> tuple[Check, ...]:
    """Return every check, in the order in which they are reported."""
    return CHECKS


def check_method(method_class: Any, *, params: Mapping[str, Any] | None = None) -> tuple[CheckResult, ...]:
    """Run every check on a method.

    Parameters
    ----------
    method_class
        The class, with its ``spec``.
    params
        Parameters of its constructor that differ from the defaults and from ``spec.check_params``.

    Returns
    -------
    tuple of CheckResult
        One for each of :func:`checks`.

    Examples
    --------
    >>> from cellular_bench.methods.unintegrated import Unintegrated
    >>> sorted({result.status for result in check_method(Unintegrated)})
    ['passed', 'skipped']
    """
    return tuple(each_check(method_class, params=params))


def each_check(method_class: Any, *, params: Mapping[str, Any] | None = None) -> Iterator[CheckResult]:
    """Make the checks of :func:`check_method` and yield each result as it comes."""
    spec = getattr(method_class, "spec", None)
    short = spec.check_params if isinstance(spec, MethodSpec) else {}
    subject = Subject(method_class=method_class, params={**short, **(params or {})})
    sane = _result(CHECKS[0], subject)
    yield sane
    why = _obstacle(subject, sane)
    for check in CHECKS[1:]:
        skipped = CheckResult(check_id=check.check_id, status="skipped", message=why)
        yield skipped if why else _result(check, subject)


def _obstacle(subject: Subject, sane: CheckResult) -> str:
    if sane.status == "failed":
        return f"needs the check '{sane.check_id}' to pass"
    missing = [name for name in subject.spec.requires if importlib.util.find_spec(name) is None]
    if missing:
        return f"needs {', '.join(missing)}, which is not installed"
    not_given = [name for name in subject.spec.needs_params if name not in subject.params]
    return f"needs the parameter {', '.join(not_given)}" if not_given else ""


def check_metric(spec: MetricSpec) -> tuple[CheckResult, ...]:
    """Run every check of metrics on one that is registered.

    Examples
    --------
    >>> from cellular_bench.metrics import accuracy
    >>> {result.status for result in check_metric(accuracy.spec)}
    {'passed'}
    """
    return tuple(each_metric_check(spec))


def each_metric_check(spec: MetricSpec) -> Iterator[CheckResult]:
    """Make the checks of :func:`check_metric` and yield each result as it comes."""
    from cellular_bench.benchmark.conformance.metrics import METRIC_CHECKS, MetricSubject

    subject = MetricSubject(spec)
    for check in METRIC_CHECKS:
        yield _result(check, subject)


def check_dataset(spec: DatasetSpec) -> tuple[CheckResult, ...]:
    """Load a data set twice: it must keep the data contract, and be the same each time."""
    from cellular_bench.benchmark.conformance.datasets import DATASET_CHECKS, DatasetSubject

    subject = DatasetSubject(spec)
    return tuple(_result(check, subject) for check in DATASET_CHECKS)


def _result(check: Check, subject: Any) -> CheckResult:
    try:
        check.run(subject)
    except (SkippedError, NotApplicableError) as reason:
        return CheckResult(check_id=check.check_id, status="skipped", message=_text(reason))
    except (Exception, SystemExit) as error:
        return _failure(check, subject, error)
    return CheckResult(check_id=check.check_id, status="passed")


def _failure(check: Check, subject: Any, error: BaseException) -> CheckResult:
    spec = getattr(getattr(subject, "method_class", None), "spec", None)
    excuse = spec.expected_failed_checks.get(check.check_id) if isinstance(spec, MethodSpec) else None
    if excuse:
        return CheckResult(check_id=check.check_id, status="expected_failure", message=excuse)
    found = _text(error) if isinstance(error, BrokenPromiseError | ContractError) else _raised(error)
    message = f"Promised: {check.claim} Found: {found}"
    return CheckResult(check_id=check.check_id, status="failed", message=message, hint=check.hint)


def _raised(error: BaseException) -> str:
    """Say what was raised and where: the last line of the method itself, before it went into libraries."""
    harness = (str(Path(__file__).resolve().parents[1]), str(Path(keys.__file__).resolve().parent))
    elsewhere = (*harness, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not str(Path(frame.filename).resolve()).startswith(elsewhere)]
    last = (own or frames)[-1]
    where = f"{Path(last.filename).name}, line {last.lineno}: {last.line}"
    return f"it raised {type(error).__name__}: {_text(error)} ({where})"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as unsaid:
        return f"(no text: its __str__ raised {type(unsaid).__name__})"
