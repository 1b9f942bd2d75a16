"""Published scores beside ours: quoted exactly, joined by name, and never where they do not belong."""

import csv
from dataclasses import replace
from statistics import fmean, stdev

import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.leaderboard import build_boards
from cellular_bench.benchmark.published import PARTS_OF, STUDIES, published_scores
from cellular_bench.benchmark.types import TASKS
from cellular_bench.reports.published import published_tables


@pytest.fixture
def make_board(make, specs):
    """A board of one method that was scored on one fold."""

    def board(*, dataset_id, method_id, accuracy):
        dataset = make("Any", 1, {}).dataset.model_copy(update={"dataset_id": dataset_id})
        record = make(
            "Any",
            1,
            {"accuracy": accuracy},
            task="annotation",
            dataset=dataset.model_dump(),
            method={"method_id": method_id},
        )
        (built,) = build_boards([record], specs.values())
        return built

    return board


def _score(dataset_id, method_id, metric_id, *, protocol="annotation", features="hvg"):
    (found,) = [
        score
        for score in published_scores()
        if (score.dataset_id, score.method_id, score.metric_id, score.protocol, score.features)
        == (dataset_id, method_id, metric_id, protocol, features)
    ]
    return found


def test_figures_are_those_of_the_studys_own_files(shared):
    with (shared / "published/annotation/scores_per_fold.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if (row["dataset"], row["method"]) == ("Baron", "scNym")]
    values = [float(row["balanced_accuracy"]) for row in rows]
    score = _score("baron_full", "scnym", "balanced_accuracy", features="all")
    assert score.mean == pytest.approx(fmean(values), abs=1e-6)
    assert score.std == pytest.approx(stdev(values), abs=1e-6)
    assert score.n_folds == len(values) == 5


def test_the_table_that_everybody_quotes():
    assert f"{_score('baron_full', 'cellular', 'balanced_accuracy').mean:.3f}" == "0.980"
    kidney = _score("kidney", "cellular", "overall", protocol="generalisation")
    assert f"{kidney.mean:.3f}" == "0.799"


def test_names_are_ours():
    known = registry.datasets()
    for score in published_scores():
        assert score.dataset_id in known
        assert score.task in TASKS
        assert score.study_id in STUDIES
        assert score.std >= 0
    assert all(whole in known and part in known for part, (whole, _) in PARTS_OF.items())


def test_a_table_has_published_value_ours_and_difference(make_board):
    board = make_board(dataset_id="baron_full", method_id="cellular", accuracy=0.95)
    (table,) = [table for table in published_tables(board) if table.title.endswith("annotation")]
    row = next(row for row in table.rows if row.is_run_here)
    (accuracy,) = [item for item in row.comparisons if item.metric == "Accuracy"]
    assert (accuracy.published, accuracy.ours, accuracy.difference) == ("0.987 ± 0.002", "0.950", "−0.037")
    assert accuracy.is_large
    assert sum(not row.is_run_here for row in table.rows) == 11


def test_a_part_of_the_published_cells_is_said_to_be_one(make_board):
    board = make_board(dataset_id="baron", method_id="cellular", accuracy=0.98)
    assert all("all 8,569 cells" in table.remark for table in published_tables(board))


def test_other_splits_and_data_have_no_table(make_board):
    board = make_board(dataset_id="baron_full", method_id="cellular", accuracy=0.95)
    assert not published_tables(replace(board, split_kind="all"))
    assert not published_tables(make_board(dataset_id="mine", method_id="cellular", accuracy=0.95))
    assert not published_tables(make_board(dataset_id="baron_full", method_id="mine", accuracy=0.95))
