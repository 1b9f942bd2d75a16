"""ACTINN: a small fully connected network on all genes except extreme ones."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.core.types import MethodSpec, Prediction
from cellular_bench.methods._inputs import dense, require_fitted, require_labels
from cellular_bench.methods._predictions import most_probable

if TYPE_CHECKING:
    from anndata import AnnData

#: Widths of the hidden layers.
HIDDEN = (100, 50, 25)
#: The learning rate is multiplied by ``DECAY`` after this many steps.
DECAY_STEPS = 1000
DECAY = 0.95


class ACTINN:
    """ACTINN, reimplemented from its description: three hidden layers, trained for a fixed number of epochs.

    Expression is log2(x + 1) of counts per 10,000. Genes whose summed expression lies outside the middle
    98 % are dropped, then those whose coefficient of variation does. The original filters on training and
    query cells together; here only the training cells count, so that a cell's label does not depend on the
    other cells of the query. Novelty is 1 - the highest probability; the original rejects no cell.

    Parameters
    ----------
    n_epochs
        Number of passes through the training cells.
    learning_rate
        Learning rate of the first 1,000 steps; multiplied by 0.95 after every 1,000 steps.
    batch_size
        Number of cells per step.
    weight_decay
        Factor of half the sum of squared weights in the loss.
    reject_below
        Cells whose highest probability is below this value are rejected; 0 rejects none.
    seed
        Seed of the initial weights and of the order of cells.
    """

    spec = MethodSpec(
        method_id="actinn",
        name="ACTINN",
        tasks=("annotation", "novelty"),
        description=(
            "Fully connected network with three hidden layers on all genes except those extreme in the "
            "training cells."
        ),
        labels="train",
        features="all",
        inductive=True,
        is_reimplementation=True,
        doi="10.1093/bioinformatics/btz592",
        url="https://github.com/mafeiyang/ACTINN",
        license="BSD-3-Clause",
        requires=("torch",),
        # The steps that a few thousand cells need would exceed the time limit of the checks.
        check_params={"learning_rate": 0.005, "n_epochs": 30},
        warm_up=240,
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
        self._genes: list[str] = []

    def fit(self, train: AnnData) -> Self:
        """Select genes and train the network on them."""
        import torch

        labels = require_labels(train, self.spec.method_id)
        X = _log2_scale(train.X)
        self._selected = np.flatnonzero(usual_genes(X))
        if not self._selected.size:
            raise NotApplicableError(
                "actinn: no gene is left between the percentiles. Use data with more genes."
            )
        self._labels, code = np.unique(labels, return_inverse=True)
        generator = torch.Generator().manual_seed(self.seed)
        self._layers = initial_weights((self._selected.size, *HIDDEN, self._labels.size), generator)
        self._train(X[:, self._selected], torch.from_numpy(code), generator)
        self._genes = list(train.var_names)
        return self

    def predict(self, query: AnnData) -> Prediction:
        """Predict the label of each cell of the query."""
        import torch

        require_fitted(query, self._genes, self.spec.method_id)
        X = _log2_scale(query.X)[:, self._selected]
        rows = range(0, query.n_obs, self.batch_size)
        with torch.no_grad():
            logits = [
                _logits(self._layers, torch.from_numpy(dense(X[first : first + self.batch_size])))
                for first in rows
            ]
        probability = torch.softmax(torch.cat(logits).double(), dim=1).numpy()
        return most_probable(probability, self._labels.tolist(), reject_below=self.reject_below)

    def _train(self, X: Any, code: Any, generator: Any) -> None:
        """Minimise the loss with Adam; cells are shuffled in every epoch."""
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
        """Return the cross-entropy of a mini-batch plus the penalty on weights (not on biases)."""
        import torch

        entropy = torch.nn.functional.cross_entropy(_logits(self._layers, X), code)
        return entropy + self.weight_decay * sum((W**2).sum() / 2 for W, _ in self._layers)


def usual_genes(X: Any) -> NDArray[np.bool_]:
    """Return a mask of genes that are extreme neither in summed expression nor in coefficient of variation.

    Both lie between the 1st and the 99th percentile (inclusive); that of the coefficient of variation is
    taken over the genes that pass the first filter. Genes without expression have none and are dropped.
    """
    total = np.asarray(X.sum(axis=0), dtype=np.float64).ravel()
    kept = _inside_percentiles(total, among=np.ones(total.size, dtype=np.bool_)) & (total > 0)
    mean = total / X.shape[0]
    square = np.asarray(X.multiply(X).sum(axis=0), dtype=np.float64).ravel() / X.shape[0]
    deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
    variation = np.divide(deviation, mean, out=np.zeros_like(mean), where=mean > 0)
    return _inside_percentiles(variation, among=kept)


def _inside_percentiles(values: NDArray[np.float64], *, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask of those values ``among`` which lie between their 1st and 99th percentile."""
    if not among.any():
        return among
    low, high = np.percentile(values[among], [1, 99])
    return np.asarray(among & (values >= low) & (values <= high))


def stepped_rate(first: float, step: int) -> float:
    """Return the learning rate of a step, a staircase decay.

    Examples
    --------
    >>> [round(stepped_rate(1e-4, step), 8) for step in (0, 999, 1000, 2500)]
    [0.0001, 0.0001, 9.5e-05, 9.025e-05]
    """
    return first * DECAY ** (step // DECAY_STEPS)


def initial_weights(widths: tuple[int, ...], generator: Any) -> list[tuple[Any, Any]]:
    """Return Xavier-initialised weights (n_out, n_in) and zero biases of each layer."""
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
    """Return sparse log2(x + 1) from ``log1p`` values."""
    from scipy.sparse import csr_matrix

    result = csr_matrix(lognorm, dtype=np.float32, copy=True)
    result.data /= np.float32(np.log(2))
    return result
