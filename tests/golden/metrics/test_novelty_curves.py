"""The study's precision and coverage against the threshold, from its published likelihoods."""

import json

import pytest

from cellular_bench.benchmark.analysis.curves import Sample, by_threshold
from cellular_bench.metrics import likelihood


@pytest.mark.parametrize(
    ("dataset", "n_types", "precision", "coverage"),
    [("MacParland", 20, 0.784, 0.400), ("Baron", 14, 0.952, 0.286), ("Zheng68k", 11, 0.688, 0.400)],
)
def test_the_curves_pass_through_what_the_study_states(shared, dataset, n_types, precision, coverage):
    reported = json.loads((shared / "published" / "novelty" / "likelihood.json").read_text())[dataset]
    known, novel = (
        likelihood(reported[f"min_{kind}_confidence"], n_types).tolist() for kind in ("non_novel", "novel")
    )
    samples = [
        Sample(held_out="", known=known_cell, novel=novel_cell)
        for known_cell, novel_cell in zip(known, novel, strict=True)
    ]
    precisions, coverages = by_threshold(samples)
    place = [round(float(x), 2) for x in precisions.x].index(0.26)
    assert precisions.y[place] == pytest.approx(precision, abs=1e-3)
    assert coverages.y[place] == pytest.approx(coverage, abs=1e-3)
