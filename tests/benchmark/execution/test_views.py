"""What a method may see."""

import numpy as np
import pytest

from cellular_bench import MethodSpec
from cellular_bench.benchmark.execution.views import Cells, views
from cellular_bench.datasets import catalog


@pytest.fixture(scope="module")
def adata():
    return catalog.load(catalog.specs()["simulated_small"]).adata


@pytest.fixture
def cells(adata) -> Cells:
    held_out = np.asarray(adata.obs["label"] == "type2")
    mask = np.zeros(adata.n_vars, dtype=bool)
    mask[::4] = True
    return Cells(train_obs=np.flatnonzero(~held_out), test_obs=np.flatnonzero(held_out), highly_variable=mask)


def spec(**changes: object) -> MethodSpec:
    return MethodSpec(**{"method_id": "m", "name": "M", "tasks": ("annotation",), **changes})


@pytest.mark.parametrize(
    ("labels", "train", "query"),
    [
        ("none", ["batch"], ["batch"]),
        ("train", ["batch", "label"], ["batch"]),
        ("all", ["batch", "label"], ["batch", "label"]),
    ],
)
def test_labels_are_there_only_as_declared(adata, cells, labels, train, query) -> None:
    seen = views(adata, cells, spec(labels=labels))
    assert [list(view.obs) for view in seen] == [train, query]
    for view in seen:
        assert not view.uns
        assert not view.obsm
        assert list(view.var) == []


def test_a_held_out_label_does_not_survive_as_a_category(adata, cells) -> None:
    train, _ = views(adata, cells, spec(labels="train"))
    assert "type2" not in list(train.obs["label"].cat.categories)


def test_genes_are_cut_only_where_asked(adata, cells) -> None:
    for features, n_vars in (("hvg", cells.highly_variable.sum()), ("all", adata.n_vars)):
        train, query = views(adata, cells, spec(features=features))
        assert train.shape == (len(cells.train_obs), n_vars)
        assert query.shape == (len(cells.test_obs), n_vars)
    genes = adata.var_names if features == "all" else adata.var_names[cells.highly_variable]
    assert list(query.var_names) == list(genes)
    for view in (train, query):
        np.testing.assert_array_equal(view.var["highly_variable"], cells.highly_variable)
    rows = adata[cells.test_obs].layers["counts"].toarray()
    assert np.array_equal(query.layers["counts"].toarray(), rows)


def test_a_view_is_a_copy(adata, cells) -> None:
    before = adata.X.copy()
    train, query = views(adata, cells, spec(features="all"))
    train.X.data[:] = -1
    query.obs["batch"] = "changed"
    assert (before != adata.X).nnz == 0
    assert set(adata.obs["batch"]) == {"batch1", "batch2"}
