"""Where the truth is known, metrics of batch correction say it: simulated cells, weak to strong effects."""

from functools import cache

import numpy as np
import pytest

from cellular_bench.datasets.preprocess import normalise
from cellular_bench.datasets.simulator import simulate
from cellular_bench.methods._support import principal_components
from cellular_bench.methods.controls import PerfectLabels
from cellular_bench.metrics import evaluate

STRENGTHS = (0.0, 0.1, 0.2, 0.4)
#: Graph connectivity is about types in one piece, not about batches: in the components of noisy cells it
#: stays where it is at every strength.
METRICS = ("kbet_per_label", "ilisi", "bras", "pcr_comparison")
EQUAL, UNEQUAL = (0.25,) * 4, (0.7, 0.15, 0.1, 0.05)


@cache
def cells(strength, proportions):
    adata = simulate(
        n_obs=600, n_vars=500, n_labels=4, n_batches=3, batch_strength=strength, marker_fraction=0.05,
        marker_strength=3.0, label_proportions=list(proportions), seed=0,
    )  # fmt: skip
    adata.X = normalise(adata.X)
    return adata, principal_components(adata.X, n_components=50, seed=0)


def scores(strength, proportions, X_emb=None):
    adata, X_pre = cells(strength, proportions)
    inputs = {
        "X_emb": X_pre if X_emb is None else X_emb,
        "X_pre": X_pre,
        "batch": np.asarray(adata.obs["batch"], dtype=str),
        "label": np.asarray(adata.obs["label"], dtype=str),
    }
    return evaluate(METRICS, inputs)


@pytest.mark.parametrize("proportions", [EQUAL, UNEQUAL])
def test_a_stronger_batch_effect_scores_lower(proportions):
    found = [scores(strength, proportions) for strength in STRENGTHS]
    for name in METRICS[:3]:
        values = [one[name] for one in found]
        assert all(np.diff(values) < 0), (name, values)
    assert found[0]["kbet_per_label"] > 0.9
    assert found[-1]["kbet_per_label"] < 0.05
    # Nothing was corrected, so no variance between batches was removed.
    assert all(one["pcr_comparison"] == 0 for one in found)


@pytest.mark.parametrize("proportions", [EQUAL, UNEQUAL])
def test_perfect_correction_is_near_the_positive_control(proportions):
    """The same cells drawn without a batch effect are what a perfect method would make of those with one."""
    (strong, _), (none, corrected) = cells(0.4, proportions), cells(0.0, proportions)
    assert (strong.obs == none.obs).all(axis=None)
    perfect = scores(0.4, proportions, X_emb=corrected)
    control = scores(0.4, proportions, X_emb=PerfectLabels(seed=0).fit_embed(strong))
    for name in METRICS:
        assert perfect[name] == pytest.approx(control[name], abs=0.1), name
    uncorrected = scores(0.4, proportions)
    assert all(perfect[name] > uncorrected[name] + 0.2 for name in METRICS)
