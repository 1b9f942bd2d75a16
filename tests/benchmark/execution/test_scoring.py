"""Which metrics a run records, and which of them make its overall score."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import cellular_bench
from cellular_bench.benchmark.execution.preparation import Truth, write_data
from cellular_bench.benchmark.execution.scoring import (
    check_rows_belong_to_cells,
    compute,
    notes_on,
    score,
    specs_for,
    values_per_cell,
)
from cellular_bench.benchmark.schema.records import Outcome
from cellular_bench.benchmark.tasks import ANNOTATION, INTEGRATION, TASKS
from cellular_bench.core.errors import ContractError
from cellular_bench.core.outputs import Outputs
from cellular_bench.metrics import METRICS, nearest_neighbors, profiles
from cellular_bench.metrics.embedding.graphs import connectivities
from cellular_bench.metrics.profiles import Profile
from cellular_bench.metrics.spec import OPTIONAL_INPUTS, STUDY_METRICS

#: A change here changes every ranking: give the metrics a new version and say so in the change log.
IN_OVERALL = {
    "integration": {
        "silhouette_label", "isolated_labels", "leiden_nmi", "leiden_ari", "kmeans_nmi", "kmeans_ari",
        "isolated_label_f1", "clisi", "cell_cycle_conservation", "graph_connectivity", "kbet_per_label",
        "pcr_comparison", "bras", "ilisi", "type_geometry", "state_kept", "spread_kept",
    },
    "annotation": {"accuracy", "balanced_accuracy", "f1_macro"},
    "novelty": {"novelty_auroc", "novelty_average_precision"},
    "harm": {"harmless", "mixing_as_chance"},
}  # fmt: skip

#: By other definitions, by a search of its own, and by what the CELLULAR study judged samples by.
ASKED_FOR = {
    "integration": {"nmi_scib", "ari_scib", "pcr_scib", "cilisi"},
    "novelty": {"lowest_confidence_known", "lowest_confidence_novel"},
}


@pytest.mark.parametrize("task", IN_OVERALL)
def test_the_overall_score_is_made_of_the_same_metrics(task):
    assert {spec.metric_id for spec in specs_for(TASKS[task]) if spec.in_overall} == IN_OVERALL[task]


def test_metrics_that_no_run_can_give_are_on_no_board():
    recorded = {spec.metric_id for task in IN_OVERALL for spec in specs_for(TASKS[task])}
    assert METRICS.keys() - recorded == {
        "ontology_accuracy",
        "ontology_f1",
        "hvg_overlap",
        "gene_correlation_kept",
        "fold_change_kept",
        "condition_kept",
        "false_de",
        "false_de_genes",
        *ASKED_FOR["integration"],
        *ASKED_FOR["novelty"],
    }
    for task, asked in ASKED_FOR.items():
        full = {spec.metric_id for spec in specs_for(TASKS[task], {STUDY_METRICS, "X_pre_all"})}
        assert full - {spec.metric_id for spec in specs_for(TASKS[task])} == asked


def test_what_is_given_brings_its_metrics():
    assert {"ontology_f1"} < {spec.metric_id for spec in specs_for(ANNOTATION, {"ontology"})}
    found = {spec.metric_id for spec in specs_for(INTEGRATION, OPTIONAL_INPUTS)}
    assert {"hvg_overlap", "fold_change_kept"} < found


def truth_of(label, batch, X_pre):
    empty = np.empty(0)
    return Truth(
        obs_names=np.array([f"c{i}" for i in range(len(label))]),
        label=np.asarray(label),
        batch=np.asarray(batch),
        is_novel=np.zeros(len(label), dtype=bool),
        X_pre=X_pre,
        cell_cycle=empty.reshape(0, 2),
        cell_cycle_batches=empty.astype(str),
        cell_cycle_before=empty,
        cell_cycle_reason="not measured",
    )


def values_and_reasons(scored):
    values = {row.metric_id: row.value for row in scored.scores if row.value is not None}
    return values, {row.metric_id: row for row in scored.scores if row.value is None}


@pytest.fixture
def two_types():
    """240 cells of two types far apart, in two batches, and their distances along links to 15 neighbours."""
    generator = np.random.default_rng(0)
    label = np.repeat(["a", "b"], 120)
    X = generator.normal(size=(240, 4)) + 9.0 * (label == "b")[:, None]
    near = nearest_neighbors(X, 15)
    starts = np.arange(0, near.indices.size + 1, 15)
    lengths = csr_matrix((near.distances.ravel(), near.indices.ravel(), starts), shape=(240, 240))
    return truth_of(label, generator.choice(["x", "y"], 240), X), connectivities(near), lengths


def test_links_are_scored_as_graph_and_as_neighbours(two_types):
    truth, graph, lengths = two_types
    outputs = Outputs(obs_names=truth.obs_names, graph=graph, graph_distances=lengths)
    values, missing = values_and_reasons(score(INTEGRATION, outputs, truth))
    # Types are far apart: the paths never cross between them, and every type hangs together.
    assert {"leiden_nmi", "leiden_ari", "ilisi", "graph_connectivity", "kbet_per_label"} < values.keys()
    assert values["clisi"] == pytest.approx(1.0)
    assert values["graph_connectivity_scib"] == 1.0
    assert {"silhouette_label", "bras", "pcr_comparison", "kmeans_nmi"} < missing.keys()
    assert missing["silhouette_label"].undefined_by == "output"
    assert "the method returned a graph, not coordinates" in missing["silhouette_label"].reason


@pytest.fixture(scope="module")
def crossed():
    """Two labels in two batches each, a third in one batch; one stray cell of a further batch."""
    generator = np.random.default_rng(3)
    label = np.repeat(["a", "b", "c"], [120, 100, 40])
    batch = np.where(label == "c", "x", generator.choice(["x", "y"], 260))
    batch = np.where(np.arange(260) == 0, "stray", batch)
    X = generator.normal(size=(260, 3)) + 30.0 * np.searchsorted(["a", "b", "c"], label)[:, None]
    X[(label == "b") & (batch == "y"), 2] += 300  # where b is not mixed
    return truth_of(label, batch, X), X.astype(np.float32)


def test_means_of_each_label_and_batch_are_recorded(crossed):
    truth, X = crossed
    outcome = score(INTEGRATION, Outputs(obs_names=truth.obs_names, X_emb=X), truth)
    found = {(one.by, one.name): one for one in outcome.per_group}
    assert list(found) == [
        ("label", "a"), ("label", "b"), ("label", "c"),
        ("batch", "stray"), ("batch", "x"), ("batch", "y"),
    ]  # fmt: skip
    assert {name: one.n for (by, name), one in found.items() if by == "label"} == {
        "a": 120,
        "b": 100,
        "c": 40,
    }
    assert found["label", "b"].values["batch_mixing"] < 0.3 < 0.8 < found["label", "a"].values["batch_mixing"]
    assert "batch_mixing" not in found["label", "c"].values, "in one batch"
    assert "kbet_per_label" not in found["label", "c"].values
    assert found["label", "c"].values["label_purity"] == pytest.approx(1.0)
    # Metrics that read batches do not see the stray cell, others do.
    assert found["batch", "stray"].values.keys() == {"label_purity", "clisi"}
    values, _ = values_and_reasons(outcome)
    of_labels = [
        one.values["kbet_per_label"] for one in outcome.per_group if one.by == "label" and one.name != "c"
    ]
    assert values["kbet_per_label"] == pytest.approx(np.mean(of_labels), abs=1e-12)
    assert set().union(*(one.values for one in outcome.per_group)) <= set(INTEGRATION.per_cell)


def test_values_of_single_cells_have_the_recorded_means(crossed):
    truth, X = crossed
    outputs = Outputs(obs_names=truth.obs_names, X_emb=X)
    outcome, cells = score(INTEGRATION, outputs, truth), values_per_cell(INTEGRATION, outputs, truth)
    assert {values.dtype for values in cells.values()} == {np.dtype(np.float32)}
    assert {len(values) for values in cells.values()} == {260}
    values, _ = values_and_reasons(outcome)
    assert np.nanmedian(cells["ilisi"]) == pytest.approx(values["ilisi"], abs=1e-6)
    assert np.median(cells["clisi"]) == pytest.approx(values["clisi"], abs=1e-6)
    assert np.nanmean(cells["kbet"]) == pytest.approx(values["kbet"], abs=1e-6)
    for name in ("ilisi", "kbet", "kbet_per_label", "batch_mixing"):
        assert np.isnan(cells[name][0]), "a stray cell"
    for one in outcome.per_group:
        own = (truth.label if one.by == "label" else truth.batch) == one.name
        for name in ("label_purity", "clisi", "kbet_per_label"):
            if name in one.values:
                assert np.nanmean(cells[name][own]) == pytest.approx(one.values[name], abs=1e-5)


def test_tasks_without_them_and_parts_of_the_metrics_have_no_such_means(crossed):
    truth, X = crossed
    outputs = Outputs(obs_names=truth.obs_names, X_emb=X)
    assert values_per_cell(ANNOTATION, outputs, truth) == {}
    assert score(INTEGRATION, outputs, truth, only=("ilisi",)).per_group == ()
    with pytest.raises(ContractError, match="not for the cells"):
        values_per_cell(INTEGRATION, replace(outputs, obs_names=truth.obs_names[::-1]), truth)


def test_an_output_without_neighbours_has_no_means(two_types):
    truth, graph, _ = two_types
    assert score(INTEGRATION, Outputs(obs_names=truth.obs_names, graph=graph), truth).per_group == ()


def test_links_without_lengths_give_no_neighbours(two_types):
    truth, graph, _ = two_types
    values, missing = values_and_reasons(
        score(INTEGRATION, Outputs(obs_names=truth.obs_names, graph=graph), truth)
    )
    assert values["graph_connectivity_scib"] == 1.0
    assert "the method returned a graph, not coordinates" in missing["ilisi"].reason


def test_links_that_leave_cells_behind_say_so(two_types):
    truth, graph, lengths = two_types
    lengths = lengths.tolil()
    whole, _ = values_and_reasons(
        score(
            INTEGRATION,
            Outputs(obs_names=truth.obs_names, graph=graph, graph_distances=lengths.tocsr()),
            truth,
        )
    )
    lengths[3], lengths[:, 3] = 0, 0
    outcome = score(
        INTEGRATION, Outputs(obs_names=truth.obs_names, graph=graph, graph_distances=lengths.tocsr()), truth
    )
    values, _ = values_and_reasons(outcome)
    assert values["ilisi"] == pytest.approx(whole["ilisi"], abs=0.01)
    assert values["leiden_nmi"] == whole["leiden_nmi"], "of links alone"
    (note,) = outcome.evaluation.shortcuts
    assert "1 of 240 cells are in parts of the graph with fewer than 91 cells" in note.description


def test_links_between_other_cells_are_found(two_types):
    truth, graph, _ = two_types
    check_rows_belong_to_cells("m", Outputs(obs_names=truth.obs_names, graph=graph), truth)
    order = np.random.default_rng(1).permutation(240)
    moved = Outputs(obs_names=truth.obs_names, graph=graph[order][:, order])
    with pytest.raises(ContractError, match="m: the rows bear no relation to the cells"):
        check_rows_belong_to_cells("m", moved, truth)


def test_corrected_expression_is_compared_with_what_it_was(two_types):
    truth, _, _ = two_types
    generator = np.random.default_rng(2)
    expression = generator.poisson(2.0, size=(240, 60)) + 3.0 * np.outer(
        truth.label == "a", np.arange(60) < 9
    )
    outputs = Outputs(
        obs_names=truth.obs_names,
        X_emb=truth.X_pre,
        corrected=2 * expression,
        genes=np.array([f"g{i}" for i in range(60)]),
    )
    values, _ = values_and_reasons(score(INTEGRATION, outputs, truth, given={"expression": expression}))
    assert values["fold_change_kept"] == pytest.approx(1.0)
    assert values["gene_correlation_kept"] == pytest.approx(1.0)
    assert values["hvg_overlap"] == 1.0
    values, _ = values_and_reasons(
        score(INTEGRATION, outputs, truth, given={"expression": generator.permuted(expression, axis=0)})
    )
    assert values["fold_change_kept"] < 0.7


def test_a_prediction_without_probabilities_keeps_its_overall_score():
    label = np.array(list("aabbccdd"))
    truth = truth_of(label, np.repeat("x", 8), np.zeros((8, 2)))
    scored = score(ANNOTATION, Outputs(obs_names=truth.obs_names, label_pred=label), truth)
    found = {row.metric_id: row for row in scored.scores}
    assert {found[name].value for name in IN_OVERALL["annotation"]} == {1.0}
    assert found["log_loss"].undefined_by == "output"
    assert found["rare_recall"].undefined_by == "data"


def test_an_output_of_a_task_that_a_method_lacks_is_the_methods_fault(monkeypatch):
    label = np.array(list("aabb"))
    truth = truth_of(label, np.repeat("x", 4), np.zeros((4, 2)))
    for name in ("depth", "width"):
        argument = {"depth": lambda depth: float(depth.mean()), "width": lambda width: float(width.mean())}
        spec = replace(METRICS["accuracy"], metric_id=name, aspect="size", function=argument[name])
        monkeypatch.setitem(METRICS, name, spec)
    task = replace(ANNOTATION, weights={"size": 1.0}, scored=("depth", "width"), details=lambda inputs: {})
    outputs = Outputs(obs_names=truth.obs_names, more={"depth": np.full(4, 0.5)})
    values, missing = values_and_reasons(score(task, outputs, truth))
    assert values == {"depth": 0.5}
    assert missing["width"].undefined_by == "output"
    assert "the method did not return 'width'" in missing["width"].reason


def test_shortcuts_and_their_errors_go_into_the_scores_and_from_there_into_json(monkeypatch):
    profile = Profile(name="fast", exact_cells=100, sample_cells=60, seed=3)
    monkeypatch.setattr(profiles, "PROFILES", {"fast": profile})
    # A recall that is known stands in for one that is measured.
    monkeypatch.setattr(
        "cellular_bench.metrics.numerics.shared_distances.approximate_neighbors",
        lambda X, k, ranks, *, seed, n_jobs: (nearest_neighbors(X, k), 0.97),
    )
    rng = np.random.default_rng(0)
    label, batch = np.repeat(["a", "b"], 60), np.tile(["x", "y"], 60)
    inputs = {"X_emb": rng.normal(size=(120, 3)), "label": label, "batch": batch}
    specs = [METRICS[name] for name in ("clisi", "silhouette_label", "bras")]
    scored = Outcome.model_validate_json(compute(specs, inputs, profile="fast").model_dump_json())
    neighbors, silhouettes = scored.evaluation.shortcuts
    assert scored.evaluation.profile == "fast"
    assert neighbors.metric_ids == ("clisi",)
    assert neighbors.library.startswith("faiss 1.")
    assert neighbors.figures == {"recall": 0.97, "n_obs": 120, "seed": 3}
    assert silhouettes.metric_ids == ("silhouette_label",)
    assert silhouettes.library is None
    assert silhouettes.figures == {"n_sampled": 60, "n_obs": 120, "seed": 3}
    errors = {row.metric_id: row.standard_error for row in scored.scores}
    assert errors["clisi"] is errors["bras"] is None
    assert 0 < errors["silhouette_label"] < 0.1


def test_exact_scores_have_a_profile_and_no_shortcut():
    scored = compute([METRICS["accuracy"]], {"label": ["a", "b"], "label_pred": ["a", "a"]})
    assert scored.evaluation.model_dump() == {"profile": "standard", "min_cells": 10, "shortcuts": ()}
    assert scored.scores[0].standard_error is None


def test_a_note_names_predictions_that_no_cell_of_the_data_has(small, tmp_path):
    dataset = small["simulated_small"]
    write_data(dataset, tmp_path / "data.h5ad")
    names = np.array(["a", "b", "c", "d"])
    pred = np.array(["type2", "Type-2", "type1", "unassigned"])
    rejected = np.array([False, False, False, True])
    outputs = Outputs(obs_names=names, label_pred=pred, rejected=rejected)
    assert notes_on(outputs, tmp_path / "data.h5ad") == (
        "Predicted labels that are no true label: 'Type-2' (1 cell; did you mean 'type2'?).",
    )
    assert notes_on(replace(outputs, rejected=pred != "type1"), tmp_path / "data.h5ad") == ()
    assert notes_on(Outputs(obs_names=names, X_emb=np.zeros((4, 2))), tmp_path / "data.h5ad") == ()


METHOD = """
from cellular_bench import MethodSpec, Prediction

class Misspells:
    spec = MethodSpec(method_id="misspells", name="Misspells", tasks=("annotation",), labels="train",
                      inductive=True)

    def __init__(self, *, seed=0):
        pass

    def fit(self, train):
        self.first = sorted(train.obs["label"].astype(str))[0]

    def predict(self, query):
        return Prediction(label_pred=[self.first + "-"] + [self.first + " "] * (query.n_obs - 1))
"""


def test_a_record_keeps_the_note(tmp_path):
    (tmp_path / "misspells.py").write_text(METHOD)
    results = cellular_bench.run(
        methods=tmp_path / "misspells.py", tasks="annotation", datasets="simulated_small", split="kfold",
        n_splits=2, out=tmp_path / "out", quiet=True,
    )  # fmt: skip
    for record in results.records:
        assert record.notes == (
            "Predicted labels that are no true label: 'type1-' (1 cell; did you mean 'type1'?).",
        )
        assert record.value("accuracy") > 0.1
    assert "Misspells: Predicted labels" in (tmp_path / "out" / "leaderboard.html").read_text()
