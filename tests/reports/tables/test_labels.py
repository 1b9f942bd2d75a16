"""Scores by label: F1 scores, and overall scores by held-out label."""

import pytest

from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.benchmark.schema.records import SplitIdentity
from cellular_bench.reports.tables.labels import held_out_table, labels_table


def run(make, name, label, fold, scores, **changes):
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
    record = make(name, fold, scores, task="novelty", **changes)
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
    cells = {row.name: row.cells for row in table.rows}
    assert [cell.text for cell in cells["SciBet"]] == ["0.938", "0.625"]
    assert cells["SciBet"][1].detail == "± 0.177"


def test_what_failed_or_was_not_run_says_so(table):
    cells = {row.name: row.cells for row in table.rows}
    assert [cell.reason for cell in cells["Crasher"]] == [
        "never run with this label held out",
        "1 of 1 run: run failed: boom",
    ]


def test_other_boards_have_no_such_table(records, specs):
    assert [held_out_table(board) for board in build_boards(records, specs.values())] == [None, None, None]


@pytest.fixture
def by_label(make, specs):
    """Two methods on five folds; the last fold of the second failed. Only the first fold has a rare cell."""

    def scores(found):
        return [
            {"label": label, "support": n, "n_predicted": given, "precision": f1, "recall": f1, "f1": f1}
            for label, (n, given, f1) in found.items()
        ]

    runs = []
    for name in ("Careful", "Bold"):
        for fold in range(5):
            reported = {"T": (20, 20, 0.9)}
            if fold == 0:
                reported["rare"] = (1, 1, 1.0)
            elif fold == 1 and name == "Bold":
                reported["rare"] = (0, 1, 0.0)  # given once where no cell has it
            values = {"accuracy": 0.9}
            runs.append(make(name, fold, values, task="annotation", per_label=scores(reported)))
    lost = {"status": "failed", "reason": "crashed", "scores": (), "per_label": ()}
    (board,) = build_boards([*runs[:-1], runs[-1].model_copy(update=lost)], specs.values())
    table = labels_table(board)
    assert table is not None
    return table


def test_a_label_is_averaged_over_the_runs_that_have_its_cells(by_label):
    cells = {row.name: row.cells for row in by_label.rows}
    reported = {name: [(c.text, c.detail, c.count) for c in found] for name, found in cells.items()}
    assert reported == {
        "Careful": [("0.900", "± 0.000", ""), ("1.000", "", "1 of 5")],
        "Bold": [("0.900", "± 0.000", "4 of 5"), ("1.000", "", "1 of 5")],
    }
    assert cells["Careful"][1].reason == "4 of 5 runs: no scored cell has this label"
    assert cells["Bold"][0].reason == "1 of 5 runs: run failed: crashed"


def test_the_cells_of_a_label_are_counted_over_all_runs_with_results(by_label):
    """Two rare cells in nine runs."""
    assert [(column.title, column.sub) for column in by_label.columns] == [("T", "20"), ("rare", "0.22")]
    assert by_label.columns[1].hint == "0.22 scored cells per run on average"
