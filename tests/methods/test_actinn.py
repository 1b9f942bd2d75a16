"""ACTINN's parts by hand: which genes stay, the staircase, the loss, the first weights."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from cellular_bench.core.errors import NotApplicableError
from cellular_bench.methods import actinn
from cellular_bench.methods.actinn import ACTINN, stepped_rate, usual_genes


def test_the_rate_falls_in_a_staircase():
    steps = (0, 999, 1000, 1999, 2000, 10_000)
    expected = [1e-4, 1e-4, 9.5e-5, 9.5e-5, 9.025e-5, 1e-4 * 0.95**10]
    np.testing.assert_allclose([stepped_rate(1e-4, step) for step in steps], expected, rtol=1e-12)


def test_genes_with_extreme_sums_and_then_extreme_variation_are_dropped():
    # 101 genes of two cells with sums 0 to 100: the 1st and the 99th percentile are 1 and 99, so 0 and 100
    # go. Gene g has values sum/2 +- shift: its coefficient of variation is 2 * shift / sum.
    total = np.arange(101.0)
    variation = np.linspace(0.1, 0.9, 101)
    variation[[40, 60]] = 0.0, 1.0
    half = total / 2
    X = csr_matrix(np.stack([half * (1 + variation), half * (1 - variation)]))
    np.testing.assert_array_equal(np.flatnonzero(~usual_genes(X)), [0, 40, 60, 100])


def test_genes_nobody_expresses_are_dropped():
    X = csr_matrix([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0]])
    assert not usual_genes(X)[2]
    assert not usual_genes(csr_matrix((2, 3))).any()


def test_data_without_expression_are_not_applicable(train):
    train.X = csr_matrix(train.shape, dtype=np.float32)
    with pytest.raises(NotApplicableError, match="no gene is left"):
        ACTINN().fit(train)


def test_the_loss_is_cross_entropy_and_half_the_sum_of_squared_weights():
    # One layer, W = [[1, 0], [0, 2]], bias (0, 1): the cell (1, 1) has logits 1 and 3.
    model = ACTINN(weight_decay=0.1)
    model._layers = [(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([0.0, 1.0]))]
    loss = model._loss(torch.tensor([[1.0, 1.0]]), torch.tensor([0]))
    assert float(loss) == pytest.approx(np.log(1 + np.exp(2)) + 0.1 * (1 + 4) / 2)


def test_hidden_layers_are_rectified_and_the_last_is_not():
    layers = [
        (torch.tensor([[1.0], [-1.0]]), torch.tensor([0.0, 0.5])),
        (torch.tensor([[-1.0, 2.0]]), torch.tensor([0.0])),
    ]
    # x = 1: hidden (1, 0), output -1. x = -1: hidden (0, 1.5), output 3.
    logits = actinn._logits(layers, torch.tensor([[1.0], [-1.0]]))
    np.testing.assert_allclose(logits, [[-1.0], [3.0]])


def testinitial_weights_are_uniform_after_xavier_and_biases_zero():
    (W, bias), (last, _) = actinn.initial_weights((900, 100, 3), torch.Generator().manual_seed(0))
    limit = np.sqrt(6 / (900 + 100))
    assert W.shape == (100, 900)
    assert last.shape == (3, 100)
    assert 0.999 * limit < float(W.detach().abs().max()) <= limit
    assert float(W.detach().var()) == pytest.approx(limit**2 / 3, rel=0.02)
    np.testing.assert_array_equal(bias.detach(), 0.0)


def test_expression_is_read_as_log2():
    X = csr_matrix(np.log1p([[0.0, 1.0, 7.0]]))
    np.testing.assert_allclose(actinn._log2_scale(X).toarray(), [[0.0, 1.0, 3.0]], rtol=1e-6)


def test_seeds_give_other_networks_and_the_same_seed_the_same(train, query):
    first, again, other = (
        ACTINN(n_epochs=5, learning_rate=0.005, seed=seed).fit(train).predict(query).label_proba
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_cells_below_a_threshold_are_rejected(train, query):
    highest = ACTINN(n_epochs=2).fit(train).predict(query).label_proba.max(axis=1)
    threshold = float(np.median(highest))
    rejected = ACTINN(n_epochs=2, reject_below=threshold).fit(train).predict(query).rejected
    np.testing.assert_array_equal(rejected, highest < threshold)
