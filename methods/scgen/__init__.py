"""scGen, reimplemented from its description: an autoencoder, and alignment of types in its latent space.

``network.py`` holds the autoencoder and its training, ``shift.py`` the alignment of batches, ``adapter.py``
the classes for the harness. Importing this package does not load torch.
"""

from cellular_bench.methods.scgen.adapter import ScGen, ScGenPaper

__all__ = ["ScGen", "ScGenPaper"]
