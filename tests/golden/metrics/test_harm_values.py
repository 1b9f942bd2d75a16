"""Halves of one donor of human pancreas: published values of PCA and ComBat."""

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

from cellular_bench.core.components import principal_components
from cellular_bench.core.genes import variable_genes
from cellular_bench.core.types import GeneSelection
from cellular_bench.datasets import splits
from cellular_bench.datasets.preprocess import normalise
from cellular_bench.methods.combat import ComBat
from cellular_bench.metrics.harm.expression import false_calls
from cellular_bench.metrics.harm.halves import harmless, mixing_ratio, neighbors_of_calls, stratum_neighbors

KINDS = {"even": splits.even_halves, "skew": splits.skewed_halves}


@pytest.fixture(scope="module")
def expected(shared: Path) -> dict[str, Any]:
    file = shared / "golden" / "structure" / "do_no_harm_expected.json"
    if not file.exists():
        pytest.skip("the folder of reference data has no values of harm")
    return json.loads(file.read_text("utf-8"))["human1"]


@pytest.fixture(scope="module")
def human1(shared: Path) -> anndata.AnnData:
    """Donor human1, its 2,000 variable genes and its principal components."""
    cells = anndata.read_h5ad(shared / "data" / "baron_human_pancreas.h5ad")
    cells = cells[cells.obs["batch"] == "human1"].copy()
    cells.X = normalise(cells.X)
    cells = cells[:, variable_genes(cells.X, GeneSelection())].copy()
    cells.obsm["X_pca"] = principal_components(cells.X)
    return cells


def _halves(kind: str, cells: anndata.AnnData) -> tuple[Any, np.ndarray, np.ndarray]:
    label = np.asarray(cells.obs["cell_type"], dtype=str)
    made = KINDS[kind](label, cells.obs["batch"], cells.obs_names)
    return made, label, label if kind == "skew" else np.repeat("all", len(label))


@pytest.mark.parametrize("kind", KINDS)
def test_pca(expected, human1, kind):
    made, label, stratum = _halves(kind, human1)
    X = human1.obsm["X_pca"]
    assert harmless(neighbors_of_calls(X, X)) == 1.0
    dense = human1.X.toarray()
    for split, row in zip(made, expected[f"{kind}/pca"]["rows"], strict=True):
        half = splits.half_names(split.halves[0])
        assert mixing_ratio(stratum_neighbors(X, stratum, half), half, stratum) == pytest.approx(
            row["mix"], abs=0.002
        )
        called = false_calls(dense, dense, half, label)
        assert [len(called), int(called.sum())] == row["de"][1:]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_combat(expected, human1, kind):
    made, label, stratum = _halves(kind, human1)
    returned = []
    for split in made:
        cells = human1.copy()
        cells.obs["batch"] = splits.half_names(split.halves[0])
        returned.append(ComBat().fit_embed(cells))
    row = expected[f"{kind}/combat"]
    for i, split in enumerate(made):
        half, X = splits.half_names(split.halves[0]), returned[i].X_emb
        found = mixing_ratio(stratum_neighbors(X, stratum, half), half, stratum)
        assert found == pytest.approx(row["rows"][i]["mix"], abs=0.03)
        called = false_calls(human1.X, returned[i].X, half, label)
        assert called.sum() == pytest.approx(row["rows"][i]["de"][2], abs=8)
    pairs = [(0, 1), (0, 2), (1, 2)]
    for (i, j), overlap in zip(pairs, row["cons"], strict=True):
        again = neighbors_of_calls(returned[i].X_emb, returned[j].X_emb)
        assert harmless(again) == pytest.approx(overlap, abs=0.01)
