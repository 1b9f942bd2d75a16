"""Values of single cells: their aggregates are the metrics, and types and batches can be compared by them."""

from dataclasses import replace

import numpy as np
import pytest

from cellular_bench.core.errors import UndefinedError, UnknownNameError
from cellular_bench.metrics import evaluate, nearest_neighbors, structure_reference
from cellular_bench.metrics.per_cell import CELL_QUANTITIES, by_group, neighbours_kept_per_cell
from cellular_bench.metrics.profiles import FULL
from cellular_bench.metrics.spec import CellValues


def cells(seed: int, *, n_obs: int = 420, shift: float = 0.5) -> dict[str, np.ndarray]:
    """Return types of unequal sizes and shares of batches; the last one is in one batch, the fourth rare."""
    rng = np.random.default_rng(seed)
    label = rng.choice(["A", "B", "C", "rare", "single"], n_obs, p=[0.4, 0.3, 0.15, 0.05, 0.1])
    share = {"A": 0.5, "B": 0.8, "C": 0.3, "rare": 0.5, "single": 0.0}
    batch = np.where(rng.random(n_obs) < [share[name] for name in label], "x", "y")
    X = rng.normal(size=(n_obs, 4)) + 4.0 * np.searchsorted(sorted(share), label)[:, None] * [1, 0, 0, 0]
    X[:, 1] += shift * (batch == "x")
    return {"X_emb": X, "label": label, "batch": batch}


def found_in(inputs: dict[str, np.ndarray], names: list[str] | None = None) -> dict[str, CellValues]:
    return evaluate([], inputs, per_cell=names or list(OF_NEIGHBOURS)).per_cell


OF_NEIGHBOURS = ("batch_mixing", "label_purity", "ilisi", "clisi", "kbet", "kbet_per_label")


def mean_of_types(values: CellValues, inputs: dict[str, np.ndarray]) -> float:
    return float(np.mean(list(by_group(values, inputs["label"]).values())))


#: How the values of cells make the metric of the same name.
AGGREGATES = {
    "ilisi": lambda found, _: np.median(found.values),
    "clisi": lambda found, _: np.median(found.values),
    "kbet": lambda found, _: np.mean(found.values),
    "kbet_per_label": mean_of_types,
}


@pytest.mark.parametrize("shift", [0.0, 2.0])
@pytest.mark.parametrize("seed", range(2))
def test_aggregates_over_cells_are_the_metrics(seed, shift):
    inputs = cells(seed, shift=shift)
    found = evaluate(list(AGGREGATES), inputs, per_cell=list(AGGREGATES))
    for name, aggregate in AGGREGATES.items():
        assert found[name] == pytest.approx(aggregate(found.per_cell[name], inputs), abs=1e-12), name


@pytest.mark.parametrize("seed", range(2))
def test_neither_the_order_nor_the_names_of_cells_matter(seed):
    inputs = cells(seed)
    order = np.random.default_rng(seed).permutation(len(inputs["X_emb"]))
    renamed = {"A": "z", "B": "y", "C": "x", "rare": "w", "single": "v", "x": "2", "y": "1"}
    others = {"X_emb": inputs["X_emb"][order]}
    for name in ("label", "batch"):
        others[name] = np.array([renamed[value] for value in inputs[name][order]])
    first, second = found_in(inputs), found_in(others)
    for name in OF_NEIGHBOURS:
        # Diffusion maps of labels are computed in the order of random ranks, which depend on the content.
        np.testing.assert_allclose(second[name].values, first[name].values[order], atol=1e-9, err_msg=name)


@pytest.mark.parametrize("seed", range(2))
def test_batches_at_random_within_types_are_mixed_whatever_the_shares_of_types_and_batches(seed):
    rng = np.random.default_rng(seed)
    n_obs = 1000
    inputs = cells(seed, n_obs=n_obs, shift=0.0)
    for shuffled in (inputs["X_emb"], rng.normal(size=(n_obs, 4))):
        found = by_group(found_in({**inputs, "X_emb": shuffled})["batch_mixing"], inputs["label"])
        assert found.keys() == {"A", "B", "C", "rare"}, "a type in one batch has no value"
        assert all(0.85 < found[name] < 1.15 for name in "ABC"), found
        assert 0.6 < found["rare"] < 1.4


def test_a_type_whose_batches_are_apart_is_the_worst_one():
    inputs = cells(0, shift=0.0)
    apart = (inputs["label"] == "B") & (inputs["batch"] == "x")
    inputs["X_emb"][apart] += [0, 0, 60.0, 0]
    found = found_in(inputs)
    for name in ("batch_mixing", "kbet_per_label"):
        values = by_group(found[name], inputs["label"])
        assert min(values, key=values.__getitem__) == "B"
        assert values["B"] < 0.2 < 0.8 < values["A"]


def test_a_type_among_others_is_the_worst_one_though_its_surroundings_are_pure():
    inputs = cells(0, n_obs=1500)
    a_few = inputs["label"] == "rare"
    rng = np.random.default_rng(0)
    inputs["X_emb"][a_few] = inputs["X_emb"][rng.choice(np.flatnonzero(inputs["label"] == "A"), a_few.sum())]
    inputs["X_emb"][a_few] += rng.normal(size=(a_few.sum(), 4))
    found = found_in(inputs)
    own = by_group(found["label_purity"], inputs["label"])
    assert min(own, key=own.__getitem__) == "rare"
    assert own["rare"] < 0.3
    assert by_group(found["clisi"], inputs["label"])["rare"] > 0.8


def test_a_rare_type_on_its_own_is_as_much_together_as_a_common_one():
    inputs = cells(0)
    inputs["X_emb"][:, 0] += 100 * np.unique(inputs["label"], return_inverse=True)[1]
    own = by_group(found_in(inputs)["label_purity"], inputs["label"])
    assert own == pytest.approx(dict.fromkeys(own, 1.0))


