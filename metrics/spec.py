"""The registry of metrics: every metric is declared at its function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack

from cellular_bench.core.types import ASPECTS, AspectId, MetricSpec
from cellular_bench.metrics.inputs import Floats

#: Every metric by its id; aspects in the order of :data:`ASPECTS`, metrics of the overall score first,
#: those on request last.
METRICS: dict[str, MetricSpec] = {}
#: Input that is there where study metrics are asked for: all of those need it that are ``on_request``.
STUDY_METRICS = "study_metrics"
#: Inputs that only some runs have. A metric that needs one is optional: without it, it is no column.
OPTIONAL_INPUTS = frozenset({"conditions", "corrected", "expression", "ontology", "X_pre_all", STUDY_METRICS})

_Function = TypeVar("_Function", bound=Callable[..., float])


class _Facts(TypedDict, total=False):
    """Fields of :class:`MetricSpec` that have a default."""

    minimum: float
    maximum: float
    higher_is_better: bool
    in_overall: bool
    on_request: bool
    on_sample: bool
    version: int
    doi: str | None


class CellValues(NamedTuple):
    """A value per cell, NaN where it has none, and how much each counts in the mean of a group.

    Attributes
    ----------
    values
        (n_obs,) values.
    weights
        (n_obs,) weights, not negative; None: all cells count the same.
    """

    values: Floats
    weights: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CellQuantity:
    """A quantity that every cell has a value of.

    Attributes
    ----------
    title
        Name in tables.
    definition
        What the mean over a group of cells says.
    function
        Returns :class:`CellValues`; its arguments are those of metrics, see
        :func:`cellular_bench.metrics.evaluate`.
    on_sample
        Whether it is computed on a sample where cells are many, as a metric that is ``on_sample``.
    """

    title: str
    definition: str
    function: Callable[..., CellValues]
    on_sample: bool = False


def metric(
    *, metric_id: str, name: str, aspect: AspectId, definition: str, **facts: Unpack[_Facts]
) -> Callable[[_Function], _Function]:
    """Register a pure function as a metric and attach its :class:`MetricSpec` as ``spec``.

    The function itself is returned unchanged: arrays in, float out. The names of its arguments are
    the inputs that it requests from :func:`cellular_bench.metrics.evaluate`; an argument with a default
    is optional. Its docstring has a section *Notes* with the paragraphs ``Formula:`` and ``Fooled by:``
    and a section *Examples*; together with the arguments here they are the metric's card
    (:func:`cellular_bench.metrics.card`).

    Parameters
    ----------
    metric_id
        Name in records and tables.
    name
        Name for readers.
    aspect
        What the metric measures; metrics of one aspect are averaged.
    definition
        The metric in one sentence.
    **facts
        Other fields of :class:`~cellular_bench.core.types.MetricSpec`: ``minimum`` (0), ``maximum`` (1),
        ``higher_is_better`` (True), ``in_overall`` (True), ``on_request`` (False), ``on_sample`` (False),
        ``version`` (1) and ``doi`` (None).

    Raises
    ------
    ValueError
        If another metric has the id, or the range is empty. A file that was changed and is loaded again
        replaces its own metric.

    Examples
    --------
    >>> from cellular_bench.metrics import METRICS, accuracy
    >>> METRICS["accuracy"].function is accuracy
    True
    """

    def register(function: _Function) -> _Function:
        if metric_id in METRICS and not _is_newer(function, METRICS[metric_id].function):
            raise ValueError(f"metric '{metric_id}' is already registered: choose another metric_id")
        spec = MetricSpec(
            metric_id=metric_id, name=name, aspect=aspect, function=function, definition=definition, **facts
        )
        if not spec.minimum < spec.maximum:
            raise ValueError(
                f"metric '{metric_id}': minimum {spec.minimum} is not below maximum {spec.maximum}"
            )
        METRICS[metric_id] = spec
        attributes: Any = function
        attributes.spec = spec
        return function

    return register


def _is_newer(function: Callable[..., float], known: Callable[..., float]) -> bool:
    """Return whether a function comes from the same file as a known one, loaded again after a change."""
    one, other = (inspect.unwrap(each).__code__.co_filename for each in (function, known))
    return one == other and function.__module__ != known.__module__


def required_inputs(spec: MetricSpec) -> tuple[str, ...]:
    """Return the arguments without which a metric has no value.

    Examples
    --------
    >>> from cellular_bench.metrics import METRICS
    >>> required_inputs(METRICS["accuracy"])
    ('label', 'label_pred')
    """
    parameters = inspect.signature(spec.function).parameters.values()
    return tuple(p.name for p in parameters if p.default is inspect.Parameter.empty)


def reads_batches(spec: MetricSpec | CellQuantity) -> bool:
    """Whether the value of a metric, or the values of cells, depend on which batch a cell is from.

    Examples
    --------
    >>> from cellular_bench.metrics import METRICS
    >>> [reads_batches(METRICS[name]) for name in ("ilisi", "clisi")]
    [True, False]
    """
    return not {"batch", "batch_codes"}.isdisjoint(inspect.signature(spec.function).parameters)


def reads_labels(spec: MetricSpec) -> bool:
    """Whether a metric has no value on cells without labels.

    Examples
    --------
    >>> from cellular_bench.metrics import METRICS
    >>> [reads_labels(METRICS[name]) for name in ("ilisi", "clisi")]
    [False, True]
    """
    return not {"label", "label_codes"}.isdisjoint(required_inputs(spec))


def belongs(spec: MetricSpec, given: Iterable[str]) -> bool:
    """Whether a metric belongs to a run that has these inputs; see :data:`OPTIONAL_INPUTS`.

    What else is missing makes a score without a value, which has a reason.

    Examples
    --------
    >>> from cellular_bench.metrics import METRICS
    >>> [belongs(METRICS["nmi_scib"], given) for given in ((), ("study_metrics",))]
    [False, True]
    """
    needed = {*required_inputs(spec), *([STUDY_METRICS] if spec.on_request else [])}
    return OPTIONAL_INPUTS & needed <= set(given)


def sort_metrics() -> None:
    """Sort :data:`METRICS` into its documented order, independently of the order of imports."""

    def place(spec: MetricSpec) -> tuple[int, str, bool, bool, bool, str, int]:
        code = inspect.unwrap(spec.function).__code__
        package, _, module = spec.function.__module__.rpartition(".")
        is_plugin = not package.startswith("cellular_bench.")
        aspect = ASPECTS.index(spec.aspect) if spec.aspect in ASPECTS else len(ASPECTS)
        group = aspect, spec.aspect, not spec.in_overall, spec.on_request
        return (*group, is_plugin, module, code.co_firstlineno)

    ordered = sorted(METRICS.values(), key=place)
    METRICS.clear()
    METRICS.update((spec.metric_id, spec) for spec in ordered)
