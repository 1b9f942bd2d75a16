"""Imported values must lie in the range of their metric."""

from __future__ import annotations

import math
from typing import Final

from cellular_bench.benchmark import registry
from cellular_bench.core.errors import UserError

#: Values are often computed in single precision.
TOLERANCE: Final = 1e-6
#: Below chance, where our definitions stop at 0 and those of scib and scikit-learn do not.
LOWER: Final = {"kmeans_ari": -0.5, "leiden_ari": -0.5}


def range_of(metric_id: str) -> tuple[float, float]:
    """Return the smallest and the largest value that an imported metric can have.

    Examples
    --------
    >>> range_of("accuracy"), range_of("mcc"), range_of("leiden_ari")
    ((0.0, 1.0), (-1.0, 1.0), (-0.5, 1.0))
    """
    spec = registry.metrics().get(metric_id)
    if spec is None:
        return 0.0, 1.0
    return LOWER.get(metric_id, spec.minimum), spec.maximum


def check_range(metric_id: str, value: float, *, where: str) -> None:
    """Refuse a value outside the range of its metric; NaN is a missing value.

    Parameters
    ----------
    where
        File, row and name of the metric there.

    Raises
    ------
    UserError
        If it is outside.
    """
    low, high = range_of(metric_id)
    if math.isnan(value) or low - TOLERANCE <= value <= high + TOLERANCE:
        return
    is_percent = high < value <= 100 * high
    remedy = " If these are percentages, divide them by 100." if is_percent else " Give the raw values."
    raise UserError(f"{where} is {value:.6g}; '{metric_id}' ranges from {low:g} to {high:g}.{remedy}")
