"""The loss of one mini-batch: three terms, each a pure function of whole matrices.

Two contrastive terms look at the angle between cells: the first draws cells of a type together and
away from other types, the second mixes the batches within a type. The third keeps the types as far
from each other as they are in the expression data.

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

#: Temperature of the batch term; unlike that of the type term it is not learned.
BATCH_TEMPERATURE = 0.5


class LossTerms(NamedTuple):
    """The terms before weighting, and the weighted total that is trained on; all scalar tensors."""

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

    Parameters
    ----------
    embedding
        (n_obs, n_latent) output of the encoder.
    label
        (n_obs,) codes of the cell types.
    batch
        (n_obs,) codes of the batches; one such tensor per batch key; or None without batch keys, where
        the batch term is 0 and the default total is the plain sum of the two others.
    label_weights, batch_weights
        Weight of each type, and of each batch of each key; see ``centroids.inverse_frequency``.
    centroid_distances
        (n_labels, n_labels) target distances between types, largest 1, 0 where unknown.
    temperature
        Temperature of the type term.
    weights
        What each term counts in the total.
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
    """Return the cosines between all pairs of cells, (n_obs, n_obs), from -1 to 1."""
    unit = functional.normalize(embedding, dim=1)
    return unit @ unit.T


def type_term(cosine: Tensor, label: Tensor, *, weights: Tensor, temperature: Tensor | float) -> Tensor:
    """Return how far cells are from their own type, compared with other types; 0 is best.

    Parameters
    ----------
    cosine
        (n_obs, n_obs) cosines between cells.
    label
        (n_obs,) codes of the cell types.
    weights
        (n_labels,) weight of each type.
    temperature
        Smaller values listen to the nearest cells only.

    Notes
    -----
    For cell i with similarity S: ``-log(P / (P + N))``, P the sum of S over the other cells of its type,
    N that over all other types; averaged over the cells of a type, then summed over types by weight.
    A cell without a fellow of its type, or without any other type, in the mini-batch is left out.
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
    """Return how well batches can be told apart within types; smaller is better mixed, 0 if undefined.

    The same contrast as in :func:`type_term` between batches of one type, with the inverse taken cell by
    cell: a cell that lies far from its own batch, among the other batches, gives a small value.

    Parameters
    ----------
    cosine, label, temperature
        As in :func:`type_term`.
    batch
        (n_obs,) codes of the batches.
    weights
        (n_batches,) weight of each batch.
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

    Parameters
    ----------
    embedding
        (n_obs, n_latent) output of the encoder.
    label
        (n_obs,) codes of the cell types.
    centroid_distances
        (n_labels, n_labels) target; pairs at 0 do not count, nor do types absent from the mini-batch.
    """
    types, counts = torch.unique(label, return_counts=True)
    by_type = torch.split(embedding[torch.argsort(label, stable=True)], counts.tolist())
    centroids = torch.stack([cells.mean(dim=0) for cells in by_type])
    distances = (centroids[:, None] - centroids[None, :]).norm(dim=-1)
    target = centroid_distances[types][:, types].to(embedding.dtype)
    known = target > 0
    # Where all centroids coincide, every distance is 0 and stays 0.
    scaled = distances / distances.max().clamp_min(torch.finfo(embedding.dtype).tiny)
    error = torch.where(known, scaled - target, 0).square().sum()
    return error / known.sum().clamp_min(1)


def _negative_log_share(
    cosine: Tensor, *, near: Tensor, far: Tensor, temperature: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Return -log(P / (P + N)) of each cell, and where it is defined (elsewhere it is log 2)."""
    # The largest cosine is subtracted: it cancels in the share, and nothing overflows.
    similarity = torch.exp((cosine - 1) / temperature)
    defined = near.any(dim=1) & far.any(dim=1)
    near_sum = torch.where(defined, (similarity * near).sum(dim=1), 1)
    far_sum = torch.where(defined, (similarity * far).sum(dim=1), 1)
    return torch.log1p(far_sum / near_sum), defined


def _sum_of_class_means(value: Tensor, defined: Tensor, codes: Tensor, weights: Tensor) -> Tensor:
    """Average the defined values of each class, and add up the averages by the classes' weights."""
    counts = torch.zeros_like(weights).index_add_(0, codes, defined.to(weights.dtype))
    per_cell = torch.where(defined, (weights / counts.clamp_min(1))[codes], 0)
    return (per_cell.to(value.dtype) * value).sum()


def _without_self(pairs: Tensor) -> Tensor:
    return pairs.clone().fill_diagonal_(fill_value=False)


def _as_sequence(value: Tensor | Sequence[Tensor] | None) -> Sequence[Tensor]:
    if value is None:
        return ()
    return (value,) if isinstance(value, Tensor) else value
