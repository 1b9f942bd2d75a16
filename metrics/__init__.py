"""Metrics: pure functions of arrays, and a call that evaluates many of them.

The arguments of all metrics have the same names. *Undefined if* in a docstring means that the function raises
:class:`cellular_bench.UndefinedError`.

Parameters
----------
label, batch
    (n_obs,) true labels and batches.
label_pred, rejected
    (n_obs,) predicted labels, and True for cells that the method rejects; they count as wrong. A missing
    label is a rejection.
label_proba, labels
    (n_obs, n_labels) probabilities, each row of which sums to 1, and (n_labels,) names of the columns.
novelty, is_novel
    (n_obs,) scores, higher = less similar to the training cells; True for cells of a type that is not in the
    training data.
ontology
    Result of :func:`read_obo`.
X_emb
    (n_obs, n_latent) coordinates after integration.
X_pre, X_pre_all
    (n_obs, n_comps) principal components before integration, of the method's genes and of all genes.
expression, corrected
    (n_obs, n_vars) log-normalised expression before and after correction, dense or sparse.
cell_cycle, cell_cycle_before
    Attributes ``scores`` and ``variance_before`` of a :class:`CellCycle`; only batches in the latter count.
conditions, donor
    (n_obs,) values of each condition that must be kept, by the name of its column, or the reason why it has
    no score; (n_obs,) independent units, such as donors.
neighbors
    Result of :func:`nearest_neighbors`: at least as many per cell as the metric uses, the cell itself
    included. A metric that also accepts a graph or communities takes None if these are given.
graph, links
    (n_obs, n_obs) symmetric weights of the edges between neighbours, and those of a method that returned a
    graph.
structure
    Result of :func:`structure_reference`.
cell_ranks
    (n_obs,) random ranks of the cells, a permutation of 0 to n_obs - 1: what chooses among equals, such as
    equally near neighbours, chooses by them. :func:`evaluate` draws them from the embedding and the groups,
    so that values depend neither on the order of cells nor on names.
leiden_clusters, kmeans_clusters, scib_clusters, label_silhouettes, neighbor_weights, shared_distances,
type_agreement
    Quantities that several metrics need, if known; :func:`evaluate` computes each of them once.
n_jobs
    Number of threads or processes; values do not depend on it.
"""

from cellular_bench.metrics.annotation.calibration import (
    CalibrationCurve,
    brier,
    calibration_curve,
    expected_calibration_error,
    log_loss,
    top3_accuracy,
)
from cellular_bench.metrics.annotation.label_tables import LabelFigures, confusion, per_label
from cellular_bench.metrics.annotation.likelihood import (
    NovelSamples,
    flag_samples,
    likelihood,
    lowest_confidence_known,
    lowest_confidence_novel,
    lowest_likelihoods,
)
from cellular_bench.metrics.annotation.novelty import (
    known_accuracy,
    novelty_auroc,
    novelty_average_precision,
    novelty_fpr95,
    novelty_oscr,
)
from cellular_bench.metrics.annotation.obo import Ontology, parse_obo, read_obo
from cellular_bench.metrics.annotation.ontology import (
    MappedLabels,
    map_labels,
    ontology_accuracy,
    ontology_f1,
)
from cellular_bench.metrics.annotation.rejection import (
    RejectionCurve,
    coverage_at_accuracy_95,
    coverage_at_accuracy_99,
    rejection_area,
    rejection_curve,
)
from cellular_bench.metrics.annotation.scores import (
    accuracy,
    accuracy_accepted,
    balanced_accuracy,
    cohen_kappa,
    coverage,
    f1_macro,
    f1_weighted,
    mcc,
    rare_recall,
)
from cellular_bench.metrics.annotation.uncertainty import Interval, bootstrap, interval
from cellular_bench.metrics.cards import MetricCard, card
from cellular_bench.metrics.embedding.batch_tests import kbet, kbet_per_label
from cellular_bench.metrics.embedding.cell_cycle import CellCycle, cell_cycle_conservation, score_cell_cycle
from cellular_bench.metrics.embedding.clusterings import (
    isolated_label_f1,
    kmeans_ari,
    kmeans_nmi,
    leiden_ari,
    leiden_nmi,
)
from cellular_bench.metrics.embedding.corrected import fold_change_kept, gene_correlation_kept, hvg_overlap
from cellular_bench.metrics.embedding.graphs import graph_connectivity, graph_connectivity_scib
from cellular_bench.metrics.embedding.local_diversity import cilisi, clisi, ilisi
from cellular_bench.metrics.embedding.regression import pcr_comparison
from cellular_bench.metrics.embedding.scib_definitions import ari_scib, nmi_scib, pcr_scib
from cellular_bench.metrics.embedding.silhouettes import (
    bras,
    isolated_labels,
    silhouette_batch,
    silhouette_label,
)
from cellular_bench.metrics.engine import evaluate
from cellular_bench.metrics.harm.expression import false_de, false_de_genes
from cellular_bench.metrics.harm.halves import harmless, mixing_as_chance, mixing_ratio
from cellular_bench.metrics.numerics.distances import Neighbors, nearest_neighbors
from cellular_bench.metrics.spec import METRICS, metric, required_inputs, sort_metrics
from cellular_bench.metrics.structure.conditions import condition_kept
from cellular_bench.metrics.structure.geometry import scgraph, type_geometry
from cellular_bench.metrics.structure.reference import StructureReference, cell_depth, structure_reference
from cellular_bench.metrics.structure.state import (
    neighbours_kept,
    neighbours_per_cell,
    spread_kept,
    state_kept,
    state_kept_clusters,
    state_per_cell,
)

sort_metrics()

__all__ = [
    "METRICS", "CalibrationCurve", "CellCycle", "Interval", "LabelFigures", "MappedLabels", "MetricCard",
    "Neighbors", "NovelSamples", "Ontology", "RejectionCurve", "StructureReference", "accuracy",
    "accuracy_accepted", "ari_scib", "balanced_accuracy", "bootstrap", "bras", "brier",
    "calibration_curve", "card", "cell_cycle_conservation", "cell_depth", "cilisi", "clisi",
    "cohen_kappa", "condition_kept", "confusion", "coverage", "coverage_at_accuracy_95",
    "coverage_at_accuracy_99", "evaluate", "expected_calibration_error", "f1_macro", "f1_weighted",
    "false_de", "false_de_genes", "flag_samples", "fold_change_kept", "gene_correlation_kept",
    "graph_connectivity", "graph_connectivity_scib", "harmless", "hvg_overlap", "ilisi", "interval",
    "isolated_label_f1", "isolated_labels", "kbet", "kbet_per_label", "kmeans_ari", "kmeans_nmi",
    "known_accuracy", "leiden_ari", "leiden_nmi", "likelihood", "log_loss", "lowest_confidence_known",
    "lowest_confidence_novel", "lowest_likelihoods", "map_labels", "mcc", "metric", "mixing_as_chance",
    "mixing_ratio", "nearest_neighbors", "neighbours_kept", "neighbours_per_cell", "nmi_scib",
    "novelty_auroc", "novelty_average_precision", "novelty_fpr95", "novelty_oscr", "ontology_accuracy",
    "ontology_f1", "parse_obo", "pcr_comparison", "pcr_scib", "per_label", "rare_recall", "read_obo",
    "rejection_area", "rejection_curve", "required_inputs", "scgraph", "score_cell_cycle",
    "silhouette_batch", "silhouette_label", "spread_kept", "state_kept", "state_kept_clusters",
    "state_per_cell", "structure_reference", "top3_accuracy", "type_geometry",
]  # fmt: skip
