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
from cellular_bench.metrics.batch_tests import kbet, kbet_per_label
from cellular_bench.metrics.cell_cycle import CellCycle, cell_cycle_conservation, score_cell_cycle
from cellular_bench.metrics.clusterings import (
    isolated_label_f1,
    kmeans_ari,
    kmeans_nmi,
    leiden_ari,
    leiden_nmi,
)
from cellular_bench.metrics.distances import Neighbors, nearest_neighbors
from cellular_bench.metrics.engine import evaluate
from cellular_bench.metrics.graphs import graph_connectivity, graph_connectivity_scib
from cellular_bench.metrics.local_diversity import clisi, ilisi
from cellular_bench.metrics.novelty import (
    known_accuracy,
    novelty_auroc,
    novelty_average_precision,
    novelty_fpr95,
)
from cellular_bench.metrics.regression import pcr_comparison
from cellular_bench.metrics.silhouettes import bras, isolated_labels, silhouette_batch, silhouette_label
from cellular_bench.metrics.spec import METRICS, metric, sort_metrics

sort_metrics()

__all__ = [
    "METRICS",
    "CellCycle",
    "LabelFigures",
    "Neighbors",
    "accuracy",
    "accuracy_accepted",
    "balanced_accuracy",
    "bras",
    "cell_cycle_conservation",
    "clisi",
    "confusion",
    "coverage",
    "evaluate",
    "f1_macro",
    "f1_weighted",
    "graph_connectivity",
    "graph_connectivity_scib",
    "ilisi",
    "isolated_label_f1",
    "isolated_labels",
    "kbet",
    "kbet_per_label",
    "kmeans_ari",
    "kmeans_nmi",
    "known_accuracy",
    "leiden_ari",
    "leiden_nmi",
    "mcc",
    "metric",
    "nearest_neighbors",
    "novelty_auroc",
    "novelty_average_precision",
    "novelty_fpr95",
    "pcr_comparison",
    "per_label",
    "score_cell_cycle",
    "silhouette_batch",
    "silhouette_label",
]
