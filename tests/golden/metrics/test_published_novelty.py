"""The study's precision and coverage of novel samples, from its published likelihoods."""

import json

import numpy as np
import pytest

from cellular_bench.metrics import flag_samples, likelihood

N_TYPES = {"MacParland": 20, "Baron": 14, "Zheng68k": 11}


@pytest.fixture(scope="module")
def samples(shared):
    """Lowest likelihoods of known and novel samples by data set."""
    published = json.loads((shared / "published" / "novelty" / "likelihood.json").read_text())
    return {
        name: tuple(
            likelihood(published[name][f"min_{kind}_confidence"], n) for kind in ("non_novel", "novel")
        )
        for name, n in N_TYPES.items()
    }


@pytest.mark.parametrize(
    ("dataset", "precision", "coverage"),
    [("MacParland", 0.784, 0.400), ("Baron", 0.952, 0.286), ("Zheng68k", 0.688, 0.400)],
)
def test_published_precision_and_coverage(samples, dataset, precision, coverage):
    found = flag_samples(*samples[dataset])
    assert round(found.precision, 3) == pytest.approx(precision, abs=1e-3)
    assert round(found.coverage, 3) == coverage


@pytest.mark.parametrize(("threshold", "expected"), [(0.26, (0.788, 0.364)), (0.25, (0.813, 0.329))])
def test_pooled_over_data_sets(samples, threshold, expected):
    known, novel = (np.concatenate(parts) for parts in zip(*samples.values(), strict=True))
    found = flag_samples(known, novel, threshold=threshold)
    assert (round(found.precision, 3), round(found.coverage, 3)) == expected
