"""The study's scale, worked out by hand; it is off unless it is asked for."""

import pytest

from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.reports import build_report, write
from cellular_bench.reports.tables.board import board_tables
from cellular_bench.reports.tables.min_max import as_study, min_max_table


@pytest.fixture(scope="module")
def runs(make):
    """Three methods and a control on two splits; everyone has the same cLISI."""
    values = {"First": (0.8, 0.6, 0.4), "Second": (0.2, 0.5, 0.3), "Third": (0.4, 0.5, 0.0)}
    found = []
    for split in range(2):
        for name, (ilisi, kbet, ari) in values.items():
            scores = {"ilisi": ilisi + 0.1 * split, "kbet": kbet, "ari": ari, "clisi": 0.9}
            found.append(make(name, split, scores))
        ends = {"ilisi": 0.0, "kbet": 0.0, "ari": -1.0, "clisi": 0.0}
        found.append(make("Shuffled", split, ends, method={"is_control": True}))
    return found


def test_every_metric_runs_from_the_worst_to_the_best_method_of_a_split(runs, specs):
    (board,) = build_boards(runs, specs.values())
    table = min_max_table(board)
    assert table is not None
    cells = {row.name: [c.text for c in row.cells] for row in table.rows}
    # iLISI 1, 0 and 1/3; kBET 1, 0 and 0; ARI 1, 3/4 and 0; cLISI, equal for all, is left out
    assert cells == {
        "First": ["1", "1.000", "1.000", "1.000"],
        "Second": ["2", "0.450", "0.000", "0.750"],
        "Third": ["3", "0.067", "0.167", "0.000"],
    }


def test_it_depends_on_who_takes_part_and_says_so(runs, specs):
    (board,) = build_boards([run for run in runs if run.method.name != "Third"], specs.values())
    table = min_max_table(board)
    assert table is not None
    second = next(row for row in table.rows if row.name == "Second")
    assert second.cells[1].text == "0.000"  # all that it had was being better than the third
    assert "depends on who else is in the table" in table.caption
    assert as_study(board) == (board, False)


def test_it_is_shown_only_where_it_is_asked_for(runs, specs, tmp_path):
    (board,) = build_boards(runs, specs.values())
    assert not [table for table in board_tables(board) if "min-max" in table.table_id]
    pages = []
    for view in ("default", "paper"):
        (path,) = write(build_report(runs, specs, title="t", view=view), tmp_path / view, formats=["html"])
        pages.append(path.read_text("utf-8"))
    assert ["Min-max over methods" in page for page in pages] == [False, True]
