"""TOSICA, reimplemented: a transformer whose tokens are gene sets. torch is imported on fit."""

from cellular_bench.methods.tosica.adapter import Tosica

__all__ = ["Tosica"]
