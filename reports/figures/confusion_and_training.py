"""Figures of runs: confusion matrices and losses during training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import UserError
from cellular_bench.reports.figures.canvas import COLOURS, Figure, as_webp, label_axes, new_canvas, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


def confusion_figure(confusion: Mapping[str, Mapping[str, int]], *, title: str) -> Figure:
    """Draw a confusion matrix: shares of each true label by predicted label, rows adding up to 1.

    Rejected cells are under the empty label. UserError without a cell.
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
        caption=f"{title}. Share of each true label's cells by predicted label; {total:,} cells, number "
        "per true label in brackets.",
        data=as_webp(canvas),
        alt=f"Confusion matrix of {title}: {right:,} of {total:,} cells lie on the diagonal. "
        f"{_worst(confusion)}",
    )


def history_figure(histories: Mapping[str, Mapping[str, Any]], *, title: str) -> Figure:
    """Draw the losses of runs by epoch: a panel per term, a colour per run; UserError if no run has an epoch.

    A history is what a method wrote to ``history.json``: ``{part: {"epochs": [{"epoch": 0, "train": {term:
    value}, "validation": {term: value}}, ...], "best_epoch": 7}}``; a part is a network, as ``"encoder"``.
    """
    terms = dict.fromkeys(
        (part, term)
        for history in histories.values()
        for part, training in history.items()
        for epoch in training["epochs"][:1]
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
                draw_losses(ax, history[part], term, colour=COLOURS[place % len(COLOURS)])
        label_axes(ax, "epoch", title=f"{part}: {term}")
    _history_legend(canvas, list(histories))
    canvas.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return Figure(
        kind="history",
        caption=f"{title}. Loss per epoch on the training cells (dotted) and on the cells held out to choose "
        "the epoch (solid; the dot is the epoch that was kept).",
        data=as_webp(canvas),
        alt=f"Loss curves of {title}. {_epochs_kept(histories)}",
    )


def _epochs_kept(histories: Mapping[str, Mapping[str, Any]]) -> str:
    """Say which epoch each run kept; of many runs only the earliest and the latest."""
    runs, kept = [], defaultdict(list)
    for name, parts in histories.items():
        of_parts = []
        for part, training in parts.items():
            of_parts.append(f"{part} {training['best_epoch']} of {len(training['epochs'])}")
            kept[part].append(training["best_epoch"])
        runs.append(f"{name}: {', '.join(of_parts)}")
    if len(runs) <= len(COLOURS):
        return f"Epoch kept, of epochs trained: {'; '.join(runs)}."
    spans = [f"{part} {min(epochs)} to {max(epochs)}" for part, epochs in kept.items()]
    return f"Epoch kept in {len(histories)} runs: {', '.join(spans)}."


def draw_losses(ax: Axes, training: Mapping[str, Any], term: str, *, colour: str) -> None:
    """Draw one term of one run in training and validation, and mark the epoch that was kept."""
    epochs = [epoch["epoch"] for epoch in training["epochs"]]
    validation = [epoch["validation"][term] for epoch in training["epochs"]]
    ax.plot(epochs, [epoch["train"][term] for epoch in training["epochs"]], ":", color=colour, linewidth=1)
    ax.plot(epochs, validation, "-", color=colour, linewidth=1.2)
    best = training["best_epoch"]
    ax.plot([best], [validation[epochs.index(best)]], "o", color=colour, markersize=3.5)


def _history_legend(canvas: Canvas, names: Sequence[str]) -> None:
    """Name the runs if each has its own colour."""
    from matplotlib.lines import Line2D

    if len(names) <= len(COLOURS):
        handles = [Line2D([], [], color=c, label=plain(n)) for c, n in zip(COLOURS, names, strict=False)]
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

    texts = np.array([[f"{share:.2f}".lstrip("0") for share in row] for row in shares])
    texts[shares < 0.005], texts[shares >= 0.995] = "", "1"
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
    was = f"predicted as {column}" if column else "rejected"
    return f"Most frequent error: {n:,} cells of {row} {was}."
