"""CellTypist: one logistic regression per cell type."""

from cellular_bench.methods.celltypist.adapter import CellTypist, CellTypistMajority

__all__ = ["CellTypist", "CellTypistMajority"]
