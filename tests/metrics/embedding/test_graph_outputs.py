"""Methods that give a graph or neighbours, and no coordinates."""

import numpy as np
import pytest
from scipy import sparse

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import evaluate, nearest_neighbors
from cellular_bench.metrics.embedding.graphs import connectivities, nearest_along

OF_GRAPH = ["leiden_nmi", "leiden_ari", "isolated_label_f1", "graph_connectivity_scib"]
OF_NEIGHBORS = ["ilisi", "clisi", "kbet", "kbet_per_label"]
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
    ids = [*OF_GRAPH, "graph_connectivity", *OF_NEIGHBORS, *OF_COORDINATES]
    found = evaluate(ids, without_embedding | {"graph": graph})
    assert {name: found[name] for name in OF_GRAPH} == evaluate(OF_GRAPH, separated)
    # Links of a method have no direction.
    assert found["graph_connectivity"] == found["graph_connectivity_scib"]
    for metric_id in [*OF_NEIGHBORS, *OF_COORDINATES]:
        assert isinstance(found[metric_id], UndefinedError), metric_id
        assert str(found[metric_id]) == "needs 'X_emb', but the method returned a graph, not coordinates"
        assert found[metric_id].by_output


def test_neighbours_alone_have_the_values_of_graph_and_neighbours(separated, without_embedding):
    given = without_embedding | {"neighbors": nearest_neighbors(separated["X_emb"])}
    ids = [*OF_GRAPH, "graph_connectivity", *OF_NEIGHBORS]
    found = evaluate([*ids, *OF_COORDINATES], given)
    expected = evaluate(ids, separated)
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
    # Of cells at the same distance, the first is drawn.
    assert found.indices[[0, 3]].tolist() == [[0, 1, 2, 3], [3, 2, 1, 0]]
    assert [set(row) for row in found.indices[[1, 2], 1:3].tolist()] == [{0, 2}, {1, 3}]
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


def test_cells_of_a_small_part_of_a_graph_have_fewer_neighbours():
    lengths = sparse.block_diag([np.ones((5, 5)), np.ones((3, 3))]).tocsr()
    assert sorted(nearest_along(lengths, 3).indices[7].tolist()) == [5, 6, 7]
    found = nearest_along(lengths, 4)
    assert sorted(found.indices[7].tolist()) == [-1, 5, 6, 7]
    assert found.distances[7].tolist() == [0, 1, 1, np.inf]
    near, cells = found.where_known(4)
    assert cells.tolist() == [0, 1, 2, 3, 4]
    assert sorted(near.indices[4].tolist()[1:]) != [4]
    assert near.indices.max() == 4
    with pytest.raises(
        UndefinedError, match="needs 4 neighbours per cell; 3 of 8 cells are in parts"
    ) as caught:
        found.first(4)
    assert caught.value.by_output


@pytest.fixture
def rare_type():
    """Lengths and weights of the links of 300 cells of mixed batches; 60 of them form a separate part."""
    from sklearn.neighbors import kneighbors_graph

    rng = np.random.default_rng(0)
    label = np.repeat(["B", "T", "mast"], [120, 120, 60])
    X = rng.normal(size=(300, 4)) + 3 * (label == "T")[:, None] + 1000 * (label == "mast")[:, None]
    lengths = kneighbors_graph(X, 14, mode="distance")
    lengths = lengths.maximum(lengths.T).tocsr()
    weights = lengths.copy()
    weights.data = np.exp(-weights.data)
    batch = rng.choice(["x", "y"], 300)
    batch[label == "T"] = np.where(np.arange(120) % 3, "x", "z")
    inputs = {"label": label, "batch": batch}
    return X, inputs, {"graph": weights, "graph_distances": lengths}


def test_a_small_part_of_a_graph_costs_only_its_cells_and_only_where_neighbours_are_too_few(rare_type):
    X, inputs, graph = rare_type
    ids = [*OF_GRAPH, "graph_connectivity", *OF_NEIGHBORS]
    found = evaluate(ids, inputs | graph)
    links = evaluate([*OF_GRAPH, "graph_connectivity"], inputs | {"graph": graph["graph"]})
    assert {name: found[name] for name in links} == dict(links)
    assert found["leiden_nmi"] > 0.9
    # 60 cells suffice for the 50 neighbours of kBET, not for the 90 of LISI.
    rest = X[:240]
    embedded = evaluate(["ilisi", "clisi"], {"X_emb": rest, **{k: v[:240] for k, v in inputs.items()}})
    assert found["ilisi"] == pytest.approx(embedded["ilisi"], abs=0.06)
    # Two of the three labels are left, and no cell is of the third.
    assert found["clisi"] == pytest.approx(embedded["clisi"], abs=0.06)
    whole = evaluate(["kbet", "kbet_per_label"], {"X_emb": X, **inputs})
    assert found["kbet"] == pytest.approx(whole["kbet"], abs=0.1)
    assert found["kbet_per_label"] == pytest.approx(whole["kbet_per_label"], abs=0.1)
    (note,) = found.shortcuts
    assert (note.quantity, note.figures) == ("parts", {"n_short": 60, "n_obs": 300})
    assert note.metric_ids == tuple(OF_NEIGHBORS)


def test_a_graph_of_nothing_but_small_parts_has_links_alone(separated, without_embedding):
    lengths = sparse.block_diag([np.ones((30, 30)) - np.eye(30)] * 6).tocsr()
    found = evaluate(
        [*OF_GRAPH, *OF_NEIGHBORS], without_embedding | {"graph": lengths, "graph_distances": lengths}
    )
    assert all(isinstance(found[name], float) for name in OF_GRAPH)
    for name in OF_NEIGHBORS:
        assert "180 of 180 cells are in parts of the graph with fewer cells" in str(found[name])
        assert found[name].by_output
