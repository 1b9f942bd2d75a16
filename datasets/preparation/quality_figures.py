"""Figures of quality, before and after cells were dropped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellular_bench.datasets.preparation.quality import Quality

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

#: Colours of cells before and after, distinguishable with any colour vision.
BEFORE, AFTER = "#bdbdbd", "#0072b2"
N_BINS = 60


def quality_figure(before: Quality, after: Quality, *, title: str) -> Figure:
    """Draw the four quantities as histograms, and genes over counts, before and after the filter."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).ravel()
    kept = after.compared()
    for axis, (name, values) in zip(axes, before.compared().items(), strict=False):
        low, high = float(values.min()), float(values.max())
        bins = np.linspace(low, high if high > low else low + 1, N_BINS + 1)
        axis.hist(values, bins=bins, color=BEFORE, label=f"before ({len(values):,} cells)")
        axis.hist(kept[name], bins=bins, color=AFTER, label=f"after ({len(kept[name]):,} cells)")
        axis.set_xlabel(name)
        axis.set_ylabel("cells")
    for found, colour in ((before, BEFORE), (after, AFTER)):
        axes[4].plot(_positive(found.n_counts), _positive(found.n_genes), ".", color=colour, markersize=2)
    axes[4].set(xscale="log", yscale="log", xlabel="counts", ylabel="genes")
    axes[5].axis("off")
    axes[5].legend(*axes[0].get_legend_handles_labels(), loc="center", frameon=False, title=title)
    return figure


def save_quality(before: Quality, after: Quality, folder: Path, *, title: str) -> list[Path]:
    """Write the figure as PNG and SVG; return where."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = quality_figure(before, after, title=title)
    paths = [folder / f"quality.{kind}" for kind in ("png", "svg")]
    for path in paths:
        # Points of many cells as an image within the SVG would need a rasteriser; a PNG is beside it.
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths


def _positive(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # A cell without counts has no place on a logarithmic axis; it is shown at its edge.
    return np.maximum(values, 0.5)
