"""What canaries gain, worked out by hand on toy boards."""

from dataclasses import replace

import numpy as np
import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.analysis.fooled import fooled
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.analysis.scales import by_controls, own_range
from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.reports.tables.board import board_tables
from cellular_bench.reports.tables.fooled import fooled_table

#: Values of each method on two splits; ARI goes from -1 to 1.
HARMONY = (
    {"ilisi": 0.5, "kbet": 0.3, "ari": 0.2, "clisi": 0.8},
    {"ilisi": 0.7, "kbet": 0.3, "ari": 0.2, "clisi": 0.8},
)
COLLAPSED = (
    {"ilisi": 0.5, "kbet": 0.3, "ari": 0.6, "clisi": 0.8},
    {"ilisi": 0.9, "kbet": 0.2, "ari": 0.2, "clisi": 0.8},
)
SHUFFLED = (
    {"ilisi": 1.0, "kbet": 1.0, "ari": -0.2, "clisi": 0.2},
    {"ilisi": 1.0, "kbet": 1.0, "ari": -0.2, "clisi": 0.2},
)


def identity(method_id: str) -> dict:
    method = registry.method(method_id)
    return {"method_id": method_id, "params": method.defaults, "is_control": method.spec.is_control}


@pytest.fixture
def board_of(make, specs):
    """Build a board of runs: method, values of each split, and changes of its identity."""

    def build(*rows):
        runs = [
            make(name, split, values, method=identity(name) | dict(*changes))
            for name, by_split, *changes in rows
            for split, values in enumerate(by_split)
            if values is not None
        ]
        (board,) = build_boards(runs, specs.values())
        return board

    return build


def test_gains_are_differences_on_each_metrics_own_range(board_of):
    found = fooled(board_of(("harmony", HARMONY), ("collapsed", COLLAPSED)))
    assert [row.method.method_id for row in found.canaries] == ["collapsed"]
    gains = {name: values[0] for name, values in found.metrics.items()}
    assert gains == pytest.approx({"ilisi": 0.1, "kbet": -0.05, "ari": 0.1, "clisi": 0.0})
    assert found.aspects["batch_correction"][0] == pytest.approx(0.025)
    assert found.aspects["bio_conservation"][0] == pytest.approx(0.05)


def test_the_gain_of_the_overall_score_is_that_of_its_aspects_by_weight(board_of, monkeypatch):
    weights = {"batch_correction": 0.25, "bio_conservation": 0.75}
    monkeypatch.setitem(TASKS, "integration", replace(TASKS["integration"], weights=weights))
    found = fooled(board_of(("harmony", HARMONY), ("collapsed", COLLAPSED)))
    assert found.overall[0] == pytest.approx(0.25 * 0.025 + 0.75 * 0.05)


def test_only_splits_that_both_have_are_compared(board_of):
    found = fooled(board_of(("harmony", HARMONY), ("collapsed", (None, COLLAPSED[1]))))
    assert found.metrics["ilisi"][0] == pytest.approx(0.2)
    found = fooled(board_of(("harmony", (HARMONY[0], None)), ("collapsed", (None, COLLAPSED[1]))))
    assert found.metrics["ilisi"] == (None,)
    assert found.overall == (None,)


def test_a_metric_without_a_value_has_no_gain(board_of):
    lost = ({**COLLAPSED[0], "ari": "output all cells coincide"}, None)
    found = fooled(board_of(("harmony", HARMONY), ("collapsed", lost), ("perfect_labels", SHUFFLED)))
    assert [row.method.method_id for row in found.canaries] == ["perfect_labels", "collapsed"]
    assert found.metrics["ari"][1] is None
    assert found.metrics["ilisi"][1] == pytest.approx(0.0)


@pytest.mark.parametrize(
    "rows",
    [
        [("harmony", HARMONY), ("perfect_labels", SHUFFLED)],
        [("pca", HARMONY), ("collapsed", COLLAPSED)],
        [("harmony", HARMONY, {"params": {"theta": 1.0}}), ("collapsed", COLLAPSED)],
        [("harmony", HARMONY), ("collapsed", COLLAPSED, {"source_digest": "0123456789"})],
    ],
    ids=["nothing damaged", "no undamaged", "other parameters", "of a plug-in"],
)
def test_there_is_no_table_without_a_damaged_and_the_undamaged_embedding(board_of, rows):
    board = board_of(*rows)
    assert fooled(board) is None
    assert fooled_table(board) is None


def test_the_table_marks_what_is_fooled(board_of):
    board = board_of(("harmony", HARMONY), ("collapsed", COLLAPSED), ("shuffled_within_type", SHUFFLED))
    (table,) = [table for table in board_tables(board) if table.title == "Fooled by"]
    assert [column.title for column in table.columns][2:] == ["collapsed", "shuffled in type"]
    cells = {row.name: row.cells for row in table.rows}
    assert [cell.text for cell in cells["iLISI"]] == ["Batch correction", "2 of 2", "+0.100", "+0.400"]
    assert [cell.text for cell in cells["cLISI"]] == ["Bio conservation", "0 of 2", "0.000", "−0.600"]
    marks = {name: [cell.emphasis == "strong" for cell in row[2:]] for name, row in cells.items()}
    assert marks["iLISI"] == [True, True]
    assert marks["kBET"] == [False, True]
    assert set(cells) == {
        "Overall", "Batch correction, mean", "Bio conservation, mean", "iLISI", "kBET", "ARI", "cLISI"
    }  # fmt: skip


def test_damaged_embeddings_do_not_move_the_scale_between_controls(board_of):
    worst = tuple(dict.fromkeys(values, 0.1) for values in HARMONY)
    rows = [("harmony", HARMONY), ("shuffled", worst), ("perfect_labels", COLLAPSED)]
    scales = []
    for more in ([], [("shuffled_within_type", SHUFFLED)]):
        board = board_of(*rows, *more)
        harmony = [row for row in board.rows if row.method.method_id == "harmony"]
        scales.append(by_controls(board, own_range(board, harmony)))
    np.testing.assert_array_equal(*scales)


def test_canaries_are_not_ranked(board_of):
    board = board_of(("harmony", HARMONY), ("collapsed", COLLAPSED), ("shuffled_within_type", SHUFFLED))
    assert {row.method.method_id: row.rank for row in board.rows} == {
        "harmony": 1, "collapsed": None, "shuffled_within_type": None
    }  # fmt: skip
