"""The loss of unlabelled cells: pseudolabels, mixtures of cells, and an adversary."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from cellular_bench.methods.scnym.model import Adversary, Network

TEMPERATURE: Final = 0.5
#: Both parameters of the Beta distribution of mixtures.
MIXTURE: Final = 0.3
DROPPED: Final = 0.1
TARGET: Final = 1e6
#: Number of epochs in which the weight of pseudolabels rises to 1 and that of the adversary to 0.1.
PSEUDOLABEL_RISE: Final = 100
ADVERSARY_RISE: Final = 20
ADVERSARY_WEIGHT: Final = 0.1


def pseudolabel_weight(epoch: int) -> float:
    """Return the weight of the pseudolabel loss in an epoch, counted from 0.

    Examples
    --------
    >>> pseudolabel_weight(0), pseudolabel_weight(25), pseudolabel_weight(300)
    (0.0, 0.25, 1.0)
    """
    return min(1.0, epoch / PSEUDOLABEL_RISE)


def adversary_weight(epoch: int) -> float:
    """Return the weight of the reversed gradient in an epoch, counted from 0.

    Examples
    --------
    >>> round(adversary_weight(0), 6), round(adversary_weight(10), 6), adversary_weight(20)
    (0.000674, 0.02865, 0.1)
    """
    missing = 1 - min(1.0, epoch / ADVERSARY_RISE)
    return ADVERSARY_WEIGHT * math.exp(-5 * missing**2)


def sharpened(probability: Tensor) -> Tensor:
    """Raise probabilities (n_obs, n_labels) to 1 / temperature and normalise rows to sum 1."""
    raised = probability ** (1 / TEMPERATURE)
    return raised / raised.sum(dim=1, keepdim=True)


def with_dropped_counts(X: Tensor) -> Tensor:
    """Set a random tenth of the values to 0 and renormalise, on the scale of log1p counts per million."""
    linear = functional.dropout(torch.expm1(X), DROPPED)
    total = linear.sum(dim=1, keepdim=True)
    return torch.log1p(TARGET * linear / total.clamp_min(1.0))


def mixed(X: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Mix each cell and its label with those of another cell; its own weight is at least one half."""
    order = torch.randperm(len(X), device=X.device)
    concentration = torch.full((len(X), 1), MIXTURE, device=X.device)
    share = torch.distributions.Beta(concentration, concentration).sample()
    share = torch.maximum(share, 1 - share)
    return share * X + (1 - share) * X[order], share * target + (1 - share) * target[order]


def mixmatch_loss(
    network: Network,
    adversary: Adversary,
    labelled: Tensor,
    target: Tensor,
    unlabelled: Tensor,
    *,
    epoch: int,
    min_confidence: float,
) -> Tensor:
    """Return the loss of a mini-batch of each kind, as log1p of counts per million; updates batch statistics.

    ``epoch``, counted from 0, determines the weights of the terms. Cells whose most probable pseudolabel is
    below ``min_confidence`` are not used for training, only for batch statistics.
    """
    pseudo, confident = pseudolabels(network, unlabelled, min_confidence=min_confidence)
    labelled = with_dropped_counts(labelled)
    n_mixed = int(confident.sum())
    X, soft = mixed(torch.cat([unlabelled[confident], labelled]), torch.cat([pseudo[confident], target]))
    # Cells without a confident pseudolabel still count in the batch statistics.
    guess = network(torch.cat([X[:n_mixed], unlabelled[~confident]])).softmax(dim=1)[:n_mixed]
    of_pseudo = ((guess - soft[:n_mixed]) ** 2).sum() / len(unlabelled)
    of_labels = functional.cross_entropy(network(X[n_mixed:]), soft[n_mixed:])
    seen = unlabelled if min_confidence == 0.0 else unlabelled[confident]
    of_domain = domain_loss(network, adversary, labelled, seen, weight=adversary_weight(epoch))
    total: Tensor = of_labels + pseudolabel_weight(epoch) * of_pseudo + of_domain
    return total


def pseudolabels(network: Network, X: Tensor, *, min_confidence: float) -> tuple[Tensor, Tensor]:
    """Return sharpened probabilities (n_obs, n_labels), and a mask of confident cells (n_obs,)."""
    network.eval()
    with torch.no_grad():
        probability = network(X).softmax(dim=1)
    network.train()
    return sharpened(probability), probability.amax(dim=1) >= min_confidence


def domain_loss(
    network: Network, adversary: Adversary, labelled: Tensor, unlabelled: Tensor, *, weight: float
) -> Tensor:
    """Return the loss of the adversary in distinguishing labelled from unlabelled cells."""
    domain = torch.cat([labelled.new_zeros(len(labelled)), labelled.new_ones(len(unlabelled))]).long()
    logits = adversary(network.hidden(torch.cat([labelled, unlabelled])), weight=weight)
    return functional.cross_entropy(logits, domain)
