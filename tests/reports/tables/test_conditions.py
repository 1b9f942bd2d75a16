"""What is kept of a condition, by label and donor."""

import pytest

from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.reports.tables.conditions import condition_tables


def kept(*figures, column="stim", value="yes"):
    """Return what a record has of a condition, from labels, donors and their AUCs, after and before."""
    names = ("label", "donor", "auc", "auc_before")
    donors = [{"value": value, "n_obs": 40, **dict(zip(names, each, strict=True))} for each in figures]
    return {"column": column, "kept": 0.5, "donors": donors}


@pytest.fixture
def tables(make, specs):
    after = {"Careful": (0.9, 0.75), "Rough": (0.5, 0.75)}
    runs = [
        make(name, 0, {"ilisi": 0.5}, conditions=[kept(("T", "d1", first, 1.0), ("T", "d2", second, 0.75))])
        for name, (first, second) in after.items()
    ]
    control = {"method": {"is_control": True}}
    lost = kept(("T", "d1", 0.5, 1.0), ("T", "d2", 0.0, 0.75))
    runs.append(make("Shuffled", 0, {"ilisi": 0.9}, conditions=[lost], **control))
    failed = {"status": "failed", "reason": "boom", "cost": None}
    (board,) = build_boards([*runs, make("Crasher", 0, {}, **failed)], specs.values())
    return list(condition_tables(board))


def test_where_most_is_lost_comes_first_and_controls_have_no_say(tables):
    (table,) = tables
    assert table.title == "Kept of stim, by label and donor"
    assert [(column.title, column.sub) for column in table.columns] == [
        ("T, d1", "1.000"),
        ("T, d2", "0.750"),
    ]
    cells = {row.name: [cell.text for cell in row.cells] for row in table.rows}
    assert cells["Careful"] == ["0.900", "0.750"]
    assert cells["Rough"] == ["0.500", "0.750"]


def test_the_shade_begins_at_chance_and_failures_have_a_reason(tables):
    cells = {row.name: row.cells for row in tables[0].rows}
    assert [cell.share for cell in cells["Rough"]] == [0.0, 0.5]
    assert [cell.share for cell in cells["Shuffled"]] == [0.0, 0.0], "below chance is no less"
    assert cells["Crasher"][0].reason == "1 of 1 run: run failed: boom"


def test_each_condition_has_a_table_and_several_values_are_told_apart(make, specs):
    doses = [kept(("T", "d1", 0.8, 0.9), column="dose", value=value) for value in ("low", "high")]
    both = {"column": "dose", "kept": 0.5, "donors": [*doses[0]["donors"], *doses[1]["donors"]]}
    without = {"column": "sex", "kept": None, "reason": "there is only one value"}
    conditions = [both, without, kept(("T", "d1", 0.8, 0.9))]
    (board,) = build_boards([make("A", 0, {"ilisi": 0.5}, conditions=conditions)], specs.values())
    dose, stim = condition_tables(board)
    assert [column.title for column in dose.columns] == ["T, d1: high", "T, d1: low"]
    assert [column.title for column in stim.columns] == ["T, d1"]
    assert dose.table_id != stim.table_id


def test_other_boards_have_no_such_table(records, specs):
    assert [list(condition_tables(board)) for board in build_boards(records, specs.values())] == [[], [], []]
