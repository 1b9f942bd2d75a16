"""The two networks: an encoder of cells and a classifier of their embedding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def build_encoder(n_vars: int, *, n_latent: int = 100, dropout: float = 0.2) -> nn.Sequential:
    """Return the network that maps log-normalised expression to the embedding.

    Widths halve twice on the way: ``n_vars``, ``n_vars // 2``, ``n_vars // 4``, ``n_latent``. The
    output is not normalised: the loss looks at angles between cells, and at Euclidean distances between
    the centroids of types.

    Parameters
    ----------
    n_vars
        Number of genes, at least 4.
    n_latent
        Width of the embedding.
    dropout
        Share of the first hidden layer dropped in training, 0 to 1.

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
    """Return the network that maps the embedding to one logit per cell type.

    Parameters
    ----------
    n_latent
        Width of the embedding.
    n_labels
        Number of cell types.
    hidden
        Widths of the two hidden layers.
    dropout
        Share of the first hidden layer dropped in training, 0 to 1.
    """
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


class NormalisedLinear(nn.Module):
    """Layer normalisation, then a linear layer: the encoder's first step, which reads data.

    Nothing asks for the gradient of the data. Without it, the gradients of the normalisation follow from
    that of the linear layer's weights, and one of three matrix products of a training step is saved.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_in)
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, X: Tensor) -> Tensor:
        """Return (n_obs, n_out) of data (n_obs, n_in)."""
        norm, linear = self.norm, self.linear
        mixed_precision = torch.is_autocast_enabled(X.device.type)
        if X.requires_grad or mixed_precision or not torch.is_grad_enabled():
            result: Tensor = linear(norm(X))
        else:
            standard = functional.layer_norm(X, norm.normalized_shape, eps=norm.eps)
            parameters = (norm.weight, norm.bias, linear.weight, linear.bias)
            result = _ScaledLinear.apply(standard, *parameters)  # type: ignore[no-untyped-call]
        return result


class _ScaledLinear(torch.autograd.Function):
    """``linear(X * scale + shift)`` for an X without gradient."""

    @staticmethod
    def forward(ctx: Any, X: Tensor, scale: Tensor, shift: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(X, scale, shift, weight)
        return functional.linear(torch.addcmul(shift, X, scale), weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor, Tensor, Tensor]:
        X, scale, shift, weight = ctx.saved_tensors
        product = gradient.T @ X
        total = gradient.sum(dim=0)
        of_scale = (weight * product).sum(dim=0)
        of_weight = product.mul_(scale).addr_(total, shift)
        return None, of_scale, total @ weight, of_weight, total


class EncoderWithTemperature(nn.Module):
    """The encoder, and the temperature of the type term that is learned with it."""

    def __init__(self, encoder: nn.Sequential, *, temperature: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.temperature = nn.Parameter(torch.tensor(temperature))

    def forward(self, X: Tensor) -> Tensor:
        """Return the embedding (n_obs, n_latent) of expression (n_obs, n_vars)."""
        embedding: Tensor = self.encoder(X)
        return embedding
