"""The tables of a report in LaTeX: ``leaderboard.tex``, for the package booktabs."""

from __future__ import annotations

from collections.abc import Iterator

from cellular_bench.core.text import one_line
from cellular_bench.reports.report import BoardReport, Report
from cellular_bench.reports.tables.formatting import anchor
from cellular_bench.reports.tables.model import Cell, Table


def latex(report: Report) -> str:
    """Return every table of a report."""
    texts = [r"% Needs \usepackage{booktabs}. Brackets after scores: 95 % confidence interval."]
    for made in report.parts:
        title = made.title
        if isinstance(made, BoardReport):
            title += f" ({made.summary.subtitle})"
        texts += [table_latex(table, title) for table in made.tables]
    return "\n\n".join(texts) + "\n"


def table_latex(table: Table, title: str) -> str:
    """Return a table with its notes; ``title`` says what it belongs to."""
    alignments = ("p{6cm}" if c.kind == "wide" else "l" if c.is_words else "r" for c in table.columns)
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{tex(f'{title}: {table.title}')}}}",
            rf"\label{{tab:{anchor(table.table_id)}}}",
            rf"\begin{{tabular}}{{l{''.join(alignments)}}}",
            r"\toprule",
            " & ".join([tex(table.head), *(tex(column.title) for column in table.columns)]) + r" \\",
            *_body(table),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\footnotesize {tex(text)}" for text in _footnotes(table)),
            r"\end{table}",
        ]
    )


def _body(table: Table) -> Iterator[str]:
    for group, rows in table.groups:
        yield r"\midrule"
        if group is not None:
            yield rf"\multicolumn{{{1 + len(table.columns)}}}{{l}}{{\textit{{{tex(group.title)}}}}} \\"
        # Braces: LaTeX would read brackets or a star at the beginning as options of the line before.
        names = (
            f"{{}}{name}" if (name := tex(row.full_name)).startswith(("[", "*")) else name for row in rows
        )
        for name, row in zip(names, rows, strict=True):
            yield " & ".join([name, *map(_cell, row.cells)]) + r" \\"


def _cell(cell: Cell) -> str:
    style = {"strong": r"\textbf", "mild": r"\textit", "": ""}[cell.emphasis]
    text = rf"{style}{{{tex(cell.text)}}}" if style else tex(cell.text)
    count = f"({cell.count})" if cell.count else ""
    note = f"[{cell.note}]" if cell.note else ""
    whole = " ".join(
        filter(None, (tex("≈") if cell.approximate else "", text, tex(cell.detail), count, note))
    )
    return whole if cell.below is None else f"{whole}; {_cell(cell.below)}"


def _footnotes(table: Table) -> Iterator[str]:
    yield from filter(None, (table.lead, table.caption))
    for remarks in table.remarks:
        items = [f"[{i}] {text}" for i, text in enumerate(remarks.items, 1)]
        yield f"{remarks.title}: {'; '.join(items if remarks.is_numbered else remarks.items)}."


def tex(text: str) -> str:
    r"""Make any text safe in LaTeX: one line without commands.

    Examples
    --------
    >>> tex("a_b & 5 % ± −1")
    'a\\_b \\& 5 \\% $\\pm$ $-$1'
    """
    special = {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
        "±": r"$\pm$", "−": "$-$", "–": "--", "↓": r"$\downarrow$", "×": r"$\times$", "·": r"$\cdot$",
        "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "…": r"\ldots{}", "≈": r"$\approx$",
    }  # fmt: skip
    special |= {char: f"\\{char}" for char in "&%$#_{}"}
    return "".join(special.get(char, char) for char in one_line(text))
