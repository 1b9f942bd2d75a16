"""The list of the checks of a method; the first is of its description, which all others need."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from cellular_bench.benchmark.conformance.check import Check, demand
from cellular_bench.benchmark.conformance.observed import tasks_of
from cellular_bench.benchmark.conformance.promises import PROMISES
from cellular_bench.benchmark.conformance.subject import Subject
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.core.types import MethodSpec


def _spec_is_sane(subject: Subject) -> None:
    problems = list(_spec_problems(subject.method_class))
    demand(not problems, " ".join(problems))


def _spec_problems(method_class: Any) -> Iterator[str]:
    spec = getattr(method_class, "spec", None)
    if not isinstance(spec, MethodSpec):
        yield "`spec` is no MethodSpec."
        return
    if not re.fullmatch(r"[a-z][a-z0-9_]*", spec.method_id):
        yield f"method_id '{spec.method_id}' is not in lower_snake_case."
    if not spec.name.strip():
        yield "name is empty."
    if not spec.tasks or not set(spec.tasks) <= set(TASKS):
        yield f"tasks are {spec.tasks}, expected some of {', '.join(TASKS)}."
    learns = [task.task_id for task in tasks_of(spec) if task.needs_labels]
    if learns and spec.labels == "none":
        yield f"it does {', '.join(learns)}, but labels is 'none': it would see nothing to learn from."
    unknown = sorted(set(spec.expected_failed_checks) - {check.check_id for check in CHECKS})
    if unknown:
        yield f"expected_failed_checks names unknown checks: {', '.join(unknown)}."
    if not all(reason.strip() for reason in spec.expected_failed_checks.values()):
        yield "expected_failed_checks holds an empty reason."
    if not (vars(method_class).get("__doc__") or "").strip():
        yield "the class has no docstring."
    yield from _missing_functions(method_class, spec)
    yield from _constructor_problems(method_class)


def _missing_functions(method_class: Any, spec: MethodSpec) -> Iterator[str]:
    wanted = {task.asked(spec) for task in tasks_of(spec)}
    if not all(task.is_at_once(spec) for task in tasks_of(spec)):
        wanted.add("fit")
    missing = sorted(name for name in wanted if not callable(getattr(method_class, name, None)))
    if missing:
        yield f"tasks {spec.tasks} with inductive={spec.inductive} need {', '.join(missing)}."


def _constructor_problems(method_class: Any) -> Iterator[str]:
    parameters = inspect.signature(method_class).parameters
    bad = [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY or p.default is p.empty]
    if bad:
        yield f"constructor parameters {', '.join(bad)} are not keyword-only with a default."
    spec = method_class.spec
    named = {*spec.needs_params, *spec.file_params, *spec.method_params}
    if not named <= set(parameters):
        unknown = ", ".join(sorted(named - set(parameters)))
        yield f"needs_params, file_params or method_params name no parameter: {unknown}."
    if "seed" not in parameters:
        yield "the constructor takes no seed."


CHECKS = (
    Check(
        check_id="spec_sane",
        claim="the class says what it is, has what its tasks need, and takes keywords with defaults.",
        hint="Correct the field named above; `run-benchmark new method NAME` writes a class with the usual "
        "ones, the docstring of cellular_bench.MethodSpec describes them.",
        run=_spec_is_sane,
    ),
    *PROMISES,
)
