"""Metrics by scib's own definitions against scib 1.1.7; those on random draws within their spread."""

import numpy as np
import pytest

from cellular_bench.metrics import evaluate, nearest_neighbors, pcr_comparison
from cellular_bench.metrics.embedding.graphs import connectivities
from cellular_bench.metrics.embedding.scib_definitions import ari_scib, nmi_scib, pcr_scib, scib_communities


@pytest.fixture(scope="module")
def clustered(reference):
    graph = connectivities(nearest_neighbors(reference.inputs["X_emb"]))
    return graph, scib_communities(graph)


def test_nmi_and_ari_are_within_the_spread_of_leiden(reference, clustered):
    # scib's graph is scanpy's, and its Leiden leidenalg's: another optimum of the same graph.
    graph, clusters = clustered
    label = reference.inputs["label"]
    nmi, ari = (function(graph, label, scib_clusters=clusters) for function in (nmi_scib, ari_scib))
    assert nmi == pytest.approx(reference.scib["NMI_cluster/label"], abs=0.035)
    assert ari == pytest.approx(reference.scib["ARI_cluster/label"], abs=0.1)


def test_metrics_on_request_are_evaluated_together(reference):
    cells = np.random.default_rng(0).choice(len(reference.inputs["label"]), 300, replace=False)
    inputs = {name: values[cells] for name, values in reference.inputs.items()}
    found = evaluate(["nmi_scib", "ari_scib", "pcr_scib"], inputs | {"X_pre_all": inputs["X_pre"]})
    graph = connectivities(nearest_neighbors(inputs["X_emb"]))
    assert found["nmi_scib"] == nmi_scib(graph, inputs["label"])
    assert found["ari_scib"] == ari_scib(graph, inputs["label"])
    assert found["pcr_scib"] == pcr_comparison(inputs["X_pre"], inputs["X_emb"], inputs["batch"])
    assert "there is no 'X_pre_all'" in str(evaluate(["pcr_scib"], inputs)["pcr_scib"])


def test_pcr_by_hand():
    before, after = np.arange(4.0)[:, None], np.array([[0.0], [2.0], [1.0], [3.0]])
    assert pcr_scib(before, after, list("xxyy")) == pytest.approx((0.8 - 0.2) / 0.8)
