"""Large data: loading, splitting, variable genes, PCA and Harmony on 500,000 cells x 3,000 genes.

``CELLULAR_BENCH_LARGE=1 pytest -s benchmarks/test_datasets.py`` prints time and peak memory after each
step. Without the variable it uses 20,000 cells, which tests the steps but not their scaling.
``python benchmarks/test_datasets.py FILE.h5ad N_OBS`` writes the data, ``... FILE.h5ad`` measures them.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

IS_LARGE = bool(os.environ.get("CELLULAR_BENCH_LARGE"))
N_OBS = 500_000 if IS_LARGE else 20_000
N_VARS, N_LABELS, N_BATCHES, CHUNK = 3000, 12, 5, 10_000
#: Peak memory of all steps together, in gibibytes.
LIMIT_GIB = 8


def write(path: Path, n_obs: int) -> None:
    """Write Poisson counts of types and batches, some cells at a time; a tenth of the values is not 0."""
    import h5py
    import pandas as pd
    from anndata.io import write_elem
    from scipy import sparse

    rng = np.random.default_rng(0)
    log_mean = rng.normal(0, 1.3, N_VARS) + rng.normal(0, 0.7, (N_LABELS, 1, N_VARS))
    log_mean = log_mean + rng.normal(0, 0.3, (N_BATCHES, N_VARS))
    share = np.exp(log_mean)
    share /= share.sum(axis=2, keepdims=True)
    label = rng.integers(N_LABELS, size=n_obs)
    batch = rng.integers(N_BATCHES, size=n_obs)
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        group.attrs["shape"] = (n_obs, N_VARS)
        data = group.create_dataset("data", (0,), "u2", maxshape=(None,), chunks=(1 << 20,))
        indices = group.create_dataset("indices", (0,), "i4", maxshape=(None,), chunks=(1 << 20,))
        indptr = np.zeros(n_obs + 1, dtype=np.int64)
        for start in range(0, n_obs, CHUNK):
            inside = slice(start, min(start + CHUNK, n_obs))
            depth = rng.poisson(500 * np.exp(0.3 * rng.normal(size=inside.stop - start)))
            genes = drawn(np.repeat(label[inside] * N_BATCHES + batch[inside], depth), share, rng)
            cells = np.repeat(np.arange(inside.stop - start), depth)
            ones = np.ones(len(cells), dtype=np.uint16)
            block = sparse.csr_matrix((ones, (cells, genes)), shape=(inside.stop - start, N_VARS))
            filled = len(data)
            for dataset, values in ((data, block.data), (indices, block.indices)):
                dataset.resize((filled + block.nnz,))
                dataset[filled:] = values
            indptr[start + 1 : inside.stop + 1] = filled + block.indptr[1:]
        group["indptr"] = indptr
        columns = {"cell_type": [f"t{i}" for i in label], "donor": [f"d{i}" for i in batch]}
        names = pd.Index([f"c{i}" for i in range(n_obs)])
        write_elem(file, "obs", pd.DataFrame(columns, index=names).astype("category"))
        write_elem(file, "var", pd.DataFrame(index=[f"g{i}" for i in range(N_VARS)]))


def drawn(kind: NDArray[np.int64], share: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the gene of every count. Their number is Poisson distributed, so the counts of a gene are too."""
    uniform, genes = rng.random(len(kind)), np.empty(len(kind), dtype=np.int64)
    for number in np.unique(kind):
        inside = kind == number
        ends = np.cumsum(share[divmod(int(number), N_BATCHES)])
        genes[inside] = np.minimum(np.searchsorted(ends, uniform[inside]), N_VARS - 1)
    return genes


def measure(path: Path) -> None:
    """Run every step on the data, and print their costs as one JSON object."""
    from anndata import AnnData

    from cellular_bench.datasets import splits, variable
    from cellular_bench.datasets.catalog import from_h5ad, load
    from cellular_bench.methods.harmony import Harmony
    from cellular_bench.methods.pca import PCA

    costs: dict[str, dict[str, float]] = {}
    last = time.perf_counter()

    def done(step: str) -> None:
        nonlocal last
        now = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        costs[step] = {"s": round(now - last, 1), "peak_gib": round(peak, 2)}
        print(f"{step}: {costs[step]}", file=sys.stderr, flush=True)
        last = now

    done("import")
    spec = from_h5ad(path, batch_key="donor", label_key="cell_type", counts_layer="X")
    adata = load(spec).adata
    done("load")
    split = splits.kfold(adata.obs["label"])[0]
    done("split")
    starts = range(0, len(split.train_obs), CHUNK)
    pieces = (adata.X[split.train_obs[start : start + CHUNK]] for start in starts)
    genes = variable.choose(variable.moments(pieces), n_top_genes=2000)
    done("variable genes of the training cells")
    cells = AnnData(adata.X[:, genes], obs=adata.obs)
    scores = PCA().fit_embed(cells)
    done("PCA")
    assert scores.shape == (adata.n_obs, 50)
    assert Harmony().fit_embed(cells).shape == scores.shape
    done("Harmony, its own PCA included")
    costs["shape"] = {"n_obs": adata.n_obs, "n_vars": adata.n_vars, "values": adata.X.nnz}
    print(json.dumps(costs))


@pytest.fixture(scope="module")
def costs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    path = tmp_path_factory.mktemp("large") / "cells.h5ad"
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = [sys.executable, __file__, str(path)]
    environment = {**os.environ, **one_thread}
    subprocess.run([*command, str(N_OBS)], check=True, env=environment)
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found, indent=1))
    return found


def test_everything_fits_into_the_memory_of_a_laptop(costs):
    peaks = [cost["peak_gib"] for cost in costs.values() if "peak_gib" in cost]
    assert max(peaks) < LIMIT_GIB


def test_a_tenth_of_the_values_is_stored(costs):
    shape = costs["shape"]
    assert 0.05 < shape["values"] / (shape["n_obs"] * shape["n_vars"]) < 0.2


if __name__ == "__main__":
    if len(sys.argv) > 2:
        write(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        measure(Path(sys.argv[1]))
