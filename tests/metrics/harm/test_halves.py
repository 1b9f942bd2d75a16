"""Halves of one batch: neighbours in two calls, and how often they are of the other half."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from cellular_bench.core.errors import UndefinedError
from cellular_bench.datasets.splits import even_halves, half_names, skewed_halves
from cellular_bench.metrics import METRICS, evaluate, harmless, mixing_ratio
from cellular_bench.metrics.harm.halves import nearest_on_graph, neighbors_of_calls, stratum_neighbors

HARM = ["harmless", "mixing_as_chance", "mixing_ratio"]
N = 400
LABEL = np.repeat(["a", "b", "c"], [200, 120, 80])
NAMES = [f"cell{i:03}" for i in range(N)]
SPLITS = {
    "even": even_halves(LABEL, ["x"] * N, NAMES),
    "skewed": skewed_halves(LABEL, ["x"] * N, NAMES),
}


def _cells(seed: int = 0) -> np.ndarray:
    """Three types in six dimensions."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, 6)) + 8 * np.eye(3, 6)[np.unique(LABEL, return_inverse=True)[1]]


def _ignoring(X, half, rng):
    return X


def _with_an_axis(X, half, rng):
    """Keep the halves apart."""
    return np.column_stack([X, 6.0 * half])


def _merging(half: np.ndarray, seed: int) -> csr_matrix:
    """Link each cell with 15 of its type in the other half, nearer than any path to the own half."""
    rng = np.random.default_rng(seed)
    lengths = np.zeros((N, N))
    for cell in range(N):
        others = np.flatnonzero((LABEL[cell] == LABEL) & (half != half[cell]))
        chosen = rng.choice(others, min(15, len(others)), replace=False)
        lengths[cell, chosen] = lengths[chosen, cell] = rng.uniform(1.0, 1.5, len(chosen))
    return csr_matrix(lengths)


def _scores(method, kind: str, split=0, seed: int = 0) -> dict[str, float | UndefinedError]:
    halves = SPLITS[kind][split].halves
    X, rng = _cells(seed), np.random.default_rng(seed)
    inputs = {
        "X_emb": method(X, halves[0], rng),
        "X_emb_again": method(X, halves[1], rng),
        "batch": half_names(halves[0]),
        "stratum": LABEL if kind == "skewed" else np.repeat("all", N),
    }
    return evaluate(HARM, inputs)


@pytest.mark.parametrize("kind", SPLITS)
def test_a_method_that_ignores_batches_does_no_harm(kind):
    found = [_scores(_ignoring, kind, split, seed) for split in range(3) for seed in range(3)]
    assert all(scores["harmless"] == 1.0 for scores in found)
    ratios = [scores["mixing_ratio"] for scores in found]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.03)
    assert max(abs(np.log2(ratios))) < 0.2
    assert all(s["mixing_as_chance"] == 1 - abs(np.log2(s["mixing_ratio"])) for s in found)


@pytest.mark.parametrize("kind", SPLITS)
def test_a_method_that_adds_an_axis_of_the_batches_mixes_too_little(kind):
    for split in range(3):
        found = _scores(_with_an_axis, kind, split)
        assert found["mixing_ratio"] < 0.3
        assert found["mixing_as_chance"] == 0.0
        assert found["harmless"] < 0.8


@pytest.mark.parametrize("kind", SPLITS)
def test_a_method_that_merges_the_halves_mixes_too_much(kind):
    for split in SPLITS[kind]:
        first, second = (_merging(half, seed=0) for half in split.halves)
        found = evaluate(
            HARM,
            {
                "graph": first,
                "graph_distances": first,
                "neighbors_again": nearest_on_graph(second),
                "batch": half_names(split.halves[0]),
                "stratum": LABEL,
            },
        )
        assert found["mixing_ratio"] > 1.6
        assert found["mixing_as_chance"] < 0.35
        assert found["harmless"] < 0.2


def test_unrelated_embeddings_overlap_by_chance():
    rng = np.random.default_rng(0)
    found = [harmless(neighbors_of_calls(*rng.normal(size=(2, 200, 5)))) for _ in range(10)]
    assert np.mean(found) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("kind", SPLITS)
