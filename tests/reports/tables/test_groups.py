"""Which labels and batches a method mixes or splits: the worst ones first."""

import pytest

from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.reports.tables.board import board_tables
from cellular_bench.reports.tables.groups import MOST_GROUPS, group_tables

CONTROL = {"is_control": True}


def groups(mixing, by="label", n=30):
    return [
        {"by": by, "name": name, "n": n, "values": {} if value is None else {"batch_mixing": value}}
        for name, value in mixing.items()
    ]


def tables_of(runs, specs):
    (board,) = build_boards(runs, specs.values())
    return {table.title: table for table in group_tables(board)}


@pytest.fixture
def run(make):
    def made(name, fold, mixing, **changes):
        control = {"method": CONTROL} if name == "Random" else {}
        fields = {"per_group": groups(mixing)} | control | changes
        return make(name, fold, {"ilisi": 0.5}, **fields)

    return made


def test_the_worst_labels_over_all_methods_but_controls_come_first(run, specs):
    runs = [
        run("Harmony", 0, {"T": 0.9, "B": 0.2, "NK": 0.5}),
        run("PCA", 0, {"T": 0.7, "B": 0.3, "NK": 0.1}),
        run("Random", 0, {"T": 0.0, "B": 1.0, "NK": 1.0}),
    ]
    table = tables_of(runs, specs)["Mixing by label"]
    assert [column.title for column in table.columns] == ["B", "NK", "T"]
    cells = {row.name: [cell.text for cell in row.cells] for row in table.rows}
    assert cells == {
        "Harmony": ["0.200", "0.500", "0.900"],
        "PCA": ["0.300", "0.100", "0.700"],
        "Random": ["1.000", "1.000", "0.000"],
    }
    assert [column.sub for column in table.columns] == ["30"] * 3


def test_what_is_missing_says_why(run, specs):
    lost = {"status": "failed", "reason": "crashed", "scores": (), "per_group": ()}
    runs = [
        run("Harmony", 0, {"T": 0.9, "single": None}),
        run("Harmony", 1, {"T": 0.7, "single": None}),
        run("PCA", 0, {"single": None}),
        run("PCA", 1, {"T": 0.5}).model_copy(update=lost),
        run("Old", 0, {}),
        run("Old", 1, {}),
    ]
    table = tables_of(runs, specs)["Mixing by label"]
    assert [column.title for column in table.columns] == ["T"], "no run has a value of the other"
    cells = {row.name: row.cells[0] for row in table.rows}
    assert (cells["Harmony"].text, cells["Harmony"].detail) == ("0.800", "± 0.141")
    assert cells["PCA"].reason == (
        "1 of 2 runs: not defined for its cells of this label; 1 of 2 runs: run failed: crashed"
    )
    assert cells["Old"].reason == "2 of 2 runs: no values by label"


def test_batches_have_a_table_of_their_own(run, specs):
    values = groups({"T": 0.9}) + groups({"T": 0.1, "d2": 0.4}, by="batch")
    tables = tables_of([run("Harmony", 0, {}, per_group=values)], specs)
    assert {title: [c.title for c in table.columns] for title, table in tables.items()} == {
        "Mixing by label": ["T"],
        "Mixing by batch": ["T", "d2"],
    }


def test_many_labels_are_shown_in_part_the_worst_ones(run, specs):
    mixing = {f"label {place}": place / 100 for place in reversed(range(90))}
    runs = [run("Harmony", 0, mixing)]
    (board,) = build_boards(runs, specs.values())
    (table,) = [table for table in board_tables(board) if table.title == "Mixing by label"]
    assert [column.title for column in table.columns] == [f"label {place}" for place in range(MOST_GROUPS)]
    assert f"{90 - MOST_GROUPS} more columns are left out here." in table.remarks[0].items


def test_boards_of_older_records_have_no_such_table(records, specs):
    for board in build_boards(records, specs.values()):
        assert list(group_tables(board)) == []
