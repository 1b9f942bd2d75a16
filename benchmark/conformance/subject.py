"""A method under test: run as the harness runs it, and watched."""

from __future__ import annotations

import importlib
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellular_bench.benchmark.conformance import data
from cellular_bench.benchmark.errors import NotApplicableError
from cellular_bench.benchmark.keys import LABEL
from cellular_bench.benchmark.types import Corrected, Graph, MethodSpec, Prediction

if TYPE_CHECKING:
    from anndata import AnnData


class SkippedError(Exception):
    """A check does not apply to this method, or cannot be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """A run of a method, and what it did beside returning something.

    Attributes
    ----------
    X_emb, prediction
        What ``embed`` or ``fit_embed``, and ``predict``, returned; None where not asked for. Corrected
        expression stands for the embedding where it comes without one.
    corrected, graph
        The corrected expression, and the weights of the links between cells, where it returned these.
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
    corrected: Any = None
    graph: Any = None


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
            raise SkippedError("needs the check 'runs' to pass")
        return self.attempt

    @property
    def shaped(self) -> Observed:
        """The plain run, where its output has the right shape."""
        if shape_problem(self.plain, self.example.query.n_obs):
            raise SkippedError("needs the check 'output_shape' to pass")
        return self.plain

    @property
    def sound(self) -> Observed:
        """The plain run, where its output has the right shape and is finite."""
        if not_finite(self.shaped):
            raise SkippedError("needs the check 'finite' to pass")
        return self.plain

    def require_sound(self) -> None:
        """Skip a check of unusual data where the method fails already on usual ones."""
        _ = self.sound

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
            returned, prediction, fitted = self._call(train, query)
            generators, files = changed(), tuple(sorted(path.name for path in folder.iterdir()))
        parts = (data.difference(*pair) for pair in zip(before, (train, query), strict=True))
        return Observed(
            **_parts(returned),
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
        shown = without_labels(query) if self.spec.labels != "all" else query.copy()
        return self._asked(observed, shown)

    def peeking(self, observed: Observed) -> Observed:
        """Ask a fitted method about cells that carry the labels that the harness would hide."""
        if not self._has_fitted:
            return self.observe(self.example, with_labels=True)
        return self._asked(observed, self.example.query.copy())

    def _asked(self, observed: Observed, query: AnnData) -> Observed:
        with _workbench(), _generators(self.spec, disturb=False):
            returned = observed.fitted.embed(query) if self.embeds else None
            prediction = observed.fitted.predict(query) if self.predicts else None
        return replace(observed, **_parts(returned), prediction=prediction)

    @property
    def _has_fitted(self) -> bool:
        return self.spec.inductive or not self.embeds

    def _seen(self, example: data.Example, *, with_labels: bool) -> tuple[AnnData, AnnData]:
        train, query = example.train.copy(), example.query.copy()
        if self.spec.labels == "none" and not with_labels:
            train = without_labels(train)
        if self.spec.labels != "all" and not with_labels:
            query = without_labels(query)
        return train, query

    def _call(self, train: AnnData, query: AnnData) -> tuple[Any, Any, Any]:
        model = self.method_class(**{"seed": 0, **self.params})
        returned = None
        if self.embeds and not self.spec.inductive:
            returned = model.fit_embed(query)
        if self._has_fitted or self.predicts:
            model.fit(train)
        if self.embeds and self.spec.inductive:
            returned = model.embed(query)
        return returned, model.predict(query) if self.predicts else None, model


def _parts(returned: Any) -> dict[str, Any]:
    """Name what an integrator returned as :class:`Observed` does."""
    if isinstance(returned, Graph):
        return {"X_emb": None, "graph": returned.connectivities}
    if isinstance(returned, Corrected):
        X_emb = returned.X if returned.X_emb is None else returned.X_emb
        return {"X_emb": X_emb, "corrected": returned.X}
    return {"X_emb": returned}


def shape_problem(observed: Observed, n_obs: int) -> str | None:
    """Say which output has not one row or value per cell, if any."""
    if observed.graph is not None and np.shape(observed.graph) != (n_obs, n_obs):
        return f"the graph has shape {np.shape(observed.graph)}, expected ({n_obs}, {n_obs})."
    if observed.corrected is not None:
        shape = np.shape(observed.corrected)
        if len(shape) != 2 or shape[0] != n_obs:
            return f"the corrected expression has shape {shape}, expected ({n_obs}, n_vars)."
    if observed.X_emb is not None:
        shape = np.shape(observed.X_emb)
        if len(shape) != 2 or shape[0] != n_obs or shape[1] == 0:
            return f"the embedding has shape {shape}, expected ({n_obs}, n_latent)."
    if observed.prediction is None:
        return None
    if not isinstance(observed.prediction, Prediction):
        return f"predict returned {type(observed.prediction).__name__}, expected Prediction."
    for name in ("label_pred", "novelty", "rejected"):
        value = getattr(observed.prediction, name)
        if value is not None and np.shape(value) != (n_obs,):
            return f"{name} has shape {np.shape(value)}, expected ({n_obs},)."
    return None


def not_finite(observed: Observed) -> str | None:
    """Say which output holds NaN or infinity, if any."""
    arrays = {"the embedding": observed.X_emb, "the corrected expression": observed.corrected}
    if observed.graph is not None:
        arrays["the graph"] = observed.graph.toarray()
    for name in ("label_proba", "novelty"):
        arrays[name] = getattr(observed.prediction, name, None)
    for name, array in arrays.items():
        if array is None:
            continue
        finite = np.isfinite(np.asarray(array, dtype=np.float64)).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            return f"{name} is NaN or infinite for {int((~finite).sum())} cells."
    return None


def without_labels(adata: AnnData) -> AnnData:
    """Return a copy without its label column."""
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
    """Yield a function that names the global generators that moved; put all back in the end."""
    torch: Any = importlib.import_module("torch") if "torch" in spec.requires else sys.modules.get("torch")
    original = _states(torch)
    if disturb:
        _seed_all(torch, seed=1)
    start = _fingerprints(torch)
    try:
        yield lambda: tuple(name for name, state in _fingerprints(torch).items() if state != start[name])
    finally:
        random.setstate(original["random"])
        np.random.set_state(original["numpy.random"])  # noqa: NPY002 - the state that is watched
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
    """Digest the state of each generator, whatever type it has."""
    states = _states(torch)
    kind, key, *rest = states["numpy.random"]
    states["numpy.random"] = kind, key.tobytes(), *rest
    if torch is not None:
        states["torch"] = states["torch"].numpy().tobytes()
    return {name: sha256(repr(state).encode()).hexdigest() for name, state in states.items()}


def _seed_all(torch: Any, *, seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - as above
    if torch is not None:
        torch.manual_seed(seed)
