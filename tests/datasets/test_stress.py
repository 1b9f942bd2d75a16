"""Stress: each level does what it says, seeded, and harder levels build on softer ones."""

import numpy as np
import pytest
from anndata import AnnData
from scipy import sparse

from cellular_bench.benchmark.execution.views import Cells, views
from cellular_bench.core import keys
from cellular_bench.core.errors import UserError
from cellular_bench.core.types import Stress
from cellular_bench.datasets import catalog, splits
from cellular_bench.datasets.stress import stressed_data, stressed_labels, stressed_splits


@pytest.fixture(scope="module")
def adata():
    return catalog.load(catalog.specs()["simulated_small"]).adata


@pytest.fixture(scope="module")
def label(adata):
    return np.asarray(adata.obs[keys.LABEL], dtype=str)


@pytest.fixture(scope="module")
def fold(label):
    return splits.kfold(label, n_splits=2)[0]


def test_the_share_of_wrong_labels_is_exact_and_each_is_another_label(label):
    noisy = stressed_labels(label, Stress(kind="label_noise", level=0.3, seed=1))
    assert (noisy != label).sum() == round(0.3 * len(label))
    assert set(noisy) <= set(label)


def test_labels_wrong_at_a_low_level_are_wrong_in_the_same_way_at_a_higher_one(label):
    low, high = (stressed_labels(label, Stress(kind="label_noise", level=v, seed=1)) for v in (0.1, 0.4))
    wrong = low != label
    np.testing.assert_array_equal(high[wrong], low[wrong])


def test_only_methods_that_learn_from_labels_meet_noise_and_only_in_training(adata, fold, label):
    from cellular_bench.core.types import MethodSpec

    (noisy,) = stressed_splits([fold], label, kind="label_noise", levels=[0.5])
    cells = Cells(
        train_obs=noisy.train_obs,
        test_obs=noisy.test_obs,
        highly_variable=np.ones(adata.n_vars, dtype=bool),
        stress=noisy.stress,
    )
    spec = MethodSpec(method_id="a", name="A", tasks=("annotation",), labels="all")
    train, query = views(adata, cells, spec)
    assert (np.asarray(train.obs["label"], dtype=str) != label[fold.train_obs]).mean() == pytest.approx(
        0.5, abs=0.01
    )
    np.testing.assert_array_equal(np.asarray(query.obs["label"], dtype=str), label[fold.test_obs])
    spec = MethodSpec(method_id="a", name="A", tasks=("integration",), labels="none")
    assert "label" not in views(adata, cells, spec)[0].obs


def test_fewer_cells_keep_the_mix_of_labels_and_nest(fold, label):
    half, tenth = stressed_splits([fold], label, kind="fewer_cells", levels=[0.5, 0.1])
    assert set(tenth.train_obs) < set(half.train_obs) < set(fold.train_obs)
    for name in np.unique(label[fold.train_obs]):
        n_all = (label[fold.train_obs] == name).sum()
        assert (label[half.train_obs] == name).sum() == max(2, round(0.5 * n_all))
    np.testing.assert_array_equal(half.test_obs, fold.test_obs)


def test_every_second_type_becomes_rare(fold, label):
    (rare,) = stressed_splits([fold], label, kind="rare_types", levels=[0.2])
    known, before = np.unique(label[fold.train_obs], return_counts=True)
    after = np.array([(label[rare.train_obs] == name).sum() for name in known])
    shares = (after / before)[np.argsort(-before, kind="stable")]
    np.testing.assert_allclose(shares[::2], 0.2, atol=0.02)
    assert (shares[1::2] == 1).all()


def test_fewer_genes_nest(adata):
    few, fewer = (stressed_data(adata, Stress(kind="fewer_genes", level=v)) for v in (0.5, 0.1))
    assert (few.n_vars, fewer.n_vars) == (round(0.5 * adata.n_vars), round(0.1 * adata.n_vars))
    assert set(fewer.var_names) < set(few.var_names)


def test_thinned_counts_are_a_binomial_part_of_the_counts(adata):
    thin = stressed_data(adata, Stress(kind="shallow", level=0.25, seed=3))
    before, after = adata.layers["counts"].toarray(), thin.layers["counts"].toarray()
    assert (after <= before).all()
    assert after.sum() / before.sum() == pytest.approx(0.25, abs=0.01)
    spread = (after - 0.25 * before)[before > 0] / np.sqrt(0.25 * 0.75 * before[before > 0])
    assert spread.std() == pytest.approx(1.0, abs=0.03)
    np.testing.assert_allclose(np.expm1(thin.X.toarray()).sum(axis=1), 1e4, rtol=1e-4)
    thinner = stressed_data(adata, Stress(kind="shallow", level=0.1, seed=3)).layers["counts"].toarray()
    assert (thinner <= after).all()


def test_read_counts_of_tens_of_thousands_of_values_are_thinned_too():
    # Full-length protocols count reads: nearly every value is another one.
    rng = np.random.default_rng(0)
    reads = sparse.csr_matrix(np.ceil(rng.lognormal(6, 2.5, (400, 250))).astype(np.float32))
    read_counts = AnnData(reads.copy(), layers={"counts": reads})
    thin = stressed_data(read_counts, Stress(kind="shallow", level=0.3, seed=1)).layers["counts"].toarray()
    before = reads.toarray().astype(np.float64)
    spread = (thin - 0.3 * before) / np.sqrt(0.3 * 0.7 * before)
    assert len(np.unique(before)) > 10_000
    assert (spread.mean(), spread.std()) == pytest.approx((0.0, 1.0), abs=0.02)


def test_no_cell_is_left_without_counts(adata):
    thin = stressed_data(adata, Stress(kind="shallow", level=1e-6))
    assert (thin.layers["counts"].sum(axis=1) == 1).all()


def test_thinning_needs_counts(adata):
    bare = adata.copy()
    del bare.layers["counts"]
    with pytest.raises(UserError, match="thins raw counts"):
        stressed_data(bare, Stress(kind="shallow", level=0.5))


def test_data_as_they_are_keep_split_and_digest(fold, label):
    plain, noisy = stressed_splits([fold], label, kind="label_noise", levels=[0, 0.1])
    assert plain is fold
    assert noisy.digest != fold.digest
    assert noisy.split_id == "kfold-2-42~label_noise-0.1.1"
    again = stressed_splits([fold], label, kind="label_noise", levels=[0.1], seed=1)
    assert again[0].digest != noisy.digest


@pytest.mark.parametrize(
    ("stress", "said"),
    [
        ({"kind": "label_noise", "levels": [1.0]}, "0 to below 1"),
        ({"kind": "fewer_cells", "levels": [0]}, "above 0 to 1"),
        ({"kind": "fewer_cells", "levels": [1.5]}, "above 0 to 1"),
        ({"kind": "shallow", "levels": [float("nan")]}, "must be a share"),
        ({"kind": "shallow", "levels": []}, "needs levels"),
        ({"kind": "shallow"}, "kind and levels"),
        ({"kind": "shalow", "levels": [0.5]}, "shallow"),
        ({"kind": "shallow", "levels": [0.5], "sed": 1}, "seed"),
    ],
)
def test_a_wrong_request_is_refused_in_words(label, stress, said):
    with pytest.raises(UserError, match=said):
        splits.make("kfold", label=label, batch=label, options={"stress": stress})
