"""Layers of expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData


def named_layers(adata: AnnData) -> dict[str, Any]:
    """Return the layers by name, without ``X``, which anndata >= 0.13 counts among them as ``None``."""
    return {name: layer for name, layer in adata.layers.items() if name is not None}
