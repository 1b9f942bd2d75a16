"""How ``run-benchmark score`` shows scores to a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellular_bench.benchmark.analysis.leaderboard import Summary
from cellular_bench.core.errors import UndefinedError
from cellular_bench.core.sizes import in_words
from cellular_bench.core.text import MOST_NAME, cut, one_line, visible

if TYPE_CHECKING:
    from cellular_bench.workflows.score_request import Row, ScoreResult


def print_table(result: ScoreResult) -> None:
    """Print a column per method; below it, the reason of each metric without a value."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = result.rows
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        cells.setdefault((row.method_id, row.score.metric_id), []).append(row)
    methods, metric_ids = (list(dict.fromkeys(names)) for names in zip(*cells, strict=True))
    table = Table("metric", box=None, pad_edge=False, header_style="bold")
    for method_id in methods:
        table.add_column(escape(one_line(method_id, MOST_NAME)), justify="right", overflow="fold")
    for metric_id in metric_ids:
        found = [cells.get((method_id, metric_id), []) for method_id in methods]
        if any(row.score.value is not None for part in found for row in part):
            table.add_row(escape(one_line(metric_id)), *(escape(_cell(part)) for part in found))
    with_intervals = any(row.resampled is not None for row in rows)
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no edge to wrap at
        console = Console(width=24 + (40 if with_intervals else 22) * len(methods))
    console.print(table)
    n_folds = {name: max(len(part) for (own, _), part in cells.items() if own == name) for name in methods}
    for line in _notes(result, n_folds, with_intervals=with_intervals):
        console.print(visible(cut(line)), markup=False, highlight=False, soft_wrap=True)


def _cell(rows: Sequence[Row]) -> str:
    summary = Summary.of(row.score.value for row in rows)
    if summary.mean is None or summary.n < len(rows):
        return "-"
    spread = f" ± {summary.std:.4f}" if summary.std is not None else ""
    return f"{_mark(rows)}{summary.mean:.4f}{spread}{_error(rows)}{_interval(rows)}"


def _mark(rows: Sequence[Row]) -> str:
    """Mark a score that rests on a shortcut."""
    approximate = any(
        row.score.metric_id in shortcut.metric_ids
        for row in rows
        if row.evaluation is not None
        for shortcut in row.evaluation.shortcuts
    )
    return "≈ " if approximate else ""


def _error(rows: Sequence[Row]) -> str:
    errors = [row.score.standard_error for row in rows if row.score.standard_error is not None]
    return f" (SE {max(errors):.4f})" if errors else ""


def _interval(rows: Sequence[Row]) -> str:
    """Write the interval of the mean over folds, whose cells are drawn independently."""
    if any(row.resampled is None for row in rows):
        return ""
    from cellular_bench.metrics import interval

    try:
        found = interval(np.mean([row.resampled for row in rows], axis=0))
    except UndefinedError:
        return " [-]"
    return f" [{found.low:.4f}, {found.high:.4f}]"


def _notes(result: ScoreResult, n_folds: Mapping[str, int], *, with_intervals: bool) -> list[str]:
    lines = []
    rows, numbers = result.rows, set(n_folds.values())
    if len(numbers) > 1:
        counts = ", ".join(f"{n} of {method_id}" for method_id, n in n_folds.items())
        lines.append(f"Mean ± standard deviation over folds: {counts}; --format json has each.")
    elif max(numbers) > 1:
        lines.append(f"Mean ± standard deviation over {max(numbers)} folds; --format json has each.")
    if with_intervals:
        n = max(len(row.resampled) for row in rows if row.resampled is not None)
        lines.append(f"[ ]: 95 % of {n} resamplings of the cells; [-] where too few have a value.")
    for method_id, evaluation in result.evaluations.items():
        lines += [f"≈ {method_id}: {shortcut.description}" for shortcut in evaluation.shortcuts]
    left_out: dict[str, list[str]] = {}
    for row in rows:
        if row.score.left_out:
            left_out.setdefault(in_words(row.score.left_out), []).append(row.score.metric_id)
    lines += [
        f"Without the cells of small batches, {names} (--min-cells 1 keeps them): "
        f"{', '.join(dict.fromkeys(metric_ids))}."
        for names, metric_ids in left_out.items()
    ]
    if result.ontology is not None:
        lines.append(_ontology_line(result.ontology))
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.score.reason:
            reasons.setdefault(row.score.reason, []).append(row.score.metric_id)
    return lines + [f"- {', '.join(dict.fromkeys(names))}: {reason}" for reason, names in reasons.items()]


def _ontology_line(found: Mapping[str, Any]) -> str:
    line = (
        f"Ontology: {found['share_of_labels']:.0%} of the true labels have a term, "
        f"{found['share_of_cells']:.1%} of the cells."
    )
    return line + (f" Without one: {', '.join(found['unmapped'])}." if found["unmapped"] else "")
