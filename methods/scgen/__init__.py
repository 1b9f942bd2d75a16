"""scGen, reimplemented: an autoencoder, and alignment of types in its latent space."""

from cellular_bench.methods.scgen.adapter import ScGen, ScGenPaper

__all__ = ["ScGen", "ScGenPaper"]
