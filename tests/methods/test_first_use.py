"""Libraries may draw random numbers when they are imported; methods leave the global generators alone."""

import subprocess
import sys

import pytest

PROBE = """
import random
import numpy as np
import rich.console  # as the command line; scikit-learn 1.9 does so, and it draws numbers
from cellular_bench.benchmark import registry
from cellular_bench.benchmark.conformance import data
method = registry.methods()[{method!r}]
example = data.simulate()
before = random.getstate(), np.random.get_state()[1].copy(), np.random.get_state()[2]
made = method.factory(seed=1)
made.fit(example.train) if hasattr(made, "fit") else made.fit_embed(example.train)
assert random.getstate() == before[0], "random moved"
assert (np.random.get_state()[1] == before[1]).all() and np.random.get_state()[2] == before[2], "numpy moved"
print("as before")
"""


#: All are imported under ``unchanged_random_state``. These two take 5 s and 20 s in a new process.
SLOW = [pytest.param(method, marks=pytest.mark.slow) for method in ("bbknn", "celltypist")]


@pytest.mark.parametrize("method", ["scanorama", *SLOW])
def test_the_first_use_of_a_library_moves_no_generator(method):
    command = [sys.executable, "-W", "ignore", "-c", PROBE.format(method=method)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "as before", done.stderr[-500:]
