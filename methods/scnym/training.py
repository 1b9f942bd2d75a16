"""Training of scNym's network."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.methods._inputs import dense_rows
from cellular_bench.methods._session import available_device, seeded_torch
from cellular_bench.methods.scnym.mixmatch import mixmatch_loss
from cellular_bench.methods.scnym.model import Adversary, Network
from cellular_bench.methods.scnym.settings import Settings

Rows = NDArray[np.int64]
#: Number of cells that are dense at a time outside training.
CHUNK = 1024
#: First epoch, counted from 0, whose weights may be kept in training with unlabelled cells.
FIRST_EPOCH = 20


def split_cells(n_obs: int, *, share: float, generator: np.random.Generator) -> tuple[Rows, Rows]:
    """Return the training cells and the cells that select the epoch; some cells are in neither part.

    As in the package, a tenth is set aside for a report, then a tenth of the others for selection. The
    draw is not stratified, so a rare label may be missing in any part.
    """
    order = generator.permutation(n_obs)
    remaining = order[n_obs - math.floor((1 - share) * n_obs) :]
    n_selection = len(remaining) - math.floor((1 - share) * len(remaining))
    if len(remaining) - n_selection < 2:
        raise NotApplicableError(f"scnym: {n_obs} training cells are too few to hold some out; 4 are needed.")
    return remaining[n_selection:], remaining[:n_selection]


def train(X: Any, label: Rows, *, settings: Settings, seed: int, unlabelled: Any = None) -> Network:
    """Train a network on labelled cells, and on the expression of unlabelled cells if there are any."""
    device = available_device()
    generator = np.random.default_rng(seed)
    rows, selection = split_cells(len(label), share=settings.held_out_share, generator=generator)
    with seeded_torch(seed, device):
        network = Network(
            n_vars=X.shape[1], n_labels=int(label.max()) + 1, shared_block=settings.shared_block
        ).to(device)
        step = _Step(network, X, label, settings=settings, generator=generator, unlabelled=unlabelled)
        first = settings.epochs // 20 if unlabelled is None else min(FIRST_EPOCH, settings.epochs - 1)
        best = BestWeights(settings, first=first)
        for epoch in range(settings.epochs):
            network.train()
            for batch in mini_batches(rows, settings=settings, generator=generator):
                step(batch, epoch)
            loss = _selection_loss(network, X, label, selection)
            best.note(epoch, loss, network)
            if best.is_hopeless(epoch):
                break
        print(f"scnym: {epoch + 1} epochs, the best of which was {best.best_epoch + 1}", flush=True)
    if settings.checkpoint == "best":
        network.load_state_dict(best.weights)
    return network.eval()


class _Step:
    """One step of the optimiser on given rows."""

    def __init__(
        self,
        network: Network,
        X: Any,
        label: Rows,
        *,
        settings: Settings,
        generator: np.random.Generator,
        unlabelled: Any,
    ) -> None:
        self.network, self.X, self.label, self.unlabelled = network, X, label, unlabelled
        self.settings = settings
        self.device = network.head.weight.device
        self.adversary = Adversary().to(self.device)
        parameters = [*network.parameters(), *(self.adversary.parameters() if unlabelled is not None else [])]
        self.optimizer = torch.optim.Adadelta(
            parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        if unlabelled is not None:
            size = min(settings.batch_size, unlabelled.shape[0])
            self.others = _endless(unlabelled.shape[0], size=size, generator=generator)

    def __call__(self, rows: Rows, epoch: int) -> None:
        """Update the weights from a mini-batch of labelled cells, and one of unlabelled cells if any."""
        loss = self._loss(rows, epoch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def _loss(self, rows: Rows, epoch: int) -> Tensor:
        X = dense_rows(self.X, rows, device=self.device)
        target = torch.as_tensor(self.label[rows], device=self.device)
        if self.unlabelled is None:
            return functional.cross_entropy(self.network(X), target)
        return mixmatch_loss(
            self.network,
            self.adversary,
            X,
            functional.one_hot(target, self.network.head.out_features).to(X.dtype),
            dense_rows(self.unlabelled, next(self.others), device=self.device),
            epoch=epoch,
            min_confidence=self.settings.min_confidence,
        )


class BestWeights:
    """The weights of the epoch with the lowest selection loss, from epoch ``first`` on."""

    def __init__(self, settings: Settings, *, first: int) -> None:
        self.settings, self.first = settings, first
        self.best_epoch, self.best_loss = first, math.inf
        self.weights: dict[str, Tensor] = {}

    def note(self, epoch: int, loss: float, network: Network) -> None:
        """Keep the weights if the epoch is the best so far."""
        if epoch >= self.first and (loss < self.best_loss or not self.weights):
            self.best_epoch, self.best_loss = epoch, loss
            self.weights = copy.deepcopy(network.state_dict())

    def is_hopeless(self, epoch: int) -> bool:
        """Return whether more epochs than patience allows have passed since the best one."""
        return self.settings.patience is not None and epoch - self.best_epoch > self.settings.patience


def mini_batches(rows: Rows, *, settings: Settings, generator: np.random.Generator) -> Iterator[Rows]:
    """Yield mini-batches of rows in random order; fewer rows than ``batch_size`` form one mini-batch."""
    size = min(settings.batch_size, len(rows))
    order = generator.permutation(rows)
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        # A single cell has no batch statistics.
        if len(batch) == size or (settings.keep_partial and len(batch) > 1):
            yield batch


def _endless(n_obs: int, *, size: int, generator: np.random.Generator) -> Iterator[Rows]:
    while True:
        order = generator.permutation(n_obs)
        yield from (order[start : start + size] for start in range(0, n_obs - size + 1, size))


def _selection_loss(network: Network, X: Any, label: Rows, rows: Rows) -> float:
    target = torch.as_tensor(label[rows])
    return float(functional.cross_entropy(torch.as_tensor(logits(network, X[rows])), target))


def logits(network: Network, X: Any) -> NDArray[np.float32]:
    """Return (n_obs, n_labels) logits, computed in blocks of cells."""
    network.eval()
    device = network.head.weight.device
    parts = []
    with torch.inference_mode():
        for start in range(0, X.shape[0], CHUNK):
            rows = np.arange(start, min(start + CHUNK, X.shape[0]))
            parts.append(network(dense_rows(X, rows, device=device)).cpu().numpy())
    return np.concatenate(parts)
