"""Input that a metric has no value for gives a readable reason, never NaN."""

import math

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import METRICS, evaluate, required_inputs

IDS = [
    spec.metric_id
    for spec in METRICS.values()
    if spec.aspect in ("bio_conservation", "batch_correction")
    and "corrected" not in required_inputs(spec)
    and not spec.on_request
]
OF_BATCHES = {
    "silhouette_batch",
    "bras",
    "ilisi",
    "kbet",
    "kbet_per_label",
    "pcr_comparison",
    "isolated_labels",
    "isolated_label_f1",
}
OF_LABELS = {
    "silhouette_label",
    "isolated_labels",
    "isolated_label_f1",
    "leiden_nmi",
    "leiden_ari",
    "kmeans_nmi",
    "kmeans_ari",
    "clisi",
}


@pytest.fixture
def inputs(separated):
    rng = np.random.default_rng(0)
    before = dict.fromkeys("xy", 0.1)
    return separated | {"cell_cycle": rng.normal(size=(180, 2)), "cell_cycle_before": before}


def _undefined(inputs):
    found = evaluate(IDS, inputs)
    for metric_id, value in found.items():
        assert isinstance(value, UndefinedError) or math.isfinite(value), metric_id
        assert "metric failed" not in str(value), f"{metric_id}: {value}"
    return {metric_id: value for metric_id, value in found.items() if isinstance(value, UndefinedError)}


def _by_data(found):
    return all(not error.by_output for error in found.values())


def test_nothing_is_undefined_on_good_input(inputs):
    assert _undefined(inputs) == {}


def test_one_batch(inputs):
    found = _undefined(inputs | {"batch": np.repeat("x", 180)})
    assert found.keys() == OF_BATCHES
    assert _by_data(found)
    assert "at least two different values of batch; there is only one batch ('x')" in str(found["ilisi"])
    assert "every label occurs in every batch" in str(found["isolated_labels"])


def test_one_label(inputs):
    found = _undefined(inputs | {"label": np.repeat("T", 180)})
    assert found.keys() == OF_LABELS
    assert _by_data(found)
    assert "at least two different values of label; there is only one label ('T')" in str(found["clisi"])


def test_every_cell_a_label_of_its_own(inputs):
    found = _undefined(inputs | {"label": np.arange(180)})
    wanted = {"silhouette_label", "isolated_labels", "silhouette_batch", "bras", "kbet_per_label"}
    assert found.keys() == wanted
    assert _by_data(found)
    assert "every cell has its own label" in str(found["silhouette_label"])
    assert "no label has cells of two batches" in str(found["bras"])
    assert "no label has 10 cells and two batches" in str(found["kbet_per_label"])


def test_every_cell_a_batch_of_its_own(inputs):
    found = _undefined(inputs | {"batch": np.arange(180)})
    # No batch has the scores from before; within a label every batch is a single cell; single cells explain
    # all variance, by chance too.
    assert found.keys() == {"silhouette_batch", "bras", "cell_cycle_conservation", "pcr_comparison"}
    assert _by_data(found)


def test_every_label_in_every_batch(inputs):
    found = _undefined(inputs | {"batch": np.tile(["x", "y"], 90)})
    # Batches drawn in turn explain no more than chance.
    assert found.keys() == {"isolated_labels", "isolated_label_f1", "pcr_comparison"}
    assert _by_data(found)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda X: np.ones_like(X), "X_emb is constant: every cell has the same coordinates"),
        (
            lambda X: np.where(np.arange(180)[:, None] < 2, np.nan, X),
            "NaN or infinite values in 2 of 180 cells",
        ),
        (
            lambda X: np.where(np.arange(180)[:, None] < 1, np.inf, X),
            "NaN or infinite values in 1 of 180 cells",
        ),
        (lambda X: X[:, :0], r"X_emb is empty: its shape is (180, 0)"),
    ],
)
def test_broken_embedding_is_the_methods_fault_for_every_metric(inputs, broken, reason):
    found = _undefined(inputs | {"X_emb": broken(inputs["X_emb"])})
    assert found.keys() == set(IDS)
    for error in found.values():
        assert reason in str(error)
        assert error.by_output


def test_broken_components_from_before_are_the_datas_fault(inputs):
    found = _undefined(inputs | {"X_pre": np.zeros((180, 3))})
    assert found.keys() == {"pcr_comparison"}
    assert "X_pre is constant" in str(found["pcr_comparison"])
    assert _by_data(found)


def test_no_batch_effect_to_remove(inputs):
    before = np.tile([[0.0], [0.0], [1.0], [1.0]], (45, 1))
    found = _undefined(inputs | {"X_pre": before, "batch": np.tile(["x", "y"], 90)})
    assert "batches explain 0 of the variance before integration" in str(found["pcr_comparison"])


@pytest.mark.parametrize(
    ("n_obs", "missing"),
    [
        (89, {"ilisi", "clisi"}),
        (49, {"ilisi", "clisi", "kbet", "kbet_per_label"}),
        (
            14,
            {"ilisi", "clisi", "kbet", "kbet_per_label", "graph_connectivity", "graph_connectivity_scib"}
            | {"leiden_nmi", "leiden_ari", "isolated_label_f1", "pcr_comparison"},
        ),
    ],
)
def test_more_neighbours_than_cells(inputs, n_obs, missing):
    cells = np.random.default_rng(0).permutation(180)[:n_obs]
    found = _undefined(
        {name: value if isinstance(value, dict) else value[cells] for name, value in inputs.items()}
    )
    assert found.keys() == missing
    assert _by_data(found)
    assert (
        str(found["ilisi"])
        == f"needs 90 neighbours per cell, itself included; {n_obs} are known of {n_obs} cells"
    )


def test_coordinates_whose_distances_overflow(inputs):
    found = _undefined(inputs | {"X_emb": inputs["X_emb"] * 1e300})
    assert "distances of more than 1e+30 are not computed" in str(found["ilisi"])
    assert found["ilisi"].by_output
    assert found.keys() >= {"ilisi", "kbet_per_label", "leiden_nmi", "kmeans_nmi", "bras", "pcr_comparison"}


def test_a_single_cell(inputs):
    found = _undefined(
        {name: value if isinstance(value, dict) else value[:1] for name, value in inputs.items()}
    )
    assert found.keys() == set(IDS)
    assert _by_data(found)


def test_singletons_among_others(inputs):
    label = inputs["label"].astype("U20")
    label[:5] = [f"alone {i}" for i in range(5)]
    assert _undefined(inputs | {"label": label}) == {}


def test_duplicate_cells_have_values(inputs):
    X = inputs["X_emb"].copy()
    X[1::2] = X[::2]
    assert _undefined(inputs | {"X_emb": X}) == {}


def test_two_places_only(inputs):
    X = (inputs["label"] == "B")[:, None] * np.ones((1, 3))
    found = _undefined(inputs | {"X_emb": X})
    assert found == {}


def test_huge_and_tiny_scales_have_values(inputs):
    for scale in (1e-8, 1e8):
        assert _undefined(inputs | {"X_emb": inputs["X_emb"] * scale}) == {}
