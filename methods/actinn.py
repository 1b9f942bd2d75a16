"""ACTINN: a small fully connected network on all but extreme genes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import ContractError, NotApplicableError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._support import (
    dense,
    labels_of,
    most_probable,
    require_labels,
    require_same_genes,
)

if TYPE_CHECKING:
    from anndata import AnnData

#: Widths of the hidden layers.
HIDDEN = (100, 50, 25)
#: The learning rate is multiplied by DECAY after that many steps.
DECAY_STEPS = 1000
DECAY = 0.95


class ACTINN:
    """ACTINN, written anew from its description: three hidden layers, trained for a fixed time.

    Expression is log2(x + 1) of counts per 10,000. Genes whose summed expression, and then those whose
    coefficient of variation, lies outside the middle 98 % are dropped. The original looks at the cells to
    be named for that too; here the training cells decide, so that a cell's label never depends on the
    other cells of the query. Novelty is 1 - the highest probability; the original rejects nothing.

    Parameters
    ----------
    n_epochs
        Passes through the training cells.
    learning_rate
        Of the first 1,000 steps; times 0.95 after every 1,000.
    batch_size
        Cells per step.
    weight_decay
        Factor of the halved sum of squared weights in the loss.
    reject_below
        Cells whose highest probability is below it are rejected; 0 rejects none.
    seed
        Seed of the first weights and of the order of the cells.
    """

    spec = MethodSpec(
        method_id="actinn",
        name="ACTINN",
        tasks=("annotation", "novelty"),
        description="Fully connected network with three hidden layers on all but extreme genes.",
        labels="train",
        features="all",
        inductive=True,
        is_reimplementation=True,
        doi="10.1093/bioinformatics/btz592",
        url="https://github.com/mafeiyang/ACTINN",
        license="BSD-3-Clause",
        requires=("torch",),
        # As many steps as on a few thousand cells would take longer than the checks may.
        check_params={"learning_rate": 0.005, "n_epochs": 30},
    )

    def __init__(
        self,
        *,
        n_epochs: int = 50,
        learning_rate: float = 1e-4,
        batch_size: int = 128,
        weight_decay: float = 0.005,
        reject_below: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.reject_below = reject_below
        self.seed = seed
        self._layers: list[tuple[Any, Any]] = []

    def fit(self, train: AnnData) -> Self:
        """Choose genes, then train the network on them."""
        import torch

        labels = labels_of(train)
        require_labels(labels, self.spec.method_id)
        self._genes = list(train.var_names)
        X = _log2_scale(train.X)
        self._chosen = np.flatnonzero(usual_genes(X))
        if not self._chosen.size:
            raise NotApplicableError(
                "actinn: no gene is left between the percentiles. Use data with more genes."
            )
        self._labels, code = np.unique(labels, return_inverse=True)
        generator = torch.Generator().manual_seed(self.seed)
        self._layers = _first_weights((self._chosen.size, *HIDDEN, self._labels.size), generator)
        self._train(X[:, self._chosen], torch.from_numpy(code), generator)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Name the cells of the query."""
        import torch

        if not self._layers:
            raise ContractError("actinn: predict was called before fit. Call fit first.")
        require_same_genes(query, self._genes, self.spec.method_id)
        X = _log2_scale(query.X)[:, self._chosen]
        rows = range(0, query.n_obs, self.batch_size)
        with torch.no_grad():
            logits = [
                _logits(self._layers, torch.from_numpy(dense(X[first : first + self.batch_size])))
                for first in rows
            ]
        probability = torch.softmax(torch.cat(logits).double(), dim=1).numpy()
        return most_probable(probability, self._labels.tolist(), reject_below=self.reject_below)

    def _train(self, X: Any, code: Any, generator: Any) -> None:
        """Minimise the loss with Adam, on cells in a new order in every epoch."""
        import torch

        weights = [tensor for layer in self._layers for tensor in layer]
        optimiser = torch.optim.Adam(weights, lr=self.learning_rate)
        step = 0
        for _ in range(self.n_epochs):
            for cells in torch.split(torch.randperm(len(code), generator=generator), self.batch_size):
                optimiser.param_groups[0]["lr"] = stepped_rate(self.learning_rate, step)
                optimiser.zero_grad()
                self._loss(torch.from_numpy(dense(X[cells.numpy()])), code[cells]).backward()
                optimiser.step()
                step += 1
        for tensor in weights:
            tensor.requires_grad_(requires_grad=False)

    def _loss(self, X: Any, code: Any) -> Any:
        """Return the cross-entropy of some cells plus the penalty of the weights, biases left out."""
        import torch

        entropy = torch.nn.functional.cross_entropy(_logits(self._layers, X), code)
        return entropy + self.weight_decay * sum((W**2).sum() / 2 for W, _ in self._layers)


def usual_genes(X: Any) -> NDArray[np.bool_]:
    """Tell genes whose summed expression, and then whose coefficient of variation, is not extreme.

    Parameters
    ----------
    X
        (n_obs, n_vars) expression, sparse.

    Returns
    -------
    (n_vars,) True for genes between the 1st and the 99th percentile of both, ends included. The second
    percentiles are those of the genes that the first leave. Genes without expression have no
    coefficient of variation and are dropped.
    """
    total = np.asarray(X.sum(axis=0), dtype=np.float64).ravel()
    kept = _inside_percentiles(total, among=np.ones(total.size, dtype=np.bool_)) & (total > 0)
    mean = total / X.shape[0]
    square = np.asarray(X.multiply(X).sum(axis=0), dtype=np.float64).ravel() / X.shape[0]
    deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
    variation = np.divide(deviation, mean, out=np.zeros_like(mean), where=mean > 0)
    return _inside_percentiles(variation, among=kept)


def _inside_percentiles(values: NDArray[np.float64], *, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tell which of some values lie between their 1st and their 99th percentile."""
    if not among.any():
        return among
    low, high = np.percentile(values[among], [1, 99])
    return np.asarray(among & (values >= low) & (values <= high))


def stepped_rate(first: float, step: int) -> float:
    """Return the learning rate of a step: it falls in a staircase.

    Examples
    --------
    >>> [round(stepped_rate(1e-4, step), 8) for step in (0, 999, 1000, 2500)]
    [0.0001, 0.0001, 9.5e-05, 9.025e-05]
    """
    return first * DECAY ** (step // DECAY_STEPS)


def _first_weights(widths: tuple[int, ...], generator: Any) -> list[tuple[Any, Any]]:
    """Return a weight matrix (out, in) after Xavier, and biases of zero, for each layer."""
    import torch

    layers = []
    for n_in, n_out in pairwise(widths):
        W = torch.nn.init.xavier_uniform_(torch.empty(n_out, n_in), generator=generator)
        layers.append((W.requires_grad_(), torch.zeros(n_out, requires_grad=True)))
    return layers


def _logits(layers: list[tuple[Any, Any]], X: Any) -> Any:
    import torch

    for W, bias in layers[:-1]:
        X = torch.relu(torch.nn.functional.linear(X, W, bias))
    return torch.nn.functional.linear(X, *layers[-1])


def _log2_scale(lognorm: Any) -> Any:
    """Return log2(x + 1) from ``log1p``, sparse."""
    from scipy.sparse import csr_matrix

    result = csr_matrix(lognorm, dtype=np.float32, copy=True)
    result.data /= np.float32(np.log(2))
    return result
