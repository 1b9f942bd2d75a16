"""What is kept of a condition, on donors under two or three conditions whose right answer is known."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import condition_kept, evaluate
from cellular_bench.metrics.structure.conditions import (
    LEAST_CELLS,
    condition_figures,
    is_determined,
    without_determined,
)

RESPONSES = (0.0, 2.5, 5.0)
N = 24


@pytest.fixture(scope="module")
def cells():
    """Three types, three donors, two conditions to which the types respond not at all, somewhat and much."""
    rng = np.random.default_rng(0)
    kind, donor, stim = (each.ravel() for each in np.indices((3, 3, 2)).repeat(N, axis=-1))
    X = rng.normal(size=(len(kind), 6))
    X[:, 0] += 30.0 * kind
    X[:, 1] += np.array(RESPONSES)[kind] * stim
    X[:, 2] += 0.5 * donor
    return {
        "X_pre": X,
        "label": np.array(["nk", "b", "mono"])[kind],
        "donor": np.array(["d1", "d2", "d3"])[donor],
        "conditions": {"stim": np.array(["ctrl", "stim"])[stim]},
    }


def kept(cells, X, **changes):
    return condition_kept(**{**cells, "X_emb": X, **changes})


def shuffled_within(X, groups, seed):
    rng, found = np.random.default_rng(seed), X.copy()
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        found[rows] = X[rng.permutation(rows)]
    return found


def islands(cells, seed):
    _, code = np.unique(cells["label"], return_inverse=True)
    return 100.0 * np.eye(code.max() + 1)[code] + np.random.default_rng(seed).normal(size=(len(code), 3))


def test_the_embedding_of_before_keeps_all_and_no_information_on_cells_keeps_nothing(cells):
    assert kept(cells, cells["X_pre"]) == 1.0
    nothing = [shuffled_within(cells["X_pre"], cells["label"], seed) for seed in range(5)]
    nothing += [islands(cells, seed) for seed in range(5)]
    values = [kept(cells, X) for X in nothing]
    assert np.mean(values) < 0.06
    assert max(values) < 0.2
    one_point_per_type = islands(cells, 0).round(-2)
    assert kept(cells, one_point_per_type) == 0.0, "all cells are equally near: chance, whatever their order"


def test_more_of_the_response_is_never_scored_lower_and_a_leaked_axis_no_higher_than_before(cells):
    is_stim = cells["conditions"]["stim"] == "stim"
    weights = (0.0, 0.5, 1.0)
    response = np.select([cells["label"] == name for name in ("nk", "b", "mono")], RESPONSES)
    noise = islands(cells, 0)
    values = [kept(cells, np.column_stack([noise, 3.0 * weight * response * is_stim])) for weight in weights]
    assert values == sorted(values)
    assert values[0] < 0.2 < 0.8 < values[-1]
    assert kept(cells, np.column_stack([noise, 1e3 * is_stim])) == 1.0


def test_order_names_rotation_and_scale_make_no_difference(cells):
    X = cells["X_pre"] + np.random.default_rng(1).normal(size=cells["X_pre"].shape)
    X[:, 1] *= 0.3
    value = kept(cells, X)
    assert 0.05 < value < 0.95, "a case in which something can change"
    order = np.random.default_rng(2).permutation(len(X))
    stim = cells["conditions"]["stim"]
    moved = {name: cells[name][order] for name in ("X_pre", "label", "donor")}
    assert kept(moved, X[order], conditions={"stim": stim[order]}) == pytest.approx(value, abs=1e-9)
    renamed = {
        "label": np.select([cells["label"] == name for name in ("b", "mono", "nk")], ["z", "a", "m"], ""),
        "donor": np.select([cells["donor"] == name for name in ("d1", "d2", "d3")], ["z", "a", "m"], ""),
        "conditions": {"other": np.where(stim == "stim", "a", "b")},
    }
    assert kept(cells, X, **renamed) == pytest.approx(value, abs=1e-9)
    rotation = ortho_group.rvs(6, random_state=3)
    assert kept(cells, X @ rotation + 7.0) == pytest.approx(value, abs=1e-6)
    for scale in (1e-12, 3.0, 1e12):
        assert kept(cells, scale * X) == pytest.approx(value, abs=1e-6)


def test_duplicated_cells_at_the_last_place_share_it_in_any_order(cells):
    """Coordinates on a grid: nearly every cell has several others at the distance of its last neighbour."""
    X = np.zeros((len(cells["label"]), 1))
    X[cells["conditions"]["stim"] == "stim"] = 1.0
    X[:, 0] = (X[:, 0] + np.random.default_rng(0).integers(0, 3, len(X))) // 2
    value = kept(cells, X)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(X))
        moved = {name: cells[name][order] for name in ("X_pre", "label", "donor")}
        conditions = {"stim": cells["conditions"]["stim"][order]}
        assert kept(moved, X[order], conditions=conditions) == pytest.approx(value, abs=1e-12)


def test_neighbours_are_those_of_a_plain_search(cells):
    """Against sorted distances of every cell, one donor and type at a time."""
    from scipy.spatial.distance import cdist
    from sklearn.metrics import roc_auc_score

    X, stim = cells["X_pre"], cells["conditions"]["stim"] == "stim"
    for one in condition_figures(X, X, cells["label"], cells["donor"], stim):
        mine = (cells["label"] == one.label) & (cells["donor"] == one.donor)
        others = (cells["label"] == one.label) & (cells["donor"] != one.donor)
        near = np.argsort(cdist(X[mine], X[others]), axis=1)[:, :15]
        assert one.auc == pytest.approx(roc_auc_score(stim[mine], stim[others][near].mean(axis=1)))
        assert one.n_obs == mine.sum() == 2 * N


def test_types_without_a_response_before_do_not_count(cells):
    figures = condition_figures(cells["X_pre"], cells["X_pre"], cells["label"], cells["donor"],
                                cells["conditions"]["stim"])  # fmt: skip
    before = {one.label: one.auc_before for one in figures}
    assert before["mono"] > 0.9
    X = cells["X_pre"].copy()
    responds = cells["label"] != "nk"
    X[~responds] = islands(cells, 0)[~responds] @ np.ones((3, 6))
    assert kept(cells, X) > 0.95, "what happens to a type that did not respond is another matter"


def test_three_conditions_are_told_one_by_one_and_averaged():
    rng = np.random.default_rng(0)
    donor, dose = (each.ravel() for each in np.indices((3, 3)).repeat(30, axis=-1))
    X_pre = rng.normal(size=(270, 3))
    X_pre[:, 0] += 8.0 * dose
    label, names = np.full(270, "t"), np.array(["0", "low", "high"])[dose]
    # Two of three doses become one: the third is compared with them as before.
    X_emb = X_pre.copy()
    X_emb[:, 0] -= 8.0 * (dose == 2)
    figures = condition_figures(X_emb, X_pre, label, donor, names)
    assert {one.value for one in figures} == {"0", "low", "high"}
    of_value = {
        value: np.mean([one.auc for one in figures if one.value == value]) for value in ("0", "low", "high")
    }
    assert of_value["0"] == pytest.approx(1.0)
    assert of_value["low"] == pytest.approx(0.75, abs=0.1)
    value = condition_kept(X_emb, X_pre, label, donor, {"dose": names})
    assert value == pytest.approx(np.mean([2 * each - 1 for each in of_value.values()]), abs=0.01)


def test_columns_are_averaged_and_a_column_without_a_score_does_not_count(cells):
    X = np.column_stack([cells["X_pre"][:, 0], cells["X_pre"][:, 3:]])
    both = {**cells["conditions"], "again": cells["conditions"]["stim"]}
    lost = kept(cells, X)
    assert lost < 0.3
    assert kept(cells, X, conditions=both) == pytest.approx(lost)
    assert kept(cells, X, conditions={**cells["conditions"], "none": UndefinedError("why")}) == lost


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"donor": np.full(3 * 3 * 2 * N, "d")}, "there is only one donor ('d')"),
        ({"conditions": {"s": np.full(3 * 3 * 2 * N, "c")}}, "s: there is only one value of the condition"),
        ({"conditions": {"s": UndefinedError("each batch has one value")}}, "s: each batch has one value"),
        ({"conditions": {}}, "no condition is named"),
    ],
)
def test_without_a_comparison_there_is_no_score_but_a_reason(cells, changes, reason):
    with pytest.raises(UndefinedError) as caught:
        kept(cells, cells["X_pre"], **changes)
    assert reason in str(caught.value)
    assert not caught.value.by_output


@pytest.mark.parametrize("n", [LEAST_CELLS - 1, LEAST_CELLS])
def test_donors_take_part_from_ten_cells_of_either_condition(n):
    rng = np.random.default_rng(0)
    stim = np.tile(np.repeat(["no", "yes"], [30, n]), 2)
    donor, label = np.repeat(["a", "b"], 30 + n), np.full(2 * (30 + n), "t")
    X = rng.normal(size=(len(stim), 2)) + 6.0 * (stim == "yes")[:, None]
    if n < LEAST_CELLS:
        with pytest.raises(UndefinedError, match="no label has two donors with 10 cells of a condition"):
            condition_kept(X, X, label, donor, {"stim": stim})
    else:
        assert condition_kept(X, X, label, donor, {"stim": stim}) == 1.0


def test_a_condition_that_does_not_show_before_has_no_score(cells):
    blind = islands(cells, 0)
    with pytest.raises(
        UndefinedError, match=r"do not show the condition in any label: the largest AUC is 0\.5"
    ):
        kept(cells, cells["X_pre"], X_pre=blind)


def test_bad_coordinates_are_the_fault_of_the_output_or_of_the_data(cells):
    broken = np.full_like(cells["X_pre"], np.nan)
    for X_emb, X_pre, by_output in ((broken, cells["X_pre"], True), (cells["X_pre"], broken, False)):
        with pytest.raises(UndefinedError, match="NaN or infinite") as caught:
            kept(cells, X_emb, X_pre=X_pre)
        assert caught.value.by_output is by_output


def test_batches_that_determine_a_condition_leave_it_without_a_score(cells):
    stim, donor = cells["conditions"]["stim"], cells["donor"]
    sample = np.char.add(donor, stim)
    assert [is_determined(stim, batch) for batch in (sample, stim, donor)] == [True, True, False]
    assert not is_determined(np.full(len(donor), "same"), donor), "there is nothing to lose"
    one_cell = sample.copy()
    one_cell[0] = "d2stim"
    assert not is_determined(stim, one_cell)
    reason = without_determined({"stim": stim}, sample)["stim"]
    found = evaluate(["condition_kept"], {**cells, "X_emb": cells["X_pre"], "conditions": {"stim": reason}})
    assert "each batch has one value of 'stim' only" in str(found["condition_kept"])
    assert not found["condition_kept"].by_output
