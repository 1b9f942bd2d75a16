"""The data of a leak canary: honest methods cannot know its labels, and every other way leads to them."""

from dataclasses import replace

import numpy as np
import pytest

from cellular_bench.benchmark import registry
from cellular_bench.benchmark.plan.canary import LEAST_PER_LABEL, MOST_SCORED, MOST_TRAINING, Board, draw
from cellular_bench.benchmark.plan.planner import plan
from cellular_bench.benchmark.schema.suite import Suite
from cellular_bench.datasets import catalog
from cellular_bench.datasets.contract import digest
from cellular_bench.datasets.splits import kfold


@pytest.fixture(scope="module")
def dataset():
    return catalog.load(catalog.specs()["baron"])


def drawn(dataset, split=None):
    split = split or kfold(dataset.adata.obs["label"], n_splits=3)[0]
    return draw(Board(task="annotation", dataset=dataset, split=split))


def source_of(canary, dataset):
    """Position in the data of the expression of each cell of a canary."""
    known = {row.tobytes(): i for i, row in enumerate(dataset.adata.X.toarray())}
    return np.array([known[row.tobytes()] for row in canary.dataset.adata.X.toarray()])


def test_names_labels_and_order_stay_while_expression_and_batch_move_among_scored_cells(dataset):
    canary = drawn(dataset)
    adata, train, scored = canary.dataset.adata, canary.split.train_obs, canary.split.test_obs
    own = dataset.adata.obs_names.get_indexer(adata.obs_names)
    assert (np.diff(own) > 0).all(), "in the order of the file"
    assert (adata.obs["label"].astype(str) == dataset.adata.obs["label"].iloc[own].astype(str)).all()
    source = source_of(canary, dataset)
    assert (source[train] == own[train]).all()
    assert sorted(source[scored]) == sorted(own[scored])
    assert (source[scored] == own[scored]).mean() < 0.05
    assert (
        adata.obs["batch"].astype(str).to_numpy() == dataset.adata.obs["batch"].astype(str).iloc[source]
    ).all()
    counts = dataset.adata.layers["counts"][source]
    assert (adata.layers["counts"] != counts).nnz == 0
    assert canary.dataset.digest == digest(adata)


def test_cells_are_few_from_their_side_of_the_split_and_every_label_keeps_some(dataset):
    split = kfold(dataset.adata.obs["label"], n_splits=3)[0]
    canary = drawn(dataset, split)
    label = canary.dataset.adata.obs["label"].astype(str).to_numpy()
    own = dataset.adata.obs_names.get_indexer(canary.dataset.adata.obs_names)
    for cells, whole, most in (
        (canary.split.train_obs, split.train_obs, MOST_TRAINING),
        (canary.split.test_obs, split.test_obs, MOST_SCORED),
    ):
        assert len(cells) == most
        assert set(own[cells]) <= set(whole.tolist())
        there = dataset.adata.obs["label"].iloc[whole].astype(str).value_counts()
        for name, n in there.items():
            assert (label[cells] == name).sum() >= min(n, LEAST_PER_LABEL), name


def test_the_order_of_the_cells_changes_neither_the_draw_nor_the_permutation(dataset):
    order = np.random.default_rng(0).permutation(dataset.adata.n_obs)
    split = kfold(dataset.adata.obs["label"], n_splits=3)[0]
    back = np.argsort(order)
    moved = replace(
        split,
        digest="other",
        train_obs=np.sort(back[split.train_obs]),
        test_obs=np.sort(back[split.test_obs]),
    )
    one, other = (
        drawn(dataset, split).dataset.adata,
        drawn(replace(dataset, adata=dataset.adata[order].copy(), digest="other"), moved).dataset.adata,
    )
    assert set(one.obs_names) == set(other.obs_names)
    other = other[one.obs_names]
    assert (one.X != other.X).nnz == 0
    assert one.obs.astype(str).equals(other.obs.astype(str))


def planned(dataset, **changes):
    block = {
        "task": "annotation",
        "datasets": ["baron"],
        "methods": ["knn", "majority_label", "cellular", {"method_id": "knn", "params": {"n_neighbors": 3}}],
        "splits": [{"kind": "kfold", "n_splits": 3}],
        "seeds": [4, 5],
    }
    suite = Suite.model_validate(
        {"suite_id": "s", "title": "S", "blocks": [block | changes.pop("block", {})]} | changes
    )
    return plan(suite, datasets={"baron": dataset}, methods=registry.methods())


def test_each_honest_method_of_a_board_is_tested_once_and_a_control_that_sees_the_labels(dataset):
    made = planned(dataset)
    ids = [(run.method.method_id, run.method.params.get("n_neighbors"), run.seed) for run in made.canaries]
    assert ids == [("knn", 15, 4), ("cellular", None, 4), ("knn", 3, 4), ("true_labels", None, 4)]
    assert len(made.runs) == 4 * 3 * 2 and not any(run.is_canary for run in made.runs)
    assert all(run.canary_of.dataset_digest == dataset.digest for run in made.canaries)
    (network,) = [run for run in made.canaries if run.method.method_id == "cellular"]
    short = registry.methods()["cellular"].spec.check_params
    assert network.canary_of.params == short
    assert {name: network.method.params[name] for name in short} == short
    assert planned(dataset).canaries == made.canaries


@pytest.mark.parametrize(
    "changes",
    [
        {"leak_canary": False},
        {"block": {"splits": ["all"]}},
        {"block": {"methods": ["majority_label", "true_labels"]}},
        {"block": {"task": "integration", "methods": ["pca"]}},
    ],
    ids=["switched off", "all cells", "controls alone", "no labels are predicted"],
)
def test_there_is_none_where_nothing_is_hidden_or_asked(dataset, changes):
    made = planned(dataset, **changes)
    assert made.runs and not made.canaries and not made.canary_data


def test_each_task_data_set_and_scheme_has_its_own(dataset):
    schemes = [
        {"kind": "kfold", "n_splits": 2},
        {"kind": "unseen_label", "labels": ["beta"]},
        "leave_one_batch_out",
    ]
    made = planned(dataset, block={"splits": schemes})
    assert len({run.split.digest for run in made.canaries}) == 3
    assert len(made.canary_data) == 3
    stress = {"kind": "label_noise", "levels": [0.0, 0.5]}
    stressed = planned(dataset, block={"splits": [{"kind": "kfold", "n_splits": 2, "stress": stress}]})
    assert len(stressed.canary_data) == 1
