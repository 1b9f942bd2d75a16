"""What a result is worth: pure functions of arrays, and one call that evaluates many of them."""

from cellular_bench.metrics.annotation import (
    LabelFigures,
    accuracy,
    accuracy_accepted,
    balanced_accuracy,
    confusion,
    coverage,
    f1_macro,
    f1_weighted,
    mcc,
    per_label,
)
from cellular_bench.metrics.engine import evaluate
from cellular_bench.metrics.novelty import (
    known_accuracy,
    novelty_auroc,
    novelty_average_precision,
    novelty_fpr95,
)
from cellular_bench.metrics.spec import METRICS, metric, sort_metrics

sort_metrics()

__all__ = [
    "METRICS",
    "LabelFigures",
    "accuracy",
    "accuracy_accepted",
    "balanced_accuracy",
    "confusion",
    "coverage",
    "evaluate",
    "f1_macro",
    "f1_weighted",
    "known_accuracy",
    "mcc",
    "metric",
    "novelty_auroc",
    "novelty_average_precision",
    "novelty_fpr95",
    "per_label",
]
