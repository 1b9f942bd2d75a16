"""Figures of runs: confusion matrix and training; small enough to travel inside a page.

Nothing is drawn through ``pyplot``'s list of open figures: each picture has its own canvas, so that
a program that draws elsewhere keeps its state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UserError
from cellular_bench.reports.figures.canvas import COLOURS, as_webp, new_canvas, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

FigureKind = Literal["embedding", "confusion", "history", "curves", "samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture for a board of the report.

    Attributes
    ----------
    kind
        What it shows.
    board_id, method_id
        Where it belongs; the method is empty where it shows all of them.
    caption
        What a reader must know: which run, which cells.
    data
        PNG, WebP or SVG file.
    alt
        What it shows, for readers who do not see it; the caption where empty.
    """

    kind: FigureKind
    board_id: str
    method_id: str
    caption: str
    data: bytes
    alt: str = ""


def confusion_figure(
    confusion: Mapping[str, Mapping[str, int]],
    *,
    title: str,
    board_id: str = "",
    method_id: str = "",
) -> Figure:
    """Draw which label was taken for which: shares of each true label, rows adding up to 1.

    Parameters
    ----------
    confusion
        ``{true label: {predicted label: cells}}``; rejected cells under the empty label.
    title
        What was predicted: method, split and seed.
    board_id, method_id
        Where the figure belongs in the report.

    Raises
    ------
    UserError
        If it holds no cell.
    """
    rows, columns, shares, counts = _shares(confusion)
    size = float(np.clip(2.2 + 0.32 * max(len(rows), len(columns)), 4.0, 14.0))
    canvas = new_canvas(size + 1.6, size)
    ax = canvas.subplots()
    _heatmap(ax, shares, rows=[f"{plain(row)}  ({counts[row]:,})" for row in rows], columns=columns)
    canvas.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    total = sum(counts.values())
    right = sum(cells.get(row, 0) for row, cells in confusion.items())
    return Figure(
        kind="confusion",
        board_id=board_id,
        method_id=method_id,
        caption=f"{title}. Share of each true label's cells by predicted label; {total:,} cells, number "
        "per true label in brackets.",
        data=as_webp(canvas),
        alt=f"Confusion matrix of {title}: {right:,} of {total:,} cells lie on the diagonal. "
        f"{_worst(confusion)}",
    )


