"""Whether a method keeps the promises of the interface: one list of checks for tests and for users.

``run-benchmark check METHOD`` and the test suite run the same checks, each on small simulated data.
A method may be excused from a check by naming it, with a reason, in ``spec.expected_failed_checks``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellular_bench.benchmark import conformance_data as data
from cellular_bench.benchmark.errors import NotApplicableError
from cellular_bench.benchmark.keys import LABEL
from cellular_bench.benchmark.types import TASKS, MethodSpec, Prediction

if TYPE_CHECKING:
    from anndata import AnnData

CheckStatus = Literal["passed", "failed", "expected_failure", "skipped"]

#: How far beyond the share of the most frequent label a method must get to know anything.
BEYOND_CHANCE = 0.15
#: Distances between cells must correlate that well with those of the same cells in another order.
SAME_SHAPE = 0.5
#: Two results are equal within this share of their largest value.
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A promise that every method makes.

    Attributes
    ----------
    check_id
        Name used in ``expected_failed_checks``.
    claim
        What is promised.
    hint
        What to do where it is not kept.
    run
        Raises where the promise is broken.
    """

    check_id: str
    claim: str
    hint: str
    run: Callable[[Subject], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How a check of one method ended.

    Attributes
    ----------
    message
        What was found, or why nothing was looked for; empty where the check passed.
    hint
        How to mend it; empty unless the check failed.
    """

    check_id: str
    status: CheckStatus
    message: str = ""
    hint: str = ""


class _BrokenPromiseError(Exception):
    """A check found what it looks for."""


class _SkippedError(Exception):
    """A check does not apply to this method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A run of a method, and what it did beside returning something.

    Attributes
    ----------
    X_emb, prediction
        What ``embed`` or ``fit_embed``, and ``predict``, returned; None where not asked for.
    fitted
        The instance that saw the training cells.
    input_changed
        Part of the input that was written to.
    generators_changed
        Global random generators that were left in another state.
    files
        What was left in the working folder.
    """

    X_emb: Any
    prediction: Any
    fitted: Any
    input_changed: str | None
    generators_changed: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(kw_only=True)
class Subject:
    """The method under test, run on demand and once only where several checks look at the same run."""

    method_class: Any
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> MethodSpec:
        """Its declaration."""
        return self.method_class.spec  # type: ignore[no-any-return]

    @property
    def embeds(self) -> bool:
        """Whether it can be asked for an embedding."""
        return "integration" in self.spec.tasks

    @property
    def predicts(self) -> bool:
        """Whether it can be asked for labels or novelty."""
        return bool({"annotation", "novelty"} & set(self.spec.tasks))

    @cached_property
    def example(self) -> data.Example:
        """The data of the plain run."""
        return data.simulate()

    @cached_property
    def attempt(self) -> Observed | BaseException:
        """The plain run, or what it raised."""
        try:
            return self.observe(self.example)
        except (Exception, SystemExit) as error:
            return error

    @property
    def plain(self) -> Observed:
        """The plain run; checks that need it are skipped where it did not end well."""
        if isinstance(self.attempt, NotApplicableError):
            raise self.attempt
        if isinstance(self.attempt, BaseException):
            raise _SkippedError("needs the check 'runs' to pass")
        return self.attempt

    @property
    def sound(self) -> Observed:
        """The plain run, where its output has the right shape."""
        if _shape_problem(self.plain, self.example.query.n_obs):
            raise _SkippedError("needs the check 'output_shape' to pass")
        return self.plain

    def observe(self, example: data.Example, *, with_labels: bool = False, disturb: bool = False) -> Observed:
        """Run the method from scratch, as the harness does, and watch it.

        Parameters
        ----------
        with_labels
            Show it labels that the harness would hide.
        disturb
            Start with global generators in another state than the plain run.
        """
        train, query = self._seen(example, with_labels=with_labels)
        before = train.copy(), query.copy()
        with _workbench() as folder, _generators(self.spec, disturb=disturb) as changed:
            X_emb, prediction, fitted = self._call(train, query)
            generators, files = changed(), tuple(sorted(path.name for path in folder.iterdir()))
        parts = (data.difference(*pair) for pair in zip(before, (train, query), strict=True))
        return Observed(
            X_emb=X_emb,
            prediction=prediction,
            fitted=fitted,
            input_changed=next((part for part in parts if part), None),
            generators_changed=generators,
            files=files,
        )

    def again(self, observed: Observed, query: AnnData) -> Observed:
        """Ask a fitted method about other cells; a transductive one starts from scratch."""
        if not self._has_fitted:
            return self.observe(data.Example(train=self.example.train, query=query))
        shown = _without_labels(query) if self.spec.labels != "all" else query.copy()
        return self._asked(observed, shown)

    def _asked(self, observed: Observed, query: AnnData) -> Observed:
        with _workbench(), _generators(self.spec, disturb=False):
            X_emb = observed.fitted.embed(query) if self.embeds else None
            prediction = observed.fitted.predict(query) if self.predicts else None
        return replace(observed, X_emb=X_emb, prediction=prediction)

    @property
    def _has_fitted(self) -> bool:
        return self.spec.inductive or not self.embeds

    def _seen(self, example: data.Example, *, with_labels: bool) -> tuple[AnnData, AnnData]:
        train, query = example.train.copy(), example.query.copy()
        if self.spec.labels == "none" and not with_labels:
            train = _without_labels(train)
        if self.spec.labels != "all" and not with_labels:
            query = _without_labels(query)
        return train, query

    def _call(self, train: AnnData, query: AnnData) -> tuple[Any, Any, Any]:
        model = self.method_class(**{"seed": 0, **self.params})
        X_emb = None
        if self.embeds and not self.spec.inductive:
            X_emb = model.fit_embed(query)
        if self._has_fitted or self.predicts:
            model.fit(train)
        if self.embeds and self.spec.inductive:
            X_emb = model.embed(query)
        return X_emb, model.predict(query) if self.predicts else None, model


def checks() -> tuple[Check, ...]:
    """Return every check, in the order in which they are reported."""
    return _CHECKS


def check_method(
    method_class: Any, *, params: Mapping[str, Any] | None = None
) -> tuple[CheckResult, ...]:
    """Run every check on a method.

    Parameters
    ----------
    method_class
        The class, with its ``spec``.
    params
        Parameters of its constructor that differ from the defaults.

    Returns
    -------
    tuple of CheckResult
        One for each of :func:`checks`.

    Examples
    --------
    >>> from cellular_bench.methods.unintegrated import Unintegrated
    >>> {result.status for result in check_method(Unintegrated)}
    {'passed', 'skipped'}
    """
    subject = Subject(method_class=method_class, params=dict(params or {}))
    sane = _result(_CHECKS[0], subject)
    obstacle = _obstacle(subject, sane)
    if obstacle:
        rest = [CheckResult(check_id=c.check_id, status="skipped", message=obstacle) for c in _CHECKS[1:]]
        return (sane, *rest)
    return (sane, *(_result(check, subject) for check in _CHECKS[1:]))


def _obstacle(subject: Subject, sane: CheckResult) -> str:
    """Say why no run makes sense, if so."""
    if sane.status == "failed":
        return f"needs the check '{sane.check_id}' to pass"
    missing = [name for name in subject.spec.requires if importlib.util.find_spec(name) is None]
    return f"needs {', '.join(missing)}, which is not installed" if missing else ""


def _result(check: Check, subject: Subject) -> CheckResult:
    try:
        check.run(subject)
    except (_SkippedError, NotApplicableError) as reason:
        return CheckResult(check_id=check.check_id, status="skipped", message=str(reason))
    except (Exception, SystemExit) as error:
        return _failure(check, subject, error)
    return CheckResult(check_id=check.check_id, status="passed")


def _failure(check: Check, subject: Subject, error: BaseException) -> CheckResult:
    spec = getattr(subject.method_class, "spec", None)
    excuse = spec.expected_failed_checks.get(check.check_id) if isinstance(spec, MethodSpec) else None
    if excuse:
        return CheckResult(check_id=check.check_id, status="expected_failure", message=excuse)
    found = str(error) if isinstance(error, _BrokenPromiseError) else _raised(error)
    return CheckResult(
        check_id=check.check_id, status="failed", message=f"Promised: {check.claim} Found: {found}", hint=check.hint
    )


def _raised(error: BaseException) -> str:
    return f"it raised {type(error).__name__}: {error}"


def _demand(kept: object, otherwise: str) -> None:
    if not kept:
        raise _BrokenPromiseError(otherwise)


def _without_labels(adata: AnnData) -> AnnData:
    shown = adata.copy()
    del shown.obs[LABEL]
    return shown


@contextmanager
def _workbench() -> Iterator[Path]:
    """Work in an empty folder."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        yield Path(folder)


@contextmanager
def _generators(spec: MethodSpec, *, disturb: bool) -> Iterator[Callable[[], tuple[str, ...]]]:
    """Yield a function that names the global generators that moved; put them back in the end."""
    torch: Any = importlib.import_module("torch") if "torch" in spec.requires else sys.modules.get("torch")
    states = _states(torch)
    if disturb:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 - to see whether a method draws from it
        if torch is not None:
            torch.manual_seed(1)
    start = _states(torch)
    try:
        yield lambda: tuple(name for name, state in _states(torch).items() if state != start[name])
    finally:
        random.setstate(states["random"])
        np.random.set_state(_numpy_state(states["numpy.random"]))  # noqa: NPY002 - as above
        if torch is not None:
            torch.set_rng_state(torch.tensor(list(states["torch"]), dtype=torch.uint8))
