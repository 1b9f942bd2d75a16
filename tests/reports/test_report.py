"""A report is built once, and every format shows every table of it."""

import json
from dataclasses import replace

import pytest

from cellular_bench.benchmark.tasks import TASKS
from cellular_bench.reports import Report, build_report, write
from cellular_bench.reports.page.site import write_site_pages
from cellular_bench.reports.tables import board as board_tables_module
from cellular_bench.reports.tables.board import board_tables
from cellular_bench.reports.tables.model import Cell, Column, Table, TableRow, missing, with_notes
from cellular_bench.reports.text.markdown_and_csv import table_markdown
from cellular_bench.reports.writing import write_published

FORMATS = ("html", "md", "latex")


def cells_table(board):
    """A table that is not of methods, as a plug-in would write it."""
    rows = (
        TableRow("stem cells", (Cell("1,234", sort=1234), missing("never counted"))),
        TableRow("T_cells & more", (Cell("56", sort=56), Cell("0.250", sort=0.25, share=0.25))),
    )
    columns = (Column("Cells"), Column("Share of <b>", "bar"))
    return Table(table_id=f"{board.board_id}-cells", title="Cells by type", columns=columns, rows=rows)


def test_boards_are_built_once_for_all_formats(records, specs, tmp_path, monkeypatch):
    report = build_report(records, specs, title="t")

    def again(*_):
        raise AssertionError("boards are built again")

    for place in ("benchmark.analysis.leaderboard", "reports.report"):
        monkeypatch.setattr(f"cellular_bench.{place}.build_boards", again)
    written = write(report, tmp_path, formats=("html", "csv", "md", "latex", "svg"))
    written += write_site_pages(report, tmp_path / "site")
    assert write_published(report, tmp_path) == []
    assert all(path.stat().st_size for path in written)


def test_the_part_of_a_task_has_its_runs_and_boards_only(records, specs):
    part = build_report(records, specs, title="t").of_task("novelty", title="n")
    assert {run.task for run in part.records} == {board.task for board in part.boards} == {"novelty"}
    assert [made.board.task for made in part.board_reports] == ["novelty"]


@pytest.fixture
def with_cells(records, specs, monkeypatch) -> Report:
    """A report with one table more, named in the list of tables."""
    monkeypatch.setattr(board_tables_module, "BOARD_TABLES", (*board_tables_module.BOARD_TABLES, cells_table))
    return build_report(records, specs, title="t")


def test_a_table_in_the_list_is_in_every_format(with_cells, tmp_path):
    page, markdown, latex = (p.read_text("utf-8") for p in write(with_cells, tmp_path, formats=FORMATS))
    boards = [board.board_id for board in with_cells.boards]
    assert all(f'<table class="plain" id="{board}-cells">' in page for board in boards)
    assert "Share of &lt;b&gt;" in page and "Share of <b>" not in page
    assert markdown.count("\n### Cells by type\n") == len(boards)
    assert "| stem cells | 1,234 | – \\[1\\] |" in markdown
    assert latex.count(r"T\_cells \& more & 56 & 0.250 \\") == len(boards)
    write_site_pages(with_cells, tmp_path)
    (board,) = json.loads((tmp_path / "novelty.json").read_text("utf-8"))
    (table,) = [table for table in board["tables"] if table["title"] == "Cells by type"]
    assert table["rows"][0]["cells"] == [
        {"text": "1,234", "value": 1234},
        {"text": "–", "reason": "never counted", "note": 1},
    ]


def test_every_table_of_a_report_is_in_every_format(records, specs, tmp_path):
    report = build_report(records, specs, title="t")
    page, markdown, latex = (p.read_text("utf-8") for p in write(report, tmp_path, formats=FORMATS))
    tables = [table for part in report.parts for table in part.tables]
    assert len({table.table_id for table in tables}) == len(tables) > 10
    for table in tables:
        assert f' id="{table.table_id}">' in page
        assert f"### {table.title}\n" in markdown
        assert rf"\label{{tab:{table.table_id}}}" in latex


def test_tables_of_a_task_come_after_the_others(records, specs, monkeypatch):
    board = build_report(records, specs, title="t").boards[0]
    plain = board_tables(board)
    task = replace(TASKS[board.task], tables=(cells_table, lambda board: None))
    monkeypatch.setitem(TASKS, board.task, task)
    more = board_tables(board)
    assert [table.title for table in more] == [*(table.title for table in plain), "Cells by type"]


def test_reasons_of_missing_scores_are_numbered_once(records, specs):
    board = build_report(records, specs, title="t").boards[0]
    table = cells_table(board)
    rows = (*table.rows, replace(table.rows[0], name="B cells"))
    noted = with_notes(replace(table, rows=rows))
    assert [row.cells[1].note for row in noted.rows] == [1, None, 1]
    (notes,) = noted.remarks
    assert notes.items == ("never counted (stem cells: Share of <b>; B cells: Share of <b>)",)
    assert table.remarks == ()


def test_a_table_without_rows_is_a_head(specs):
    table = Table(table_id="t", title="T", columns=(Column("A"),), rows=(), head="B")
    assert list(table_markdown(table)) == ["| B | A |\n| --- | ---: |"]
