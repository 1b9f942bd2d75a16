"""CELLULAR: contrastive learning for annotation and representation of cells.

Suggested order for reading: ``model.py`` (the two networks), ``loss.py`` (the three terms),
``centroids.py`` (targets of the third term), ``training.py`` (what is trained on what) and ``api.py`` (the
public class).

Importing this package loads neither torch nor scanpy; accessing :class:`Cellular` does.

Examples
--------
>>> from cellular_bench.methods.cellular import Cellular
>>> model = Cellular(seed=1).fit(adata, label_key="cell_type", batch_key="donor")  # doctest: +SKIP
>>> adata.obsm["X_cellular"] = model.embed(adata)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellular_bench.methods.cellular.adapter import (
    CellularCentroidMethod,
    CellularContrastiveMethod,
    CellularMethod,
)

if TYPE_CHECKING:
    from cellular_bench.methods.cellular.api import Cellular

__all__ = ["Cellular", "CellularCentroidMethod", "CellularContrastiveMethod", "CellularMethod"]


def __getattr__(name: str) -> Any:
    if name != "Cellular":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cellular_bench.methods.cellular.api import Cellular

    return Cellular
