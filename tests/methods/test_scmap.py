"""scmap's formulas by hand: excess of zeros, agreement of similarities, agreement of neighbours."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

from cellular_bench.core.errors import NotApplicableError, UnknownNameError
from cellular_bench.methods.scmap import ScmapCell, ScmapCluster, agreement, dropout_excess, quantised


def cells(log2, label):
    """Cells whose log2(x + 1) is given."""
    X = csr_matrix(np.asarray(log2, dtype=np.float64) * np.log(2))
    obs = pd.DataFrame({"label": pd.Categorical(label)}, index=[f"cell{i}" for i in range(X.shape[0])])
    return AnnData(X, obs=obs, var=pd.DataFrame(index=[f"gene{i}" for i in range(X.shape[1])]))


def test_the_excess_of_zeros_by_hand():
    # Four cells. Zeros in 50, 50, 25 and 75 % of them; mean log2 expression 1, 2, 3 and 2: log2 of the
    # percentages minus log2(50) is (0, 0, -1, log2(1.5)). The line has slope sum(dx * y) / sum(dx^2)
    # = (0 + 0 - 1 + 0) / 2 around mean (log2(1.5) - 1) / 4. Always or never expressed genes are left out.
    X = np.array(
        [[2.0, 4.0, 4.0, 8.0, 1.0, 0.0], [2.0, 4.0, 4.0, 0, 1, 0], [0, 0, 4, 0, 1, 0], [0, 0, 0, 0, 1, 0]]
    )
    y = np.array([0.0, 0.0, -1.0, np.log2(1.5)])
    dx = np.array([-1.0, 0.0, 1.0, 0.0])
    expected = y - y.mean() + 0.5 * dx
    excess = dropout_excess(csr_matrix(X * np.log(2)))
    np.testing.assert_allclose(excess[:4], expected, atol=1e-12)
    np.testing.assert_array_equal(excess[4:], -np.inf)


def test_genes_of_one_expression_keep_their_zeros_as_excess():
    X = csr_matrix(np.array([[2.0, 4.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]) * np.log(2))
    half = np.log2(75 / 50) / 2
    np.testing.assert_allclose(dropout_excess(X), [-half, half])


def test_the_most_zeros_beyond_expectation_are_chosen():
    X = [[2, 4, 4, 8, 1, 0], [2, 4, 4, 0, 1, 0], [0, 0, 4, 0, 1, 0], [0, 0, 0, 0, 1, 0]]
    fitted = ScmapCell(n_genes=2).fit(cells(X, ["a", "a", "b", "b"]))
    # By the numbers above: excess -0.40, 0.10, -0.40, 0.69.
    np.testing.assert_array_equal(fitted._selected, [1, 3])
    np.testing.assert_array_equal(ScmapCell().fit(cells(X, ["a", "a", "b", "b"]))._selected, [0, 1, 2, 3])


def test_two_of_three_similarities_decide():
    cosine = np.array([[0.9, 0.8, 0.1], [0.9, 0.5, 0.1], [0.9, 0.1, 0.1], [0.2, 0.9, 0.1]])
    pearson = np.array([[0.6, 0.5, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]])
    spearman = np.array([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.1, 0.1, 0.7], [0.6, 0.3, 0.1]])
    best, similarity = agreement([cosine, pearson, spearman])
    # All agree; the last two agree on the second; none agree; the last two agree on the first.
    np.testing.assert_array_equal(best, [0, 1, 0, 0])
    np.testing.assert_allclose(similarity, [0.9, 0.7, 0.0, 0.6])


def test_cluster_compares_with_median_profiles_by_hand():
    # Medians on three genes: a (4, 0, 2), b (0, 4, 2); the third cell of a is an outlier.
    train = [[4, 0, 2], [4, 0, 2], [0, 0, 9], [0, 4, 2], [0, 4, 2], [0, 4, 0]]
    fitted = ScmapCluster().fit(cells(train, list("aaabbb")))
    np.testing.assert_allclose(fitted._profiles, [[4, 0, 2], [0, 4, 2]])
    # (4, 2, 3): cosine with a is 22 / sqrt(29 * 20); Pearson and Spearman with a are
    # (1, -1, 0).(2, -2, 0) / (sqrt(2) * sqrt(8)) = 1, the highest.
    prediction = fitted.predict(cells([[4, 2, 3], [0, 0, 0]], ["a", "a"]))
    assert prediction.label_pred[0] == "a"
    np.testing.assert_allclose(prediction.novelty, [0.0, 1.0], atol=1e-12)
    np.testing.assert_array_equal(prediction.rejected, [False, True])


def test_cluster_cannot_find_a_label_whose_median_is_zero():
    train = cells([[4, 0, 2], [4, 0, 0], [0, 3, 0], [0, 0, 1], [0, 0, 0]], list("aabbb"))
    prediction = ScmapCluster().fit(train).predict(train)
    assert set(prediction.label_pred) == {"a"}
    nothing = cells([[4, 0], [0, 0], [0, 0], [0, 3], [0, 0], [0, 0]], list("aaabbb"))
    with pytest.raises(NotApplicableError, match="median profile of every label is zero"):
        ScmapCluster().fit(nothing)


def test_cell_needs_neighbours_that_agree():
    train = cells([[9, 0], [9, 1], [9, 2], [1, 9], [0, 9], [5, 5]], list("aaabba"))
    prediction = ScmapCell(search="exact").fit(train).predict(cells([[9, 0.5], [2, 9], [0, 9]], list("aaa")))
    # The first has three a; the others have b, b and the a at 45 degrees.
    assert prediction.label_pred.tolist() == ["a", "b", "b"]
    np.testing.assert_array_equal(prediction.rejected, [False, True, True])
    nearest = max((9 * 9 + 0.5 * second) / np.hypot(9, 0.5) / np.hypot(9, second) for second in (0, 1, 2))
    np.testing.assert_allclose(prediction.novelty, [1 - nearest, 1.0, 1.0])


def test_cell_rejects_what_is_not_more_similar_than_the_threshold():
    # Four genes; the query shares one of four with each cell: cosine 1 / 2.
    train = cells([[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 1]], list("aaab"))
    query = cells([[1, 1, 1, 1]], ["a"])
    assert ScmapCell(search="exact", n_neighbors=1).fit(train).predict(query).label_pred == ["b"]
    only_a = cells([[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 1]], list("aaabb"))
    one = ScmapCell(search="exact", n_neighbors=1, reject_below=0.70711).fit(only_a).predict(query)
    np.testing.assert_allclose(one.novelty, 1 - np.sqrt(0.5))
    assert one.rejected[0]
    assert (
        not ScmapCell(search="exact", n_neighbors=1, reject_below=0.7).fit(only_a).predict(query).rejected[0]
    )


def test_cells_are_replaced_by_the_centroids_of_each_chunk():
    # Sixteen cells of 22 genes: two chunks, of which the second has three different profiles, fewer than
    # sqrt(16) centroids, and two genes that are left over.
    rng = np.random.default_rng(3)
    X = np.zeros((16, 22))
    X[:, :10] = rng.permutation(np.repeat(np.eye(4, 10), 4, axis=0)) * 2
    X[:, 10:] = np.repeat(np.eye(3, 12), [4, 6, 6], axis=0)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    found, used = quantised(unit, np.random.default_rng(0))
    np.testing.assert_array_equal(used, np.arange(10))
    # Four profiles, four centroids, each of length 1 whatever part of the cell it was.
    np.testing.assert_allclose(found, X[:, :10] / 2, atol=1e-12)
    with pytest.raises(NotApplicableError, match='search="exact"'):
        quantised(unit[:, 10:], np.random.default_rng(0))


def test_quantised_search_depends_on_the_seed_and_not_on_the_order_of_the_cells(train, query):
    found = ScmapCell(seed=1).fit(train).predict(query)
    order = np.random.default_rng(0).permutation(train.n_obs)
    again = ScmapCell(seed=1).fit(train[order].copy()).predict(query[::-1].copy())
    np.testing.assert_array_equal(found.label_pred, again.label_pred[::-1])
    np.testing.assert_allclose(found.novelty, again.novelty[::-1], atol=1e-12)
    other = ScmapCell(seed=2).fit(train).predict(query)
    assert np.abs(found.novelty - other.novelty).max() > 1e-3
    exact = ScmapCell(search="exact").fit(train).predict(query)
    assert np.mean(found.label_pred == exact.label_pred) > 0.9


def test_an_unknown_search_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'exact'"):
        ScmapCell(search="exakt")


#: Shares of equal labels, accuracy and share of unassigned cells (which are wrong) of the original.
ORIGINAL = {"baron": (0.928, (0.898, 0.910), (0.080, 0.085)), "pbmc": (0.643, (0.269, 0.270), (0.639, 0.640))}


@pytest.mark.slow
@pytest.mark.parametrize("data", ORIGINAL)
def test_cells_are_named_as_by_the_original_up_to_its_seed(fidelity, shared, data):
    train, query = fidelity.golden_split(data, shared)
    seed_to_seed, accuracy, unassigned = ORIGINAL[data]
    tables = [fidelity.golden_table(f"{data}.scmap{seed}", shared)["cell"].astype(str) for seed in (1, 2)]
    ours = [ScmapCell(seed=seed).fit(train).predict(query) for seed in range(5)]
    names = [np.where(found.rejected, "unassigned", found.label_pred) for found in ours]
    equal = [fidelity.equal_share(found, table) for found in names for table in tables]
    assert np.mean(equal) == pytest.approx(seed_to_seed, abs=0.025)
    truth = np.asarray(query.obs["label"]).astype(str)
    assert np.mean([fidelity.equal_share(found, truth) for found in names]) == pytest.approx(
        np.mean(accuracy), abs=0.03
    )
    assert np.mean([found.rejected.mean() for found in ours]) == pytest.approx(np.mean(unassigned), abs=0.04)


def test_without_zeros_scmap_is_not_applicable():
    full = cells([[1, 2], [2, 1], [1, 3]], list("aab"))
    with pytest.raises(NotApplicableError, match="zeros carry no information"):
        ScmapCell().fit(full)
