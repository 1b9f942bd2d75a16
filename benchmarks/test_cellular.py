"""Time of one training step of CELLULAR, compared with the study's formulation of the loss and a lower bound.

``pytest benchmarks/test_cellular.py`` asserts ratios. Each ratio is measured within one run, from the fastest
of interleaved repeats, so a busy machine slows both sides equally. There are two mini-batches: one without
zeros, and one as sparse as highly variable genes (11.6 % of the values of the 2,000 genes selected among
13,222 in 3,607 pancreas cells of Baron et al. are not zero).
"""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import Tensor, nn

from cellular_bench.methods.cellular.loss import LossTerms, cellular_loss, centroid_term
from cellular_bench.methods.cellular.model import EncoderWithTemperature, build_encoder
from cellular_bench.methods.cellular.settings import PAPER

N_CELLS, N_GENES, N_BATCHES, N_TYPES = 256, 2000, 4, 14
DENSITY = {"dense": 1.0, "sparse": 0.116}
WIDTHS = (N_GENES, N_GENES // 2, N_GENES // 4, 100)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _expression(kind: str) -> Any:
    """Return a mini-batch of cells, dense or sparse, in the form in which the encoder receives it."""
    if kind == "dense":
        return torch.rand((N_CELLS, N_GENES), generator=torch.Generator().manual_seed(0))
    drawn = sparse.random_array((N_CELLS, N_GENES), density=DENSITY[kind], rng=0, dtype=np.float32)
    return drawn.tocsr()


def _data() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand((N_TYPES, N_TYPES), generator=generator)
    return {
        "label": torch.randint(N_TYPES, (N_CELLS,), generator=generator),
        "batch": torch.randint(N_BATCHES, (N_CELLS,), generator=generator),
        "target": ((target + target.T) / 2).fill_diagonal_(0),
        "label_weights": torch.full((N_TYPES,), 1 / N_TYPES),
        "batch_weights": torch.full((N_BATCHES,), 1 / N_BATCHES),
    }


def _whole_matrix_loss(embedding: Tensor, data: dict[str, Tensor], temperature: Tensor) -> Tensor:
    terms: LossTerms = cellular_loss(
        embedding,
        data["label"],
        data["batch"],
        label_weights=data["label_weights"],
        batch_weights=data["batch_weights"],
        centroid_distances=data["target"],
        temperature=temperature,
    )
    return terms.total


def _cell_by_cell_loss(embedding: Tensor, data: dict[str, Tensor], temperature: Tensor) -> Tensor:
    """Return the same number from one small computation per cell, as the loss is described in words."""
    label, batch = data["label"], data["batch"]
    types = _contrast(embedding, label, label, label != label[:, None], data["label_weights"], temperature)
    mixing = embedding.new_zeros(())
    by_batch: dict[int, list[Tensor]] = {}
    for code in label.unique():
        members = torch.nonzero(label == code).flatten()
        for i in members:
            others = members[members != i]
            near, far = others[batch[others] == batch[i]], others[batch[others] != batch[i]]
            if len(near) and len(far):
                value = 1 / _cell_contrast(embedding, i, near, far, 0.5)
                by_batch.setdefault(int(batch[i]), []).append(value)
    for code, values in by_batch.items():
        mixing = mixing + data["batch_weights"][code] * torch.stack(values).mean()
    centroid = centroid_term(embedding, label, centroid_distances=data["target"])
    return 0.9 * types + 0.1 * mixing + centroid


def _contrast(
    embedding: Tensor, label: Tensor, codes: Tensor, far_from: Tensor, weights: Tensor, temperature: Tensor
) -> Tensor:
    total = embedding.new_zeros(())
    everyone = torch.arange(len(label))
    for code in codes.unique():
        values = []
        for i in everyone[codes == code]:
            near = everyone[(label == label[i]) & (everyone != i)]
            far = everyone[far_from[i]]
            if len(near) and len(far):
                values.append(_cell_contrast(embedding, i, near, far, temperature))
        if values:
            total = total + weights[code] * torch.stack(values).mean()
    return total


def _cell_contrast(
    embedding: Tensor, i: Tensor, near: Tensor, far: Tensor, temperature: Tensor | float
) -> Tensor:
    def similarity(others: Tensor) -> Tensor:
        cosine = torch.nn.functional.cosine_similarity(embedding[i][None], embedding[others])
        return torch.exp(cosine / temperature).sum()

    near_sum, far_sum = similarity(near), similarity(far)
    return -torch.log(near_sum / (near_sum + far_sum))


def _plain_encoder() -> nn.Sequential:
    """Return the encoder with a first layer of torch's own modules."""
    _, *others = build_encoder(N_GENES)
    return nn.Sequential(nn.LayerNorm(N_GENES), nn.Linear(N_GENES, N_GENES // 2), *others)


def _training_step(
    loss: Callable[[Tensor, dict[str, Tensor], Tensor], Tensor],
    *,
    kind: str = "dense",
    encoder: nn.Sequential | None = None,
) -> Callable[[], None]:
    """Return a function that does the forward, backward and optimiser step of one mini-batch."""
    data, X = _data(), _expression(kind)
    torch.manual_seed(0)
    model = EncoderWithTemperature(encoder or build_encoder(N_GENES), temperature=PAPER.temperature)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=PAPER.learning_rate, weight_decay=PAPER.weight_decay, fused=True
    )

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(model(X), data, model.temperature).backward()
        optimizer.step()

    return step


def _loss_alone(loss: Callable[[Tensor, dict[str, Tensor], Tensor], Tensor]) -> Callable[[], None]:
    """Return a function that does the forward and backward pass of the loss on a fixed embedding."""
    data = _data()
    embedding = torch.randn((N_CELLS, 100), generator=torch.Generator().manual_seed(1), requires_grad=True)
    temperature = torch.tensor(PAPER.temperature, requires_grad=True)
    return lambda: loss(embedding, data, temperature).backward()


def _matrix_products() -> Callable[[], None]:
    """Return a function that does only the matrix products of the linear layers, forward and backward."""
    inputs = [torch.rand(N_CELLS, width) for width in WIDTHS[:-1]]
    weights = [torch.rand(above, below) for below, above in pairwise(WIDTHS)]
    gradients = [torch.rand(N_CELLS, width) for width in WIDTHS[1:]]

    def products() -> None:
        for X, weight, gradient in zip(inputs, weights, gradients, strict=True):
            torch.mm(X, weight.T)
            torch.mm(gradient, weight)
            torch.mm(gradient.T, X)

    return products


def _fastest(*functions: Callable[[], None], repeats: int) -> list[float]:
    """Return the shortest CPU time of each function; the functions take turns."""
    best = [float("inf")] * len(functions)
    for _ in range(repeats):
        for i, function in enumerate(functions):
            start = time.thread_time()
            function()
            best[i] = min(best[i], time.thread_time() - start)
    return best


def test_both_ways_give_the_same_loss():
    data = _data()
    embedding = torch.randn((N_CELLS, 100), generator=torch.Generator().manual_seed(1))
    temperature = torch.tensor(0.25)
    whole = _whole_matrix_loss(embedding, data, temperature)
    assert whole.item() == pytest.approx(_cell_by_cell_loss(embedding, data, temperature).item(), rel=1e-5)


@pytest.mark.parametrize(("kind", "least"), [("dense", 8), ("sparse", 10)])
def test_a_step_is_many_times_faster_than_cell_by_cell(kind, least):
    # The study's step is dense for all data. Both sides contain matrix products, whose share depends on the
    # machine: the slower they are, the smaller the factor.
    ours, theirs = _fastest(
        _training_step(_whole_matrix_loss, kind=kind),
        _training_step(_cell_by_cell_loss, encoder=_plain_encoder()),
        repeats=7,
    )
    assert theirs >= least * ours, f"{ours=:.3f} s, {theirs=:.3f} s"


def test_the_loss_is_twenty_times_faster_than_cell_by_cell():
    ours, theirs = _fastest(_loss_alone(_whole_matrix_loss), _loss_alone(_cell_by_cell_loss), repeats=7)
    assert theirs / ours >= 20


@pytest.mark.parametrize("kind", DENSITY)
def test_a_step_is_near_its_matrix_products(kind):
    ours, floor = _fastest(_training_step(_whole_matrix_loss, kind=kind), _matrix_products(), repeats=30)
    assert ours / floor <= 1.3


@pytest.mark.parametrize("kind", DENSITY)
def test_time_of_a_step(benchmark, kind):
    benchmark(_training_step(_whole_matrix_loss, kind=kind))


def test_time_of_the_matrix_products(benchmark):
    benchmark(_matrix_products())


def test_time_of_the_loss_alone(benchmark):
    benchmark(_loss_alone(_whole_matrix_loss))


def test_time_of_a_step_cell_by_cell(benchmark):
    benchmark.pedantic(_training_step(_cell_by_cell_loss, encoder=_plain_encoder()), rounds=3)
