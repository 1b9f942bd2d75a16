"""Scores by held-out label."""

import pytest

from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.schema.records import SplitIdentity
from cellular_bench.reports.tables.held_out import held_out_table


def run(make, name, label, fold, scores, task="novelty", **changes):
    """Return a run with a label held out."""
    split = SplitIdentity(
        split_id=f"unseen-{label}-{fold}",
        kind="unseen_label",
        scheme="unseen",
        unseen_labels=(label,),
        digest=f"{label}{fold}",
        n_train=10,
        n_test=5,
    )
    record = make(name, fold, scores, task=task, **changes)
    return record.model_copy(update={"run_id": f"{name}-{label}-{fold}", "split": split})


@pytest.fixture(scope="module")
def table(make, specs):
    values = {"beta": (0.5, 0.75), "alpha": (0.875, 1.0)}
    runs = [
        run(make, "SciBet", label, fold, {"auroc": value})
        for label, found in values.items()
        for fold, value in enumerate(found)
    ]
    failed = {"status": "failed", "reason": "boom", "cost": None}
    (board,) = build_boards([*runs, run(make, "Crasher", "beta", 0, {}, **failed)], specs.values())
    return held_out_table(board)


def test_each_label_has_the_mean_over_its_splits(table):
    assert [column.title for column in table.columns] == ["alpha", "beta"]
    cells = {line.name: line.cells for group in table.groups for line in group.lines}
    assert [cell.text for cell in cells["SciBet"]] == ["0.938", "0.625"]
    assert cells["SciBet"][1].detail == "± 0.177"


def test_what_failed_or_was_not_run_says_so(table):
    cells = {line.name: line.cells for group in table.groups for line in group.lines}
    assert [cell.reason for cell in cells["Crasher"]] == [
        "never run with this label held out",
        "1 of 1 run: run failed: boom",
    ]


def test_labels_held_out_of_another_task_have_one_too(make, specs):
    runs = [
        run(make, "SciBet", label, 0, {"accuracy": value}, task="annotation")
        for label, value in (("alpha", 0.5), ("beta", 0.25))
    ]
    (board,) = build_boards(runs, specs.values())
    (line,) = held_out_table(board).groups[0].lines
    assert [cell.text for cell in line.cells] == ["0.500", "0.250"]


def test_other_boards_have_no_such_table(records, specs):
    assert [held_out_table(board) for board in build_boards(records, specs.values())] == [None, None, None]
