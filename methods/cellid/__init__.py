"""CellID: reference cells or labels whose gene signature is enriched in each query cell."""

from cellular_bench.methods.cellid.adapter import CellIDCell, CellIDGroup

__all__ = ["CellIDCell", "CellIDGroup"]
