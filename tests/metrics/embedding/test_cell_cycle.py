"""Cell-cycle scores and their conservation."""

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError
from cellular_bench.core.toml import read_toml
from cellular_bench.metrics import cell_cycle_conservation, score_cell_cycle
from cellular_bench.metrics.embedding.cell_cycle import GENES, phase_genes, principal_scores
from cellular_bench.metrics.embedding.regression import share_explained

S = ["MCM5", "PCNA", "TYMS", "FEN1", "MCM2", "MCM4", "RRM1", "UNG", "GINS2", "MCM6", "CDCA7"]
G2M = ["HMGB2", "CDK1", "NUSAP1", "UBE2C", "BIRC5", "TPX2", "TOP2A", "NDC80", "CKS2", "NUF2", "CKS1B"]
NAMES = [*S, *G2M, *(f"gene{i}" for i in range(400))]


@pytest.fixture
def cycling():
    """120 cells in two batches, half of each in S phase, and 5 cells of a third batch."""
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(0)
    X = rng.poisson(1.0, size=(125, len(NAMES))).astype(np.float32)
    in_s = np.arange(125) % 2 == 0
    X[np.ix_(in_s, np.arange(len(S)))] += 8
    batch = np.array(["x"] * 60 + ["y"] * 60 + ["few"] * 5)
    return sparse.csr_matrix(np.log1p(X)), batch, in_s


def test_cells_in_a_phase_score_higher_and_explain_variance(cycling):
    X, batch, in_s = cycling
    found = score_cell_cycle(X, NAMES, batch)
    assert found.scores.shape == (125, 2)
    judged = batch != "few"
    assert found.scores[judged & in_s, 0].min() > found.scores[judged & ~in_s, 0].max()
    assert found.variance_before.keys() == {"x", "y"}
    assert all(0.05 < share < 0.5 for share in found.variance_before.values())


def test_scores_do_not_depend_on_the_state_of_numpys_global_generator(cycling):
    X, batch, _ = cycling
    first = score_cell_cycle(X, NAMES, batch)
    np.random.seed(5)  # noqa: NPY002 - the generator that scanpy draws from
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    second = score_cell_cycle(X, NAMES, batch)
    assert np.random.random() == expected  # noqa: NPY002
    assert np.array_equal(first.scores, second.scores)


def test_the_same_components_conserve_everything_and_noise_little(cycling):
    X, batch, _ = cycling
    found = score_cell_cycle(X, NAMES, batch)
    before, after = found.scores, found.variance_before
    components = np.zeros((125, 50))
    for name in "xy":
        components[batch == name] = principal_scores(X[batch == name])
    assert cell_cycle_conservation(components, batch, before, after) == pytest.approx(1.0, abs=1e-9)
    noise = np.random.default_rng(1).normal(size=(125, 50))
    assert cell_cycle_conservation(noise, batch, before, after) < 0.5


def test_components_equal_a_full_decomposition(cycling):
    X = cycling[0].toarray().astype(np.float64)
    left, sizes, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    expected = (left * sizes)[:, :50]
    smallest_first = principal_scores(cycling[0])
    assert np.abs(smallest_first[:, ::-1]) == pytest.approx(np.abs(expected), abs=1e-6)


def test_share_explained_by_hand():
    # The first column follows the covariate, the second is at right angles to it.
    covariate = np.array([[-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    X = np.array([[-1.0, -3.0], [1.0, -3.0], [-1.0, 3.0], [1.0, 3.0]])
    assert share_explained(X, covariate) == pytest.approx(1 / 10)
    assert share_explained(X + 7, covariate + 3) == pytest.approx(1 / 10)


def test_conservation_by_hand():
    scores = np.tile([[-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]], (2, 1))
    X = np.tile([[-1.0, -3.0], [1.0, -3.0], [-1.0, 3.0], [1.0, 3.0]], (2, 1))
    batch = np.repeat(["x", "y"], 4)
    # 0.1 after; before 0.2 and 0.04: 1 - 0.5, and 1 - 1.5, which counts 0.
    before = {"x": 0.2, "y": 0.04}
    assert cell_cycle_conservation(X, batch, scores, before) == pytest.approx((0.5 + 0) / 2)
    assert cell_cycle_conservation(X, batch, scores, {"x": 0.2}) == pytest.approx(0.5)


def test_a_batch_that_collapses_to_a_point_keeps_nothing():
    scores = np.tile([[-1.0, 0.0], [1.0, 0.0]], (4, 1))
    X, batch = np.arange(8.0)[:, None], np.repeat(["x", "y"], 4)
    X[:4] = 0
    assert cell_cycle_conservation(X, batch, scores, {"x": 0.2}) == 0.0


def test_mouse_symbols_are_found():
    names = [name.capitalize() for name in NAMES]
    assert phase_genes(names) == ([name.capitalize() for name in S], [name.capitalize() for name in G2M])


def test_the_list_of_genes_is_complete():
    lists = read_toml(GENES, what="List of genes")
    assert (len(lists["s"]), len(lists["g2m"])) == (43, 54)
    assert len({*lists["s"], *lists["g2m"]}) == 97


def test_too_few_genes(cycling):
    X, batch, _ = cycling
    with pytest.raises(
        UndefinedError, match="too few cell-cycle genes among the 411 genes: 0 of S and 11 of"
    ) as e:
        score_cell_cycle(X[:, len(S) :], NAMES[len(S) :], batch)
    assert not e.value.by_output


def test_no_batch_is_large_enough(cycling):
    X, _, _ = cycling
    with pytest.raises(UndefinedError, match="no variance in any batch of 10 or more cells"):
        score_cell_cycle(X, NAMES, np.arange(125))


def test_names_must_fit_the_genes(cycling):
    with pytest.raises(ValueError, match="X has 422 genes and there are 3 names"):
        score_cell_cycle(cycling[0], NAMES[:3], cycling[1])


def test_scores_must_fit_the_cells():
    with pytest.raises(ValueError, match=r"cell_cycle has shape \(2, 2\); expected \(3, 2\)"):
        cell_cycle_conservation(np.eye(3), ["x"] * 3, np.zeros((2, 2)), {"x": 0.1})
