"""Cost of CELLULAR by number of cells: CPU time of an epoch and peak memory, each in a new process.

``pytest -s benchmarks/test_cellular_scaling.py`` prints the figures and asserts ratios within the run.
``CELLULAR_BENCH_LARGE=1`` adds 200,000 cells, which take ten times as long as the rest. It trains one epoch.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

SIZES = (2_000, 20_000, 200_000) if os.environ.get("CELLULAR_BENCH_LARGE") else (2_000, 20_000)
N_GENES, SHARE_EXPRESSED = 2000, 0.1

#: The cells are random, because this measures cost, not quality. An epoch includes its validation.
MEASURE = f"""
import json, resource, sys, time
import anndata, numpy as np, pandas as pd, torch
from scipy import sparse
from cellular_bench.methods.cellular import Cellular, loop

torch.set_num_threads(1)
n_obs = int(sys.argv[1])
rng = np.random.default_rng(0)
per_cell = int({N_GENES} * {SHARE_EXPRESSED})
indices = rng.integers({N_GENES}, size=n_obs * per_cell, dtype=np.int32)
values = rng.random(len(indices), dtype=np.float32)
starts = np.arange(n_obs + 1, dtype=np.int32) * per_cell
X = sparse.csr_matrix((values, indices, starts), (n_obs, {N_GENES}))
X.sum_duplicates()
codes = {{"label": rng.integers(14, size=n_obs), "batch": rng.integers(4, size=n_obs)}}
obs = pd.DataFrame(codes, index=np.arange(n_obs).astype(str)).astype(str)
adata = anndata.AnnData(X, obs=obs)
del indices, values, starts

def rss():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

spent = {{"_train_epoch": 0.0, "_validate": 0.0}}

def timed(name, function):
    def call(*args, **kwargs):
        start = time.process_time()
        result = function(*args, **kwargs)
        spent[name] += time.process_time() - start
        return result
    setattr(loop, name, call)

def fit(cells):
    Cellular(max_epochs=1).fit(cells, label_key="label", batch_key="batch", with_classifier=False)

fit(adata[:300].copy())
for name in spent:
    timed(name, getattr(loop, name))
loaded, start = rss(), time.process_time()
fit(adata)
epoch_s = sum(spent.values())
rest_s = time.process_time() - start - epoch_s
print(json.dumps({{"epoch_s": epoch_s, "rest_s": rest_s, "peak_mib": rss(), "loaded_mib": loaded}}))
"""


@pytest.fixture(scope="module")
def costs() -> dict[int, dict[str, Any]]:
    found = {}
    for n_obs in SIZES:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(n_obs)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        found[n_obs] = json.loads(done.stdout)
        print(
            f"\n{n_obs:,} cells: " + ", ".join(f"{name} {value:.2f}" for name, value in found[n_obs].items())
        )
    return found


def test_an_epoch_costs_the_same_per_cell_at_every_size(costs):
    per_cell = [cost["epoch_s"] / n_obs for n_obs, cost in costs.items()]
    assert max(per_cell) <= 1.5 * min(per_cell), per_cell


def test_memory_grows_by_less_than_dense_cells_would_take(costs):
    # Data and training together; 2,000 genes as dense float32 are 8 KiB a cell.
    sizes = sorted(costs)
    grown = costs[sizes[-1]]["peak_mib"] - costs[sizes[0]]["peak_mib"]
    assert grown * 1024 / (sizes[-1] - sizes[0]) < 8