def history_figure(
    histories: Mapping[str, Mapping[str, Any]],
    *,
    title: str,
    board_id: str = "",
    method_id: str = "",
) -> Figure:
    """Draw how the losses of runs went: a panel per term, a colour per run.

    Parameters
    ----------
    histories
        For each run, by name, what its method wrote to ``history.json``: ``{part: {"epochs": [{"epoch":
        0, "train": {term: value}, "validation": {term: value}}, ...], "best_epoch": 7}}``, where a part
        is a network, such as ``"encoder"``.
    title
        What was trained: method and number of runs.
    board_id, method_id
        Where the figure belongs in the report.

    Raises
    ------
    UserError
        If no run has an epoch.
    """
    terms = dict.fromkeys(
        (part, term)
        for history in histories.values()
        for part, told in history.items()
        for epoch in told["epochs"][:1]
        for term in epoch["train"]
    )
    if not terms:
        raise UserError("The histories hold no epoch: nothing can be drawn from them.")
    n_columns = min(3, len(terms))
    n_rows = -(-len(terms) // n_columns)
    canvas = new_canvas(2.7 * n_columns, 0.7 + 1.8 * n_rows)
    axes = canvas.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax in axes[len(terms) :]:
        ax.remove()
    for ax, (part, term) in zip(axes, terms, strict=False):
        for place, history in enumerate(histories.values()):
            if part in history:
                _losses(ax, history[part], term, colour=COLOURS[place % len(COLOURS)])
        ax.set_title(f"{part}: {term}", loc="left", fontsize=9)
        ax.set_xlabel("epoch", fontsize=8)
        ax.tick_params(labelsize=7)
    _history_legend(canvas, list(histories))
    canvas.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return Figure(
        kind="history",
        board_id=board_id,
        method_id=method_id,
        caption=f"{title}. Loss per epoch on the cells learned from (dotted) and on those held out to choose "
        "the epoch (solid; the dot is the epoch that was kept).",
        data=as_webp(canvas),
        alt=f"Loss curves of {title}. {_epochs_kept(histories)}",
    )


def _epochs_kept(histories: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which epoch each run kept; of many runs only the earliest and the latest."""
    if len(histories) <= len(COLOURS):
        runs = [
            f"{name}: "
            + ", ".join(
                f"{part} {told['best_epoch']} of {len(told['epochs'])}" for part, told in parts.items()
            )
            for name, parts in histories.items()
        ]
        return f"Epoch kept, of epochs trained: {'; '.join(runs)}."
    kept: dict[str, list[int]] = {}
    for parts in histories.values():
        for part, told in parts.items():
            kept.setdefault(part, []).append(told["best_epoch"])
    spans = [f"{part} {min(epochs)} to {max(epochs)}" for part, epochs in kept.items()]
    return f"Epoch kept in {len(histories)} runs: {', '.join(spans)}."


def _losses(ax: Axes, told: Mapping[str, Any], term: str, *, colour: str) -> None:
    """Draw one term of one run in training and validation, and mark the epoch that was kept."""
    epochs = [epoch["epoch"] for epoch in told["epochs"]]
    validation = [epoch["validation"][term] for epoch in told["epochs"]]
    ax.plot(epochs, [epoch["train"][term] for epoch in told["epochs"]], ":", color=colour, linewidth=1)
    ax.plot(epochs, validation, "-", color=colour, linewidth=1.2)
    best = told["best_epoch"]
    ax.plot([best], [validation[epochs.index(best)]], "o", color=colour, markersize=3.5)


def _history_legend(canvas: Canvas, names: Sequence[str]) -> None:
    """Name the runs where each has a colour of its own."""
    from matplotlib.lines import Line2D

    if len(names) <= len(COLOURS):
        handles = [
            Line2D([], [], color=COLOURS[place], label=plain(name)) for place, name in enumerate(names)
        ]
        canvas.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=8)


def _shares(
    confusion: Mapping[str, Mapping[str, int]],
) -> tuple[list[str], list[str], NDArray[np.float64], dict[str, int]]:
    counts = {row: sum(cells.values()) for row, cells in confusion.items() if sum(cells.values())}
    if not counts:
        raise UserError("The confusion matrix holds no cell: nothing can be drawn from it.")
    rows = sorted(counts)
    predicted = {column for row in rows for column, n in confusion[row].items() if n}
    # The diagonal first, so that it is one; then labels that no scored cell has; rejections last.
    columns = [*rows, *sorted(predicted - set(rows) - {""}), *([""] if "" in predicted else [])]
    shares = np.array([[confusion[r].get(c, 0) / counts[r] for c in columns] for r in rows])
    return rows, columns, shares, counts


def _heatmap(ax: Axes, shares: NDArray[np.float64], *, rows: Sequence[str], columns: Sequence[str]) -> None:
    import seaborn as sns

    texts = np.array(
        [[f"{share:.2f}".lstrip("0") if share >= 0.005 else "" for share in row] for row in shares]
    )
    texts[shares >= 0.995] = "1"
    few = max(shares.shape) <= 24
    sns.heatmap(
        shares, ax=ax, vmin=0.0, vmax=1.0, cmap="Blues", square=True, linewidths=0.5, linecolor="#e9edf1",
        annot=texts if few else False, fmt="", annot_kws={"fontsize": 7.5},
        xticklabels=[plain(c or "rejected") for c in columns],
        yticklabels=rows,
        cbar_kws={"shrink": 0.6, "label": "share of the true label"},
    )  # fmt: skip
    ax.tick_params(axis="x", labelrotation=90, labelsize=8, length=0)
    ax.tick_params(axis="y", labelrotation=0, labelsize=8, length=0)
    ax.set_xlabel("predicted label", fontsize=9)
    ax.set_ylabel("true label (cells)", fontsize=9)


def _worst(confusion: Mapping[str, Mapping[str, int]]) -> str:
    """Name the most frequent confusion."""
    wrong = {(r, c): n for r, cells in confusion.items() for c, n in cells.items() if r != c and n}
    if not wrong:
        return "No cell is off it."
    (row, column), n = max(wrong.items(), key=lambda item: item[1])
    was = f"taken for {column}" if column else "rejected"
    return f"Most frequent error: {n:,} cells of {row} {was}."
