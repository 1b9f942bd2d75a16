"""Structure metrics: what they see, what leaves them as they are, and what they cannot be computed from."""

import doctest
import importlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellular_bench import metrics
from cellular_bench.core.errors import UndefinedError
from cellular_bench.metrics import (
    METRICS,
    StructureReference,
    evaluate,
    neighbours_per_cell,
    state_per_cell,
    structure_reference,
)
from cellular_bench.metrics.structure.reference import (
    MOST_GROUP_CELLS,
    STRUCTURE_METRICS,
    batch_genes,
    within_share,
)

N_GENES, N_TYPES = 120, 7
FREE_OF_LABELS = ("neighbours_kept", "state_kept_clusters")


class Cells:
    """Simulated cells of seven types in two batches; each type has its gradient."""

    def __init__(self, n_per_group=50, seed=0):
        rng = np.random.default_rng(seed)
        self.label = np.tile(np.repeat(list("ABCDEFG"), n_per_group), 2)
        self.batch = np.repeat(["one", "two"], N_TYPES * n_per_group)
        codes = np.unique(self.label, return_inverse=True)[1]
        self.state = rng.uniform(-1, 1, len(codes))
        self.mean = rng.normal(1, 0.7, (N_TYPES, N_GENES))[codes]
        self.mean += self.state[:, None] * rng.normal(0, 0.5, (N_TYPES, N_GENES))[codes]
        effect = rng.normal(0, 0.3, (2, N_GENES))[(self.batch == "two").astype(int)]
        self.counts = rng.poisson(np.exp(self.mean + effect))
        self.X = np.log1p(1e4 * self.counts / self.counts.sum(axis=1, keepdims=True)).astype(np.float32)
        self.depth = np.log(self.counts.sum(axis=1))

    def reference(self, order=slice(None), *, label=None, batch=None, **options):
        label = self.label if label is None else label
        return structure_reference(
            self.X[order],
            (self.batch if batch is None else batch)[order],
            label[order],
            highly_variable=np.ones(N_GENES, dtype=bool),
            depth=self.depth[order],
            **options,
        )


@pytest.fixture(scope="module")
def cells():
    return Cells()


@pytest.fixture(scope="module")
def reference(cells):
    return cells.reference()


def values(X_emb, reference, metric_ids=STRUCTURE_METRICS):
    found = evaluate(metric_ids, {"X_emb": X_emb, "structure": reference})
    assert all(isinstance(value, float) for value in found.values()), found
    return dict(found)


def islands(label, jitter, seed=0):
    codes = np.unique(label, return_inverse=True)[1]
    noise = np.random.default_rng(seed).normal(size=(len(label), codes.max() + 1))
    return np.eye(codes.max() + 1)[codes] + jitter * noise


def shuffled_within(X_emb, label, seed=0):
    rng, order = np.random.default_rng(seed), np.arange(len(label))
    for name in np.unique(label):
        order[label == name] = rng.permutation(order[label == name])
    return X_emb[order]


def test_expression_itself_keeps_everything_and_noise_keeps_nothing(cells, reference):
    kept = values(cells.X, reference)
    assert min(kept["type_geometry"], kept["state_kept"], kept["state_kept_clusters"]) > 0.75
    assert kept["spread_kept"] == 1.0
    noise = values(np.random.default_rng(0).normal(size=(len(cells.X), 20)), reference)
    for name in ("type_geometry", "state_kept", "neighbours_kept", "state_kept_clusters"):
        assert abs(noise[name]) < 0.1, name


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_order_and_names_of_cells_labels_and_batches_do_not_matter(cells, reference, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(cells.X))
    label = np.array([f"{name} {rng.integers(100)}" for name in rng.permutation(list("ABCDEFG"))])
    renamed = label[np.unique(cells.label, return_inverse=True)[1]]
    batch = np.where(cells.batch == "one", *rng.permutation(["x", "y"]))
    again = cells.reference(order, label=renamed, batch=batch)
    # Clusters begin with draws among the cells, and chance from permutations of them.
    ids = [name for name in STRUCTURE_METRICS if name not in ("state_kept_clusters", "type_geometry")]
    X_emb = cells.X[:, :20]
    expected, found = values(X_emb, reference, ids), values(X_emb[order], again, ids)
    assert found == pytest.approx(expected, abs=1e-5)
    for per_cell in (state_per_cell, neighbours_per_cell):
        np.testing.assert_allclose(
            per_cell(X_emb[order], again), per_cell(X_emb, reference)[order], atol=1e-4, equal_nan=True
        )


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_rotation_shift_and_scale_do_not_matter(cells, reference, seed, scale):
    rng = np.random.default_rng(seed)
    X = cells.X[:, :12].astype(float)
    rotation = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    moved = scale * (X @ rotation + rng.normal(size=12))
    expected = values(X, reference)
    trimmed = {"scgraph", "type_geometry"}  # the trimmed mean is one of dimensions
    for name, value in values(moved, reference).items():
        assert value == pytest.approx(expected[name], abs=0.1 if name in trimmed else 1e-6), name
    for name, value in values(scale * X, reference).items():
        assert value == pytest.approx(expected[name], abs=1e-6), name


