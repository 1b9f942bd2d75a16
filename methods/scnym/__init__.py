"""scNym, written anew: supervised, and with unlabelled query cells. torch is imported on fit."""

from cellular_bench.methods.scnym.adapter import ScNym, ScNymMixMatch

__all__ = ["ScNym", "ScNymMixMatch"]
