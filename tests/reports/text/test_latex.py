"""The tables of a report in LaTeX."""

import re

from cellular_bench.reports import build_report
from cellular_bench.reports.text.latex import latex, tex


def test_latex_tables_are_rectangular_and_closed(records, specs):
    report = build_report(records, specs, title="t")
    text = latex(report)
    found = re.findall(r"\\begin\{tabular\}\{(l.*?)\}\n(.*?)\\end\{tabular\}", text, flags=re.DOTALL)
    n_tables = sum(len(part.tables) for part in report.parts)
    assert len(found) == n_tables > 10
    for alignment, body in found:
        columns = alignment.replace("p{6cm}", "p")
        rows = [line for line in body.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
        assert len(rows) > 1
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(columns) - 1}
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == n_tables
    assert (
        r"Harmony (transductive) & 2 & 0.620 [0.000, 1.000] & 0.500 $\pm$ 0.141 & 0.700 $\pm$ 0.000" in text
    )
    assert r"\textless{}script\textgreater{}" in text


def test_what_latex_would_take_for_a_command_is_text():
    assert tex("50 % of a_b & $c #1 {x} \\y") == (r"50 \% of a\_b \& \$c \#1 \{x\} \textbackslash{}y")
