"""Training of TOSICA's network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cellular_bench.methods._inputs import dense_rows
from cellular_bench.methods._session import available_device, seeded_torch
from cellular_bench.methods.tosica.gene_sets import GeneSets
from cellular_bench.methods.tosica.model import N_HEADS, Tosica
from cellular_bench.methods.tosica.settings import Settings

MOMENTUM: Final = 0.9
WEIGHT_DECAY: Final = 5e-5
#: Maximum number of cells after resampling.
MAX_RESAMPLED: Final = 2_000_000
#: Share of the resampled cells used for training; the authors use the others only for monitoring.
TRAIN_SHARE: Final = 0.7
#: Maximum number of attention weights in memory; larger arrays are returned to the system, which is slow.
MAX_WEIGHTS: Final = 3_000_000


def balanced_rows(label: NDArray[np.int64], *, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw rows with replacement so that all classes are as frequent as the largest, in random order.

    Only the 70 % that are used for training are returned.
    """
    counts = np.bincount(label)
    per_class = min(int(counts.max()), MAX_RESAMPLED // len(counts))
    drawn = [generator.choice(np.flatnonzero(label == code), per_class) for code in range(len(counts))]
    rows = generator.permutation(np.concatenate(drawn))
    return rows[: int(TRAIN_SHARE * len(rows))]


def learning_rate_factor(epoch: int, *, epochs: int) -> float:
    """Return the share of the learning rate in an epoch, counted from 0: half a cosine from 1 to 0.01.

    Examples
    --------
    >>> round(learning_rate_factor(5, epochs=10), 3)
    0.505
    """
    return (1 + math.cos(math.pi * epoch / epochs)) / 2 * 0.99 + 0.01


def train(X: Any, label: NDArray[np.int64], gene_sets: GeneSets, *, settings: Settings, seed: int) -> Tosica:
    """Train on expression (n_obs, n_vars) and integer labels (n_obs,); the last epoch is kept."""
    device = available_device()
    generator = np.random.default_rng(seed)
    rows = balanced_rows(label, generator=generator)
    with seeded_torch(seed, device):
        model = Tosica(
            gene_sets.members,
            n_vars=X.shape[1],
            n_labels=int(label.max()) + 1,
            layout=settings.layout,
        ).to(device)
        optimizer = torch.optim.SGD(
            model.parameters(), lr=settings.learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
        )
        for epoch in range(settings.epochs):
            factor = learning_rate_factor(epoch, epochs=settings.epochs)
            optimizer.param_groups[0]["lr"] = settings.learning_rate * factor
            order = generator.permutation(rows)
            loss = _train_epoch(model, X, label, order, optimizer, batch_size=settings.batch_size)
            print(f"tosica: epoch {epoch + 1} of {settings.epochs}: loss {loss:.4f}", flush=True)
    return model.eval()


def _train_epoch(
    model: Tosica,
    X: Any,
    label: NDArray[np.int64],
    order: NDArray[np.int64],
    optimizer: torch.optim.Optimizer,
    *,
    batch_size: int,
) -> float:
    """Train on all full mini-batches, leave out the remaining cells, and return the mean loss."""
    model.train()
    device = model.class_token.device
    # Fewer cells than batch_size form one mini-batch.
    size = min(batch_size, len(order))
    n_steps, total = len(order) // size, 0.0
    for batch in np.split(order[: n_steps * size], n_steps):
        optimizer.zero_grad(set_to_none=True)
        for rows in cells_at_a_time(batch, model):
            target = torch.as_tensor(label[rows], device=device)
            logits = model(dense_rows(X, rows, device=device))
            loss = functional.cross_entropy(logits, target, reduction="sum") / size
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        optimizer.step()
    return total / n_steps


def cells_at_a_time(rows: NDArray[np.int64], model: Tosica) -> list[NDArray[np.int64]]:
    """Split rows into parts with at most ``MAX_WEIGHTS`` attention weights; gradients add up over parts."""
    n_tokens = len(model.tokens.genes) + 2
    size = max(1, MAX_WEIGHTS // (N_HEADS * n_tokens**2))
    return np.split(rows, range(size, len(rows), size))


def apply(model: Tosica, X: Any, *, function: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
    """Apply a function of the model to all cells in blocks, (n_obs, n_outputs)."""
    device = model.class_token.device
    with torch.inference_mode():
        parts = [
            function(dense_rows(X, rows, device=device)).cpu().numpy()
            for rows in cells_at_a_time(np.arange(X.shape[0]), model)
        ]
    return np.concatenate(parts)
