"""scGen, reimplemented: an autoencoder, and alignment of types in its latent space."""

from cellular_bench.methods.scgen.adapter import ScGen, ScGenPaper
from cellular_bench.methods.scgen.original import ScGenOriginal

__all__ = ["ScGen", "ScGenOriginal", "ScGenPaper"]
