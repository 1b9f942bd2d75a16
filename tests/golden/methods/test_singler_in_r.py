"""Our SingleR beside the original R package, on the same cells."""

import numpy as np
import pytest

from cellular_bench.benchmark.conformance import data
from cellular_bench.core.types import MethodSpec
from cellular_bench.environments import find, missing_text, run_inside, state
from cellular_bench.methods.singler import SingleR

DECLARATION = """
title = "SingleR in R"

[r]
version = "4.0"
packages = { SingleR = "2.0.0", scran = "1.26.0", Matrix = "1.2", rhdf5 = "2.30.0", jsonlite = "1.6" }

[r.install]
"Debian, Ubuntu" = "sudo apt-get install r-bioc-singler r-bioc-scran r-bioc-rhdf5 r-cran-jsonlite"
"""
# The original finds markers by medians, or by the p-values of rank sums; those by the area under the
# curve, which scran gives beside the p-values, are handed to it.
PROGRAM = """
by_area <- function(train, label, n) {
  found <- scran::pairwiseWilcox(train, groups = label)
  best <- lapply(found$statistics, function(s) {
    s <- s[order(-s$AUC), ]
    rownames(s)[seq_len(min(n, sum(s$AUC > 0.5)))]
  })
  labels <- sort(unique(label))
  sapply(labels, function(one) sapply(labels, function(other) {
    pair <- found$pairs$first == one & found$pairs$second == other
    if (any(pair)) best[[which(pair)]] else character(0)
  }, simplify = FALSE), simplify = FALSE)
}

run <- function(train, query, seed, params) {
  genes <- "de"
  if (params$marker_method == "auc") genes <- by_area(train$X, as.character(train$label), 10)
  found <- SingleR::SingleR(test = query$X, ref = train$X, labels = train$label, genes = genes)
  # Scores are correlations; label_proba carries them over as they are.
  list(cells = rownames(found), label_pred = found$labels, label_proba = found$scores,
       rejected = is.na(found$pruned.labels))
}
"""


@pytest.mark.r
@pytest.mark.slow
@pytest.mark.parametrize("marker_method", ["auc", "classic"])
def test_labels_and_confidence_are_those_of_the_original(tmp_path, marker_method):
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
    params = {"marker_method": marker_method}
    original = run_inside(spec, train=example.train, query=example.query, params=params)
    ours = SingleR(marker_method=marker_method).fit(example.train).predict(example.query)
    np.testing.assert_array_equal(ours.label_pred, original.label_pred)
    assert original.label_proba is not None
    best = original.label_proba.max(axis=1)
    confidence = best - np.median(original.label_proba, axis=1)
    np.testing.assert_allclose(1 - ours.novelty, confidence, atol=1e-6)
