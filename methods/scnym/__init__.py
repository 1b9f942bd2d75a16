"""scNym, reimplemented: supervised, or also trained on unlabelled query cells. torch is imported on fit."""

from cellular_bench.methods.scnym.adapter import ScNym, ScNymMixMatch

__all__ = ["ScNym", "ScNymMixMatch"]
