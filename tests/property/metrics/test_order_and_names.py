"""Laws of every metric: the order of cells, names of labels and batches, and tiny noise mean nothing.

They hold for embeddings with few distinct points, too, where neighbours are drawn among tied cells.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import METRICS, evaluate, nearest_neighbors
from cellular_bench.metrics.annotation.obo import parse_obo
from cellular_bench.metrics.numerics.approximate import approximate_neighbors
from cellular_bench.metrics.numerics.ranks import random_ranks, row_content
from cellular_bench.metrics.profiles import Profile

few = settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**32 - 1)
LABELS, BATCHES = np.array(["B", "NK", "T", "mast"]), np.array(["x", "y"])
#: How the embedding of a method may be degenerate: a share of the cells at one point, few distinct points, or
#: a grid with many equal distances between distinct points.
KINDS = ("continuous", "zeros", "states", "grid", "point")
ONTOLOGY = parse_obo(
    "\n\n[Term]\nid: CL:0\nname: cell\n"
    + "".join(
        f"\n[Term]\nid: CL:{i}\nname: {name}\nis_a: CL:0\n"
        for i, name in enumerate(("B", "NK", "T", "mast"), start=1)
    )
)
PER_CELL = (
    "X_emb", "X_emb_again", "X_pre", "X_pre_all", "stratum", "label", "batch", "cell_cycle", "expression",
    "corrected", "label_pred", "rejected", "label_proba", "novelty", "is_novel",
)  # fmt: skip


def _embedding(kind, rng, label, n_obs):
    X = rng.normal(size=(n_obs, 4)) + 2.0 * (label == "B")[:, None]
    if kind == "zeros":
        X[rng.random(n_obs) < 0.4] = 0
    elif kind == "states":
        X = np.eye(3)[rng.integers(0, 3, n_obs)] * 0.1
    elif kind == "grid":
        X = rng.integers(0, 3, (n_obs, 4)) / 3
    elif kind == "point":
        X = np.zeros((n_obs, 4))
        X[0] = 1
    return X


def cells(kind, seed, n_obs=240):
    """Every input of every metric, of cells of four labels and two batches, with ties in all of them."""
    rng = np.random.default_rng(seed)
    label = rng.choice(LABELS[:3], n_obs, p=[0.5, 0.25, 0.25])
    batch = rng.choice(BATCHES, n_obs)
    batch[label == "T"] = "x"
    label[:2] = "mast"  # less than 1 % of the cells
    shift = 2 * (batch == "y")[:, None]
    expression = np.log1p(rng.poisson(rng.gamma(1, 2, 30) + (label == "B")[:, None] * np.arange(30) / 6))
    proba = rng.integers(1, 4, (n_obs, 4)).astype(float)
    X_emb = _embedding(kind, rng, label, n_obs)
    return {
        "X_emb": X_emb,
        "X_emb_again": np.where(rng.random((n_obs, 1)) < 0.5, X_emb, X_emb[rng.permutation(n_obs)]),
        "stratum": np.full(n_obs, "all"),
        "X_pre": rng.normal(size=(n_obs, 3)) + shift,
        "X_pre_all": rng.normal(size=(n_obs, 3)) + shift,
        "label": label,
        "batch": batch,
        "cell_cycle": rng.normal(size=(n_obs, 2)),
        "cell_cycle_before": {"x": 0.3, "y": 0.2},
        "expression": sparse.csr_matrix(expression),
        "corrected": expression + rng.normal(scale=0.2, size=expression.shape),
        "label_pred": rng.choice(LABELS, n_obs),
        "rejected": rng.random(n_obs) < 0.2,
        "label_proba": proba / proba.sum(axis=1, keepdims=True),
        "labels": LABELS,
        "novelty": rng.integers(0, 4, n_obs) / 4,
        "is_novel": label == "T",
        "ontology": ONTOLOGY,
    }


def shuffled(inputs, seed):
    order = np.random.default_rng(seed).permutation(len(inputs["label"]))
    return inputs | {name: inputs[name][order] for name in PER_CELL}


def renamed(inputs):
    labels = dict(zip(LABELS, ["z", "y", "a", "b"], strict=True))
    batches = {"x": "second", "y": "first"}
    columns = [2, 3, 1, 0]  # in the order of the new names
    return inputs | {
        "label": np.array([labels[name] for name in inputs["label"]]),
        "label_pred": np.array([labels[name] for name in inputs["label_pred"]]),
        "batch": np.array([batches[name] for name in inputs["batch"]]),
        "cell_cycle_before": {batches[name]: share for name, share in inputs["cell_cycle_before"].items()},
        "label_proba": inputs["label_proba"][:, columns],
        "labels": np.array([labels[name] for name in LABELS])[columns],
    }


EMBEDDED = [name for name in METRICS if METRICS[name].aspect in ("bio_conservation", "batch_correction")]
#: The laws of structure, which needs a reference, are in tests/metrics/structure.
WITHOUT_REFERENCE = [name for name in METRICS if METRICS[name].aspect != "structure"]
#: An ontology knows names; of other names it knows none.
NAMELESS = [name for name in WITHOUT_REFERENCE if not name.startswith("ontology")]


def _same(ids, before, after):
    expected, found = evaluate(ids, before), evaluate(ids, after)
    for metric_id in ids:
        value = expected[metric_id]
        if isinstance(value, UndefinedError):
            assert "metric failed" not in str(value), (metric_id, value)
            assert isinstance(found[metric_id], UndefinedError), (metric_id, found[metric_id])
        else:
            assert found[metric_id] == pytest.approx(value, abs=1e-9), metric_id


@pytest.mark.parametrize("kind", KINDS)
@few
@given(seeds)
def test_the_order_of_cells_means_nothing(kind, seed):
    inputs = cells(kind, seed)
    _same(WITHOUT_REFERENCE, inputs, shuffled(inputs, seed))


@pytest.mark.parametrize("kind", KINDS)
@few
@given(seeds)
def test_names_of_labels_and_batches_mean_nothing(kind, seed):
    inputs = cells(kind, seed)
    _same(NAMELESS, inputs, renamed(inputs))


def test_every_metric_has_a_value_in_these_laws():
    """Else they would hold for nothing."""
    found = evaluate(WITHOUT_REFERENCE, cells("continuous", 0))
    without = {name: str(value) for name, value in found.items() if isinstance(value, UndefinedError)}
    assert without == {}


@pytest.mark.parametrize("kind", KINDS)
def test_order_and_names_mean_nothing_to_approximations(kind):
    inputs = cells(kind, 5)
    profile = Profile(name="fast", exact_cells=200, sample_cells=100, graph_cells=150)
    expected = evaluate(EMBEDDED, inputs, profile=profile)
    assert {one.quantity for one in expected.shortcuts} >= {"neighbors", "silhouettes", "cells"}
    for changed in (shuffled(inputs, 1), renamed(inputs)):
        found = evaluate(EMBEDDED, changed, profile=profile)
        for metric_id, value in expected.items():
            if isinstance(value, float):
                assert found[metric_id] == pytest.approx(value, abs=1e-9), metric_id
        assert found.standard_errors == pytest.approx(expected.standard_errors, abs=1e-9)


@pytest.mark.parametrize("kind", ["zeros", "states", "grid"])
def test_neighbours_among_ties_say_nothing_about_labels(kind):
    """Labels that are drawn after the embedding: neighbours have the label of a cell by chance alone."""
    rng = np.random.default_rng(2)
    n_obs = 1500
    X = _embedding(kind, rng, np.full(n_obs, "none"), n_obs)
    shares = {"sorted": [], "random": []}
    for seed in range(5):
        label = np.random.default_rng(seed).integers(0, 4, n_obs)
        for name, order in (("sorted", np.argsort(label, kind="stable")), ("random", np.arange(n_obs))):
            near = nearest_neighbors(X[order], 31).indices[:, 1:]
            shares[name].append((label[order][near] == label[order][:, None]).mean())
    # 1500 x 30 neighbours: the standard error of a share of 0.25 is about 0.002, more if they overlap.
    assert np.mean(shares["sorted"]) == pytest.approx(0.25, abs=0.012)
    assert np.mean(shares["random"]) == pytest.approx(0.25, abs=0.012)


@pytest.mark.parametrize("find", ["exact", "approximate"])
def test_neighbours_of_a_heap_are_drawn_evenly_and_anew_for_each_cell(find):
    n_obs, k = 600, 21
    X = np.zeros((n_obs, 2))
    X[:100] = np.random.default_rng(0).normal(size=(100, 2)) + 50
    if find == "exact":
        near = nearest_neighbors(X, k)
    else:
        near = approximate_neighbors(X, k, random_ranks(row_content(X)), seed=0)[0]
    heap = near.indices[100:, 1:]
    assert (near.distances[100:] == 0).all()
    assert (heap >= 100).all()
    assert all(len(set(row)) == k - 1 and cell not in row for cell, row in enumerate(heap, start=100))
    # How often each of 500 cells is drawn: 20 times on average, as binomial numbers are.
    drawn = np.bincount(heap.ravel() - 100, minlength=500)
    assert drawn.std() == pytest.approx(np.sqrt(20 * (1 - 20 / 499)), rel=0.15)
    assert near.tied().mean() == pytest.approx(5 / 6)


#: What a method scores that knows one of four states, which have nothing to do with labels or batches, by
#: exact neighbours of which ties are drawn at random.
WORTH = {"clisi": (0.035, 0.03), "ilisi": (0.975, 0.03), "kbet": (0.943, 0.03), "leiden_nmi": (0.001, 0.01)}


@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_states_that_know_nothing_score_as_chance(noise):
    rng = np.random.default_rng(0)
    n_obs = 2000
    label, batch, state = rng.integers(0, 4, n_obs), rng.integers(0, 3, n_obs), rng.integers(0, 4, n_obs)
    X = np.eye(4)[state] + noise * np.random.default_rng(1).normal(size=(n_obs, 4))
    found = evaluate(list(WORTH), {"X_emb": X, "label": label, "batch": batch})
    for metric_id, (value, tolerance) in WORTH.items():
        # Where all distances are equal, LISI has no kernel of 30 cells but counts all 90 alike.
        lisi = 0.2 if noise and metric_id.endswith("lisi") else 0
        assert found[metric_id] == pytest.approx(value, abs=tolerance + lisi), metric_id
    ties = [one.figures for one in found.shortcuts if one.quantity == "ties"]
    assert ties == ([] if noise else [{"n_tied": n_obs, "n_obs": n_obs}])


#: Largest change by noise in the last digits: of any value; of values that rest on communities, because
#: others are found; and among ties, where links to neighbours drawn at random become links along the noise,
#: and LISI regains a kernel of 30 cells.
STEADY, COMMUNITIES, TIES = 1e-3, 0.15, 0.25


@pytest.mark.parametrize("kind", KINDS)
@few
@given(seeds)
def test_tiny_noise_means_little(kind, seed):
    inputs = cells(kind, seed)
    noise = 1e-9 * np.random.default_rng(seed).normal(size=inputs["X_emb"].shape)
    before, after = (
        evaluate(EMBEDDED, inputs),
        evaluate(EMBEDDED, inputs | {"X_emb": inputs["X_emb"] + noise}),
    )
    for metric_id in EMBEDDED:
        if isinstance(before[metric_id], UndefinedError):
            assert isinstance(after[metric_id], UndefinedError), metric_id
            continue
        tolerance = COMMUNITIES if "communit" in METRICS[metric_id].definition else STEADY
        if kind != "continuous":
            # Whether a label hangs together depends on each link; and in pieces it has a kBET of 0, by rule.
            tolerance = {"kbet_per_label": 1.0, "graph_connectivity": 0.5}.get(metric_id, TIES)
        assert after[metric_id] == pytest.approx(before[metric_id], abs=tolerance), metric_id
