"""Each term worked by hand, and the whole loss against a cell-by-cell implementation."""

import math

import numpy as np
import pytest
import torch

from cellular_bench.methods.cellular.loss import (
    batch_term,
    cellular_loss,
    centroid_term,
    cosine_similarity,
    type_term,
)
from cellular_bench.methods.cellular.settings import LossWeights

E = math.e


def _codes(*values: int) -> torch.Tensor:
    return torch.tensor(values)


def _naive_contrast(embedding, near, far, temperature):
    """Return -log(P / (P + N)) of each cell that has a near and a far cell, one cell at a time."""
    values = {}
    for i in range(len(embedding)):
        sums = {"near": 0.0, "far": 0.0}
        n_pairs = {"near": 0, "far": 0}
        for j in range(len(embedding)):
            side = "near" if near(i, j) else "far" if far(i, j) else None
            if i == j or side is None:
                continue
            cosine = embedding[i] @ embedding[j] / embedding[i].norm() / embedding[j].norm()
            sums[side] = sums[side] + torch.exp(cosine / temperature)
            n_pairs[side] += 1
        if min(n_pairs.values()) > 0:
            values[i] = -torch.log(sums["near"] / (sums["near"] + sums["far"]))
    return values


def _naive_class_sum(values, codes, weights):
    total = torch.zeros((), dtype=weights.dtype)
    for code in set(codes.tolist()):
        members = [value for i, value in values.items() if codes[i] == code]
        if members:
            total = total + weights[code] * sum(members) / len(members)
    return total


def _naive_total(embedding, label, keys, label_weights, key_weights, target, temperature):
    type_values = _naive_contrast(
        embedding, lambda i, j: label[i] == label[j], lambda i, j: label[i] != label[j], temperature
    )
    batch = 0.0
    for key, weights in zip(keys, key_weights, strict=True):
        values = _naive_contrast(
            embedding,
            lambda i, j, key=key: label[i] == label[j] and key[i] == key[j],
            lambda i, j, key=key: label[i] == label[j] and key[i] != key[j],
            0.5,
        )
        inverse = {i: 1 / value for i, value in values.items()}
        batch = batch + _naive_class_sum(inverse, key, weights) / len(keys)
    types = sorted(set(label.tolist()))
    distance = {
        (a, b): (embedding[label == a].mean(0) - embedding[label == b].mean(0)).norm()
        for a in types
        for b in types
        if a != b
    }
    known = [pair for pair in distance if target[pair] > 0]
    farthest, most = max(distance[pair] for pair in known), max(target[pair] for pair in known)
    errors = [(distance[pair] / farthest - target[pair] / most) ** 2 for pair in known]
    return 0.9 * _naive_class_sum(type_values, label, label_weights) + 0.1 * batch + sum(errors) / len(errors)


@pytest.fixture
def mini_batch():
    """Twenty-four cells with two batch keys, a type with one cell and a pair of types without target."""
    generator = torch.Generator().manual_seed(5)

    def draw(high: int) -> torch.Tensor:
        return torch.randint(high, (24,), generator=generator)

    label = draw(3)
    label[0] = 3
    target = torch.rand((4, 4), generator=generator, dtype=torch.float64) + 0.1
    target = (target + target.T).fill_diagonal_(0)
    target[0, 1] = target[1, 0] = 0
    return {
        "embedding": torch.randn((24, 6), generator=generator, dtype=torch.float64, requires_grad=True),
        "label": label,
        "keys": [draw(2), draw(3)],
        "label_weights": torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64),
        "key_weights": [torch.tensor([0.3, 0.7]).double(), torch.tensor([0.2, 0.3, 0.5]).double()],
        "target": target / target.max(),
        "temperature": torch.tensor(0.25, dtype=torch.float64, requires_grad=True),
    }


def _matrix_total(embedding, label, keys, label_weights, key_weights, target, temperature):
    return cellular_loss(
        embedding,
        label,
        keys,
        label_weights=label_weights,
        batch_weights=key_weights,
        centroid_distances=target,
        temperature=temperature,
    ).total


def test_type_term_by_hand():
    # Cells 0, 1: one type, same direction; cell 2: another type, at a right angle.
    # Cells 0 and 1: P = e^1, N = e^0. Cell 2 has no fellow and is left out.
    cosine = cosine_similarity(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]))
    term = type_term(cosine, _codes(0, 0, 1), weights=torch.tensor([0.4, 0.6]), temperature=1.0)
    assert term.item() == pytest.approx(0.4 * math.log((E + 1) / E), rel=1e-6)


def test_batch_term_by_hand():
    # One type. Batch 0: two cells in one direction; batch 1: one cell at a right angle, left out.
    # At temperature 0.5 P = e^2 and N = 1, and the inverse is taken.
    cosine = cosine_similarity(torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]))
    term = batch_term(cosine, _codes(0, 0, 0), _codes(0, 0, 1), weights=torch.tensor([0.25, 0.75]))
    assert term.item() == pytest.approx(0.25 / math.log((E**2 + 1) / E**2), rel=1e-6)


