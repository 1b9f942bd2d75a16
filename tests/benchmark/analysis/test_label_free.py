"""Rankings of cells without labels, worked out by hand."""

import numpy as np
import pytest

from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.tasks import INTEGRATION
from cellular_bench.core.labels import NO_LABELS
from cellular_bench.metrics import METRICS, evaluate, structure_reference
from cellular_bench.reports.tables.overview import caution_in_words, formula, weights_notes

FREE = INTEGRATION.without_labels
VALUES = {"ilisi": 0.2, "kbet": 0.1, "pcr_comparison": 0.6, "state_kept_clusters": 0.8}


@pytest.fixture
def board(make):
    """Return a function: a board of methods without labels, from values of metrics, and a rule."""

    def board_of(methods, n_labels=0, weights=None):
        records = []
        for name, values in methods.items():
            run = make(name, 0, {})
            scores = []
            for metric_id, spec in METRICS.items():
                score = {"metric_id": metric_id, "aspect": spec.aspect, "value": values.get(metric_id)}
                if spec.aspect in INTEGRATION.weights and not spec.on_request:
                    if metric_id not in values:
                        score |= {"reason": NO_LABELS, "undefined_by": "data"}
                    elif values[metric_id] is None:
                        score |= {"reason": "it returned a graph", "undefined_by": "output"}
                    scores.append(score)
            dataset = run.dataset.model_dump() | {"n_labels": n_labels}
            records.append(
                type(run).model_validate(run.model_dump() | {"scores": scores, "dataset": dataset})
            )
        (one,) = build_boards(records, METRICS.values(), weights=weights)
        return one

    return board_of


def test_half_is_mixing_and_half_structure_kept(board):
    (row,) = board({"One": VALUES}).rows
    assert row.rank == 1
    assert row.overall.mean == pytest.approx(0.5 * (0.2 + 0.1 + 0.6) / 3 + 0.5 * 0.8)
    assert {aspect: found.mean for aspect, found in row.aspects.items()} == pytest.approx(
        {"batch_correction": 0.3, "structure": 0.8}
    )


@pytest.mark.parametrize("other", ["neighbours_kept", "cell_cycle_conservation", "hvg_overlap"])
def test_metrics_that_need_no_labels_either_do_not_count(board, other):
    made = board({"One": VALUES | {other: 0.99}, "Two": VALUES | {other: 0.01}})
    assert [row.rank for row in made.rows] == [1, 1]
    assert other in {spec.metric_id for spec in made.metrics}


@pytest.mark.parametrize("metric_id", VALUES)
def test_every_metric_of_the_rule_counts(board, metric_id):
    made = board({"One": VALUES, "Two": VALUES | {metric_id: VALUES[metric_id] + 0.1}})
    assert {row.method.name: row.rank for row in made.rows} == {"Two": 1, "One": 2}


def test_metrics_that_need_labels_are_no_columns_but_are_named(board):
    made = board({"One": VALUES})
    assert {spec.metric_id for spec in made.metrics} == set(VALUES)
    text = caution_in_words(made)
    assert text.startswith("Exploratory:")
    for metric_id in ("clisi", "kbet_per_label", "state_kept", "type_geometry"):
        assert METRICS[metric_id].name in text
    assert METRICS["ilisi"].name not in text
    assert formula(made).endswith("(Label-free weights)")


@pytest.mark.parametrize("metric_id", VALUES)
def test_a_method_without_an_output_for_a_metric_is_not_ranked(board, metric_id):
    made = board({"One": VALUES, "Two": VALUES | {metric_id: None}})
    assert {row.method.name: row.rank for row in made.rows} == {"One": 1, "Two": None}


def test_the_same_cells_with_labels_are_ranked_as_usual(board):
    made = board({"One": VALUES}, n_labels=3)
    assert made.rule.name != "label_free"
    assert caution_in_words(made) == ""


def test_a_rule_that_counts_other_aspects_gives_way(board):
    made = board({"One": VALUES}, weights="scib")
    assert (made.rule.name, made.instead_of.name) == ("label_free", "scib")
    assert weights_notes(made) == (
        "Without labels there is no score of bio conservation, so the overall score has the Label-free "
        "weights.",
    )
    own = board({"One": VALUES}, weights={"batch_correction": 0.25, "structure": 0.75})
    assert own.instead_of is None
    assert own.rows[0].overall.mean == pytest.approx(0.25 * 0.3 + 0.75 * 0.8)


def test_metrics_of_structure_give_the_same_reason_as_those_that_read_labels():
    rng = np.random.default_rng(0)
    X, batch = rng.poisson(3.0, (120, 30)).astype(float), np.repeat(["a", "b"], 60)
    reference = structure_reference(X, batch, highly_variable=np.ones(30, bool), depth=np.zeros(120))
    ids = ["type_geometry", "state_kept", "spread_kept", "scgraph"]
    found = evaluate(ids, {"X_emb": X, "batch": batch, "structure": reference})
    assert {str(error) for error in found.values()} == {NO_LABELS}
    assert not any(error.by_output for error in found.values())
