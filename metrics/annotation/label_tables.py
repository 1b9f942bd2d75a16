"""Predictions by label: precision, recall and F1 of each label, and the confusion matrix."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cellular_bench.metrics.annotation.counts import count, named_cells, names_of

#: Label under which :func:`confusion` counts rejected cells.
REJECTED = ""


class LabelFigures(NamedTuple):
    """Support, precision, recall and F1 of one label; a figure is None if it is 0 / 0."""

    label: str
    support: int
    n_predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


def per_label(
    label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None
) -> list[LabelFigures]:
    """Return support, precision, recall and F1 of every label that is true or predicted, sorted.

    A figure is None if it is 0 / 0: the precision of a label that was never predicted, the recall of a label
    that never occurs.

    Examples
    --------
    >>> for row in per_label(["T", "T", "B"], ["T", "NK", "T"]):
    ...     print(*row)
    B 1 0 None 0.0 0.0
    NK 0 1 0.0 None 0.0
    T 2 2 0.5 0.5 0.5
    """
    counts = count(label, label_pred, rejected)
    return [
        LabelFigures(
            label=str(name),
            support=int(true),
            n_predicted=int(predicted),
            precision=float(hits / predicted) if predicted else None,
            recall=float(hits / true) if true else None,
            f1=float(2 * hits / (true + predicted)),
        )
        for name, true, predicted, hits in zip(
            counts.labels, counts.true, counts.predicted, counts.hits, strict=True
        )
    ]


def confusion(
    label: ArrayLike, label_pred: ArrayLike, rejected: ArrayLike | None = None
) -> dict[str, dict[str, int]]:
    """Count cells by true and predicted label: ``{true: {predicted: cells}}``, without zeros.

    Rejected cells count under the empty label.

    Examples
    --------
    >>> confusion(["T", "T", "B"], ["T", "B", "B"], [False, False, True])
    {'B': {'': 1}, 'T': {'B': 1, 'T': 1}}
    """
    true = names_of(label, "label")
    guesses, accepted = named_cells(label_pred, rejected, len(true))
    predicted = np.where(accepted, guesses, REJECTED)
    table: dict[str, dict[str, int]] = {}
    pairs, cells = np.unique(np.stack([true, predicted]), axis=1, return_counts=True)
    for (name, guess), n_cells in zip(pairs.T, cells, strict=True):
        table.setdefault(str(name), {})[str(guess)] = int(n_cells)
    return table
