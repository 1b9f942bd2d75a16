"""Figures of runs: embedding, confusion matrix, training; small enough to travel inside a page.

Nothing is drawn through ``pyplot``'s list of open figures: each picture has its own canvas, so that
a program that draws elsewhere keeps its state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.benchmark.errors import UserError
from cellular_bench.reports.canvas import COLOURS, MARKERS, as_webp, new_canvas, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

FigureKind = Literal["embedding", "confusion", "history"]

N_NEIGHBORS = 15
N_EPOCHS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A picture for a board of the report.

    Attributes
    ----------
    kind
        What it shows.
    board_id, method_id
        Where it belongs.
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


def embedding_figure(
    X_emb: NDArray[np.floating[Any]],
    label: ArrayLike,
    batch: ArrayLike,
    *,
    title: str,
    board_id: str = "",
    method_id: str = "",
    seed: int = 0,
    max_obs: int = 5000,
) -> Figure:
    """Draw an embedding twice, side by side: by label and by batch.

    More than two dimensions are brought to two with UMAP (doi:10.21105/joss.00861) on 15
    neighbours; two are drawn as they are. A picture is an impression, not a score.

    Parameters
    ----------
    X_emb
        (n_obs, n_latent), finite; at least 4 cells and 2 dimensions.
    label, batch
        (n_obs,) names.
    title
        What was embedded: method, split and seed.
    board_id, method_id
        Where the figure belongs in the report.
    seed
        Of the subsample, of UMAP and of the order in which points are drawn.
    max_obs
        Cells that are drawn at most; a larger set is subsampled, and the caption says so.

    Returns
    -------
    Figure
        WebP, some 30 to 90 kB.

    Raises
    ------
    UserError
        If shapes disagree or a coordinate is not finite.
    """
    X, labels, batches = _checked(X_emb, label, batch)
    rng = np.random.default_rng(seed)
    chosen = np.arange(len(X))
    if len(X) > max_obs:
        chosen = rng.choice(len(X), size=max_obs, replace=False)
    chosen = rng.permutation(chosen)
    points = _two_dimensions(X[chosen], seed=seed)
    canvas = new_canvas(8.0, 3.5)
    axes = canvas.subplots(1, 2)
    for ax, groups, name in zip(axes, (labels, batches), ("label", "batch"), strict=True):
        _scatter(ax, points, groups[chosen], heading=f"by {name}", numbered=name == "label")
    canvas.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    how = "as it is" if X.shape[1] == 2 else f"UMAP, {min(N_NEIGHBORS, len(chosen) - 1)} neighbours"
    some = (
        f"{len(chosen):,} of {len(X):,} cells, drawn at random" if len(X) > max_obs else f"{len(X):,} cells"
    )
    n_labels, n_batches = len(np.unique(labels)), len(np.unique(batches))
    return Figure(
        kind="embedding",
        board_id=board_id,
        method_id=method_id,
        caption=f"{title}. Embedding ({how}, seed {seed}) of {some}, by label and by batch.",
        data=as_webp(canvas),
        alt=f"Two scatter plots of the same {len(chosen):,} cells embedded by {title}: coloured by "
        f"{n_labels} labels on the left, by {n_batches} batches on the right.",
    )


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


def _checked(
    X_emb: NDArray[np.floating[Any]], label: ArrayLike, batch: ArrayLike
) -> tuple[NDArray[np.floating[Any]], NDArray[np.str_], NDArray[np.str_]]:
    X = np.asarray(X_emb)
    labels, batches = np.asarray(label, dtype=str), np.asarray(batch, dtype=str)
    if X.ndim != 2 or X.shape[0] < 4 or X.shape[1] < 2:
        raise UserError(f"X_emb has shape {X.shape}, a figure wants (4 or more cells, 2 or more dimensions).")
    for name, values in (("label", labels), ("batch", batches)):
        if values.shape != (len(X),):
            raise UserError(f"{name} has shape {values.shape}, X_emb wants ({len(X)},): one per cell.")
    if not np.isfinite(X).all():
        raise UserError("X_emb holds values that are not finite: nothing can be drawn from them.")
    return X, labels, batches


def _two_dimensions(X: NDArray[np.floating[Any]], *, seed: int) -> NDArray[np.floating[Any]]:
    """Return (n_obs, 2) coordinates."""
    if X.shape[1] == 2:
        return X
    import warnings

    from sklearn.neighbors import NearestNeighbors
    from umap import UMAP

    X = np.ascontiguousarray(X, dtype=np.float32)
    k = min(N_NEIGHBORS, len(X) - 1)
    # Exact neighbours, handed over: below 4,096 cells UMAP would measure all pairs in a slow loop.
    distances, indices = NearestNeighbors(n_neighbors=k).fit(X).kneighbors(X)
    # The spectral start needs more cells than it has eigenvectors.
    start = "spectral" if len(X) > N_NEIGHBORS else "random"
    with warnings.catch_warnings():
        # Disconnected groups of cells are what a good embedding gives; UMAP warns of them, and of
        # the missing search index, which only later cells would need.
        warnings.simplefilter("ignore", UserWarning)
        reducer = UMAP(
            n_neighbors=k,
            n_epochs=N_EPOCHS,
            random_state=seed,
            n_jobs=1,
            init=start,
            precomputed_knn=(indices, distances.astype(np.float32)),
            force_approximation_algorithm=True,
        )
        points: NDArray[np.floating[Any]] = reducer.fit_transform(X)
    return points


def _scatter(
    ax: Axes, points: NDArray[np.floating[Any]], groups: NDArray[np.str_], *, heading: str, numbered: bool
) -> None:
    """Draw each group in its own colour and shape; on demand with its number at its middle."""
    names, codes = np.unique(groups, return_inverse=True)
    size = float(np.clip(10_000 / len(points), 3, 24))
    colours = np.array(COLOURS)[codes % len(COLOURS)]
    shapes = codes // len(COLOURS) % len(MARKERS)
    for shape in np.unique(shapes):
        # All groups of a shape in one call, in the random order of the cells: none covers the others.
        mine = shapes == shape
        ax.scatter(
            points[mine, 0],
            points[mine, 1],
            s=size,
            c=colours[mine],
            marker=MARKERS[shape],
            linewidths=0,
            alpha=0.75,
        )
    if numbered:
        _number(ax, points, codes)
    ax.set_title(heading, loc="left", fontsize=10)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_color("#c9ced4")
    _legend(ax, names.tolist(), numbered=numbered)


def _legend(ax: Axes, names: Sequence[str], *, numbered: bool) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for place, name in enumerate(names):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place // len(COLOURS) % len(MARKERS)]
        text = f"{place + 1}  {plain(name)}" if numbered else plain(name)
        handles.append(Line2D([], [], color=colour, marker=marker, linestyle="", markersize=6, label=text))
    ax.legend(
        handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8,
        ncols=1 + (len(names) - 1) // 18, handletextpad=0.2, borderaxespad=0.2, labelspacing=0.35,
    )  # fmt: skip


def _number(ax: Axes, points: NDArray[np.floating[Any]], codes: NDArray[np.intp]) -> None:
    """Write each group's number beside the cell nearest to its median, with a line to that cell."""
    from matplotlib.patheffects import withStroke

    cells = np.array([_middle(points[codes == code]) for code in range(codes.max() + 1)])
    low, span = points.min(axis=0), np.ptp(points, axis=0) + 1e-12
    starts = (cells - low) / span
    # A number would hide a small group: it goes above it.
    extent = np.array([points[codes == code].std(axis=0).max() for code in range(len(cells))])
    starts[:, 1] += np.where(extent < 0.02 * span.max(), 0.05, 0.0)
    places = _apart(starts) * span + low
    for code, (cell, place) in enumerate(zip(cells, places, strict=True)):
        ax.annotate(
            str(code + 1), xy=(cell[0], cell[1]), xytext=(place[0], place[1]), fontsize=8, fontweight="bold",
            ha="center", va="center", path_effects=[withStroke(linewidth=2.2, foreground="white")],
            arrowprops={"arrowstyle": "-", "linewidth": 0.6, "color": "#333333", "shrinkA": 4, "shrinkB": 0},
        )  # fmt: skip


def _middle(mine: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return a real cell: the median itself may lie between two groups."""
    middle: NDArray[np.floating[Any]] = mine[np.argmin(((mine - np.median(mine, axis=0)) ** 2).sum(axis=1))]
    return middle


def _apart(places: NDArray[np.floating[Any]], gap: float = 0.045) -> NDArray[np.floating[Any]]:
    """Push places in the unit square apart until none is nearer than ``gap`` to another."""
    places = places + 1e-6 * np.arange(len(places))[:, None]
    for _ in range(100):
        steps = places[:, None] - places[None]
        far = np.linalg.norm(steps, axis=2)
        push = np.where((far > 0) & (far < gap), (gap - far) / 2, 0.0)
        if not push.any():
            break
        places = places + (steps / np.maximum(far, 1e-9)[..., None] * push[..., None]).sum(axis=1)
    return places


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
