"""The classifier of cells, and the adversary that distinguishes labelled from unlabelled cells."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WIDTH = 256


class Network(nn.Module):
    """Three hidden layers of 256 units and one output per label."""

    def __init__(self, *, n_vars: int, n_labels: int, shared_block: bool) -> None:
        super().__init__()
        second = _hidden(WIDTH)
        third = second if shared_block else _hidden(WIDTH)
        self.hidden = nn.Sequential(_hidden(n_vars), second, third)
        self.head = nn.Linear(WIDTH, n_labels)

    def forward(self, X: Tensor) -> Tensor:
        """Return (n_obs, n_labels) logits of expression (n_obs, n_vars)."""
        logits: Tensor = self.head(self.hidden(X))
        return logits


def _hidden(n_in: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, WIDTH), nn.BatchNorm1d(WIDTH), nn.Dropout(0.5), nn.ReLU())


class Adversary(nn.Module):
    """Classifier of two domains on the last hidden layer, with gradient reversal."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))

    def forward(self, hidden: Tensor, *, weight: float) -> Tensor:
        """Return (n_obs, 2) logits; the gradient of ``hidden`` is multiplied by minus ``weight``."""
        logits: Tensor = self.layers(_Reversed.apply(hidden, weight))  # type: ignore[no-untyped-call]
        return logits


class _Reversed(torch.autograd.Function):
    """Identity whose gradient is multiplied by minus a weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradient, None
