"""Figures of embeddings: the same cells by label and by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cellular_bench.core.errors import UserError
from cellular_bench.reports.figures.canvas import COLOURS, MARKERS, Figure, as_webp, new_canvas, plain
from cellular_bench.reports.figures.point_labels import place_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_NEIGHBORS = 15
N_EPOCHS = 200


def embedding_figure(
    X_emb: NDArray[np.floating[Any]],
    label: ArrayLike,
    batch: ArrayLike,
    *,
    title: str,
    what: str = "Embedding",
    seed: int = 0,
    max_obs: int = 5000,
) -> Figure:
    """Draw an embedding twice, side by side: by label and by batch.

    More than two dimensions are brought to two with UMAP (doi:10.21105/joss.00861) on 15 neighbours; two are
    drawn as they are. A picture is an impression, not a score.

    ``what`` names the coordinates in the caption. Of more than ``max_obs`` cells a subsample is drawn; its
    ``seed`` is also that of UMAP and of the order of the points. UserError if there are fewer than 4 cells or
    2 dimensions, shapes disagree or a coordinate is not finite.
    """
    X, labels, batches = _checked(X_emb, label, batch)
    rng = np.random.default_rng(seed)
    chosen = np.arange(len(X))
    if len(X) > max_obs:
        chosen = rng.choice(len(X), size=max_obs, replace=False)
    chosen = rng.permutation(chosen)
    points = two_dimensions(X[chosen], seed=seed)
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
        caption=f"{title}. {what} ({how}, seed {seed}) of {some}, by label and by batch.",
        data=as_webp(canvas),
        alt=f"Two scatter plots of the same {len(chosen):,} cells embedded by {title}: coloured by "
        f"{n_labels} labels on the left, by {n_batches} batches on the right.",
    )


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


def two_dimensions(X: NDArray[np.floating[Any]], *, seed: int) -> NDArray[np.floating[Any]]:
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
    """Draw each group in its own colour and shape; if asked for, with its number near its middle."""
    names, codes = np.unique(groups, return_inverse=True)
    size = float(np.clip(10_000 / len(points), 3, 24))
    colours = np.array(COLOURS)[codes % len(COLOURS)]
    shapes = codes // len(COLOURS) % len(MARKERS)
    for shape in np.unique(shapes):
        # All groups of a shape in one call, in the random order of the cells: none covers the others.
        mine = shapes == shape
        ax.scatter(
            points[mine, 0], points[mine, 1], c=colours[mine], marker=MARKERS[shape], s=size,
            linewidths=0, alpha=0.75,
        )  # fmt: skip
    if numbered:
        middles = np.array([_middle(points[codes == code]) for code in range(len(names))])
        numbers = [str(code + 1) for code in range(len(names))]
        place_names(ax, middles, numbers, bold=[True] * len(names), halo=True)
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


def _middle(mine: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return a real cell: the median itself may lie between two groups."""
    middle: NDArray[np.floating[Any]] = mine[np.argmin(((mine - np.median(mine, axis=0)) ** 2).sum(axis=1))]
    return middle
