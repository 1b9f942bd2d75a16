"""Which metrics a run records, and which of them make its overall score."""

import numpy as np
import pytest

from cellular_bench.benchmark.outputs import Outputs
from cellular_bench.benchmark.preparation import Truth
from cellular_bench.benchmark.scoring import ON_REQUEST, score, specs_for
from cellular_bench.metrics import METRICS

#: A change here changes every ranking: give the metrics a new version and say so in the change log.
IN_OVERALL = {
    "integration": {
        "silhouette_label", "isolated_labels", "leiden_nmi", "leiden_ari", "kmeans_nmi", "kmeans_ari",
        "isolated_label_f1", "clisi", "cell_cycle_conservation", "graph_connectivity", "kbet_per_label",
        "pcr_comparison", "bras", "ilisi",
    },
    "annotation": {"accuracy", "balanced_accuracy", "f1_macro"},
    "novelty": {"novelty_auroc", "novelty_average_precision"},
}  # fmt: skip


@pytest.mark.parametrize("task", IN_OVERALL)
def test_the_overall_score_is_made_of_the_same_metrics(task):
    assert {spec.metric_id for spec in specs_for(task) if spec.in_overall} == IN_OVERALL[task]


def test_metrics_that_no_run_can_give_are_on_no_board():
    recorded = {spec.metric_id for task in IN_OVERALL for spec in specs_for(task)}
    assert METRICS.keys() - recorded == {
        "ontology_accuracy",
        "ontology_f1",
        "hvg_overlap",
        "gene_correlation_kept",
        "fold_change_kept",
    }


def test_what_is_given_brings_its_metrics():
    assert {"ontology_f1"} < {spec.metric_id for spec in specs_for("annotation", {"ontology"})}
    found = {spec.metric_id for spec in specs_for("integration", ON_REQUEST)}
    assert {"hvg_overlap", "fold_change_kept"} < found


def test_a_prediction_without_probabilities_keeps_its_overall_score():
    n_obs = 8
    names = np.array([f"c{i}" for i in range(n_obs)])
    label = np.array(list("aabbccdd"))
    empty = np.empty(0)
    truth = Truth(
        obs_names=names,
        label=label,
        batch=np.repeat("x", n_obs),
        is_novel=np.zeros(n_obs, dtype=bool),
        X_pre=np.zeros((n_obs, 2)),
        cell_cycle=empty.reshape(0, 2),
        cell_cycle_batches=empty.astype(str),
        cell_cycle_before=empty,
        cell_cycle_reason="not measured",
    )
    scored = score("annotation", Outputs(obs_names=names, label_pred=label), truth)
    found = {row.metric_id: row for row in scored.scores}
    assert {found[name].value for name in IN_OVERALL["annotation"]} == {1.0}
    assert found["log_loss"].undefined_by == "output"
    assert found["rare_recall"].undefined_by == "data"
