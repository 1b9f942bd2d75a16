"""The two networks: an encoder of cells and a classifier of their embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cellular_bench.methods.cellular.first_layer import NormalisedLinear

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def build_encoder(n_vars: int, *, n_latent: int = 100, dropout: float = 0.2) -> nn.Sequential:
    """Return the network that maps log-normalised expression of at least 4 genes to the embedding.

    The widths of the layers are ``n_vars``, ``n_vars // 2``, ``n_vars // 4`` and ``n_latent``. The output
    is not normalised, because the loss depends both on angles between cells and on Euclidean distances
    between type centroids.

    Examples
    --------
    >>> sum(weights.numel() for weights in build_encoder(2000).parameters())
    2558600
    """
    half, quarter = n_vars // 2, n_vars // 4
    return nn.Sequential(
        NormalisedLinear(n_vars, half),
        nn.LayerNorm(half),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(half, quarter),
        nn.LayerNorm(quarter),
        nn.ReLU(),
        nn.Linear(quarter, n_latent),
    )


def build_classifier(
    n_latent: int, n_labels: int, *, hidden: tuple[int, int] = (512, 512), dropout: float = 0.2
) -> nn.Sequential:
    """Return the network that maps the embedding to one logit per cell type, with two hidden layers."""
    first, second = hidden
    return nn.Sequential(
        nn.BatchNorm1d(n_latent),
        nn.Linear(n_latent, first),
        nn.BatchNorm1d(first),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(first, second),
        nn.BatchNorm1d(second),
        nn.ReLU(),
        nn.Linear(second, n_labels),
    )


class EncoderWithTemperature(nn.Module):
    """The encoder and the temperature of the type term, which are trained together."""

    def __init__(self, encoder: nn.Sequential, *, temperature: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.temperature = nn.Parameter(torch.tensor(temperature))

    def forward(self, X: Tensor | csr_matrix) -> Tensor:
        """Return the embedding (n_obs, n_latent) of expression (n_obs, n_vars), dense or sparse."""
        embedding: Tensor = self.encoder(X)
        return embedding
