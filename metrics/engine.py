"""Evaluate many metrics on one output; shared quantities are computed once."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.core.errors import UndefinedError, UnknownNameError
from cellular_bench.metrics.embedding.batch_tests import label_acceptance
from cellular_bench.metrics.embedding.clusterings import communities, kmeans
from cellular_bench.metrics.embedding.graphs import checked_graph, connectivities, nearest_along
from cellular_bench.metrics.embedding.local_diversity import perplexity_weights
from cellular_bench.metrics.embedding.scib_definitions import scib_communities
from cellular_bench.metrics.embedding.silhouettes import silhouettes_by_label
from cellular_bench.metrics.harm.halves import (
    neighbors_of_calls,
    neighbors_of_calls_along,
    stratum_neighbors,
    stratum_neighbors_along,
)
from cellular_bench.metrics.inputs import Ints, encode, raw_coordinates
from cellular_bench.metrics.numerics.approximate import stratified_sample
from cellular_bench.metrics.numerics.distances import N_NEIGHBORS, Neighbors
from cellular_bench.metrics.numerics.ranks import graph_content, random_ranks, row_content
from cellular_bench.metrics.numerics.shared_distances import SharedDistances, shared_distances
from cellular_bench.metrics.per_cell import CELL_QUANTITIES
from cellular_bench.metrics.profiles import FULL, Profile, Shortcut, profile_of
from cellular_bench.metrics.spec import METRICS, CellValues
from cellular_bench.metrics.structure.geometry import NOTABLE_CHANCE, TypeAgreement, type_agreement
from cellular_bench.metrics.structure.reference import StructureReference
from cellular_bench.metrics.structure.state import neighbours_per_cell

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_Made = TypeVar("_Made")
#: Arguments that the method must return; all others come from the data set.
METHOD_OUTPUTS = frozenset(
    {"X_emb", "X_emb_again", "label_pred", "label_proba", "labels", "neighbors_again", "novelty", "rejected"}
)


def _neighbors(shared_distances: SharedDistances) -> Neighbors:
    return shared_distances.neighbors


def _neighbors_along(graph_distances: csr_matrix, cell_ranks: Ints) -> Neighbors:
    return nearest_along(graph_distances, N_NEIGHBORS, cell_ranks)


def _label_codes(X_emb: ArrayLike, label: ArrayLike) -> Ints:
    return encode(label, "label", n_obs=len(np.asarray(X_emb)))[1]


def _batch_codes(X_emb: ArrayLike, batch: ArrayLike) -> Ints:
    return encode(batch, "batch", n_obs=len(np.asarray(X_emb)))[1]


#: Quantities that metrics share: name of the argument -> the function that computes it. The
#: arguments of such a function are resolved like those of a metric.
DERIVED: dict[str, Callable[..., object]] = {
    "label_codes": _label_codes,
    "batch_codes": _batch_codes,
    "shared_distances": shared_distances,
    "neighbors": _neighbors,
    "graph": connectivities,
    "neighbor_weights": perplexity_weights,
    "label_tests": label_acceptance,
    "kept_neighbours": neighbours_per_cell,
    "label_silhouettes": silhouettes_by_label,
    "leiden_clusters": communities,
    "kmeans_clusters": kmeans,
    "scib_clusters": scib_communities,
    "type_agreement": type_agreement,
    "neighbors_of_calls": neighbors_of_calls,
    "stratum_neighbors": stratum_neighbors,
}
#: Those that are derived from links where the method returned links with lengths instead of coordinates.
ALONG_LINKS: dict[str, Callable[..., object]] = {
    "neighbors": _neighbors_along,
    "neighbors_of_calls": neighbors_of_calls_along,
    "stratum_neighbors": stratum_neighbors_along,
}
#: Random ranks of the cells, from whatever the method returned; computed by the context.
RANKS = "cell_ranks"
#: Groups that the shared pass ignores if they are unusable; metrics that need them report the reason.
CODES = frozenset({"label_codes", "batch_codes"})
#: Metrics with one of these arguments need no neighbours if the method returned a graph.
FROM_GRAPH = frozenset({"graph", "leiden_clusters", "links"})
#: Inputs that are cut to a sample of the cells.
PER_CELL = ("X_emb", "label", "batch")
#: Share of the cells from which neighbours drawn among ties are reported.
NOTABLE_TIES = 0.01
#: Parts of a sample of cells, for the standard error of a value.
N_PARTS = 20


class Evaluation(dict[str, float | UndefinedError]):
    """The value of each metric, or the reason why it has none, and the approximations behind the values.

    Attributes
    ----------
    profile
        Approximations that were allowed.
    shortcuts
        Approximations that were made; empty if every value is exact.
    standard_errors
        Standard errors of the values that are computed on a sample of cells, by metric.
    per_cell
        Values of cells, or the reason why there are none, by the quantities that were asked for.
    """

    def __init__(self, profile: Profile = FULL) -> None:
        super().__init__()
        self.profile = profile
        self.shortcuts: tuple[Shortcut, ...] = ()
        self.standard_errors: dict[str, float] = {}
        self.per_cell: dict[str, CellValues | UndefinedError] = {}


def evaluate(
    metric_ids: Sequence[str],
    inputs: Mapping[str, object],
    *,
    n_jobs: int = 1,
    profile: str | Profile = FULL,
    per_cell: Sequence[str] = (),
) -> Evaluation:
    """Return the value of each metric, or the reason why it has none.

    Parameters
    ----------
    metric_ids
        Metrics; the result has their order.
    inputs
        Arrays by the names of the arguments of the metric functions (``X_emb``, ``X_pre``, ``batch``,
        ``label``, ``label_pred``...). None counts as absent. A value may also be an :class:`UndefinedError`,
        which every metric that needs it then reports. A method without an embedding may return ``neighbors``,
        or as ``graph`` the (n_obs, n_obs) weights of its edges.
    n_jobs
        Number of threads and processes. Values do not depend on it, to the last bit.
    profile
        ``full``: exact. ``standard`` and ``fast``: approximate neighbours, and silhouettes of a sample, if
        there are many cells; see :data:`cellular_bench.metrics.profiles.PROFILES`.
    per_cell
        Quantities whose values of cells are wanted, too; see
        :data:`cellular_bench.metrics.per_cell.CELL_QUANTITIES`.

    Returns
    -------
    A finite float or an :class:`UndefinedError` per metric, as a dictionary. The failure of one metric, even
    by a programming error, does not affect the others: it is reported as ``metric failed: ...``.

    Raises
    ------
    UnknownNameError
        If no metric or quantity has one of the names, or the profile is unknown.

    Examples
    --------
    >>> evaluate(["accuracy"], {"label": ["a", "b"], "label_pred": ["a", "a"]})
    {'accuracy': 0.5}
    """
    for metric_id in metric_ids:
        if metric_id not in METRICS:
            raise UnknownNameError("metric", metric_id, METRICS)
    for name in per_cell:
        if name not in CELL_QUANTITIES:
            raise UnknownNameError("quantity", name, CELL_QUANTITIES)
    chosen = profile_of(profile)
    context = _Context(inputs, {"n_jobs": n_jobs, "profile": chosen})
    sampled = [metric_id for metric_id in metric_ids if METRICS[metric_id].on_sample]
    cells_sampled = any(CELL_QUANTITIES[name].on_sample for name in per_cell)
    sample = context.of_sample(chosen) if sampled or cells_sampled else None
    evaluation = Evaluation(chosen)
    for metric_id in metric_ids:
        evaluation[metric_id] = _value(metric_id, sample if sample and metric_id in sampled else context)
    _describe_shortcuts(
        evaluation, context, on_all=[name for name in evaluation if not sample or name not in sampled]
    )
    if sample and sampled:
        evaluation.shortcuts += (replace(sample.shortcut, metric_ids=tuple(sampled)),)
    for name in per_cell:
        on_sample = sample if sample and CELL_QUANTITIES[name].on_sample else None
        evaluation.per_cell[name] = _cell_values(name, on_sample or context)
    return evaluation


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


def _cell_values(name: str, context: _Context) -> CellValues | UndefinedError:
    function = CELL_QUANTITIES[name].function
    try:
        found = function(**context.arguments(function))
    except UndefinedError as error:
        return error
    except Exception as error:  # reported as this quantity's reason, so that the scores survive
        return _failure(error)
    return context.for_all_cells(found)


def _failure(error: Exception) -> UndefinedError:
    undefined = UndefinedError(f"metric failed: {type(error).__name__}: {error}", by_output=True)
    undefined.__cause__ = error
    return undefined


def _describe_shortcuts(evaluation: Evaluation, context: _Context, on_all: Sequence[str]) -> None:
    """Record which metrics depend on which shortcut, and the standard errors of values of a sample."""
    shortcuts = [
        replace(shortcut, metric_ids=ids)
        for shortcut in _of_structure(context)
        if (ids := tuple(name for name in on_all if name in shortcut.metric_ids))
    ]
    near = context.made("neighbors", Neighbors)
    if near is not None:
        ids = tuple(name for name in on_all if context.rests_on(METRICS[name].function, "neighbors"))
        shortcuts += [replace(shortcut, metric_ids=ids) for shortcut in _of_neighbors(near) if ids]
    made = context.made("shared_distances", SharedDistances)
    if made is None:
        evaluation.shortcuts = tuple(shortcuts)
        return
    for shortcut in made.shortcuts:
        ids = tuple(name for name in on_all if context.rests_on(METRICS[name].function, shortcut.quantity))
        if ids:
            shortcuts.append(replace(shortcut, metric_ids=ids))
        if shortcut.quantity == "silhouettes":
            values = {name: value for name in ids if isinstance(value := evaluation[name], float)}
            evaluation.standard_errors = _standard_errors(values, context, made)
    evaluation.shortcuts = tuple(shortcuts)


def _of_structure(context: _Context) -> Iterator[Shortcut]:
    """Describe what the reference of structure leaves out, and types that chance arranges well."""
    structure = context.made("structure", StructureReference)
    if structure is not None:
        yield from structure.shortcuts
    agreement = context.made("type_agreement", TypeAgreement)
    if agreement is not None and agreement.by_chance > NOTABLE_CHANCE:
        yield Shortcut(
            quantity="chance",
            description=(
                f"Permuted cells score {agreement.by_chance:.2f} in scGraph, because types are few or rare: "
                "the arrangement of the types says little."
            ),
            figures={"by_chance": agreement.by_chance},
            metric_ids=("type_geometry", "scgraph"),
        )


def _of_neighbors(near: Neighbors) -> Iterator[Shortcut]:
    """Describe neighbours that were drawn among cells at the same distance, and those that are missing."""
    n_obs, known = near.indices.shape
    n_tied = int(np.count_nonzero(near.tied()))
    if n_tied > NOTABLE_TIES * n_obs:
        yield Shortcut(
            quantity="ties",
            description=(
                f"{n_tied} of {n_obs} cells have several cells at the distance of their last neighbour; the "
                "neighbours among them were drawn at random."
            ),
            figures={"n_tied": n_tied, "n_obs": n_obs},
        )
    n_short = int(np.count_nonzero(near.indices[:, -1] < 0))
    if n_short:
        yield Shortcut(
            quantity="parts",
            description=(
                f"{n_short} of {n_obs} cells are in parts of the graph with fewer than {known} cells; they "
                "do not count where a metric needs more neighbours than they have."
            ),
            figures={"n_short": n_short, "n_obs": n_obs},
        )


def _standard_errors(
    values: Mapping[str, float], context: _Context, made: SharedDistances
) -> dict[str, float]:
    """Return standard errors by the jackknife: values of the sample without one part at a time."""
    parts: dict[str, list[float]] = {name: [] for name in values}
    for part in range(N_PARTS):
        partial = context.with_distances(made.without(part, N_PARTS))
        for name in values:
            value = _value(name, partial)
            parts[name].append(value if isinstance(value, float) else values[name])
    # The error of a sample of all cells is 0.
    unseen = 1 - len(made.rows()) / len(made.stratum)
    return {name: float(np.sqrt(unseen * (N_PARTS - 1) * np.var(left))) for name, left in parts.items()}


class _Context:
    """The inputs of one evaluation and everything derived from them so far."""

    def __init__(self, inputs: Mapping[str, object], settings: Mapping[str, object]) -> None:
        self._settings = dict(settings)
        self._given = {name: value for name, value in inputs.items() if value is not None}
        self._values = {**self._given, **settings}
        if "graph" in self._given:
            self._values["graph"] = self._values["links"] = _or_reason(checked_graph, self._given["graph"])

    def arguments(self, function: Callable[..., object]) -> dict[str, object]:
        """Resolve the arguments of a function by their names; absent optional ones are left out."""
        parameters = inspect.signature(function).parameters
        arguments: dict[str, object] = {}
        for name, parameter in parameters.items():
            optional = parameter.default is not inspect.Parameter.empty
            if name == "neighbors" and "links" in self._values and FROM_GRAPH & parameters.keys():
                arguments[name] = None
            elif name in self._values or name in DERIVED or name == RANKS:
                if not (optional and name in CODES and isinstance(self._look_up(name), UndefinedError)):
                    arguments[name] = self._get(name)
            elif not optional:
                raise self._missing(name)
        return arguments

    def _missing(self, name: str) -> UndefinedError:
        by_output = name in METHOD_OUTPUTS
        if name == "X_emb" and {"graph", "graph_distances", "neighbors"} & self._given.keys():
            return UndefinedError(
                "needs 'X_emb', but the method returned a graph, not coordinates", by_output=True
            )
        who = "the method did not return" if by_output else "there is no"
        return UndefinedError(f"needs '{name}', but {who} '{name}' for this run", by_output=by_output)

    def _look_up(self, name: str) -> object:
        if name not in self._values:
            self._values[name] = self._derive(name)
        return self._values[name]

    def _get(self, name: str) -> object:
        value = self._look_up(name)
        if isinstance(value, UndefinedError):
            # A new error for each score, so that tracebacks do not accumulate on a shared one.
            raise UndefinedError(str(value), by_output=value.by_output) from value.__cause__
        return value

    def _derive(self, name: str) -> object:
        if name == RANKS:
            return _or_reason(self._ranks)
        along = "X_emb" not in self._given and "graph_distances" in self._given
        function = ALONG_LINKS.get(name, DERIVED[name]) if along else DERIVED[name]
        try:
            arguments = self.arguments(function)
        except UndefinedError as error:
            return error
        return _or_reason(function, **arguments)

    def _ranks(self) -> Ints:
        """Return random ranks of the cells, which depend on no order and no name."""
        if "X_emb" in self._given:
            content = row_content(raw_coordinates(np.asarray(self._get("X_emb"))))
        elif "links" in self._values:
            content = graph_content(cast("csr_matrix", self._get("links")))
        elif "graph_distances" in self._given:
            content = graph_content(cast("csr_matrix", self._given["graph_distances"]))
        else:
            content = graph_content(cast("Neighbors", self._get("neighbors")).links())
        groups = []
        for name in ("label", "batch"):
            encoded = _or_reason(encode, self._given.get(name), name, n_obs=len(content))
            if isinstance(encoded, tuple):  # else the metrics that need it report the reason
                groups.append(encoded[1])
        return random_ranks(content, *groups, seed=cast("Profile", self._settings["profile"]).seed)

    def made(self, name: str, kind: type[_Made]) -> _Made | None:
        """Return a quantity, if a metric needed it and it could be computed."""
        made = self._values.get(name)
        return made if isinstance(made, kind) else None

    def with_distances(self, made: SharedDistances) -> _Context:
        """Return a context with other shared distances, and everything that is derived from them."""
        other = _Context(self._given, self._settings)
        kept = {
            name: value
            for name, value in self._values.items()
            if "shared_distances" not in self._origins(name)
        }
        other._values = {**kept, "shared_distances": made}
        for name, codes in (("label", "label_codes"), ("batch", "batch_codes")):
            if isinstance(known := kept.get(codes), np.ndarray):  # faster to compare than text
                other._values[name] = known
        return other

    def for_all_cells(self, found: CellValues) -> CellValues:
        """Return values of the cells of this context as values of all cells that were given."""
        return found

    def of_sample(self, profile: Profile) -> _Sample | None:
        """Return the context of a sample of the cells, if the profile and their number require one."""
        shape = np.asarray(self._given.get("X_emb")).shape
        if profile.graph_cells is None or not shape or not profile.samples(shape[0]):
            return None
        n_obs = shape[0]
        codes = [self._look_up(name) for name in ("label_codes", "batch_codes")]
        label, batch = (of if isinstance(of, np.ndarray) else np.zeros(n_obs, int) for of in codes)
        ranks = self._look_up(RANKS)
        if not isinstance(ranks, np.ndarray):  # no usable embedding: the metrics report why
            return None
        cells = stratified_sample(label, batch, profile.graph_cells, ranks)
        given = {
            name: value if isinstance(value, UndefinedError) else np.asarray(value)[cells]
            for name, value in self._given.items()
            if name in PER_CELL
        }
        given[RANKS] = np.argsort(np.argsort(ranks[cells]))
        return _Sample(given, {**self._settings, "profile": FULL}, cells, n_obs, profile.seed)

    def rests_on(self, function: Callable[..., object], quantity: str) -> bool:
        """Return whether a function depends on the shared neighbours, or on the shared sums of distances."""
        names = {
            name for argument in inspect.signature(function).parameters for name in self._origins(argument)
        }
        if quantity == "neighbors":
            from_links = (
                "links" in self._values and FROM_GRAPH & inspect.signature(function).parameters.keys()
            )
            return "neighbors" in names and not from_links
        direct = {name for name in names if name in DERIVED and name != "neighbors"}
        return any("shared_distances" in inspect.signature(DERIVED[name]).parameters for name in direct) or (
            "shared_distances" in inspect.signature(function).parameters
        )

    def _origins(self, name: str) -> Iterator[str]:
        """Yield a quantity and all quantities that it is derived from; inputs are derived from nothing."""
        yield name
        if name in DERIVED and name not in self._given:
            for argument in inspect.signature(DERIVED[name]).parameters:
                yield from self._origins(argument)


class _Sample(_Context):
    """The context of a sample of the cells, whose neighbours are in the sample, too."""

    def __init__(
        self, inputs: Mapping[str, object], settings: Mapping[str, object], cells: Ints, n_obs: int, seed: int
    ) -> None:
        super().__init__(inputs, settings)
        self._cells, self._n_obs = cells, n_obs
        self.shortcut = Shortcut(
            quantity="cells",
            description=(
                f"Communities, and mixing within labels, of {len(cells)} of {n_obs} cells, drawn from every "
                f"label and batch (seed {seed}); neighbours are searched within the sample."
            ),
            figures={"n_sampled": len(cells), "n_obs": n_obs, "seed": seed},
        )

    def for_all_cells(self, found: CellValues) -> CellValues:
        """Return NaN for cells that are not in the sample."""
        values = np.full(self._n_obs, np.nan)
        values[self._cells] = found.values
        if found.weights is None:
            return CellValues(values)
        weights = np.zeros(self._n_obs)
        weights[self._cells] = found.weights
        return CellValues(values, weights)


def _or_reason(function: Callable[..., object], *positional: object, **arguments: Any) -> object:
    """Return a function's value, or the reason why there is none, for every metric that needs it."""
    try:
        return function(*positional, **arguments)
    except UndefinedError as error:
        return error
    except Exception as error:  # reported by every metric that needs this quantity
        return _failure(error)
