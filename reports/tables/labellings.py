"""The ranking of a board under other labels of the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cellular_bench.benchmark.analysis.labellings import (
    OtherLabels,
    Verdict,
    under_other_labels,
    verdict,
)
from cellular_bench.benchmark.analysis.leaderboard import RANKED, Board, BoardRow, method_key
from cellular_bench.core.text import MOST_NAME, one_line
from cellular_bench.reports.tables.formatting import number
from cellular_bench.reports.tables.method_rows import full_names, method_rows
from cellular_bench.reports.tables.model import Cell, Column, Remarks, Table, missing, number_cell


def labellings_table(board: Board) -> Table | None:
    """Return overall score and rank of each method under each labelling; None if there is one labelling."""
    others = under_other_labels(board)
    if not others:
        return None
    found = [
        {method_key(row.method): row for row in one.rows} for one in (board, *(one.board for one in others))
    ]

    def cells(row: BoardRow) -> tuple[Cell, ...]:
        rows = [rows.get(method_key(row.method)) for rows in found]
        return tuple(cell for one in rows for cell in _cells(one))

    return Table(
        table_id=f"{board.board_id}-labellings",
        title="Under other labels",
        lead=" ".join(_verdicts(board, others)),
        caption="Overall score and rank of the same outputs under other labels of the same cells, which no "
        "method saw. Methods that learn from labels saw the first ones, which is an advantage there. In "
        "brackets: numbers of labels.",
        columns=_columns(board, others),
        rows=method_rows(board, cells),
        remarks=_remarks(board, others),
    )


def _columns(board: Board, others: Sequence[OtherLabels]) -> tuple[Column, ...]:
    titles = [f"first labels ({board.dataset.n_labels})", *map(_title, others)]
    return tuple(
        column
        for title in titles
        for column in (
            Column(f"Overall, {title}", "bar", hint="Weighted mean of the aspect scores under these labels"),
            Column(f"Rank, {title}", hint="Among the complete methods of the same track", best="low"),
        )
    )


def _title(other: OtherLabels) -> str:
    low, high = other.n_labels
    return f"{one_line(other.name, MOST_NAME)} ({low if low == high else f'{low}–{high}'})"


def _cells(row: BoardRow | None) -> tuple[Cell, Cell]:
    if row is None or row.overall.mean is None:
        reason = "no scores under these labels" if row is None else row.incomplete_because
        return (missing(reason or "no run has a value"),) * 2
    score = number_cell(row.overall.mean)
    why = row.incomplete_because or "controls are not ranked"
    return (
        Cell(score.text, sort=score.sort, share=min(1.0, max(0.0, row.overall.mean))),
        Cell(str(row.rank), sort=row.rank) if row.rank else missing(why),
    )


def _verdicts(board: Board, others: Sequence[OtherLabels]) -> list[str]:
    """Say for each track whether its best method stays the best, within its ties."""
    names = full_names(board)
    sentences = []
    for track in RANKED:
        found = {one.name: verdict(board, one.board, track) for one in others}
        known = {name: one for name, one in found.items() if one is not None}
        if known:
            sentences.append(_sentence(track, known, names))
    return sentences


def _sentence(track: str, found: Mapping[str, Verdict], names: Mapping[str, str]) -> str:
    best = _listed(next(iter(found.values())).best, names)
    lost = [name for name, one in found.items() if not one.survives]
    if lost:
        where = " and ".join(map(_short, lost))
        return (
            f"{track.capitalize()}: the verdict depends on the labels: {best} is not the best under {where}."
        )
    return (
        f"{track.capitalize()}: the verdict survives the other labels: {best} is the best under each, or not "
        "significantly different from the best."
    )


def _remarks(board: Board, others: Sequence[OtherLabels]) -> tuple[Remarks, ...]:
    """List what each labelling says of the best methods, and how alike the rankings are."""
    names = full_names(board)
    items = []
    for other in others:
        for track in RANKED:
            one = verdict(board, other.board, track)
            if one is not None:
                items.append(f"{_short(other.name)}, {track}: {_details(one, names)}")
    return (Remarks(title="Agreement of the rankings", items=tuple(items)),) if items else ()


def _details(found: Verdict, names: Mapping[str, str]) -> str:
    best = f"best {_listed(found.best_there, names)}"
    tied = f", not significantly different {_listed(found.tied_there, names)}" if found.tied_there else ""
    tau = "undefined" if found.tau is None else number(found.tau)
    return f"{best}{tied}; Kendall's tau {tau} over {found.n} methods."


def _listed(keys: Sequence[str], names: Mapping[str, str]) -> str:
    return " and ".join(names[key] for key in keys)


def _short(text: str) -> str:
    return one_line(text, MOST_NAME)
