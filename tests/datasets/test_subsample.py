"""Fewer cells, in the proportions of their strata."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from cellular_bench.core.errors import UnknownNameError, UserError
from cellular_bench.datasets.subsample import positions, subsample


def labelled(n: int) -> ad.AnnData:
    label = np.repeat(["common", "middling", "rare"], [n - 110, 100, 10])
    batch = np.where(np.arange(n) % 4 == 0, "b1", "b2")
    obs = pd.DataFrame({"label": label, "batch": batch}, index=np.arange(n).astype(str))
    return ad.AnnData(sparse.csr_matrix((n, 2)), obs=obs)


def test_fewer_cells_in_the_same_proportions():
    adata = labelled(1000)
    cut = subsample(adata, 100, 0)
    assert cut.n_obs == 100
    # Shares of the strata: 22.3 66.7 | 2.5 7.5 | 0.2 0.8, and 1 for those below 1: 22 67 | 2 7 | 1 1.
    assert cut.obs["label"].value_counts().to_dict() == {"common": 89, "middling": 9, "rare": 2}
    assert cut.obs["batch"].value_counts().to_dict() == {"b2": 75, "b1": 25}
    positions_of = cut.obs_names.astype(int).to_numpy()
    assert (np.diff(positions_of) > 0).all()


def test_draws_depend_on_the_seed_alone():
    adata = labelled(500)
    names = [subsample(adata, 50, seed).obs_names.tolist() for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]
    state = np.random.get_state()[1].tolist()  # noqa: NPY002  # the state that must not change
    subsample(adata, 50, 1)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_no_kind_of_cell_is_lost_where_there_is_room():
    label = ["a"] * 1000 + ["b"] + ["c"]
    kept = positions([label], 1002, n=3, seed=0)
    assert {label[i] for i in kept} == {"a", "b", "c"}
    assert len(positions([label], 1002, n=2, seed=0)) == 2


@pytest.mark.parametrize("n", [1, 2, 7, 50, 499, 500])
def test_exactly_so_many_cells_come(n):
    adata = labelled(500)
    assert subsample(adata, n, 0).n_obs == n


def test_all_cells_come_where_there_are_not_more():
    adata = labelled(200)
    assert subsample(adata, 1000, 0).obs_names.tolist() == adata.obs_names.tolist()


def test_impossible_draws():
    with pytest.raises(UserError, match="n must be a whole number of at least 1, got: 0"):
        subsample(labelled(200), 0, 0)
    with pytest.raises(UserError, match="seed must be a whole number of at least 0, got: -1"):
        subsample(labelled(200), 10, -1)
    with pytest.raises(UnknownNameError, match=r"Unknown column of obs 'donor'"):
        subsample(labelled(200), 10, 0, keys=("donor",))
