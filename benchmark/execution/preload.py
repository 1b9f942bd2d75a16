"""Libraries that nearly every run needs; imported once by the server that runs are forked from.

Nothing here starts a thread: a process with threads cannot be forked safely.
"""

import gc

import anndata  # noqa: F401  (imported for its presence in memory)
import scanpy  # noqa: F401
import sklearn.decomposition
import sklearn.linear_model
import sklearn.neighbors  # noqa: F401

import cellular_bench.benchmark.execution.scoring
import cellular_bench.benchmark.execution.worker
import cellular_bench.benchmark.isolation.supervisor
import cellular_bench.metrics  # noqa: F401

# What is loaded now stays: the collector of a forked process need not go through it, and copy it.
gc.collect()
gc.freeze()
