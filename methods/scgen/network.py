"""scGen's autoencoder: its layers, its loss, and its training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cellular_bench.methods._inputs import dense

#: Weight of the Kullback-Leibler divergence from the prior, which is almost switched off.
KL_WEIGHT = 5e-5
BATCH_SIZE = 128
VALIDATION_SHARE = 0.1
#: A smaller last mini-batch is left out.
FEWEST_IN_BATCH = 3


class Network(nn.Module):
    """Variational autoencoder with two hidden layers in encoder and decoder."""

    def __init__(self, n_genes: int, *, n_hidden: int, n_latent: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *_layer(n_genes, n_hidden, dropout), *_layer(n_hidden, n_hidden, dropout)
        )
        self.mean = nn.Linear(n_hidden, n_latent)
        self.log_variance = nn.Linear(n_hidden, n_latent)
        self.decoder = nn.Sequential(
            *_layer(n_latent, n_hidden, dropout),
            *_layer(n_hidden, n_hidden, dropout),
            nn.Linear(n_hidden, n_genes),
        )

    def encode(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the latent distribution of every cell, (n_obs, n_latent) each."""
        hidden = self.encoder(X)
        return self.mean(hidden), torch.exp(self.log_variance(hidden)) + 1e-4

    def decode(self, Z: Tensor) -> Tensor:
        """Return expression, (n_obs, n_genes); values may be below 0."""
        return self.decoder(Z)  # type: ignore[no-any-return]

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Return squared errors of expression decoded from a draw, and divergences, (n_obs,) each."""
        mean, variance = self.encode(X)
        decoded = self.decode(mean + variance.sqrt() * torch.randn_like(mean))
        return ((X - decoded) ** 2).sum(dim=1), divergence(mean, variance)


def _layer(n_inputs: int, n_outputs: int, dropout: float) -> list[nn.Module]:
    return [
        nn.Linear(n_inputs, n_outputs),
        nn.BatchNorm1d(n_outputs, momentum=0.01, eps=1e-3),
        nn.LeakyReLU(0.01),
        nn.Dropout(dropout),
    ]


def divergence(mean: Tensor, variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of normal distributions from standard ones, (n_obs,).

    Examples
    --------
    >>> divergence(torch.tensor([[3.0]]), torch.tensor([[1.0]])).item()
    4.5
    """
    return 0.5 * (variance + mean**2 - 1 - variance.log()).sum(dim=1)


def cell_losses(error: Tensor, away: Tensor) -> Tensor:
    """Return the loss of every cell, (n_obs,): half the squared error plus half the weighted divergence."""
    return 0.5 * error + 0.5 * KL_WEIGHT * away


def train(network: Network, X: Any, *, max_epochs: int, patience: int, seed: int) -> list[float]:
    """Train until patience or epochs run out; return the validation loss of every epoch.

    As in the original, the divergence has its full weight in the validation loss, and the weights of the last
    epoch are kept. At least 4 cells are needed.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(X.shape[0])
    held_out, learned = np.split(order, [max(1, int(VALIDATION_SHARE * len(order)))])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, eps=0.01, weight_decay=1e-6)
    losses: list[float] = []
    while len(losses) < max_epochs and not exhausted(losses, patience):
        network.train()
        for rows in mini_batches(generator.permutation(learned)):
            error, away = network(torch.from_numpy(dense(X[rows])))
            optimizer.zero_grad(set_to_none=True)
            cell_losses(error, away).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        losses.append(_validation_loss(network, X, held_out))
    network.eval()
    return losses


def exhausted(losses: Sequence[float], patience: int) -> bool:
    """Return whether the best loss is at least ``patience`` epochs old.

    Examples
    --------
    >>> exhausted([3.0, 1.0, 2.0], patience=2), exhausted([3.0, 1.0, 2.0, 1.0], patience=2)
    (False, True)
    """
    return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience


def mini_batches(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split rows into parts of 128; a last part of fewer than 3 is left out, as scvi-tools does.

    Examples
    --------
    >>> [len(part) for part in mini_batches(np.arange(258))], len(mini_batches(np.arange(259)))
    ([128, 128], 3)
    """
    parts = np.split(rows, range(BATCH_SIZE, len(rows), BATCH_SIZE))
    return [part for part in parts if len(part) >= FEWEST_IN_BATCH]


@torch.no_grad()
def _validation_loss(network: Network, X: Any, rows: NDArray[np.int64]) -> float:
    """Return the mean of squared error plus divergence over cells."""
    network.eval()
    parts = np.split(rows, range(BATCH_SIZE, len(rows), BATCH_SIZE))
    total = sum(torch.stack(network(torch.from_numpy(dense(X[part])))).sum().item() for part in parts)
    return float(total / len(rows))


@torch.no_grad()
def encoded(network: Network, X: Any) -> NDArray[np.float32]:
    """Return the mean of the latent distribution of every cell, (n_obs, n_latent)."""
    return np.concatenate([network.encode(part)[0].numpy() for part in _parts(X)])


@torch.no_grad()
def decoded(network: Network, Z: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Return the expression decoded from latent coordinates, (n_obs, n_genes)."""
    return np.concatenate([network.decode(part).numpy() for part in _parts(Z)])


def _parts(X: Any) -> Iterator[Tensor]:
    """Yield the rows of a matrix in dense blocks of 1,024, so that the whole is never dense."""
    for start in range(0, X.shape[0], 1024):
        yield torch.from_numpy(dense(X[start : start + 1024]))
