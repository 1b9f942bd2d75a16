"""Evaluate many metrics on one output, computing what they share only once."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.benchmark.errors import UndefinedError, UnknownNameError
from cellular_bench.metrics.clusterings import communities, kmeans
from cellular_bench.metrics.distances import Neighbors, Survey, survey
from cellular_bench.metrics.graphs import connectivities
from cellular_bench.metrics.inputs import Ints, encode
from cellular_bench.metrics.local_diversity import perplexity_weights
from cellular_bench.metrics.silhouettes import silhouettes_by_label
from cellular_bench.metrics.spec import METRICS

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Arguments that the method under test owes; what else is missing, the data set lacks.
METHOD_OUTPUTS = frozenset({"X_emb", "label_pred", "label_proba", "labels", "novelty", "rejected"})


def _neighbors(survey: Survey) -> Neighbors:
    return survey.neighbors


def _label_codes(X_emb: ArrayLike, label: ArrayLike) -> Ints:
    return encode(label, "label", n_obs=len(np.asarray(X_emb)))[1]


def _batch_codes(X_emb: ArrayLike, batch: ArrayLike) -> Ints:
    return encode(batch, "batch", n_obs=len(np.asarray(X_emb)))[1]


def _graph(neighbors: Neighbors) -> csr_matrix:
    """UMAP's graph of the default number of neighbours."""
    return connectivities(neighbors)


#: Quantities that metrics share: name of the argument -> the function that computes it. The
#: arguments of such a function are resolved like those of a metric.
DERIVED: dict[str, Callable[..., object]] = {
    "label_codes": _label_codes,
    "batch_codes": _batch_codes,
    "survey": survey,
    "neighbors": _neighbors,
    "graph": _graph,
    "neighbor_weights": perplexity_weights,
    "label_silhouettes": silhouettes_by_label,
    "leiden_clusters": communities,
    "kmeans_clusters": kmeans,
}

#: Groups that the shared pass does without where they are unusable; metrics that need them say why.
CODES = frozenset({"label_codes", "batch_codes"})


def evaluate(metric_ids: Sequence[str], inputs: Mapping[str, object]) -> dict[str, float | UndefinedError]:
    """Return the value of each metric, or the reason why it has none.

    Parameters
    ----------
    metric_ids
        Which metrics; the result has their order.
    inputs
        Arrays by the names that the metric functions use for their arguments (``X_emb``,
        ``X_pre``, ``batch``, ``label``, ``label_pred``...). None counts as absent. A value may
        also be an :class:`UndefinedError`, which every metric that needs it then reports.

    Returns
    -------
    A finite float or an :class:`UndefinedError` per metric. One metric's failure, a programming
    error included, never costs the others: it is reported as ``metric failed: ...``.

    Raises
    ------
    UnknownNameError
        If no metric has one of the ids.

    Examples
    --------
    >>> evaluate(["accuracy"], {"label": ["a", "b"], "label_pred": ["a", "a"]})
    {'accuracy': 0.5}
    """
    for metric_id in metric_ids:
        if metric_id not in METRICS:
            raise UnknownNameError("metric", metric_id, METRICS)
    context = _Context(inputs)
    return {metric_id: _value(metric_id, context) for metric_id in metric_ids}


def _value(metric_id: str, context: _Context) -> float | UndefinedError:
    spec = METRICS[metric_id]
    try:
        value = float(spec.function(**context.arguments(spec.function)))
    except UndefinedError as error:
        return error
    except Exception as error:  # reported as this metric's score, so that the others survive
        return _failure(error)
    if not math.isfinite(value):
        return UndefinedError(f"metric failed: it returned {value}", by_output=True)
    return value


def _failure(error: Exception) -> UndefinedError:
    undefined = UndefinedError(f"metric failed: {type(error).__name__}: {error}", by_output=True)
    undefined.__cause__ = error
    return undefined


class _Context:
    """The inputs of one evaluation and everything derived from them so far."""

    def __init__(self, inputs: Mapping[str, object]) -> None:
        self._values = {name: value for name, value in inputs.items() if value is not None}

    def arguments(self, function: Callable[..., object]) -> dict[str, object]:
        """Resolve the arguments of a function by their names; absent optional ones are left out."""
        found = {}
        for name, parameter in inspect.signature(function).parameters.items():
            optional = parameter.default is not inspect.Parameter.empty
            if name in self._values or name in DERIVED:
                if not (optional and name in CODES and isinstance(self._look_up(name), UndefinedError)):
                    found[name] = self._get(name)
            elif not optional:
                who = "the method did not return" if name in METHOD_OUTPUTS else "there is no"
                raise UndefinedError(
                    f"needs '{name}', but {who} '{name}' for this run", by_output=name in METHOD_OUTPUTS
                )
        return found

    def _look_up(self, name: str) -> object:
        if name not in self._values:
            self._values[name] = self._derive(name)
        return self._values[name]

    def _get(self, name: str) -> object:
        value = self._look_up(name)
        if isinstance(value, UndefinedError):
            # A fresh one: each score owns its error, and tracebacks do not pile up on a shared one.
            raise UndefinedError(str(value), by_output=value.by_output) from value.__cause__
        return value

    def _derive(self, name: str) -> object:
        function = DERIVED[name]
        try:
            return function(**self.arguments(function))
        except UndefinedError as error:
            return error
        except Exception as error:  # every metric that needs this quantity reports it
            return _failure(error)
