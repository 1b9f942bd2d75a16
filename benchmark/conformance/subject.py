"""A method under test: run as the harness runs it, and watched."""

from __future__ import annotations

import importlib
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellular_bench.benchmark.conformance import data
from cellular_bench.benchmark.conformance.observed import Observed, asked
from cellular_bench.core.errors import ContractError, NotApplicableError, NotFiniteError
from cellular_bench.core.keys import LABEL
from cellular_bench.core.types import MethodSpec

if TYPE_CHECKING:
    from anndata import AnnData


class SkippedError(Exception):
    """A check does not apply to this method, or cannot be made."""


@dataclass(kw_only=True)
class Subject:
    """The method under test, run on demand and once only where several checks look at the same run."""

    method_class: Any
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def spec(self) -> MethodSpec:
        """Its declaration."""
        return self.method_class.spec  # type: ignore[no-any-return]

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
            raise SkippedError("needs the check 'runs' to pass")
        return self.attempt

    @property
    def shaped(self) -> Observed:
        """The plain run, where its output has the form that a run takes."""
        if self._failing == "output_shape":
            raise SkippedError("needs the check 'output_shape' to pass")
        return self.plain

    @property
    def sound(self) -> Observed:
        """The plain run, where its output is one that a run takes."""
        if self._failing:
            raise SkippedError(f"needs the check '{self._failing}' to pass")
        return self.plain

    @property
    def _failing(self) -> str | None:
        """The check of the output of the plain run that fails, if one does."""
        try:
            _ = self.plain.outputs
        except NotFiniteError:
            return "finite"
        except ContractError:
            return "output_shape"
        return None

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
            model = self.method_class(**{"seed": 0, **self.params})
            returned = _answers(model, asked(self.spec, fitted=False), query)
            if after_fitting := asked(self.spec, fitted=True):
                model.fit(train)
                returned |= _answers(model, after_fitting, query)
            generators, files = changed(), tuple(sorted(path.name for path in folder.iterdir()))
        parts = (data.difference(*pair) for pair in zip(before, (train, query), strict=True))
        return Observed(
            spec=self.spec,
            obs_names=before[1].obs_names,
            var_names=before[1].var_names,
            returned=returned,
            fitted=model,
            input_changed=next((part for part in parts if part), None),
            generators_changed=generators,
            files=files,
        )

    def again(self, observed: Observed, query: AnnData, *, with_labels: bool = False) -> Observed:
        """Ask a fitted method about some cells; a transductive one starts from scratch."""
        example = data.Example(train=self.example.train, query=query)
        if asked(self.spec, fitted=False):
            return self.observe(example, with_labels=with_labels)
        _, shown = self._seen(example, with_labels=with_labels)
        obs_names, var_names = shown.obs_names.copy(), shown.var_names.copy()
        with _workbench(), _generators(self.spec, disturb=False):
            returned = _answers(observed.fitted, asked(self.spec, fitted=True), shown)
        return replace(observed, obs_names=obs_names, var_names=var_names, returned=returned)

    def _seen(self, example: data.Example, *, with_labels: bool) -> tuple[AnnData, AnnData]:
        train, query = example.train.copy(), example.query.copy()
        if self.spec.labels == "none" and not with_labels:
            train = without_labels(train)
        if self.spec.labels != "all" and not with_labels:
            query = without_labels(query)
        return train, query


def _answers(model: Any, functions: Sequence[str], query: AnnData) -> dict[str, Any]:
    return {name: getattr(model, name)(query) for name in functions}


def without_labels(adata: AnnData) -> AnnData:
    """Return a copy without its label column."""
    shown = adata.copy()
    del shown.obs[LABEL]
    return shown


@contextmanager
def _workbench() -> Iterator[Path]:
    """Work in an empty folder. If the method forks, the child ends here: it would make all checks again."""
    owner = os.getpid()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        try:
            yield Path(folder)
        finally:
            if os.getpid() != owner:
                os._exit(0)


@contextmanager
def _generators(spec: MethodSpec, *, disturb: bool) -> Iterator[Callable[[], tuple[str, ...]]]:
    """Yield a function that names the global generators that moved; put all back in the end."""
    torch: Any = importlib.import_module("torch") if "torch" in spec.requires else sys.modules.get("torch")
    original = _states(torch)
    if disturb:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 - the state that is watched
        if torch is not None:
            torch.manual_seed(1)
    start = _fingerprints(torch)
    try:
        yield lambda: tuple(name for name, state in _fingerprints(torch).items() if state != start[name])
    finally:
        random.setstate(original["random"])
        np.random.set_state(original["numpy.random"])  # noqa: NPY002 - as above
        if torch is not None:
            torch.set_rng_state(original["torch"])


def _states(torch: Any) -> dict[str, Any]:
    states: dict[str, Any] = {
        "random": random.getstate(),
        "numpy.random": np.random.get_state(),  # noqa: NPY002 - as above
    }
    if torch is not None:
        states["torch"] = torch.get_rng_state()
    return states


def _fingerprints(torch: Any) -> dict[str, str]:
    states = _states(torch)
    kind, key, *rest = states["numpy.random"]
    states["numpy.random"] = kind, key.tobytes(), *rest
    if torch is not None:
        states["torch"] = states["torch"].numpy().tobytes()
    return {name: sha256(repr(state).encode()).hexdigest() for name, state in states.items()}
