import os
import subprocess
import sys
from pathlib import Path

BITS = """
import hashlib
import numpy as np
from cellular_bench.metrics import ilisi, nearest_neighbors
from cellular_bench.metrics.embedding.local_diversity import perplexity_weights
near = nearest_neighbors(np.random.default_rng(0).normal(size=(300, 10)), 90)
weights = perplexity_weights(near)
score = ilisi(near, np.repeat(["a", "b"], 150), neighbor_weights=weights)
print(*[hashlib.sha256(found).hexdigest() for found in (near.distances, weights)], score.hex())
"""


def test_the_process_that_compiles_gives_the_bits_of_those_that_load_machine_code(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", BITS], capture_output=True, text=True, check=True, env=environment
        ).stdout.split()
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*.nbc"))
    assert first == second
