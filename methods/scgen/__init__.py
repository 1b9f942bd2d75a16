"""scGen, written anew from its description: an autoencoder whose latent types are moved onto each other.

Read ``network.py`` (the autoencoder and its training), ``shift.py`` (how batches are moved) and
``adapter.py`` (the harness's classes). Importing this package does not load torch.
"""

from cellular_bench.methods.scgen.adapter import ScGen, ScGenPaper

__all__ = ["ScGen", "ScGenPaper"]
