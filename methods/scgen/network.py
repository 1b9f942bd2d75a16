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

    def forward(self, X: Tensor) -> Tensor:
        """Return the mean loss of cells: of a random draw in training, else of the latent means."""
        mean, variance = self.encode(X)
        Z = mean + variance.sqrt() * torch.randn_like(mean) if self.training else mean
        return cell_losses(X, self.decode(Z), mean, variance).mean()


def _layer(n_inputs: int, n_outputs: int, dropout: float) -> list[nn.Module]:
    return [
        nn.Linear(n_inputs, n_outputs),
        nn.BatchNorm1d(n_outputs, momentum=0.01, eps=1e-3),
        nn.LeakyReLU(0.01),
        nn.Dropout(dropout),
    ]


def cell_losses(X: Tensor, decoded: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return the loss of every cell, (n_obs,): half the squared error plus half the weighted divergence.

    Examples
    --------
    >>> X, mean, variance = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]]), torch.tensor([[1.0]])
    >>> cell_losses(X, torch.zeros(1, 2), mean, variance).item()  # (1 + 4) / 2 + 5e-5 / 2 x 9 / 2
    2.5001125...
    """
    divergence = 0.5 * (variance + mean**2 - 1 - variance.log()).sum(dim=1)
    return 0.5 * ((X - decoded) ** 2).sum(dim=1) + 0.5 * KL_WEIGHT * divergence


def train(network: Network, X: Any, *, max_epochs: int, patience: int, seed: int) -> list[float]:
    """Train until patience or epochs run out; return the validation loss of every epoch.

    The weights of the last epoch are kept, as in the original. At least 4 cells are needed.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(X.shape[0])
    held_out, learned = np.split(order, [max(1, round(VALIDATION_SHARE * len(order)))])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, eps=0.01, weight_decay=1e-6)
    losses: list[float] = []
    while len(losses) < max_epochs and not exhausted(losses, patience):
        network.train()
        for rows in mini_batches(generator.permutation(learned)):
            optimizer.zero_grad(set_to_none=True)
            network(torch.from_numpy(dense(X[rows]))).backward()
            optimizer.step()
        losses.append(_mean_loss(network, X, held_out))
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
    """Split rows into parts of similar size, at most 128: a single cell left over would have no variance."""
    return np.array_split(rows, -(-len(rows) // BATCH_SIZE))


@torch.no_grad()
def _mean_loss(network: Network, X: Any, rows: NDArray[np.int64]) -> float:
    network.eval()
    parts = mini_batches(rows)
    total = sum(len(part) * network(torch.from_numpy(dense(X[part]))).item() for part in parts)
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
