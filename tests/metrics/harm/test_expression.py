"""Genes that correction makes differ between random halves."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import evaluate, false_de, false_de_genes
from cellular_bench.metrics.harm.expression import false_calls
from cellular_bench.metrics.spec import METRICS, belongs

N, GENES = 300, 60
LABEL = np.repeat(["a", "b"], [200, 100])


def _expression(seed: int, mean: float = 1.0) -> np.ndarray:
    return np.log1p(np.random.default_rng(seed).poisson(mean, size=(N, GENES)).astype(float))


def _half(seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 1]).permutation(N) < N // 2


@pytest.mark.parametrize("seed", range(5))
def test_what_does_not_read_the_halves_has_hardly_a_false_gene(seed):
    X, half = _expression(seed), _half(seed)
    assert false_de_genes(X, X, half, LABEL) <= 1
    assert false_de_genes(X, 3 * X - 1, half, LABEL) == false_de_genes(X, X, half, LABEL)


@pytest.mark.parametrize("seed", range(3))
def test_shifted_genes_are_found_in_every_label_and_others_are_not(seed):
    X, half, n_shifted = _expression(seed), _half(seed), 7
    shifted = X + 2.0 * np.outer(half, np.arange(GENES) < n_shifted)
    called = false_calls(X, shifted, half, LABEL).reshape(2, GENES)
    assert called[:, :n_shifted].all()
    assert called[:, n_shifted:].sum() <= 2
    assert false_de(X, shifted, half, LABEL) == called.mean()


def test_a_significant_difference_below_a_fifth_of_the_spread_is_not_called():
    half = np.tile([True, False], N // 2)
    X = np.random.default_rng(0).uniform(1, 1.1, size=(N, 3))
    apart = 10.0 * (LABEL == "b")[:, None]
    moved = X + 0.5 * half[:, None]
    assert false_de_genes(X, moved, half, LABEL) == 6
    assert false_de_genes(X, moved + apart, half, LABEL) == 0, "0.5 is a ninth of the spread over all cells"


def test_genes_that_few_cells_showed_before_are_not_tested():
    X, half = _expression(0), _half(0)
    rare = X.copy()
    rare[:, :10] = 0
    rare[:9, :10] = 1.0  # 4.5 % of label a, none of b
    moved = rare + 1.0 * half[:, None]
    assert false_calls(rare, moved, half, LABEL).shape == (2 * (GENES - 10),)
    rare[:10, :10] = 1.0
    assert false_calls(rare, moved, half, LABEL).shape == (2 * (GENES - 10) + 10,), "5 % of a"


def test_a_gene_that_is_constant_in_each_half_counts_where_the_constants_differ():
    X, half = _expression(0), _half(0)
    constant = np.where(half[:, None], 1.0, 2.0) * np.ones(GENES)
    assert false_de(X, constant, half, LABEL) == 1.0
    assert false_de(X, np.ones_like(X), half, LABEL) == 0.0


def test_order_names_and_sparse_matrices_change_nothing():
    X, half = _expression(1), _half(1)
    moved, order = X + np.outer(half, np.arange(GENES) < 5), np.random.default_rng(0).permutation(N)
    expected = false_de_genes(X, moved, half, LABEL)
    assert false_de_genes(X[order], moved[order], half[order], LABEL[order]) == expected
    assert false_de_genes(X, moved, ~half, np.where(LABEL == "a", "z", "y")) == expected
    assert false_de_genes(csr_matrix(X), csr_matrix(moved), half, LABEL) == expected


def test_reasons():
    X = _expression(0)
    with pytest.raises(UndefinedError, match="no label has 20 cells in each half"):
        false_de(X, X, np.arange(N) < 19, LABEL)
    with pytest.raises(UndefinedError, match="needs the two halves of a batch; there are 1 batches"):
        false_de(X, X, np.zeros(N), LABEL)
    broken = X.copy()
    broken[0, 0] = np.inf
    with pytest.raises(UndefinedError, match="corrected has NaN or infinite values") as error:
        false_de(X, broken, _half(0), LABEL)
    assert error.value.by_output


def test_a_method_without_corrected_expression_has_no_such_column():
    for metric_id in ("false_de", "false_de_genes"):
        assert not belongs(METRICS[metric_id], {"X_emb", "expression"})
        assert belongs(METRICS[metric_id], {"X_emb", "expression", "corrected"})
    X, half = _expression(0), _half(0)
    inputs = {"expression": X, "corrected": X, "batch": half, "label": LABEL}
    assert evaluate(["false_de"], inputs)["false_de"] <= 0.01
