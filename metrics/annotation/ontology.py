"""Partial credit for related cell types, as terms of an ontology such as the Cell Ontology.

The user provides the file (``cl.obo`` or ``cl-basic.obo``). Labels are mapped to terms by identifier, name or
exact synonym, or as the user assigns them. A label without a term is correct only if it equals the true
label.

Arguments, and what *undefined* means: :mod:`cellular_bench.metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics.annotation.counts import count_pairs, names_of
from cellular_bench.metrics.annotation.obo import Ontology
from cellular_bench.metrics.inputs import Floats, Ints
from cellular_bench.metrics.spec import metric

Relation = Literal["exact", "parent", "child", "sibling", "none"]

#: Credit of a cell by the relation of the predicted term to the true one.
CREDIT: Mapping[Relation, float] = {"exact": 1.0, "parent": 0.5, "child": 0.5, "sibling": 0.25, "none": 0.0}


class MappedLabels(NamedTuple):
    """Terms of labels in an ontology.

    Attributes
    ----------
    share_of_labels, share_of_cells
        Share of the distinct labels, and of the cells, that have a term.
    terms
        Term of each label that has one.
    unmapped
        Sorted labels without a term.
    """

    share_of_labels: float
    share_of_cells: float
    terms: dict[str, str]
    unmapped: tuple[str, ...]


def map_labels(label: ArrayLike, ontology: Ontology) -> MappedLabels:
    """Return the terms of the labels of cells.

    Undefined if there are no cells.
    """
    names, cells = np.unique(names_of(label, "label"), return_counts=True)
    term_of = {str(name): ontology.term(str(name)) for name in names}
    terms = {name: term for name, term in term_of.items() if term is not None}
    mapped = np.array([str(name) in terms for name in names])
    unmapped = tuple(name for name in term_of if name not in terms)
    return MappedLabels(float(mapped.mean()), float(cells[mapped].sum() / cells.sum()), terms, unmapped)


def relation(true: str, predicted: str, ontology: Ontology) -> Relation:
    """Return the relation of a predicted label to the true one.

    ``"parent"``: the predicted term is a direct parent of the true one. ``"child"``: the true term is a
    direct parent of the predicted one. ``"sibling"``: both have a direct parent in common.
    """
    terms = ontology.term(true), ontology.term(predicted)
    if true == predicted or (terms[0] is not None and terms[0] == terms[1]):
        return "exact"
    if terms[0] is None or terms[1] is None:
        return "none"
    above_true, above_predicted = (ontology.parents[term] for term in terms if term is not None)
    if terms[1] in above_true:
        return "parent"
    if terms[0] in above_predicted:
        return "child"
    return "sibling" if above_true & above_predicted else "none"


def pair_values(metric_id: str, names: NDArray[Any], pairs: Ints, ontology: Ontology) -> Floats:
    """Return the contribution of a cell of each pair of labels to the sums of a metric.

    Undefined if no true label has a term.

    Parameters
    ----------
    metric_id
        ``"ontology_accuracy"`` or ``"ontology_f1"``.
    names, pairs
        Results of :func:`cellular_bench.metrics.annotation.counts.count_pairs`.

    Returns
    -------
    (n_pairs, n_sums) values.
    """
    if not map_labels(names[np.unique(pairs[0])], ontology).terms:
        raise UndefinedError("no true label has a term in the ontology: map labels to terms")
    value = _credit if metric_id == "ontology_accuracy" else _set_sizes
    labels = [str(name) for name in names] + [None]
    return np.array([value(str(labels[true]), labels[guess], ontology) for true, guess in pairs.T])


def _credit(true: str, predicted: str | None, ontology: Ontology) -> tuple[float, ...]:
    return (0.0 if predicted is None else CREDIT[relation(true, predicted, ontology)],)


def _set_sizes(true: str, predicted: str | None, ontology: Ontology) -> tuple[float, ...]:
    """Return the sizes of the common lineage, of the true lineage and of the predicted lineage."""
    above = _above(true, ontology)
    guessed = frozenset[str]() if predicted is None else _above(predicted, ontology)
    return len(above & guessed), len(above), len(guessed)


def _above(label: str, ontology: Ontology) -> frozenset[str]:
    term = ontology.term(label)
    return frozenset([f"label {label}"]) if term is None else ontology.lineage(term)


def ontology_accuracy_of(sums: Floats, n_obs: int) -> Floats:
    """Return the accuracy from summed credit (..., 1)."""
    return np.asarray(sums[..., 0] / n_obs)


def ontology_f1_of(sums: Floats, n_obs: int) -> Floats:
    """Return the F measure from summed sizes (..., 3)."""
    return np.asarray(2 * sums[..., 0] / (sums[..., 1] + sums[..., 2]))


#: Metrics that are a formula of sums over pairs of labels.
FORMULAS: Mapping[str, Callable[[Floats, int], Floats]] = {
    "ontology_accuracy": ontology_accuracy_of,
    "ontology_f1": ontology_f1_of,
}


def _value(
    metric_id: str, label: ArrayLike, label_pred: ArrayLike, ontology: Ontology, rejected: ArrayLike | None
) -> float:
    names, pairs, cells = count_pairs(label, label_pred, rejected)
    sums = cells @ pair_values(metric_id, names, pairs, ontology)
    return float(FORMULAS[metric_id](sums, int(cells.sum())))


@metric(
    metric_id="ontology_accuracy",
    name="Ontology-aware accuracy",
    aspect="annotation",
    definition=(
        "Accuracy with partial credit: a direct parent or child of the true term counts 0.5, a sibling 0.25."
    ),
    in_overall=False,
)
def ontology_accuracy(
    label: ArrayLike, label_pred: ArrayLike, ontology: Ontology, rejected: ArrayLike | None = None
) -> float:
    """Accuracy with partial credit for related types, 0 to 1; never below the accuracy.

    Undefined if there are no cells, or no true label has a term.

    Notes
    -----
    Formula: mean over cells of 1 if both labels have the same term, 0.5 if one term is a direct parent of the
    other, 0.25 if they share a direct parent, else 0. The weights are a choice of this package;
    ``ontology_f1`` is the published measure without weights.

    Fooled by: unequal depth. In coarse parts of the ontology, very different cells are siblings; in fine
    parts, a harmless difference is several steps. Labels without a term get no partial credit.

    Examples
    --------
    >>> from cellular_bench.metrics import parse_obo
    >>> text = '''
    ... [Term]
    ... id: X:1
    ... name: lymphocyte
    ... [Term]
    ... id: X:2
    ... name: T cell
    ... is_a: X:1
    ... [Term]
    ... id: X:3
    ... name: B cell
    ... is_a: X:1
    ... '''
    >>> ontology = parse_obo(text)
    >>> ontology_accuracy(["T cell", "T cell"], ["lymphocyte", "B cell"], ontology)
    0.375
    """
    return _value("ontology_accuracy", label, label_pred, ontology, rejected)


@metric(
    metric_id="ontology_f1",
    name="Hierarchical F1",
    aspect="annotation",
    definition="F1 of the predicted and true terms with all their ancestors, summed over cells.",
    in_overall=False,
    doi="10.1007/11766247_34",
)
def ontology_f1(
    label: ArrayLike, label_pred: ArrayLike, ontology: Ontology, rejected: ArrayLike | None = None
) -> float:
    """Hierarchical F measure, 0 to 1.

    Roots are excluded, because all terms share them. The lineage of a label that is a root, or has no term,
    is the label itself. Undefined as :func:`ontology_accuracy`.

    Notes
    -----
    Formula: 2 P R / (P + R), A(t) = the term t and all its ancestors except the roots, P = sum |A(true) &
    A(predicted)| / sum |A(predicted)|, R = the same / sum |A(true)|, sums over cells. The lineage of a
    rejected cell is empty.

    Fooled by: depth. A confusion between two deep types costs little, because they share all other ancestors;
    the finer the ontology, the higher the value.

    Examples
    --------
    >>> from cellular_bench.metrics import parse_obo
    >>> text = '''
    ... [Term]
    ... id: X:0
    ... name: cell
    ... [Term]
    ... id: X:1
    ... name: lymphocyte
    ... is_a: X:0
    ... [Term]
    ... id: X:2
    ... name: T cell
    ... is_a: X:1
    ... '''
    >>> round(ontology_f1(["T cell"], ["lymphocyte"], parse_obo(text)), 4)
    0.6667
    """
    return _value("ontology_f1", label, label_pred, ontology, rejected)
