"""TOSICA's network: tokens of gene sets, two transformer blocks, and a classified class token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 48
N_HEADS = 4
MLP_WIDTH = 192
#: Share of cells that skip the second block in training; the first block is never skipped.
DROP_PATH = 0.5


class Tosica(nn.Module):
    """Logits of cells, and the attention of the class token to each gene set.

    Only the class token is read at the end, so the second block computes no other token. This gives the
    same numbers in less than half of the time.
    """

    def __init__(
        self, members: Sequence[NDArray[np.int64]], *, n_vars: int, n_labels: int, layout: str
    ) -> None:
        super().__init__()
        self.tokens = GeneSetTokens(members, n_vars=n_vars, layout=layout)
        self.class_token = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.first = Block(drop_path=0.0)
        self.second = Block(drop_path=DROP_PATH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = nn.Linear(WIDTH, n_labels)
        nn.init.trunc_normal_(self.class_token, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear) and layer is not self.tokens.all_genes:
                nn.init.trunc_normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, X: Tensor) -> Tensor:
        """Return (n_obs, n_labels) logits of expression (n_obs, n_vars)."""
        x = self.second(self.first(self._with_class_token(X)), n_queries=1)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits

    def attention(self, X: Tensor) -> Tensor:
        """Return the class token's attention to each gene set, rolled out over both blocks, (n_obs, n_sets).

        Weights are averaged over heads; the identity is added for the skip connection. The token of all
        genes and the class token itself are left out.
        """
        x = self._with_class_token(X)
        lower = with_identity(self.first.attention_weights(x).mean(dim=1))
        upper = with_identity(self.second.attention_weights(self.first(x), n_queries=1).mean(dim=1))
        return (upper @ lower)[:, 0, 1:-1]

    def _with_class_token(self, X: Tensor) -> Tensor:
        return torch.cat([self.class_token.expand(len(X), -1, -1), self.tokens(X)], dim=1)


class GeneSetTokens(nn.Module):
    """One linear layer per gene set; the last token is a linear layer of all genes.

    Sets are padded to the size of the largest with a gene that is always 0 and whose weights stay 0. This
    equals a masked dense layer, without multiplications by zero.
    """

    genes: Tensor

    def __init__(self, members: Sequence[NDArray[np.int64]], *, n_vars: int, layout: str) -> None:
        super().__init__()
        size = max(1, *(len(positions) for positions in members))
        genes = np.full((len(members), size), n_vars)
        for row, positions in zip(genes, members, strict=True):
            row[: len(positions)] = positions
        self.register_buffer("genes", torch.as_tensor(genes))
        self.layout = layout
        bound = n_vars**-0.5
        drawn = torch.empty(len(members), size, WIDTH).uniform_(-bound, bound)
        self.weight = nn.Parameter(drawn * (self.genes < n_vars)[:, :, None])
        self.bias = nn.Parameter(torch.empty(len(members), 1, WIDTH).uniform_(-bound, bound))
        self.all_genes = nn.Linear(n_vars, WIDTH)
        for parameter in self.all_genes.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, X: Tensor) -> Tensor:
        """Return (n_obs, n_sets + 1, 48) of expression (n_obs, n_vars)."""
        by_gene = functional.pad(X, (0, 1)).T
        inputs = by_gene[self.genes.flatten()].view(*self.genes.shape, len(X)).transpose(1, 2)
        of_sets = torch.baddbmm(self.bias, inputs, self.weight).transpose(0, 1)
        tokens = torch.cat([of_sets, self.all_genes(X)[:, None]], dim=1)
        if self.layout == "published":
            # The published code stores the values set by set but reads them dimension by dimension.
            return tokens.reshape(len(X), WIDTH, -1).transpose(1, 2)
        return tokens


class Block(nn.Module):
    """Transformer block: attention, then a multilayer perceptron, each with a skip connection."""

    def __init__(self, *, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH)
        self.mlp_norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.widen = nn.Linear(WIDTH, MLP_WIDTH)
        self.narrow = nn.Linear(MLP_WIDTH, WIDTH)

    def forward(self, x: Tensor, *, n_queries: int | None = None) -> Tensor:
        """Return the output for the first ``n_queries`` tokens (None: all) of (n_obs, n_tokens, 48)."""
        query, key, value = self._heads(x, n_queries)
        weights = self._dropped(_attention(query, key))
        attended = self._dropped(self.project((weights @ value).transpose(1, 2).flatten(2)))
        x = x[:, :n_queries] + self._path(attended)
        hidden = self._dropped(functional.gelu(self.widen(self.mlp_norm(x))))
        return x + self._path(self._dropped(self.narrow(hidden)))

    def attention_weights(self, x: Tensor, *, n_queries: int | None = None) -> Tensor:
        """Return (n_obs, 4, n_queries, n_tokens) attention weights, which sum to 1 over the last axis."""
        query, key, _ = self._heads(x, n_queries)
        return _attention(query, key)

    def _heads(self, x: Tensor, n_queries: int | None) -> tuple[Tensor, Tensor, Tensor]:
        x = self.norm(x)
        weight, bias = self.qkv.weight, self.qkv.bias
        query = functional.linear(x[:, :n_queries], weight[:WIDTH], bias[:WIDTH])
        key, value = functional.linear(x, weight[WIDTH:], bias[WIDTH:]).chunk(2, dim=2)
        return _by_head(query), _by_head(key), _by_head(value)

    def _dropped(self, x: Tensor) -> Tensor:
        return halved(x) if self.training else x

    def _path(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0.0:
            return x
        kept = torch.rand(len(x), 1, 1, device=x.device) >= self.drop_path
        return x * kept / (1 - self.drop_path)


def _by_head(x: Tensor) -> Tensor:
    """Reshape (n_obs, n_tokens, 48) to (n_obs, 4, n_tokens, 12)."""
    return x.view(*x.shape[:2], N_HEADS, -1).transpose(1, 2)


def _attention(query: Tensor, key: Tensor) -> Tensor:
    scores: Tensor = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
    return scores.softmax(dim=-1)


def with_identity(weights: Tensor) -> Tensor:
    """Add 1 to the attention of each token to itself and normalise rows to sum 1; rows are first tokens."""
    n_queries, n_tokens = weights.shape[-2:]
    summed = weights + torch.eye(n_queries, n_tokens, device=weights.device)
    return summed / summed.sum(dim=-1, keepdim=True)


def halved(x: Tensor) -> Tensor:
    """Set a random half of the values to 0 and double the others: dropout of 0.5.

    This uses one random bit per value. torch's own dropout draws a number per value, which takes half of
    the time of a training step on a CPU.
    """
    if x.device.type != "cpu":
        return functional.dropout(x, 0.5)
    n_words = -(-x.numel() // 32)
    words = torch.empty(n_words, dtype=torch.int32).random_(-(2**31), 2**31)
    bits = np.unpackbits(words.numpy().view(np.uint8), count=x.numel())
    # A byte tensor needs an eighth of the memory traffic of a second float tensor.
    return x * torch.from_numpy(bits << 1).view(x.shape)
