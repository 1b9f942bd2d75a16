"""Our SingleR beside the original R package, on the same cells."""

import numpy as np
import pytest

from cellular_bench.benchmark.conformance import data
from cellular_bench.benchmark.environments import find, missing_text, run_inside, state
from cellular_bench.benchmark.types import MethodSpec
from cellular_bench.methods.singler import SingleR

DECLARATION = """
title = "SingleR in R"

[r]
version = "4.0"
packages = { SingleR = "2.0.0", Matrix = "1.2", rhdf5 = "2.30.0", jsonlite = "1.6" }
install = { "Debian, Ubuntu" = "sudo apt-get install r-bioc-singler r-bioc-rhdf5 r-cran-jsonlite" }
"""
PROGRAM = """
run <- function(train, query, seed, params) {
  found <- SingleR::SingleR(test = query$X, ref = train$X, labels = train$label)
  # Scores are correlations; label_proba carries them over as they are.
  list(cells = rownames(found), label_pred = found$labels, label_proba = found$scores,
       rejected = is.na(found$pruned.labels))
}
"""


@pytest.mark.r
@pytest.mark.slow
def test_labels_and_confidence_are_those_of_the_original(tmp_path):
    environment, program = tmp_path / "singler_r.toml", tmp_path / "singler.R"
    environment.write_text(DECLARATION, encoding="utf-8")
    program.write_text(PROGRAM, encoding="utf-8")
    found = state(find(str(environment)))
    if not found.is_ready:
        pytest.skip(missing_text(found))
    spec = MethodSpec(
        method_id="singler_r",
        name="SingleR in R",
        tasks=("annotation",),
        environment=str(environment),
        program=str(program),
    )
    example = data.simulate(n_train=200, n_query=150, n_genes=300, seed=5)
    original = run_inside(spec, train=example.train, query=example.query)
    ours = SingleR().fit(example.train).predict(example.query)
    np.testing.assert_array_equal(ours.label_pred, original.label_pred)
    assert original.label_proba is not None
    best = original.label_proba.max(axis=1)
    confidence = best - np.median(original.label_proba, axis=1)
    np.testing.assert_allclose(1 - ours.novelty, confidence, atol=1e-6)