def test_cells_at_one_place_are_drawn_whatever_their_order(cells, reference):
    ids = ("state_kept", "spread_kept", "neighbours_kept")
    one_place = islands(cells.label, 0.0)
    order = np.random.default_rng(1).permutation(len(cells.X))
    found = values(one_place[order], cells.reference(order), ids)
    # Which cells are drawn depends on ranks: nothing is kept, whoever they are.
    for kept in (found, values(one_place, reference, ids)):
        assert abs(kept["state_kept"]) < 0.1
        assert kept["spread_kept"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_types_without_inner_structure_keep_no_state(cells, reference, seed):
    flat = values(islands(cells.label, 0.01, seed), reference)
    assert abs(flat["state_kept"]) < 0.1
    assert flat["spread_kept"] < 0.02
    shuffled = values(shuffled_within(cells.X, cells.label, seed), reference)
    assert abs(shuffled["state_kept"]) < 0.1
    assert shuffled["spread_kept"] > 0.9


@pytest.mark.parametrize("factor", [0.3, 0.1, 0.01])
def test_only_spread_sees_types_that_collapse_by_a_factor(cells, reference, factor):
    X = cells.X.astype(float)
    groups = np.char.add(cells.batch, cells.label)
    centres = np.stack([X[groups == name].mean(axis=0) for name in groups])
    before, after = values(X, reference), values(centres + factor * (X - centres), reference)
    assert after["state_kept"] == pytest.approx(before["state_kept"], abs=1e-9)
    codes, parts = (
        np.unique(cells.label, return_inverse=True)[1],
        [cells.batch == "one", cells.batch == "two"],
    )
    share = within_share([X[part] for part in parts], [codes[part] for part in parts])
    left = factor**2 * share / (factor**2 * share + 1 - share)
    assert after["spread_kept"] == pytest.approx(left / reference.within_share)
    assert after["scgraph"] > 0.9


def test_a_state_alone_is_enough_and_half_of_it_counts_half(cells, reference):
    codes = np.unique(cells.label, return_inverse=True)[1]
    types = 10.0 * np.eye(N_TYPES)[codes]
    whole = values(np.column_stack([types, cells.state]), reference)["state_kept"]
    noise = np.random.default_rng(99).uniform(-1, 1, len(codes))
    half = np.where(codes < 3, cells.state, noise)
    assert whole > 0.75
    assert values(np.column_stack([types, half]), reference)["state_kept"] == pytest.approx(
        3 / 7 * whole, abs=0.1
    )


def test_without_labels_only_the_parts_that_need_none_are_there(cells, reference):
    free = structure_reference(
        cells.X, cells.batch, highly_variable=np.ones(N_GENES, bool), depth=cells.depth
    )
    found = evaluate(STRUCTURE_METRICS, {"X_emb": cells.X, "structure": free})
    for name, value in found.items():
        if name in FREE_OF_LABELS:
            assert value == values(cells.X, reference, [name])[name]
        else:
            assert "needs labels" in str(value)
            assert not value.by_output


def test_a_reference_is_kept_in_arrays(cells, reference, tmp_path):
    free = structure_reference(
        cells.X, cells.batch, highly_variable=np.ones(N_GENES, bool), depth=cells.depth
    )
    sample = cells.reference(most_cells=500)
    for one in (reference, free, sample, replace(reference, skipped_types=("x", "y"))):
        np.savez(tmp_path / "kept.npz", allow_pickle=False, **one.arrays())
        with np.load(tmp_path / "kept.npz") as arrays:
            again = StructureReference.from_arrays(dict(arrays))
        assert repr(again) == repr(one)
        ids = STRUCTURE_METRICS if one.label is not None else FREE_OF_LABELS
        assert values(cells.X, again, ids) == values(cells.X, one, ids)


def test_a_sample_of_the_cells_is_close_and_says_so(cells, reference):
    sample = cells.reference(most_cells=500)
    assert len(sample.cells) == len(sample.batch) <= 515
    found = evaluate(STRUCTURE_METRICS, {"X_emb": cells.X, "structure": sample})
    for name in ("type_geometry", "state_kept", "spread_kept", "scgraph"):
        assert found[name] == pytest.approx(values(cells.X, reference)[name], abs=0.1), name
    (shortcut,) = found.shortcuts
    assert shortcut.quantity == "cells"
    assert set(shortcut.metric_ids) == set(STRUCTURE_METRICS)
    assert shortcut.figures["n_sampled"] == len(sample.cells)
    assert np.isnan(state_per_cell(cells.X, sample)).sum() >= len(cells.X) - len(sample.cells)


def test_the_sample_does_not_depend_on_the_order_of_the_cells(cells):
    order = np.random.default_rng(2).permutation(len(cells.X))
    first, second = cells.reference(most_cells=300), cells.reference(order, most_cells=300)
    assert sorted(order[second.cells]) == first.cells.tolist()


def test_of_large_groups_a_number_of_cells_is_drawn():
    rng = np.random.default_rng(0)
    n_obs = 2 * MOST_GROUP_CELLS
    X = np.exp(np.outer(rng.uniform(-1, 1, n_obs), rng.normal(size=20)))
    found = structure_reference(
        X, ["a"] * n_obs, ["T"] * n_obs, highly_variable=np.ones(20, bool), depth=rng.normal(size=n_obs)
    ).label_groups
    assert len(np.unique(found.cells)) == MOST_GROUP_CELLS
    assert found.starts.tolist() == [0, MOST_GROUP_CELLS]


def test_labels_that_do_not_count_are_named(cells):
    label = cells.label.astype("<U9")
    label[:12] = "few"  # too few for a state, enough for a place among the types
    label[12:15] = "fewer"
    found = evaluate(["state_kept", "scgraph"], {"X_emb": cells.X, "structure": cells.reference(label=label)})
    (shortcut,) = found.shortcuts
    assert shortcut.description.startswith("7 of 9 labels count")
    assert shortcut.metric_ids == ("state_kept",)


def test_a_type_only_in_small_batches_is_left_out_and_named(cells):
    batch, label = cells.batch.copy(), cells.label.copy()
    moved = np.flatnonzero(label == "A")
    batch[moved[:90]] = "tiny"
    label[moved[90:]] = "B"
    reference = cells.reference(label=label, batch=batch)
    assert reference.skipped_types == ("A",)
    assert len(reference.types) == N_TYPES - 1
    found = evaluate(["spread_kept", "scgraph"], {"X_emb": cells.X, "structure": reference}).shortcuts
    (shortcut,) = (one for one in found if one.quantity == "types")
    assert shortcut.metric_ids == ("scgraph",)
    assert "left out: A." in shortcut.description


def test_types_that_share_no_batch_are_not_compared(cells):
    apart = np.where(cells.batch == "one", np.isin(cells.label, list("ABCD")), cells.label > "C")
    kept = np.flatnonzero(apart)
    reference = cells.reference(kept)
    missing = np.isnan(reference.consensus)
    assert missing[0, 4:].all()
    assert not missing[3].any()
    assert values(cells.X[kept], reference, ["scgraph"])["scgraph"] > 0.9


@pytest.mark.parametrize(
    ("n_types", "defined"), [(3, set()), (4, {"scgraph"}), (6, {"scgraph", "type_geometry"})]
)
def test_few_types_have_no_geometry(cells, n_types, defined):
    kept = np.flatnonzero(np.isin(cells.label, list("ABCDEFG")[:n_types]))
    ids = ["scgraph", "type_geometry"]
    found = evaluate(ids, {"X_emb": cells.X[kept], "structure": cells.reference(kept)})
    assert {name for name, value in found.items() if isinstance(value, float)} == defined
    assert all(not value.by_output for value in found.values() if isinstance(value, UndefinedError))


def test_chance_that_arranges_types_well_is_reported():
    rng = np.random.default_rng(5)
    sizes = [200, 200, 200, 10, 11, 12]  # means of rare types are far from all others, in any order
    label = np.repeat(list("ABCDEF"), sizes)
    X = rng.poisson(1.0, (len(label), 60)).astype(float)
    reference = structure_reference(
        X, ["a"] * len(label), label, highly_variable=np.ones(60, bool), depth=np.log(X.sum(axis=1))
    )
    found = evaluate(["scgraph", "type_geometry"], {"X_emb": X, "structure": reference})
    (shortcut,) = found.shortcuts
    assert shortcut.quantity == "chance"
    assert shortcut.figures["by_chance"] > 0.2
    assert found["type_geometry"] < found["scgraph"]


@pytest.mark.parametrize("quantity", STRUCTURE_METRICS)
def test_unusable_embeddings_have_a_reason(cells, reference, quantity):
    bad = {"NaN": np.where(cells.X > 3, np.nan, cells.X), "constant": np.ones((len(cells.X), 3))}
    for word, X_emb in bad.items():
        error = evaluate([quantity], {"X_emb": X_emb, "structure": reference})[quantity]
        assert word in str(error)
        assert error.by_output
    wrong = evaluate([quantity], {"X_emb": cells.X[:-1], "structure": reference})[quantity]
    assert "699 cells and the structure is of 700" in str(wrong)
    missing = evaluate([quantity], {"X_emb": cells.X})[quantity]
    assert "needs 'structure'" in str(missing)
    assert not missing.by_output


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.sampled_from(["equal cells", "two kinds of cells", "empty batch"]), st.integers(31, 130))
def test_data_without_differences_have_values_or_reasons(kind, n_obs):
    rng = np.random.default_rng(n_obs)
    batch, label = np.arange(n_obs) % 2, rng.integers(0, 2, n_obs)
    X = rng.poisson(2.0, (1 if kind == "equal cells" else 2, 40)).astype(float)[
        label * (kind != "equal cells")
    ]
    if kind == "empty batch":
        X = rng.poisson(2.0, (n_obs, 40)) * (batch[:, None] > 0).astype(float)
    reference = structure_reference(X, batch, label, highly_variable=np.ones(40, bool), depth=np.zeros(n_obs))
    X_emb = rng.normal(size=(n_obs, 3))
    for value in evaluate(STRUCTURE_METRICS, {"X_emb": X_emb, "structure": reference}).values():
        assert isinstance(value, float) or (not value.by_output and "failed" not in str(value))


