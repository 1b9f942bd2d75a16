"""Methods that give a graph or neighbours, and no coordinates."""

import numpy as np
import pytest
from scipy import sparse

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import evaluate, nearest_neighbors
from cellular_bench.metrics.embedding.graphs import connectivities, nearest_along

OF_GRAPH = ["leiden_nmi", "leiden_ari", "isolated_label_f1", "graph_connectivity_scib"]
OF_NEIGHBORS = ["ilisi", "clisi", "kbet", "kbet_per_label", "graph_connectivity"]
OF_COORDINATES = [
    "silhouette_label",
    "silhouette_batch",
    "bras",
    "isolated_labels",
    "pcr_comparison",
    "kmeans_nmi",
]


@pytest.fixture
def without_embedding(separated):
    return {name: value for name, value in separated.items() if name != "X_emb"}


def test_a_graph_alone_has_the_values_of_its_metrics_and_reasons_for_the_others(separated, without_embedding):
    graph = connectivities(nearest_neighbors(separated["X_emb"]))
    found = evaluate([*OF_GRAPH, *OF_NEIGHBORS, *OF_COORDINATES], without_embedding | {"graph": graph})
    assert {name: found[name] for name in OF_GRAPH} == evaluate(OF_GRAPH, separated)
    for metric_id in [*OF_NEIGHBORS, *OF_COORDINATES]:
        assert isinstance(found[metric_id], UndefinedError), metric_id
        assert str(found[metric_id]) == "needs 'X_emb', but the method returned a graph, not coordinates"
        assert found[metric_id].by_output


def test_neighbours_alone_have_the_values_of_graph_and_neighbours(separated, without_embedding):
    given = without_embedding | {"neighbors": nearest_neighbors(separated["X_emb"])}
    found = evaluate([*OF_GRAPH, *OF_NEIGHBORS, *OF_COORDINATES], given)
    expected = evaluate([*OF_GRAPH, *OF_NEIGHBORS], separated)
    assert {name: found[name] for name in expected} == expected
    for metric_id in OF_COORDINATES:
        assert "the method returned a graph, not coordinates" in str(found[metric_id])


def test_a_graph_is_preferred_to_that_of_the_embedding(separated):
    one_place = sparse.csr_matrix(np.ones((180, 180)))
    found = evaluate(["graph_connectivity_scib", "silhouette_label"], separated | {"graph": one_place})
    assert found["graph_connectivity_scib"] == 1.0
    assert found["silhouette_label"] > 0.9


def test_one_direction_of_an_edge_is_enough(separated, without_embedding):
    graph = connectivities(nearest_neighbors(separated["X_emb"]))
    both = evaluate(OF_GRAPH, without_embedding | {"graph": graph})
    one = evaluate(OF_GRAPH, without_embedding | {"graph": sparse.triu(graph)})
    assert one == both


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (np.ones((180, 3)), r"graph has shape (180, 3); expected (n_obs, n_obs)"),
        (np.full((180, 180), -1.0), "graph has negative, NaN or infinite weights"),
        (np.full((180, 180), np.nan), "graph has negative, NaN or infinite weights"),
        (np.eye(180), "graph has no edge"),
    ],
)
def test_a_broken_graph_is_the_methods_fault(without_embedding, graph, reason):
    for error in evaluate(OF_GRAPH, without_embedding | {"graph": graph}).values():
        assert str(error) == reason
        assert error.by_output


def test_a_graph_of_other_cells_is_refused(without_embedding):
    graph = sparse.csr_matrix(np.ones((90, 90)))
    error = evaluate(["leiden_nmi"], without_embedding | {"graph": graph})["leiden_nmi"]
    assert "label has shape (180,); expected (90,)" in str(error)


def test_paths_by_hand():
    # A square 0-1-2-3 with sides 1, 1, 1 and 5: the way from 0 to 3 leads around.
    lengths = sparse.csr_matrix(([1.0, 1.0, 1.0, 5.0], ([0, 1, 2, 3], [1, 2, 3, 0])), shape=(4, 4))
    found = nearest_along(lengths, 4)
    assert found.indices.tolist() == [[0, 1, 2, 3], [1, 0, 2, 3], [2, 1, 3, 0], [3, 2, 1, 0]]
    assert found.distances.tolist() == [[0, 1, 2, 3], [0, 1, 1, 2], [0, 1, 1, 2], [0, 1, 2, 3]]


def test_paths_equal_dijkstra_of_scipy():
    from scipy.sparse.csgraph import dijkstra

    generator = np.random.default_rng(3)
    points = generator.normal(size=(150, 3))
    near = nearest_neighbors(points, 6)
    starts = np.arange(0, near.indices.size + 1, 6)
    lengths = sparse.csr_matrix((near.distances.ravel(), near.indices.ravel(), starts), shape=(150, 150))
    found = nearest_along(lengths, 40)
    every = dijkstra(lengths, directed=False)
    np.testing.assert_allclose(found.distances, np.sort(every, axis=1)[:, :40])
    np.testing.assert_allclose(np.take_along_axis(every, found.indices, axis=1), found.distances)


def test_a_part_of_a_graph_that_is_too_small_has_no_neighbours():
    lengths = sparse.block_diag([np.ones((5, 5)), np.ones((3, 3))]).tocsr()
    assert nearest_along(lengths, 3).indices[7].tolist() == [7, 5, 6]
    with pytest.raises(UndefinedError, match="a part of the graph has 3 cells") as caught:
        nearest_along(lengths, 4)
    assert caught.value.by_output
