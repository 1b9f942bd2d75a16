"""Small data sets, good and broken on purpose."""

from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse


def small_adata(counts: np.ndarray | None = None) -> ad.AnnData:
    """Six cells, four genes, three labels, two donors."""
    if counts is None:
        counts = np.array(
            [[1, 0, 2, 0], [0, 3, 0, 1], [5, 0, 0, 0], [0, 1, 1, 1], [2, 2, 0, 0], [0, 0, 0, 7]],
            dtype=np.float32,
        )
    obs = pd.DataFrame(
        {
            "donor": ["d1", "d2", "d1", "d2", "d1", "d2"],
            "cell_type": ["alpha", "alpha", "beta", "beta", "delta", "delta"],
        },
        index=[f"c{number}" for number in range(1, 7)],
    )
    var = pd.DataFrame(index=["g1", "g2", "g3", "g4"])
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=var)


@pytest.fixture
def adata() -> ad.AnnData:
    return small_adata()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[ad.AnnData], Path]:
    """Write a data set and return the path of the file."""

    def write_file(adata: ad.AnnData) -> Path:
        path = tmp_path / "data.h5ad"
        adata.write_h5ad(path)
        return path

    return write_file