@pytest.mark.parametrize("n_obs", [2, 3, 29, 31, 61])
def test_few_cells_have_values_or_reasons(n_obs):
    rng = np.random.default_rng(n_obs)
    X = rng.poisson(2.0, (n_obs, 15)).astype(float)
    for label in (np.arange(n_obs) % 2, np.arange(n_obs), np.zeros(n_obs, int)):
        for batch in (np.arange(n_obs) % 2, np.zeros(n_obs, int)):
            reference = structure_reference(
                X, batch, label, highly_variable=np.ones(15, bool), depth=np.zeros(n_obs)
            )
            for value in evaluate(STRUCTURE_METRICS, {"X_emb": X, "structure": reference}).values():
                assert isinstance(value, float) or (not value.by_output and "failed" not in str(value))


def test_wrong_arguments_are_refused():
    X, genes = np.ones((5, 4)), np.ones(4, bool)
    with pytest.raises(ValueError, match="expected"):
        structure_reference(X, ["a"] * 5, highly_variable=genes, depth=np.zeros(4))
    with pytest.raises(ValueError, match="batch has shape"):
        structure_reference(X, ["a"] * 4, highly_variable=genes, depth=np.zeros(5))
    with pytest.raises(UndefinedError, match="two cells and highly variable genes"):
        structure_reference(X, ["a"] * 5, highly_variable=~genes, depth=np.zeros(5))
    with pytest.raises(UndefinedError, match="NaN or infinite"):
        structure_reference(X * np.nan, ["a"] * 5, highly_variable=genes, depth=np.zeros(5))


def test_genes_of_a_batch_are_those_of_scanpy():
    anndata, scanpy = pytest.importorskip("anndata"), pytest.importorskip("scanpy")
    from scipy import sparse

    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.5, 1.0, 3000), (150, 3000)) * rng.integers(1, 3, (150, 3000))
    counts[:, :200] = 0  # genes of other batches
    X = sparse.csr_matrix(np.log1p(counts), dtype=np.float32)
    adata = anndata.AnnData(X=X.copy())
    scanpy.pp.highly_variable_genes(adata, n_top_genes=1000)
    assert batch_genes(X).tolist() == np.flatnonzero(adata.var["highly_variable"]).tolist()


def test_overall_counts_three_of_them():
    counted = [name for name in STRUCTURE_METRICS if METRICS[name].in_overall]
    assert counted == ["type_geometry", "state_kept", "spread_kept"]


@pytest.mark.parametrize("name", ["reference", "geometry", "state"])
def test_examples_in_docstrings_run(name):
    module = importlib.import_module(f"cellular_bench.metrics.structure.{name}")
    names = {**{one: getattr(metrics, one) for one in metrics.__all__}, **vars(module), "np": np}
    assert doctest.testmod(module, globs=names).failed == 0