def test_centroid_term_by_hand():
    # Centroids 0, (4, 0), (0, 3): distances 4 and 5, scaled 0.8 and 1; pair (0, 2) has no target.
    embedding = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [4.0, 0.0], [0.0, 3.0]])
    target = torch.tensor([[0.0, 0.7, 0.0], [0.7, 0.0, 1.0], [0.0, 1.0, 0.0]])
    term = centroid_term(embedding, _codes(0, 0, 1, 2), centroid_distances=target)
    # The errors are 0.1 and 0, each counted twice.
    assert term.item() == pytest.approx(0.1**2 / 2, rel=1e-5)


def test_only_known_pairs_of_the_mini_batch_set_the_scale_of_the_centroid_term():
    # Distances 3, 4, 5, in proportion to the targets of the pairs of types 0, 1 and 2. The pair with the
    # largest target is absent (type 3), or the pair with the largest distance has no target.
    embedding = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    target = torch.tensor([[0, 0.3, 0.4, 1], [0.3, 0, 0.5, 1], [0.4, 0.5, 0, 1], [1, 1, 1, 0]])
    assert centroid_term(embedding, _codes(0, 1, 2), centroid_distances=target).item() < 1e-12
    target[1, 2] = target[2, 1] = 0
    assert centroid_term(embedding, _codes(0, 1, 2), centroid_distances=target).item() < 1e-12


def test_total_weighs_the_terms(mini_batch):
    terms = cellular_loss(
        mini_batch["embedding"],
        mini_batch["label"],
        mini_batch["keys"][0],
        label_weights=mini_batch["label_weights"],
        batch_weights=mini_batch["key_weights"][0],
        centroid_distances=mini_batch["target"],
        temperature=0.25,
        weights=LossWeights(type=2.0, batch=3.0, centroid=5.0),
    )
    expected = 2 * terms.type + 3 * terms.batch + 5 * terms.centroid
    assert terms.total.item() == pytest.approx(expected.item(), rel=1e-12)


def test_without_batch_keys_the_total_is_the_plain_sum(mini_batch):
    terms = cellular_loss(
        mini_batch["embedding"],
        mini_batch["label"],
        None,
        label_weights=mini_batch["label_weights"],
        batch_weights=None,
        centroid_distances=mini_batch["target"],
        temperature=0.25,
    )
    assert terms.batch.item() == 0
    assert terms.total.item() == pytest.approx((terms.type + terms.centroid).item(), rel=1e-12)


def test_value_equals_that_of_a_cell_by_cell_implementation(mini_batch):
    assert _matrix_total(**mini_batch).item() == pytest.approx(_naive_total(**mini_batch).item(), rel=1e-12)


def test_gradients_equal_those_of_a_cell_by_cell_implementation(mini_batch):
    wanted = (mini_batch["embedding"], mini_batch["temperature"])
    ours = torch.autograd.grad(_matrix_total(**mini_batch), wanted)
    naive = torch.autograd.grad(_naive_total(**mini_batch), wanted)
    for got, expected in zip(ours, naive, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_gradients_equal_finite_differences(mini_batch):
    def total(embedding, temperature):
        return _matrix_total(**{**mini_batch, "embedding": embedding, "temperature": temperature})

    assert torch.autograd.gradcheck(total, (mini_batch["embedding"], mini_batch["temperature"]))


def test_order_of_cells_does_not_matter(mini_batch):
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    shuffled = {
        **mini_batch,
        "embedding": mini_batch["embedding"][order],
        "label": mini_batch["label"][order],
        "keys": [key[order] for key in mini_batch["keys"]],
    }
    assert _matrix_total(**shuffled).item() == pytest.approx(_matrix_total(**mini_batch).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("label", "batch"),
    [((0, 0, 0, 0), (0, 0, 0, 0)), ((0, 1, 2, 3), (0, 1, 0, 1))],
    ids=["one type, one batch", "every type once"],
)
def test_terms_that_no_cell_qualifies_for_are_zero_with_a_zero_gradient(label, batch):
    embedding = torch.randn((4, 3), generator=torch.Generator().manual_seed(0), requires_grad=True)
    terms = cellular_loss(
        embedding,
        _codes(*label),
        _codes(*batch),
        label_weights=torch.full((4,), 0.25),
        batch_weights=torch.full((2,), 0.5),
        centroid_distances=torch.zeros((4, 4)),
        temperature=0.1,
    )
    terms.total.backward()
    assert [term.item() for term in terms] == [0, 0, 0, 0]
    np.testing.assert_array_equal(embedding.grad.numpy(), np.zeros((4, 3)))


def test_coinciding_cells_give_finite_gradients():
    embedding = torch.ones((6, 3), requires_grad=True)
    terms = cellular_loss(
        embedding,
        _codes(0, 0, 0, 1, 1, 1),
        _codes(0, 1, 1, 0, 0, 1),
        label_weights=torch.tensor([0.5, 0.5]),
        batch_weights=torch.tensor([0.5, 0.5]),
        centroid_distances=torch.tensor([[0.0, 1.0], [1.0, 0.0]]),
        temperature=0.1,
    )
    terms.total.backward()
    assert terms.centroid.item() == pytest.approx(1.0)
    assert torch.isfinite(embedding.grad).all()
