"""The loss of one mini-batch: three terms, each a pure function of whole matrices.

Two contrastive terms depend on the angles between cells. The first pulls cells of a type together and
away from other types, the second mixes the batches within each type. The third term keeps the distances
between types as they are in the expression data.

Source: Andrekson and Mercado 2024, CELLULAR; soft nearest neighbour loss: Frosst et al. 2019,
arXiv:1902.01889.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cellular_bench.methods.cellular.settings import LossWeights

#: Temperature of the batch term. It is fixed, while the temperature of the type term is learned.
BATCH_TEMPERATURE = 0.5


class LossTerms(NamedTuple):
    """The unweighted terms and the weighted total, which is minimised; all are scalar tensors."""

    type: Tensor
    batch: Tensor
    centroid: Tensor
    total: Tensor


def cellular_loss(
    embedding: Tensor,
    label: Tensor,
    batch: Tensor | Sequence[Tensor] | None,
    *,
    label_weights: Tensor,
    batch_weights: Tensor | Sequence[Tensor] | None,
    centroid_distances: Tensor,
    temperature: Tensor | float,
    weights: LossWeights | None = None,
) -> LossTerms:
    """Return the three terms of a mini-batch and their weighted sum.

    ``batch`` holds the batches of one key, or one tensor per key. If it is None, the batch term is 0 and the
    default total is the plain sum of the other two terms. See ``centroids.inverse_frequency`` for the
    weights of types and batches, and :func:`centroid_term` for ``centroid_distances``.
    ``temperature`` is that of the type term.
    """
    cosine = cosine_similarity(embedding)
    types = type_term(cosine, label, weights=label_weights, temperature=temperature)
    centroid = centroid_term(embedding, label, centroid_distances=centroid_distances)
    keys = _as_sequence(batch)
    per_key = [
        batch_term(cosine, label, key, weights=key_weights)
        for key, key_weights in zip(keys, _as_sequence(batch_weights), strict=True)
    ]
    mixing = torch.stack(per_key).mean() if per_key else torch.zeros_like(types)
    if weights is None:
        weights = LossWeights() if per_key else LossWeights(type=1.0)
    total = weights.type * types + weights.batch * mixing + weights.centroid * centroid
    return LossTerms(types, mixing, centroid, total)


def cosine_similarity(embedding: Tensor) -> Tensor:
    """Return the cosines of all pairs of cells, (n_obs, n_obs), from -1 to 1."""
    unit = functional.normalize(embedding, dim=1)
    return unit @ unit.T


def type_term(cosine: Tensor, label: Tensor, *, weights: Tensor, temperature: Tensor | float) -> Tensor:
    """Return how close cells are to other types relative to their own type; 0 is best.

    The value of a cell is ``-log(P / (P + N))``, with P the sum of its similarities to the other cells of
    its type and N the sum of those to all cells of other types. Values are averaged over the cells of each
    type and summed over types by weight. A cell is left out if the mini-batch has no other cell of its
    type, or no cell of another type. A smaller temperature gives more weight to the nearest cells.
    """
    same = label[:, None] == label[None, :]
    value, defined = _negative_log_share(cosine, near=_without_self(same), far=~same, temperature=temperature)
    return _sum_of_class_means(value, defined, label, weights)


def batch_term(
    cosine: Tensor,
    label: Tensor,
    batch: Tensor,
    *,
    weights: Tensor,
    temperature: float = BATCH_TEMPERATURE,
) -> Tensor:
    """Return how separate batches are within types; smaller is better mixed, 0 if undefined.

    This is the contrast of :func:`type_term` between the batches of one type, inverted for each cell: a
    cell that is far from its own batch and close to other batches has a small value.
    """
    same_type = label[:, None] == label[None, :]
    same_batch = batch[:, None] == batch[None, :]
    value, defined = _negative_log_share(
        cosine,
        near=_without_self(same_type & same_batch),
        far=same_type & ~same_batch,
        temperature=temperature,
    )
    return _sum_of_class_means(1 / value, defined, batch, weights)


def centroid_term(embedding: Tensor, label: Tensor, *, centroid_distances: Tensor) -> Tensor:
    """Return the mean squared error of the distances between type centroids; 0 is best.

    Pairs whose target (n_labels, n_labels) is 0 and types absent from the mini-batch are ignored. Distances
    and targets of the other pairs are each divided by their maximum, so that only their proportions count.
    """
    types, counts = torch.unique(label, return_counts=True)
    by_type = torch.split(embedding[torch.argsort(label, stable=True)], counts.tolist())
    centroids = torch.stack([cells.mean(dim=0) for cells in by_type])
    distances = (centroids[:, None] - centroids[None, :]).norm(dim=-1)
    target = centroid_distances[types][:, types].to(embedding.dtype)
    known = target > 0
    # If all centroids coincide, all distances stay 0.
    tiny = torch.finfo(embedding.dtype).tiny
    scaled = distances / torch.where(known, distances, 0).max().clamp_min(tiny)
    error = torch.where(known, scaled - target / target.max().clamp_min(tiny), 0).square().sum()
    return error / known.sum().clamp_min(1)


def _negative_log_share(
    cosine: Tensor, *, near: Tensor, far: Tensor, temperature: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Return -log(P / (P + N)) of each cell, log 2 if it is undefined; and a mask of defined values."""
    # Subtracting the largest possible cosine cancels in the share and prevents overflow.
    similarity = torch.exp((cosine - 1) / temperature)
    defined = near.any(dim=1) & far.any(dim=1)
    near_sum = torch.where(defined, (similarity * near).sum(dim=1), 1)
    far_sum = torch.where(defined, (similarity * far).sum(dim=1), 1)
    return torch.log1p(far_sum / near_sum), defined


def _sum_of_class_means(value: Tensor, defined: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    """Average the defined values of each class and return the weighted sum of these means."""
    counts = torch.zeros_like(weights).index_add_(0, codes, defined.to(weights.dtype))
    per_cell = torch.where(defined, (weights / counts.clamp_min(1))[codes], 0)
    return (per_cell.to(value.dtype) * value).sum()


def _without_self(pairs: Tensor) -> Tensor:
    return pairs.clone().fill_diagonal_(fill_value=False)


def _as_sequence(value: Tensor | Sequence[Tensor] | None) -> Sequence[Tensor]:
    if value is None:
        return ()
    return (value,) if isinstance(value, Tensor) else value