def test_values_depend_on_no_order_of_cells_and_on_no_names(kind):
    rng = np.random.default_rng(1)
    halves = SPLITS[kind][1].halves
    X = np.round(_cells(), 1)  # ties, and cells of equal coordinates
    X[5] = X[6]
    inputs = {
        "X_emb": X,
        "X_emb_again": np.round(_cells() + 0.3 * rng.normal(size=X.shape), 1),
        "batch": half_names(halves[0]),
        "stratum": LABEL,
    }
    expected = evaluate(HARM, inputs)
    order = rng.permutation(N)
    moved = {name: values[order] for name, values in inputs.items()}
    assert evaluate(HARM, moved) == pytest.approx(expected)
    renamed = inputs | {
        "batch": np.where(halves[0], "A", "B"),
        "stratum": np.array([{"a": "z", "b": "y", "c": "x"}[name] for name in LABEL]),
    }
    assert evaluate(HARM, renamed) == pytest.approx(expected)


def test_a_graph_of_the_nearest_cells_scores_as_its_embedding():
    halves = SPLITS["skewed"][0].halves
    first, second = _cells(), _cells() + 0.3 * np.random.default_rng(1).normal(size=(N, 6))
    context = {"batch": half_names(halves[0]), "stratum": LABEL}

    def links(X):
        """All distances within types, so that shortest paths are distances."""
        distances = np.sqrt(((X[:, None] - X[None]) ** 2).sum(axis=2))
        return csr_matrix(np.where(LABEL[:, None] == LABEL[None], distances, 0.0))

    expected = evaluate(HARM, {"X_emb": first, "X_emb_again": second, **context})
    weights = csr_matrix(links(first) > 0, dtype=float)
    graph = {
        "graph": weights,
        "graph_distances": links(first),
        "neighbors_again": nearest_on_graph(links(second)),
    }
    assert evaluate(HARM, {**graph, **context}) == pytest.approx(expected)


def test_small_strata_do_not_count_and_none_left_has_a_reason():
    rng = np.random.default_rng(0)
    X, stratum = rng.normal(size=(100, 3)), np.repeat(["large", "small"], [70, 30])
    half = np.tile(["one", "two"], 50)
    near = stratum_neighbors(X, stratum, half)
    assert (near[70:] == -1).all(), "15 cells in each half"
    assert (near[:70] < 70).all()
    alone = mixing_ratio(stratum_neighbors(X[:70], stratum[:70], half[:70]), half[:70], stratum[:70])
    assert mixing_ratio(near, half, stratum) == pytest.approx(alone)
    with pytest.raises(UndefinedError, match="no stratum has 20 cells in each half"):
        mixing_ratio(near[70:], half[70:], stratum[70:])


@pytest.mark.parametrize(
    ("change", "reason", "by_output"),
    [
        ({"X_emb_again": None}, "the method did not return 'X_emb_again'", True),
        ({"X_emb_again": np.full((N, 2), np.nan)}, "X_emb_again has NaN", True),
        ({"X_emb": np.ones((N, 2))}, "X_emb is constant", True),
        ({"batch": np.repeat("one", N), "X_emb_again": None}, "needs the two halves of a batch", False),
        (
            {"X_emb": None, "X_emb_again": None, "graph": csr_matrix(np.eye(N, k=1))},
            "the method returned a graph, not coordinates",
            True,
        ),
    ],
)
def test_what_cannot_be_scored_has_a_reason(change, reason, by_output):
    inputs = {
        "X_emb": _cells(),
        "X_emb_again": _cells(),
        "batch": half_names(SPLITS["even"][0].halves[0]),
        "stratum": np.repeat("all", N),
    }
    found = [value for value in evaluate(HARM, inputs | change).values() if isinstance(value, UndefinedError)]
    assert any(reason in str(error) and error.by_output is by_output for error in found), found


def test_few_cells_have_a_reason():
    for n in (2, 16):
        X = np.random.default_rng(0).normal(size=(n, 2))
        found = evaluate(
            HARM, {"X_emb": X, "X_emb_again": X, "batch": ["x", "y"] * (n // 2), "stratum": ["s"] * n}
        )
        assert "needs 17 cells" in str(found["harmless"])
        assert "no stratum has 20 cells" in str(found["mixing_ratio"])


def test_a_graph_in_small_parts_has_a_reason():
    far = np.array([nearest_on_graph(csr_matrix(np.kron(np.eye(10), np.ones((6, 6))))) for _ in range(2)])
    with pytest.raises(UndefinedError, match="60 of 60 cells have fewer than 15 neighbours") as error:
        harmless(far)
    assert error.value.by_output


def test_only_what_compares_methods_counts_in_the_overall_score():
    counted = {spec.metric_id for spec in METRICS.values() if spec.aspect == "harm" and spec.in_overall}
    assert counted == {"harmless", "mixing_as_chance"}
