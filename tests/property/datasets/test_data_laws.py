"""What holds for any counts, and for any simulated data."""

import anndata as ad
import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import sparse

from cellular_bench.core.genes import variable_genes
from cellular_bench.core.types import GeneSelection
from cellular_bench.datasets.contract import conform, digest
from cellular_bench.datasets.preprocess import normalise
from cellular_bench.datasets.simulator import simulate

shapes = npst.array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=12)
counts = npst.arrays(np.int64, shapes, elements=st.integers(0, 50)).map(
    # No cell is empty: its first gene has a count.
    lambda matrix: np.concatenate([np.maximum(matrix[:, :1], 1), matrix[:, 1:]], axis=1)
)


def as_adata(matrix):
    n_obs = matrix.shape[0]
    obs = pd.DataFrame(
        {"label": [f"t{i % 2}" for i in range(n_obs)], "batch": [f"b{i % 2}" for i in range(n_obs)]},
        index=[f"c{i}" for i in range(n_obs)],
    )
    return ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=[f"g{i}" for i in range(matrix.shape[1])]))


def conformed(matrix):
    return conform(as_adata(matrix), source="x", label_key="label", batch_key="batch", counts_layer=None)[0]


@given(counts)
@settings(max_examples=50, deadline=None)
def test_every_cell_has_ten_thousand_counts_after_normalising(matrix):
    values = normalise(matrix)
    np.testing.assert_allclose(np.expm1(values.toarray().astype(np.float64)).sum(axis=1), 1e4, rtol=1e-5)
    assert (values.toarray() > 0).tolist() == (matrix > 0).tolist()


@given(counts, st.integers(2, 9))
@settings(max_examples=30, deadline=None)
def test_depth_does_not_matter_after_normalising(matrix, factor):
    np.testing.assert_allclose(normalise(matrix * factor).toarray(), normalise(matrix).toarray(), rtol=1e-6)


@given(counts)
@settings(max_examples=40, deadline=None)
def test_canonical_form_keeps_every_count(matrix):
    made = conformed(matrix)
    np.testing.assert_array_equal(made.layers["counts"].toarray(), matrix)
    again = conform(made, source="x", label_key="label", batch_key="batch", counts_layer="counts")[0]
    assert digest(again) == digest(made)


@given(counts)
@settings(max_examples=40, deadline=None)
def test_digest_depends_on_content_and_not_on_storage(matrix):
    stored = [
        matrix,
        matrix.astype(np.float64),
        sparse.csc_matrix(matrix),
        sparse.csr_array(matrix.astype(np.float32)),
    ]
    assert len({digest(conformed(one)) for one in stored}) == 1
    other = matrix.copy()
    other[0, 0] += 1
    assert digest(conformed(other)) != digest(conformed(matrix))


@given(counts, st.integers(1, 15), st.sampled_from(["cell_ranger", "seurat"]))
@settings(max_examples=50, deadline=None)
def test_number_of_variable_genes_is_exact(matrix, n_top_genes, flavor):
    chosen = variable_genes(conformed(matrix).X, GeneSelection(flavor=flavor, n_top_genes=n_top_genes))
    expressed = (matrix > 0).any(axis=0)
    assert chosen.sum() == min(n_top_genes, expressed.sum())
    assert not (chosen & ~expressed).any()


@given(
    n_obs=st.integers(40, 120),
    n_labels=st.integers(2, 5),
    n_batches=st.integers(1, 4),
    seed=st.integers(0, 10_000),
    data=st.data(),
)
@settings(max_examples=30, deadline=None)
def test_simulated_cells_are_as_many_as_asked_and_none_where_forbidden(
    n_obs, n_labels, n_batches, seed, data
):
    absent = data.draw(st.lists(st.sampled_from([f"type{i}" for i in range(1, n_labels)]), unique=True))
    missing = {"batch1": absent} if n_batches > 1 else {}
    adata = simulate(
        n_obs=n_obs, n_vars=20, n_labels=n_labels, n_batches=n_batches, missing=missing, seed=seed
    )
    assert adata.shape == (n_obs, 20)
    sizes = adata.obs["batch"].value_counts()
    assert len(sizes) == n_batches
    assert sizes.max() - sizes.min() <= 1
    first = set(adata.obs["label"][adata.obs["batch"] == "batch1"])
    assert first.isdisjoint(missing.get("batch1", []))
    assert adata.obs["label"].nunique() == n_labels
    assert (adata.X.data > 0).all()
    assert (adata.X.data == np.floor(adata.X.data)).all()