@pytest.fixture(scope="module")
def graded():
    """Two types in two batches, a gradient in each; the embedding keeps that of the first type alone."""
    rng = np.random.default_rng(0)
    label, batch = np.repeat(["A", "B"], 160), np.tile(["x", "y"], 160)
    state = rng.uniform(-1, 1, 320)
    X = np.exp(np.outer(state, rng.normal(size=60))) + 8.0 * np.outer(label == "B", rng.uniform(size=60))
    structure = structure_reference(
        X, batch, label, highly_variable=np.ones(60, bool), depth=rng.normal(size=320)
    )
    X_emb = np.stack([10.0 * (label == "B"), np.where(label == "A", state, rng.normal(size=320))], axis=1)
    return {"X_emb": X_emb, "label": label, "batch": batch, "structure": structure}


def test_aggregates_of_structure_over_cells_are_the_metrics(graded):
    names = ["state_kept", "neighbours_kept"]
    found = evaluate(names, graded, per_cell=names)
    state, neighbours = (found.per_cell[name] for name in names)
    assert found["state_kept"] == pytest.approx(mean_of_types(state, graded), abs=1e-12)
    assert found["neighbours_kept"] == pytest.approx(np.nanmean(neighbours.values), abs=1e-12)
    alone = neighbours_kept_per_cell(graded["X_emb"], graded["structure"])
    assert np.nanmean(alone.values) == pytest.approx(found["neighbours_kept"], abs=1e-12)


def test_a_type_that_is_flattened_is_the_worst_one(graded):
    found = evaluate([], graded, per_cell=["state_kept", "neighbours_kept"]).per_cell
    for name, least in (("state_kept", 0.8), ("neighbours_kept", 0.3)):
        values = by_group(found[name], graded["label"])
        assert values["B"] < 0.15 < least < values["A"]


def test_mixing_of_a_group_is_a_quotient_of_sums_over_its_cells():
    inputs = cells(1)
    found = found_in(inputs)["batch_mixing"]
    for groups in ("label", "batch"):
        for name, value in by_group(found, inputs[groups]).items():
            own = (inputs[groups] == name) & (found.weights > 0)
            expected = np.sum((found.values * found.weights)[own]) / np.sum(found.weights[own])
            assert value == pytest.approx(expected)


def test_what_is_not_possible_has_a_reason():
    inputs = cells(0)
    one_batch = found_in({**inputs, "batch": np.full(len(inputs["batch"]), "x")})
    assert {name for name in OF_NEIGHBOURS if isinstance(one_batch[name], UndefinedError)} == {
        "batch_mixing", "ilisi", "kbet", "kbet_per_label",
    }  # fmt: skip
    one_label = found_in({**inputs, "label": np.full(len(inputs["batch"]), "A")})
    assert {name for name in OF_NEIGHBOURS if isinstance(one_label[name], UndefinedError)} == {
        "label_purity",
        "clisi",
    }
    few = found_in({name: array[:60] for name, array in inputs.items()})
    assert isinstance(few["batch_mixing"], UndefinedError)
    assert "90" in str(few["batch_mixing"])
    apart = found_in({**inputs, "batch": np.where(np.isin(inputs["label"], ["A", "B"]), "x", "y")})
    assert str(apart["batch_mixing"]) == "no label has 10 cells in each of two batches"
    bad = inputs["X_emb"].copy()
    bad[0, 0] = np.nan
    for found in found_in({**inputs, "X_emb": bad}).values():
        assert isinstance(found, UndefinedError)
        assert found.by_output
    with pytest.raises(UnknownNameError, match="nothing"):
        found_in(inputs, ["nothing"])


def test_the_only_cell_of_a_type_has_no_neighbours_of_it():
    inputs = cells(0)
    inputs["label"][0] = "alone"
    values = found_in(inputs)["label_purity"].values
    assert np.isnan(values[0])
    assert np.isfinite(values[1:]).all()


def test_cells_outside_the_sample_have_no_value(monkeypatch):
    # Exact neighbours stand in for the approximate search, whose library takes long to load.
    monkeypatch.setattr(
        "cellular_bench.metrics.numerics.shared_distances.approximate_neighbors",
        lambda X, k, ranks, *, seed, n_jobs: (nearest_neighbors(X, k), 1.0),
    )
    inputs = cells(0)
    profile = replace(FULL, name="standard", exact_cells=0, graph_cells=200)
    found = evaluate(["kbet_per_label"], inputs, profile=profile, per_cell=["kbet_per_label", "ilisi"])
    tests = found.per_cell["kbet_per_label"]
    assert len(tests.values) == len(inputs["label"])
    assert 100 < np.isfinite(tests.values).sum() <= 200
    assert mean_of_types(tests, inputs) == pytest.approx(found["kbet_per_label"], abs=1e-12)


def test_values_of_a_graph_are_those_of_its_known_cells():
    inputs = cells(0)
    near = nearest_neighbors(inputs["X_emb"], 91)
    part = {"neighbors": near, "label": inputs["label"], "batch": inputs["batch"]}
    for name, found in found_in(part).items():
        np.testing.assert_allclose(found.values, found_in(inputs, [name])[name].values, err_msg=name)


def test_structure_is_undefined_without_its_reference():
    for found in found_in(cells(0), ["state_kept", "neighbours_kept"]).values():
        assert isinstance(found, UndefinedError)
        assert "needs 'structure'" in str(found)


def test_every_quantity_says_what_it_is():
    for name, quantity in CELL_QUANTITIES.items():
        assert quantity.title, name
        assert quantity.definition, name
        assert quantity.function.__doc__, name
