"""Scores of an embedding by the library scib-metrics, under the ids of the equivalent metrics.

The library is the extra ``parity``. Neighbours are searched as in its own benchmark (``pynndescent``), so
that values are those of the library.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec
from typing import Any

import numpy as np

from cellular_bench.core.errors import UndefinedError, UserError

#: Neighbours per cell, itself included, of the largest search; others are its first ones.
N_NEIGHBORS = 90

Outcome = float | UndefinedError


def score_with_scib_metrics(inputs: Mapping[str, Any]) -> dict[str, Outcome]:
    """Score an embedding with scib-metrics.

    Parameters
    ----------
    inputs
        ``X_emb``, ``label``, ``batch`` and, for the PCR comparison, ``X_pre``.

    Returns
    -------
    A value, or the reason why the library gave none, by the id of the equivalent metric.

    Raises
    ------
    UserError
        If scib-metrics is not installed.

    References
    ----------
    doi:10.1038/s41592-021-01336-8
    """
    if find_spec("scib_metrics") is None:
        raise UserError(
            "The engine 'scib-metrics' needs the library scib-metrics, which is not installed. "
            "Install it with: pip install 'cellular-bench[parity]'"
        )
    outcomes: dict[str, Outcome] = {}
    # The library prints its progress to standard output, which is reserved for tables and JSON.
    with redirect_stdout(sys.stderr):
        for metric_ids, call in calls_for(inputs).items():
            outcomes |= _outcomes(metric_ids, call)
    return outcomes


def calls_for(inputs: Mapping[str, Any]) -> dict[tuple[str, ...], Callable[[], Any]]:
    """Return the call for each group of metrics; a call for several metrics returns a dictionary."""
    import scib_metrics as theirs
    from scib_metrics.nearest_neighbors import pynndescent

    X = np.asarray(inputs["X_emb"], dtype=np.float32)
    near = pynndescent(X, n_neighbors=min(N_NEIGHBORS, len(X)), random_state=0)

    def first(k: int) -> Any:
        return near.subset_neighbors(n=k)

    def the(name: str) -> Any:
        return input_of(inputs, name)

    def pcr() -> Any:
        before = np.asarray(the("X_pre"), dtype=np.float32)
        return theirs.pcr_comparison(before, X, the("batch"), categorical=True)

    return {
        ("silhouette_label",): lambda: theirs.silhouette_label(X, the("label")),
        ("isolated_labels",): lambda: theirs.isolated_labels(X, the("label"), the("batch")),
        ("clisi",): lambda: theirs.clisi_knn(first(90), the("label")),
        ("leiden_nmi", "leiden_ari"): lambda: theirs.nmi_ari_cluster_labels_leiden(first(15), the("label")),
        ("kmeans_nmi", "kmeans_ari"): lambda: theirs.nmi_ari_cluster_labels_kmeans(X, the("label")),
        ("silhouette_batch",): lambda: theirs.silhouette_batch(X, the("label"), the("batch")),
        ("bras",): lambda: theirs.bras(X, the("label"), the("batch")),
        ("ilisi",): lambda: theirs.ilisi_knn(first(90), the("batch")),
        ("kbet",): lambda: theirs.kbet(first(50), the("batch"))[0],
        ("kbet_per_label",): lambda: theirs.kbet_per_label(first(50), the("batch"), the("label")),
        ("graph_connectivity",): lambda: theirs.graph_connectivity(first(15), the("label")),
        ("pcr_comparison",): pcr,
    }


def input_of(inputs: Mapping[str, Any], name: str) -> Any:
    """Return an input.

    Raises
    ------
    UndefinedError
        If it is absent, or the reason why it is.
    """
    value = inputs.get(name, UndefinedError(f"needs '{name}', but there is no '{name}' for this run"))
    if isinstance(value, UndefinedError):
        raise value
    return value


def _outcomes(metric_ids: tuple[str, ...], call: Callable[[], Any]) -> dict[str, Outcome]:
    try:
        result = call()
    except UndefinedError as error:
        return dict.fromkeys(metric_ids, error)
    except Exception as error:  # reported as the reason of these metrics; the others go on
        reason = f"scib-metrics failed: {type(error).__name__}: {error}"
        return {metric_id: UndefinedError(reason) for metric_id in metric_ids}
    values = (
        [result[metric_id.rpartition("_")[2]] for metric_id in metric_ids]
        if len(metric_ids) > 1
        else [result]
    )
    return {metric_id: _finite(value) for metric_id, value in zip(metric_ids, values, strict=True)}


def _finite(value: Any) -> Outcome:
    number = float(value)
    return number if math.isfinite(number) else UndefinedError(f"scib-metrics returned {number}")
