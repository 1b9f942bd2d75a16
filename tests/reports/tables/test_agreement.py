"""How far reimplemented methods agree with the originals is on the page and in Markdown."""

from cellular_bench.benchmark.analysis.fidelity import agreement_of
from cellular_bench.benchmark.analysis.leaderboard import build_boards
from cellular_bench.reports import build_report
from cellular_bench.reports.page.method_details import method_details
from cellular_bench.reports.tables.agreement import agreement_table
from cellular_bench.reports.tables.method_rows import method_anchor
from cellular_bench.reports.text.markdown_and_csv import markdown


def test_a_reimplemented_method_has_a_row_and_no_other(records, specs):
    table = agreement_table(build_boards(records, specs.values()))
    (row,) = table.rows
    found = agreement_of("scibet")
    assert (row.name, row.cells[0].text) == ("SciBet", found.verdict)
    text = markdown(build_report(records, specs, title="t"))
    assert f"| SciBet | {found.verdict} | {found.figures[0]}" in text


def test_its_entry_on_the_page_says_so(records, specs):
    boards = build_boards(records, specs.values())
    shown = {method_anchor(row.method) for board in boards for row in board.rows}
    entries = {entry.method.method_id: entry.agreement for entry in method_details(boards, shown)}
    assert entries["scibet"] == agreement_of("scibet").text
    assert entries["harmony"] == ""


def test_without_one_there_is_no_table(records, specs, make):
    plain = make("Harmony", 0, {"ilisi": 0.5})
    assert agreement_table(build_boards([plain], specs.values())) is None
