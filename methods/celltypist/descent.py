"""Logistic regression by stochastic gradient descent, with the rule of scikit-learn < 1.8 for its end.

That rule looks at the loss alone; since version 1.8 the penalty counts as well, and training goes on for
several times as long. Import this inside functions only: it imports numba.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cellular_bench.methods._compiled import compiled

#: Defaults of ``sklearn.linear_model.SGDClassifier``.
ALPHA, TOLERANCE, PATIENCE = 1e-4, 1e-3, 5
LARGEST_SEED = np.iinfo(np.int32).max
#: The learning rate of step t is 1 / (ALPHA * (FIRST_STEP + t - 1)).
FIRST_STEP = 1.0 / (math.sqrt(1.0 / math.sqrt(ALPHA)) * ALPHA)
#: The weights are multiplied by their common factor before it loses precision.
SMALLEST_SCALE = 1e-6


def coefficients(
    X: NDArray[np.float32], labels: NDArray[np.str_], *, max_epochs: int, seed: int
) -> NDArray[np.float32]:
    """Return the coefficients of each label against the rest, (n_labels, n_features); one row for 2 labels.

    Every label has its own order of cells; the numbers equal those of ``SGDClassifier(loss="log_loss")`` in
    scikit-learn 1.7.
    """
    X = np.ascontiguousarray(X)
    names = np.unique(labels)
    seeds = [seed]
    if names.size > 2:
        seeds = np.random.RandomState(seed).randint(LARGEST_SEED, size=names.size).tolist()
    return np.stack(
        [
            _descent(X, (labels == name).astype(np.float64), max_epochs, _seed_of_order(seed))
            for name, seed in zip(names[-len(seeds) :], seeds, strict=True)
        ]
    )


def _seed_of_order(seed: int) -> np.uint32:
    generator = np.random.RandomState(seed)
    generator.randint(1, LARGEST_SEED)  # the library takes the first number for something else
    return np.uint32(generator.randint(LARGEST_SEED))


@compiled
def _descent(
    X: NDArray[np.float32], y: NDArray[np.float64], max_epochs: int, seed: np.uint32
) -> NDArray[np.float32]:
    """Return the coefficients of one label; the digits depend on the order of these operations."""
    n_cells, n_features = X.shape
    weights = np.zeros(n_features, dtype=np.float32)
    scale = 1.0
    order = np.arange(n_cells)
    intercept, step = 0.0, 1.0
    lowest, n_stale = np.inf, 0
    for _ in range(max_epochs):
        _shuffle(order, seed)
        total = 0.0
        for i in order:
            product = 0.0
            for j in range(n_features):
                product += weights[j] * X[i, j]
            raw = float(np.float32(product * scale)) + intercept
            rate = 1.0 / (ALPHA * (FIRST_STEP + step - 1))
            total += _log1p_exp(raw) - y[i] * raw
            change = -rate * _gradient(y[i], raw)
            scale *= float(np.float32(max(0.0, 1.0 - rate * ALPHA)))
            if scale < SMALLEST_SCALE:
                weights *= np.float32(scale)
                scale = 1.0
            if change != 0.0:
                factor = np.float32(change) / np.float32(scale)
                for j in range(n_features):
                    weights[j] += np.float64(X[i, j]) * factor
                intercept += change
            step += 1.0
        n_stale = n_stale + 1 if total > lowest - TOLERANCE * n_cells else 0
        lowest = min(lowest, total)
        if n_stale >= PATIENCE:
            break
    return weights * np.float32(scale)


@compiled
def _shuffle(order: NDArray[np.int64], seed: np.uint32) -> None:
    """Shuffle in place with a xorshift generator of 32 bits (doi:10.18637/jss.v008.i14)."""
    state = seed if seed else np.uint32(1)
    for i in range(order.size - 1):
        state ^= np.uint32(state << np.uint32(13))
        state ^= np.uint32(state >> np.uint32(17))
        state ^= np.uint32(state << np.uint32(5))
        j = i + np.int64(state % np.uint32(2**31)) % (order.size - i)
        order[i], order[j] = order[j], order[i]


@compiled
def _log1p_exp(raw: float) -> float:
    if raw > 33.3:
        return raw
    if raw > 18:
        return raw + math.exp(-raw)
    return math.log(1.0 + math.exp(raw)) if raw > -2 else math.log1p(math.exp(raw))


@compiled
def _gradient(y: float, raw: float) -> float:
    if raw <= -37:
        return math.exp(raw) - y
    tail = math.exp(-raw)
    return ((1 - y) - y * tail) / (1 + tail)
